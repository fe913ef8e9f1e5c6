/* ops_checked: the operations of networks, and the table. */
#include "models/ops/ref/checked.h"

#include "models/ops/ref/checked_slots.h"

/* Bytes the inner table wants; a table without the slot wants none. */
#define INNER_SCRATCH(be, slot, a, train)                                                                    \
    ((be)->inner->slot ? (be)->inner->slot((be)->inner_be, (a), (train)) : 0)

#define SCRATCH_SLOT(name)                                                                                   \
    static size_t checked_##name##_scratch(struct backend *be, const struct name *a, bool train) {           \
        return INNER_SCRATCH(be, name##_scratch, a, train) + RED_ZONE_BYTES;                                 \
    }
SCRATCH_SLOT(linear)
SCRATCH_SLOT(mlp)
SCRATCH_SLOT(layernorm)
SCRATCH_SLOT(conv)
SCRATCH_SLOT(depthwise)
SCRATCH_SLOT(window_attention)
SCRATCH_SLOT(batchnorm)

/* dx, which may be left out, overwritten or added to. */
static struct operand *dx_operand(struct call *c, enum dtype dtype, void *dx, bool accumulate, int64_t n) {
    return call_optional(c, accumulate ? ROLE_ADD : ROLE_OUT, "dx", operand_type(dtype), dx, n);
}

static int64_t n_images(const float *row_scale, int64_t rows, int64_t rows_per_image) {
    return row_scale ? rows / rows_per_image : 0;
}

static status_t checked_linear_forward(struct backend *be, const struct linear *a, void *y, void *scratch) {
    struct call c = {.operation = "linear_forward"};
    const enum operand_type type = operand_type(a->dtype);
    call_operand(&c, ROLE_IN, "x", type, a->x, a->rows * a->in);
    call_operand(&c, ROLE_IN, "w", type, a->w, a->out * a->in);
    call_optional(&c, ROLE_IN, "bias", OPERAND_F32, a->bias, a->out);
    if (a->epilogue == LINEAR_RESIDUAL) {
        call_operand(&c, ROLE_IN, "residual", type, a->residual, a->rows * a->out)->may_alias = true;
        call_operand(&c, ROLE_IN, "row_scale", OPERAND_F32, a->row_scale,
                     n_images(a->row_scale, a->rows, a->rows_per_image));
    }
    call_operand(&c, ROLE_OUT, "y", type, y, a->rows * a->out)->may_alias = true;
    call_scratch(&c, scratch, INNER_SCRATCH(be, linear_scratch, a, false));
    FORWARD(be, c, linear_forward(be->inner_be, a, y, scratch));
}

static status_t checked_linear_backward(struct backend *be, const struct linear *a,
                                        const struct linear_grad *g, void *scratch) {
    struct call c = {.operation = "linear_backward"};
    const enum operand_type type = operand_type(a->dtype);
    if (g->dw) call_operand(&c, ROLE_IN, "x", type, a->x, a->rows * a->in);
    if (g->dx) call_operand(&c, ROLE_IN, "w", type, a->w, a->out * a->in);
    if (a->epilogue == LINEAR_RESIDUAL)
        call_operand(&c, ROLE_IN, "row_scale", OPERAND_F32, a->row_scale,
                     n_images(a->row_scale, a->rows, a->rows_per_image));
    call_operand(&c, ROLE_IN, "dy", type, g->dy, a->rows * a->out);
    dx_operand(&c, a->dtype, g->dx, g->dx_accumulate, a->rows * a->in);
    call_optional(&c, ROLE_ADD, "dw", OPERAND_F32, g->dw, a->out * a->in);
    call_optional(&c, ROLE_ADD, "dbias", OPERAND_F32, g->dbias, a->out);
    call_scratch(&c, scratch, INNER_SCRATCH(be, linear_scratch, a, true));
    FORWARD(be, c, linear_backward(be->inner_be, a, g, scratch));
}

static void mlp_inputs(struct call *c, const struct mlp *a) {
    const enum operand_type type = operand_type(a->dtype);
    call_operand(c, ROLE_IN, "x", type, a->x, a->rows * a->channels);
    call_operand(c, ROLE_IN, "w1", type, a->w1, a->hidden * a->channels);
    call_operand(c, ROLE_IN, "w2", type, a->w2, a->hidden * a->channels);
    call_optional(c, ROLE_IN, "b1", OPERAND_F32, a->b1, a->hidden);
    call_optional(c, ROLE_IN, "b2", OPERAND_F32, a->b2, a->channels);
    call_optional(c, ROLE_IN, "gamma", OPERAND_F32, a->gamma, a->channels);
    call_operand(c, ROLE_IN, "row_scale", OPERAND_F32, a->row_scale,
                 n_images(a->row_scale, a->rows, a->rows_per_image));
}

