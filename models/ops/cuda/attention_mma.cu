/* Window attention forward on tensor cores (bf16, heads of 32 channels, windows of up to 12 x 12): a block a
 * window and head, a warp 16 queries. Keys go by in chunks with a running maximum, so that few registers are
 * held. */
#include "models/ops/cuda/attention_mma.cuh"

/* Chunks of keys, in tiles of 16, that a warp holds logits of; blocks a multiprocessor is to hold. */
template <int TILES> struct plan {
    enum { CHUNK = TILES % 3 ? TILES : 3, BLOCKS = TILES >= 9 ? 2 : TILES >= 6 ? 3 : 4 };
};

/* Weights of the chunk's keys from its logits s, with the running maximum and sum of the lane's two rows;
 * what was mixed so far shrinks with the maximum's growth. */
template <int N>
__device__ __forceinline__ void soften(float (&s)[N][4], float (&top)[2], float (&sum)[2],
                                       float (&acc)[4][4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float most = top[i];
#pragma unroll
        for (int j = 0; j < N; j++) most = fmaxf(most, fmaxf(s[j][2 * i], s[j][2 * i + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        const float shrink = __expf(top[i] - most);
        top[i] = most;
        sum[i] *= shrink;
#pragma unroll
        for (int n = 0; n < 4; n++) acc[n][2 * i] *= shrink, acc[n][2 * i + 1] *= shrink;
#pragma unroll
        for (int j = 0; j < N; j++) {
            s[j][2 * i] = __expf(s[j][2 * i] - most), s[j][2 * i + 1] = __expf(s[j][2 * i + 1] - most);
            sum[i] += s[j][2 * i] + s[j][2 * i + 1];
        }
    }
}

template <int TILES>
__global__ void __launch_bounds__(layout<TILES>::THREADS, plan<TILES>::BLOCKS)
    forward_kernel(struct attention g, struct attention_mma_data p) {
    enum { TOKENS = layout<TILES>::TOKENS, THREADS = layout<TILES>::THREADS, CHUNK = plan<TILES>::CHUNK };
    DYN_SHARED(unsigned char, room);
    bf16(*q)[ROW] = reinterpret_cast<bf16(*)[ROW]>(room), (*k)[ROW] = q + TOKENS, (*v)[ROW] = k + TOKENS;
    float *table = reinterpret_cast<float *>(room + 3 * layout<TILES>::MATRIX);
    int *pixel = reinterpret_cast<int *>(table + TABLE), *place = pixel + TOKENS;
    const int head = blockIdx.x, lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16;
    for (int i = threadIdx.x; i < (2 * g.wh - 1) * (2 * g.ww - 1); i += THREADS)
        table[i] = p.table[i * g.heads + head];
    for (int window = blockIdx.y; window < g.n * g.windows; window += gridDim.y) {
        const struct attention_item at = attention_item_of(g, window * g.heads + head);
        __syncthreads(); /* the window before is done */
        place_tokens<TILES>(g, at, pixel, place);
        __syncthreads();
#pragma unroll
        for (int part = 0; part < 3; part++) {
            const int channel = part * g.c + head * HEAD;
            load_tokens<TILES>(q + part * TOKENS, p.qkv + channel, 3 * g.c,
                               p.qkv_bias ? p.qkv_bias + channel : nullptr, pixel);
        }
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();

        const struct logits l = logits_of(g, table, place, first + lane / 4, has_mask(g, at));
        unsigned a[2][4];
        float acc[4][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
        load_rows(a, q, first);
#pragma unroll 1
        for (int chunk = 0; chunk < TILES; chunk += CHUNK) {
            float s[2 * CHUNK][4];
#pragma unroll
            for (int j = 0; j < 2 * CHUNK; j++) {
                times_tokens(s[j], a, k, chunk * 16 + j * 8);
                to_logits(l, s[j], chunk * 16 + j * 8 + lane % 4 * 2);
            }
            soften(s, top, sum, acc);
#pragma unroll
            for (int j = 0; j < 2 * CHUNK; j += 2) { /* products are laid out as an operand's rows */
                const unsigned weight[4] = {pack2(s[j][0], s[j][1]), pack2(s[j][2], s[j][3]),
                                            pack2(s[j + 1][0], s[j + 1][1]), pack2(s[j + 1][2], s[j + 1][3])};
                add_mixed(acc, weight, v, chunk * 16 + j * 8);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
            const int query = first + lane / 4 + 8 * i;
            if (p.lse && lane % 4 == 0 && query < g.tokens)
                p.lse[(int64_t)at.number * g.tokens + query] = top[i] + logf(sum[i]);
        }
        stage(q, first, acc, 1.0f / sum[0], 1.0f / sum[1]); /* its own queries' rows */
        __syncwarp();
        write_rows(p.out + head * HEAD, g.c, q, first, pixel);
    }
}

bool attention_mma_serves(const struct backend *be, const struct window_attention *a) {
    return a->dtype == DTYPE_BF16 && a->c == (int64_t)a->heads * HEAD && a->wh <= MAX_SIDE &&
           a->ww <= MAX_SIDE && a->n * a->h * a->w <= INT32_MAX &&
           be->max_shared >= (size_t)layout<9>::BACKWARD;
}

status_t attention_mma_forward(struct backend *be, const struct window_attention *a, void *y) {
    const struct attention g = attention_of(a);
    struct attention_mma_data p = {};
    p.qkv = (const bf16 *)a->qkv, p.qkv_bias = a->qkv_bias, p.table = a->table, p.lse = a->lse,
    p.out = (bf16 *)y;
    const dim3 grid((unsigned)g.heads, blocks_of_head(be, g));
    FOR_TILES(g.tokens, LAUNCH(forward_kernel<TILES>, grid, layout<TILES>::THREADS, layout<TILES>::FORWARD,
                               be->stream, g, p));
    TRY_LAUNCH();
    return STATUS_OK;
}
