/* Average pooling over a whole map. */
#include "models/ops/cuda/maps.cuh"

enum { THREADS = 256 };

/* A block an image and a tile of channels: its rows of threads take pixels in turn and are added in order. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    average_pool_kernel(float *__restrict__ y, const T *__restrict__ x, int64_t hw, int vectors,
                        struct channel_tiles t) {
    SHARED(float, room, [THREADS][V]);
    const int column = threadIdx.x % t.width, row = threadIdx.x / t.width;
    const int64_t image = blockIdx.x / t.tiles;
    const int vector = (int)(blockIdx.x % t.tiles) * t.width + column;
    const bool active = row < t.rows && vector < vectors;
    float sum[V] = {};
    for (int64_t p = row; p < hw && active; p += t.rows) {
        float v[V];
        load_vector(v, x + ((image * hw + p) * vectors + vector) * V);
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] += v[j];
    }
#pragma unroll
    for (int j = 0; j < V; j++) room[threadIdx.x][j] = sum[j];
    __syncthreads();
    if (row != 0 || !active) return;
    for (int r = 1; r < t.rows; r++)
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] += room[r * t.width + column][j];
#pragma unroll
    for (int j = 0; j < V; j++) y[(image * vectors + vector) * V + j] = sum[j] / (float)hw;
}

template <class T, int V>
static void launch_pool(struct backend *be, int64_t n, int64_t hw, int64_t c, const T *x, float *y) {
    const struct channel_tiles t = tiles_of(c / V, THREADS);
    LAUNCH((average_pool_kernel<T, V>), (unsigned)(n * t.tiles), THREADS, 0, be->stream, y, x, hw,
           (int)(c / V), t);
}

extern "C" status_t cuda_average_pool_forward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw,
                                              int64_t c, const void *x, float *y) {
    if (n * c == 0) return STATUS_OK;
    FOR_DTYPE(dtype, T, {
        if (c % 8 == 0 && aligned(x, 16)) launch_pool<T, 8>(be, n, hw, c, (const T *)x, y);
        else launch_pool<T, 1>(be, n, hw, c, (const T *)x, y);
    });
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    spread_kernel(T *__restrict__ dx, const float *__restrict__ dy, int64_t n, int64_t hw, int64_t vectors) {
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < n * hw * vectors;
         i += (int64_t)gridDim.x * THREADS) {
        float v[V];
        load_vector(v, dy + (i / (hw * vectors) * vectors + i % vectors) * V);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] /= (float)hw;
        store_vector(dx + i * V, v);
    }
}

template <class T, int V>
static void launch_spread(struct backend *be, int64_t n, int64_t hw, int64_t c, const float *dy, T *dx) {
    LAUNCH((spread_kernel<T, V>), grid_of(be, n * hw * (c / V), THREADS), THREADS, 0, be->stream, dx, dy, n,
           hw, c / V);
}

extern "C" status_t cuda_average_pool_backward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw,
                                               int64_t c, const float *dy, void *dx) {
    if (n * hw * c == 0) return STATUS_OK;
    FOR_DTYPE(dtype, T, {
        if (c % 8 == 0 && aligned(dx, 16) && aligned(dy, 16)) launch_spread<T, 8>(be, n, hw, c, dy, (T *)dx);
        else launch_spread<T, 1>(be, n, hw, c, dy, (T *)dx);
    });
    TRY_LAUNCH();
    return STATUS_OK;
}
