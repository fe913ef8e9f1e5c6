#include "tests/emulated_cuda/faulty.h"

#include "models/ops/cuda/gpu.h"

__global__ void no_barrier_kernel(float *out, const float *in, int n) {
    SHARED(float, tile, [256]);
    const int i = threadIdx.x;
    tile[i] = i < n ? in[i] : 0;
    if (i < n) out[i] = tile[(i + 33) % n];
}
void faulty_no_barrier(float *out, const float *in, int n, cudaStream_t stream) {
    LAUNCH(no_barrier_kernel, 1, 256, 0, stream, out, in, n);
}

__global__ void divergent_kernel(float *out) {
    if (threadIdx.x < 40) __syncthreads();
    __syncthreads();
    out[threadIdx.x] = 1;
}
void faulty_divergent_barrier(float *out, cudaStream_t stream) {
    LAUNCH(divergent_kernel, 1, 64, 0, stream, out);
}

__global__ void lane_missing_kernel(float *out) {
    float v = 1;
    if (threadIdx.x == 5) return;
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    out[threadIdx.x] = v;
}
void faulty_lane_missing(float *out, cudaStream_t stream) {
    LAUNCH(lane_missing_kernel, 1, 32, 0, stream, out);
}

__global__ void not_awaited_kernel(float *out, const float *in) {
    SHARED(float, tile, [256]);
    cp_async16(&tile[threadIdx.x * 4], in + threadIdx.x * 4);
    cp_async_commit();
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
    cp_async_wait<0>();
}
void faulty_copy_not_awaited(float *out, const float *in, cudaStream_t stream) {
    LAUNCH(not_awaited_kernel, 1, 64, 0, stream, out, in);
}

__global__ void fill_kernel(float *out, float value, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = value;
}
void launch_fill(float *out, float value, int n, cudaStream_t stream) {
    LAUNCH(fill_kernel, (n + 127) / 128, 128, 0, stream, out, value, n);
}

__global__ void add_one_kernel(float *out, const float *in, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i] + 1;
}
void launch_add_one(float *out, const float *in, int n, cudaStream_t stream) {
    LAUNCH(add_one_kernel, (n + 127) / 128, 128, 0, stream, out, in, n);
}

__global__ void nothing_kernel() {}
void launch_nothing(int n_blocks, cudaStream_t stream) {
    LAUNCH(nothing_kernel, n_blocks, 32, 0, stream);
}
