/* Where the tokens of a window lie: what the kernels of window attention share. */
#ifndef MODELS_OPS_CUDA_ATTENTION_CUH
#define MODELS_OPS_CUDA_ATTENTION_CUH

#include "models/ops/cuda/device.cuh"

/* Sizes of a call, worked out once on the host. */
struct attention {
    int n, h, w, c, heads, d; /* d: width of a head */
    int wh, ww, shift_h, shift_w;
    int tokens;          /* of a window */
    int across, windows; /* windows in a row of them, windows of an image */
    int hp, wp;          /* the map padded to whole windows */
    float scale;         /* d^-1/2 */
};

static inline struct attention attention_of(const struct window_attention *a) {
    struct attention g = {};
    g.n = (int)a->n, g.h = (int)a->h, g.w = (int)a->w, g.c = (int)a->c, g.heads = a->heads;
    g.d = g.c / g.heads;
    g.wh = a->wh, g.ww = a->ww, g.shift_h = a->shift_h, g.shift_w = a->shift_w;
    g.tokens = a->wh * a->ww;
    g.across = (g.w + g.ww - 1) / g.ww;
    g.windows = g.across * ((g.h + g.wh - 1) / g.wh);
    g.hp = g.windows / g.across * g.wh, g.wp = g.across * g.ww;
    g.scale = (float)(1.0 / sqrt((double)g.d));
    return g;
}

/* One window of one image, for one head; number: of lse's rows of tokens (images x windows x heads). */
struct attention_item {
    int image, head, top, left, number;
};

__device__ __forceinline__ struct attention_item attention_item_of(const struct attention &g, int number) {
    struct attention_item at;
    at.number = number;
    at.head = number % g.heads;
    const int window = number / g.heads, in_image = window % g.windows;
    at.image = window / g.windows;
    at.top = in_image / g.across * g.wh;
    at.left = in_image % g.across * g.ww;
    return at;
}

/* The token's pixel in the whole batch, before rolling; -1: a padded token. */
__device__ __forceinline__ int64_t token_pixel(const struct attention &g, const struct attention_item &at,
                                               int token) {
    int y = at.top + token / g.ww, x = at.left + token % g.ww;
    if (y >= g.h || x >= g.w) return -1;
    y += g.shift_h, x += g.shift_w; /* rolled: a shift is less than a side */
    y -= y >= g.h ? g.h : 0, x -= x >= g.w ? g.w : 0;
    return ((int64_t)at.image * g.h + y) * g.w + x;
}

/* Which of three regions a position of a rolled, padded axis belongs to. */
__device__ __forceinline__ int axis_region(int i, int n, int window, int shift) {
    if (shift == 0) return 0;
    return i < n - window ? 0 : i < n - shift ? 1 : 2;
}

__device__ __forceinline__ int token_region(const struct attention &g, const struct attention_item &at,
                                            int token) {
    return 3 * axis_region(at.top + token / g.ww, g.hp, g.wh, g.shift_h) +
           axis_region(at.left + token % g.ww, g.wp, g.ww, g.shift_w);
}

/* A token's share of the row of the bias table: row of (query, key) = place(query) - place(key) + middle. */
__device__ __forceinline__ int table_place(const struct attention &g, int token) {
    return token / g.ww * (2 * g.ww - 1) + token % g.ww;
}
__device__ __forceinline__ int table_middle(const struct attention &g) {
    return (g.wh - 1) * (2 * g.ww - 1) + g.ww - 1;
}

/* attention_mma.cu: bf16 on tensor cores, heads of 32 channels, windows of up to 144 tokens. */
bool attention_mma_serves(const struct backend *be, const struct window_attention *a);
size_t attention_mma_scratch(struct backend *be, const struct window_attention *a);
status_t attention_mma_forward(struct backend *be, const struct window_attention *a, void *y);
status_t attention_mma_backward(struct backend *be, const struct window_attention *a,
                                const struct window_attention_grad *g, void *scratch);

#endif
