/* Window attention of one head in one window at a time. The window's rows of q, k and v are gathered into
 * small fp32 matrices that stay in the first two caches; shift, split and padding are in the table of
 * offsets. Where the processor multiplies bf16, attention_bf16.simd.c serves that type. */
#include "models/ops/cpu/attention_window.h"

#include <math.h>

/* ---- small products: C (m, n vectors) = A B, A by strides, B and C rows of whole vectors ---- */

INLINE void product_tile(const int rows, const int vectors, int64_t k, const float *a, int64_t a_row,
                         int64_t a_col, const float *b, int64_t ldb, float *c, int64_t ldc) {
    vf sum[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = v_zero();
    for (int64_t kk = 0; kk < k; kk++) {
        vf b0 = v_load(b + kk * ldb), b1 = vectors > 1 ? v_load(b + kk * ldb + VL) : b0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf x = v_set(a[r * a_row + kk * a_col]);
            sum[r][0] += x * b0;
            if (vectors > 1) sum[r][1] += x * b1;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) v_store(c + r * ldc + v * VL, sum[r][v]);
}

static void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col,
                    const float *b, int64_t ldb, float *c, int64_t ldc) {
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

/* ---- gathering ---- */

/* (L, padded d) = factor * channels [column, column + d) of the window's rows of x (rows of `stride`); padded
 * tokens are taken from `instead`. */
INLINE void gather_as(const struct window *w, const void *x, int64_t stride, int64_t column,
                      const float *instead, float factor, float *out, const enum dtype type) {
    for (int64_t i = 0; i < w->l; i++) {
        for (int64_t c = 0; c < w->dp; c += VL) {
            int64_t n = w->d - c;
            vf v = w->offset[i] < 0 ? (instead ? load_part(instead, column + c, n, DTYPE_F32) : v_zero())
                                    : load_part(x, (int64_t)w->offset[i] * stride + column + c, n, type);
            v_store(out + i * w->dp + c, v * factor);
        }
    }
}

static void gather(const struct window *w, const void *x, int64_t stride, int64_t column,
                   const float *instead, float factor, float *out) {
    if (w->a->dtype == DTYPE_F32)
        gather_as(w, x, stride, column, instead, factor, out, DTYPE_F32);
    else
        gather_as(w, x, stride, column, instead, factor, out, DTYPE_BF16);
}

/* out (d, padded L) = in (L, padded d) transposed, zeros behind L. */
static void transpose(const struct window *w, const float *in, float *out) {
#if VL == 16
    for (int64_t c = 0; c < w->dp; c += VL)
        for (int64_t i = 0; i < w->lp; i += VL)
            transpose_16((const uint32_t *)in + i * w->dp + c, w->dp, w->l - i,
                         (uint32_t *)out + c * w->lp + i, w->lp);
#else
    for (int64_t c = 0; c < w->d; c++) {
        for (int64_t i = 0; i < w->l; i++) out[c * w->lp + i] = in[i * w->dp + c];
        for (int64_t i = w->l; i < w->lp; i++) out[c * w->lp + i] = 0;
    }
#endif
}

/* p (L, padded L) = q k^T, without bias and mask. */
static void logits(const struct window *w) {
    product(w->l, w->lp, w->d, w->q, w->dp, 1, w->kt, w->lp, w->p, w->lp);
}

/* p = softmax of p + bias + mask without the division: returns each row's sum in `sum` and its log-sum-exp.
 */
static void softmax_rows(const struct window *w, const float *bias, float *sum, float *lse) {
    for (int64_t i = 0; i < w->l; i++) {
        float *row = w->p + i * w->lp;
        float top = v_highest(finish_logits(w, i, bias, 1.0f, row));
        vf total = v_zero();
        for (int64_t j = 0; j < w->lp; j += VL) {
            vf e = v_exp(v_load(row + j) - top);
            v_store(row + j, e);
            total += e;
        }
        sum[i] = v_sum(total);
        if (lse) lse[i] = top + logf(sum[i]);
    }
}

/* Hand out this part's buffer; the head's and window's numbers from the item. */
static void window_start(struct window *w, const struct attention_arguments *args, int32_t part) {
    const struct window_attention *a = args->a;
    float *at_ = args->buffer + part * args->buffer_elem;
    w->a = a;
    w->l = (int64_t)a->wh * a->ww;
    w->d = a->c / a->heads;
    w->lp = round_to(w->l, VL);
    w->dp = round_to(w->d, VL);
    int64_t ld = w->l * w->dp, dl = w->dp * w->lp, ll = w->l * w->lp;
    w->offset = (int32_t *)at_, at_ += w->lp;
    w->zone = (int32_t *)at_, at_ += w->lp;
    for (int64_t i = w->l; i < w->lp; i++) w->zone[i] = 0;
    w->q = at_, at_ += ld;
    w->k = at_, at_ += ld;
    w->v = at_, at_ += ld;
    w->kt = at_, at_ += dl;
    w->p = at_, at_ += ll;
    if (!args->g) return;
    w->d_o = at_, at_ += ld;
    w->dq = at_, at_ += ld;
    w->dk = at_, at_ += ld;
    w->dv = at_, at_ += ld;
    w->vt = at_, at_ += dl;
    w->dp_ = at_, at_ += ll;
    w->ds = at_, at_ += ll;
}

static void window_gather(struct window *w, int64_t item, int64_t windows_y, int64_t windows_x,
                          const void *qkv) {
    const struct window_attention *a = w->a;
    int64_t all = a->n * windows_y * windows_x, column = item / all * w->d;
    w->head = item / all;
    w->number = item % all;
    window_offsets(w, windows_y, windows_x);
    gather(w, qkv, 3 * a->c, column, a->qkv_bias, 1.0f / sqrtf((float)w->d), w->q);
    gather(w, qkv, 3 * a->c, a->c + column, a->qkv_bias, 1.0f, w->k);
    gather(w, qkv, 3 * a->c, 2 * a->c + column, a->qkv_bias, 1.0f, w->v);
    transpose(w, w->k, w->kt);
    window_prefetch(w, w->number + 1, windows_y, windows_x, qkv, 3 * a->c, column);
}

void SIMD_NAME(kernel_attention)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct attention_arguments *args = arguments;
    const struct window_attention *a = args->a;
#if defined(__AVX512BF16__)
    if (a->dtype == DTYPE_BF16) {
        SIMD_NAME(kernel_attention_bf16)(arguments, begin, end, part);
        return;
    }
#endif
    int64_t windows_y = (a->h + a->wh - 1) / a->wh, windows_x = (a->w + a->ww - 1) / a->ww;
    struct window w;
    part_goes_on(&part);
    window_start(&w, args, part);
    for (int64_t item = begin; item < end; item++) {
        window_gather(&w, item, windows_y, windows_x, a->qkv);
        logits(&w);
        window_prefetch(&w, w.number + 1, windows_y, windows_x, a->qkv, 3 * a->c, a->c + w.head * w.d);
        float *sum = w.kt; /* free now; d >= 1 rows of padded L */
        softmax_rows(&w, args->bias + w.head * w.l * w.lp, sum,
                     a->lse ? a->lse + (w.number * a->heads + w.head) * w.l : NULL);
        window_prefetch(&w, w.number + 1, windows_y, windows_x, a->qkv, 3 * a->c, 2 * a->c + w.head * w.d);
        product(w.l, w.dp, w.l, w.p, w.lp, 1, w.v, w.dp, w.q, w.dp);
        for (int64_t i = 0; i < w.l; i++) {
            float inverse = 1.0f / sum[i];
            for (int64_t c = 0; c < w.dp; c += VL)
                v_store(w.q + i * w.dp + c, v_load(w.q + i * w.dp + c) * inverse);
        }
        scatter(&w, args->y, a->c, w.head * w.d, NULL, 1.0f, w.q);
    }
}

