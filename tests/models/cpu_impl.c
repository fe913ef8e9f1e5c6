/* The products of a training step run our own kernels or oneDNN's, never its reference code, and oneDNN's are
 * all made in the first step: each family at its real widths, on a small image, fp32 and (where the CPU has
 * it) bf16. LIMIT 60 */
#include "models/net.h"
#include "models/ops/cpu/backend.h"
#include "tests/support/test.h"

#include <string.h>

static void step(struct pass *pass) {
    assert_ok(pass_forward(pass, &(struct forward_options){.update_statistics = true}));
    memset(pass_dlogits(pass), 0, sizeof(float) * 2 * 10);
    assert_ok(pass_backward(pass, NULL, NULL));
}

static void check(const char *preset, enum dtype precision, bool own) {
    struct backend *be;
    struct model_spec spec;
    struct net *net;
    struct pass *pass;
    int32_t side;
    assert_ok(cpu_backend_open(2, &be));
    be->own_products = own;
    assert_ok(model_spec_preset(preset, &spec, &side));
    spec.n_classes = 10;
    assert_ok(net_new(&ops_cpu, be, &spec, 64, 64, precision, &net));
    const size_t n_elem = (size_t)net_n_elem(net);
    for (size_t i = 0; i < n_elem; i++) net_params(net)[i] = 0.01f;
    assert_ok(net_refresh_shadow(net));
    const struct pass_options options = {.batch = 2, .height = 64, .width = 64, .mode = PASS_TRAIN};
    assert_ok(pass_new(net, &options, &pass));
    memset(pass_input(pass), 0, dtype_bytes(precision) * 2 * 64 * 64 * 3);
    step(pass);
    const int64_t n_primitives = onednn_n_primitives(be->onednn);
    assert_true(own || n_primitives > 10);
    step(pass);
    assert_int_equal(onednn_n_primitives(be->onednn), n_primitives);
    const char *slow = onednn_reference_primitive(be->onednn);
    if (slow) fail_msg("%s: oneDNN %s serves a product with %s", preset, onednn_version_text(), slow);
    pass_free(pass);
    net_free(net);
    cpu_backend_close(be);
}

static void products(void **state) {
    (void)state;
    static const char *const presets[] = {"convnext_tiny", "swin_tiny", "mobilenet_v2"};
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        for (int own = 0; own < 2; own++) {
            check(presets[i], DTYPE_F32, own);
            if (cpu_has_bf16()) check(presets[i], DTYPE_BF16, own);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
