// export: a preset's weights file and a run's student and peer become ONNX files; wrong usage is named.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "common/file.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "models/ops/ref/ref.h"
#include "models/weights.h"

static struct backend *be;
static char folder[] = "/tmp/export-test-XXXXXX";

static void save_initial(const struct model_spec *spec, int32_t side, const char *path) {
    struct net *net;
    assert_ok(net_new(&ops_ref, be, spec, side, side, DTYPE_F32, &net));
    assert_ok(net_init(net, 1, 0));
    assert_ok(weights_save(net, NULL, (const char *const[]){"classes", "cat,dog,cow"}, 1, path));
    net_free(net);
}

static status_t run_export(const char *a, const char *b, const char *c, const char *d, const char *e,
                           const char *f) {
    struct launch_context context = {.n_ranks = 1, .n_local_ranks = 1};
    const char *words[] = {"export", a, b, c, d, e, f};
    char *argv[8] = {0};
    int argc = 0;
    for (; argc < 7 && words[argc]; argc++) argv[argc] = strdup(words[argc]);
    const status_t status = cmd_export(&context, argc, argv);
    for (int i = 0; i < argc; i++) free(argv[i]);
    return status;
}

/* The file holds this text, as names and metadata lie in it uncompressed. */
static void assert_holds(const char *path, const char *text) {
    char *bytes;
    size_t n;
    assert_ok(file_read_all(path, (size_t)1 << 30, &bytes, &n));
    if (!memmem(bytes, n, text, strlen(text))) fail_msg("%s lacks %s", path, text);
    free(bytes);
}

static void weights_of_a_preset(void **state) {
    (void)state;
    struct model_spec spec;
    int32_t side;
    char weights[128], onnx[128];
    snprintf(weights, sizeof weights, "%s/w.safetensors", folder);
    snprintf(onnx, sizeof onnx, "%s/w.onnx", folder);
    assert_ok(model_spec_preset("convnext_atto", &spec, &side));
    spec.n_classes = 3;
    save_initial(&spec, 64, weights);
    assert_ok(run_export("--weights", weights, "--model=convnext_atto", "--image=64", "--onnx", onnx));
    assert_holds(onnx, "cat,dog,cow");
    assert_holds(onnx, "64x64");
    assert_holds(onnx, "stages.3.blocks.1.mlp.fc2.weight");
    assert_fails(run_export("--weights", weights, "--model", "swin_tiny", "--onnx", onnx), STATUS_BAD_DATA,
                 "does not fit");
    assert_fails(run_export("--weights", weights, "--onnx", onnx, NULL, NULL), STATUS_USAGE, "--model");
    assert_fails(run_export("--weights", weights, "--model", "convnext_atto", NULL, NULL), STATUS_USAGE,
                 "--onnx");
    assert_fails(run_export("--onnx", onnx, NULL, NULL, NULL, NULL), STATUS_USAGE, "run's directory");
    assert_fails(run_export("--image", "big", "--onnx", onnx, NULL, NULL), STATUS_USAGE, "whole number");
    assert_fails(run_export("--onxn", onnx, NULL, NULL, NULL, NULL), STATUS_USAGE, "nearest: --onnx");
    unlink(weights), unlink(onnx);
}

static void networks_of_a_run(void **state) {
    (void)state;
    struct settings settings;
    char path[256], onnx[128], models[128];
    assert_ok(config_read("configs/digits.yaml", NULL, &settings));
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    assert_ok(config_write_file(&settings, path));
    snprintf(onnx, sizeof onnx, "%s/out.onnx", folder);
    assert_fails(run_export(folder, "--onnx", onnx, NULL, NULL, NULL), STATUS_MISSING,
                 "student.safetensors is not there yet");
    snprintf(models, sizeof models, "%s/models", folder);
    mkdir(models, 0777);
    struct model_spec spec = settings.distil.student.model.spec;
    spec.n_classes = 10;
    snprintf(path, sizeof path, "%s/student.safetensors", models);
    save_initial(&spec, (int32_t)settings.distil.student.image, path);
    assert_ok(run_export(folder, "--onnx", onnx, NULL, NULL, NULL));
    assert_holds(onnx, "classifier.1.weight");
    unlink(path);
    spec = settings.peers[1].model.spec;
    spec.n_classes = 10;
    snprintf(path, sizeof path, "%s/%s.safetensors", models, settings.peers[1].name);
    save_initial(&spec, (int32_t)settings.peers[1].image, path);
    assert_ok(run_export(folder, settings.peers[1].name, "--onnx", onnx, NULL, NULL));
    assert_fails(run_export(folder, "nobody", "--onnx", onnx, NULL, NULL), STATUS_USAGE, "nobody");
    unlink(path), unlink(onnx), rmdir(models);
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    unlink(path);
    settings_free(&settings);
}

int main(void) {
    if (!mkdtemp(folder) || ref_backend_open(&be) != STATUS_OK) return 1;
    if (!freopen("/dev/null", "w", stdout)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_of_a_preset),
                                       cmocka_unit_test(networks_of_a_run)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    ref_backend_close(be);
    rmdir(folder);
    return failures;
}
