#include "models/ops/ops.h"

status_t ops_check(const struct ops *ops) {
    CHECK(ops->abi == OPS_ABI, STATUS_INTERNAL, "operations '%s' have version %d, %d is wanted", ops->name,
          ops->abi, OPS_ABI);
#define REQUIRED(slot) CHECK(ops->slot, STATUS_INTERNAL, "operations '%s' lack %s", ops->name, #slot)
    REQUIRED(alloc);
    REQUIRED(release);
    REQUIRED(copy_in);
    REQUIRED(copy_out);
    REQUIRED(copy);
    REQUIRED(fill_zero);
    REQUIRED(synchronise);
    REQUIRED(add);
    REQUIRED(scale);
    REQUIRED(cast);
    REQUIRED(normalise);
    REQUIRED(dropout);
    REQUIRED(linear_forward);
    REQUIRED(linear_backward);
    REQUIRED(mlp_forward);
    REQUIRED(mlp_backward);
    REQUIRED(layernorm_forward);
    REQUIRED(layernorm_backward);
    REQUIRED(conv_forward);
    REQUIRED(conv_backward);
    REQUIRED(depthwise_forward);
    REQUIRED(depthwise_backward);
    REQUIRED(window_attention_forward);
    REQUIRED(window_attention_backward);
    REQUIRED(patch_merge_forward);
    REQUIRED(patch_merge_backward);
    REQUIRED(batchnorm_sums);
    REQUIRED(batchnorm_finish);
    REQUIRED(batchnorm_apply);
    REQUIRED(batchnorm_grad_sums);
    REQUIRED(batchnorm_grad_apply);
    REQUIRED(average_pool_forward);
    REQUIRED(average_pool_backward);
    REQUIRED(cross_entropy);
    REQUIRED(soft_cross_entropy);
    REQUIRED(confidence);
    REQUIRED(gemm);
    REQUIRED(column_sums);
    REQUIRED(centre);
    REQUIRED(mask_sum);
    REQUIRED(mean_scale);
    REQUIRED(pseudo_pack);
    REQUIRED(pseudo_unpack);
    REQUIRED(gather_rows);
    REQUIRED(sgd);
    REQUIRED(adamw);
    REQUIRED(square_sum);
    REQUIRED(clip_factor);
    CHECK(!ops->upload_open == !ops->upload_begin && !ops->upload_open == !ops->upload_normalise &&
              !ops->upload_open == !ops->upload_close,
          STATUS_INTERNAL, "operations '%s' have some of the slots of uploads", ops->name);
#undef REQUIRED
    return STATUS_OK;
}
