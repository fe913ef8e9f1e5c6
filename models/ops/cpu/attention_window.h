/* What the two kernels of window attention share: where a window's tokens lie, and what leaves the window.
 * For *.simd.c. */
#ifndef MODELS_OPS_CPU_ATTENTION_WINDOW_H
#define MODELS_OPS_CPU_ATTENTION_WINDOW_H

#include "models/ops/cpu/attention.h"
#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

struct window {
    const struct window_attention *a;
    int64_t l, lp, d, dp;   /* tokens, padded; channels of a head, padded */
    int64_t head, number;   /* number of the window over all images */
    int32_t *offset, *zone; /* (L) token in the map, -1: padding; (L) region for the mask */
    bool masked;
    float *q, *k, *v, *kt, *p;
    float *d_o, *vt, *ds, *dp_, *dq, *dk, *dv; /* backward */
};

static inline int32_t zone_of(int64_t pos, int64_t n, int64_t w, int64_t shift) {
    if (shift == 0) return 0;
    return pos < n - w ? 0 : pos < n - shift ? 1 : 2;
}

static inline void window_offsets(struct window *w, int64_t windows_y, int64_t windows_x) {
    const struct window_attention *a = w->a;
    int64_t per_image = windows_y * windows_x, image = w->number / per_image, inside = w->number % per_image;
    int64_t y0 = inside / windows_x * a->wh, x0 = inside % windows_x * a->ww;
    int64_t height = windows_y * a->wh, width = windows_x * a->ww;
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

/* Ask for the rows of x, channels [column, column + d), that window `number` will gather: no hardware
 * prefetcher guesses them. Meant to be called between the products of the window in front. */
static inline void window_prefetch(const struct window *w, int64_t number, int64_t windows_y,
                                   int64_t windows_x, const void *x, int64_t stride, int64_t column) {
    const struct window_attention *a = w->a;
    int64_t image = number / (windows_y * windows_x), inside = number % (windows_y * windows_x);
    if (image >= a->n) return;
    int64_t y0 = inside / windows_x * a->wh, x0 = inside % windows_x * a->ww;
    int64_t row_bytes = w->d * (int64_t)dtype_bytes(a->dtype);
    for (int64_t y = y0; y < y0 + a->wh && y < a->h; y++) {
        int64_t sy = y + a->shift_h >= a->h ? y + a->shift_h - a->h : y + a->shift_h;
        for (int64_t at_x = x0; at_x < x0 + a->ww && at_x < a->w; at_x++) {
            int64_t sx = at_x + a->shift_w >= a->w ? at_x + a->shift_w - a->w : at_x + a->shift_w;
            const char *row = at(x, ((image * a->h + sy) * a->w + sx) * stride + column, a->dtype);
            for (int64_t i = 0; i < row_bytes; i += 64) __builtin_prefetch(row + i, 0, 3);
        }
    }
}

/* Rows back to their tokens: x[token][column ...] = factor * in; those of padded tokens are added to
 * `padding`. */
static inline void scatter(const struct window *w, void *x, int64_t stride, int64_t column, float *padding,
                           float factor, const float *in) {
    for (int64_t i = 0; i < w->l; i++) {
        for (int64_t c = 0; c < w->dp; c += VL) {
            int64_t n = w->d - c;
            vf v = v_load(in + i * w->dp + c) * factor;
            if (w->offset[i] >= 0)
                store_part(x, (int64_t)w->offset[i] * stride + column + c, v, n, w->a->dtype);
            else if (padding)
                store_part(padding, column + c, load_part(padding, column + c, n, DTYPE_F32) + v, n,
                           DTYPE_F32);
        }
    }
}

/* row (padded L) = scale * row + position bias + mask of query i, -1e30 behind L; returns the highest. */
INLINE vf finish_logits(const struct window *w, int64_t i, const float *bias, float scale, float *row) {
    vf highest = v_set(-1e30f);
    for (int64_t j = 0; j < w->lp; j += VL) {
        vf v = v_load(row + j) * scale + v_load(bias + i * w->lp + j);
        if (w->masked) {
            vi zone;
            memcpy(&zone, w->zone + j, sizeof zone);
            v -= (vf)((vi)v_set(100.0f) & (zone != w->zone[i]));
        }
        v_store(row + j, v);
        highest = v_max(highest, v);
    }
    return highest;
}

/* dtable (rows, heads) += ds of this head: query i and key j meet in row (yi-yj+wh-1)(2ww-1) + xi-xj+ww-1. */
static inline void table_grad(const struct window *w, const float *ds_sum, float *dtable) {
    int64_t wh = w->a->wh, ww = w->a->ww;
    for (int64_t i = 0; i < w->l; i++) {
        for (int64_t j = 0; j < w->l; j++) {
            int64_t row = (i / ww - j / ww + wh - 1) * (2 * ww - 1) + i % ww - j % ww + ww - 1;
            dtable[row * w->a->heads + w->head] += ds_sum[i * w->lp + j];
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