static status_t checked_mlp_forward(struct backend *be, const struct mlp *a, void *y, void *scratch) {
    struct call c = {.operation = "mlp_forward"};
    const enum operand_type type = operand_type(a->dtype);
    mlp_inputs(&c, a);
    call_operand(&c, ROLE_IN, "residual", type, a->residual, a->rows * a->channels)->may_alias = true;
    call_operand(&c, ROLE_OUT, "y", type, y, a->rows * a->channels)->may_alias = true;
    call_optional(&c, ROLE_OUT, "pre", type, a->pre, a->rows * a->hidden);
    call_scratch(&c, scratch, INNER_SCRATCH(be, mlp_scratch, a, a->pre != NULL));
    FORWARD(be, c, mlp_forward(be->inner_be, a, y, scratch));
}

static status_t checked_mlp_backward(struct backend *be, const struct mlp *a, const struct mlp_grad *g,
                                     void *scratch) {
    struct call c = {.operation = "mlp_backward"};
    const enum operand_type type = operand_type(a->dtype);
    mlp_inputs(&c, a);
    call_operand(&c, ROLE_IN, "pre", type, a->pre, a->rows * a->hidden);
    call_operand(&c, ROLE_IN, "dy", type, g->dy, a->rows * a->channels);
    dx_operand(&c, a->dtype, g->dx, g->dx_accumulate, a->rows * a->channels);
    call_optional(&c, ROLE_ADD, "dw1", OPERAND_F32, g->dw1, a->hidden * a->channels);
    call_optional(&c, ROLE_ADD, "db1", OPERAND_F32, g->db1, a->hidden);
    call_optional(&c, ROLE_ADD, "dw2", OPERAND_F32, g->dw2, a->hidden * a->channels);
    call_optional(&c, ROLE_ADD, "db2", OPERAND_F32, g->db2, a->channels);
    call_optional(&c, ROLE_ADD, "dgamma", OPERAND_F32, g->dgamma, a->channels);
    call_scratch(&c, scratch, INNER_SCRATCH(be, mlp_scratch, a, true));
    FORWARD(be, c, mlp_backward(be->inner_be, a, g, scratch));
}

static status_t checked_layernorm_forward(struct backend *be, const struct layernorm *a, void *y) {
    struct call c = {.operation = "layernorm_forward"};
    call_operand(&c, ROLE_IN, "x", operand_type(a->dtype), a->x, a->rows * a->channels);
    call_operand(&c, ROLE_IN, "weight", OPERAND_F32, a->weight, a->channels);
    call_operand(&c, ROLE_IN, "bias", OPERAND_F32, a->bias, a->channels);
    call_operand(&c, ROLE_OUT, "y", operand_type(a->dtype), y, a->rows * a->channels);
    call_optional(&c, ROLE_OUT, "mean", OPERAND_F32, a->mean, a->rows);
    call_optional(&c, ROLE_OUT, "rstd", OPERAND_F32, a->rstd, a->rows);
    FORWARD(be, c, layernorm_forward(be->inner_be, a, y));
}

static status_t checked_layernorm_backward(struct backend *be, const struct layernorm *a,
                                           const struct layernorm_grad *g, void *scratch) {
    struct call c = {.operation = "layernorm_backward"};
    call_operand(&c, ROLE_IN, "x", operand_type(a->dtype), a->x, a->rows * a->channels);
    call_operand(&c, ROLE_IN, "weight", OPERAND_F32, a->weight, a->channels);
    call_operand(&c, ROLE_IN, "mean", OPERAND_F32, a->mean, a->rows);
    call_operand(&c, ROLE_IN, "rstd", OPERAND_F32, a->rstd, a->rows);
    call_operand(&c, ROLE_IN, "dy", operand_type(a->dtype), g->dy, a->rows * a->channels)->may_alias =
        !g->dx_accumulate;
    dx_operand(&c, a->dtype, g->dx, g->dx_accumulate, a->rows * a->channels)->may_alias = !g->dx_accumulate;
    call_optional(&c, ROLE_ADD, "dweight", OPERAND_F32, g->dweight, a->channels);
    call_optional(&c, ROLE_ADD, "dbias", OPERAND_F32, g->dbias, a->channels);
    call_scratch(&c, scratch, INNER_SCRATCH(be, layernorm_scratch, a, true));
    FORWARD(be, c, layernorm_backward(be->inner_be, a, g, scratch));
}

