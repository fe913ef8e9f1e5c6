/* The presets against timm's and torchvision's tables (golden/presets): every parameter's name and shape in
 * order, numbers of parameters and multiplications, timm's layer numbers; names with tags, old names, wrong
 * names. */
#include "models/net.h"
#include "models/ops/ref/ref.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *open_table(const char *name) {
    char path[300], line[512];
    const char *golden = getenv("GOLDEN");
    snprintf(path, sizeof path, "%s/presets/%s.tsv", golden && *golden ? golden : "tests/golden", name);
    FILE *file = fopen(path, "r");
    if (!file && golden && *golden) exit(77);
    if (!file) fail_msg("cannot open %s", path);
    assert_non_null(fgets(line, sizeof line, file)); /* header */
    return file;
}

static void shape_text(const struct net_param *p, char *text, size_t n_bytes) {
    int at = 0;
    for (int i = 0; i < p->n_dims; i++)
        at += snprintf(text + at, n_bytes - (size_t)at, "%s%lld", i ? "x" : "", (long long)p->shape[i]);
}

/* Memory that is never touched: real sizes without real cost. */
static status_t no_fill(struct backend *be, void *dst, size_t n_bytes) {
    (void)be, (void)dst, (void)n_bytes;
    return STATUS_OK;
}
static status_t no_alloc(struct backend *be, size_t n_bytes, void **out) {
    (void)be, (void)n_bytes;
    *out = (void *)(uintptr_t)256;
    return STATUS_OK;
}
static void no_release(struct backend *be, void *p) {
    (void)be, (void)p;
}

static struct net *open_preset(const char *name) {
    static struct ops ops;
    ops = ops_ref;
    ops.alloc = no_alloc, ops.release = no_release, ops.fill_zero = no_fill;
    struct model_spec spec;
    int32_t side;
    struct net *net;
    assert_ok(model_spec_preset(name, &spec, &side));
    assert_ok(net_new(&ops, NULL, &spec, side, side, DTYPE_F32, &net));
    return net;
}

static void check_names(const char *preset, const char *table) {
    struct net *net = open_preset(preset);
    FILE *file = open_table(table);
    char name[128], shape[64], kind[16], line[512];
    int32_t index = 0;
    while (fgets(line, sizeof line, file)) {
        assert_int_equal(sscanf(line, "%127s %63s %15s", name, shape, kind), 3);
        if (strstr(name, "num_batches_tracked")) continue; /* a counter nobody reads */
        if (index >= net_n_params(net)) fail_msg("%s: no parameter for %s", preset, name);
        const struct net_param *p = net_param(net, index++);
        char ours[64];
        shape_text(p, ours, sizeof ours);
        assert_string_equal(p->name, name);
        assert_string_equal(ours, shape);
        assert_int_equal(p->is_buffer, strcmp(kind, "buffer") == 0);
        assert_int_equal(p->offset % 16, 0);
    }
    assert_int_equal(index, net_n_params(net));
    fclose(file);
    net_free(net);
}

static void names(void **state) {
    (void)state;
    check_names("convnext_xlarge.fb_in22k_ft_in1k_384", "convnext_xlarge.fb_in22k_ft_in1k_384");
    check_names("swin_large_patch4_window12_384.ms_in22k_ft_in1k",
                "swin_large_patch4_window12_384.ms_in22k_ft_in1k");
    check_names("mobilenet_v2", "torchvision_mobilenet_v2");
}

static void check_layers(const char *preset) {
    char table[128], name[128], line[512];
    int layer;
    snprintf(table, sizeof table, "layer_decay_%s", preset);
    struct net *net = open_preset(preset);
    FILE *file = open_table(table);
    int n = 0;
    for (; fgets(line, sizeof line, file); n++) {
        assert_int_equal(sscanf(line, "%127s %d", name, &layer), 2);
        int32_t index = net_find_param(net, name);
        assert_true(index >= 0);
        if (net_param(net, index)->layer != layer)
            fail_msg("%s: layer %d, timm has %d", name, net_param(net, index)->layer, layer);
        float weight_decay;
        assert_int_equal(sscanf(line, "%*s %*d %*f %f", &weight_decay), 1);
        const struct net_param *p = net_param(net, index);
        assert_int_equal(p->n_dims > 1 && !p->is_table, weight_decay > 0);
    }
    assert_int_equal(n, net_n_params(net));
    fclose(file);
    net_free(net);
}

