// What is saved here, timm and torchvision load strictly, with every value in its place.
// LIMIT 300
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "tests/support/python.h"
#include "models/ops/ref/ref.h"
#include "models/weights.h"

static struct backend *be;

static void loads_strictly(const char *preset, const char *make) {
    struct model_spec spec;
    int32_t side;
    struct net *net;
    char path[] = "/tmp/weights-timm-XXXXXX", code[2048];
    close(mkstemp(path));
    assert_ok(model_spec_preset(preset, &spec, &side));
    spec.n_classes = 11;
    assert_ok(net_new(&ops_ref, be, &spec, side, side, DTYPE_F32, &net));
    assert_ok(net_init(net, 3, 0));
    assert_ok(weights_save(net, NULL, NULL, 0, path));
    double sum = 0;
    for (int64_t i = 0; i < net_n_elem(net); i++) sum += (double)net_params(net)[i] * net_params(net)[i];
    snprintf(code, sizeof code,
             "import timm, torch, torchvision\n"
             "from safetensors.torch import load_file\n"
             "net = %s\n"
             "net.load_state_dict(load_file('%s'), strict=True)\n"
             "total = sum(float((p.double() ** 2).sum()) for p in net.parameters())\n"
             "assert abs(total - %.17g) < 1e-9 * total, total\n",
             make, path, sum);
    assert_true(python_runs(code));
    net_free(net);
    unlink(path);
}

static void convnext(void **state) {
    (void)state;
    loads_strictly("convnext_atto", "timm.create_model('convnext_atto', num_classes=11)");
}

static void swin(void **state) {
    (void)state;
    loads_strictly("swin_tiny_patch4_window7_224",
                   "timm.create_model('swin_tiny_patch4_window7_224', num_classes=11)");
}

static void mobilenetv2(void **state) {
    (void)state;
    loads_strictly("mobilenet_v2", "torchvision.models.mobilenet_v2(num_classes=11)");
}

int main(void) {
    if (!python_has("timm, torchvision, safetensors")) return 77;
    if (ref_backend_open(&be) != STATUS_OK) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(convnext), cmocka_unit_test(swin),
                                       cmocka_unit_test(mobilenetv2)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    ref_backend_close(be);
    return failures;
}
