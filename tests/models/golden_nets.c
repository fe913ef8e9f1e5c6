/* Whole small networks against timm and torchvision in float64 (golden/nets): activations, features, logits,
 * loss, every gradient, running statistics, and five steps of two optimisers; on every table of operations.
 * $GOLDEN names another folder of cases in the same form. */
// LIMIT 300
#include "models/ops/ref/checked.h"
#include "models/ops/ref/ref.h"
#include "tests/support/cuda_twin.h"
#include "tests/support/golden_net.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pass *new_pass(struct golden_net *c, bool recompute) {
    struct pass *pass;
    const struct pass_options options = {.batch = c->batch,
                                         .height = c->height,
                                         .width = c->width,
                                         .mode = PASS_TRAIN,
                                         .recompute = recompute,
                                         .input_grad = true,
                                         .frozen_statistics = !c->train};
    assert_ok(pass_new(c->net, &options, &pass));
    return pass;
}

static void check(const struct golden_net *c, const char *name, const float *got, int64_t n_elem,
                  double floor, double allowed) {
    float *want = golden_net_expected(c, name, n_elem);
    if (!want) fail_msg("%s: no %s among the expected tensors", c->name, name);
    const double error = golden_net_error(got, want, n_elem, floor);
    if (getenv("VERBOSE")) printf("%s %s %.2g\n", c->name, name, error);
    if (!(error <= allowed)) fail_msg("%s: %s: error %.3g, allowed %.3g", c->name, name, error, allowed);
    free(want);
}

static void check_device(struct golden_net *c, const char *name, const void *device, enum dtype dtype,
                         int64_t n_elem, double floor, double allowed) {
    float *got = golden_net_fetch(c->net, device, dtype, n_elem);
    check(c, name, got, n_elem, floor, allowed);
    free(got);
}

/* Every act.* of the file must be there. */
static void check_activations(struct golden_net *c, struct pass *pass) {
    int n_checked = 0;
    for (int32_t i = 0; i < safetensors_count(c->expected); i++) {
        const char *name = safetensors_at(c->expected, i)->name;
        if (strncmp(name, "act.", 4) != 0) continue;
        enum dtype dtype;
        int64_t n_elem;
        const void *activation = pass_activation(pass, name + 4, &dtype, &n_elem);
        if (!activation) fail_msg("%s: the network has no %s", c->name, name);
        check_device(c, name, activation, dtype, n_elem, 0, golden_net_allowed(c, "forward"));
        n_checked++;
    }
    assert_true(n_checked > 0);
}

static void check_gradients(struct golden_net *c, struct pass *pass, bool input_too) {
    const double allowed = golden_net_allowed(c, "gradient"), floor = golden_net_number(c, "gradient_floor");
    const int64_t n_logits = (int64_t)c->batch * c->spec.n_classes,
                  n_features = (int64_t)c->batch * net_n_features(c->net);
    check_device(c, "grad.logits", pass_dlogits(pass), DTYPE_F32, n_logits, 0, allowed);
    check_device(c, "grad.features", pass_dfeatures(pass), DTYPE_F32, n_features, 0, allowed);
    if (input_too)
        check_device(c, "grad.input", pass_input_grad(pass), DTYPE_F32,
                     (int64_t)c->batch * c->height * c->width * 3, 0, allowed);
    int n_expected = 0, n_checked = 0;
    for (int32_t i = 0; i < safetensors_count(c->expected); i++)
        n_expected += strncmp(safetensors_at(c->expected, i)->name, "grad.param.", 11) == 0;
    for (int32_t i = 0; i < net_n_params(c->net); i++) {
        const struct net_param *p = net_param(c->net, i);
        if (p->is_buffer) continue;
        char name[160];
        snprintf(name, sizeof name, "grad.param.%s", p->name);
        float *got = malloc(sizeof(float) * (size_t)p->n_elem);
        assert_ok(net_get(c->net, i, net_grads(c->net), got));
        check(c, name, got, p->n_elem, floor, allowed);
        free(got);
        n_checked++;
    }
    assert_int_equal(n_checked, n_expected);
}

static void check_buffers(struct golden_net *c) {
    for (int32_t i = 0; i < net_n_params(c->net) && c->train; i++) {
        const struct net_param *p = net_param(c->net, i);
        if (!p->is_buffer) continue;
        char name[160];
        snprintf(name, sizeof name, "buffer_after.%s", p->name);
        float *got = malloc(sizeof(float) * (size_t)p->n_elem);
        assert_ok(net_get(c->net, i, net_buffers(c->net), got));
        check(c, name, got, p->n_elem, 0, golden_net_allowed(c, "buffers"));
        free(got);
    }
}

static void check_step(struct golden_net *c, bool recompute) {
    struct pass *pass = new_pass(c, recompute);
    const double loss = golden_net_step(c, pass, true);
    const int64_t n_logits = (int64_t)c->batch * c->spec.n_classes,
                  n_features = (int64_t)c->batch * net_n_features(c->net);
    check(c, "loss", &(float){(float)loss}, 1, 0, golden_net_allowed(c, "loss"));
    check_device(c, "features", pass_features(pass), DTYPE_F32, n_features, 0,
                 golden_net_allowed(c, "forward"));
    check_device(c, "logits", pass_logits(pass), DTYPE_F32, n_logits, 0, golden_net_allowed(c, "forward"));
    check_gradients(c, pass, true);
    if (!recompute) check_buffers(c); /* the second step moves them further */
    if (!recompute && !c->train) {
        golden_net_step(c, pass, false);
        check_activations(c, pass);
    }
    pass_free(pass);
}

