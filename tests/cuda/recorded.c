// Steps replayed from a recording, whatever the order of streams, blocks and lanes, give the bits of steps
// carried out: forward, every gradient, and the order in which gradients become final; with drop-path (other
// factors each step), and with dropout and batch norm, whose steps are never recorded. LIMIT 120
#include "tests/support/cuda_twin.h"
#include "tests/support/small_net.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, STEPS = 4, MAX_PARAMS = 512 };

struct outcome {
    float logits[STEPS][BATCH * SMALL_CLASSES];
    float *grads[STEPS];
    int64_t n_elem;
    int32_t n_ready, ready[STEPS * MAX_PARAMS];
};

static status_t note(void *context, int32_t index) {
    struct outcome *o = context;
    assert_true(o->n_ready < STEPS * MAX_PARAMS);
    o->ready[o->n_ready++] = index;
    return STATUS_OK;
}

static void run(const struct cuda_plugin *twin, const struct model_spec *spec, bool record,
                struct outcome *out) {
    struct backend *be;
    struct pass *pass;
    memset(out, 0, sizeof *out);
    assert_ok(twin->backend_open(0, false, &be));
    struct net *net = small_net(twin->ops, be, spec);
    const struct pass_options options = {
        .batch = BATCH, .height = SMALL_SIDE, .width = SMALL_SIDE, .mode = PASS_TRAIN, .record = record};
    assert_ok(pass_new(net, &options, &pass));
    out->n_elem = net_n_elem(net);
    assert_ok(twin->ops->fill_zero(be, net_grads(net), (size_t)out->n_elem * sizeof(float)));
    for (int s = 0; s < STEPS; s++) {
        const struct forward_options forward = {.update_statistics = true,
                                                .rng = {.seed = 3, .step = (uint32_t)s}};
        small_batch(net, pass, BATCH, s);
        assert_ok(pass_forward(pass, &forward));
        assert_ok(twin->ops->copy_out(be, out->logits[s], pass_logits(pass), sizeof out->logits[s]));
        assert_ok(pass_backward(pass, note, out));
        out->grads[s] = small_take_grads(net);
    }
    pass_free(pass);
    net_free(net);
    twin->backend_close(be);
}

static void replay(const struct cuda_plugin *twin, const struct model_spec *spec,
                   const struct outcome *plain) {
    static struct outcome recorded;
    run(twin, spec, true, &recorded);
    assert_memory_equal(plain->logits, recorded.logits, sizeof plain->logits);
    assert_int_equal(plain->n_ready, recorded.n_ready);
    assert_memory_equal(plain->ready, recorded.ready, sizeof plain->ready);
    for (int s = 0; s < STEPS; s++) {
        assert_memory_equal(plain->grads[s], recorded.grads[s], (size_t)plain->n_elem * sizeof(float));
        free(recorded.grads[s]);
    }
}

static void same_bits(enum model_family family) {
    static struct outcome plain;
    const struct cuda_plugin *twin = cuda_twin();
    if (!twin) skip();
    struct model_spec spec = small_spec(family);
    spec.drop_path = 0.4f;
    spec.dropout = 0.3f;
    run(twin, &spec, false, &plain);
    assert_memory_not_equal(plain.logits[2], plain.logits[3], sizeof plain.logits[2]);
    for (int n = 0; n < TWIN_SEEDS; n++) {
        cuda_twin_seed(n);
        replay(twin, &spec, &plain);
    }
    for (int s = 0; s < STEPS; s++) free(plain.grads[s]);
}

static void convnext(void **state) {
    (void)state;
    same_bits(MODEL_CONVNEXT);
}

static void swin(void **state) {
    (void)state;
    same_bits(MODEL_SWIN);
}

static void mobilenetv2(void **state) {
    (void)state;
    same_bits(MODEL_MOBILENETV2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(convnext), cmocka_unit_test(swin),
                                       cmocka_unit_test(mobilenetv2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
