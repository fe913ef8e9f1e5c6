/* Window attention in bf16 with the processor's products of pairs: c += a[0] b[0] + a[1] b[1] in fp32. A pair
 * is a 32-bit word. Left factors have pairs along their rows; right factors have the word of two neighbouring
 * rows in each column
 * ("paired"). Probabilities and their gradients are rounded to bf16 for the products, everything else is
 * fp32. */
#include "models/ops/cpu/attention_window.h"

#include <math.h>

typedef int nothing_for_other_sets;

#if defined(__AVX512BF16__)

INLINE vf v_dot_pairs(vf sum, vu a, vu b) {
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

INLINE vu w_load(const uint32_t *p) {
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void w_store(uint32_t *p, vu v) {
    memcpy(p, &v, sizeof v);
}

/* The words (low, high) of two vectors rounded to bf16. */
INLINE vu v_pair(vf low, vf high) {
    return __builtin_convertvector(v_to_bf16(low), vu) | __builtin_convertvector(v_to_bf16(high), vu) << 16;
}

/* ---- small products: C (m, n vectors) = A B over k pairs ---- */

INLINE void product_tile(const int rows, const int vectors, int64_t k, const uint32_t *a, int64_t a_row,
                         int64_t a_col, const uint32_t *b, int64_t ldb, float *c, int64_t ldc) {
    vf sum[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = v_zero();
    for (int64_t kk = 0; kk < k; kk++) {
        vu b0 = w_load(b + kk * ldb), b1 = vectors > 1 ? w_load(b + kk * ldb + VL) : b0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vu x = a[r * a_row + kk * a_col] - (vu){0};
            sum[r][0] = v_dot_pairs(sum[r][0], x, b0);
            if (vectors > 1) sum[r][1] = v_dot_pairs(sum[r][1], x, b1);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) v_store(c + r * ldc + v * VL, sum[r][v]);
}

static void product(int64_t m, int64_t n, int64_t k, const uint32_t *a, int64_t a_row, int64_t a_col,
                    const uint32_t *b, int64_t ldb, float *c, int64_t ldc) {
    for (int64_t j = 0; j < n; j += 2 * VL) {
        bool two = j + VL < n;
        int64_t i = 0;
#define TILE(R)                                                                                              \
    for (; i + (R) <= m; i += (R)) {                                                                         \
        if (two)                                                                                             \
            product_tile(R, 2, k, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc);            \
        else                                                                                                 \
            product_tile(R, 1, k, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc);            \
    }
        if (m % 8 != 0 && m % 7 == 0) TILE(7) /* 49 tokens */
        TILE(8)
        TILE(4)
        TILE(1)
#undef TILE
    }
}

/* ---- one head of one window ---- */

struct bf16_window {
    struct window w; /* its fp32 matrices are not used but p, dp_ and ds (sum over the windows) */
    int64_t half;    /* pairs of tokens; the last one's second token may be a row of zeros */
    uint32_t *q, *k, *v, *o, *d_o;                        /* (2 half, padded d) bf16 */
    uint32_t *kt, *vt;                                    /* (padded d / 2, padded L) words: turned */
    uint32_t *q_paired, *k_paired, *v_paired, *do_paired; /* (half, padded d) words */
    uint32_t *p, *ds, *ds_paired;                         /* (2 half, padded L) bf16; backward: p is paired */
    float *out, *sum;                                     /* (L, padded d), (L) */
};

/* Channels [column, column + d) of the window's rows of x, zeros behind d and L. */
static void gather(const struct bf16_window *b, const void *x, int64_t stride, int64_t column,
                   const float *instead, uint32_t *out) {
    const struct window *w = &b->w;
    for (int64_t i = 0; i < 2 * b->half; i++) {
        for (int64_t c = 0; c < w->dp; c += VL) {
            int64_t n = w->d - c;
            vf v = v_zero();
            if (i < w->l && w->offset[i] >= 0)
                v = load_part(x, (int64_t)w->offset[i] * stride + column + c, n, DTYPE_BF16);
            else if (i < w->l && instead)
                v = load_part(instead, column + c, n, DTYPE_F32);
            store_as(out, i * w->dp + c, v, DTYPE_BF16);
        }
    }
}

/* Pairs of tokens side by side: out (half, padded d) words of in (2 half, padded d) bf16. */
static void pair_rows(const struct bf16_window *b, const uint32_t *in, uint32_t *out) {
    const uint16_t *rows = (const uint16_t *)in;
    for (int64_t h = 0; h < b->half; h++) {
        for (int64_t c = 0; c < b->w.dp; c += VL) {
            vh low, high;
            memcpy(&low, rows + 2 * h * b->w.dp + c, sizeof low);
            memcpy(&high, rows + (2 * h + 1) * b->w.dp + c, sizeof high);
            w_store(out + h * b->w.dp + c,
                    __builtin_convertvector(low, vu) | __builtin_convertvector(high, vu) << 16);
        }
    }
}

/* Pairs of channels by token: out (padded d / 2, padded L) words of in (2 half, padded d) bf16. */
static void turn(const struct bf16_window *b, const uint32_t *in, uint32_t *out) {
    int64_t width = b->w.dp / 2;
    uint32_t block[VL * VL];
    for (int64_t c = 0; c < width; c += VL) {
        for (int64_t i = 0; i < b->w.lp; i += VL) {
            if (width - c >= VL) {
                transpose_16(in + i * width + c, width, b->w.l - i, out + c * b->w.lp + i, b->w.lp);
                continue;
            }
            transpose_words(in + i * width + c, width, b->w.l - i, width - c, block, VL);
            for (int64_t r = 0; r < width - c; r++)
                memcpy(out + (c + r) * b->w.lp + i, block + r * VL, VL * 4);
        }
    }
}

static void window_start(struct bf16_window *b, const struct attention_arguments *args, int32_t part) {
    const struct window_attention *a = args->a;
    float *at_ = args->buffer + part * args->buffer_elem;
    struct window *w = &b->w;
    w->a = a;
    w->l = (int64_t)a->wh * a->ww;
    w->d = a->c / a->heads;
    w->lp = round_to(w->l, VL);
    w->dp = round_to(w->d, VL);
    b->half = (w->l + 1) / 2;
    int64_t pairs = b->half * w->dp, pairs_l = b->half * w->lp, turned = w->dp / 2 * w->lp, ll = w->l * w->lp;
#define TAKE(type, n_words) (type *)at_, at_ += (n_words)
    w->offset = TAKE(int32_t, w->lp);
    w->zone = TAKE(int32_t, w->lp);
    b->sum = TAKE(float, w->lp);
    b->q = TAKE(uint32_t, pairs);
    b->k = TAKE(uint32_t, pairs);
    b->v = TAKE(uint32_t, pairs);
    b->v_paired = TAKE(uint32_t, pairs);
    b->kt = TAKE(uint32_t, turned);
    w->p = TAKE(float, ll);
    b->p = TAKE(uint32_t, pairs_l);
    b->out = TAKE(float, w->l * w->dp);
    for (int64_t i = 0; i < w->lp; i++) w->zone[i] = 0;
    if (!args->g) return;
    b->k_paired = b->v_paired; /* v is needed turned instead */
    b->q_paired = TAKE(uint32_t, pairs);
    b->do_paired = TAKE(uint32_t, pairs);
    b->o = TAKE(uint32_t, pairs);
    b->d_o = TAKE(uint32_t, pairs);
    b->vt = TAKE(uint32_t, turned);
    w->dp_ = TAKE(float, ll);
    w->ds = TAKE(float, ll);
    b->ds = TAKE(uint32_t, pairs_l);
    b->ds_paired = TAKE(uint32_t, pairs_l);
#undef TAKE
}

static void window_gather(struct bf16_window *b, int64_t item, int64_t windows_y, int64_t windows_x) {
    const struct window_attention *a = b->w.a;
    int64_t all = a->n * windows_y * windows_x, column = item / all * b->w.d;
    b->w.head = item / all;
    b->w.number = item % all;
    window_offsets(&b->w, windows_y, windows_x);
    gather(b, a->qkv, 3 * a->c, column, a->qkv_bias, b->q);
    gather(b, a->qkv, 3 * a->c, a->c + column, a->qkv_bias, b->k);
    gather(b, a->qkv, 3 * a->c, 2 * a->c + column, a->qkv_bias, b->v);
    turn(b, b->k, b->kt);
    window_prefetch(&b->w, b->w.number + 1, windows_y, windows_x, a->qkv, 3 * a->c, column);
    product(b->w.l, b->w.lp, b->w.dp / 2, b->q, b->w.dp / 2, 1, b->kt, b->w.lp, b->w.p, b->w.lp);
}

/* p = softmax without the division, rounded; its rows' sums and log-sum-exps in fp32. */
static void softmax_rows(const struct bf16_window *b, const float *bias, float *lse) {
    const struct window *w = &b->w;
    float scale = 1.0f / sqrtf((float)w->d);
    for (int64_t i = 0; i < w->l; i++) {
        float *row = w->p + i * w->lp;
        float top = v_highest(finish_logits(w, i, bias, scale, row));
        vf total = v_zero();
        for (int64_t j = 0; j < w->lp; j += VL) {
            vf e = v_exp(v_load(row + j) - top);
            store_as(b->p, i * w->lp + j, e, DTYPE_BF16);
            total += e;
        }
        b->sum[i] = v_sum(total);
        if (lse) lse[i] = top + logf(b->sum[i]);
    }
}

void SIMD_NAME(kernel_attention_bf16)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct attention_arguments *args = arguments;
    const struct window_attention *a = args->a;
    int64_t windows_y = (a->h + a->wh - 1) / a->wh, windows_x = (a->w + a->ww - 1) / a->ww;
    struct bf16_window b;
    part_goes_on(&part);
    window_start(&b, args, part);
    struct window *w = &b.w;
    for (int64_t item = begin; item < end; item++) {
        window_gather(&b, item, windows_y, windows_x);
        pair_rows(&b, b.v, b.v_paired);
        window_prefetch(w, w->number + 1, windows_y, windows_x, a->qkv, 3 * a->c, a->c + w->head * w->d);
        softmax_rows(&b, args->bias + w->head * w->l * w->lp,
                     a->lse ? a->lse + (w->number * a->heads + w->head) * w->l : NULL);
        window_prefetch(w, w->number + 1, windows_y, windows_x, a->qkv, 3 * a->c, 2 * a->c + w->head * w->d);
        product(w->l, w->dp, b.half, b.p, w->lp / 2, 1, b.v_paired, w->dp, b.out, w->dp);
        for (int64_t i = 0; i < w->l; i++) {
            float inverse = 1.0f / b.sum[i];
            for (int64_t c = 0; c < w->dp; c += VL)
                v_store(b.out + i * w->dp + c, v_load(b.out + i * w->dp + c) * inverse);
        }
        scatter(w, args->y, a->c, w->head * w->d, NULL, 1.0f, b.out);
    }
}

/* p = exp(logits - lse); ds = p * (dp - <dO, O>), two queries at a time; w->ds sums ds over the windows. */
static void softmax_grad(const struct bf16_window *b, const float *bias, const float *lse) {
    const struct window *w = &b->w;
    float scale = 1.0f / sqrtf((float)w->d);
    for (int64_t h = 0; h < b->half; h++) {
        int64_t n_rows = w->l - 2 * h < 2 ? 1 : 2;
        for (int64_t r = 0; r < n_rows; r++)
            finish_logits(w, 2 * h + r, bias, scale, w->p + (2 * h + r) * w->lp);
        for (int64_t j = 0; j < w->lp; j += VL) {
            vf p[2] = {v_zero(), v_zero()}, ds[2] = {v_zero(), v_zero()};
            for (int64_t r = 0; r < n_rows; r++) {
                int64_t i = 2 * h + r, at_ = i * w->lp + j;
                p[r] = v_exp(v_load(w->p + at_) - lse[i]);
                ds[r] = p[r] * (v_load(w->dp_ + at_) - b->sum[i]);
                store_as(b->ds, at_, ds[r], DTYPE_BF16);
                v_store(w->ds + at_, v_load(w->ds + at_) + ds[r]);
            }
            w_store(b->p + h * w->lp + j, v_pair(p[0], p[1]));
            w_store(b->ds_paired + h * w->lp + j, v_pair(ds[0], ds[1]));
        }
    }
}

/* sum (L) = <dO, O> of every token. */
static void output_dots(const struct bf16_window *b) {
    int64_t width = b->w.dp / 2;
    for (int64_t i = 0; i < b->w.l; i++) {
        vf dot = v_zero();
        for (int64_t c = 0; c < width; c += VL) {
            __mmask16 m = width - c >= VL ? 0xffff : (__mmask16)((1u << (width - c)) - 1);
            dot = v_dot_pairs(dot, (vu)_mm512_maskz_loadu_epi32(m, b->o + i * width + c),
                              (vu)_mm512_maskz_loadu_epi32(m, b->d_o + i * width + c));
        }
        b->sum[i] = v_sum(dot);
    }
}

static void window_grad(struct bf16_window *b, const struct attention_arguments *args, int64_t windows_y,
                        int64_t windows_x, float *padding) {
    const struct window_attention *a = args->a;
    const struct window_attention_grad *g = args->g;
    struct window *w = &b->w;
    int64_t column = w->head * w->d, lp = w->lp, dp = w->dp;
    float scale = 1.0f / sqrtf((float)w->d);
    gather(b, args->y, a->c, column, NULL, b->o);
    gather(b, g->dy, a->c, column, NULL, b->d_o);
    output_dots(b);
    pair_rows(b, b->q, b->q_paired);
    pair_rows(b, b->k, b->k_paired);
    pair_rows(b, b->d_o, b->do_paired);
    turn(b, b->v, b->vt);
    window_prefetch(w, w->number + 1, windows_y, windows_x, a->qkv, 3 * a->c, a->c + column);
    product(w->l, lp, dp / 2, b->d_o, dp / 2, 1, b->vt, lp, w->dp_, lp);
    window_prefetch(w, w->number + 1, windows_y, windows_x, a->qkv, 3 * a->c, 2 * a->c + column);
    softmax_grad(b, args->bias + w->head * w->l * lp, a->lse + (w->number * a->heads + w->head) * w->l);
    product(w->l, dp, b->half, b->ds, lp / 2, 1, b->k_paired, dp, b->out, dp);
    scatter(w, g->dqkv, 3 * a->c, column, padding, scale, b->out);
    window_prefetch(w, w->number + 1, windows_y, windows_x, args->y, a->c, column);
    product(w->l, dp, b->half, b->ds_paired, 1, lp, b->q_paired, dp, b->out, dp);
    scatter(w, g->dqkv, 3 * a->c, a->c + column, padding, scale, b->out);
    window_prefetch(w, w->number + 1, windows_y, windows_x, g->dy, a->c, column);
    product(w->l, dp, b->half, b->p, 1, lp, b->do_paired, dp, b->out, dp);
    scatter(w, g->dqkv, 3 * a->c, 2 * a->c + column, padding, 1.0f, b->out);
}

void SIMD_NAME(kernel_attention_bf16_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct attention_arguments *args = arguments;
    const struct window_attention *a = args->a;
    int64_t windows_y = (a->h + a->wh - 1) / a->wh, windows_x = (a->w + a->ww - 1) / a->ww;
    int64_t all = a->n * windows_y * windows_x,
            table_elem = (int64_t)(2 * a->wh - 1) * (2 * a->ww - 1) * a->heads;
    bool goes_on = part_goes_on(&part);
    float *padding = args->dqkv_bias ? args->dqkv_bias + part * 3 * a->c : NULL;
    float *dtable = args->dtable + part * table_elem;
    if (!goes_on) memset(dtable, 0, (size_t)table_elem * sizeof *dtable);
    if (padding && !goes_on) memset(padding, 0, (size_t)(3 * a->c) * sizeof *padding);
    struct bf16_window b;
    window_start(&b, args, part);
    for (int64_t item = begin; item < end;) {
        int64_t stop = (item / all + 1) * all < end ? (item / all + 1) * all : end; /* of this head */
        memset(b.w.ds, 0, (size_t)(b.w.l * b.w.lp) * sizeof *b.w.ds);
        for (; item < stop; item++) {
            window_gather(&b, item, windows_y, windows_x);
            window_grad(&b, args, windows_y, windows_x, padding);
        }
        table_grad(&b.w, b.w.ds, dtable);
    }
}

#endif
