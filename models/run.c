/* Carrying out steps: from nodes and places to the operations' arguments. */
#include "models/net_internal.h"

#include <string.h>

void *pass_tensor(const struct pass *pass, int32_t tensor) {
    return tensor == NONE ? NULL : pass->arena + pass->program.tensors[tensor].offset;
}

/* Where arguments come from: a pass, or only a graph (shapes without pointers) when scratch is asked for. */
struct binding {
    const struct graph *g;
    const struct pass *pass; /* NULL: shapes only */
    bool again;              /* the recomputed tensors */
};

static void *at(const struct binding *b, int32_t value) {
    if (!b->pass || value == NONE) return NULL;
    const struct place *place = &b->pass->program.places[value];
    return pass_tensor(b->pass, b->again ? place->again : place->first);
}

static float *param(const struct binding *b, int32_t index) {
    return !b->pass || index == NONE ? NULL : b->pass->net->params + b->g->table->items[index].offset;
}

/* A matrix in the type of the operation. */
static const void *matrix(const struct binding *b, const struct node *node, int32_t index) {
    if (!b->pass || node->dtype == DTYPE_F32) return param(b, index);
    return b->pass->net->shadow + b->g->table->items[index].offset;
}

static float *buffer(const struct binding *b, int32_t index) {
    return !b->pass || index == NONE ? NULL : b->pass->net->buffers + b->g->table->items[index].offset;
}

/* Gradient of a parameter, NULL where it is frozen. */
static float *grad(const struct pass *pass, int32_t index) {
    if (index == NONE) return NULL;
    const struct net_param *p = &pass->net->table.items[index];
    return p->layer < pass->graph.first_trained_layer ? NULL : pass->net->grads + p->offset;
}

static const float *row_scale(const struct binding *b, const struct node *node) {
    if (!b->pass || node->drop_path == NONE || b->pass->program.drop_path == NONE) return NULL;
    const float *all = pass_tensor(b->pass, b->pass->program.drop_path);
    return all + (int64_t)node->drop_path * b->g->batch;
}

/* ---- arguments by kind ---- */

static struct conv bind_conv(const struct binding *b, const struct node *node) {
    const struct value *x = &b->g->values[node->x], *y = &b->g->values[node->y];
    return (struct conv){.dtype = node->dtype,
                         .n = x->n,
                         .h = x->h,
                         .w = x->w,
                         .cin = x->c,
                         .cout = y->c,
                         .k = node->k,
                         .stride = node->stride,
                         .pad = node->pad,
                         .x = at(b, node->x),
                         .weight = matrix(b, node, node->params[0]),
                         .bias = param(b, node->params[1])};
}

static struct depthwise bind_depthwise(const struct binding *b, const struct node *node) {
    const struct value *x = &b->g->values[node->x];
    return (struct depthwise){.dtype = node->dtype,
                              .n = x->n,
                              .h = x->h,
                              .w = x->w,
                              .c = x->c,
                              .k = node->k,
                              .stride = node->stride,
                              .pad = node->pad,
                              .x = at(b, node->x),
                              .weight = param(b, node->params[0]),
                              .bias = param(b, node->params[1])};
}

static struct layernorm bind_layernorm(const struct binding *b, const struct node *node) {
    const struct value *x = &b->g->values[node->x];
    return (struct layernorm){.dtype = node->dtype,
                              .rows = value_rows(x),
                              .channels = x->c,
                              .eps = node->eps,
                              .x = at(b, node->x),
                              .weight = param(b, node->params[0]),
                              .bias = param(b, node->params[1]),
                              .mean = at(b, node->saved[0]),
                              .rstd = at(b, node->saved[1])};
}

