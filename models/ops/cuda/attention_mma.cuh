/* Window attention on tensor cores: how tokens, weights and the bias table lie in shared memory. */
#ifndef MODELS_OPS_CUDA_ATTENTION_MMA_CUH
#define MODELS_OPS_CUDA_ATTENTION_MMA_CUH

#include "models/ops/cuda/attention.cuh"

enum {
    MAX_SIDE = 12,  /* of a window */
    HEAD = 32,      /* channels of a head */
    ROW = HEAD + 8, /* a token's row in shared memory: no bank conflicts */
    TABLE = (2 * MAX_SIDE - 1) * (2 * MAX_SIDE - 1) + 3, /* floats for the bias table of one head */
    SPREAD = 8                                           /* blocks a multiprocessor that share the windows */
};

/* A block is a warp for every 16 tokens of the window, padded to TILES * 16. It keeps one head and goes
 * through windows gridDim.y apart. Bytes of shared memory: */
template <int TILES> struct layout {
    enum {
        TOKENS = 16 * TILES,
        THREADS = 32 * TILES,
        WEIGHT_ROW = TOKENS + 8,
        MATRIX = TOKENS * ROW * 2,         /* q, k, v or dy */
        WEIGHTS = TOKENS * WEIGHT_ROW * 2, /* weights of queries' keys, then gradients of logits */
        TOKEN_WORDS = TOKENS * 4,          /* pixels; places and regions; log-sum-exp; dy . y */
        FORWARD = 3 * MATRIX + TABLE * 4 + 2 * TOKEN_WORDS,
        BACKWARD = 4 * MATRIX + WEIGHTS + TABLE * 4 + 4 * TOKEN_WORDS
    };
};

struct attention_mma_data {
    const bf16 *qkv, *y, *dy;
    const float *qkv_bias, *table;
    float *lse;
    bf16 *out;             /* y, or dqkv */
    float *dtable, *dbias; /* by block: (heads, gridDim.y, rows of the table), (heads, gridDim.y, 64); NULL */
};

/* Where the tokens of a window are, and its place in the table with its region in the upper half. Tokens
 * beyond the window: pixel -2. */
template <int TILES>
__device__ __forceinline__ void place_tokens(const struct attention &g, const struct attention_item &at,
                                             int *pixel, int *place) {
    for (int t = threadIdx.x; t < layout<TILES>::TOKENS; t += layout<TILES>::THREADS) {
        pixel[t] = t < g.tokens ? (int)token_pixel(g, at, t) : -2;
        place[t] = t < g.tokens ? table_place(g, t) | token_region(g, at, t) << 16 : 0;
    }
}

/* 32 channels of every token to shared memory; of padded ones those of `bias` (NULL: zeros), beyond them
 * zeros. Ends with copies under way. */
template <int TILES>
__device__ __forceinline__ void load_tokens(bf16 (*to)[ROW], const bf16 *from, int64_t stride,
                                            const float *bias, const int *pixel) {
    for (int i = threadIdx.x; i < 4 * layout<TILES>::TOKENS; i += layout<TILES>::THREADS) {
        const int token = i / 4, channel = i % 4 * 8, at = pixel[token];
        if (at >= 0) {
            cp_async16(&to[token][channel], from + at * stride + channel);
            continue;
        }
        float f[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (int j = 0; j < 8 && at == -1 && bias; j++) f[j] = bias[channel + j];
        store8(&to[token][channel], f);
    }
}

__device__ __forceinline__ bool has_mask(const struct attention &g, const struct attention_item &at) {
    return (g.shift_h && at.top == g.hp - g.wh) || (g.shift_w && at.left == g.wp - g.ww);
}

/* Where a lane's two rows and the logits' biases come from: what turns products into logits. */
struct logits {
    const float *table;
    const int *place;
    int tokens, row[2]; /* place of the lane's queries + middle of the table, with their region above */
    float scale;
    bool masked;
};

__device__ __forceinline__ struct logits logits_of(const struct attention &g, const float *table,
                                                   const int *place, int query, bool masked) {
    struct logits l = {table, place, g.tokens, {0, 0}, g.scale, masked};
#pragma unroll
    for (int i = 0; i < 2; i++) l.row[i] = place[query + 8 * i] + table_middle(g);
    return l;
}

/* Products of queries (the lane's two) and keys key, key+1, as mma leaves them, to logits. */
__device__ __forceinline__ void to_logits(const struct logits &l, float (&s)[4], int key) {
    const int2 keys = *reinterpret_cast<const int2 *>(l.place + key);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const int other = e % 2 ? keys.y : keys.x, mine = l.row[e / 2];
        float v = s[e] * l.scale + l.table[(mine & 0xffff) - (other & 0xffff)];
        if (l.masked && mine >> 16 != other >> 16) v -= 100.0f;
        s[e] = key + e % 2 < l.tokens ? v : -INFINITY;
    }
}

