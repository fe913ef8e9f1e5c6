/* What the two kernels of window attention share: where a window's tokens lie, and what leaves the window.
 * For *.simd.c. */
#ifndef MODELS_OPS_CPU_ATTENTION_WINDOW_H
#define MODELS_OPS_CPU_ATTENTION_WINDOW_H

#include "models/ops/cpu/attention.h"
#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

#include <math.h>

struct window {
    const struct window_attention *a;
    int64_t l, lp, d, dp, tp;     /* tokens, padded; channels of a head, padded; a row of the table, padded */
    int64_t windows_y, windows_x; /* of an image */
    int64_t number, head;         /* number of the window over all images */
    int32_t *offset, *zone;       /* (L) token in the map, -1: padding; (L) region for the mask */
    bool masked;
    float *p, *dp_, *top, *inverse; /* (L keys, padded L queries); each query's maximum, 1 / sum */
};

/* Sizes, and the first pieces of the part's buffer; returns what is left of it. */
static inline float *window_sizes(struct window *w, const struct attention_arguments *args, int32_t part) {
    const struct window_attention *a = args->a;
    float *buffer = args->buffer + part * args->buffer_elem;
    *w = (struct window){.a = a,
                         .l = (int64_t)a->wh * a->ww,
                         .d = a->c / a->heads,
                         .windows_y = (a->h + a->wh - 1) / a->wh,
                         .windows_x = (a->w + a->ww - 1) / a->ww,
                         .number = -1,
                         .tp = attention_table_row(a, VL)};
    w->lp = round_to(w->l, VL);
    w->dp = round_to(w->d, VL);
    w->offset = (int32_t *)buffer;
    w->zone = w->offset + w->lp;
    w->top = buffer + 2 * w->lp;
    w->inverse = w->top + w->lp;
    for (int64_t i = w->l; i < w->lp; i++) w->zone[i] = 0;
    return buffer + ATTENTION_ROWS * w->lp;
}

static inline int32_t zone_of(int64_t pos, int64_t n, int64_t w, int64_t shift) {
    if (shift == 0) return 0;
    return pos < n - w ? 0 : pos < n - shift ? 1 : 2;
}

/* Which head of which window `item` is, and where its tokens lie. */
static inline void window_begin(struct window *w, int64_t item) {
    const struct window_attention *a = w->a;
    w->head = item % a->heads;
    if (w->number == item / a->heads) return; /* the tokens of the item before */
    w->number = item / a->heads;
    int64_t per_image = w->windows_y * w->windows_x, image = w->number / per_image,
            inside = w->number % per_image;
    int64_t y0 = inside / w->windows_x * a->wh, x0 = inside % w->windows_x * a->ww;
    int64_t height = w->windows_y * a->wh, width = w->windows_x * a->ww;
    w->masked = false;
    for (int64_t i = 0, y = y0; y < y0 + a->wh; y++) {
        int32_t zone_y = 3 * zone_of(y, height, a->wh, a->shift_h);
        int64_t sy = y + a->shift_h >= a->h ? y + a->shift_h - a->h : y + a->shift_h;
        for (int64_t x = x0; x < x0 + a->ww; x++, i++) {
            int64_t sx = x + a->shift_w >= a->w ? x + a->shift_w - a->w : x + a->shift_w;
            bool real = y < a->h && x < a->w;
            w->offset[i] = real ? (int32_t)((image * a->h + sy) * a->w + sx) : -1;
            w->zone[i] = zone_y + zone_of(x, width, a->ww, a->shift_w);
            if (w->zone[i] != w->zone[0]) w->masked = true;
        }
    }
}

/* Rows back to their tokens: x[token][column ...] = factor * each[row] * in (NULL: 1); those of padded tokens
 * are added to `padding`. */
static inline void scatter(const struct window *w, void *x, int64_t stride, int64_t column, float *padding,
                           float factor, const float *each, const float *in) {
    for (int64_t i = 0; i < w->l; i++) {
        float f = each ? factor * each[i] : factor;
        for (int64_t c = 0; c < w->dp; c += VL) {
            int64_t n = w->d - c;
            vf v = v_load(in + i * w->dp + c) * f;
            if (w->offset[i] >= 0)
                store_part(x, (int64_t)w->offset[i] * stride + column + c, v, n, w->a->dtype);
            else if (padding)
                store_part(padding, column + c, load_part(padding, column + c, n, DTYPE_F32) + v, n,
                           DTYPE_F32);
        }
    }
}

/* ---- small products: C (m, n vectors) = A B over k words; A by strides, B and C rows of whole vectors ----
 */

