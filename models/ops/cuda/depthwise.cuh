/* Depthwise convolution on the GPU: what its forward and backward kernels share.
 *
 * The kernels for the real shapes give a thread two neighbouring channels (their weights stay in registers) and a
 * strip of P columns, down whose rows it walks. Each row of the input is loaded once, the next one ahead of its
 * use, and serves all K rows of the output that it touches: at 7x7 some 8 of 9 instructions are multiplications.
 * Threads side by side have neighbouring channels (128-byte accesses in bf16), then neighbouring strips, whose
 * common columns come from the first-level cache. */
#ifndef MODELS_OPS_CUDA_DEPTHWISE_CUH
#define MODELS_OPS_CUDA_DEPTHWISE_CUH

#include "models/ops/cuda/maps.cuh"

enum {
    WALK_THREADS = 128,
    STRIP = 4 /* P: columns a thread */
};

struct walk {
    int64_t n;
    int h, w, ho, wo; /* of what is read and of what is written (weight gradient: of x and of dy) */
    int c, pad;
    int strips, chunks, chunk_rows; /* a map is cut into strips of columns and chunks of rows */
    struct channel_tiles tiles;     /* of pairs of channels, and how many strips a block takes */
    bool flip, relu6, accumulate;
};

/* A thread's part of the map. */
struct walker {
    int channel; /* the first of its two */
    int column;  /* first column of its strip */
    bool active;
};

/* N columns of a row from column `first`, zeros outside [0, w); `row` is the address of column `first`. */
template <class T, int N>
__device__ __forceinline__ void load_row(pair<T> (&v)[N], const T *row, int c, int first, int w) {
#pragma unroll
    for (int i = 0; i < N; i++)
        v[i] = (unsigned)(first + i) < (unsigned)w ? load_pair(row + (int64_t)i * c) : zero_pair<T>();
}

__device__ __forceinline__ void fma2(float2 *sum, float2 a, float2 b) {
    sum->x = fmaf(a.x, b.x, sum->x);
    sum->y = fmaf(a.y, b.y, sum->y);
}

static inline int64_t depthwise_side(int64_t side, const struct depthwise *a) {
    return (side + 2 * a->pad - a->k) / a->stride + 1;
}

/* depthwise_weight.cu: dweight, dbias += ; scratch as cuda_depthwise_scratch() says. */
size_t depthwise_weight_scratch(const struct depthwise *a);
status_t depthwise_weight_grad(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                               void *scratch);

/* Do pairs of channels fit width and addresses? */
static inline bool by_pairs(const struct depthwise *a, const void *p, const void *q) {
    const size_t n_bytes = 2 * dtype_bytes(a->dtype);
    return a->c % 2 == 0 && a->c < INT32_MAX / 64 && aligned(p, n_bytes) && aligned(q, n_bytes) &&
           aligned(a->weight, 8) && aligned(a->bias, 8);
}

#endif