/* Pixels of an output map. */
static int64_t n_out_pixels(int64_t n, int64_t h, int64_t w, int32_t k, int32_t stride, int32_t pad) {
    return n * ((h + 2 * pad - k) / stride + 1) * ((w + 2 * pad - k) / stride + 1);
}

static void conv_inputs(struct call *c, const struct conv *a) {
    call_operand(c, ROLE_IN, "x", operand_type(a->dtype), a->x, a->n * a->h * a->w * a->cin);
    call_operand(c, ROLE_IN, "weight", operand_type(a->dtype), a->weight, a->cout * a->k * a->k * a->cin);
    call_optional(c, ROLE_IN, "bias", OPERAND_F32, a->bias, a->cout);
}

static void conv_gradients(struct call *c, const struct conv_grad *g, enum dtype dtype, int64_t n_x,
                           int64_t n_w, int64_t n_b, int64_t n_y) {
    call_operand(c, ROLE_IN, "dy", operand_type(dtype), g->dy, n_y);
    dx_operand(c, dtype, g->dx, g->dx_accumulate, n_x);
    call_optional(c, ROLE_ADD, "dweight", OPERAND_F32, g->dweight, n_w);
    call_optional(c, ROLE_ADD, "dbias", OPERAND_F32, g->dbias, n_b);
}

static status_t checked_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch) {
    struct call c = {.operation = "conv_forward"};
    conv_inputs(&c, a);
    call_operand(&c, ROLE_OUT, "y", operand_type(a->dtype), y,
                 n_out_pixels(a->n, a->h, a->w, a->k, a->stride, a->pad) * a->cout);
    call_scratch(&c, scratch, INNER_SCRATCH(be, conv_scratch, a, false));
    FORWARD(be, c, conv_forward(be->inner_be, a, y, scratch));
}

static status_t checked_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                                      void *scratch) {
    struct call c = {.operation = "conv_backward"};
    conv_inputs(&c, a);
    conv_gradients(&c, g, a->dtype, a->n * a->h * a->w * a->cin, a->cout * a->k * a->k * a->cin, a->cout,
                   n_out_pixels(a->n, a->h, a->w, a->k, a->stride, a->pad) * a->cout);
    call_scratch(&c, scratch, INNER_SCRATCH(be, conv_scratch, a, true));
    FORWARD(be, c, conv_backward(be->inner_be, a, g, scratch));
}

static void depthwise_inputs(struct call *c, const struct depthwise *a) {
    call_operand(c, ROLE_IN, "x", operand_type(a->dtype), a->x, a->n * a->h * a->w * a->c);
    call_operand(c, ROLE_IN, "weight", OPERAND_F32, a->weight, a->k * a->k * a->c);
    call_optional(c, ROLE_IN, "bias", OPERAND_F32, a->bias, a->c);
}

static status_t checked_depthwise_forward(struct backend *be, const struct depthwise *a, void *y,
                                          void *scratch) {
    struct call c = {.operation = "depthwise_forward"};
    depthwise_inputs(&c, a);
    call_operand(&c, ROLE_OUT, "y", operand_type(a->dtype), y,
                 n_out_pixels(a->n, a->h, a->w, a->k, a->stride, a->pad) * a->c);
    call_scratch(&c, scratch, INNER_SCRATCH(be, depthwise_scratch, a, false));
    FORWARD(be, c, depthwise_forward(be->inner_be, a, y, scratch));
}

static status_t checked_depthwise_backward(struct backend *be, const struct depthwise *a,
                                           const struct conv_grad *g, void *scratch) {
    struct call c = {.operation = "depthwise_backward"};
    depthwise_inputs(&c, a);
    conv_gradients(&c, g, a->dtype, a->n * a->h * a->w * a->c, a->k * a->k * a->c, a->c,
                   n_out_pixels(a->n, a->h, a->w, a->k, a->stride, a->pad) * a->c);
    call_scratch(&c, scratch, INNER_SCRATCH(be, depthwise_scratch, a, true));
    FORWARD(be, c, depthwise_backward(be->inner_be, a, g, scratch));
}