INLINE void product_tile(const int rows, const int vectors, int64_t k, const uint32_t *a, int64_t a_row,
                         int64_t a_col, const uint32_t *b, int64_t ldb, float *c, int64_t ldc,
                         const enum dtype type) {
    vf sum[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = v_zero();
    for (int64_t kk = 0; kk < k; kk++) {
        vu b0 = w_load(b + kk * ldb), b1 = vectors > 1 ? w_load(b + kk * ldb + VL) : b0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            uint32_t x = a[r * a_row + kk * a_col];
            sum[r][0] = v_multiply_add(sum[r][0], x, b0, type);
            if (vectors > 1) sum[r][1] = v_multiply_add(sum[r][1], x, b1, type);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) v_store(c + r * ldc + v * VL, sum[r][v]);
}

INLINE void product_as(int64_t m, int64_t n, int64_t k, const uint32_t *a, int64_t a_row, int64_t a_col,
                       const uint32_t *b, int64_t ldb, float *c, int64_t ldc, const enum dtype type) {
    for (int64_t j = 0; j < n; j += 2 * VL) {
        bool two = j + VL < n;
        int64_t i = 0;
#define TILE(R)                                                                                              \
    for (; i + (R) <= m; i += (R)) {                                                                         \
        if (two)                                                                                             \
            product_tile(R, 2, k, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc, type);      \
        else                                                                                                 \
            product_tile(R, 1, k, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc, type);      \
    }
        if (m % 8 != 0 && m % 7 == 0) TILE(7) /* 49 tokens */
        TILE(8)
        TILE(4)
        TILE(1)
#undef TILE
    }
}

/* ---- softmax over the keys, which lie in rows: every lane is a query of its own ---- */

/* Logits of key i and queries [j, j + VL): scale * p + position bias + mask. */
INLINE vf logits_of(const struct window *w, const float *bias, float scale, const bool masked, int64_t i,
                    int64_t j) {
    vf v = v_load(w->p + i * w->lp + j) * scale + v_load(bias + i * w->lp + j);
    if (masked) {
        vi zone;
        memcpy(&zone, w->zone + j, sizeof zone);
        v -= (vf)((vi)v_set(100.0f) & (zone != w->zone[i]));
    }
    return v;
}

/* The words (low, high) of two vectors rounded to bf16. */
INLINE vu v_pair(vf low, vf high) {
    return __builtin_convertvector(v_to_bf16(low), vu) | __builtin_convertvector(v_to_bf16(high), vu) << 16;
}

/* p = exp(logits - top), in place or in bf16 as the words `pairs` of two keys; top and inverse of queries
 * [j, j + VL). */
INLINE void softmax_lanes(const struct window *w, const float *bias, float scale, uint32_t *pairs,
                          const bool masked, int64_t j, const enum dtype type) {
    vf top = v_set(-1e30f), total = v_zero();
    for (int64_t i = 0; i < w->l; i++) top = v_max(top, logits_of(w, bias, scale, masked, i, j));
    for (int64_t i = 0; i < w->l; i += 2) {
        bool two = i + 1 < w->l;
        vf e0 = v_exp(logits_of(w, bias, scale, masked, i, j) - top);
        vf e1 = two ? v_exp(logits_of(w, bias, scale, masked, i + 1, j) - top) : v_zero();
        total += e0 + e1;
        if (type == DTYPE_BF16) {
            w_store(pairs + i / 2 * w->lp + j, v_pair(e0, e1));
            continue;
        }
        v_store(w->p + i * w->lp + j, e0);
        if (two) v_store(w->p + (i + 1) * w->lp + j, e1);
    }
    v_store(w->top + j, top);
    v_store(w->inverse + j, v_set(1) / total);
}

/* All queries; log-sum-exps to lse (L) where it is not NULL. */
INLINE void softmax_as(const struct window *w, const float *bias, float scale, uint32_t *pairs, float *lse,
                       const enum dtype type) {
    for (int64_t j = 0; j < w->lp; j += VL) {
        if (w->masked)
            softmax_lanes(w, bias, scale, pairs, true, j, type);
        else
            softmax_lanes(w, bias, scale, pairs, false, j, type);
    }
    for (int64_t i = 0; lse && i < w->l; i++) lse[i] = w->top[i] - logf(w->inverse[i]);
}

/* p = exp(logits - lse) in place; returns <dO, O> = sum p dp of each query. */
INLINE vf probabilities_lanes(const struct window *w, const float *bias, float scale, const float *lse,
                              const bool masked, int64_t j) {
    const vf shift = load_part(lse, j, w->l - j, DTYPE_F32);
    vf dot0 = v_zero(), dot1 = v_zero();
    int64_t i = 0;
    for (; i + 2 <= w->l; i += 2) {
        int64_t at0 = i * w->lp + j, at1 = at0 + w->lp;
        vf p0 = v_exp(logits_of(w, bias, scale, masked, i, j) - shift),
           p1 = v_exp(logits_of(w, bias, scale, masked, i + 1, j) - shift);
        v_store(w->p + at0, p0);
        v_store(w->p + at1, p1);
        dot0 += p0 * v_load(w->dp_ + at0);
        dot1 += p1 * v_load(w->dp_ + at1);
    }
    if (i < w->l) {
        vf p = v_exp(logits_of(w, bias, scale, masked, i, j) - shift);
        v_store(w->p + i * w->lp + j, p);
        dot0 += p * v_load(w->dp_ + i * w->lp + j);
    }
    return dot0 + dot1;
}

INLINE vf probabilities_as(const struct window *w, const float *bias, float scale, const float *lse,
                           int64_t j) {
    return w->masked ? probabilities_lanes(w, bias, scale, lse, true, j)
                     : probabilities_lanes(w, bias, scale, lse, false, j);
}

/* Where a part adds up what belongs to no token; zeroed in its first call. */
struct attention_sums {
    float *tables;  /* (heads, 2wh-1, padded 2ww-1) */
    float *padding; /* (3C), NULL: none */
};

static inline struct attention_sums attention_sums(const struct attention_arguments *args, int32_t *part) {
    const struct window_attention *a = args->a;
    const int64_t table_elem = a->heads * (2 * (int64_t)a->wh - 1) * attention_table_row(a, VL);
    const bool goes_on = part_goes_on(part);
    const struct attention_sums s = {args->dtable + *part * table_elem,
                                     args->dqkv_bias ? args->dqkv_bias + *part * 3 * a->c : NULL};
    if (!goes_on) memset(s.tables, 0, (size_t)table_elem * sizeof *s.tables);
    if (s.padding && !goes_on) memset(s.padding, 0, (size_t)(3 * a->c) * sizeof *s.padding);
    return s;
}

/* The head's table of `tables` (heads, 2wh-1, padded 2ww-1) += ds (L keys, padded L queries): query and key
 * meet in row yi-yj+wh-1, column xi-xj+ww-1. */
static inline void table_grad(const struct window *w, const float *ds, float *tables) {
    const int64_t wh = w->a->wh, ww = w->a->ww;
    float *table = tables + w->head * (2 * wh - 1) * w->tp;
    for (int64_t yj = 0; yj < wh; yj++) {
        for (int64_t yi = 0; yi < wh; yi++) {
            float *row = table + (yi - yj + wh - 1) * w->tp;
            const float *in = ds + yj * ww * w->lp + yi * ww;
#if defined(__AVX512F__)
            for (int64_t c = 0; c < w->tp; c += VL) {
                vf sum = v_load(row + c);
                for (int64_t xj = 0; xj < ww; xj++) { /* its queries belong into lanes from ww-1-xj on */
                    const int64_t first = ww - 1 - xj - c;
                    if (first >= VL || first + ww <= 0) continue;
                    const uint32_t below = first > 0 ? (1u << first) - 1 : 0,
                                   up_to = first + ww < VL ? (1u << (first + ww)) - 1 : 0xffff;
                    sum += (vf)_mm512_maskz_loadu_ps((__mmask16)(up_to & ~below), in + xj * w->lp - first);
                }
                v_store(row + c, sum);
            }
#else
            for (int64_t xj = 0; xj < ww; xj++)
                for (int64_t xi = 0; xi < ww; xi++) row[xi - xj + ww - 1] += in[xj * w->lp + xi];
#endif
        }
    }
}

#if VL == 16
/* Rows of 16 words turned into columns: element (r, c) of `in`, rows of `in_row` words, becomes (c, r) of
 * `out`. Rows from n_rows and columns from n_columns on count as zeros. */
INLINE void transpose_words(const uint32_t *in, int64_t in_row, int64_t n_rows, const int64_t n_columns,
                            uint32_t *out, int64_t out_row) {
    __m512i row[16];
    const __mmask16 inside = n_columns >= 16 ? 0xffff : (__mmask16)((1u << n_columns) - 1);
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++)
        row[r] = r < n_rows ? _mm512_maskz_loadu_epi32(inside, in + r * in_row) : _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int s = 8; s > 0; s /= 2) { /* swap what lies off the diagonal of every square of 2s */
        const __mmask16 upper = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(s));
        const __m512i low = _mm512_mask_add_epi32(lane, upper, lane, _mm512_set1_epi32(16 - s));
        const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(s));
#pragma GCC unroll 16
        for (int r = 0; r < 16; r++) {
            if (r & s) continue;
            __m512i a = row[r], b = row[r + s];
            row[r] = _mm512_permutex2var_epi32(a, low, b);
            row[r + s] = _mm512_permutex2var_epi32(a, high, b);
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < 16; c++) _mm512_storeu_si512(out + c * out_row, row[c]);
}

static inline void transpose_16(const uint32_t *in, int64_t in_row, int64_t n_rows, uint32_t *out,
                                int64_t out_row) {
    transpose_words(in, in_row, n_rows, 16, out, out_row);
}
#endif

#endif
