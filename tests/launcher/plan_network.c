/* What plan knows of networks without memory is what the networks are: parameters with their places as
 * net_new() lays them out, the same buckets as a learner's, gradients final from the last layer to the first;
 * frozen stages send nothing; the best split is found by trying. */
#include "tests/support/test.h"

#include "launcher/config.h"
#include "launcher/plan.h"

#include "comm/comm.h"
#include "training/learner.h"
#include "training/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void read_settings(struct settings *out, char **arguments, int n) {
    const struct config_overrides overrides = {.n_arguments = n, .arguments = arguments};
    assert_ok(config_read("configs/digits.yaml", &overrides, out));
}

static void parameters_are_the_nets(void **state) {
    (void)state;
    static const char *const names[] = {"convnext_atto", "swin_tiny", "mobilenet_v2"};
    struct backend *be;
    assert_ok(cpu_backend_open(1, &be));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct model_spec spec;
        int32_t side, n;
        struct net *net;
        struct model_parameter *items;
        assert_ok(model_spec_preset(names[i], &spec, &side));
        spec.n_classes = 7;
        assert_ok(net_new(&ops_cpu, be, &spec, side, side, DTYPE_F32, &net));
        assert_ok(model_parameters(&spec, side, side, &items, &n));
        assert_int_equal(n, net_n_params(net));
        double before = 0;
        for (int32_t k = n - 1; k >= 0; k--) {
            const struct net_param *p = net_param(net, k);
            assert_string_equal(items[k].name, p->name);
            assert_true(items[k].offset == p->offset && items[k].n_elem == p->n_elem &&
                        items[k].layer == p->layer && items[k].is_buffer == p->is_buffer);
            assert_true(items[k].backward_done > 0 && items[k].backward_done <= 1);
            /* layer scale and position tables stand before what is used before them */
            if (p->is_buffer || p->is_table || p->n_dims < 2) continue;
            assert_true(items[k].backward_done >= before);
            before = items[k].backward_done;
        }
        assert_true(before > 0.97); /* the stem's are the last */
        free(items);
        net_free(net);
    }
    cpu_backend_close(be);
}

/* The peers of the digits demo, in small buckets. */
static void buckets_are_the_learners(void **state) {
    (void)state;
    char *arguments[] = {(char[]){"comm.bucket_mb=0.1"}};
    struct settings s;
    struct plan plan;
    struct backend *be;
    struct comm *alone;
    read_settings(&s, arguments, 1);
    assert_ok(plan_new(&s, &(struct plan_data){.known = true, .n_classes = 10}, NULL, false, &plan));
    assert_ok(cpu_backend_open(1, &be));
    assert_ok(comm_start_alone(&alone));
    for (int p = 0; p < s.n_peers; p++) {
        const struct plan_network *n = &plan.networks[p];
        const struct pass_options o = {.batch = 1, .height = n->image, .width = n->image, .mode = PASS_TRAIN};
        const struct learner_options options = {.optimizer = &s.cotrain.optimizer,
                                                .bucket_bytes = (size_t)(0.1 * 1048576)};
        struct net *net;
        struct pass *pass;
        struct learner learner;
        assert_ok(net_new(&ops_cpu, be, &n->spec, n->image, n->image, DTYPE_F32, &net));
        assert_ok(pass_new(net, &o, &pass));
        assert_ok(learner_new(net, alone, &options, &learner));
        assert_int_equal(buckets_count(learner.buckets), n->n_buckets);
        assert_true(n->n_buckets > 5);
        assert_true(n->n_param_bytes <= 4.0 * (double)net_n_elem(net) && n->n_param_bytes >= 4 * n->n_params);
        assert_true(n->macs == (double)net_macs(net));
        assert_int_equal(n->n_features, net_n_features(net));
        assert_true(n->bucket_done[n->n_buckets - 1] == 1 && n->trained_share > 0.97);
        learner_free(&learner);
        pass_free(pass);
        net_free(net);
    }
    comm_finish(&alone);
    cpu_backend_close(be);
    plan_free(&plan);
    settings_free(&s);
}

static void frozen_stages_send_nothing(void **state) {
    (void)state;
    char *arguments[] = {(char[]){"peers.0.freeze=1"}};
    struct settings s;
    struct plan whole, frozen;
    read_settings(&s, NULL, 0);
    assert_ok(plan_new(&s, &(struct plan_data){.known = true, .n_classes = 10}, NULL, false, &whole));
    settings_free(&s);
    read_settings(&s, arguments, 1);
    assert_ok(plan_new(&s, &(struct plan_data){.known = true, .n_classes = 10}, NULL, false, &frozen));
    assert_true(frozen.networks[0].n_param_bytes < 0.9 * whole.networks[0].n_param_bytes);
    assert_true(frozen.networks[0].n_param_bytes >
                0.5 * whole.networks[0].n_param_bytes); /* wide stage, few blocks */
    assert_true(frozen.networks[0].trained_share < 0.75);
    assert_true(frozen.networks[0].macs == whole.networks[0].macs);
    plan_free(&whole);
    plan_free(&frozen);
    settings_free(&s);
}

/* Peers of equal networks by the configuration's count, but one twice as slow by the rates: 2 to 1 is best of
 * 9 ranks. */
static void split_follows_the_rates(void **state) {
    (void)state;
    char *arguments[] = {(char[]){"peers.0.ranks=5"}, (char[]){"peers.1.ranks=4"},
                         (char[]){"stages=[cotrain]"}};
    struct plan_rates rates = {.kind = "given",
                               .device = "cpu",
                               .cores = 16,
                               .threads = 1,
                               .workers = 1,
                               .busy = 1,
                               .head_flop_per_s = 1e9,
                               .intra = {0, 1e18},
                               .inter = {0, 1e18},
                               .n_networks = 2,
                               .networks = {{.name = "convnext", .n_points = 1, .points = {{1, 2e-3, 4e-3}}},
                                            {.name = "swin", .n_points = 1, .points = {{1, 1e-3, 2e-3}}}}};
    struct settings s;
    struct plan plan;
    read_settings(&s, arguments, 3);
    assert_ok(plan_new(&s, &(struct plan_data){.known = true, .n_classes = 10}, &rates, false, &plan));
    assert_ok(plan_world_make(&s, 1, 9, false, NULL, &plan.world));
    assert_ok(plan_predict(&plan, (int[]){1, 2}, 2));
    assert_int_equal(plan.splits[plan.best_split].first, 6);
    assert_true(plan.step.step_s > plan.splits[plan.best_split].step_s);
    assert_int_equal(plan.n_curve, 2);
    assert_true(plan.curve[1].speed_up > 1.5 && plan.bend == 1);
    assert_string_equal(plan.stages[0].name, "warm-up");
    assert_true(fabs(plan.total_s - 300 * (plan.step.step_s + plan.warmup.step_s)) < 0.1 * plan.total_s);
    plan_free(&plan);
    settings_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_the_nets),
        cmocka_unit_test(buckets_are_the_learners),
        cmocka_unit_test(frozen_stages_send_nothing),
        cmocka_unit_test(split_follows_the_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