/* (N, windows, heads, tokens) */
static int64_t n_lse(const struct window_attention *a) {
    const int64_t n_windows = (a->h + a->wh - 1) / a->wh * ((a->w + a->ww - 1) / a->ww);
    return a->n * n_windows * a->heads * a->wh * a->ww;
}

static void attention_inputs(struct call *c, const struct window_attention *a) {
    call_operand(c, ROLE_IN, "qkv", operand_type(a->dtype), a->qkv, a->n * a->h * a->w * 3 * a->c);
    call_optional(c, ROLE_IN, "qkv_bias", OPERAND_F32, a->qkv_bias, 3 * a->c);
    call_operand(c, ROLE_IN, "table", OPERAND_F32, a->table, (2 * a->wh - 1) * (2 * a->ww - 1) * a->heads);
}

static status_t checked_window_attention_forward(struct backend *be, const struct window_attention *a,
                                                 void *y, void *scratch) {
    struct call c = {.operation = "window_attention_forward"};
    attention_inputs(&c, a);
    call_operand(&c, ROLE_OUT, "y", operand_type(a->dtype), y, a->n * a->h * a->w * a->c);
    call_optional(&c, ROLE_OUT, "lse", OPERAND_F32, a->lse, n_lse(a));
    call_scratch(&c, scratch, INNER_SCRATCH(be, window_attention_scratch, a, a->lse != NULL));
    FORWARD(be, c, window_attention_forward(be->inner_be, a, y, scratch));
}

static status_t checked_window_attention_backward(struct backend *be, const struct window_attention *a,
                                                  const struct window_attention_grad *g, void *scratch) {
    struct call c = {.operation = "window_attention_backward"};
    const enum operand_type type = operand_type(a->dtype);
    attention_inputs(&c, a);
    call_operand(&c, ROLE_IN, "lse", OPERAND_F32, a->lse, n_lse(a));
    call_operand(&c, ROLE_IN, "y", type, g->y, a->n * a->h * a->w * a->c);
    call_operand(&c, ROLE_IN, "dy", type, g->dy, a->n * a->h * a->w * a->c);
    call_operand(&c, ROLE_OUT, "dqkv", type, g->dqkv, a->n * a->h * a->w * 3 * a->c);
    call_optional(&c, ROLE_ADD, "dtable", OPERAND_F32, g->dtable,
                  (2 * a->wh - 1) * (2 * a->ww - 1) * a->heads);
    call_optional(&c, ROLE_ADD, "dqkv_bias", OPERAND_F32, g->dqkv_bias, 3 * a->c);
    call_scratch(&c, scratch, INNER_SCRATCH(be, window_attention_scratch, a, true));
    FORWARD(be, c, window_attention_backward(be->inner_be, a, g, scratch));
}

static int64_t n_merged(const struct patch_merge *a) {
    return a->n * ((a->h + 1) / 2) * ((a->w + 1) / 2) * 4 * a->c;
}

static status_t checked_patch_merge_forward(struct backend *be, const struct patch_merge *a, const void *x,
                                            void *y) {
    struct call c = {.operation = "patch_merge_forward"};
    call_operand(&c, ROLE_IN, "x", operand_type(a->dtype), x, a->n * a->h * a->w * a->c);
    call_operand(&c, ROLE_OUT, "y", operand_type(a->dtype), y, n_merged(a));
    FORWARD(be, c, patch_merge_forward(be->inner_be, a, x, y));
}

static status_t checked_patch_merge_backward(struct backend *be, const struct patch_merge *a, const void *dy,
                                             void *dx) {
    struct call c = {.operation = "patch_merge_backward"};
    call_operand(&c, ROLE_IN, "dy", operand_type(a->dtype), dy, n_merged(a));
    call_operand(&c, ROLE_OUT, "dx", operand_type(a->dtype), dx, a->n * a->h * a->w * a->c);
    FORWARD(be, c, patch_merge_backward(be->inner_be, a, dy, dx));
}

static int64_t n_activations(const struct batchnorm *a) {
    return a->n * a->hw * a->c;
}

static status_t checked_batchnorm_sums(struct backend *be, const struct batchnorm *a, double *sums,
                                       void *scratch) {
    struct call c = {.operation = "batchnorm_sums"};
    call_operand(&c, ROLE_IN, "x", operand_type(a->dtype), a->x, n_activations(a));
    call_optional(&c, ROLE_IN, "image_mask", OPERAND_U8, a->image_mask, a->n);
    call_operand(&c, ROLE_OUT, "sums", OPERAND_F64, sums, 1 + 2 * a->c);
    call_scratch(&c, scratch, INNER_SCRATCH(be, batchnorm_scratch, a, true));
    FORWARD(be, c, batchnorm_sums(be->inner_be, a, sums, scratch));
}

