/* Sums over the rows of a matrix inside a kernel that passes over it.
 *
 * A block is 32 x 8 threads: lanes along columns (V neighbours each), warps along rows of a strip. It leaves
 * its strip's sums in partial (strips,columns); column_finish adds the strips in order. */
#ifndef MODELS_OPS_CUDA_ROWS_CUH
#define MODELS_OPS_CUDA_ROWS_CUH

#include "models/ops/cuda/device.cuh"

enum { SUM_WARPS = 8, SUM_BLOCKS = 1024 /* wanted: several for each of an H100's 132 SMs */ };

/* V elements from p: 8 by 16-byte accesses, or 1. */
template <int V, class T> __device__ __forceinline__ void load_v(float (&f)[V], const T *p) {
    if constexpr (V == 8)
        load8(f, p);
    else
        f[0] = to_float(*p);
}
template <int V, class T> __device__ __forceinline__ void store_v(T *p, const float (&f)[V]) {
    if constexpr (V == 8)
        store8(p, f);
    else
        *p = from_float<T>(f[0]);
}

__device__ __forceinline__ float row_factor(const float *row_scale, int64_t row, int64_t rows_per_image) {
    return row_scale ? row_scale[row / rows_per_image] : 1.0f;
}

/* The warps' sums of a block, added in the order of the warps and written to its strip's row of partial. */
template <int V>
__device__ __forceinline__ void store_strip(float *partial, int64_t columns, const float (&sum)[V]) {
    SHARED(float, room, [SUM_WARPS][32 * V + 4]);
    const int lane = threadIdx.x, warp = threadIdx.y;
#pragma unroll
    for (int v = 0; v < V; v++) room[warp][lane * V + v] = sum[v];
    __syncthreads();
    for (int i = warp * 32 + lane; i < 32 * V; i += 32 * SUM_WARPS) {
        const int64_t column = blockIdx.x * (int64_t)(32 * V) + i;
        float total = 0.0f;
        for (int w = 0; w < SUM_WARPS; w++) total += room[w][i];
        if (column < columns) partial[blockIdx.y * columns + column] = total;
    }
}

/* How the rows are cut: by the shape alone, so that the order of the sums is too. */
struct strips {
    unsigned blocks; /* along columns */
    int64_t n, rows; /* strips; rows of one */
};
static inline struct strips strips_of(int64_t rows, int64_t columns, int v) {
    const int64_t blocks = (columns + 32 * v - 1) / (32 * v);
    int64_t n = (SUM_BLOCKS + blocks - 1) / blocks;
    const int64_t room = 2 * (int64_t)PARTIALS / columns, by_rows = (rows + 31) / 32;
    if (n > by_rows) n = by_rows;
    if (n > room) n = room;
    if (n > 65535) n = 65535;
    if (n < 1) n = 1;
    const int64_t per = (rows + n - 1) / n;
    return {(unsigned)blocks, (rows + per - 1) / per, per};
}

static inline bool aligned16(const void *p) {
    return ((uintptr_t)p & 15) == 0;
}

/* out (columns) = or += sum over strips of partial */
status_t column_finish(struct backend *be, const float *partial, int64_t n_strips, int64_t columns,
                       float *out, bool accumulate);

#endif
