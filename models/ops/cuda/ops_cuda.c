/* The table; what takes time in a step is a range for the profiler, named after its slot. */
#include "models/ops/cuda/conv_engine.h"
#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/nvtx.h"
#include "models/ops/cuda/plugin.h"

#define FORWARD(kind, slot, function)                                                                        \
    static status_t slot##_range(struct backend *be, const struct kind *a, void *y, void *scratch) {         \
        RANGE(#slot, function(be, a, y, scratch));                                                           \
    }
#define BACKWARD(kind, grad, slot, function)                                                                 \
    static status_t slot##_range(struct backend *be, const struct kind *a, const struct grad *g,             \
                                 void *scratch) {                                                            \
        RANGE(#slot, function(be, a, g, scratch));                                                           \
    }
#define ON_ONE(kind, slot, function)                                                                         \
    static status_t slot##_range(struct backend *be, const struct kind *a) {                                 \
        RANGE(#slot, function(be, a));                                                                       \
    }

FORWARD(linear, linear_forward, cuda_linear_forward)
BACKWARD(linear, linear_grad, linear_backward, cuda_linear_backward)
FORWARD(mlp, mlp_forward, cuda_mlp_forward)
BACKWARD(mlp, mlp_grad, mlp_backward, cuda_mlp_backward)
BACKWARD(layernorm, layernorm_grad, layernorm_backward, cuda_layernorm_backward)
FORWARD(conv, conv_forward, raced_conv_forward)
BACKWARD(conv, conv_grad, conv_backward, raced_conv_backward)
FORWARD(depthwise, depthwise_forward, raced_depthwise_forward)
BACKWARD(depthwise, conv_grad, depthwise_backward, raced_depthwise_backward)
FORWARD(window_attention, window_attention_forward, cuda_window_attention_forward)
BACKWARD(window_attention, window_attention_grad, window_attention_backward, cuda_window_attention_backward)
ON_ONE(cross_entropy, cross_entropy, cuda_cross_entropy)
ON_ONE(soft_cross_entropy, soft_cross_entropy, cuda_soft_cross_entropy)
ON_ONE(confidence, confidence, cuda_confidence)
ON_ONE(gemm, gemm, cuda_gemm)
ON_ONE(optimiser_step, sgd, cuda_sgd)
ON_ONE(optimiser_step, adamw, cuda_adamw)
ON_ONE(batchnorm_fold, batchnorm_fold, cuda_batchnorm_fold)

static status_t layernorm_forward_range(struct backend *be, const struct layernorm *a, void *y) {
    RANGE("layernorm_forward", cuda_layernorm_forward(be, a, y));
}
static status_t batchnorm_sums_range(struct backend *be, const struct batchnorm *a, double *sums,
                                     void *scratch) {
    RANGE("batchnorm_sums", cuda_batchnorm_sums(be, a, sums, scratch));
}
static status_t batchnorm_apply_range(struct backend *be, const struct batchnorm *a, void *y) {
    RANGE("batchnorm_apply", cuda_batchnorm_apply(be, a, y));
}
static status_t batchnorm_grad_sums_range(struct backend *be, const struct batchnorm *a, const void *dy,
                                          double *sums, void *scratch) {
    RANGE("batchnorm_grad_sums", cuda_batchnorm_grad_sums(be, a, dy, sums, scratch));
}
static status_t batchnorm_grad_apply_range(struct backend *be, const struct batchnorm *a,
                                           const struct batchnorm_grad *g) {
    RANGE("batchnorm_grad_apply", cuda_batchnorm_grad_apply(be, a, g));
}

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
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .replay = cuda_replay,
    .record_free = cuda_record_free,
    .add = cuda_add,
    .scale = cuda_scale,
    .cast = cuda_cast,
    .normalise = cuda_normalise,
    .dropout = cuda_dropout,
    .upload_open = cuda_upload_open,
    .upload_close = cuda_upload_close,
    .upload_begin = cuda_upload_begin,
    .upload_normalise = cuda_upload_normalise,
    .linear_scratch = cuda_linear_scratch,
    .linear_forward = linear_forward_range,
    .linear_backward = linear_backward_range,
    .mlp_scratch = cuda_mlp_scratch,
    .mlp_forward = mlp_forward_range,
    .mlp_backward = mlp_backward_range,
    .layernorm_scratch = cuda_layernorm_scratch,
    .layernorm_forward = layernorm_forward_range,
    .layernorm_backward = layernorm_backward_range,
    .conv_scratch = raced_conv_scratch,
    .conv_forward = conv_forward_range,
    .conv_backward = conv_backward_range,
    .depthwise_scratch = raced_depthwise_scratch,
    .depthwise_forward = depthwise_forward_range,
    .depthwise_backward = depthwise_backward_range,
    .window_attention_scratch = cuda_window_attention_scratch,
    .window_attention_forward = window_attention_forward_range,
    .window_attention_backward = window_attention_backward_range,
    .patch_merge_forward = cuda_patch_merge_forward,
    .patch_merge_backward = cuda_patch_merge_backward,
    .batchnorm_scratch = cuda_batchnorm_scratch,
    .batchnorm_sums = batchnorm_sums_range,
    .batchnorm_finish = cuda_batchnorm_finish,
    .batchnorm_apply = batchnorm_apply_range,
    .batchnorm_fold = batchnorm_fold_range,
    .batchnorm_grad_sums = batchnorm_grad_sums_range,
    .batchnorm_grad_apply = batchnorm_grad_apply_range,
    .average_pool_forward = cuda_average_pool_forward,
    .average_pool_backward = cuda_average_pool_backward,
    .cross_entropy = cross_entropy_range,
    .soft_cross_entropy = soft_cross_entropy_range,
    .confidence = confidence_range,
    .gemm = gemm_range,
    .column_sums = cuda_column_sums,
    .centre = cuda_centre,
    .sgd = sgd_range,
    .adamw = adamw_range,
    .square_sum = cuda_square_sum,
    .clip_factor = cuda_clip_factor,
    .mask_sum = cuda_mask_sum,
    .gather_rows = cuda_gather_rows,
    .mean_scale = cuda_mean_scale,
    .pseudo_pack = cuda_pseudo_pack,
    .pseudo_unpack = cuda_pseudo_unpack,
};
