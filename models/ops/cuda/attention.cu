/* Window attention for any window, width of heads and type: a warp a token, keys (or queries) 32 at a time,
 * one a lane. Nothing is kept but log-sum-exp: logits are worked out again where they are needed. What Swin
 * in bf16 uses is in attention_mma.cu. */
#include "models/ops/cuda/attention.cuh"

enum { THREADS = 128, WARPS = THREADS / 32, TABLE_THREADS = 128 };

/* Pointers of a call. */
template <class T> struct attention_data {
    const T *qkv, *y, *dy;
    const float *qkv_bias, *table;
    float *lse;
};

/* Part (0 q, 1 k, 2 v) of a token for the item's head: d neighbours in qkv or, padded, in the bias. */
template <class T> struct part {
    const T *row;
    const float *bias;
    __device__ __forceinline__ part(const struct attention &g, const struct attention_data<T> &p, int head,
                                    int64_t pixel, int which) {
        const int channel = which * g.c + head * g.d;
        row = pixel >= 0 ? p.qkv + pixel * 3 * g.c + channel : nullptr;
        bias = row ? nullptr : p.qkv_bias + channel;
    }
    __device__ __forceinline__ float operator[](int j) const { return row ? to_float(row[j]) : bias[j]; }
};

/* The logit of a query and a key of an item. */
template <class T>
__device__ __forceinline__ float logit(const struct attention &g, const struct attention_data<T> &p,
                                       const struct attention_item &at, int query, int key) {
    const part<T> q(g, p, at.head, token_pixel(g, at, query), 0),
        k(g, p, at.head, token_pixel(g, at, key), 1);
    float dot = 0;
    for (int j = 0; j < g.d; j++) dot += q[j] * k[j];
    const int row = table_place(g, query) - table_place(g, key) + table_middle(g);
    const float mask = token_region(g, at, query) == token_region(g, at, key) ? 0.0f : -100.0f;
    return dot * g.scale + p.table[(int64_t)row * g.heads + at.head] + mask;
}

/* Blocks share out the items, the warps of a block its tokens. */
#define FOR_TOKENS(g, items, token, at)                                                                      \
    for (int item_ = (int)blockIdx.x; item_ < (items); item_ += (int)gridDim.x)                              \
        if (const struct attention_item at = attention_item_of((g), item_); true)                            \
            for (int token = (int)threadIdx.x / 32; token < (g).tokens; token += WARPS)

template <class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(struct attention g, struct attention_data<T> p, int items, T *__restrict__ y) {
    const int lane = threadIdx.x % 32;
    FOR_TOKENS(g, items, query, at) {
        float top = -INFINITY, sum = 0;
        for (int key = lane; key < g.tokens; key += 32) top = fmaxf(top, logit(g, p, at, query, key));
        top = warp_max(top);
        for (int key = lane; key < g.tokens; key += 32) sum += expf(logit(g, p, at, query, key) - top);
        const float lse = top + logf(warp_sum(sum));
        if (p.lse && lane == 0) p.lse[(int64_t)at.number * g.tokens + query] = lse;
        const int64_t pixel = token_pixel(g, at, query);
        if (pixel < 0) continue; /* the whole warp */
        for (int j = lane; j - lane < g.d; j += 32) {
            float mixed = 0;
            for (int first = 0; first < g.tokens; first += 32) {
                const int key = first + lane;
                const float weight = key < g.tokens ? expf(logit(g, p, at, query, key) - lse) : 0.0f;
                for (int k = 0; k < 32; k++) {
                    const float w = __shfl_sync(0xffffffffu, weight, k);
                    if (first + k >= g.tokens || j >= g.d) continue;
                    mixed += w * part<T>(g, p, at.head, token_pixel(g, at, first + k), 2)[j];
                }
            }
            if (j < g.d) y[pixel * g.c + at.head * g.d + j] = from_float<T>(mixed);
        }
    }
}

/* Weight p of a query's key and gradient of their logit: p (dP - sum over keys of p dP), where the sum is dy
 * . y. The query is no padded token. */
template <class T>
__device__ __forceinline__ float2 pair_grad(const struct attention &g, const struct attention_data<T> &p,
                                            const struct attention_item &at, int query, int key) {
    const float weight = expf(logit(g, p, at, query, key) - p.lse[(int64_t)at.number * g.tokens + query]);
    const int64_t row = token_pixel(g, at, query) * g.c + at.head * g.d;
    const part<T> v(g, p, at.head, token_pixel(g, at, key), 2);
    float dp = 0;
    for (int j = 0; j < g.d; j++) dp += to_float(p.dy[row + j]) * (v[j] - to_float(p.y[row + j]));
    return make_float2(weight, weight * dp);
}

