/* The three products of a linear layer y (rows,out) = x (rows,in) w^T, w (out,in), without what surrounds
 * them. rows > 0. */
#ifndef MODELS_OPS_CUDA_LINEAR_H
#define MODELS_OPS_CUDA_LINEAR_H

#include "models/ops/cuda/backend.h"

struct layer {
    enum dtype dtype;
    int64_t rows, in, out;
    const void *x, *w;
};

/* y = x w^T + bias + residual, rounded once; bias of type dtype (layer_bias), NULL: none; residual NULL:
 * none, may be y. */
status_t layer_forward(struct backend *be, const struct layer *a, const void *bias, const void *residual,
                       void *y);
/* dx (rows,in) = or += g w; g (rows,out) of dtype */
status_t layer_dx(struct backend *be, const struct layer *a, const void *g, void *dx, bool accumulate);
/* dw (out,in) fp32 = or += g^T x */
status_t layer_dw(struct backend *be, const struct layer *a, const void *g, float *dw, bool accumulate);

/* The bias as cuBLASLt's epilogue takes it, of the type of the result: itself in fp32, rounded into room (n
 * bf16) else. NULL stays NULL. */
status_t layer_bias(struct backend *be, enum dtype dtype, const float *bias, int64_t n, void *room,
                    const void **out);

#endif
