/* Window attention in bf16 with the processor's products of pairs: c += a[0] b[0] + a[1] b[1] in fp32. A pair
 * is a 32-bit word. Left factors have pairs along their rows; right factors have the word of two neighbouring
 * rows in each column
 * ("paired"). Probabilities and their gradients are rounded to bf16 for the products, everything else is
 * fp32. */
#include "models/ops/cpu/attention_window.h"

typedef int nothing_for_other_sets;

#if defined(__AVX512BF16__)

static void product(int64_t m, int64_t n, int64_t k, const uint32_t *a, int64_t a_row, int64_t a_col,
                    const uint32_t *b, int64_t ldb, float *c, int64_t ldc) {
    product_as(m, n, k, a, a_row, a_col, b, ldb, c, ldc, DTYPE_BF16);
}

/* ---- one head of one window ---- */

struct bf16_window {
    struct window w;
    int64_t half;                                 /* pairs of tokens; the last one's second may be zeros */
    uint32_t *q, *k, *v, *d_o;                    /* (2 half, padded d) bf16 */
    uint32_t *qt, *dot;                           /* (padded d / 2, padded L) words: turned */
    uint32_t *q_paired, *rows_paired, *do_paired; /* (half, padded d) words; rows: of v, backward of k */
    uint32_t *p, *ds, *ds_paired;                 /* (2 half, padded L) bf16; forward: p is paired */
    float *out;                                   /* (L, padded d) */
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

static struct bf16_window window_start(const struct attention_arguments *args, int32_t part) {
    struct bf16_window b = {0};
    struct window *w = &b.w;
    float *at_ = window_sizes(w, args, part);
    b.half = (w->l + 1) / 2;
    int64_t pairs = b.half * w->dp, pairs_l = b.half * w->lp, turned = w->dp / 2 * w->lp, ll = w->l * w->lp;
#define TAKE(type, n_words) (type *)at_, at_ += (n_words)
    b.q = TAKE(uint32_t, pairs);
    b.k = TAKE(uint32_t, pairs);
    b.v = TAKE(uint32_t, pairs);
    b.rows_paired = TAKE(uint32_t, pairs);
    b.qt = TAKE(uint32_t, turned);
    w->p = TAKE(float, ll);
    b.p = TAKE(uint32_t, pairs_l);
    b.out = TAKE(float, w->l * w->dp);
    if (!args->g) return b;
    b.q_paired = TAKE(uint32_t, pairs);
    b.do_paired = TAKE(uint32_t, pairs);
    b.d_o = TAKE(uint32_t, pairs);
    b.dot = TAKE(uint32_t, turned);
    w->dp_ = TAKE(float, ll);
    b.ds = TAKE(uint32_t, pairs_l);
    b.ds_paired = TAKE(uint32_t, pairs_l);
#undef TAKE
    return b;
}

/* q, k, v and p = k q^T, without scale, bias and mask. */
static void window_logits(struct bf16_window *b, int64_t item) {
    struct window *w = &b->w;
    const struct window_attention *a = w->a;
    window_begin(w, item);
    const int64_t column = w->head * w->d;
    gather(b, a->qkv, 3 * a->c, column, a->qkv_bias, b->q);
    gather(b, a->qkv, 3 * a->c, a->c + column, a->qkv_bias, b->k);
    gather(b, a->qkv, 3 * a->c, 2 * a->c + column, a->qkv_bias, b->v);
    turn(b, b->q, b->qt);
    product(w->l, w->lp, w->dp / 2, b->k, w->dp / 2, 1, b->qt, w->lp, w->p, w->lp);
}

void SIMD_NAME(kernel_attention_bf16)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct attention_arguments *args = arguments;
    const struct window_attention *a = args->a;
    part_goes_on(&part);
    struct bf16_window b = window_start(args, part);
    struct window *w = &b.w;
    const float scale = 1.0f / sqrtf((float)w->d);
    for (int64_t item = begin; item < end; item++) {
        window_logits(&b, item);
        pair_rows(&b, b.v, b.rows_paired);
        softmax_as(w, args->bias + w->head * w->l * w->lp, scale, b.p, a->lse ? a->lse + item * w->l : NULL,
                   DTYPE_BF16);
        product(w->l, w->dp, b.half, b.p, 1, w->lp, b.rows_paired, w->dp, b.out, w->dp);
        scatter(w, args->y, a->c, w->head * w->d, NULL, 1.0f, w->inverse, b.out);
    }
}

/* dp_ = ds = p * (dp - <dO, O>), two keys at a time; p and ds rounded. */
static void softmax_grad(const struct bf16_window *b, const float *bias, const float *lse) {
    const struct window *w = &b->w;
    const float scale = 1.0f / sqrtf((float)w->d);
    for (int64_t j = 0; j < w->lp; j += VL) {
        const vf dot = probabilities_as(w, bias, scale, lse, j);
        for (int64_t i = 0; i < w->l; i += 2) {
            vf ds[2] = {v_zero(), v_zero()};
            for (int64_t r = 0; r < 2 && i + r < w->l; r++) {
                const int64_t at_ = (i + r) * w->lp + j;
                const vf p = v_load(w->p + at_);
                ds[r] = p * (v_load(w->dp_ + at_) - dot);
                store_as(b->p, at_, p, DTYPE_BF16);
                store_as(b->ds, at_, ds[r], DTYPE_BF16);
                v_store(w->dp_ + at_, ds[r]);
            }
            w_store(b->ds_paired + i / 2 * w->lp + j, v_pair(ds[0], ds[1]));
        }
    }
}

static void window_grad(struct bf16_window *b, const struct attention_arguments *args, int64_t item,
                        float *padding) {
    struct window *w = &b->w;
    const struct window_attention *a = w->a;
    const struct window_attention_grad *g = args->g;
    window_logits(b, item);
    const int64_t column = w->head * w->d, lp = w->lp, dp = w->dp;
    const float scale = 1.0f / sqrtf((float)w->d);
    gather(b, g->dy, a->c, column, NULL, b->d_o);
    pair_rows(b, b->q, b->q_paired);
    pair_rows(b, b->k, b->rows_paired);
    pair_rows(b, b->d_o, b->do_paired);
    turn(b, b->d_o, b->dot);
    product(w->l, lp, dp / 2, b->v, dp / 2, 1, b->dot, lp, w->dp_, lp);
    softmax_grad(b, args->bias + w->head * w->l * lp, a->lse + item * w->l);
    product(w->l, dp, b->half, b->p, lp / 2, 1, b->do_paired, dp, b->out, dp);
    scatter(w, g->dqkv, 3 * a->c, 2 * a->c + column, padding, 1.0f, NULL, b->out);
    product(w->l, dp, b->half, b->ds_paired, 1, lp, b->rows_paired, dp, b->out, dp);
    scatter(w, g->dqkv, 3 * a->c, column, padding, scale, NULL, b->out);
    product(w->l, dp, b->half, b->ds, lp / 2, 1, b->q_paired, dp, b->out, dp);
    scatter(w, g->dqkv, 3 * a->c, a->c + column, padding, scale, NULL, b->out);
}

void SIMD_NAME(kernel_attention_bf16_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct attention_arguments *args = arguments;
    const struct attention_sums sums = attention_sums(args, &part);
    struct bf16_window b = window_start(args, part);
    for (int64_t item = begin; item < end; item++) {
        window_grad(&b, args, item, sums.padding);
        table_grad(&b.w, b.w.dp_, sums.tables);
    }
}

#endif
