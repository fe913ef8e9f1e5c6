/* Operations on maps: norms, convolutions, attention, pooling. */
#include "tests/support/op_run.h"

#include <math.h>

void run_layernorm(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x"), *weight = case_need(r->c, "weight");
    struct layernorm a = {.dtype = r->dtype, .rows = x->n / weight->n, .channels = weight->n};
    a.eps = (float)case_setting(r->c, "eps", 1e-6);
    a.x = run_in(r, "x");
    a.weight = run_in_f32(r, "weight");
    a.bias = run_in_f32(r, "bias");
    void *y = table_filled(t, r->dtype, x->n, (double)NAN);
    assert_ok(t->ops->layernorm_forward(t->be, &a, y)); /* inference keeps nothing */
    run_out(r, r->dtype, y, "y", x->n_dims, x->shape);
    a.mean = table_filled(t, DTYPE_F32, a.rows, (double)NAN);
    a.rstd = table_filled(t, DTYPE_F32, a.rows, (double)NAN);
    assert_ok(t->ops->layernorm_forward(t->be, &a, y));
    run_out(r, r->dtype, y, "y", x->n_dims, x->shape);
    struct layernorm_grad g = {.dy = run_in(r, "dy"), .dx_accumulate = run_accumulates(r)};
    /* In place where the case says so: dx takes dy's place. */
    const bool in_place = case_setting(r->c, "in_place", 0.0) != 0.0;
    g.dx = in_place ? (void *)(uintptr_t)g.dy : run_dx(r, "x");
    g.dweight = run_grad(r, "weight");
    g.dbias = run_grad(r, "bias");
    assert_ok(t->ops->layernorm_backward(t->be, &a, &g, SCRATCH(r, layernorm_scratch, &a, true)));
    run_out_grad(r, r->dtype, g.dx, "x");
    run_out_grad(r, DTYPE_F32, g.dweight, "weight");
    run_out_grad(r, DTYPE_F32, g.dbias, "bias");
}

/* Index in the framework's (out, in/groups, kh, kw) of element i of our layout: (out,kh,kw,in) or (kh,kw,C).
 */
static int64_t framework_index(const struct tensor *w, bool depthwise, int64_t i) {
    const int64_t in = w->shape[1], k2 = w->shape[2] * w->shape[3];
    if (depthwise) return i % w->shape[0] * k2 + i / w->shape[0];
    const int64_t o = i / (k2 * in), tap = i / in % k2;
    return (o * in + i % in) * k2 + tap;
}

static struct tensor to_our_layout(const struct tensor *w, bool depthwise) {
    struct tensor ours = tensor_new(w->name, w->n_dims, w->shape);
    for (int64_t i = 0; i < w->n; i++) ours.v[i] = w->v[framework_index(w, depthwise, i)];
    return ours;
}

static void run_out_dweight(struct op_run *r, const float *p, const struct tensor *w, bool depthwise) {
    if (!p) return;
    struct tensor ours = table_down(r->t, DTYPE_F32, p, "dweight", w->n_dims, w->shape);
    struct tensor *out = &r->c->out[r->c->n_out++];
    *out = tensor_new("dweight", w->n_dims, w->shape);
    for (int64_t i = 0; i < w->n; i++) out->v[framework_index(w, depthwise, i)] = ours.v[i];
    tensor_free(&ours);
}

static void run_dense(struct op_run *r, const struct tensor *x, const struct tensor *w,
                      const struct tensor *ours, struct conv_grad *g, void *y) {
    struct table *t = r->t;
    struct conv a = {
        .dtype = r->dtype, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2], .cin = x->shape[3]};
    a.cout = w->shape[0];
    a.k = (int32_t)w->shape[2];
    a.stride = (int32_t)case_setting(r->c, "stride", 1.0);
    a.pad = (int32_t)case_setting(r->c, "padding", 0.0);
    a.x = run_in(r, "x");
    a.weight = table_up(t, r->dtype, ours);
    a.bias = run_in_f32(r, "bias");
    a.relu6 = case_setting(r->c, "relu6", 0.0) != 0.0; /* forward only */
    void *work = SCRATCH(r, conv_scratch, &a, true);
    assert_ok(t->ops->conv_forward(t->be, &a, y, work));
    if (!a.relu6) assert_ok(t->ops->conv_backward(t->be, &a, g, work));
}