static struct linear bind_linear(const struct binding *b, const struct node *node) {
    const struct value *x = &b->g->values[node->x], *y = &b->g->values[node->y];
    return (struct linear){.dtype = node->dtype,
                           .epilogue = node->residual == NONE ? LINEAR_PLAIN : LINEAR_RESIDUAL,
                           .rows = value_rows(x),
                           .in = x->c,
                           .out = y->c,
                           .rows_per_image = x->h * x->w,
                           .x = at(b, node->x),
                           .w = matrix(b, node, node->params[0]),
                           .bias = param(b, node->params[1]),
                           .residual = at(b, node->residual),
                           .row_scale = row_scale(b, node)};
}

static struct mlp bind_mlp(const struct binding *b, const struct node *node) {
    const struct value *x = &b->g->values[node->x];
    return (struct mlp){.dtype = node->dtype,
                        .rows = value_rows(x),
                        .channels = x->c,
                        .hidden = node->hidden,
                        .rows_per_image = x->h * x->w,
                        .x = at(b, node->x),
                        .w1 = matrix(b, node, node->params[0]),
                        .w2 = matrix(b, node, node->params[2]),
                        .b1 = param(b, node->params[1]),
                        .b2 = param(b, node->params[3]),
                        .gamma = param(b, node->params[4]),
                        .residual = at(b, node->residual),
                        .row_scale = row_scale(b, node),
                        .pre = at(b, node->saved[0])};
}

/* The first half of an mlp: its hidden rows before the activation. */
static struct linear bind_mlp_pre(const struct binding *b, const struct node *node) {
    const struct mlp m = bind_mlp(b, node);
    return (struct linear){.dtype = m.dtype,
                           .epilogue = LINEAR_PLAIN,
                           .rows = m.rows,
                           .in = m.channels,
                           .out = m.hidden,
                           .rows_per_image = m.rows_per_image,
                           .x = m.x,
                           .w = m.w1,
                           .bias = m.b1};
}

static struct window_attention bind_attention(const struct binding *b, const struct node *node) {
    const struct value *y = &b->g->values[node->y];
    return (struct window_attention){.dtype = node->dtype,
                                     .n = y->n,
                                     .h = y->h,
                                     .w = y->w,
                                     .c = y->c,
                                     .heads = node->heads,
                                     .wh = node->wh,
                                     .ww = node->ww,
                                     .shift_h = node->shift_h,
                                     .shift_w = node->shift_w,
                                     .qkv = at(b, node->x),
                                     .qkv_bias = param(b, node->params[1]),
                                     .table = param(b, node->params[0]),
                                     .lse = at(b, node->saved[0])};
}

static struct patch_merge bind_patch_merge(const struct binding *b, const struct node *node) {
    const struct value *x = &b->g->values[node->x];
    return (struct patch_merge){.dtype = node->dtype, .n = x->n, .h = x->h, .w = x->w, .c = x->c};
}

static struct batchnorm bind_batchnorm(const struct binding *b, const struct node *node) {
    const struct value *x = &b->g->values[node->x];
    const bool update = b->pass && b->pass->forward.update_statistics;
    return (struct batchnorm){.dtype = node->dtype,
                              .n = x->n,
                              .hw = x->h * x->w,
                              .c = x->c,
                              .eps = node->eps,
                              .momentum = update ? 0.1f : 0,
                              .relu6 = node->relu6,
                              .x = at(b, node->x),
                              .weight = param(b, node->params[0]),
                              .bias = param(b, node->params[1]),
                              .running_mean = buffer(b, node->stats[0]),
                              .running_var = buffer(b, node->stats[1]),
                              .mean = at(b, node->saved[0]),
                              .rstd = at(b, node->saved[1]),
                              .image_mask = b->pass ? b->pass->forward.image_mask : NULL,
                              .residual = at(b, node->residual)};
}

static struct rng_key dropout_key(const struct pass *pass) {
    struct rng_key key = pass->forward.rng;
    key.purpose = RNG_DROPOUT;
    key.sub = 0;
    return key;
}

/* ---- scratch ---- */