/* a: 16 rows of a matrix in shared memory as two operands of 16 x 16. */
__device__ __forceinline__ void load_rows(unsigned (&a)[2][4], bf16 (*from)[ROW], int first) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < 2; k++) ldmatrix_x4(a[k], &from[first + lane % 16][k * 16 + lane / 16 * 8]);
}

/* s = rows a times tokens first..first+7, over 32 channels. */
__device__ __forceinline__ void times_tokens(float (&s)[4], const unsigned (&a)[2][4], bf16 (*tokens)[ROW],
                                             int first) {
    const int lane = threadIdx.x % 32;
    unsigned b[4];
    ldmatrix_x4(b, &tokens[first + lane % 8][lane / 8 * 8]);
    const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
    s[0] = s[1] = s[2] = s[3] = 0;
    mma_bf16_16816(s, a[0], b0);
    mma_bf16_16816(s, a[1], b1);
}

/* acc (16 x 32) += weights a (16 x 16 tokens) times the channels of tokens first..first+15. */
__device__ __forceinline__ void add_mixed(float (&acc)[4][4], const unsigned (&a)[4], bf16 (*tokens)[ROW],
                                          int first) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < 4; n += 2) {
        unsigned b[4];
        ldmatrix_x4_trans(b, &tokens[first + lane % 16][n * 8 + lane / 16 * 8]);
        const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
        mma_bf16_16816(acc[n], a, b0);
        mma_bf16_16816(acc[n + 1], a, b1);
    }
}

/* The lane's part of a 16 x 32 result into rows first.. of shared memory, times factor[] of its two rows. */
__device__ __forceinline__ void stage(bf16 (*to)[ROW], int first, const float (&acc)[4][4], float factor0,
                                      float factor1) {
    const int lane = threadIdx.x % 32, row = first + lane / 4, column = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < 4; n++) {
        *reinterpret_cast<unsigned *>(&to[row][n * 8 + column]) =
            pack2(acc[n][0] * factor0, acc[n][1] * factor0);
        *reinterpret_cast<unsigned *>(&to[row + 8][n * 8 + column]) =
            pack2(acc[n][2] * factor1, acc[n][3] * factor1);
    }
}

/* A warp's 16 staged rows to the pixels of their tokens. */
__device__ __forceinline__ void write_rows(bf16 *to, int64_t stride, bf16 (*from)[ROW], int first,
                                           const int *pixel) {
#pragma unroll
    for (int i = threadIdx.x % 32; i < 64; i += 32) {
        const int token = first + i / 4, channel = i % 4 * 8, at = pixel[token];
        if (at >= 0)
            *reinterpret_cast<uint4 *>(to + at * stride + channel) =
                *reinterpret_cast<const uint4 *>(&from[token][channel]);
    }
}

/* Run the statements with TILES = the smallest number of tiles that holds `tokens`. */
#define FOR_TILES(tokens, ...)                                                                               \
    do {                                                                                                     \
        if ((tokens) <= 16) {                                                                                \
            enum { TILES = 1 };                                                                              \
            __VA_ARGS__;                                                                                     \
        } else if ((tokens) <= 32) {                                                                         \
            enum { TILES = 2 };                                                                              \
            __VA_ARGS__;                                                                                     \
        } else if ((tokens) <= 64) {                                                                         \
            enum { TILES = 4 };                                                                              \
            __VA_ARGS__;                                                                                     \
        } else if ((tokens) <= 96) {                                                                         \
            enum { TILES = 6 };                                                                              \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            enum { TILES = 9 };                                                                              \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

/* Blocks that share the windows of one head. */
static inline unsigned blocks_of_head(const struct backend *be, const struct attention &g) {
    const int windows = g.n * g.windows, share = be->n_sms * SPREAD / g.heads;
    return (unsigned)(windows < share ? windows : share < 1 ? 1 : share);
}

#endif
