/* What backward promises: gradients add up over pieces of a batch, parameters are reported in reverse order
 * and only when final, frozen parts get no gradient and cost no work, an input for another size is refused.
 */
#include "models/ops/ref/ref.h"
#include "tests/support/small_net.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct backend *backend;

static void forward_backward(struct net *net, int32_t n, int32_t first, grad_ready_fn ready, void *context) {
    struct pass *pass = small_pass(net, n, PASS_TRAIN, false);
    small_batch(net, pass, n, first);
    assert_ok(pass_forward(pass, &(struct forward_options){.update_statistics = true}));
    assert_ok(pass_backward(pass, ready, context));
    pass_free(pass);
}

static void assert_close(const float *a, const float *b, int64_t n, double allowed) {
    double largest = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)a[i]));
        error = fmax(error, fabs((double)a[i] - (double)b[i]));
    }
    assert_true(largest > 0);
    if (!(error <= allowed * largest)) fail_msg("error %g of %g", error, largest);
}

static void pieces(void **state) {
    (void)state;
    for (int f = MODEL_CONVNEXT; f <= MODEL_SWIN; f++) {
        struct model_spec spec = small_spec((enum model_family)f);
        struct net *net = small_net(&ops_ref, backend, &spec);
        forward_backward(net, 3, 0, NULL, NULL);
        float *whole = small_take_grads(net);
        forward_backward(net, 1, 0, NULL, NULL);
        forward_backward(net, 2, 1, NULL, NULL);
        forward_backward(net, 0, 3, NULL, NULL);
        float *added = small_take_grads(net);
        assert_close(whole, added, net_n_elem(net), 1e-5);
        free(whole), free(added);
        net_free(net);
    }
}

/* Two passes forwarded before either goes backward: their activations are their own. */
static void two_passes(void **state) {
    (void)state;
    struct model_spec spec = small_spec(MODEL_SWIN);
    struct net *net = small_net(&ops_ref, backend, &spec);
    forward_backward(net, 2, 0, NULL, NULL);
    forward_backward(net, 1, 2, NULL, NULL);
    float *one_by_one = small_take_grads(net);
    struct pass *a = small_pass(net, 2, PASS_TRAIN, false), *b = small_pass(net, 1, PASS_TRAIN, true);
    small_batch(net, a, 2, 0);
    small_batch(net, b, 1, 2);
    assert_ok(pass_forward(a, &(struct forward_options){0}));
    assert_ok(pass_forward(b, &(struct forward_options){0}));
    assert_ok(pass_backward(a, NULL, NULL));
    assert_ok(pass_backward(b, NULL, NULL));
    float *together = small_take_grads(net);
    assert_memory_equal(one_by_one, together, sizeof(float) * (size_t)net_n_elem(net));
    free(one_by_one), free(together);
    pass_free(a), pass_free(b);
    net_free(net);
}

/* What the hook saw: the gradient of each parameter at the moment it was called final. */
struct report {
    struct net *net;
    int32_t last, n;
    float *seen;
};

static status_t take(void *context, int32_t index) {
    struct report *r = context;
    const struct net_param *p = net_param(r->net, index);
    assert_true(index < r->last);
    assert_false(p->is_buffer);
    r->last = index;
    r->n++;
    memcpy(r->seen + p->offset, net_grads(r->net) + p->offset, sizeof(float) * (size_t)p->n_elem);
    return STATUS_OK;
}

static void hooks(void **state) {
    (void)state;
    for (int f = MODEL_CONVNEXT; f <= MODEL_MOBILENETV2; f++) {
        struct model_spec spec = small_spec((enum model_family)f);
        struct net *net = small_net(&ops_ref, backend, &spec);
        struct report r = {
            .net = net, .last = net_n_params(net), .seen = calloc((size_t)net_n_elem(net), sizeof(float))};
        forward_backward(net, 2, 0, take, &r);
        int32_t n_trained = 0;
        for (int32_t i = 0; i < net_n_params(net); i++) n_trained += !net_param(net, i)->is_buffer;
        assert_int_equal(r.n, n_trained);
        float *grads = small_take_grads(net);
        assert_memory_equal(grads, r.seen, sizeof(float) * (size_t)net_n_elem(net));
        free(grads), free(r.seen);
        net_free(net);
    }
}

/* Hooks come while backward goes on, not all at its end. */
struct progress {
    struct net *net;
    int32_t n, n_before_stem;
};

static status_t count(void *context, int32_t index) {
    struct progress *p = context;
    p->n++;
    if (index == 0) return STATUS_OK;
    const struct net_param *stem = net_param(p->net, 0);
    if (net_grads(p->net)[stem->offset] == 0) p->n_before_stem++;
    return STATUS_OK;
}

