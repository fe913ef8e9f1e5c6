/* The table of operations: everything the networks, losses and optimisers compute, as one backend offers it.
 *
 * Glossary. N images, H W rows and columns of a map, C channels; activations lie channels-last (N,H,W,C).
 * T = N*H*W tokens (rows of a matrix), K classes, D features. `d` + name is a gradient.
 *
 * Types. Activations, their gradients and the weight *matrices* handed to operations have the type `dtype` of
 * the call (fp32, or bf16 with fp32 accumulation); everything else is fp32: biases, norm scales and shifts,
 * layer scale, position tables, statistics, features, logits, losses, and all gradients of parameters.
 * Rounding to bf16 is to nearest, ties to even; a NaN stays one; a backend may flush denormals of bf16 to
 * zero.
 *
 * Outputs are marked "=" (overwritten; what was there is not read) or "+=" (added to). Gradients of
 * parameters are always "+=". No output may alias an input unless the operation says so.
 *
 * Weight layouts (`struct net_param` in models/net.h converts to and from the framework's):
 *   linear (out,in) · conv (out,kh,kw,in) · depthwise (kh,kw,C).
 *
 * Memory. All pointers are memory of the backend (ops->alloc); only copy_in and copy_out cross to the host.
 * Operations enqueue work in order and may return before it is done; results may be read after copy_out or
 * synchronise. `scratch` comes from the graph's arena: a call's X_scratch function says how many bytes it
 * needs (absent: none). Nothing allocates inside a step.
 *
 * Errors: sizes are checked when the graph is built; a call returns non-OK only where the library below
 * fails. */
#ifndef MODELS_OPS_OPS_H
#define MODELS_OPS_OPS_H

#include "common/pseudo_label.h"
#include "common/rng.h"
#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_F32, DTYPE_BF16 };

static inline size_t dtype_bytes(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 4 : 2;
}

/* A device with its stream, threads and library handles; made by a backend's open function. */
struct backend;

/* y = epilogue(x w^T + bias).  x (T,in), w (out,in), bias fp32 (out) or NULL.
 * LINEAR_PLAIN     y = z
 * LINEAR_RESIDUAL  y = residual + row_scale[t / rows_per_image] * z; residual (T,out) may alias y;
 *                  row_scale (images) fp32 is drop-path's factor 0 or 1/(1-p), NULL: 1
 * relu6 (forward only, excludes row_scale; see struct batchnorm_fold): z is clipped to [0, 6] first. */
enum linear_epilogue { LINEAR_PLAIN, LINEAR_RESIDUAL };

struct linear {
    enum dtype dtype;
    enum linear_epilogue epilogue;
    int64_t rows, in, out; /* T, in, out */
    int64_t rows_per_image;
    const void *x, *w;
    const float *bias;
    const void *residual;
    const float *row_scale;
    bool relu6;
};

/* Gradient of struct linear: with g = row_scale * dy,
 * dx (T,in) = g w (or += with dx_accumulate; NULL: not wanted), dw (out,in) += g^T x, dbias (out) += sum g;
 * dw or dbias NULL: not wanted (frozen). The gradient of `residual` is dy itself: the graph passes it on. */
struct linear_grad {
    const void *dy;
    void *dx;
    bool dx_accumulate;
    float *dw, *dbias;
};

/* The two-layer perceptron of ConvNeXt and Swin in one, so that a backend may keep the hidden rows in cache:
 *   pre = x w1^T + b1 (T,4C);  h = gelu(pre) (erf form);  y = residual + row_scale * gamma * (h w2^T + b2)
 * gamma fp32 (C) is ConvNeXt's layer scale, NULL: 1. `pre` (T,hidden) of type dtype is written when training
 * and read by the backward pass; NULL in inference. residual may alias y. */
struct mlp {
    enum dtype dtype;
    int64_t rows, channels, hidden, rows_per_image;
    const void *x, *w1, *w2;
    const float *b1, *b2, *gamma;
    const void *residual;
    const float *row_scale;
    void *pre; /* = (forward) */
};

/* dx (T,C) = or +=; dw1 (hidden,C), db1, dw2 (C,hidden), db2, dgamma += (NULL: not wanted).
 * dgamma needs no stored output: with g = row_scale*dy and M = g^T h, dw2 = gamma*M and
 * dgamma_c = <w2_c, M_c> + b2_c * sum g_c. The gradient of `residual` is dy itself. */