size_t node_scratch_bytes(const struct graph *g, const struct node *node, bool train, const struct ops *ops,
                          struct backend *be) {
    const struct binding b = {.g = g};
    if (!ops || g->batch == 0) return 0;
    switch (node->kind) {
    case NODE_CONV: {
        const struct conv a = bind_conv(&b, node);
        return ops->conv_scratch ? ops->conv_scratch(be, &a, train) : 0;
    }
    case NODE_DEPTHWISE: {
        const struct depthwise a = bind_depthwise(&b, node);
        return ops->depthwise_scratch ? ops->depthwise_scratch(be, &a, train) : 0;
    }
    case NODE_LAYERNORM: {
        const struct layernorm a = bind_layernorm(&b, node);
        return ops->layernorm_scratch ? ops->layernorm_scratch(be, &a, train) : 0;
    }
    case NODE_LINEAR: {
        const struct linear a = bind_linear(&b, node);
        return ops->linear_scratch ? ops->linear_scratch(be, &a, train) : 0;
    }
    case NODE_MLP: {
        const struct mlp a = bind_mlp(&b, node);
        const struct linear pre = bind_mlp_pre(&b, node);
        const size_t for_pre = ops->linear_scratch ? ops->linear_scratch(be, &pre, train) : 0;
        const size_t for_mlp = ops->mlp_scratch ? ops->mlp_scratch(be, &a, train) : 0;
        return for_pre > for_mlp ? for_pre : for_mlp;
    }
    case NODE_WINDOW_ATTENTION: {
        const struct window_attention a = bind_attention(&b, node);
        return ops->window_attention_scratch ? ops->window_attention_scratch(be, &a, train) : 0;
    }
    case NODE_BATCHNORM: {
        const struct batchnorm a = bind_batchnorm(&b, node);
        return ops->batchnorm_scratch ? ops->batchnorm_scratch(be, &a, train) : 0;
    }
    default:
        return 0;
    }
}

/* ---- forward ---- */

static bool uses_batch_statistics(const struct pass *pass) {
    return pass->options.mode == PASS_TRAIN && !pass->options.frozen_statistics;
}

static status_t reduce(const struct pass *pass, double *sums, int64_t n) {
    return pass->forward.reduce ? pass->forward.reduce(pass->forward.reduce_context, sums, n) : STATUS_OK;
}

/* Statistics were settled by the forward step; computing again only applies them. */
static status_t run_batchnorm(struct pass *pass, const struct binding *b, const struct node *node,
                              void *scratch) {
    const struct ops *ops = pass->net->ops;
    struct backend *be = pass->net->be;
    const struct batchnorm a = bind_batchnorm(b, node);
    if (!b->again && uses_batch_statistics(pass)) {
        double *sums = at(b, node->saved[2]);
        const int64_t n_sums = 1 + 2 * a.c;
        if (pass->options.batch > 0)
            TRY(ops->batchnorm_sums(be, &a, sums, scratch));
        else
            TRY(ops->fill_zero(be, sums, sizeof(double) * (size_t)n_sums));
        TRY(reduce(pass, sums, n_sums));
        TRY(ops->batchnorm_finish(be, &a, sums));
    } else if (!b->again) {
        TRY(ops->batchnorm_finish(be, &a, NULL));
    }
    return pass->options.batch > 0 ? ops->batchnorm_apply(be, &a, at(b, node->y)) : STATUS_OK;
}