/* dq of a token: its keys a lane each. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    dq_kernel(struct attention g, struct attention_data<T> p, int items, T *__restrict__ dqkv) {
    const int lane = threadIdx.x % 32;
    FOR_TOKENS(g, items, query, at) {
        const int64_t pixel = token_pixel(g, at, query);
        if (pixel < 0) continue;
        for (int j = lane; j - lane < g.d; j += 32) {
            float dq = 0;
            for (int first = 0; first < g.tokens; first += 32) {
                const int key = first + lane, n = g.tokens - first < 32 ? g.tokens - first : 32;
                const float mine = key < g.tokens ? pair_grad(g, p, at, query, key).y : 0.0f;
                for (int k = 0; k < n; k++) {
                    const float grad = __shfl_sync(0xffffffffu, mine, k);
                    const part<T> other(g, p, at.head, token_pixel(g, at, first + k), 1);
                    if (j < g.d) dq += grad * other[j];
                }
            }
            if (j < g.d) dqkv[pixel * 3 * g.c + at.head * g.d + j] = from_float<T>(dq * g.scale);
        }
    }
}

/* Number of padded tokens of an image, and of the one at (y, x) among them. */
__host__ __device__ __forceinline__ int64_t n_padded(const struct attention &g) {
    return (int64_t)g.hp * g.wp - (int64_t)g.h * g.w;
}
__device__ __forceinline__ int64_t padded_number(const struct attention &g, const struct attention_item &at,
                                                 int token) {
    const int y = at.top + token / g.ww, x = at.left + token % g.ww;
    const int64_t number = y < g.h ? (int64_t)y * (g.wp - g.w) + x - g.w
                                   : (int64_t)g.h * (g.wp - g.w) + (int64_t)(y - g.h) * g.wp + x;
    return at.image * n_padded(g) + number;
}

/* dk and dv of a token: its queries a lane each. Those of padded tokens go to padded (N, padded tokens, 2,
 * C). */
template <class T>
__global__ void __launch_bounds__(THREADS)
    dkv_kernel(struct attention g, struct attention_data<T> p, int items, T *__restrict__ dqkv,
               float *__restrict__ padded) {
    const int lane = threadIdx.x % 32;
    FOR_TOKENS(g, items, key, at) {
        const int64_t pixel = token_pixel(g, at, key);
        if (pixel < 0 && !padded) continue;
        for (int j = lane; j - lane < g.d; j += 32) {
            float dk = 0, dv = 0;
            for (int first = 0; first < g.tokens; first += 32) {
                const int query = first + lane, n = g.tokens - first < 32 ? g.tokens - first : 32;
                const bool takes_part = query < g.tokens && token_pixel(g, at, query) >= 0;
                const float2 mine = takes_part ? pair_grad(g, p, at, query, key) : make_float2(0, 0);
                for (int k = 0; k < n; k++) {
                    const float weight = __shfl_sync(0xffffffffu, mine.x, k),
                                grad = __shfl_sync(0xffffffffu, mine.y, k);
                    const int64_t other = token_pixel(g, at, first + k);
                    const part<T> q(g, p, at.head, other, 0);
                    if (j >= g.d || other < 0) continue;
                    dk += grad * q[j];
                    dv += weight * to_float(p.dy[other * g.c + at.head * g.d + j]);
                }
            }
            if (j >= g.d) continue;
            const int channel = at.head * g.d + j;
            if (pixel >= 0) {
                dqkv[pixel * 3 * g.c + g.c + channel] = from_float<T>(dk * g.scale);
                dqkv[pixel * 3 * g.c + 2 * g.c + channel] = from_float<T>(dv);
            } else {
                float *row = padded + padded_number(g, at, key) * 2 * g.c;
                row[channel] = dk * g.scale;
                row[g.c + channel] = dv;
            }
        }
    }
}

/* dbias[C..3C) += the column sums of padded (rows, 2C). (dq of padded tokens is zero: their outputs go
 * nowhere.) */
__global__ void __launch_bounds__(THREADS)
    padded_sum_kernel(const float *__restrict__ padded, int64_t rows, int c, float *__restrict__ dqkv_bias) {
    const int column = blockIdx.x * THREADS + threadIdx.x;
    double sum = 0;
    if (column >= 2 * c) return;
    for (int64_t i = 0; i < rows; i++) sum += (double)padded[i * 2 * c + column];
    dqkv_bias[c + column] += (float)sum;
}