static void run_depthwise(struct op_run *r, const struct tensor *x, const struct tensor *w,
                          const struct tensor *ours, struct conv_grad *g, void *y) {
    struct table *t = r->t;
    struct depthwise a = {
        .dtype = r->dtype, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2], .c = x->shape[3]};
    a.k = (int32_t)w->shape[2];
    a.stride = (int32_t)case_setting(r->c, "stride", 1.0);
    a.pad = (int32_t)case_setting(r->c, "padding", 0.0);
    a.x = run_in(r, "x");
    a.weight = table_up(t, DTYPE_F32, ours);
    a.bias = run_in_f32(r, "bias");
    a.relu6 = case_setting(r->c, "relu6", 0.0) != 0.0; /* forward only */
    void *work = SCRATCH(r, depthwise_scratch, &a, true);
    assert_ok(t->ops->depthwise_forward(t->be, &a, y, work));
    if (!a.relu6) assert_ok(t->ops->depthwise_backward(t->be, &a, g, work));
}

void run_conv2d(struct op_run *r) {
    const struct tensor *x = case_need(r->c, "x"), *w = case_need(r->c, "weight"),
                        *dy = case_need(r->c, "dy");
    const int64_t groups = (int64_t)case_setting(r->c, "groups", 1.0);
    const bool depthwise = groups == x->shape[3] && w->shape[0] == groups;
    assert_true((depthwise || groups == 1) && w->shape[2] == w->shape[3]);
    struct tensor ours = to_our_layout(w, depthwise);
    struct conv_grad g = {.dy = run_in(r, "dy"), .dx_accumulate = run_accumulates(r)};
    g.dx = run_dx(r, "x");
    g.dweight = run_grad(r, "weight");
    g.dbias = run_grad(r, "bias");
    void *y = table_filled(r->t, r->dtype, dy->n, (double)NAN);
    (depthwise ? run_depthwise : run_dense)(r, x, w, &ours, &g, y);
    run_out(r, r->dtype, y, "y", dy->n_dims, dy->shape);
    tensor_free(&ours);
    if (case_setting(r->c, "relu6", 0.0) != 0.0) return;
    run_out_grad(r, r->dtype, g.dx, "x");
    run_out_dweight(r, g.dweight, w, depthwise);
    run_out_grad(r, DTYPE_F32, g.dbias, "bias");
}

void run_batchnorm(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x"), *weight = case_need(r->c, "weight");
    const bool train = case_setting(r->c, "train", 1.0) != 0.0;
    const int64_t c = weight->n;
    struct batchnorm a = {.dtype = r->dtype, .n = x->shape[0], .hw = x->shape[1] * x->shape[2], .c = c};
    a.eps = (float)case_setting(r->c, "eps", 1e-5);
    a.momentum = (float)case_setting(r->c, "momentum", 0.1);
    a.relu6 = case_setting(r->c, "relu6", 0.0) != 0.0;
    a.x = run_in(r, "x");
    a.weight = run_in_f32(r, "weight");
    a.bias = run_in_f32(r, "bias");
    a.running_mean = (float *)(uintptr_t)run_in_f32(r, "running_mean");
    a.running_var = (float *)(uintptr_t)run_in_f32(r, "running_var");
    a.mean = table_filled(t, DTYPE_F32, c, (double)NAN);
    a.rstd = table_filled(t, DTYPE_F32, c, (double)NAN);
    a.image_mask = run_in_u8(r, "image_mask");
    a.residual = run_in(r, "residual");
    double *sums = table_bytes(t, (size_t)(1 + 2 * c) * sizeof *sums);
    double *grad_sums = table_bytes(t, (size_t)(2 * c) * sizeof *grad_sums);
    void *y = table_filled(t, r->dtype, x->n, (double)NAN), *work = SCRATCH(r, batchnorm_scratch, &a, true);
    if (train) assert_ok(t->ops->batchnorm_sums(t->be, &a, sums, work));
    assert_ok(t->ops->batchnorm_finish(t->be, &a, train ? sums : NULL));
    assert_ok(t->ops->batchnorm_apply(t->be, &a, y));
    run_out(r, r->dtype, y, "y", x->n_dims, x->shape);
    struct batchnorm_grad g = {.dy = run_in(r, "dy"), .local_sums = grad_sums};
    g.dx = run_dx(r, "x");
    g.dweight = run_grad(r, "weight");
    g.dbias = run_grad(r, "bias");
    g.sums = train ? sums : NULL;
    g.grad_sums = train ? grad_sums : NULL;
    assert_ok(t->ops->batchnorm_grad_sums(t->be, &a, g.dy, grad_sums, work));
    assert_ok(t->ops->batchnorm_grad_apply(t->be, &a, &g));
    run_out_grad(r, r->dtype, g.dx, "x");
    run_out_grad(r, DTYPE_F32, g.dweight, "weight");
    run_out_grad(r, DTYPE_F32, g.dbias, "bias");
    run_out(r, DTYPE_F32, a.running_mean, "running_mean_after", 1, &c);
    run_out(r, DTYPE_F32, a.running_var, "running_var_after", 1, &c);
}