static status_t checked_batchnorm_finish(struct backend *be, const struct batchnorm *a, const double *sums) {
    struct call c = {.operation = "batchnorm_finish"};
    const enum operand_role running = sums ? ROLE_ADD : ROLE_IN;
    call_optional(&c, ROLE_IN, "sums", OPERAND_F64, sums, 1 + 2 * a->c);
    call_optional(&c, running, "running_mean", OPERAND_F32, a->running_mean, a->c);
    call_optional(&c, running, "running_var", OPERAND_F32, a->running_var, a->c);
    call_operand(&c, ROLE_OUT, "mean", OPERAND_F32, a->mean, a->c);
    call_operand(&c, ROLE_OUT, "rstd", OPERAND_F32, a->rstd, a->c);
    FORWARD(be, c, batchnorm_finish(be->inner_be, a, sums));
}

static void batchnorm_inputs(struct call *c, const struct batchnorm *a) {
    call_operand(c, ROLE_IN, "x", operand_type(a->dtype), a->x, n_activations(a));
    call_operand(c, ROLE_IN, "weight", OPERAND_F32, a->weight, a->c);
    call_operand(c, ROLE_IN, "bias", OPERAND_F32, a->bias, a->c);
    call_operand(c, ROLE_IN, "mean", OPERAND_F32, a->mean, a->c);
    call_operand(c, ROLE_IN, "rstd", OPERAND_F32, a->rstd, a->c);
    call_optional(c, ROLE_IN, "image_mask", OPERAND_U8, a->image_mask, a->n);
}

static status_t checked_batchnorm_apply(struct backend *be, const struct batchnorm *a, void *y) {
    struct call c = {.operation = "batchnorm_apply"};
    batchnorm_inputs(&c, a);
    call_optional(&c, ROLE_IN, "residual", operand_type(a->dtype), a->residual, n_activations(a));
    call_operand(&c, ROLE_OUT, "y", operand_type(a->dtype), y, n_activations(a));
    FORWARD(be, c, batchnorm_apply(be->inner_be, a, y));
}

static status_t checked_batchnorm_fold(struct backend *be, const struct batchnorm_fold *a) {
    struct call c = {.operation = "batchnorm_fold"};
    call_operand(&c, ROLE_IN, "weight", OPERAND_F32, a->weight, a->c);
    call_operand(&c, ROLE_IN, "bias", OPERAND_F32, a->bias, a->c);
    call_operand(&c, ROLE_IN, "running_mean", OPERAND_F32, a->running_mean, a->c);
    call_operand(&c, ROLE_IN, "running_var", OPERAND_F32, a->running_var, a->c);
    call_operand(&c, ROLE_IN, "w", OPERAND_F32, a->w, a->c * a->taps);
    call_operand(&c, ROLE_OUT, "w_folded", operand_type(a->dtype), a->w_folded, a->c * a->taps);
    call_operand(&c, ROLE_OUT, "bias_folded", OPERAND_F32, a->bias_folded, a->c);
    FORWARD(be, c, batchnorm_fold(be->inner_be, a));
}

static status_t checked_batchnorm_grad_sums(struct backend *be, const struct batchnorm *a, const void *dy,
                                            double *sums, void *scratch) {
    struct call c = {.operation = "batchnorm_grad_sums"};
    batchnorm_inputs(&c, a);
    call_operand(&c, ROLE_IN, "dy", operand_type(a->dtype), dy, n_activations(a));
    call_operand(&c, ROLE_OUT, "sums", OPERAND_F64, sums, 2 * a->c);
    call_scratch(&c, scratch, INNER_SCRATCH(be, batchnorm_scratch, a, true));
    FORWARD(be, c, batchnorm_grad_sums(be->inner_be, a, dy, sums, scratch));
}

