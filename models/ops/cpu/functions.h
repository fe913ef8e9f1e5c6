/* The CPU's entries of the table of operations; models/ops/ops.h says what each does. */
#ifndef MODELS_OPS_CPU_FUNCTIONS_H
#define MODELS_OPS_CPU_FUNCTIONS_H

#include "models/ops/ops.h"

/* backend.c */
status_t cpu_alloc(struct backend *be, size_t n_bytes, void **out);
void cpu_release(struct backend *be, void *p);
status_t cpu_copy(struct backend *be, void *dst, const void *src, size_t n_bytes);
status_t cpu_fill_zero(struct backend *be, void *dst, size_t n_bytes);
status_t cpu_synchronise(struct backend *be);
void cpu_set_poke(struct backend *be, void (*poke)(void *context), void *context);

/* elementwise.c */
status_t cpu_add(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n_elem);
status_t cpu_scale(struct backend *be, float *x, float factor, int64_t n_elem);
status_t cpu_cast(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x, int64_t n_elem);
status_t cpu_normalise(struct backend *be, enum dtype dtype, void *y, const uint8_t *x, int64_t n_pixels);
status_t cpu_dropout(struct backend *be, float *y, const float *x, int64_t n, int64_t d, float rate,
                     struct rng_key key, const uint32_t *host_items);
status_t cpu_average_pool_forward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                  const void *x, float *y);
status_t cpu_average_pool_backward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                   const float *dy, void *dx);
status_t cpu_patch_merge_forward(struct backend *be, const struct patch_merge *a, const void *x, void *y);
status_t cpu_patch_merge_backward(struct backend *be, const struct patch_merge *a, const void *dy, void *dx);

/* linear.c */
size_t cpu_linear_scratch(struct backend *be, const struct linear *a, bool train);
status_t cpu_linear_forward(struct backend *be, const struct linear *a, void *y, void *scratch);
status_t cpu_linear_backward(struct backend *be, const struct linear *a, const struct linear_grad *g,
                             void *scratch);
status_t cpu_gemm(struct backend *be, const struct gemm *a);

/* mlp.c */
size_t cpu_mlp_scratch(struct backend *be, const struct mlp *a, bool train);
status_t cpu_mlp_forward(struct backend *be, const struct mlp *a, void *y, void *scratch);
status_t cpu_mlp_backward(struct backend *be, const struct mlp *a, const struct mlp_grad *g, void *scratch);

/* norms.c */
size_t cpu_layernorm_scratch(struct backend *be, const struct layernorm *a, bool train);
status_t cpu_layernorm_forward(struct backend *be, const struct layernorm *a, void *y);
status_t cpu_layernorm_backward(struct backend *be, const struct layernorm *a, const struct layernorm_grad *g,
                                void *scratch);
size_t cpu_batchnorm_scratch(struct backend *be, const struct batchnorm *a, bool train);
status_t cpu_batchnorm_sums(struct backend *be, const struct batchnorm *a, double *sums, void *scratch);
status_t cpu_batchnorm_finish(struct backend *be, const struct batchnorm *a, const double *sums);
status_t cpu_batchnorm_apply(struct backend *be, const struct batchnorm *a, void *y);
status_t cpu_batchnorm_grad_sums(struct backend *be, const struct batchnorm *a, const void *dy, double *sums,
                                 void *scratch);
status_t cpu_batchnorm_fold(struct backend *be, const struct batchnorm_fold *a);
status_t cpu_batchnorm_grad_apply(struct backend *be, const struct batchnorm *a,
                                  const struct batchnorm_grad *g);

/* conv.c */
size_t cpu_conv_scratch(struct backend *be, const struct conv *a, bool train);
status_t cpu_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch);
status_t cpu_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                           void *scratch);

/* depthwise.c */
size_t cpu_depthwise_scratch(struct backend *be, const struct depthwise *a, bool train);
status_t cpu_depthwise_forward(struct backend *be, const struct depthwise *a, void *y, void *scratch);
status_t cpu_depthwise_backward(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                                void *scratch);

/* attention.c */
size_t cpu_window_attention_scratch(struct backend *be, const struct window_attention *a, bool train);
status_t cpu_window_attention_forward(struct backend *be, const struct window_attention *a, void *y,
                                      void *scratch);
status_t cpu_window_attention_backward(struct backend *be, const struct window_attention *a,
                                       const struct window_attention_grad *g, void *scratch);

/* losses.c */
status_t cpu_cross_entropy(struct backend *be, const struct cross_entropy *a);
status_t cpu_soft_cross_entropy(struct backend *be, const struct soft_cross_entropy *a);
status_t cpu_confidence(struct backend *be, const struct confidence *a);
status_t cpu_column_sums(struct backend *be, const float *x, int64_t n, int64_t d, double *sums);
status_t cpu_centre(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums, float *y);

/* optimisers.c */
status_t cpu_sgd(struct backend *be, const struct optimiser_step *a);
status_t cpu_adamw(struct backend *be, const struct optimiser_step *a);
status_t cpu_square_sum(struct backend *be, const float *x, int64_t n_elem, double *sum);
status_t cpu_clip_factor(struct backend *be, const double *sum, float clip, float *grad_scale, int32_t *skip);

#endif