struct mlp_grad {
    const void *dy;
    void *dx;
    bool dx_accumulate;
    float *dw1, *db1, *dw2, *db2, *dgamma;
};

/* LayerNorm over the last axis: y = (x - mean) * rstd * weight + bias, rstd = 1/sqrt(var + eps), var biased,
 * in two passes. mean, rstd (T) fp32 "=" kept for the backward pass (NULL in inference). x, y of type dtype,
 * or fp32 rows where the graph normalises pooled features. */
struct layernorm {
    enum dtype dtype;
    int64_t rows, channels;
    float eps;
    const void *x;
    const float *weight, *bias;
    float *mean, *rstd;
};

/* dx = or += (may alias dy when not accumulating); dweight, dbias += or NULL. */
struct layernorm_grad {
    const void *dy;
    void *dx;
    bool dx_accumulate;
    float *dweight, *dbias;
};

/* Dense convolution. x (N,H,W,Cin), w (Cout,k,k,Cin), bias (Cout) or NULL, y (N,Ho,Wo,Cout) with
 * Ho = (H + 2*pad - k)/stride + 1 (rounded down). Serves stems, 2x2/2 downsampling, 3x3 and 1x1. */
struct conv {
    enum dtype dtype;
    int64_t n, h, w, cin, cout;
    int32_t k, stride, pad;
    const void *x, *weight;
    const float *bias;
    bool relu6; /* forward only: y clipped to [0, 6] */
};

/* Depthwise convolution. x (N,H,W,C), w (k,k,C) of type *fp32* (few and reused), bias (C) or NULL, y
 * (N,Ho,Wo,C). */
struct depthwise {
    enum dtype dtype;
    int64_t n, h, w, c;
    int32_t k, stride, pad;
    const void *x;
    const float *weight, *bias;
    bool relu6; /* forward only: y clipped to [0, 6] */
};

/* For both: dx = or += or NULL; dweight, dbias += or NULL. */
struct conv_grad {
    const void *dy;
    void *dx;
    bool dx_accumulate;
    float *dweight, *dbias;
};

/* Swin's window attention between its two linear layers (Liu et al. 2021, eq. 4 and section 3.2).
 * qkv (N,H,W,3C), channels ordered [q|k|v] x head x channel; y (N,H,W,C); head width d = C/heads, q scaled by
 * d^-1/2. Windows of wh x ww over the map rolled by (-shift_h, -shift_w) and padded at bottom and right to
 * whole windows; padded tokens have qkv = qkv_bias (the linear layer's bias) and take part. Where shift > 0,
 * -100 is added between tokens of different regions ([0,n-w), [n-w,n-shift), [n-shift,n) per axis of the
 * padded map). table fp32 ((2wh-1)(2ww-1), heads): row (yi-yj+wh-1)*(2ww-1) + (xi-xj+ww-1) is added to the
 * logit of query i, key j. Shift and split are index arithmetic: nothing is copied for them. lse fp32 (N,
 * windows, heads, wh*ww) "=": log-sum-exp of every row, for the backward pass; NULL in inference. */
struct window_attention {
    enum dtype dtype;
    int64_t n, h, w, c;
    int32_t heads, wh, ww, shift_h, shift_w;
    const void *qkv;
    const float *qkv_bias, *table;
    float *lse;
};

/* dqkv (N,H,W,3C) "="; dtable += ; dqkv_bias (3C) += the part that comes from padded tokens only (NULL where
 * the map needs no padding or not wanted). y is the forward output. */
struct window_attention_grad {
    const void *y, *dy;
    void *dqkv;
    float *dtable, *dqkv_bias;
};

/* Patch merging's gathering: x (N,H,W,C) -> y (N,ceil(H/2),ceil(W/2),4C) in the order
 * [row 0 col 0 | row 1 col 0 | row 0 col 1 | row 1 col 1], odd sides padded with zeros. */
struct patch_merge {
    enum dtype dtype;
    int64_t n, h, w, c;
};