static status_t run_forward(struct pass *pass, const struct step *step, bool again) {
    const struct node *node = &pass->graph.nodes[step->node];
    const struct binding b = {&pass->graph, pass, again};
    const struct ops *ops = pass->net->ops;
    struct backend *be = pass->net->be;
    const struct value *x = &pass->graph.values[node->x];
    void *y = at(&b, node->y), *scratch = pass_tensor(pass, step->scratch);
    if (node->kind == NODE_BATCHNORM) return run_batchnorm(pass, &b, node, scratch);
    if (pass->options.batch == 0) return STATUS_OK;
    switch (node->kind) {
    case NODE_CONV: {
        const struct conv a = bind_conv(&b, node);
        return ops->conv_forward(be, &a, y, scratch);
    }
    case NODE_DEPTHWISE: {
        const struct depthwise a = bind_depthwise(&b, node);
        return ops->depthwise_forward(be, &a, y, scratch);
    }
    case NODE_LAYERNORM: {
        const struct layernorm a = bind_layernorm(&b, node);
        return ops->layernorm_forward(be, &a, y);
    }
    case NODE_LINEAR: {
        const struct linear a = bind_linear(&b, node);
        return ops->linear_forward(be, &a, y, scratch);
    }
    case NODE_MLP: {
        const struct mlp a = bind_mlp(&b, node);
        return ops->mlp_forward(be, &a, y, scratch);
    }
    case NODE_WINDOW_ATTENTION: {
        const struct window_attention a = bind_attention(&b, node);
        return ops->window_attention_forward(be, &a, y, scratch);
    }
    case NODE_PATCH_MERGE: {
        const struct patch_merge a = bind_patch_merge(&b, node);
        return ops->patch_merge_forward(be, &a, at(&b, node->x), y);
    }
    case NODE_AVERAGE_POOL:
        return ops->average_pool_forward(be, x->dtype, x->n, x->h * x->w, x->c, at(&b, node->x), y);
    case NODE_DROPOUT:
        return ops->dropout(be, y, at(&b, node->x), x->n, x->c,
                            pass->options.mode == PASS_TRAIN ? node->rate : 0, dropout_key(pass),
                            pass->host_items);
    default:
        return FAIL(STATUS_INTERNAL, "unknown kind of node %d", (int)node->kind);
    }
}

/* Fold the batch norm behind the layer into its weights, then run the layer. */
static status_t run_folded(struct pass *pass, const struct step *step) {
    const struct node *layer = &pass->graph.nodes[step->node], *norm = layer + 1;
    const struct binding b = {&pass->graph, pass, false};
    const struct ops *ops = pass->net->ops;
    struct backend *be = pass->net->be;
    const struct net_param *w = &pass->net->table.items[layer->params[0]];
    void *weight = pass_tensor(pass, step->folded[0]), *scratch = pass_tensor(pass, step->scratch),
         *y = at(&b, norm->y);
    float *bias = pass_tensor(pass, step->folded[1]);
    const int64_t c = pass->graph.values[norm->y].c;
    const bool depthwise = layer->kind == NODE_DEPTHWISE;
    const struct batchnorm_fold fold = {.c = c,
                                        .taps = w->n_elem / c,
                                        .channels_last = depthwise,
                                        .eps = norm->eps,
                                        .weight = param(&b, norm->params[0]),
                                        .bias = param(&b, norm->params[1]),
                                        .running_mean = buffer(&b, norm->stats[0]),
                                        .running_var = buffer(&b, norm->stats[1]),
                                        .w = param(&b, layer->params[0]),
                                        .dtype = depthwise ? DTYPE_F32 : layer->dtype,
                                        .w_folded = weight,
                                        .bias_folded = bias};
    TRY(ops->batchnorm_fold(be, &fold));
    if (layer->kind == NODE_CONV) {
        struct conv a = bind_conv(&b, layer);
        a.weight = weight, a.bias = bias, a.relu6 = norm->relu6;
        return ops->conv_forward(be, &a, y, scratch);
    }
    if (depthwise) {
        struct depthwise a = bind_depthwise(&b, layer);
        a.weight = weight, a.bias = bias, a.relu6 = norm->relu6;
        return ops->depthwise_forward(be, &a, y, scratch);
    }
    struct linear a = bind_linear(&b, layer);
    a.w = weight, a.bias = bias, a.relu6 = norm->relu6;
    a.residual = at(&b, norm->residual);
    a.epilogue = a.residual ? LINEAR_RESIDUAL : LINEAR_PLAIN;
    return ops->linear_forward(be, &a, y, scratch);
}