static void layers(void **state) {
    (void)state;
    check_layers("convnext_xlarge.fb_in22k_ft_in1k_384");
    check_layers("swin_large_patch4_window12_384.ms_in22k_ft_in1k");
}

static void sizes(void **state) {
    (void)state;
    FILE *file = open_table("sizes");
    char line[512], name[128];
    int side, n = 0;
    long long parameters, buffers, macs;
    for (; fgets(line, sizeof line, file); n++) {
        assert_int_equal(
            sscanf(line, "%127s %d %lld %lld %*d %*d %*d %lld", name, &side, &parameters, &buffers, &macs),
            5);
        struct model_spec spec;
        struct model_cost cost;
        int32_t preset_side;
        assert_ok(model_spec_preset(name, &spec, &preset_side));
        assert_ok(model_cost(&spec, 1, side, side, DTYPE_F32, &cost));
        if (cost.n_params != parameters || cost.macs != macs)
            fail_msg("%s at %d: %lld parameters, %lld MACs; expected %lld, %lld", name, side,
                     (long long)cost.n_params, (long long)cost.macs, parameters, macs);
        /* torchvision keeps a counter of batches in each of 52 norms as well */
        assert_int_equal(cost.n_buffers, buffers - (buffers ? 52 : 0));
        assert_true(cost.activation_bytes_infer < cost.activation_bytes_train_recompute);
        assert_true(cost.activation_bytes_train_recompute < cost.activation_bytes_train);
    }
    assert_true(n > 0);
    fclose(file);
}

static void expect_preset(const char *name, int32_t side, int32_t n_classes, int32_t width) {
    struct model_spec spec;
    int32_t got;
    assert_ok(model_spec_preset(name, &spec, &got));
    assert_int_equal(got, side);
    assert_int_equal(spec.n_classes, n_classes);
    assert_int_equal(spec.family == MODEL_CONVNEXT ? spec.dims[0] : spec.embed, width);
    assert_string_equal(spec.name, name);
}

static void tags(void **state) {
    (void)state;
    expect_preset("convnext_xlarge.fb_in22k", 224, 21841, 256);
    expect_preset("convnext_xlarge.fb_in22k_ft_in1k", 224, 1000, 256);
    expect_preset("convnext_xlarge_384_in22ft1k", 384, 1000, 256);
    expect_preset("convnext_nano.in12k", 224, 11821, 80);
    expect_preset("convnext_small.in12k_ft_in1k_384", 384, 1000, 96);
    expect_preset("swin_large", 224, 1000, 192);
    expect_preset("swin_large_patch4_window12_384", 384, 1000, 192);
    expect_preset("swin_base_patch4_window7_224.ms_in22k", 224, 21841, 128);
    struct model_spec spec;
    int32_t side;
    assert_fails(model_spec_preset("convnext_tny", &spec, &side), STATUS_BAD_CONFIG, "convnext_tiny");
    assert_fails(model_spec_preset("swin_tiny_patch4_window7_225", &spec, &side), STATUS_BAD_CONFIG,
                 "swin_tiny_patch4_window7_224");
    assert_fails(model_spec_preset("convnext_tiny_hnf", &spec, &side), STATUS_BAD_CONFIG, "convnext_tiny");
    assert_fails(model_spec_preset("", &spec, &side), STATUS_BAD_CONFIG, "did you mean");
    for (int i = 0; model_spec_preset_name(i); i++) {
        assert_ok(model_spec_preset(model_spec_preset_name(i), &spec, &side));
        assert_ok(model_spec_check(&spec));
    }
}

static void bad_shapes(void **state) {
    (void)state;
    struct model_spec spec = model_spec_default(MODEL_SWIN);
    struct model_cost cost;
    spec.heads[1] = 5;
    assert_fails(model_spec_check(&spec), STATUS_BAD_CONFIG, "do not divide");
    spec = model_spec_default(MODEL_CONVNEXT);
    spec.kernel = 6;
    assert_fails(model_spec_check(&spec), STATUS_BAD_CONFIG, "kernel");
    spec.kernel = 7;
    assert_fails(model_cost(&spec, 1, 16, 64, DTYPE_F32, &cost), STATUS_BAD_CONFIG, "too small");
    spec.drop_path = 1;
    assert_fails(model_spec_check(&spec), STATUS_BAD_CONFIG, "drop_path");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(layers),
                                       cmocka_unit_test(sizes), cmocka_unit_test(tags),
                                       cmocka_unit_test(bad_shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