static void hooks_come_early(void **state) {
    (void)state;
    struct model_spec spec = small_spec(MODEL_CONVNEXT);
    struct net *net = small_net(&ops_ref, backend, &spec);
    struct progress p = {.net = net};
    forward_backward(net, 2, 0, count, &p);
    assert_int_equal(p.n_before_stem, p.n - 2); /* stem.0 has two */
    net_free(net);
}

static void freezing(void **state) {
    (void)state;
    for (int f = MODEL_CONVNEXT; f <= MODEL_MOBILENETV2; f++) {
        struct model_spec spec = small_spec((enum model_family)f);
        struct net *net = small_net(&ops_ref, backend, &spec);
        forward_backward(net, 2, 0, NULL, NULL);
        struct pass *whole = small_pass(net, 2, PASS_TRAIN, false);
        float *full = small_take_grads(net);
        const int32_t first = net_param(net, net_n_params(net) - 1)->layer - 1;
        assert_fails(net_freeze_below(net, first), STATUS_INTERNAL, "before the first pass");

        struct net *frozen = small_net(&ops_ref, backend, &spec);
        assert_fails(net_freeze_below(frozen, 99), STATUS_BAD_CONFIG, "layer 99");
        assert_ok(net_freeze_below(frozen, first));
        struct report r = {.net = frozen,
                           .last = net_n_params(frozen),
                           .seen = calloc((size_t)net_n_elem(frozen), sizeof(float))};
        forward_backward(frozen, 2, 0, take, &r);
        struct pass *part = small_pass(frozen, 2, PASS_TRAIN, false);
        assert_true(pass_arena_bytes(part) < pass_arena_bytes(whole));
        float *grads = small_take_grads(frozen);
        for (int32_t i = 0; i < net_n_params(net); i++) {
            const struct net_param *p = net_param(net, i);
            for (int64_t k = 0; k < p->n_elem && !p->is_buffer; k++) {
                const float want = p->layer < first ? 0 : full[p->offset + k];
                assert_true(grads[p->offset + k] == want);
            }
        }
        free(full), free(grads), free(r.seen);
        pass_free(whole), pass_free(part);
        net_free(net), net_free(frozen);
    }
}

static void other_sizes(void **state) {
    (void)state;
    struct model_spec spec = small_spec(MODEL_SWIN);
    spec.window = 8; /* the map of 8 x 8 is one window; one of 7 x 8 would need another table */
    struct net *net = small_net(&ops_ref, backend, &spec);
    struct pass *pass;
    assert_fails(pass_new(net, &(struct pass_options){.batch = 1, .height = 28, .width = 32}, &pass),
                 STATUS_BAD_CONFIG, "relative_position_bias_table");
    assert_fails(pass_new(net, &(struct pass_options){.batch = 1, .height = 2, .width = 32}, &pass),
                 STATUS_BAD_CONFIG, "small");
    assert_fails(pass_new(net, &(struct pass_options){.batch = -1, .height = 32, .width = 32}, &pass),
                 STATUS_BAD_CONFIG, "-1");
    net_free(net);
}

/* Features only: no logits, and the gradient comes through dfeatures. */
static void without_classifier(void **state) {
    (void)state;
    struct model_spec spec = small_spec(MODEL_CONVNEXT);
    spec.n_classes = 0;
    struct net *net = small_net(&ops_ref, backend, &spec);
    struct pass *pass = small_pass(net, 2, PASS_TRAIN, false);
    assert_null(pass_logits(pass));
    assert_null(pass_dlogits(pass));
    assert_int_equal(net_find_param(net, "head.fc.weight"), -1);
    small_batch(net, pass, 2, 0);
    assert_ok(pass_forward(pass, &(struct forward_options){0}));
    for (int i = 0; i < 2 * net_n_features(net); i++) {
        assert_true(pass_dfeatures(pass)[i] == 0);
        pass_dfeatures(pass)[i] = 0.1f * (float)(i % 7);
    }
    assert_ok(pass_backward(pass, NULL, NULL));
    float *grads = small_take_grads(net);
    assert_true(grads[0] != 0);
    free(grads);
    pass_free(pass);
    net_free(net);
}

int main(void) {
    assert_ok(ref_backend_open(&backend));
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces),
                                       cmocka_unit_test(two_passes),
                                       cmocka_unit_test(hooks),
                                       cmocka_unit_test(hooks_come_early),
                                       cmocka_unit_test(freezing),
                                       cmocka_unit_test(other_sizes),
                                       cmocka_unit_test(without_classifier)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ref_backend_close(backend);
    return failed;
}