/* Batch normalisation, optional ReLU6, optional residual: y = act(xhat*weight + bias) + residual.
 * Training is three calls with a reduction over the group between them (done by the caller):
 *   batchnorm_sums: sums fp64 (1 + 2C) "=": count of rows taken, sum x, sum x^2. image_mask (N) uint8, NULL:
 * all; images with mask 0 take no part. batchnorm_finish: from the reduced sums: mean, rstd (C) "=" and the
 * running statistics running = (1-momentum)*running + momentum*(mean | var*count/(count-1)); count 0 leaves
 * running untouched, mean = 0, rstd = 1; count 1: var 0. running_mean NULL: running statistics stay as they
 * are. batchnorm_apply: y "=" (masked images are written too, their values are of no consequence).
 * Evaluation: batchnorm_finish with sums NULL fills mean, rstd from the running statistics; then apply.
 * Backward likewise: batchnorm_grad_sums: fp64 (2C) "=": sum g, sum g*xhat with g = dy masked by ReLU6 (0 < y
 * < 6, where y is before the residual, recomputed from x) and by image_mask; reduced by the caller; then
 * batchnorm_grad_apply: dx = weight*rstd*(g - sum g/count - xhat*sum(g*xhat)/count), 0 for masked images;
 * dweight += local sum g*xhat, dbias += local sum g (from the unreduced sums given in local_sums).
 * The gradient of residual is dy. */
struct batchnorm {
    enum dtype dtype;
    int64_t n, hw, c; /* images, pixels an image, channels */
    float eps, momentum;
    bool relu6;
    const void *x;
    const float *weight, *bias;
    float *running_mean, *running_var; /* (C) read in evaluation, updated by batchnorm_finish in training */
    float *mean, *rstd;                /* (C) = by finish */
    const uint8_t *image_mask;
    const void *residual;
};

struct batchnorm_grad {
    const void *dy;
    void *dx;           /* "=" */
    const double *sums; /* forward sums reduced over the group (for the count); NULL in evaluation mode */
    const double *grad_sums;  /* reduced; NULL in evaluation mode: statistics are constants */
    const double *local_sums; /* this rank's own grad sums */
    float *dweight, *dbias;
};

/* Inference: batch norm by running statistics folded into the layer in front of it, whose bias and relu6 do
 * the rest: s = weight / sqrt(running_var + eps);  w_folded = s w;  bias_folded = bias - s running_mean w
 * fp32 with `taps` weights for each of C channels: (C,taps), or (taps,C) with channels_last (depthwise). */
struct batchnorm_fold {
    int64_t c, taps;
    bool channels_last;
    float eps;
    const float *weight, *bias, *running_mean, *running_var;
    const float *w;
    enum dtype dtype;   /* of w_folded */
    void *w_folded;     /* = as w */
    float *bias_folded; /* = (C) */
};

/* Softmax cross-entropy with label smoothing: target (1-eps)*onehot + eps/K.
 * logits fp32 (N,K), labels int32 (N) (of masked rows: anything), mask uint8 (N) or NULL.
 * rows fp32 (N) "=" loss of each row, 0 where masked (NULL: not wanted);
 * dlogits fp32 (N,K) = or += scale * (softmax - target), 0 where masked (NULL: not wanted).
 * loss_sum fp64 (1) += sum of the rows kept (not scaled); NULL: not wanted. */
struct cross_entropy {
    int64_t n, k;
    float smoothing;
    const float *logits;
    const int32_t *labels;
    const uint8_t *mask;
    float scale;
    const float
        *scale_device; /* fp32 (1) multiplies scale when not NULL: a divisor known only on the device */
    float *rows, *dlogits;
    bool dlogits_accumulate;
    double *loss_sum;
};

/* Soft-target distillation: loss_n = T^2 * KL(softmax(teacher_n) || softmax(logits_n / T)) with teacher
 * *probabilities* (N,K) already at temperature T; other fields as struct cross_entropy. */
struct soft_cross_entropy {
    int64_t n, k;
    float temperature, scale;
    const float *scale_device; /* as in struct cross_entropy */
    const float *logits, *teacher;
    const uint8_t *mask;
    float *dlogits;
    bool dlogits_accumulate;
    double *loss_sum;
};

/* confidence (N) = max softmax, label (N) = its index (ties: lowest), mask (N) = confidence > threshold
 * (strictly, compared in fp32); probabilities (N,K). Outputs "=", NULL: not wanted. */
struct confidence {
    int64_t n, k;
    const float *logits;
    float threshold;
    float *confidence, *probabilities;
    int32_t *label;
    uint8_t *mask;
};

/* C (m,n) = alpha * op(A) op(B) + beta * C, row-major with leading dimensions; A, B of type dtype, C fp32. */
struct gemm {
    enum dtype dtype;
    bool transpose_a, transpose_b;
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const void *a, *b;
    float *c;
};

