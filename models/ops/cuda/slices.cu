/* The second pass of sums that were taken slice by slice. */
#include "models/ops/cuda/maps.cuh"

enum { COLUMNS = 32, LANES = 8 };

/* Each lane adds every eighth slice, then the first thread of a column the eight sums. */
__global__ void __launch_bounds__(COLUMNS *LANES)
    add_slices_kernel(float *__restrict__ out, const float *__restrict__ slices, int64_t n_slices,
                      int64_t stride, int64_t n) {
    SHARED(float, sums, [LANES][COLUMNS]);
    const int column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    const int64_t i = (int64_t)blockIdx.x * COLUMNS + column;
    float sum = 0;
    if (i < n) {
#pragma unroll 4
        for (int64_t s = lane; s < n_slices; s += LANES) sum += slices[s * stride + i];
    }
    sums[lane][column] = sum;
    __syncthreads();
    if (lane != 0 || i >= n) return;
#pragma unroll
    for (int l = 1; l < LANES; l++) sum += sums[l][column];
    out[i] += sum;
}

status_t add_slices(struct backend *be, float *out, const float *slices, int64_t n_slices, int64_t stride,
                    int64_t n) {
    if (n == 0) return STATUS_OK;
    LAUNCH(add_slices_kernel, (unsigned)((n + COLUMNS - 1) / COLUMNS), COLUMNS * LANES, 0, be->stream, out,
           slices, n_slices, stride, n);
    TRY_LAUNCH();
    return STATUS_OK;
}
