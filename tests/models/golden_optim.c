// Ten steps of every optimiser case in $GOLDEN/optim.h5 on all tables, whole and in shards; clipping factor,
// skipped steps, bf16 shadow and moving average.
// LIMIT 240
#include "models/ops/bf16.h"
#include "tests/support/tables.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

enum { MAX_SEGMENTS = 64 };
static const double allowed = 1e-5; /* README.md of the golden files */

struct optim_case {
    char name[TENSOR_MAX_NAME];
    bool adamw;
    struct tensor start, offset, rate, gradient, parameters, state1, state2;
    struct optimiser_segment segments[MAX_SEGMENTS];
    struct optimiser_step step; /* settings only */
};

static struct optim_case read_case(hid_t group, const char *name) {
    struct optim_case c = {.adamw = golden_attributes(group, name, "beta1", NULL, 0) > 0};
    const hid_t g = H5Gopen2(group, name, H5P_DEFAULT);
    snprintf(c.name, sizeof c.name, "%s", name);
    c.start = tensor_read(g, "start");
    c.offset = tensor_read(g, "offset");
    c.rate = tensor_read(g, "rate");
    c.gradient = tensor_read(g, "gradient");
    c.parameters = tensor_read(g, "parameters");
    c.state1 = tensor_read(g, c.adamw ? "exp_avg" : "momentum_buffer");
    if (c.adamw) {
        c.state2 = tensor_read(g, "exp_avg_sq");
        c.step.beta1 = golden_attribute(g, ".", "beta1");
        c.step.beta2 = golden_attribute(g, ".", "beta2");
        c.step.eps = golden_attribute(g, ".", "eps");
    } else {
        c.step.momentum = (float)golden_attribute(g, ".", "momentum");
        c.step.nesterov = golden_attribute(g, ".", "nesterov") != 0.0;
    }
    double decay = 0.0;
    golden_attributes(g, ".", "weight_decay", &decay, 1);
    const bool by_tensor = golden_has(g, "lr_scale");
    struct tensor lr_scale = {.n = 0}, decays = {.n = 0};
    if (by_tensor) {
        lr_scale = tensor_read(g, "lr_scale");
        decays = tensor_read(g, "weight_decay");
    }
    c.step.n_segments = (int32_t)c.offset.n - 1;
    assert_in_range(c.step.n_segments, 1, MAX_SEGMENTS);
    for (int32_t i = 0; i < c.step.n_segments; i++) {
        const int64_t begin = (int64_t)c.offset.v[i], end = (int64_t)c.offset.v[i + 1];
        c.segments[i] = (struct optimiser_segment){.offset = begin, .n_elem = end - begin};
        c.segments[i].lr_scale = by_tensor ? (float)lr_scale.v[i] : 1.0f;
        c.segments[i].weight_decay = by_tensor ? (float)decays.v[i] : (float)decay;
    }
    tensor_free(&lr_scale);
    tensor_free(&decays);
    H5Gclose(g);
    return c;
}

static void free_case(struct optim_case *c) {
    tensor_free(&c->start);
    tensor_free(&c->offset);
    tensor_free(&c->rate);
    tensor_free(&c->gradient);
    tensor_free(&c->parameters);
    tensor_free(&c->state1);
    tensor_free(&c->state2);
}

/* Row `k` of a (steps, n) tensor. */
static struct tensor row(const struct tensor *x, int64_t k, int64_t n) {
    struct tensor r = tensor_new(x->name, 1, &n);
    memcpy(r.v, x->v + k * n, (size_t)n * sizeof *r.v);
    return r;
}

/* Compare memory of the table with row k of the file, elements [begin, end). */
static void check_row(struct table *t, const struct optim_case *c, const float *p, const struct tensor *want,
                      int64_t k, int64_t begin, int64_t end) {
    const int64_t n = end - begin, n_row = want->shape[1];
    struct tensor got = table_down(t, DTYPE_F32, p, want->name, 1, &n);
    const double error = tensor_error(got.v, want->v + k * n_row + begin, n, 0.0);
    if (!(error <= allowed))
        fail_msg("%s: %s: %s after step %d: error %.3g, allowed %.3g", t->label, c->name, want->name, (int)k,
                 error, allowed);
    tensor_free(&got);
}

