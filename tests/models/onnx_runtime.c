// Exported networks give the golden files' logits in onnxruntime, to 1e-4, for another batch size too.
// LIMIT 300
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "tests/support/golden_net.h"
#include "tests/support/python.h"
#include "models/ops/ref/ref.h"
#include "models/onnx.h"

static struct golden_backend backend;

/* Export every case that runs on running statistics; then one Python run compares all. */
static void golden_networks(void **state) {
    const char *folder = *state;
    char folders[64][512], path[640], code[4096];
    const int n = golden_net_list(folders);
    int n_exported = 0;
    for (int i = 0; i < n; i++) {
        struct golden_net c;
        golden_net_open(&c, folders[i], backend, DTYPE_F32);
        if (!c.train) {
            snprintf(path, sizeof path, "%s/%d.onnx", folder, i);
            assert_ok(onnx_export(c.net, (const char *const[]){"case", folders[i]}, 1, path));
            n_exported++;
        }
        golden_net_close(&c);
    }
    assert_true(n_exported >= 4 || getenv("GOLDEN"));
    snprintf(code, sizeof code,
             "import glob, onnx, numpy as np, onnxruntime as ort\n"
             "from safetensors.numpy import load_file\n"
             "for path in glob.glob('%s/*.onnx'):\n"
             "    onnx.checker.check_model(path, full_check=True)\n"
             "    options = ort.SessionOptions(); options.intra_op_num_threads = 1\n"
             "    net = ort.InferenceSession(path, options, providers=['CPUExecutionProvider'])\n"
             "    meta = net.get_modelmeta().custom_metadata_map\n"
             "    golden = load_file(meta['case'] + '/golden.safetensors')\n"
             "    x = np.ascontiguousarray(golden['input'].transpose(0, 3, 1, 2))\n"
             "    want = golden['logits']\n"
             "    assert meta['image'] == '%%dx%%d' %% x.shape[2:] and meta['mean'].startswith('0.485')\n"
             "    for k in (1, 2):\n"
             "        got = net.run(['logits'], {'image': np.concatenate([x] * k)})[0]\n"
             "        error = abs(got - np.concatenate([want] * k)).max() / abs(want).max()\n"
             "        assert error < 1e-4, (meta['case'], error)\n",
             folder);
    const bool good = python_runs(code);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%d.onnx", folder, i);
        unlink(path);
    }
    assert_true(good);
}

/* Without a classifier the features come out; a preset's metadata says which it is. */
static void features(void **state) {
    char path[640], code[1024];
    struct model_spec spec;
    int32_t side;
    struct net *net;
    assert_ok(model_spec_preset("mobilenet_v2", &spec, &side));
    spec.n_classes = 0;
    spec.width = 0.1f;
    assert_ok(net_new(backend.ops, backend.be, &spec, 32, 64, DTYPE_F32, &net));
    assert_ok(net_init(net, 1, 0));
    snprintf(path, sizeof path, "%s/features.onnx", (const char *)*state);
    assert_ok(onnx_export(net, NULL, 0, path));
    snprintf(code, sizeof code,
             "import onnx\n"
             "m = onnx.load('%s')\n"
             "assert [o.name for o in m.graph.output] == ['features'] and m.opset_import[0].version == 17\n"
             "assert m.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 1280\n"
             "assert {p.key: p.value for p in m.metadata_props}['model'] == 'mobilenet_v2'\n",
             path);
    const bool good = python_runs(code);
    unlink(path);
    net_free(net);
    assert_true(good);
}

int main(void) {
    if (!python_has("onnx, onnxruntime, safetensors")) return 77;
    char folder[] = "/tmp/onnx-test-XXXXXX";
    backend.ops = &ops_ref;
    if (!mkdtemp(folder) || ref_backend_open(&backend.be) != STATUS_OK) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(golden_networks, folder),
                                       cmocka_unit_test_prestate(features, folder)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    ref_backend_close(backend.be);
    rmdir(folder);
    return failures;
}
