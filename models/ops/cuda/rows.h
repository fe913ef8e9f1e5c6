/* Passes over matrices (rows, columns) around the matrix products: what their epilogues cannot do. Vectors of
 * columns (bias, gamma) are fp32; a row's factor is row_scale[row / rows_per_image], 1 where row_scale is
 * NULL. Sums over rows are taken in a fixed order, in two kernels. All are enqueued on be->stream. */
#ifndef MODELS_OPS_CUDA_ROWS_H
#define MODELS_OPS_CUDA_ROWS_H

#include "models/ops/cuda/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = residual + factor(row) * gamma * clip(z + bias); bias, gamma, residual NULL: left out; y may alias z or
 * residual; clip to [0, 6] with relu6. */
struct row_epilogue {
    enum dtype dtype;
    int64_t rows, columns, rows_per_image;
    const void *z, *residual;
    const float *bias, *gamma, *row_scale;
    bool relu6;
    void *y;
};
status_t rows_epilogue(struct backend *be, const struct row_epilogue *a);

/* y (rows,columns; ld) of dtype += bias (columns) of dtype */
status_t rows_add_bias(struct backend *be, enum dtype dtype, void *y, int64_t ld, int64_t rows,
                       int64_t columns, const void *bias);

/* c (rows,columns; ld) fp32 *= factor; factor 0: = 0 whatever was there */
status_t rows_scale(struct backend *be, float *c, int64_t ld, int64_t rows, int64_t columns, float factor);

/* sum (columns) = or += sum over rows of factor(row) * x; scaled (rows,columns) of dtype = factor(row) * x,
 * NULL: not wanted. */
struct row_sums {
    enum dtype dtype;
    int64_t rows, columns, rows_per_image;
    const void *x;
    const float *row_scale;
    void *scaled;
    float *sum; /* NULL: not wanted */
    bool accumulate;
};
status_t rows_sum(struct backend *be, const struct row_sums *a);

/* h = gelu(pre), erf form, n elements of dtype; h may alias pre. */
status_t gelu_forward(struct backend *be, enum dtype dtype, void *h, const void *pre, int64_t n);

/* dpre = factor(row) * dh * gelu'(pre) (may alias dh), h = factor(row) * gelu(pre) (NULL: not wanted),
 * db += sum of dpre over rows (NULL: not wanted). */
struct gelu_grad {
    enum dtype dtype;
    int64_t rows, columns, rows_per_image;
    const void *pre, *dh;
    const float *row_scale;
    void *dpre, *h;
    float *db;
};
status_t gelu_backward(struct backend *be, const struct gelu_grad *a);

/* With M (channels,hidden) = g^T h and s (channels) = sum g:  dw2 += gamma M,  db2 += gamma s,
 * dgamma_c += <w2_c, M_c> + b2_c s_c. NULL: not wanted; b2 NULL: 0. M is read only for dw2 and dgamma. */
struct layer_scale_grad {
    enum dtype dtype;
    int64_t channels, hidden;
    const float *m, *s, *gamma, *b2;
    const void *w2;
    float *dw2, *db2, *dgamma;
};
status_t layer_scale_backward(struct backend *be, const struct layer_scale_grad *a);

#ifdef __cplusplus
}
#endif

/* Scratch in pieces: take() gives each a part aligned to 256 bytes; with base NULL only the size is counted.
 */
struct pieces {
    char *base;
    size_t used;
};
static inline void *take(struct pieces *p, size_t n_bytes) {
    void *piece = p->base ? p->base + p->used : NULL;
    p->used += (n_bytes + 255) / 256 * 256;
    return piece;
}

#endif