/* One contiguous piece of the flat parameter buffer with its own settings. */
struct optimiser_segment {
    int64_t offset, n_elem;
    float lr_scale;     /* multiplies lr (layer-wise decay, backbone_scale) */
    float weight_decay; /* 0 for norms, biases, position tables */
};

/* grad is multiplied by *grad_scale (fp32, device: clipping, 1 where NULL) before use. When *skip (int32,
 * device) is not 0 nothing changes. Segments lie in host memory and are constant for the life of the
 * optimiser; [begin, end) limits the update to a part of the flat buffer (ZeRO-1): state1, state2 and ema
 * hold only that part (index 0 = element begin); params, grads and shadow the whole. SGD (Nesterov): g +=
 * wd*p; v = momentum*v + g (first step: v = g); p -= lr*(g + momentum*v), plain momentum: p -= lr*v. AdamW
 * (Loshchilov & Hutter 2019): p *= 1 - lr*wd; m, v; p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps).
 * shadow: bf16 copy of the parameters refreshed in the same pass (NULL: none). ema: = decay*ema +
 * (1-decay)*p. */
struct optimiser_step {
    const struct optimiser_segment *segments;
    int32_t n_segments;
    int64_t begin, end;
    float lr;
    float momentum;
    bool nesterov, first_step; /* SGD */
    double beta1, beta2, eps;  /* AdamW; 1 - 0.999f would be off by 1e-5, so in double */
    int64_t t;                 /* AdamW: number of this step, from 1 */
    float *params;
    const float *grads;
    float *state1, *state2; /* SGD: v, unused. AdamW: m, v */
    uint16_t *shadow;
    float *ema;
    float ema_decay;
    const float *grad_scale;
    const int32_t *skip;
};

enum { UPLOAD_LANES = 2 };
struct upload; /* see upload_open */

struct ops {
    const char *name;
    int32_t abi; /* OPS_ABI */

    /* Memory of the backend. alloc: 256-byte aligned, not zeroed; STATUS_NO_MEMORY says how much was wanted.
     */
    status_t (*alloc)(struct backend *be, size_t n_bytes, void **out);
    void (*release)(struct backend *be, void *p);
    status_t (*copy_in)(struct backend *be, void *dst, const void *host,
                        size_t n_bytes); /* ordered; host reusable on return */
    status_t (*copy_out)(struct backend *be, void *host, const void *src, size_t n_bytes); /* waits */
    status_t (*copy)(struct backend *be, void *dst, const void *src, size_t n_bytes);
    status_t (*fill_zero)(struct backend *be, void *dst, size_t n_bytes);
    status_t (*synchronise)(struct backend *be);

    /* Elementwise helpers. */
    status_t (*add)(struct backend *be, enum dtype dtype, void *y, const void *x,
                    int64_t n_elem);                                               /* y += x */
    status_t (*scale)(struct backend *be, float *x, float factor, int64_t n_elem); /* x *= factor */
    status_t (*cast)(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                     int64_t n_elem);
    /* y (N,H,W,3) of dtype = (x/255 - mean)/std, x uint8; ImageNet's mean and std */
    status_t (*normalise)(struct backend *be, enum dtype dtype, void *y, const uint8_t *x, int64_t n_pixels);
    /* Inverted dropout on fp32 (N,D), may alias: element (i,j) of image item[i] is kept where
     * rng_float of key {.item = item[i]} word j >= rate, scaled by 1/(1-rate). Backward: the same call on dy.
     */
    status_t (*dropout)(struct backend *be, float *y, const float *x, int64_t n, int64_t d, float rate,
                        struct rng_key key, const uint32_t *host_items);

    /* Optional, all or none (NULL: pixels come normalised, by copy_in): raw pixels of a batch to come travel
     * while earlier operations run. An upload has UPLOAD_LANES buffers of n_bytes, to be used in turn. begin:
     * host (n_bytes, free on return) -> the lane from offset on, once the lane's earlier pixels were
     * normalised and beside everything else. normalise: y as by `normalise` from the lane's bytes from offset
     * on, in the order of operations, once they are there. close: NULL is fine. */
    status_t (*upload_open)(struct backend *be, size_t n_bytes, struct upload **out);
    void (*upload_close)(struct backend *be, struct upload *upload);
    status_t (*upload_begin)(struct backend *be, struct upload *upload, int32_t lane, size_t offset,
                             const void *host, size_t n_bytes);
    status_t (*upload_normalise)(struct backend *be, struct upload *upload, int32_t lane, size_t offset,
                                 enum dtype dtype, void *y, int64_t n_pixels);