void run_batchnorm_fold(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *w = case_need(r->c, "w"), *weight = case_need(r->c, "weight");
    struct batchnorm_fold a = {.dtype = r->dtype, .c = weight->n, .taps = w->n / weight->n};
    a.channels_last = case_setting(r->c, "channels_last", 0.0) != 0.0;
    a.eps = (float)case_setting(r->c, "eps", 1e-5);
    a.w = run_in_f32(r, "w");
    a.weight = run_in_f32(r, "weight");
    a.bias = run_in_f32(r, "bias");
    a.running_mean = run_in_f32(r, "running_mean");
    a.running_var = run_in_f32(r, "running_var");
    a.w_folded = table_filled(t, r->dtype, w->n, (double)NAN);
    a.bias_folded = table_filled(t, DTYPE_F32, a.c, (double)NAN);
    assert_ok(t->ops->batchnorm_fold(t->be, &a));
    run_out(r, r->dtype, a.w_folded, "w_folded", w->n_dims, w->shape);
    run_out(r, DTYPE_F32, a.bias_folded, "bias_folded", 1, &a.c);
}

void run_global_average_pool(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x"), *dy = case_need(r->c, "dy");
    const int64_t n = x->shape[0], hw = x->shape[1] * x->shape[2], c = x->shape[3];
    float *y = table_filled(t, DTYPE_F32, n * c, (double)NAN);
    assert_ok(t->ops->average_pool_forward(t->be, r->dtype, n, hw, c, run_in(r, "x"), y));
    run_out(r, DTYPE_F32, y, "y", dy->n_dims, dy->shape);
    void *dx = run_dx(r, "x");
    assert_ok(t->ops->average_pool_backward(t->be, r->dtype, n, hw, c, run_in_f32(r, "dy"), dx));
    run_out_grad(r, r->dtype, dx, "x");
}

void run_patch_merge(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x"), *dy = case_need(r->c, "dy");
    const struct patch_merge a = {
        .dtype = r->dtype, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2], .c = x->shape[3]};
    void *y = table_filled(t, r->dtype, dy->n, (double)NAN), *dx = run_dx(r, "x");
    assert_ok(t->ops->patch_merge_forward(t->be, &a, run_in(r, "x"), y));
    assert_ok(t->ops->patch_merge_backward(t->be, &a, run_in(r, "dy"), dx));
    run_out(r, r->dtype, y, "y", dy->n_dims, dy->shape);
    run_out_grad(r, r->dtype, dx, "x");
}

/* Settings of window attention over a map like `map` (N,H,W,..) with c channels. */
static struct window_attention attention_of(struct op_run *r, const struct tensor *map, int64_t c) {
    struct window_attention a = {
        .dtype = r->dtype, .n = map->shape[0], .h = map->shape[1], .w = map->shape[2], .c = c};
    a.heads = (int32_t)case_setting(r->c, "heads", 1.0);
    a.wh = (int32_t)case_setting_at(r->c, "window", 0, 1.0);
    a.ww = (int32_t)case_setting_at(r->c, "window", 1, 1.0);
    a.shift_h = (int32_t)case_setting_at(r->c, "shift", 0, 0.0);
    a.shift_w = (int32_t)case_setting_at(r->c, "shift", 1, 0.0);
    const double scale = pow((double)(c / a.heads), -0.5);
    assert_true(fabs(case_setting(r->c, "scale", scale) / scale - 1.0) < 1e-12);
    assert_true(case_setting(r->c, "mask_value", -100.0) == -100.0);
    a.table = run_in_f32(r, "table");
    a.qkv_bias = run_in_f32(r, "qkv_bias");
    const int64_t n_windows = (a.h + a.wh - 1) / a.wh * ((a.w + a.ww - 1) / a.ww);
    a.lse = table_filled(r->t, DTYPE_F32, a.n * n_windows * a.heads * a.wh * a.ww, (double)NAN);
    return a;
}

