#include "tests/support/op_run.h"

#include "training/deep_coral.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct op_runner op_runners[] = {
    {"linear", run_linear},
    {"mlp", run_mlp},
    {"gelu", run_gelu},
    {"relu6", run_relu6},
    {"layernorm", run_layernorm},
    {"conv2d", run_conv2d},
    {"batchnorm", run_batchnorm},
    {"global_average_pool", run_global_average_pool},
    {"patch_merge", run_patch_merge},
    {"window_attention_core", run_window_attention_core},
    {"window_attention", run_window_attention},
    {"cross_entropy", run_cross_entropy},
    {"soft_cross_entropy", run_soft_cross_entropy},
    {"confidence", run_confidence},
    {"deep_coral", run_deep_coral},
    {"gemm", run_gemm},
    {"dropout", run_dropout},
    {"batchnorm_fold", run_batchnorm_fold},
};
const int32_t n_op_runners = sizeof op_runners / sizeof op_runners[0];

/* ---- helpers ---- */

const void *run_in(struct op_run *r, const char *name) {
    return table_up(r->t, r->dtype, case_find(r->c, name));
}
const float *run_in_f32(struct op_run *r, const char *name) {
    return table_up(r->t, DTYPE_F32, case_find(r->c, name));
}
const int32_t *run_in_i32(struct op_run *r, const char *name) {
    return table_up_i32(r->t, case_find(r->c, name));
}
const uint8_t *run_in_u8(struct op_run *r, const char *name) {
    return table_up_u8(r->t, case_find(r->c, name));
}

bool run_accumulates(const struct op_run *r) {
    return case_setting(r->c, "accumulate", 0.0) != 0.0;
}

float *run_grad(struct op_run *r, const char *input) {
    const struct tensor *x = case_find(r->c, input);
    if (!x || case_setting(r->c, "frozen", 0.0) == 1.0) return NULL;
    return table_filled(r->t, DTYPE_F32, x->n, case_setting(r->c, "start", 0.0));
}

void *run_dx(struct op_run *r, const char *input) {
    const struct tensor *x = case_need(r->c, input);
    if (case_setting(r->c, "frozen", 0.0) == 2.0) return NULL;
    return table_filled(r->t, r->dtype, x->n,
                        run_accumulates(r) ? case_setting(r->c, "start", 0.0) : (double)NAN);
}

void run_out(struct op_run *r, enum dtype dtype, const void *p, const char *name, int32_t n_dims,
             const int64_t *shape) {
    if (!p) return;
    assert_true(r->c->n_out < CASE_MAX_TENSORS);
    r->c->out[r->c->n_out++] = table_down(r->t, dtype, p, name, n_dims, shape);
}

void run_out_grad(struct op_run *r, enum dtype dtype, const void *p, const char *input) {
    const struct tensor *x = case_find(r->c, input);
    char name[TENSOR_MAX_NAME + 1];
    if (!x) return;
    snprintf(name, sizeof name, "d%s", input);
    run_out(r, dtype, p, name, x->n_dims, x->shape);
}

void run_out_number(struct op_run *r, const char *name, double value) {
    const int64_t one = 1;
    assert_true(r->c->n_out < CASE_MAX_TENSORS);
    struct tensor *x = &r->c->out[r->c->n_out++];
    *x = tensor_new(name, 1, &one);
    x->v[0] = value;
}

/* ---- linear layers ---- */