    /* Networks. X_scratch: bytes of scratch for forward and backward alike (the larger). NULL slots: 0 bytes.
     */
    size_t (*linear_scratch)(struct backend *be, const struct linear *a, bool train);
    status_t (*linear_forward)(struct backend *be, const struct linear *a, void *y, void *scratch);
    status_t (*linear_backward)(struct backend *be, const struct linear *a, const struct linear_grad *g,
                                void *scratch);
    size_t (*mlp_scratch)(struct backend *be, const struct mlp *a, bool train);
    status_t (*mlp_forward)(struct backend *be, const struct mlp *a, void *y, void *scratch);
    status_t (*mlp_backward)(struct backend *be, const struct mlp *a, const struct mlp_grad *g,
                             void *scratch);
    size_t (*layernorm_scratch)(struct backend *be, const struct layernorm *a, bool train);
    status_t (*layernorm_forward)(struct backend *be, const struct layernorm *a, void *y);
    status_t (*layernorm_backward)(struct backend *be, const struct layernorm *a,
                                   const struct layernorm_grad *g, void *scratch);
    size_t (*conv_scratch)(struct backend *be, const struct conv *a, bool train);
    status_t (*conv_forward)(struct backend *be, const struct conv *a, void *y, void *scratch);
    status_t (*conv_backward)(struct backend *be, const struct conv *a, const struct conv_grad *g,
                              void *scratch);
    size_t (*depthwise_scratch)(struct backend *be, const struct depthwise *a, bool train);
    status_t (*depthwise_forward)(struct backend *be, const struct depthwise *a, void *y, void *scratch);
    status_t (*depthwise_backward)(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                                   void *scratch);
    size_t (*window_attention_scratch)(struct backend *be, const struct window_attention *a, bool train);
    status_t (*window_attention_forward)(struct backend *be, const struct window_attention *a, void *y,
                                         void *scratch);
    status_t (*window_attention_backward)(struct backend *be, const struct window_attention *a,
                                          const struct window_attention_grad *g, void *scratch);
    status_t (*patch_merge_forward)(struct backend *be, const struct patch_merge *a, const void *x, void *y);
    status_t (*patch_merge_backward)(struct backend *be, const struct patch_merge *a, const void *dy,
                                     void *dx); /* dx = */
    size_t (*batchnorm_scratch)(struct backend *be, const struct batchnorm *a, bool train);
    status_t (*batchnorm_sums)(struct backend *be, const struct batchnorm *a, double *sums, void *scratch);
    status_t (*batchnorm_finish)(struct backend *be, const struct batchnorm *a, const double *sums);
    status_t (*batchnorm_apply)(struct backend *be, const struct batchnorm *a, void *y);
    status_t (*batchnorm_grad_sums)(struct backend *be, const struct batchnorm *a, const void *dy,
                                    double *sums, void *scratch);
    status_t (*batchnorm_grad_apply)(struct backend *be, const struct batchnorm *a,
                                     const struct batchnorm_grad *g);
    /* Optional: a table without it is never handed relu6 layers. */
    status_t (*batchnorm_fold)(struct backend *be, const struct batchnorm_fold *a);
    /* y fp32 (N,C) = mean over HW of x (N,HW,C) of dtype; dx (N,HW,C) = dy/HW */
    status_t (*average_pool_forward)(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                     const void *x, float *y);
    status_t (*average_pool_backward)(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                      const float *dy, void *dx);

    /* Losses and what hangs on logits. */
    status_t (*cross_entropy)(struct backend *be, const struct cross_entropy *a);
    status_t (*soft_cross_entropy)(struct backend *be, const struct soft_cross_entropy *a);
    status_t (*confidence)(struct backend *be, const struct confidence *a);
    status_t (*gemm)(struct backend *be, const struct gemm *a);
    /* x (n,d) fp32 -> sums fp64 (1 + d) "=": n, column sums: first half of a covariance over a group. */
    status_t (*column_sums)(struct backend *be, const float *x, int64_t n, int64_t d, double *sums);
    /* y (n,d) = x - sums[1..d]/sums[0]; with the reduced sums of column_sums. y may alias x. */
    status_t (*centre)(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums,
                       float *y);