void run_window_attention_core(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *qkv = case_need(r->c, "qkv"), *dy = case_need(r->c, "dy");
    struct window_attention a = attention_of(r, qkv, qkv->shape[3] / 3);
    a.qkv = run_in(r, "qkv");
    void *y = table_filled(t, r->dtype, dy->n, (double)NAN),
         *work = SCRATCH(r, window_attention_scratch, &a, true);
    assert_ok(t->ops->window_attention_forward(t->be, &a, y, work));
    run_out(r, r->dtype, y, "y", dy->n_dims, dy->shape);
    struct window_attention_grad g = {.y = y, .dy = run_in(r, "dy"), .dtable = run_grad(r, "table")};
    g.dqkv = table_filled(t, r->dtype, qkv->n, (double)NAN);
    g.dqkv_bias = run_grad(r, "qkv_bias");
    assert_ok(t->ops->window_attention_backward(t->be, &a, &g, work));
    run_out_grad(r, r->dtype, g.dqkv, "qkv");
    run_out_grad(r, DTYPE_F32, g.dtable, "table");
    run_out_grad(r, DTYPE_F32, g.dqkv_bias, "qkv_bias");
    /* Inference keeps nothing and gives the same. */
    a.lse = NULL;
    assert_ok(
        t->ops->window_attention_forward(t->be, &a, y, SCRATCH(r, window_attention_scratch, &a, false)));
    run_out(r, r->dtype, y, "y_inference", dy->n_dims, dy->shape);
}

/* Linear layer, attention, linear layer: Swin's block between its norm and its residual. */
void run_window_attention(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x");
    const int64_t c = x->shape[3], rows = x->n / c;
    struct window_attention a = attention_of(r, x, c);
    void *qkv = table_filled(t, r->dtype, rows * 3 * c, (double)NAN),
         *mixed = table_filled(t, r->dtype, x->n, (double)NAN);
    void *y = table_filled(t, r->dtype, x->n, (double)NAN);
    struct linear first = {.dtype = r->dtype, .rows = rows, .in = c, .out = 3 * c, .x = run_in(r, "x")};
    struct linear last = {.dtype = r->dtype, .rows = rows, .in = c, .out = c, .x = mixed};
    first.w = run_in(r, "qkv_weight");
    first.bias = a.qkv_bias;
    last.w = run_in(r, "proj_weight");
    last.bias = run_in_f32(r, "proj_bias");
    a.qkv = qkv;
    void *first_work = SCRATCH(r, linear_scratch, &first, true),
         *last_work = SCRATCH(r, linear_scratch, &last, true);
    void *work = SCRATCH(r, window_attention_scratch, &a, true);
    assert_ok(t->ops->linear_forward(t->be, &first, qkv, first_work));
    assert_ok(t->ops->window_attention_forward(t->be, &a, mixed, work));
    assert_ok(t->ops->linear_forward(t->be, &last, y, last_work));
    run_out(r, r->dtype, y, "y", x->n_dims, x->shape);

    struct linear_grad last_grad = {.dy = run_in(r, "dy"),
                                    .dx = table_filled(t, r->dtype, x->n, (double)NAN)};
    last_grad.dw = run_grad(r, "proj_weight");
    last_grad.dbias = run_grad(r, "proj_bias");
    struct window_attention_grad g = {.y = mixed, .dy = last_grad.dx, .dtable = run_grad(r, "table")};
    g.dqkv = table_filled(t, r->dtype, rows * 3 * c, (double)NAN);
    g.dqkv_bias = run_grad(r, "qkv_bias"); /* both the linear layer's and the padded tokens' */
    struct linear_grad first_grad = {.dy = g.dqkv, .dx = run_dx(r, "x")};
    first_grad.dw = run_grad(r, "qkv_weight");
    first_grad.dbias = g.dqkv_bias;
    assert_ok(t->ops->linear_backward(t->be, &last, &last_grad, last_work));
    assert_ok(t->ops->window_attention_backward(t->be, &a, &g, work));
    assert_ok(t->ops->linear_backward(t->be, &first, &first_grad, first_work));
    run_out_grad(r, r->dtype, first_grad.dx, "x");
    run_out_grad(r, DTYPE_F32, first_grad.dw, "qkv_weight");
    run_out_grad(r, DTYPE_F32, first_grad.dbias, "qkv_bias");
    run_out_grad(r, DTYPE_F32, g.dtable, "table");
    run_out_grad(r, DTYPE_F32, last_grad.dw, "proj_weight");
    run_out_grad(r, DTYPE_F32, last_grad.dbias, "proj_bias");
}
