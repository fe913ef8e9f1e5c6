/* Patches of a convolution as rows of a matrix (im2col) and back. */
#ifndef MODELS_OPS_CUDA_PATCHES_H
#define MODELS_OPS_CUDA_PATCHES_H

#include "models/ops/cuda/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Output pixels (ho,wo) of a convolution, and its patches: a row of `ld` elements for each output pixel, in
 * the order of the weights (k,k,Cin), zeros up to ld. */
struct patches {
    enum dtype dtype;
    int64_t n, h, w, cin, ho, wo;
    int32_t k, stride, pad;
    int64_t ld;
};

/* matrix (N*Ho*Wo,ld) = patches of x (N,H,W,Cin) */
status_t patches_gather(struct backend *be, const struct patches *p, const void *x, void *matrix);

/* x (N,H,W,Cin) = or += for every pixel the sum of its places in the patches, taps in ascending order. */
status_t patches_scatter(struct backend *be, const struct patches *p, const void *matrix, void *x,
                         bool accumulate);

/* y (rows,ld) = x (rows,columns), zeros up to ld; of dtype. */
status_t patches_pad_rows(struct backend *be, enum dtype dtype, const void *x, int64_t rows, int64_t columns,
                          int64_t ld, void *y);
/* y (rows,columns) fp32 += x (rows,ld) of dtype */
status_t patches_add_rows(struct backend *be, enum dtype dtype, const void *x, int64_t rows, int64_t columns,
                          int64_t ld, float *y);

/* Weights of a depthwise convolution between our (taps,channels) fp32 and cuDNN's (channels,taps) bf16:
 * y = x, rounded; and y += x. */
status_t patches_taps_last(struct backend *be, const float *x, int64_t taps, int64_t channels, void *y);
status_t patches_add_taps_last(struct backend *be, const void *x, int64_t taps, int64_t channels, float *y);

#ifdef __cplusplus
}
#endif
#endif