static status_t run_mlp_pre(struct pass *pass, const struct step *step) {
    const struct node *node = &pass->graph.nodes[step->node];
    const struct binding b = {&pass->graph, pass, true};
    const struct linear a = bind_mlp_pre(&b, node);
    if (pass->options.batch == 0) return STATUS_OK;
    return pass->net->ops->linear_forward(pass->net->be, &a, at(&b, node->saved[0]),
                                          pass_tensor(pass, step->scratch));
}

/* ---- backward ---- */

static status_t run_batchnorm_backward(struct pass *pass, const struct step *step, const struct binding *b) {
    const struct node *node = &pass->graph.nodes[step->node];
    const struct ops *ops = pass->net->ops;
    struct backend *be = pass->net->be;
    const struct batchnorm a = bind_batchnorm(b, node);
    const void *dy = pass_tensor(pass, step->dy);
    double *local = pass_tensor(pass, step->grad_sums), *reduced = local;
    const int64_t n_sums = 2 * a.c;
    const bool batch_statistics = uses_batch_statistics(pass);
    if (a.n > 0)
        TRY(ops->batchnorm_grad_sums(be, &a, dy, local, pass_tensor(pass, step->scratch)));
    else
        TRY(ops->fill_zero(be, local, sizeof(double) * (size_t)n_sums));
    if (batch_statistics && pass->forward.reduce) {
        reduced = local + n_sums;
        TRY(ops->copy(be, reduced, local, sizeof(double) * (size_t)n_sums));
        TRY(reduce(pass, reduced, n_sums));
    }
    const struct batchnorm_grad g = {.dy = dy,
                                     .dx = pass_tensor(pass, step->dx),
                                     .sums = batch_statistics ? at(b, node->saved[2]) : NULL,
                                     .grad_sums = batch_statistics ? reduced : NULL,
                                     .local_sums = local,
                                     .dweight = grad(pass, node->params[0]),
                                     .dbias = grad(pass, node->params[1])};
    return a.n > 0 ? ops->batchnorm_grad_apply(be, &a, &g) : STATUS_OK;
}

/* Convolutions, dense and depthwise, share their gradients' description. */
static struct conv_grad bind_conv_grad(const struct pass *pass, const struct step *step,
                                       const struct node *node) {
    return (struct conv_grad){.dy = pass_tensor(pass, step->dy),
                              .dx = pass_tensor(pass, step->dx),
                              .dx_accumulate = step->dx_accumulate,
                              .dweight = grad(pass, node->params[0]),
                              .dbias = grad(pass, node->params[1])};
}

static status_t run_mlp_backward(struct pass *pass, const struct step *step, const struct binding *b) {
    const struct node *node = &pass->graph.nodes[step->node];
    const struct mlp a = bind_mlp(b, node);
    const struct mlp_grad g = {.dy = pass_tensor(pass, step->dy),
                               .dx = pass_tensor(pass, step->dx),
                               .dx_accumulate = step->dx_accumulate,
                               .dw1 = grad(pass, node->params[0]),
                               .db1 = grad(pass, node->params[1]),
                               .dw2 = grad(pass, node->params[2]),
                               .db2 = grad(pass, node->params[3]),
                               .dgamma = grad(pass, node->params[4])};
    return pass->net->ops->mlp_backward(pass->net->be, &a, &g, pass_tensor(pass, step->scratch));
}

static status_t run_attention_backward(struct pass *pass, const struct step *step, const struct binding *b) {
    const struct node *node = &pass->graph.nodes[step->node];
    const struct window_attention a = bind_attention(b, node);
    const bool padded = a.h % a.wh != 0 || a.w % a.ww != 0;
    const struct window_attention_grad g = {.y = at(b, node->y),
                                            .dy = pass_tensor(pass, step->dy),
                                            .dqkv = pass_tensor(pass, step->dx),
                                            .dtable = grad(pass, node->params[0]),
                                            .dqkv_bias = padded ? grad(pass, node->params[1]) : NULL};
    return pass->net->ops->window_attention_backward(pass->net->be, &a, &g, pass_tensor(pass, step->scratch));
}