/* A block a row of the table and head: the gradients of all pairs of tokens that lie (dy, dx) apart. */
template <class T>
__global__ void __launch_bounds__(TABLE_THREADS)
    dtable_kernel(struct attention g, struct attention_data<T> p, float *__restrict__ dtable) {
    SHARED(double, room, [32]);
    const int head = blockIdx.x % g.heads, row = blockIdx.x / g.heads;
    const int dy = row / (2 * g.ww - 1) - (g.wh - 1), dx = row % (2 * g.ww - 1) - (g.ww - 1);
    const int tall = g.wh - abs(dy), wide = g.ww - abs(dx); /* pairs in a window: tall * wide */
    double sum = 0;
    for (int window = 0; window < g.n * g.windows; window++) {
        const struct attention_item at = attention_item_of(g, window * g.heads + head);
        for (int i = threadIdx.x; i < tall * wide; i += TABLE_THREADS) {
            const int ky = i / wide - (dy < 0 ? dy : 0), kx = i % wide - (dx < 0 ? dx : 0);
            const int key = ky * g.ww + kx, query = (ky + dy) * g.ww + kx + dx;
            if (token_pixel(g, at, query) >= 0) sum += (double)pair_grad(g, p, at, query, key).y;
        }
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) dtable[(int64_t)row * g.heads + head] += (float)sum;
}

/* ---- the slots ---- */

static int n_items(const struct attention &g) {
    return g.n * g.windows * g.heads;
}

extern "C" size_t cuda_window_attention_scratch(struct backend *be, const struct window_attention *a,
                                                bool train) {
    const struct attention g = attention_of(a);
    if (!train) return 0;
    if (attention_mma_serves(be, a)) return attention_mma_scratch(be, a);
    return (size_t)g.n * (size_t)n_padded(g) * 2 * (size_t)g.c * sizeof(float);
}

template <class T> static struct attention_data<T> data_of(const struct window_attention *a) {
    struct attention_data<T> p = {};
    p.qkv = (const T *)a->qkv, p.qkv_bias = a->qkv_bias, p.table = a->table, p.lse = a->lse;
    return p;
}

extern "C" status_t
cuda_window_attention_forward(struct backend *be, const struct window_attention *a, void *y, void *scratch) {
    (void)scratch;
    const struct attention g = attention_of(a);
    if (n_items(g) == 0) return STATUS_OK;
    if (attention_mma_serves(be, a)) return attention_mma_forward(be, a, y);
    FOR_DTYPE(a->dtype, T,
              LAUNCH(forward_kernel<T>, grid_of(be, n_items(g), 1), THREADS, 0, be->stream, g, data_of<T>(a),
                     n_items(g), (T *)y));
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T>
static status_t backward(struct backend *be, const struct window_attention *a,
                         const struct window_attention_grad *grad, float *padded) {
    const struct attention g = attention_of(a);
    struct attention_data<T> p = data_of<T>(a);
    p.y = (const T *)grad->y, p.dy = (const T *)grad->dy;
    const unsigned grid = grid_of(be, n_items(g), 1);
    LAUNCH(dq_kernel<T>, grid, THREADS, 0, be->stream, g, p, n_items(g), (T *)grad->dqkv);
    TRY_LAUNCH();
    LAUNCH(dkv_kernel<T>, grid, THREADS, 0, be->stream, g, p, n_items(g), (T *)grad->dqkv, padded);
    TRY_LAUNCH();
    if (grad->dtable) {
        const unsigned rows = (unsigned)((2 * g.wh - 1) * (2 * g.ww - 1));
        LAUNCH(dtable_kernel<T>, rows * (unsigned)g.heads, TABLE_THREADS, 0, be->stream, g, p, grad->dtable);
        TRY_LAUNCH();
    }
    if (padded) {
        LAUNCH(padded_sum_kernel, (unsigned)((2 * g.c + THREADS - 1) / THREADS), THREADS, 0, be->stream,
               padded, g.n * n_padded(g), g.c, grad->dqkv_bias);
        TRY_LAUNCH();
    }
    return STATUS_OK;
}

extern "C" status_t cuda_window_attention_backward(struct backend *be, const struct window_attention *a,
                                                   const struct window_attention_grad *g, void *scratch) {
    const struct attention sizes = attention_of(a);
    if (n_items(sizes) == 0) return STATUS_OK;
    if (attention_mma_serves(be, a)) return attention_mma_backward(be, a, g, scratch);
    float *padded = g->dqkv_bias && n_padded(sizes) > 0 ? (float *)scratch : nullptr;
    FOR_DTYPE(a->dtype, T, return backward<T>(be, a, g, padded));
    return STATUS_OK;
}
