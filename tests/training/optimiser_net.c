// The optimiser over a small net: clipping, skipped steps, averages, reset, freezing, and two shards equal to
// one whole.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "common/rng.h"
#include "models/ops/ref/ref.h"
#include "training/optimiser.h"

static struct backend *be;

static const struct optimizer_settings adamw = {.name = OPTIMIZER_ADAMW,
                                                .lr = 0.01,
                                                .betas = {.n = 2, .items = {0.9, 0.999}},
                                                .eps = 1e-8,
                                                .weight_decay = 0.05,
                                                .no_decay_norms = true,
                                                .layer_decay = 0.8,
                                                .backbone_scale = 0.5,
                                                .clip = 1};
static const struct optimizer_settings sgd = {.name = OPTIMIZER_SGD,
                                              .lr = 0.01,
                                              .momentum = 0.9,
                                              .nesterov = true,
                                              .weight_decay = 5e-4,
                                              .layer_decay = 1,
                                              .backbone_scale = 0.1};

/* A small ConvNeXt with initial weights, and a training pass so that it has gradients. */
static struct net *small_net(int32_t frozen_below, struct pass **pass) {
    struct model_spec spec = model_spec_default(MODEL_CONVNEXT);
    spec.n_stages = 2, spec.depths[0] = spec.depths[1] = 1, spec.dims[0] = 4, spec.dims[1] = 8,
    spec.n_classes = 3;
    struct net *net;
    assert_ok(net_new(&ops_ref, be, &spec, 16, 16, DTYPE_F32, &net));
    assert_ok(net_init(net, 5, 0));
    if (frozen_below) assert_ok(net_freeze_below(net, frozen_below));
    const struct pass_options options = {.batch = 1, .height = 16, .width = 16, .mode = PASS_TRAIN};
    assert_ok(pass_new(net, &options, pass));
    return net;
}

/* Gradients of `step`: only where parameters are. Returns the sum of their squares. */
static double set_gradients(struct net *net, uint32_t step) {
    double sum = 0;
    memset(net_grads(net), 0, sizeof(float) * (size_t)net_n_elem(net));
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        if (param->is_buffer) continue;
        struct rng rng =
            rng_start((struct rng_key){.seed = 9, .purpose = RNG_TEST, .step = step, .item = (uint32_t)i});
        for (int64_t j = 0; j < param->n_elem; j++) {
            const float g = 0.3f * (float)rng_normal(&rng);
            net_grads(net)[param->offset + j] = g;
            sum += (double)g * g;
        }
    }
    return sum;
}

static struct interval whole(const struct net *net) {
    return (struct interval){0, net_n_elem(net)};
}

/* Three steps against the formulas, element by element in double. */
static void steps_follow_the_formulas(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        const struct optimizer_settings *s = k ? &sgd : &adamw;
        struct pass *pass;
        struct net *net = small_net(0, &pass);
        struct optimiser *optimiser;
        assert_ok(optimiser_new(net, s, whole(net), 0.9, &optimiser));
        assert_int_equal(optimiser_n_states(optimiser), k ? 2 : 3);
        const int64_t n = net_n_elem(net);
        double *p = calloc((size_t)n, sizeof *p), *m = calloc((size_t)n, sizeof *m),
               *v = calloc((size_t)n, sizeof *v), *ema = calloc((size_t)n, sizeof *ema);
        for (int64_t i = 0; i < n; i++) p[i] = ema[i] = (double)net_params(net)[i];
        for (int t = 1; t <= 3; t++) {
            const double norm = sqrt(set_gradients(net, (uint32_t)t)), lr = 0.01 / t;
            const double factor = k ? 1 : fmin(1, 1 / (norm + 1e-6));
            struct optimiser_outcome outcome;
            assert_ok(optimiser_step(optimiser, lr, NULL, NULL));
            assert_ok(optimiser_outcome(optimiser, &outcome));
            assert_true(fabs(outcome.gradient_norm - norm) < 1e-6 * norm && !outcome.skipped &&
                        outcome.n_steps == t);
            for (int32_t i = 0; i < net_n_params(net); i++) {
                const struct net_param *param = net_param(net, i);
                const struct optimiser_segment group =
                    optimiser_group(s, param, 3); /* two blocks: layers 0 to 3 */
                for (int64_t j = param->offset; j < param->offset + param->n_elem; j++) {
                    const double g0 = factor * (double)net_grads(net)[j], rate = lr * (double)group.lr_scale,
                                 wd = (double)group.weight_decay;
                    if (k) {
                        const double g = g0 + wd * p[j];
                        m[j] = t == 1 ? g : 0.9 * m[j] + g;
                        p[j] -= rate * (g + 0.9 * m[j]);
                    } else {
                        m[j] = 0.9 * m[j] + 0.1 * g0, v[j] = 0.999 * v[j] + 0.001 * g0 * g0;
                        p[j] = p[j] * (1 - rate * wd) -
                               rate / (1 - pow(0.9, t)) * m[j] / (sqrt(v[j] / (1 - pow(0.999, t))) + 1e-8);
                    }
                    ema[j] = 0.9 * ema[j] + 0.1 * p[j];
                    assert_true(fabs(p[j] - (double)net_params(net)[j]) < 1e-6);
                    assert_true(fabs(ema[j] - (double)optimiser_ema(optimiser)[j]) < 1e-6);
                }
            }
        }
        assert_string_equal(optimiser_state_name(optimiser, 0), k ? "momentum" : "m");
        assert_string_equal(optimiser_state_name(optimiser, k ? 1 : 2), "ema");
        free(p), free(m), free(v), free(ema);
        optimiser_free(optimiser);
        pass_free(pass);
        net_free(net);
    }
}

