/* Dropout by the same draws as common/rng.c: four elements of a row for each block of Philox. */
#include "models/ops/cuda/device.cuh"

enum { THREADS = 256 };

/* Philox4x32-10 (Salmon et al., SC 2011, section 3.3): ten rounds of two wide products, the key bumped between. */
__device__ __forceinline__ uint4 philox(uint4 c, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned low0 = 0xd2511f53u * c.x, low1 = 0xcd9e8d57u * c.z;
        c = make_uint4(__umulhi(0xcd9e8d57u, c.z) ^ c.y ^ key.x, low1,
                       __umulhi(0xd2511f53u, c.x) ^ c.w ^ key.y, low0);
        key.x += 0x9e3779b9u;
        key.y += 0xbb67ae85u;
    }
    return c;
}

/* counter: (block, item, step, rest) as rng_block() has it; items NULL: the row's number. */
__global__ void __launch_bounds__(THREADS)
    dropout_kernel(float *y, const float *x, int64_t n, int64_t d, float rate, uint2 key, unsigned step,
                   unsigned rest, const uint32_t *__restrict__ items) {
    const int64_t quads = (d + 3) / 4;
    const float kept_part = (float)(1.0 - (double)rate);
    for (int64_t q = blockIdx.x * (int64_t)THREADS + threadIdx.x; q < n * quads;
         q += (int64_t)gridDim.x * THREADS) {
        const int64_t i = q / quads, block = q % quads;
        const uint4 w = philox(make_uint4((unsigned)block, items ? items[i] : (unsigned)i, step, rest), key);
        const unsigned words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int64_t j = block * 4 + k, at = i * d + j;
            if (j >= d) break;
            const bool kept = (float)(words[k] >> 8) * 0x1p-24f >= rate;
            y[at] = kept ? x[at] / kept_part : 0.0f;
        }
    }
}

extern "C" status_t cuda_dropout(struct backend *be, float *y, const float *x, int64_t n, int64_t d,
                                 float rate, struct rng_key key, const uint32_t *host_items) {
    void *items = NULL;
    if (n == 0 || d == 0) return STATUS_OK;
    if (host_items) TRY(small_array(be, host_items, (size_t)n * sizeof *host_items, &items));
    const unsigned rest =
        (unsigned)key.stage << 24 | (unsigned)key.peer << 16 | (unsigned)key.purpose << 8 | key.sub;
    LAUNCH(dropout_kernel, grid_of(be, n * ((d + 3) / 4), THREADS), THREADS, 0, be->stream, y, x, n, d, rate,
           make_uint2((unsigned)key.seed, (unsigned)(key.seed >> 32)), key.step, rest,
           (const uint32_t *)items);
    TRY_LAUNCH();
    return STATUS_OK;
}
