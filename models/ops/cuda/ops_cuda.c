#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/plugin.h"

/* PARTIAL: delete a line when its function is there */
#pragma weak cuda_dropout
#pragma weak cuda_layernorm_scratch
#pragma weak cuda_layernorm_forward
#pragma weak cuda_layernorm_backward
#pragma weak cuda_depthwise_scratch
#pragma weak cuda_depthwise_forward
#pragma weak cuda_depthwise_backward

const struct ops ops_cuda = {
    .name = "cuda",
    .abi = OPS_ABI,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .copy_in = cuda_copy_in,
    .copy_out = cuda_copy_out,
    .copy = cuda_copy,
    .fill_zero = cuda_fill_zero,
    .synchronise = cuda_synchronise,
    .add = cuda_add,
    .scale = cuda_scale,
    .cast = cuda_cast,
    .normalise = cuda_normalise,
    .dropout = cuda_dropout,
    .linear_scratch = cuda_linear_scratch,
    .linear_forward = cuda_linear_forward,
    .linear_backward = cuda_linear_backward,
    .mlp_scratch = cuda_mlp_scratch,
    .mlp_forward = cuda_mlp_forward,
    .mlp_backward = cuda_mlp_backward,
    .layernorm_scratch = cuda_layernorm_scratch,
    .layernorm_forward = cuda_layernorm_forward,
    .layernorm_backward = cuda_layernorm_backward,
    .conv_scratch = cuda_conv_scratch,
    .conv_forward = cuda_conv_forward,
    .conv_backward = cuda_conv_backward,
    .depthwise_scratch = cuda_depthwise_scratch,
    .depthwise_forward = cuda_depthwise_forward,
    .depthwise_backward = cuda_depthwise_backward,
    .window_attention_scratch = cuda_window_attention_scratch,
    .window_attention_forward = cuda_window_attention_forward,
    .window_attention_backward = cuda_window_attention_backward,
    .patch_merge_forward = cuda_patch_merge_forward,
    .patch_merge_backward = cuda_patch_merge_backward,
    .batchnorm_scratch = cuda_batchnorm_scratch,
    .batchnorm_sums = cuda_batchnorm_sums,
    .batchnorm_finish = cuda_batchnorm_finish,
    .batchnorm_apply = cuda_batchnorm_apply,
    .batchnorm_fold = cuda_batchnorm_fold,
    .batchnorm_grad_sums = cuda_batchnorm_grad_sums,
    .batchnorm_grad_apply = cuda_batchnorm_grad_apply,
    .average_pool_forward = cuda_average_pool_forward,
    .average_pool_backward = cuda_average_pool_backward,
    .cross_entropy = cuda_cross_entropy,
    .soft_cross_entropy = cuda_soft_cross_entropy,
    .confidence = cuda_confidence,
    .gemm = cuda_gemm,
    .column_sums = cuda_column_sums,
    .centre = cuda_centre,
    .sgd = cuda_sgd,
    .adamw = cuda_adamw,
    .square_sum = cuda_square_sum,
    .clip_factor = cuda_clip_factor,
    .mask_sum = cuda_mask_sum,
    .gather_rows = cuda_gather_rows,
    .mean_scale = cuda_mean_scale,
    .pseudo_pack = cuda_pseudo_pack,
    .pseudo_unpack = cuda_pseudo_unpack,
};
