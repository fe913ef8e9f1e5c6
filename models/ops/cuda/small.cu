/* Masks, messages and rows: one pass over few numbers. */
#include "models/ops/cuda/device.cuh"

enum { THREADS = 256, INDEX_CHUNK = SMALL_BYTES / 4 / (int)sizeof(int32_t) };

__global__ void __launch_bounds__(1024)
    mask_sum_kernel(const uint8_t *__restrict__ mask, int64_t n, double *sum) {
    SHARED(long long, room, [32]);
    long long kept = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) kept += mask[i] != 0;
    kept = block_sum(kept, room);
    if (threadIdx.x == 0) sum[0] = (double)kept;
}

extern "C" status_t cuda_mask_sum(struct backend *be, const uint8_t *mask, int64_t n, double *sum) {
    LAUNCH(mask_sum_kernel, 1, n > THREADS ? 1024 : THREADS, 0, be->stream, mask, n, sum);
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void mean_scale_kernel(float numerator, const double *denominator, float *out) {
    out[0] = denominator[0] > 0 ? (float)((double)numerator / denominator[0]) : 0.0f;
}

extern "C" status_t cuda_mean_scale(struct backend *be, float numerator, const double *denominator,
                                    float *out) {
    LAUNCH(mean_scale_kernel, 1, 1, 0, be->stream, numerator, denominator, out);
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void pseudo_pack_kernel(const int32_t *__restrict__ label, const float *__restrict__ confidence,
                                   int64_t n, struct pseudo_label *__restrict__ out) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        out[i].label = label[i];
        out[i].confidence = confidence[i];
    }
}

extern "C" status_t cuda_pseudo_pack(struct backend *be, const int32_t *label, const float *confidence,
                                     int64_t n, struct pseudo_label *out) {
    if (n == 0) return STATUS_OK;
    LAUNCH(pseudo_pack_kernel, grid_of(be, n, THREADS), THREADS, 0, be->stream, label, confidence, n, out);
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void pseudo_unpack_kernel(const struct pseudo_label *__restrict__ in, int64_t n, float threshold,
                                     int32_t *__restrict__ label, uint8_t *__restrict__ mask) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        label[i] = in[i].label;
        mask[i] = in[i].confidence > threshold;
    }
}

extern "C" status_t cuda_pseudo_unpack(struct backend *be, const struct pseudo_label *in, int64_t n,
                                       float threshold, int32_t *label, uint8_t *mask) {
    if (n == 0) return STATUS_OK;
    LAUNCH(pseudo_unpack_kernel, grid_of(be, n, THREADS), THREADS, 0, be->stream, in, n, threshold, label,
           mask);
    TRY_LAUNCH();
    return STATUS_OK;
}

/* Units of type V: row_units of them a row. */
template <class V>
__global__ void gather_rows_kernel(V *__restrict__ dst, const V *__restrict__ src, int64_t row_units,
                                   int64_t n, const int32_t *__restrict__ index) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n * row_units;
         i += (int64_t)gridDim.x * blockDim.x)
        dst[i] = src[index[i / row_units] * row_units + i % row_units];
}

template <class V>
static void gather_as(struct backend *be, void *dst, const void *src, size_t row_bytes, int64_t n,
                      void *index) {
    const int64_t units = (int64_t)(row_bytes / sizeof(V));
    LAUNCH(gather_rows_kernel<V>, grid_of(be, n * units, THREADS), THREADS, 0, be->stream, (V *)dst,
           (const V *)src, units, n, (const int32_t *)index);
}

extern "C" status_t cuda_gather_rows(struct backend *be, void *dst, const void *src, size_t row_bytes,
                                     int64_t n, const int32_t *host_index) {
    if (row_bytes == 0) return STATUS_OK;
    const size_t odd = (size_t)dst | (size_t)src | row_bytes;
    for (int64_t done = 0; done < n; done += INDEX_CHUNK) {
        const int64_t rows = n - done < INDEX_CHUNK ? n - done : (int64_t)INDEX_CHUNK;
        char *to = (char *)dst + (size_t)done * row_bytes;
        void *index;
        TRY(small_array(be, host_index + done, (size_t)rows * sizeof *host_index, &index));
        if (odd % 16 == 0)
            gather_as<uint4>(be, to, src, row_bytes, rows, index);
        else if (odd % 4 == 0)
            gather_as<uint32_t>(be, to, src, row_bytes, rows, index);
        else
            gather_as<uint8_t>(be, to, src, row_bytes, rows, index);
        TRY_LAUNCH();
    }
    return STATUS_OK;
}
