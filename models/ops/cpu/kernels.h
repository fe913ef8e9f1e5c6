/* The vectorised kernels (*.simd.c) and their arguments. All have the form of part_fn in backend.h: they work
 * on items [begin, end); `part` names their share of the scratch memory. `partial` buffers hold one row of
 * sums a part, which the kernel itself zeroes in the first call of the part. */
#ifndef MODELS_OPS_CPU_KERNELS_H
#define MODELS_OPS_CPU_KERNELS_H

#include "common/simd.h"
#include "models/ops/ops.h"

#define KERNEL(name)                                                                                         \
    SIMD_DECLARE(void, name, (const void *arguments, int64_t begin, int64_t end, int32_t part))

/* Does this call go on with a part begun by an earlier one, whose partial sums must stay? Turns ~part into
 * part. */
static inline bool part_goes_on(int32_t *part) {
    if (*part >= 0) return false;
    *part = ~*part;
    return true;
}

/* ---- elementwise.simd.c ---- */

/* y += x; items are elements. */
struct add_arguments {
    enum dtype type;
    void *y;
    const void *x;
};
KERNEL(kernel_add);

/* x *= factor; items are elements. */
struct scale_arguments {
    float *x;
    float factor;
};
KERNEL(kernel_scale);

/* y = x in another type; items are elements. */
struct cast_arguments {
    enum dtype to, from;
    void *y;
    const void *x;
};
KERNEL(kernel_cast);

/* y (pixels,3) = (x/255 - mean)/std; items are pixels. */
struct normalise_arguments {
    enum dtype type;
    void *y;
    const uint8_t *x;
};
KERNEL(kernel_normalise);

/* h = gelu(pre); items are elements. */
struct gelu_arguments {
    enum dtype type;
    const void *pre;
    void *h;
};
KERNEL(kernel_gelu);

/* h = gelu(pre), dh = dh * gelu'(pre), partial[part] (n) = column sums of the new dh; items are rows. */
struct gelu_grad_arguments {
    enum dtype type;
    int64_t n; /* columns */
    const void *pre;
    void *h, *dh;
    float *partial; /* rows of n */
};
KERNEL(kernel_gelu_grad);

/* y = residual + row_scale[row / rows_per_image] * column_scale * z; items are rows. z fp32. NULL scales: 1.
 */
struct residual_arguments {
    enum dtype type;
    int64_t n, rows_per_image, first_row; /* first_row: of the image numbering */
    const float *z, *row_scale, *column_scale;
    const void *residual;
    void *y;
};
KERNEL(kernel_residual);

/* g = row_scale * dy, scaled = column_scale * g (either output may be NULL), partial[part] (n) = column sums
 * of g (NULL: not wanted); items are rows. */
struct scale_rows_arguments {
    enum dtype type;
    int64_t n, rows_per_image, first_row;
    const void *dy;
    const float *row_scale, *column_scale;
    void *g, *scaled;
    float *partial;
};
KERNEL(kernel_scale_rows);

/* dw2 (C,hidden) += gamma*M (NULL: not wanted), dgamma_c += <w2_c, M_c> + b2_c * sum_g_c; items are rows c.
 */
struct layer_scale_grad_arguments {
    enum dtype type;
    int64_t hidden;
    const float *m, *gamma, *b2, *sum_g;
    const void *w2;
    float *dw2, *dgamma;
};
KERNEL(kernel_layer_scale_grad);

/* ---- layernorm.simd.c: items are rows ---- */

struct layernorm_arguments {
    const struct layernorm *a;
    void *y;
};
KERNEL(kernel_layernorm);

struct layernorm_grad_arguments {
    const struct layernorm *a;
    const void *dy;
    void *dx;
    bool accumulate;
    float *partial; /* rows of 2C: dweight, dbias */
};
KERNEL(kernel_layernorm_grad);

/* ---- depthwise.simd.c ---- */

/* out (N,oh,ow,C) = correlation of `in` (N,ih,iw,C), spread apart by `insert` - 1 zeros between its pixels
 * and padded by `pad` at the top and left, with weight (k,k,C), taken every `stride`. The forward pass has
 * insert 1; the data gradient has stride 1, the forward stride as `insert`, and the kernel flipped. Items are
 * (image, band of output rows, vector of channels). */
