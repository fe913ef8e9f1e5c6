/* Window attention backward on tensor cores: a block a window and head, a warp 16 tokens, first as queries,
 * then as keys. Weights of all pairs, then gradients of their logits, lie in shared memory in bf16, where
 * other warps read them transposed. The table's gradient: every thread keeps sums of pairs of tokens over all
 * windows of the block; they are added up over blocks in a second kernel, in the order of the blocks. */
#include "models/ops/cuda/attention_mma.cuh"

template <int TILES> struct plan {
    enum { BLOCKS = TILES >= 9 ? 2 : TILES >= 6 ? 3 : 4 };
};

/* Pairs of rows (their distance counted round the window, so that all have as many), column of the query,
 * column of the key: (wh, ww, ww) units. A thread has up to 6: tokens * ww / (2 * tokens). Within a unit,
 * pairs whose distance is as counted and those that went round the edge are different rows of the table. */
enum { UNITS = MAX_SIDE / 2 };

__device__ __forceinline__ int n_units(const struct attention &g) {
    return g.tokens * g.ww;
}

/* sums[u][went round] += the window's gradients of logits. */
template <int TILES>
__device__ __forceinline__ void add_table_sums(float (&sums)[UNITS][2], const struct attention &g,
                                               const bf16 (*grad)[layout<TILES>::WEIGHT_ROW]) {
#pragma unroll
    for (int i = 0; i < UNITS; i++) {
        const int unit = i * layout<TILES>::THREADS + (int)threadIdx.x;
        if (unit >= n_units(g)) break;
        const int distance = unit / (g.ww * g.ww), column = unit % (g.ww * g.ww);
        const bf16 *at = &grad[column / g.ww][column % g.ww];
        const int down = g.ww * layout<TILES>::WEIGHT_ROW;
        float straight = 0, round = 0;
        for (int y = 0; y < distance; y++) round += to_float(at[y * down + (y - distance + g.wh) * g.ww]);
        for (int y = distance; y < g.wh; y++) straight += to_float(at[y * down + (y - distance) * g.ww]);
        sums[i][0] += straight;
        sums[i][1] += round;
    }
}

/* The block's gradient of the table to out (rows of the table), by way of `room` (2, units). */
template <int TILES>
__device__ __forceinline__ void write_table_sums(float *out, const float (&sums)[UNITS][2],
                                                 const struct attention &g, float *room) {
    enum { THREADS = layout<TILES>::THREADS };
    const int across = 2 * g.ww - 1, n = n_units(g);
#pragma unroll
    for (int i = 0; i < UNITS; i++) {
        const int unit = i * THREADS + (int)threadIdx.x;
        if (unit < n) room[unit] = sums[i][0], room[n + unit] = sums[i][1];
    }
    __syncthreads();
    for (int row = threadIdx.x; row < (2 * g.wh - 1) * across; row += THREADS) {
        const int dy = row / across - (g.wh - 1), dx = row % across - (g.ww - 1);
        const float *from = room + (dy < 0 ? n + (dy + g.wh) * g.ww * g.ww : dy * g.ww * g.ww);
        float sum = 0;
        for (int x = dx > 0 ? dx : 0; x < g.ww && x - dx < g.ww; x++) sum += from[x * g.ww + x - dx];
        out[row] = sum;
    }
}

/* a: weights (or gradients) of keys first.. of queries query.., transposed: 16 keys x 16 queries. */
template <int TILES>
__device__ __forceinline__ void
load_transposed(unsigned (&a)[4], const bf16 (*from)[layout<TILES>::WEIGHT_ROW], int query, int first) {
    const int lane = threadIdx.x % 32;
    ldmatrix_x4_trans(a, &from[query + lane % 8 + lane / 16 * 8][first + lane / 8 % 2 * 8]);
}