static status_t run_step(struct table *t, const struct optim_case *c, const struct optimiser_step *step) {
    return c->adamw ? t->ops->adamw(t->be, step) : t->ops->sgd(t->be, step);
}

/* All steps with the update limited to [begin, end), parameters and states compared after each. */
static void run_case(struct table *t, struct optim_case *c, int64_t begin, int64_t end) {
    struct optimiser_step step = c->step;
    step.segments = c->segments;
    step.begin = begin;
    step.end = end;
    step.params = table_up(t, DTYPE_F32, &c->start);
    step.state1 = table_filled(t, DTYPE_F32, end - begin, 0.0);
    step.state2 = c->adamw ? table_filled(t, DTYPE_F32, end - begin, 0.0) : NULL;
    /* Gradients twice as large, halved by the clipping factor. */
    step.grad_scale = table_filled(t, DTYPE_F32, 1, 0.5);
    step.skip = table_bytes(t, sizeof *step.skip);
    assert_ok(t->ops->fill_zero(t->be, (void *)(uintptr_t)step.skip, sizeof *step.skip));
    for (int64_t k = 0; k < c->rate.n; k++) {
        struct tensor g = row(&c->gradient, k, c->start.n);
        for (int64_t i = 0; i < g.n; i++) g.v[i] *= 2.0;
        step.grads = table_up(t, DTYPE_F32, &g);
        step.lr = (float)c->rate.v[k];
        step.first_step = k == 0;
        step.t = k + 1;
        assert_ok(run_step(t, c, &step));
        check_row(t, c, step.params + begin, &c->parameters, k, begin, end);
        check_row(t, c, step.state1, &c->state1, k, begin, end);
        if (c->adamw) check_row(t, c, step.state2, &c->state2, k, begin, end);
        tensor_free(&g);
    }
    /* Nothing outside [begin, end) has moved. */
    struct tensor after = table_down(t, DTYPE_F32, step.params, "params", 1, &c->start.n);
    for (int64_t i = 0; i < after.n; i++)
        if (i < begin || i >= end) assert_true(after.v[i] == c->start.v[i]);
    tensor_free(&after);
    table_release(t);
}

/* One step with a shadow and an average; then the same step skipped. */
static void run_extras(struct table *t, struct optim_case *c) {
    struct tensor g = row(&c->gradient, 0, c->start.n);
    const int64_t n = c->start.n;
    const int32_t yes = 1;
    struct optimiser_step step = c->step;
    step.segments = c->segments;
    step.end = n;
    step.lr = (float)c->rate.v[0];
    step.first_step = true;
    step.t = 1;
    step.params = table_up(t, DTYPE_F32, &c->start);
    step.grads = table_up(t, DTYPE_F32, &g);
    step.state1 = table_filled(t, DTYPE_F32, n, 0.0);
    step.state2 = table_filled(t, DTYPE_F32, n, 0.0);
    step.shadow = table_filled(t, DTYPE_BF16, n, 0.0);
    step.ema = table_filled(t, DTYPE_F32, n, 1.0);
    step.ema_decay = 0.75f;
    assert_ok(run_step(t, c, &step));
    struct tensor p = table_down(t, DTYPE_F32, step.params, "params", 1, &n);
    struct tensor shadow = table_down(t, DTYPE_BF16, step.shadow, "shadow", 1, &n);
    struct tensor ema = table_down(t, DTYPE_F32, step.ema, "ema", 1, &n);
    for (int64_t i = 0; i < n; i++) {
        assert_true(shadow.v[i] == round_to_bf16(p.v[i]));
        assert_true(fabs(ema.v[i] - (0.75 + 0.25 * p.v[i])) < 1e-6);
    }
    step.skip = table_bytes(t, sizeof yes);
    assert_ok(t->ops->copy_in(t->be, (void *)(uintptr_t)step.skip, &yes, sizeof yes));
    assert_ok(run_step(t, c, &step));
    struct tensor same = table_down(t, DTYPE_F32, step.params, "params", 1, &n);
    assert_memory_equal(same.v, p.v, (size_t)n * sizeof *p.v);
    tensor_free(&g);
    tensor_free(&p);
    tensor_free(&shadow);
    tensor_free(&ema);
    tensor_free(&same);
    table_release(t);
}

