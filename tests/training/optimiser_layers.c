// Rate factors and weight decay of every parameter of the big presets equal timm's
// (tests/golden/presets/layer_decay_*.tsv).
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "tests/support/test.h"
#include "models/graph.h"
#include "training/optimiser.h"

static void compare(const char *preset, const char *path) {
    struct model_spec spec;
    int32_t side;
    assert_ok(model_spec_preset(preset, &spec, &side));
    struct param_table table = {0};
    struct graph graph;
    assert_ok(graph_build(&graph, &spec, &table, 1, side, side, DTYPE_F32, 0, false));
    graph_free(&graph);
    const int32_t last_layer = table.items[table.n - 1].layer;
    const struct optimizer_settings settings = {
        .weight_decay = 0.05, .no_decay_norms = true, .layer_decay = 0.8, .backbone_scale = 1};
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("cannot read %s", path);
    char line[256], name[128];
    assert_non_null(fgets(line, sizeof line, file));
    int32_t n = 0;
    for (int layer; fgets(line, sizeof line, file); n++) {
        double scale, decay;
        assert_int_equal(sscanf(line, "%127s %d %lf %lf", name, &layer, &scale, &decay), 4);
        int32_t at = 0;
        while (at < table.n && strcmp(table.items[at].name, name)) at++;
        if (at == table.n) fail_msg("no parameter %s", name);
        const struct optimiser_segment got = optimiser_group(&settings, &table.items[at], last_layer);
        if (table.items[at].layer != layer)
            fail_msg("%s: layer %d, timm has %d", name, table.items[at].layer, layer);
        if (fabs(got.lr_scale - scale) > 1e-6 * scale)
            fail_msg("%s: factor %g, timm has %g", name, (double)got.lr_scale, scale);
        if (fabs(got.weight_decay - decay) > 1e-9)
            fail_msg("%s: decay %g, timm has %g", name, (double)got.weight_decay, decay);
        assert_int_equal(got.n_elem, table.items[at].n_elem);
    }
    fclose(file);
    assert_int_equal(n, table.n);
    param_table_free(&table);
}

static void convnext_xlarge(void **state) {
    (void)state;
    compare("convnext_xlarge.fb_in22k_ft_in1k_384",
            "tests/golden/presets/layer_decay_convnext_xlarge.fb_in22k_ft_in1k_384.tsv");
}

static void swin_large(void **state) {
    (void)state;
    compare("swin_large_patch4_window12_384",
            "tests/golden/presets/layer_decay_swin_large_patch4_window12_384.ms_in22k_ft_in1k.tsv");
}

static void multipliers(void **state) {
    (void)state;
    const struct net_param matrix = {.n_dims = 2, .layer = 2, .n_elem = 6, .offset = 32},
                           head = {.n_dims = 2, .layer = 4, .is_head = true},
                           table = {.n_dims = 2, .layer = 2, .is_table = true},
                           bias = {.n_dims = 1, .layer = 2};
    struct optimizer_settings settings = {.weight_decay = 5e-4, .layer_decay = 1, .backbone_scale = 0.1};
    assert_true(optimiser_group(&settings, &matrix, 4).lr_scale == 0.1f &&
                optimiser_group(&settings, &head, 4).lr_scale == 1);
    assert_true(optimiser_group(&settings, &bias, 4).weight_decay ==
                5e-4f); /* METHOD section 5: decay on every parameter */
    settings.no_decay_norms = true;
    assert_true(optimiser_group(&settings, &bias, 4).weight_decay == 0 &&
                optimiser_group(&settings, &table, 4).weight_decay == 0);
    assert_true(optimiser_group(&settings, &matrix, 4).weight_decay == 5e-4f);
    settings.layer_decay = 0.5;
    assert_true(optimiser_group(&settings, &matrix, 4).lr_scale == 0.025f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(convnext_xlarge), cmocka_unit_test(swin_large),
                                       cmocka_unit_test(multipliers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