void run_linear(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x"), *w = case_need(r->c, "weight"),
                        *dy = case_need(r->c, "dy");
    struct linear a = {.dtype = r->dtype, .rows = x->n / w->shape[1], .in = w->shape[1], .out = w->shape[0]};
    a.rows_per_image = (int64_t)case_setting(r->c, "rows_per_image", 1.0);
    a.x = run_in(r, "x");
    a.w = run_in(r, "weight");
    a.bias = run_in_f32(r, "bias");
    a.residual = run_in(r, "residual");
    a.row_scale = run_in_f32(r, "row_scale");
    a.epilogue = a.residual ? LINEAR_RESIDUAL : LINEAR_PLAIN;
    a.relu6 = case_setting(r->c, "relu6", 0.0) != 0.0; /* forward only */
    void *work = SCRATCH(r, linear_scratch, &a, true);
    /* In place where the case says so: the residual is the output. */
    void *y = case_setting(r->c, "in_place", 0.0) != 0.0 ? (void *)(uintptr_t)a.residual
                                                         : table_filled(t, r->dtype, dy->n, (double)NAN);
    assert_ok(t->ops->linear_forward(t->be, &a, y, work));
    run_out(r, r->dtype, y, "y", dy->n_dims, dy->shape);
    if (a.relu6) return;
    struct linear_grad g = {.dy = run_in(r, "dy"), .dx_accumulate = run_accumulates(r)};
    g.dx = run_dx(r, "x");
    g.dw = run_grad(r, "weight");
    g.dbias = run_grad(r, "bias");
    assert_ok(t->ops->linear_backward(t->be, &a, &g, work));
    run_out_grad(r, r->dtype, g.dx, "x");
    run_out_grad(r, DTYPE_F32, g.dw, "weight");
    run_out_grad(r, DTYPE_F32, g.dbias, "bias");
}

void run_mlp(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x"), *w1 = case_need(r->c, "w1");
    struct mlp a = {
        .dtype = r->dtype, .rows = x->n / w1->shape[1], .channels = w1->shape[1], .hidden = w1->shape[0]};
    a.rows_per_image = (int64_t)case_setting(r->c, "rows_per_image", 1.0);
    a.x = run_in(r, "x");
    a.w1 = run_in(r, "w1");
    a.w2 = run_in(r, "w2");
    a.b1 = run_in_f32(r, "b1");
    a.b2 = run_in_f32(r, "b2");
    a.gamma = run_in_f32(r, "gamma");
    a.residual = run_in(r, "residual");
    a.row_scale = run_in_f32(r, "row_scale");
    void *y = case_setting(r->c, "in_place", 0.0) != 0.0 ? (void *)(uintptr_t)a.residual
                                                         : table_filled(t, r->dtype, x->n, (double)NAN);
    a.pre = table_filled(t, r->dtype, a.rows * a.hidden, (double)NAN);
    void *work = SCRATCH(r, mlp_scratch, &a, true);
    assert_ok(t->ops->mlp_forward(t->be, &a, y, work));
    run_out(r, r->dtype, y, "y", x->n_dims, x->shape);
    struct mlp_grad g = {.dy = run_in(r, "dy"), .dx_accumulate = run_accumulates(r)};
    g.dx = run_dx(r, "x");
    g.dw1 = run_grad(r, "w1");
    g.db1 = run_grad(r, "b1");
    g.dw2 = run_grad(r, "w2");
    g.db2 = run_grad(r, "b2");
    g.dgamma = run_grad(r, "gamma");
    assert_ok(t->ops->mlp_backward(t->be, &a, &g, work));
    run_out_grad(r, r->dtype, g.dx, "x");
    run_out_grad(r, DTYPE_F32, g.dw1, "w1");
    run_out_grad(r, DTYPE_F32, g.db1, "b1");
    run_out_grad(r, DTYPE_F32, g.dw2, "w2");
    run_out_grad(r, DTYPE_F32, g.db2, "b2");
    run_out_grad(r, DTYPE_F32, g.dgamma, "gamma");
    /* Inference keeps nothing and gives the same. */
    a.pre = NULL;
    if (case_setting(r->c, "in_place", 0.0) != 0.0) return;
    assert_ok(t->ops->mlp_forward(t->be, &a, y, SCRATCH(r, mlp_scratch, &a, false)));
    run_out(r, r->dtype, y, "y_inference", x->n_dims, x->shape);
}

