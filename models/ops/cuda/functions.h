/* The CUDA entries of the table of operations; models/ops/ops.h says what each does. */
#ifndef MODELS_OPS_CUDA_FUNCTIONS_H
#define MODELS_OPS_CUDA_FUNCTIONS_H

#ifdef __cplusplus
extern "C" {
#endif
#include "models/ops/ops.h"

/* backend.c */
status_t cuda_alloc(struct backend *be, size_t n_bytes, void **out);
void cuda_release(struct backend *be, void *p);
status_t cuda_copy_in(struct backend *be, void *dst, const void *host, size_t n_bytes);
status_t cuda_copy_out(struct backend *be, void *host, const void *src, size_t n_bytes);
status_t cuda_copy(struct backend *be, void *dst, const void *src, size_t n_bytes);
status_t cuda_fill_zero(struct backend *be, void *dst, size_t n_bytes);
status_t cuda_synchronise(struct backend *be);

/* record.c */
status_t cuda_record_begin(struct backend *be);
status_t cuda_record_end(struct backend *be, void **recording);
status_t cuda_replay(struct backend *be, void *recording);
void cuda_record_free(struct backend *be, void *recording);

/* upload.c */
status_t cuda_upload_open(struct backend *be, size_t n_bytes, struct upload **out);
void cuda_upload_close(struct backend *be, struct upload *upload);
status_t cuda_upload_begin(struct backend *be, struct upload *upload, int32_t lane, size_t offset,
                           const void *host, size_t n_bytes);
status_t cuda_upload_normalise(struct backend *be, struct upload *upload, int32_t lane, size_t offset,
                               enum dtype dtype, void *y, int64_t n_pixels);

/* elementwise.cu, dropout.cu, pool.cu, patch_merge.cu */
status_t cuda_add(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n_elem);
status_t cuda_scale(struct backend *be, float *x, float factor, int64_t n_elem);
status_t cuda_cast(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                   int64_t n_elem);
status_t cuda_normalise(struct backend *be, enum dtype dtype, void *y, const uint8_t *x, int64_t n_pixels);
status_t cuda_dropout(struct backend *be, float *y, const float *x, int64_t n, int64_t d, float rate,
                      struct rng_key key, const uint32_t *host_items);
status_t cuda_average_pool_forward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                   const void *x, float *y);
status_t cuda_average_pool_backward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                    const float *dy, void *dx);
status_t cuda_patch_merge_forward(struct backend *be, const struct patch_merge *a, const void *x, void *y);
status_t cuda_patch_merge_backward(struct backend *be, const struct patch_merge *a, const void *dy, void *dx);

/* linear.c */
size_t cuda_linear_scratch(struct backend *be, const struct linear *a, bool train);
status_t cuda_linear_forward(struct backend *be, const struct linear *a, void *y, void *scratch);
status_t cuda_linear_backward(struct backend *be, const struct linear *a, const struct linear_grad *g,
                              void *scratch);
status_t cuda_gemm(struct backend *be, const struct gemm *a);

/* mlp.c */
size_t cuda_mlp_scratch(struct backend *be, const struct mlp *a, bool train);
status_t cuda_mlp_forward(struct backend *be, const struct mlp *a, void *y, void *scratch);
status_t cuda_mlp_backward(struct backend *be, const struct mlp *a, const struct mlp_grad *g, void *scratch);

/* layernorm.cu, batchnorm.cu */
size_t cuda_layernorm_scratch(struct backend *be, const struct layernorm *a, bool train);
status_t cuda_layernorm_forward(struct backend *be, const struct layernorm *a, void *y);
status_t cuda_layernorm_backward(struct backend *be, const struct layernorm *a,
                                 const struct layernorm_grad *g, void *scratch);
size_t cuda_batchnorm_scratch(struct backend *be, const struct batchnorm *a, bool train);
status_t cuda_batchnorm_sums(struct backend *be, const struct batchnorm *a, double *sums, void *scratch);
status_t cuda_batchnorm_finish(struct backend *be, const struct batchnorm *a, const double *sums);
status_t cuda_batchnorm_apply(struct backend *be, const struct batchnorm *a, void *y);
status_t cuda_batchnorm_grad_sums(struct backend *be, const struct batchnorm *a, const void *dy, double *sums,
                                  void *scratch);
status_t cuda_batchnorm_fold(struct backend *be, const struct batchnorm_fold *a);
status_t cuda_batchnorm_grad_apply(struct backend *be, const struct batchnorm *a,
                                   const struct batchnorm_grad *g);

/* conv.c */
size_t cuda_conv_scratch(struct backend *be, const struct conv *a, bool train);
status_t cuda_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch);
status_t cuda_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                            void *scratch);

/* depthwise.cu */
size_t cuda_depthwise_scratch(struct backend *be, const struct depthwise *a, bool train);
status_t cuda_depthwise_forward(struct backend *be, const struct depthwise *a, void *y, void *scratch);
status_t cuda_depthwise_backward(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                                 void *scratch);

/* attention.cu */
size_t cuda_window_attention_scratch(struct backend *be, const struct window_attention *a, bool train);
status_t cuda_window_attention_forward(struct backend *be, const struct window_attention *a, void *y,
                                       void *scratch);
status_t cuda_window_attention_backward(struct backend *be, const struct window_attention *a,
                                        const struct window_attention_grad *g, void *scratch);

/* losses.cu */
status_t cuda_cross_entropy(struct backend *be, const struct cross_entropy *a);
status_t cuda_soft_cross_entropy(struct backend *be, const struct soft_cross_entropy *a);
status_t cuda_confidence(struct backend *be, const struct confidence *a);
status_t cuda_column_sums(struct backend *be, const float *x, int64_t n, int64_t d, double *sums);
status_t cuda_centre(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums, float *y);

/* small.cu */
status_t cuda_mask_sum(struct backend *be, const uint8_t *mask, int64_t n, double *sum);
status_t cuda_mean_scale(struct backend *be, float numerator, const double *denominator, float *out);
status_t cuda_pseudo_pack(struct backend *be, const int32_t *label, const float *confidence, int64_t n,
                          struct pseudo_label *out);
status_t cuda_pseudo_unpack(struct backend *be, const struct pseudo_label *in, int64_t n, float threshold,
                            int32_t *label, uint8_t *mask);
status_t cuda_gather_rows(struct backend *be, void *dst, const void *src, size_t row_bytes, int64_t n,
                          const int32_t *host_index);

/* optimisers.cu */
status_t cuda_sgd(struct backend *be, const struct optimiser_step *a);
status_t cuda_adamw(struct backend *be, const struct optimiser_step *a);
status_t cuda_square_sum(struct backend *be, const float *x, int64_t n_elem, double *sum);
status_t cuda_clip_factor(struct backend *be, const double *sum, float clip, float *grad_scale,
                          int32_t *skip);

#ifdef __cplusplus
}
#endif
#endif