static status_t run_backward(struct pass *pass, const struct step *step) {
    const struct node *node = &pass->graph.nodes[step->node];
    const struct binding b = {&pass->graph, pass, true};
    const struct ops *ops = pass->net->ops;
    struct backend *be = pass->net->be;
    const struct value *x = &pass->graph.values[node->x];
    const void *dy = pass_tensor(pass, step->dy);
    void *dx = pass_tensor(pass, step->dx), *scratch = pass_tensor(pass, step->scratch);
    if (node->kind == NODE_BATCHNORM) return run_batchnorm_backward(pass, step, &b);
    if (pass->options.batch == 0) return STATUS_OK;
    switch (node->kind) {
    case NODE_CONV: {
        const struct conv a = bind_conv(&b, node);
        const struct conv_grad g = bind_conv_grad(pass, step, node);
        return ops->conv_backward(be, &a, &g, scratch);
    }
    case NODE_DEPTHWISE: {
        const struct depthwise a = bind_depthwise(&b, node);
        const struct conv_grad g = bind_conv_grad(pass, step, node);
        return ops->depthwise_backward(be, &a, &g, scratch);
    }
    case NODE_LAYERNORM: {
        const struct layernorm a = bind_layernorm(&b, node);
        const struct layernorm_grad g = {.dy = dy,
                                         .dx = dx,
                                         .dx_accumulate = step->dx_accumulate,
                                         .dweight = grad(pass, node->params[0]),
                                         .dbias = grad(pass, node->params[1])};
        return ops->layernorm_backward(be, &a, &g, scratch);
    }
    case NODE_LINEAR: {
        const struct linear a = bind_linear(&b, node);
        const struct linear_grad g = {.dy = dy,
                                      .dx = dx,
                                      .dx_accumulate = step->dx_accumulate,
                                      .dw = grad(pass, node->params[0]),
                                      .dbias = grad(pass, node->params[1])};
        return ops->linear_backward(be, &a, &g, scratch);
    }
    case NODE_MLP:
        return run_mlp_backward(pass, step, &b);
    case NODE_WINDOW_ATTENTION:
        return run_attention_backward(pass, step, &b);
    case NODE_PATCH_MERGE: {
        const struct patch_merge a = bind_patch_merge(&b, node);
        return ops->patch_merge_backward(be, &a, dy, dx);
    }
    case NODE_AVERAGE_POOL:
        return ops->average_pool_backward(be, x->dtype, x->n, x->h * x->w, x->c, dy, dx);
    case NODE_DROPOUT:
        return ops->dropout(be, dx, dy, x->n, x->c, node->rate, dropout_key(pass), pass->host_items);
    default:
        return FAIL(STATUS_INTERNAL, "unknown kind of node %d", (int)node->kind);
    }
}

status_t run_step(struct pass *pass, const struct step *step) {
    switch (step->kind) {
    case STEP_FORWARD:
        return run_forward(pass, step, false);
    case STEP_FOLDED:
        return run_folded(pass, step);
    case STEP_RECOMPUTE:
        return run_forward(pass, step, true);
    case STEP_RECOMPUTE_PRE:
        return run_mlp_pre(pass, step);
    case STEP_BACKWARD:
        return run_backward(pass, step);
    case STEP_ADD: {
        const struct tensor *dx = &pass->program.tensors[step->dx];
        const enum dtype dtype = pass->graph.values[pass->graph.nodes[step->node].x].dtype;
        return pass->net->ops->add(pass->net->be, dtype, pass_tensor(pass, step->dx),
                                   pass_tensor(pass, step->dy), (int64_t)(dx->n_bytes / dtype_bytes(dtype)));
    }
    }
    return STATUS_OK;
}