/* GELU lives inside the perceptron: one channel, weights 1, no biases. */
void run_gelu(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x");
    struct mlp a = {.dtype = r->dtype, .rows = x->n, .channels = 1, .hidden = 1, .rows_per_image = x->n};
    a.x = run_in(r, "x");
    a.w1 = table_filled(t, r->dtype, 1, 1.0);
    a.w2 = table_filled(t, r->dtype, 1, 1.0);
    a.b1 = table_filled(t, DTYPE_F32, 1, 0.0);
    a.b2 = table_filled(t, DTYPE_F32, 1, 0.0);
    a.residual = table_filled(t, r->dtype, x->n, 0.0);
    a.pre = table_filled(t, r->dtype, x->n, (double)NAN);
    void *work = SCRATCH(r, mlp_scratch, &a, true), *y = table_filled(t, r->dtype, x->n, (double)NAN);
    assert_ok(t->ops->mlp_forward(t->be, &a, y, work));
    run_out(r, r->dtype, y, "y", x->n_dims, x->shape);
    const struct mlp_grad g = {.dy = run_in(r, "dy"), .dx = run_dx(r, "x")};
    assert_ok(t->ops->mlp_backward(t->be, &a, &g, work));
    run_out_grad(r, r->dtype, g.dx, "x");
}

/* ReLU6 lives inside batch norm: evaluation with mean 0, variance 1 and epsilon 0. */
void run_relu6(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *x = case_need(r->c, "x");
    struct batchnorm a = {.dtype = r->dtype, .n = 1, .hw = x->n, .c = 1, .relu6 = true};
    a.x = run_in(r, "x");
    a.weight = a.running_var = table_filled(t, DTYPE_F32, 1, 1.0);
    a.bias = a.running_mean = table_filled(t, DTYPE_F32, 1, 0.0);
    a.mean = table_filled(t, DTYPE_F32, 1, (double)NAN);
    a.rstd = table_filled(t, DTYPE_F32, 1, (double)NAN);
    void *y = table_filled(t, r->dtype, x->n, (double)NAN);
    assert_ok(t->ops->batchnorm_finish(t->be, &a, NULL));
    assert_ok(t->ops->batchnorm_apply(t->be, &a, y));
    run_out(r, r->dtype, y, "y", x->n_dims, x->shape);
    const struct batchnorm_grad g = {.dy = run_in(r, "dy"), .dx = run_dx(r, "x")};
    assert_ok(t->ops->batchnorm_grad_apply(t->be, &a, &g));
    run_out_grad(r, r->dtype, g.dx, "x");
}

/* ---- losses ---- */

static double device_double(struct op_run *r, const double *p) {
    double value;
    assert_ok(r->t->ops->copy_out(r->t->be, &value, p, sizeof value));
    return value;
}

static double *device_zero(struct op_run *r) {
    double *p = table_bytes(r->t, 2 * sizeof *p);
    assert_ok(r->t->ops->fill_zero(r->t->be, p, 2 * sizeof *p));
    return p;
}

/* One mean: sum over the rows that `mask` keeps, over `divisor`. */
static void cross_entropy_mean(struct op_run *r, const struct cross_entropy *base, double divisor,
                               const char *loss, const char *dlogits) {
    const struct tensor *logits = case_need(r->c, "logits");
    struct cross_entropy a = *base;
    a.scale = (float)(divisor > 0 ? 1.0 / divisor : 0.0);
    a.loss_sum = device_zero(r);
    a.dlogits_accumulate = run_accumulates(r);
    a.dlogits = table_filled(r->t, DTYPE_F32, logits->n,
                             a.dlogits_accumulate ? case_setting(r->c, "start", 0.0) : (double)NAN);
    assert_ok(r->t->ops->cross_entropy(r->t->be, &a));
    run_out_number(r, loss, divisor > 0 ? device_double(r, a.loss_sum) / divisor : 0.0);
    run_out(r, DTYPE_F32, a.dlogits, dlogits, logits->n_dims, logits->shape);
}

