/* Window attention of one head in one window at a time. The window's rows of q, k and v are gathered into
 * small fp32 matrices that stay in the first two caches; shift, split and padding are in the table of
 * offsets. Where the processor multiplies bf16, attention_bf16.simd.c serves that type. */
#include "models/ops/cpu/attention_window.h"

struct f32_window {
    struct window w;
    float *q, *k, *v, *d_o, *out; /* (L, padded d) */
    float *qt, *dot;              /* (padded d, padded L): turned */
};

static void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col,
                    const float *b, int64_t ldb, float *c, int64_t ldc) {
    product_as(m, n, k, (const uint32_t *)a, a_row, a_col, (const uint32_t *)b, ldb, c, ldc, DTYPE_F32);
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

/* out (padded d, padded L) = in (L, padded d) transposed, zeros behind L. */
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

/* Hand out this part's buffer. */
static struct f32_window window_start(const struct attention_arguments *args, int32_t part) {
    struct f32_window f = {0};
    struct window *w = &f.w;
    float *at_ = window_sizes(w, args, part);
    int64_t ld = w->l * w->dp, dl = w->dp * w->lp, ll = w->l * w->lp;
#define TAKE(n_floats) at_, at_ += (n_floats)
    f.q = TAKE(ld);
    f.k = TAKE(ld);
    f.v = TAKE(ld);
    f.qt = TAKE(dl);
    w->p = TAKE(ll);
    f.out = args->g ? f.v : f.q; /* free when it is needed */
    if (!args->g) return f;
    f.d_o = TAKE(ld);
    f.dot = TAKE(dl);
    w->dp_ = TAKE(ll);
#undef TAKE
    return f;
}

/* q, k, v and p = k q^T, without bias and mask. */
static void window_logits(struct f32_window *f, int64_t item) {
    struct window *w = &f->w;
    const struct window_attention *a = w->a;
    window_begin(w, item);
    const int64_t column = w->head * w->d;
    gather(w, a->qkv, 3 * a->c, column, a->qkv_bias, 1.0f / sqrtf((float)w->d), f->q);
    gather(w, a->qkv, 3 * a->c, a->c + column, a->qkv_bias, 1.0f, f->k);
    gather(w, a->qkv, 3 * a->c, 2 * a->c + column, a->qkv_bias, 1.0f, f->v);
    transpose(w, f->q, f->qt);
    product(w->l, w->lp, w->d, f->k, w->dp, 1, f->qt, w->lp, w->p, w->lp);
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
    part_goes_on(&part);
    struct f32_window f = window_start(args, part);
    struct window *w = &f.w;
    for (int64_t item = begin; item < end; item++) {
        window_logits(&f, item);
        softmax_as(w, args->bias + w->head * w->l * w->lp, 1.0f, NULL, a->lse ? a->lse + item * w->l : NULL,
                   DTYPE_F32);
        product(w->l, w->dp, w->l, w->p, 1, w->lp, f.v, w->dp, f.out, w->dp);
        scatter(w, args->y, a->c, w->head * w->d, NULL, 1.0f, w->inverse, f.out);
    }
}

/* dp_ = ds = p * (dp - <dO, O>), and p as the probabilities. */
static void softmax_grad(const struct window *w, const float *bias, const float *lse) {
    for (int64_t j = 0; j < w->lp; j += VL) {
        const vf dot = probabilities_as(w, bias, 1.0f, lse, j);
        for (int64_t at_ = j; at_ < w->l * w->lp; at_ += w->lp)
            v_store(w->dp_ + at_, v_load(w->p + at_) * (v_load(w->dp_ + at_) - dot));
    }
}

static void window_grad(struct f32_window *f, const struct attention_arguments *args, int64_t item,
                        float *padding) {
    struct window *w = &f->w;
    const struct window_attention *a = w->a;
    const struct window_attention_grad *g = args->g;
    window_logits(f, item);
    const int64_t column = w->head * w->d;
    gather(w, g->dy, a->c, column, NULL, 1.0f, f->d_o);
    transpose(w, f->d_o, f->dot);
    product(w->l, w->lp, w->d, f->v, w->dp, 1, f->dot, w->lp, w->dp_, w->lp);
    softmax_grad(w, args->bias + w->head * w->l * w->lp, a->lse + item * w->l);
    product(w->l, w->dp, w->l, w->p, w->lp, 1, f->d_o, w->dp, f->out, w->dp);
    scatter(w, g->dqkv, 3 * a->c, 2 * a->c + column, padding, 1.0f, NULL, f->out);
    product(w->l, w->dp, w->l, w->dp_, 1, w->lp, f->k, w->dp, f->out, w->dp);
    scatter(w, g->dqkv, 3 * a->c, column, padding, 1.0f / sqrtf((float)w->d), NULL, f->out);
    product(w->l, w->dp, w->l, w->dp_, w->lp, 1, f->q, w->dp, f->out, w->dp); /* q carries the scale */
    scatter(w, g->dqkv, 3 * a->c, a->c + column, padding, 1.0f, NULL, f->out);
}

void SIMD_NAME(kernel_attention_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct attention_arguments *args = arguments;
#if defined(__AVX512BF16__)
    if (args->a->dtype == DTYPE_BF16) {
        SIMD_NAME(kernel_attention_bf16_grad)(arguments, begin, end, part);
        return;
    }
#endif
    const struct attention_sums sums = attention_sums(args, &part);
    struct f32_window f = window_start(args, part);
    for (int64_t item = begin; item < end; item++) {
        window_grad(&f, args, item, sums.padding);
        table_grad(&f.w, f.w.dp_, sums.tables);
    }
}