/* p = exp(logits - lse); ds = p * (dp - <dO, O>). */
static void softmax_grad(const struct window *w, const float *bias, const float *lse, const float *dots) {
    for (int64_t i = 0; i < w->l; i++) {
        float *row = w->p + i * w->lp, *ds = w->ds + i * w->lp;
        const float *dp = w->dp_ + i * w->lp;
        finish_logits(w, i, bias, 1.0f, row);
        for (int64_t j = 0; j < w->lp; j += VL) {
            vf p = v_exp(v_load(row + j) - lse[i]);
            v_store(row + j, p);
            v_store(ds + j, p * (v_load(dp + j) - dots[i]));
        }
    }
}

/* One window's backward: ds is left in w->ds. */
static void window_grad(struct window *w, const struct attention_arguments *args, const float *bias,
                        int64_t windows_y, int64_t windows_x, float *padding) {
    const struct window_attention *a = w->a;
    const struct window_attention_grad *g = args->g;
    int64_t column = w->head * w->d;
    float *dots = w->dq; /* free until the products below; L <= L * padded d */
    gather(w, args->y, a->c, column, NULL, 1.0f, w->dv);
    gather(w, g->dy, a->c, column, NULL, 1.0f, w->d_o);
    for (int64_t i = 0; i < w->l; i++) {
        vf dot = v_zero();
        for (int64_t c = 0; c < w->dp; c += VL)
            dot += v_load(w->dv + i * w->dp + c) * v_load(w->d_o + i * w->dp + c);
        dots[i] = v_sum(dot);
    }
    transpose(w, w->v, w->vt);
    logits(w);
    product(w->l, w->lp, w->d, w->d_o, w->dp, 1, w->vt, w->lp, w->dp_, w->lp);
    window_prefetch(w, w->number + 1, windows_y, windows_x, a->qkv, 3 * a->c, a->c + column);
    softmax_grad(w, bias, a->lse + (w->number * a->heads + w->head) * w->l, dots);
    product(w->l, w->dp, w->l, w->p, 1, w->lp, w->d_o, w->dp, w->dv, w->dp);
    window_prefetch(w, w->number + 1, windows_y, windows_x, a->qkv, 3 * a->c, 2 * a->c + column);
    product(w->l, w->dp, w->l, w->ds, w->lp, 1, w->k, w->dp, w->dq, w->dp);
    window_prefetch(w, w->number + 1, windows_y, windows_x, g->dy, a->c, column);
    product(w->l, w->dp, w->l, w->ds, 1, w->lp, w->q, w->dp, w->dk, w->dp); /* q carries the scale */
    window_prefetch(w, w->number + 1, windows_y, windows_x, args->y, a->c, column);
    scatter(w, g->dqkv, 3 * a->c, column, padding, 1.0f / sqrtf((float)w->d), w->dq);
    scatter(w, g->dqkv, 3 * a->c, a->c + column, padding, 1.0f, w->dk);
    scatter(w, g->dqkv, 3 * a->c, 2 * a->c + column, padding, 1.0f, w->dv);
}

