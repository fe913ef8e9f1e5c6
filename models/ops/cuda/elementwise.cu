/* One pass over flat arrays. */
#include "models/ops/cuda/device.cuh"

enum { THREADS = 256 };

template <class T> __global__ void add_kernel(T *__restrict__ y, const T *__restrict__ x, int64_t n) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        y[i] = from_float<T>(to_float(y[i]) + to_float(x[i]));
}

extern "C" status_t cuda_add(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n_elem) {
    if (n_elem == 0) return STATUS_OK;
    FOR_DTYPE(dtype, T, LAUNCH(add_kernel<T>, grid_of(be, n_elem, THREADS), THREADS, 0, be->stream, (T *)y,
                               (const T *)x, n_elem));
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void scale_kernel(float *__restrict__ x, float factor, int64_t n) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        x[i] *= factor;
}

extern "C" status_t cuda_scale(struct backend *be, float *x, float factor, int64_t n_elem) {
    if (n_elem == 0) return STATUS_OK;
    LAUNCH(scale_kernel, grid_of(be, n_elem, THREADS), THREADS, 0, be->stream, x, factor, n_elem);
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class To, class From>
__global__ void cast_kernel(To *__restrict__ y, const From *__restrict__ x, int64_t n) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        y[i] = from_float<To>(to_float(x[i]));
}

extern "C" status_t cuda_cast(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                              int64_t n_elem) {
    if (n_elem == 0) return STATUS_OK;
    FOR_DTYPE(to, To,
              FOR_DTYPE(from, From,
                        LAUNCH((cast_kernel<To, From>), grid_of(be, n_elem, THREADS), THREADS, 0, be->stream,
                               (To *)y, (const From *)x, n_elem)));
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T>
__global__ void normalise_kernel(T *__restrict__ y, const uint8_t *__restrict__ x, int64_t n) {
    const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int c = (int)(i % 3);
        y[i] = from_float<T>(((float)x[i] / 255.0f - mean[c]) / std[c]);
    }
}

extern "C" status_t cuda_normalise(struct backend *be, enum dtype dtype, void *y, const uint8_t *x,
                                   int64_t n_pixels) {
    const int64_t n = 3 * n_pixels;
    if (n == 0) return STATUS_OK;
    FOR_DTYPE(dtype, T, LAUNCH(normalise_kernel<T>, grid_of(be, n, THREADS), THREADS, 0, be->stream, (T *)y, x, n));
    TRY_LAUNCH();
    return STATUS_OK;
}