static status_t checked_batchnorm_grad_apply(struct backend *be, const struct batchnorm *a,
                                             const struct batchnorm_grad *g) {
    struct call c = {.operation = "batchnorm_grad_apply"};
    batchnorm_inputs(&c, a);
    call_operand(&c, ROLE_IN, "dy", operand_type(a->dtype), g->dy, n_activations(a));
    call_optional(&c, ROLE_IN, "sums", OPERAND_F64, g->sums, 1 + 2 * a->c);
    call_optional(&c, ROLE_IN, "grad_sums", OPERAND_F64, g->grad_sums, 2 * a->c);
    call_optional(&c, ROLE_IN, "local_sums", OPERAND_F64, g->local_sums, 2 * a->c);
    call_optional(&c, ROLE_OUT, "dx", operand_type(a->dtype), g->dx, n_activations(a));
    call_optional(&c, ROLE_ADD, "dweight", OPERAND_F32, g->dweight, a->c);
    call_optional(&c, ROLE_ADD, "dbias", OPERAND_F32, g->dbias, a->c);
    FORWARD(be, c, batchnorm_grad_apply(be->inner_be, a, g));
}

static status_t checked_average_pool_forward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw,
                                             int64_t c, const void *x, float *y) {
    struct call call = {.operation = "average_pool_forward"};
    call_operand(&call, ROLE_IN, "x", operand_type(dtype), x, n * hw * c);
    call_operand(&call, ROLE_OUT, "y", OPERAND_F32, y, n * c);
    FORWARD(be, call, average_pool_forward(be->inner_be, dtype, n, hw, c, x, y));
}

static status_t checked_average_pool_backward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw,
                                              int64_t c, const float *dy, void *dx) {
    struct call call = {.operation = "average_pool_backward"};
    call_operand(&call, ROLE_IN, "dy", OPERAND_F32, dy, n * c);
    call_operand(&call, ROLE_OUT, "dx", operand_type(dtype), dx, n * hw * c);
    FORWARD(be, call, average_pool_backward(be->inner_be, dtype, n, hw, c, dy, dx));
}

const struct ops ops_checked = {
    .name = "checked",
    .abi = OPS_ABI,
    .alloc = checked_alloc,
    .release = checked_release,
    .copy_in = checked_copy_in,
    .copy_out = checked_copy_out,
    .copy = checked_copy,
    .fill_zero = checked_fill_zero,
    .synchronise = checked_synchronise,
    .add = checked_add,
    .scale = checked_scale,
    .cast = checked_cast,
    .normalise = checked_normalise,
    .dropout = checked_dropout,
    .linear_scratch = checked_linear_scratch,
    .linear_forward = checked_linear_forward,
    .linear_backward = checked_linear_backward,
    .mlp_scratch = checked_mlp_scratch,
    .mlp_forward = checked_mlp_forward,
    .mlp_backward = checked_mlp_backward,
    .layernorm_scratch = checked_layernorm_scratch,
    .layernorm_forward = checked_layernorm_forward,
    .layernorm_backward = checked_layernorm_backward,
    .conv_scratch = checked_conv_scratch,
    .conv_forward = checked_conv_forward,
    .conv_backward = checked_conv_backward,
    .depthwise_scratch = checked_depthwise_scratch,
    .depthwise_forward = checked_depthwise_forward,
    .depthwise_backward = checked_depthwise_backward,
    .window_attention_scratch = checked_window_attention_scratch,
    .window_attention_forward = checked_window_attention_forward,
    .window_attention_backward = checked_window_attention_backward,
    .patch_merge_forward = checked_patch_merge_forward,
    .patch_merge_backward = checked_patch_merge_backward,
    .batchnorm_scratch = checked_batchnorm_scratch,
    .batchnorm_sums = checked_batchnorm_sums,
    .batchnorm_finish = checked_batchnorm_finish,
    .batchnorm_apply = checked_batchnorm_apply,
    .batchnorm_fold = checked_batchnorm_fold,
    .batchnorm_grad_sums = checked_batchnorm_grad_sums,
    .batchnorm_grad_apply = checked_batchnorm_grad_apply,
    .average_pool_forward = checked_average_pool_forward,
    .average_pool_backward = checked_average_pool_backward,
    .cross_entropy = checked_cross_entropy,
    .soft_cross_entropy = checked_soft_cross_entropy,
    .confidence = checked_confidence,
    .gemm = checked_gemm,
    .column_sums = checked_column_sums,
    .centre = checked_centre,
    .mask_sum = checked_mask_sum,
    .gather_rows = checked_gather_rows,
    .mean_scale = checked_mean_scale,
    .pseudo_pack = checked_pseudo_pack,
    .pseudo_unpack = checked_pseudo_unpack,
    .sgd = checked_sgd,
    .adamw = checked_adamw,
    .square_sum = checked_square_sum,
    .clip_factor = checked_clip_factor,
};