struct depthwise_arguments {
    enum dtype type;
    int64_t n, ih, iw, oh, ow, c;
    int32_t k, stride, insert, pad;
    bool flip, accumulate, relu6;
    const void *in;
    const float *weight, *bias;
    void *out;
    int64_t band, n_bands; /* output rows a band */
    float *buffer;         /* padded input of one item, one a part */
    int64_t buffer_elem;
};
KERNEL(kernel_depthwise);

/* Sums for the weight gradient: partial[part] ((k*k + 1) rows of C: the kernel's, then the bias'). Items are
 * (image, band, vector of channels). */
struct depthwise_grad_arguments {
    enum dtype type;
    int64_t n, h, w, oh, ow, c;
    int32_t k, stride, pad;
    const void *x, *dy;
    int64_t band, n_bands;
    float *buffer, *partial;
    int64_t buffer_elem, partial_elem;
};
KERNEL(kernel_depthwise_grad);

/* Width of a vector in floats of the set chosen, and the size of the padded buffer of a band of output rows.
 */
SIMD_DECLARE(int64_t, kernel_vector, (void));

/* ---- attention.simd.c: items are (image, window, head) ---- */

struct attention_arguments {
    const struct window_attention *a;
    void *y;                               /* forward */
    const struct window_attention_grad *g; /* NULL: forward */
    const float *bias;                     /* (heads, L keys, padded L queries): table expanded */
    float *buffer;                         /* one a part, attention_buffer_elem() floats */
    int64_t buffer_elem;
    float *dtable;    /* (heads, 2wh-1, padded 2ww-1) a part */
    float *dqkv_bias; /* (3C) a part, NULL: no padding */
};
KERNEL(kernel_attention);
KERNEL(kernel_attention_grad);
KERNEL(kernel_attention_bf16); /* bf16 on processors that multiply it; the two above hand over to these */
KERNEL(kernel_attention_bf16_grad);

/* ---- batchnorm.simd.c: items are rows ---- */

struct batchnorm_arguments {
    const struct batchnorm *a;
    const void *dy;  /* backward */
    void *out;       /* y or dx */
    double *partial; /* rows of 2C */
    const double
        *grad_sums; /* grad_apply: sum g, sum g*xhat over the group; NULL: statistics are constants */
    double inverse_count;
};
KERNEL(kernel_batchnorm_sums);
KERNEL(kernel_batchnorm_apply);
KERNEL(kernel_batchnorm_grad_sums);
KERNEL(kernel_batchnorm_grad_apply);

/* ---- pool.simd.c ---- */

/* y (N,C) = mean over hw; items are images. And back: dx (N,hw,C) = dy/hw. */
struct pool_arguments {
    enum dtype type;
    int64_t hw, c;
    const void *x;
    float *y;
    const float *dy;
    void *dx;
};
KERNEL(kernel_pool);
KERNEL(kernel_pool_grad);

/* ---- optimiser.simd.c ---- */

/* Items are elements of [0, end - begin); a part is one thread's range. */
struct optimiser_arguments {
    const struct optimiser_step *a;
    float grad_scale;
};
KERNEL(kernel_sgd);
KERNEL(kernel_adamw);

/* sums[2p], sums[2p+1]: sum of squares and number of NaN or infinite elements of piece p; items are pieces of
 * `piece` elements. */
struct square_sum_arguments {
    const float *x;
    int64_t n_elem, piece;
    double *sums;
};
KERNEL(kernel_square_sum);

/* ---- gemm.simd.c: items are parts of a struct gemm_plan; not made for `base` and `avx2` ---- */

KERNEL(kernel_gemm);

/* ---- dot.simd.c: items are rows of A, of kernel_dot_pack rows of B; not made for `base` and `avx2` ---- */

struct matmul;
struct dot_arguments {
    const struct matmul *a;
    char *packed; /* whole vectors of whole tiles of B's rows */
};
KERNEL(kernel_dot_pack);
KERNEL(kernel_dot);

/* ---- loss.simd.c ---- */

/* Rows without mask, "=" dlogits; items are rows; sums (parts) of the losses. */
struct cross_entropy_arguments {
    int64_t k;
    float smoothing, scale;
    const float *logits;
    const int32_t *labels;
    float *dlogits;
    double *sums;
};
KERNEL(kernel_cross_entropy);

#endif