/* Activations are there after forward; batch statistics make no difference to them the second time. */
static void check_train_activations(struct golden_net *c) {
    struct pass *pass = new_pass(c, false);
    golden_net_step(c, pass, false);
    check_activations(c, pass);
    pass_free(pass);
}

/* Inference computes the same features and logits (batch norm is folded into the layers there). */
static void check_inference(struct golden_net *c) {
    struct pass *pass;
    assert_ok(pass_new(
        c->net, &(struct pass_options){.batch = c->batch, .height = c->height, .width = c->width}, &pass));
    golden_net_forward(c, pass);
    const int64_t n_logits = (int64_t)c->batch * c->spec.n_classes,
                  n_features = (int64_t)c->batch * net_n_features(c->net);
    check_device(c, "features", pass_features(pass), DTYPE_F32, n_features, 0,
                 golden_net_allowed(c, "forward"));
    check_device(c, "logits", pass_logits(pass), DTYPE_F32, n_logits, 0, golden_net_allowed(c, "forward"));
    pass_free(pass);
}

/* Losses along five steps on the one batch. */
static void check_trajectory(struct golden_net *c, const char *optimiser) {
    const bool sgd = strcmp(optimiser, "sgd") == 0;
    const struct ops *ops = net_ops(c->net);
    struct backend *be = net_backend(c->net);
    const int64_t n = net_n_elem(c->net);
    const int steps = (int)golden_net_number(c, "steps");
    const struct optimiser_segment segment = {
        .n_elem = n, .lr_scale = 1, .weight_decay = sgd ? 5e-4f : 0.05f};
    void *state[2];
    for (int i = 0; i < 2; i++) {
        assert_ok(ops->alloc(be, sizeof(float) * (size_t)n, &state[i]));
        assert_ok(ops->fill_zero(be, state[i], sizeof(float) * (size_t)n));
    }
    struct pass *pass = new_pass(c, false);
    float losses[64];
    for (int step = 0; step <= steps; step++) {
        losses[step] = (float)golden_net_step(c, pass, step < steps);
        if (step == steps) break;
        const struct optimiser_step update = {.segments = &segment,
                                              .n_segments = 1,
                                              .end = n,
                                              .lr = (float)golden_net_number(c, sgd ? "sgd_lr" : "adamw_lr"),
                                              .momentum = 0.9f,
                                              .nesterov = true,
                                              .first_step = step == 0,
                                              .beta1 = 0.9,
                                              .beta2 = 0.999,
                                              .eps = 1e-8,
                                              .t = step + 1,
                                              .params = net_params(c->net),
                                              .grads = net_grads(c->net),
                                              .state1 = state[0],
                                              .state2 = state[1]};
        assert_ok(sgd ? ops->sgd(be, &update) : ops->adamw(be, &update));
    }
    char name[64];
    snprintf(name, sizeof name, "trajectory.%s.loss", optimiser);
    check(c, name, losses, steps + 1, 0, golden_net_allowed(c, "trajectory"));
    pass_free(pass);
    for (int i = 0; i < 2; i++) ops->release(be, state[i]);
}

static void check_case(const char *folder, struct golden_backend backend) {
    struct golden_net c;
    golden_net_open(&c, folder, backend, DTYPE_F32);
    check_step(&c, false);
    check_step(&c, true);
    golden_net_close(&c);
    golden_net_open(&c, folder, backend, DTYPE_F32);
    if (c.train)
        check_train_activations(&c);
    else
        check_inference(&c);
    golden_net_close(&c);
    const char *const optimisers[] = {"sgd", "adamw"};
    for (int i = 0; i < 2; i++) {
        golden_net_open(&c, folder, backend, DTYPE_F32);
        check_trajectory(&c, optimisers[i]);
        golden_net_close(&c);
    }
}

static void reference(void **state) {
    (void)state;
    struct golden_backend b = {.ops = &ops_ref};
    assert_ok(ref_backend_open(&b.be));
    golden_net_each(b, check_case);
    ref_backend_close(b.be);
}

/* The same through the table that checks every call: sizes, aliasing, reads of what was never written. */
static void checking(void **state) {
    (void)state;
    struct backend *inner;
    struct golden_backend b = {.ops = &ops_checked};
    assert_ok(ref_backend_open(&inner));
    assert_ok(checked_backend_open(&ops_ref, inner, &b.be));
    golden_net_each(b, check_case);
    assert_ok(checked_backend_close(b.be));
    ref_backend_close(inner);
}

static void cpu(void **state) {
    (void)state;
    struct golden_backend b = {.ops = &ops_cpu};
    assert_ok(cpu_backend_open(2, &b.be));
    golden_net_each(b, check_case);
    cpu_backend_close(b.be);
}

static void checking_cpu(void **state) {
    (void)state;
    struct backend *inner;
    struct golden_backend b = {.ops = &ops_checked};
    assert_ok(cpu_backend_open(2, &inner));
    assert_ok(checked_backend_open(&ops_cpu, inner, &b.be));
    golden_net_each(b, check_case);
    assert_ok(checked_backend_close(b.be));
    cpu_backend_close(inner);
}

/* The GPU's kernels, run on the CPU, in several orders. */
static void cuda(void **state) {
    (void)state;
    const struct cuda_plugin *twin = cuda_twin();
    if (!twin) skip();
    struct golden_backend b = {.ops = twin->ops};
    assert_ok(twin->backend_open(0, false, &b.be));
    for (int n = 0; n < TWIN_SEEDS; n++) {
        cuda_twin_seed(n);
        golden_net_each(b, check_case);
    }
    twin->backend_close(b.be);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reference), cmocka_unit_test(checking),
                                       cmocka_unit_test(cpu), cmocka_unit_test(checking_cpu),
                                       cmocka_unit_test(cuda)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
