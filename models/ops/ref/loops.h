/* All loops and the slots they fill. Included once by ref.c (real = float) and once by ref_double.c. */
#include "models/ops/ref/memory.h"
#include "models/ops/ref/elementwise.h"
#include "models/ops/ref/linear.h"
#include "models/ops/ref/conv.h"
#include "models/ops/ref/norm.h"
#include "models/ops/ref/attention.h"
#include "models/ops/ref/loss.h"
#include "models/ops/ref/optimiser.h"
#include "models/ops/ref/ref.h"

#define REF_SLOTS                                                                                            \
    .abi = OPS_ABI, .alloc = ref_alloc, .release = ref_release, .copy_in = ref_copy, .copy_out = ref_copy,   \
    .copy = ref_copy, .fill_zero = ref_fill_zero, .synchronise = ref_synchronise, .add = ref_add,            \
    .scale = ref_scale, .cast = ref_cast, .normalise = ref_normalise, .dropout = ref_dropout,                \
    .linear_forward = ref_linear_forward, .linear_backward = ref_linear_backward,                            \
    .mlp_scratch = ref_mlp_scratch, .mlp_forward = ref_mlp_forward, .mlp_backward = ref_mlp_backward,        \
    .layernorm_forward = ref_layernorm_forward, .layernorm_backward = ref_layernorm_backward,                \
    .conv_scratch = ref_conv_scratch, .conv_forward = ref_conv_forward, .conv_backward = ref_conv_backward,  \
    .depthwise_scratch = ref_depthwise_scratch, .depthwise_forward = ref_depthwise_forward,                  \
    .depthwise_backward = ref_depthwise_backward, .window_attention_scratch = ref_window_attention_scratch,  \
    .window_attention_forward = ref_window_attention_forward,                                                \
    .window_attention_backward = ref_window_attention_backward,                                              \
    .patch_merge_forward = ref_patch_merge_forward, .patch_merge_backward = ref_patch_merge_backward,        \
    .batchnorm_sums = ref_batchnorm_sums, .batchnorm_finish = ref_batchnorm_finish,                          \
    .batchnorm_apply = ref_batchnorm_apply, .batchnorm_grad_sums = ref_batchnorm_grad_sums,                  \
    .batchnorm_grad_apply = ref_batchnorm_grad_apply, .batchnorm_fold = ref_batchnorm_fold,                  \
    .average_pool_forward = ref_average_pool_forward, .average_pool_backward = ref_average_pool_backward,    \
    .cross_entropy = ref_cross_entropy, .soft_cross_entropy = ref_soft_cross_entropy,                        \
    .confidence = ref_confidence, .gemm = ref_gemm, .column_sums = ref_column_sums, .centre = ref_centre,    \
    .mask_sum = host_mask_sum, .gather_rows = host_gather_rows, .mean_scale = host_mean_scale,               \
    .pseudo_pack = host_pseudo_pack, .pseudo_unpack = host_pseudo_unpack, .sgd = ref_sgd,                    \
    .adamw = ref_adamw, .square_sum = ref_square_sum, .clip_factor = ref_clip_factor