/* dy to shared memory and dy . y of every token; zero for padded tokens, whose outputs go nowhere. */
template <int TILES>
__device__ __forceinline__ void load_dy(bf16 (*dy)[ROW], float *product, const bf16 *from, const bf16 *y,
                                        int64_t stride, const int *pixel) {
    for (int i = threadIdx.x; i < 4 * layout<TILES>::TOKENS; i += layout<TILES>::THREADS) { /* whole warps */
        const int token = i / 4, channel = i % 4 * 8, at = pixel[token];
        float f[8] = {0, 0, 0, 0, 0, 0, 0, 0}, sum = 0;
        if (at >= 0) {
            float other[8];
            load8(f, from + at * stride + channel);
            load8(other, y + at * stride + channel);
#pragma unroll
            for (int j = 0; j < 8; j++) sum += f[j] * other[j];
        }
        store8(&dy[token][channel], f);
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (i % 4 == 0) product[token] = sum;
    }
}

__device__ __forceinline__ float2 unpack2(unsigned u) {
    return make_float2(__uint_as_float(u << 16), __uint_as_float(u & 0xffff0000u));
}

/* Weights of the warp's 16 queries to shared memory. */
template <int TILES>
__device__ __forceinline__ void write_weights(bf16 (*weight)[layout<TILES>::WEIGHT_ROW],
                                              const struct logits &l, bf16 (*q)[ROW], bf16 (*k)[ROW],
                                              const float *lse, int first) {
    const int lane = threadIdx.x % 32, row = first + lane / 4;
    const float lse0 = lse[row], lse1 = lse[row + 8];
    unsigned a[2][4];
    load_rows(a, q, first);
#pragma unroll 3
    for (int j = 0; j < 2 * TILES; j++) {
        const int key = j * 8 + lane % 4 * 2;
        float s[4];
        times_tokens(s, a, k, j * 8);
        to_logits(l, s, key);
        *reinterpret_cast<unsigned *>(&weight[row][key]) = pack2(__expf(s[0] - lse0), __expf(s[1] - lse0));
        *reinterpret_cast<unsigned *>(&weight[row + 8][key]) =
            pack2(__expf(s[2] - lse1), __expf(s[3] - lse1));
    }
}

/* Gradients of two logits of a row, packed, in the place of their weights: p (dP - dy . y). */
__device__ __forceinline__ unsigned turn_to_grad(bf16 *weight, float dp0, float dp1, float product) {
    unsigned *at = reinterpret_cast<unsigned *>(weight);
    const float2 p = unpack2(*at);
    return *at = pack2(p.x * (dp0 - product), p.y * (dp1 - product));
}

/* The same for all keys of the warp's 16 queries; dq += gradients times keys. */
template <int TILES>
__device__ __forceinline__ void turn_to_grads(bf16 (*weight)[layout<TILES>::WEIGHT_ROW], float (&dq)[4][4],
                                              bf16 (*dy)[ROW], bf16 (*k)[ROW], bf16 (*v)[ROW],
                                              const float *product, int first) {
    const int lane = threadIdx.x % 32, row = first + lane / 4;
    const float product0 = product[row], product1 = product[row + 8];
    unsigned a[2][4];
    load_rows(a, dy, first);
#pragma unroll 1
    for (int tile = 0; tile < TILES; tile++) {
        const int key = tile * 16 + lane % 4 * 2;
        float dp[2][4];
        unsigned grad[4];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            times_tokens(dp[j], a, v, tile * 16 + j * 8);
            grad[2 * j] = turn_to_grad(&weight[row][key + j * 8], dp[j][0], dp[j][1], product0);
            grad[2 * j + 1] = turn_to_grad(&weight[row + 8][key + j * 8], dp[j][2], dp[j][3], product1);
        }
        add_mixed(dq, grad, k, tile * 16);
    }
}

/* acc (16 keys x 32) = weights of the warp's keys, transposed, times rows of all queries. */
template <int TILES>
__device__ __forceinline__ void mix_queries(float (&acc)[4][4],
                                            const bf16 (*weight)[layout<TILES>::WEIGHT_ROW],
                                            bf16 (*rows)[ROW], int first) {
#pragma unroll 3
    for (int tile = 0; tile < TILES; tile++) {
        unsigned a[4];
        load_transposed<TILES>(a, weight, tile * 16, first);
        add_mixed(acc, a, rows, tile * 16);
    }
}