void run_cross_entropy(struct op_run *r) {
    const struct tensor *logits = case_need(r->c, "logits"), *mask = case_find(r->c, "mask");
    struct cross_entropy a = {.n = logits->shape[0], .k = logits->shape[1]};
    a.smoothing = (float)case_setting(r->c, "smoothing", 0.0);
    a.logits = run_in_f32(r, "logits");
    a.labels = run_in_i32(r, "labels");
    a.rows = table_filled(r->t, DTYPE_F32, a.n, (double)NAN);
    a.scale = 1.0f;
    assert_ok(r->t->ops->cross_entropy(r->t->be, &a)); /* rows without a mask, no gradient */
    run_out(r, DTYPE_F32, a.rows, "rows", 1, &a.n);
    double kept = 0.0;
    for (int64_t i = 0; i < a.n; i++) kept += mask ? mask->v[i] : 1.0;
    a.rows = NULL;
    a.mask = run_in_u8(r, "mask");
    cross_entropy_mean(r, &a, kept, "loss_mean_over_kept", "dlogits_mean_over_kept");
    cross_entropy_mean(r, &a, (double)a.n, "loss_mean_over_all", "dlogits_mean_over_all");
}

void run_soft_cross_entropy(struct op_run *r) {
    const struct tensor *logits = case_need(r->c, "logits");
    struct soft_cross_entropy a = {.n = logits->shape[0], .k = logits->shape[1]};
    a.temperature = (float)case_setting(r->c, "temperature", 1.0);
    a.scale = (float)case_setting(r->c, "scale", 1.0);
    a.logits = run_in_f32(r, "logits");
    a.teacher = run_in_f32(r, "teacher");
    a.mask = run_in_u8(r, "mask");
    a.loss_sum = device_zero(r);
    a.dlogits_accumulate = run_accumulates(r);
    a.dlogits = table_filled(r->t, DTYPE_F32, logits->n,
                             a.dlogits_accumulate ? case_setting(r->c, "start", 0.0) : (double)NAN);
    assert_ok(r->t->ops->soft_cross_entropy(r->t->be, &a));
    run_out_number(r, "loss", (double)a.scale * device_double(r, a.loss_sum));
    run_out(r, DTYPE_F32, a.dlogits, "dlogits", logits->n_dims, logits->shape);
}

/* Integers of the backend as a tensor. */
static void run_out_i32(struct op_run *r, const int32_t *p, const char *name, int64_t n) {
    int32_t *host = malloc((size_t)n * sizeof *host + 1);
    assert_non_null(host);
    assert_ok(r->t->ops->copy_out(r->t->be, host, p, (size_t)n * sizeof *host));
    struct tensor *x = &r->c->out[r->c->n_out++];
    *x = tensor_new(name, 1, &n);
    for (int64_t i = 0; i < n; i++) x->v[i] = host[i];
    free(host);
}

static void run_out_u8(struct op_run *r, const uint8_t *p, const char *name, int64_t n) {
    uint8_t *host = malloc((size_t)n + 1);
    assert_non_null(host);
    assert_ok(r->t->ops->copy_out(r->t->be, host, p, (size_t)n));
    struct tensor *x = &r->c->out[r->c->n_out++];
    *x = tensor_new(name, 1, &n);
    for (int64_t i = 0; i < n; i++) x->v[i] = host[i];
    free(host);
}