static void steps_that_are_not_finite_change_nothing(void **state) {
    (void)state;
    struct pass *pass;
    struct net *net = small_net(0, &pass);
    struct optimiser *optimiser;
    struct optimiser_outcome outcome;
    assert_ok(optimiser_new(net, &adamw, whole(net), 0, &optimiser));
    const size_t n_bytes = sizeof(float) * (size_t)net_n_elem(net);
    float *before = malloc(n_bytes);
    memcpy(before, net_params(net), n_bytes);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        set_gradients(net, 1);
        net_grads(net)[net_param(net, 3)->offset] = bad[i];
        assert_ok(optimiser_step(optimiser, 0.1, NULL, NULL));
        assert_ok(optimiser_outcome(optimiser, &outcome));
        assert_true(outcome.skipped && outcome.n_steps == 0 && outcome.n_skipped_in_a_row == i + 1);
        assert_false(isfinite(outcome.gradient_norm));
        assert_memory_equal(before, net_params(net), n_bytes);
    }
    set_gradients(net, 1);
    assert_ok(optimiser_step(optimiser, 0.1, NULL, NULL));
    assert_ok(optimiser_outcome(optimiser, &outcome));
    assert_true(!outcome.skipped && outcome.n_steps == 1 && outcome.n_skipped_in_a_row == 0);
    assert_true(memcmp(before, net_params(net), n_bytes) != 0);
    /* After a reset the same gradient moves fresh weights exactly as the first time. */
    float *moved = malloc(n_bytes);
    memcpy(moved, net_params(net), n_bytes);
    memcpy(net_params(net), before, n_bytes);
    assert_ok(optimiser_reset(optimiser));
    assert_ok(optimiser_step(optimiser, 0.1, NULL, NULL));
    assert_memory_equal(moved, net_params(net), n_bytes);
    free(before), free(moved);
    optimiser_free(optimiser);
    pass_free(pass);
    net_free(net);
}

static void frozen_parameters_stay(void **state) {
    (void)state;
    struct pass *pass;
    struct net *net = small_net(2, &pass);
    struct optimiser *optimiser;
    assert_ok(optimiser_new(net, &adamw, whole(net), 0, &optimiser));
    const size_t n_bytes = sizeof(float) * (size_t)net_n_elem(net);
    float *before = malloc(n_bytes);
    memcpy(before, net_params(net), n_bytes);
    set_gradients(net, 1);
    assert_ok(optimiser_step(optimiser, 0.1, NULL, NULL));
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        const bool same = !memcmp(before + param->offset, net_params(net) + param->offset,
                                  sizeof(float) * (size_t)param->n_elem);
        assert_int_equal(same, param->layer < 2);
    }
    free(before);
    optimiser_free(optimiser);
    pass_free(pass);
    net_free(net);
}

/* The other shard's sums, as a reduction over two ranks would add them. */
static status_t add_other(void *other, double *sums, int64_t n) {
    for (int64_t i = 0; i < n; i++) sums[i] += ((double *)other)[i];
    return STATUS_OK;
}

static void two_shards_equal_the_whole(void **state) {
    (void)state;
    struct pass *passes[2];
    struct net *one = small_net(0, &passes[0]), *two = small_net(0, &passes[1]);
    const int64_t n = net_n_elem(one), cut = net_param(one, 4)->offset + 3; /* inside a parameter */
    struct optimiser *all, *parts[2];
    assert_ok(optimiser_new(one, &adamw, whole(one), 0.99, &all));
    assert_ok(optimiser_new(two, &adamw, (struct interval){0, cut}, 0.99, &parts[0]));
    assert_ok(optimiser_new(two, &adamw, (struct interval){cut, n}, 0.99, &parts[1]));
    for (uint32_t t = 1; t <= 3; t++) {
        set_gradients(one, t);
        set_gradients(two, t);
        double sums[2][2];
        assert_ok(ops_ref.square_sum(be, net_grads(two), cut, sums[0]));
        assert_ok(ops_ref.square_sum(be, net_grads(two) + cut, n - cut, sums[1]));
        assert_ok(optimiser_step(all, 0.01, NULL, NULL));
        for (int i = 0; i < 2; i++) assert_ok(optimiser_step(parts[i], 0.01, add_other, sums[1 - i]));
    }
    for (int64_t i = 0; i < n; i++) assert_true(fabsf(net_params(one)[i] - net_params(two)[i]) < 1e-6f);
    const float *ema = optimiser_ema(parts[1]), *v = optimiser_state(parts[1], 1);
    for (int64_t i = cut; i < n; i++) {
        assert_true(fabsf(optimiser_ema(all)[i] - ema[i - cut]) < 1e-6f);
        assert_true(fabsf(optimiser_state(all, 1)[i] - v[i - cut]) < 1e-6f);
    }
    optimiser_free(all), optimiser_free(parts[0]), optimiser_free(parts[1]);
    pass_free(passes[0]), pass_free(passes[1]);
    net_free(one), net_free(two);
}

int main(void) {
    if (ref_backend_open(&be) != STATUS_OK) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_follow_the_formulas),
                                       cmocka_unit_test(steps_that_are_not_finite_change_nothing),
                                       cmocka_unit_test(frozen_parameters_stay),
                                       cmocka_unit_test(two_shards_equal_the_whole)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    ref_backend_close(be);
    return failures;
}