/* The block's sums of padded tokens' dk and dv to out (64), from every warp's of channel `lane`. */
template <int TILES>
__device__ __forceinline__ void write_bias_sums(float *out, float dk, float dv, float *room) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    __syncthreads(); /* the room was the table's */
    room[warp * 64 + lane] = dk, room[warp * 64 + 32 + lane] = dv;
    __syncthreads();
    for (int i = threadIdx.x; i < 64; i += layout<TILES>::THREADS) {
        float sum = 0;
        for (int w = 0; w < TILES; w++) sum += room[w * 64 + i];
        out[i] = sum;
    }
}

template <int TILES>
__global__ void __launch_bounds__(layout<TILES>::THREADS, plan<TILES>::BLOCKS)
    backward_kernel(struct attention g, struct attention_mma_data p) {
    enum { TOKENS = layout<TILES>::TOKENS, THREADS = layout<TILES>::THREADS };
    DYN_SHARED(unsigned char, room);
    bf16(*q)[ROW] = reinterpret_cast<bf16(*)[ROW]>(room), (*k)[ROW] = q + TOKENS, (*v)[ROW] = k + TOKENS,
    (*dy)[ROW] = v + TOKENS;
    bf16(*weight)[layout<TILES>::WEIGHT_ROW] =
        reinterpret_cast<bf16(*)[layout<TILES>::WEIGHT_ROW]>(room + 4 * layout<TILES>::MATRIX);
    float *table = reinterpret_cast<float *>(weight + TOKENS), *lse = table + TABLE, *product = lse + TOKENS;
    int *pixel = reinterpret_cast<int *>(product + TOKENS), *place = pixel + TOKENS;
    const int head = blockIdx.x, lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16;
    float sums[UNITS][2] = {}, dk_bias = 0, dv_bias = 0; /* of channel `lane`, this warp's padded tokens */
    for (int i = threadIdx.x; i < (2 * g.wh - 1) * (2 * g.ww - 1); i += THREADS)
        table[i] = p.table[i * g.heads + head];
    for (int window = blockIdx.y; window < g.n * g.windows; window += gridDim.y) {
        const struct attention_item at = attention_item_of(g, window * g.heads + head);
        __syncthreads(); /* the window before is done */
        place_tokens<TILES>(g, at, pixel, place);
        for (int t = threadIdx.x; t < TOKENS; t += THREADS)
            lse[t] = t < g.tokens ? p.lse[(int64_t)at.number * g.tokens + t] : 0.0f;
        __syncthreads();
#pragma unroll
        for (int part = 0; part < 3; part++) {
            const int channel = part * g.c + head * HEAD;
            load_tokens<TILES>(q + part * TOKENS, p.qkv + channel, 3 * g.c,
                               p.qkv_bias ? p.qkv_bias + channel : nullptr, pixel);
        }
        cp_async_commit();
        load_dy<TILES>(dy, product, p.dy + head * HEAD, p.y + head * HEAD, g.c, pixel);
        cp_async_wait<0>();
        __syncthreads();

        write_weights<TILES>(weight, logits_of(g, table, place, first + lane / 4, has_mask(g, at)), q, k, lse,
                             first);
        __syncthreads();
        float dv[4][4] = {}, dq[4][4] = {}, dk[4][4] = {};
        mix_queries<TILES>(dv, weight, dy, first);
        __syncthreads(); /* all weights were read: gradients take their place */
        turn_to_grads<TILES>(weight, dq, dy, k, v, product, first);
        __syncthreads(); /* nobody reads dy, k or v any more */
        stage(dy, first, dq, g.scale, g.scale);
        stage(v, first, dv, 1, 1);
        mix_queries<TILES>(dk, weight, q, first);
        stage(k, first, dk, g.scale, g.scale);
        if (p.dtable) add_table_sums<TILES>(sums, g, weight);
        __syncwarp();
        bf16 *out = p.out + head * HEAD;
        write_rows(out, 3 * g.c, dy, first, pixel);
        write_rows(out + g.c, 3 * g.c, k, first, pixel);
        write_rows(out + 2 * g.c, 3 * g.c, v, first, pixel);
        for (int t = first; t < first + 16 && p.dbias; t++)
            if (pixel[t] == -1) dk_bias += to_float(k[t][lane]), dv_bias += to_float(v[t][lane]);
    }
    const int64_t number = (int64_t)head * gridDim.y + blockIdx.y;
    float *sum_room = reinterpret_cast<float *>(room);
    __syncthreads();
    if (p.dtable)
        write_table_sums<TILES>(p.dtable + number * (2 * g.wh - 1) * (2 * g.ww - 1), sums, g, sum_room);
    if (p.dbias) write_bias_sums<TILES>(p.dbias + number * 64, dk_bias, dv_bias, sum_room);
}