    /* sum fp64 (1) "=": how many of mask (n) are not 0. */
    status_t (*mask_sum)(struct backend *be, const uint8_t *mask, int64_t n, double *sum);
    /* out (1) = numerator / denominator[0], 0 where denominator[0] <= 0: the scale of a mean over kept rows.
     */
    status_t (*mean_scale)(struct backend *be, float numerator, const double *denominator, float *out);
    /* The exchange's message of one image: (label, confidence) side by side, 8 bytes. */
    status_t (*pseudo_pack)(struct backend *be, const int32_t *label, const float *confidence, int64_t n,
                            struct pseudo_label *out);
    /* label (n), mask (n) = confidence > threshold, of received messages. */
    status_t (*pseudo_unpack)(struct backend *be, const struct pseudo_label *in, int64_t n, float threshold,
                              int32_t *label, uint8_t *mask);
    /* dst (n) = rows host_index[i] of src, row_bytes each; host_index (n) host memory, not needed after the
     * call. */
    status_t (*gather_rows)(struct backend *be, void *dst, const void *src, size_t row_bytes, int64_t n,
                            const int32_t *host_index);

    /* Optimisers. */
    status_t (*sgd)(struct backend *be, const struct optimiser_step *a);
    status_t (*adamw)(struct backend *be, const struct optimiser_step *a);
    /* sum fp64 (2) "=": sum of squares of x and number of elements that are NaN or infinite. */
    status_t (*square_sum)(struct backend *be, const float *x, int64_t n_elem, double *sum);
    /* grad_scale (1) = min(1, clip/(sqrt(sum[0]) + 1e-6)) (clip <= 0: 1), skip (1) = sum[1] > 0 or sum not
     * finite. */
    status_t (*clip_factor)(struct backend *be, const double *sum, float clip, float *grad_scale,
                            int32_t *skip);

    /* Optional, all four or none. Between record_begin and record_end operations are not carried out but
     * recorded with their arguments; replay enqueues them all, as often as wanted. Nothing that waits or
     * copies from the host may be recorded, and every operation has run once before with the same arguments.
     */
    status_t (*record_begin)(struct backend *be);
    status_t (*record_end)(struct backend *be, void **recording); /* owned until record_free() */
    status_t (*replay)(struct backend *be, void *recording);
    void (*record_free)(struct backend *be, void *recording);

    /* Optional. Time spent by kind of operation since the last call (bench model); NULL: not measured. */
    void (*profile_start)(struct backend *be);
    void (*profile_stop)(struct backend *be);

    /* Optional. poke(context) is called between blocks of long operations, by the thread that called the
     * operation, about every half millisecond: communication moves on while gradients are computed. NULL:
     * none (the default). With a poke, sums over rows (gradients of weights and of position tables) may be
     * taken in blocks of another, fixed order; nothing else changes a bit. */
    void (*set_poke)(struct backend *be, void (*poke)(void *context), void *context);
};

#define OPS_ABI 2

/* Slots that are the same for every table whose memory the host reads: nothing there is worth vectorising. */
status_t host_mask_sum(struct backend *be, const uint8_t *mask, int64_t n, double *sum);
status_t host_mean_scale(struct backend *be, float numerator, const double *denominator, float *out);
status_t host_pseudo_pack(struct backend *be, const int32_t *label, const float *confidence, int64_t n,
                          struct pseudo_label *out);
status_t host_pseudo_unpack(struct backend *be, const struct pseudo_label *in, int64_t n, float threshold,
                            int32_t *label, uint8_t *mask);
status_t host_gather_rows(struct backend *be, void *dst, const void *src, size_t row_bytes, int64_t n,
                          const int32_t *host_index);

/* Every required slot filled? STATUS_INTERNAL names the first empty one. Called at start-up. */
status_t ops_check(const struct ops *ops);

/* The CPU: oneDNN and our own vectorised code with `n_threads` OpenMP threads (0: as OpenMP decides). Owned
 * by the caller until cpu_backend_close(). */
status_t cpu_backend_open(int32_t n_threads, struct backend **out);
void cpu_backend_close(struct backend *be);
extern const struct ops ops_cpu;

/* Does this CPU have bf16 arithmetic worth using (AVX512_BF16, AMX)? */
bool cpu_has_bf16(void);

#endif
