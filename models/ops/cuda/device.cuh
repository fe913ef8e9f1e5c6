/* What kernels share: types, vector loads, sums over a warp or a block. */
#ifndef MODELS_OPS_CUDA_DEVICE_CUH
#define MODELS_OPS_CUDA_DEVICE_CUH

#include "models/ops/cuda/gpu.h"

#include "models/ops/cuda/backend.h"
#include "models/ops/cuda/functions.h"

#include <stdint.h>

typedef __nv_bfloat16 bf16;

/* Run the statements with T = float or bf16. */
#define FOR_DTYPE(dtype, T, ...)                                                                             \
    do {                                                                                                     \
        if ((dtype) == DTYPE_F32) {                                                                          \
            typedef float T;                                                                                 \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            typedef bf16 T;                                                                                  \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

__device__ __forceinline__ float to_float(float x) {
    return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
    return __bfloat162float(x);
}
template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}

/* Eight neighbours, 16-byte accesses: p must be aligned to 8 elements of bf16, 4 of float. */
__device__ __forceinline__ void load8(float (&f)[8], const float *p) {
    const float4 a = *reinterpret_cast<const float4 *>(p), b = *reinterpret_cast<const float4 *>(p + 4);
    f[0] = a.x, f[1] = a.y, f[2] = a.z, f[3] = a.w, f[4] = b.x, f[5] = b.y, f[6] = b.z, f[7] = b.w;
}
__device__ __forceinline__ void load8(float (&f)[8], const bf16 *p) {
    const uint4 v = *reinterpret_cast<const uint4 *>(p);
    const unsigned u[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        f[2 * i] = __uint_as_float(u[i] << 16);
        f[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
    }
}
__device__ __forceinline__ void store8(float *p, const float (&f)[8]) {
    *reinterpret_cast<float4 *>(p) = make_float4(f[0], f[1], f[2], f[3]);
    *reinterpret_cast<float4 *>(p + 4) = make_float4(f[4], f[5], f[6], f[7]);
}
__device__ __forceinline__ unsigned pack2(float a, float b) {
    const __nv_bfloat162 p = __floats2bfloat162_rn(a, b);
    unsigned u;
    memcpy(&u, &p, sizeof u);
    return u;
}
__device__ __forceinline__ void store8(bf16 *p, const float (&f)[8]) {
    *reinterpret_cast<uint4 *>(p) =
        make_uint4(pack2(f[0], f[1]), pack2(f[2], f[3]), pack2(f[4], f[5]), pack2(f[6], f[7]));
}

template <class T> __device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int o = 16; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}

/* Sum over a block of whole warps, in every thread; `room` is shared memory of 32 T. Two barriers: the room may
 * be used again at once. */
template <class T> __device__ __forceinline__ T block_sum(T v, T *room) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n = blockDim.x / 32;
    v = warp_sum(v);
    if (lane == 0) room[warp] = v;
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < n; i++) sum += room[i];
    __syncthreads();
    return sum;
}

#endif