/* dtable (rows, heads) += partial (heads, blocks, rows) */
__global__ void __launch_bounds__(128) add_table_kernel(const float *__restrict__ partial, int blocks,
                                                        int rows, int heads, float *__restrict__ dtable) {
    const int i = blockIdx.x * 128 + (int)threadIdx.x, head = i / rows, row = i % rows;
    if (head >= heads) return;
    float sum = 0;
    for (int b = 0; b < blocks; b++) sum += partial[((int64_t)head * blocks + b) * rows + row];
    dtable[(int64_t)row * heads + head] += sum;
}

/* dbias[C + ...] += partial (heads, blocks, [k | v], 32) */
__global__ void __launch_bounds__(64)
    add_bias_kernel(const float *__restrict__ partial, int blocks, int c, float *__restrict__ dbias) {
    const int head = blockIdx.x, part = threadIdx.x / HEAD, channel = threadIdx.x % HEAD;
    float sum = 0;
    for (int b = 0; b < blocks; b++) sum += partial[((int64_t)head * blocks + b) * 64 + threadIdx.x];
    dbias[(1 + part) * c + head * HEAD + channel] += sum;
}

static int table_rows(const struct attention &g) {
    return (2 * g.wh - 1) * (2 * g.ww - 1);
}

size_t attention_mma_scratch(struct backend *be, const struct window_attention *a) {
    const struct attention g = attention_of(a);
    return (size_t)g.heads * blocks_of_head(be, g) * (size_t)(table_rows(g) + 64) * sizeof(float);
}

template <int TILES>
static status_t launch(struct backend *be, const struct attention &g, const struct attention_mma_data &p,
                       dim3 grid) {
    TRY_CUDA(cudaFuncSetAttribute((const void *)backward_kernel<TILES>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, layout<TILES>::BACKWARD));
    LAUNCH(backward_kernel<TILES>, grid, layout<TILES>::THREADS, layout<TILES>::BACKWARD, be->stream, g, p);
    TRY_LAUNCH();
    return STATUS_OK;
}

status_t attention_mma_backward(struct backend *be, const struct window_attention *a,
                                const struct window_attention_grad *grad, void *scratch) {
    const struct attention g = attention_of(a);
    const int blocks = (int)blocks_of_head(be, g), rows = table_rows(g);
    const bool padded = g.hp > g.h || g.wp > g.w;
    struct attention_mma_data p = {};
    p.qkv = (const bf16 *)a->qkv, p.qkv_bias = a->qkv_bias, p.table = a->table, p.lse = a->lse;
    p.y = (const bf16 *)grad->y, p.dy = (const bf16 *)grad->dy, p.out = (bf16 *)grad->dqkv;
    p.dtable = grad->dtable ? (float *)scratch : nullptr;
    p.dbias = grad->dqkv_bias && padded ? (float *)scratch + (int64_t)g.heads * blocks * rows : nullptr;
    const dim3 grid((unsigned)g.heads, (unsigned)blocks);
    FOR_TILES(g.tokens, TRY(launch<TILES>(be, g, p, grid)));
    if (p.dtable) {
        LAUNCH(add_table_kernel, (unsigned)((rows * g.heads + 127) / 128), 128, 0, be->stream, p.dtable,
               blocks, rows, g.heads, grad->dtable);
        TRY_LAUNCH();
    }
    if (p.dbias) {
        LAUNCH(add_bias_kernel, (unsigned)g.heads, 64, 0, be->stream, p.dbias, blocks, g.c, grad->dqkv_bias);
        TRY_LAUNCH();
    }
    return STATUS_OK;
}
