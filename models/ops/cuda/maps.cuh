/* What kernels over maps (N,H,W,C) share: vectors of neighbouring channels, how channels and pixels are dealt out
 * to the threads of a block, sums over slices. */
#ifndef MODELS_OPS_CUDA_MAPS_CUH
#define MODELS_OPS_CUDA_MAPS_CUH

#include "models/ops/cuda/device.cuh"

/* V neighbouring elements; V = 8: p aligned to 16 bytes, V = 2: to 2 elements. */
template <class T> __device__ __forceinline__ void load_vector(float (&f)[8], const T *p) {
    load8(f, p);
}
template <class T> __device__ __forceinline__ void load_vector(float (&f)[1], const T *p) {
    f[0] = to_float(*p);
}
template <class T> __device__ __forceinline__ void store_vector(T *p, const float (&f)[8]) {
    store8(p, f);
}
template <class T> __device__ __forceinline__ void store_vector(T *p, const float (&f)[1]) {
    *p = from_float<T>(f[0]);
}

/* Two channels as they lie in memory: what is loaded ahead costs one register in bf16, two in fp32. */
template <class T> struct pair;
template <> struct pair<float> {
    float2 v;
};
template <> struct pair<bf16> {
    unsigned v;
};
template <class T> __device__ __forceinline__ pair<T> load_pair(const T *p) {
    return *reinterpret_cast<const pair<T> *>(p);
}
template <class T> __device__ __forceinline__ pair<T> zero_pair() {
    return pair<T>{};
}
__device__ __forceinline__ float2 unpack(pair<float> p) {
    return p.v;
}
__device__ __forceinline__ float2 unpack(pair<bf16> p) {
    return make_float2(__uint_as_float(p.v << 16), __uint_as_float(p.v & 0xffff0000u));
}
__device__ __forceinline__ void store_pair(float *p, float2 f) {
    *reinterpret_cast<float2 *>(p) = f;
}
__device__ __forceinline__ void store_pair(bf16 *p, float2 f) {
    *reinterpret_cast<unsigned *>(p) = pack2(f.x, f.y);
}

/* A block of `threads` threads takes `rows` pixels and `width` vectors of channels at a time; `tiles` blocks side
 * by side cover all channels. Threads past rows * width are idle. */
struct channel_tiles {
    int tiles, width, rows;
};

static inline struct channel_tiles tiles_of(int64_t vectors, int threads) {
    struct channel_tiles t;
    t.tiles = (int)((vectors + 31) / 32);
    t.width = (int)((vectors + t.tiles - 1) / t.tiles);
    t.rows = threads / t.width;
    return t;
}

/* How many blocks a kernel with one sum a block should have: two for each SM of an H100. A constant, so that sums
 * are the same on every GPU. */
enum { SLICED_BLOCKS = 264 };

static inline bool aligned(const void *p, size_t n_bytes) {
    return (uintptr_t)p % n_bytes == 0;
}

/* out[i] += the sum over s of slices[s * stride + i], s < n_slices, in a fixed order. */
status_t add_slices(struct backend *be, float *out, const float *slices, int64_t n_slices, int64_t stride,
                    int64_t n);

#endif