static int32_t n_cases;

static void check_case(hid_t group, const char *name, void *context) {
    struct tables *tables = context;
    struct optim_case c = read_case(group, name);
    const int64_t n = c.start.n;
    for (int32_t i = 0; i < tables->n; i++) {
        run_case(&tables->table[i], &c, 0, n);
        run_case(&tables->table[i], &c, n / 3, n - 1);
        run_extras(&tables->table[i], &c);
    }
    free_case(&c);
    n_cases++;
}

static void golden_optimisers(void **state) {
    (void)state;
    struct tables tables;
    tables_open(&tables);
    const hid_t file = golden_open("optim.h5");
    for (int n = 0; tables_order(&tables, n); n++) golden_walk(file, "/", check_case, &tables);
    H5Fclose(file);
    tables_close(&tables);
    assert_true(n_cases > 0);
}

/* Sum of squares, the factor that clips it, and the flag that a NaN or an infinity raises. */
static void check_clipping(struct table *t, const double *values, int64_t n, float clip, double scale_want,
                           int32_t skip_want) {
    struct tensor x = tensor_new("x", 1, &n);
    memcpy(x.v, values, (size_t)n * sizeof *values);
    double *sum = table_bytes(t, 2 * sizeof *sum);
    float *scale = table_bytes(t, sizeof *scale), scale_got;
    int32_t *skip = table_bytes(t, sizeof *skip), skip_got;
    assert_ok(t->ops->square_sum(t->be, table_up(t, DTYPE_F32, &x), n, sum));
    assert_ok(t->ops->clip_factor(t->be, sum, clip, scale, skip));
    assert_ok(t->ops->copy_out(t->be, &scale_got, scale, sizeof scale_got));
    assert_ok(t->ops->copy_out(t->be, &skip_got, skip, sizeof skip_got));
    assert_int_equal(skip_got, skip_want);
    if (!skip_want) assert_true(fabs((double)scale_got - scale_want) <= 1e-6 * scale_want);
    tensor_free(&x);
    table_release(t);
}

static void clipping_of(struct table *t, double many[1003]) {
    check_clipping(t, (double[]){3.0, 4.0}, 2, 1.0f, 1.0 / (5.0 + 1e-6), 0);
    check_clipping(t, (double[]){3.0, 4.0}, 2, 6.0f, 1.0, 0);
    check_clipping(t, (double[]){3.0, 4.0}, 2, 0.0f, 1.0, 0); /* no clipping asked for */
    check_clipping(t, (double[]){0.0}, 1, 1.0f, 1.0, 0);
    check_clipping(t, many, 1003, 2.0f, 2.0 / (sqrt(669.0) + 1e-6), 0);
    check_clipping(t, (double[]){1.0, (double)NAN, 2.0}, 3, 1.0f, 0.0, 1);
    check_clipping(t, (double[]){1.0, 2.0, -(double)INFINITY}, 3, 1.0f, 0.0, 1);
}

static void clipping(void **state) {
    (void)state;
    struct tables tables;
    tables_open(&tables);
    double many[1003];
    for (int i = 0; i < 1003; i++) many[i] = i % 3 - 1;
    for (int n = 0; tables_order(&tables, n); n++)
        for (int32_t i = 0; i < tables.n; i++) clipping_of(&tables.table[i], many);
    tables_close(&tables);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_optimisers), cmocka_unit_test(clipping)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