void run_confidence(struct op_run *r) {
    const struct tensor *logits = case_need(r->c, "logits");
    struct confidence a = {.n = logits->shape[0], .k = logits->shape[1]};
    a.threshold = (float)case_setting(r->c, "threshold", 0.5);
    a.logits = run_in_f32(r, "logits");
    a.confidence = table_filled(r->t, DTYPE_F32, a.n, (double)NAN);
    a.probabilities = table_filled(r->t, DTYPE_F32, logits->n, (double)NAN);
    a.label = table_bytes(r->t, (size_t)a.n * sizeof *a.label);
    a.mask = table_bytes(r->t, (size_t)a.n);
    assert_ok(r->t->ops->confidence(r->t->be, &a));
    run_out(r, DTYPE_F32, a.confidence, "confidence", 1, &a.n);
    run_out(r, DTYPE_F32, a.probabilities, "softmax", 2, logits->shape);
    run_out_i32(r, a.label, "label", a.n);
    run_out_u8(r, a.mask, "kept", a.n);
}

void run_deep_coral(struct op_run *r) {
    struct table *t = r->t;
    const struct tensor *source = case_need(r->c, "source"), *target = case_need(r->c, "target");
    const struct tensor *dy = case_need(r->c, "dy");
    const int64_t d = source->shape[1];
    struct deep_coral_buffers b;
    assert_ok(deep_coral_buffers_new(t->ops, t->be, source->shape[0], target->shape[0], d, &b));
    float *dsource = run_grad(r, "source"), *dtarget = run_grad(r, "target");
    const struct deep_coral a = {.ops = t->ops,
                                 .be = t->be,
                                 .source = run_in_f32(r, "source"),
                                 .target = run_in_f32(r, "target"),
                                 .dsource = dsource,
                                 .dtarget = dtarget,
                                 .n_source_global = source->shape[0],
                                 .n_target_global = target->shape[0],
                                 .weight = (float)dy->v[0]};
    assert_ok(deep_coral(&a, &b));
    run_out_number(r, "y", device_double(r, b.square) / (4.0 * (double)(d * d)));
    run_out_grad(r, DTYPE_F32, dsource, "source");
    run_out_grad(r, DTYPE_F32, dtarget, "target");
    deep_coral_buffers_free(t->ops, t->be, &b);
}

/* ---- others ---- */

void run_gemm(struct op_run *r) {
    const struct tensor *x = case_need(r->c, "a"), *y = case_need(r->c, "b"), *z = case_need(r->c, "c");
    struct gemm a = {.dtype = r->dtype, .m = z->shape[0], .n = (int64_t)case_setting(r->c, "columns", 0.0)};
    a.transpose_a = case_setting(r->c, "transpose_a", 0.0) != 0.0;
    a.transpose_b = case_setting(r->c, "transpose_b", 0.0) != 0.0;
    a.k = (int64_t)case_setting(r->c, "inner", 0.0);
    a.lda = x->shape[1];
    a.ldb = y->shape[1];
    a.ldc = z->shape[1];
    a.alpha = (float)case_setting(r->c, "alpha", 1.0);
    a.beta = (float)case_setting(r->c, "beta", 0.0);
    a.a = run_in(r, "a");
    a.b = run_in(r, "b");
    a.c = table_up(r->t, DTYPE_F32, z);
    assert_ok(r->t->ops->gemm(r->t->be, &a));
    run_out(r, DTYPE_F32, a.c, "y", 2, z->shape);
}

void run_dropout(struct op_run *r) {
    const struct tensor *x = case_need(r->c, "x");
    const struct rng_key key = {.seed = 7, .purpose = RNG_DROPOUT, .step = 3};
    uint32_t items[64];
    assert_true(x->shape[0] <= 64);
    for (int64_t i = 0; i < x->shape[0]; i++) items[i] = (uint32_t)(1000 + 17 * i);
    float *y = table_up(r->t, DTYPE_F32, x); /* in place */
    assert_ok(r->t->ops->dropout(r->t->be, y, y, x->shape[0], x->shape[1],
                                 (float)case_setting(r->c, "rate", 0.2), key, items));
    run_out(r, DTYPE_F32, y, "y", 2, x->shape);
}