void SIMD_NAME(kernel_attention_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct attention_arguments *args = arguments;
    const struct window_attention *a = args->a;
#if defined(__AVX512BF16__)
    if (a->dtype == DTYPE_BF16) {
        SIMD_NAME(kernel_attention_bf16_grad)(arguments, begin, end, part);
        return;
    }
#endif
    int64_t windows_y = (a->h + a->wh - 1) / a->wh, windows_x = (a->w + a->ww - 1) / a->ww;
    int64_t all = a->n * windows_y * windows_x,
            table_elem = (int64_t)(2 * a->wh - 1) * (2 * a->ww - 1) * a->heads;
    bool goes_on = part_goes_on(&part);
    float *padding = args->dqkv_bias ? args->dqkv_bias + part * 3 * a->c : NULL;
    float *dtable = args->dtable + part * table_elem;
    if (!goes_on) memset(dtable, 0, (size_t)table_elem * sizeof *dtable);
    if (padding && !goes_on) memset(padding, 0, (size_t)(3 * a->c) * sizeof *padding);
    struct window w;
    window_start(&w, args, part);
    float *ds_sum = w.ds + w.l * w.lp; /* last matrix of the buffer */
    for (int64_t item = begin; item < end;) {
        int64_t stop = (item / all + 1) * all < end ? (item / all + 1) * all : end; /* of this head */
        memset(ds_sum, 0, (size_t)(w.l * w.lp) * sizeof *ds_sum);
        for (; item < stop; item++) {
            window_gather(&w, item, windows_y, windows_x, a->qkv);
            window_grad(&w, args, args->bias + w.head * w.l * w.lp, windows_y, windows_x, padding);
            for (int64_t i = 0; i < w.l * w.lp; i += VL)
                v_store(ds_sum + i, v_load(ds_sum + i) + v_load(w.ds + i));
        }
        table_grad(&w, ds_sum, dtable);
    }
}
