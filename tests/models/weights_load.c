// Weights files: every dialect of names, types, resizing, the classifier's choices, and misfits listed by
// name.
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "tests/support/golden_net.h"
#include "models/ops/ref/ref.h"
#include "models/weights.h"
#include "models/weights_names.h"

#define SWIN "tests/golden/nets/swin_shrink_64"

static struct golden_backend backend;
static char temporary[] = "/tmp/weights-load-XXXXXX";

/* A change to one tensor on its way from a file to another. */
struct edit {
    const char *name; /* NULL ends the list; "*": all fp32 */
    enum { DROP, RENAME, RETYPE, RESHAPE, SPOIL } what;
    const char *to;
    enum tensor_type type;
    int32_t n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
};

static void convert(const struct safetensor *from, enum tensor_type type, uint8_t *out) {
    for (int64_t i = 0; i < from->n_elem; i++) {
        uint32_t bits;
        memcpy(&bits, (const uint8_t *)from->bytes + 4 * i, 4);
        if (type == TENSOR_BF16) {
            const uint16_t half = (uint16_t)(bits >> 16);
            memcpy(out + 2 * i, &half, 2);
        } else {
            float x;
            memcpy(&x, &bits, 4);
            const double wide = (double)x;
            memcpy(out + 8 * i, &wide, 8);
        }
    }
}

/* Copy a safetensors file to `temporary` with these edits. */
static void rewrite(const char *path, const struct edit *edits) {
    struct safetensors *file;
    assert_ok(safetensors_open(path, &file));
    const int32_t n_all = safetensors_count(file);
    struct safetensors_entry *entries = calloc((size_t)n_all, sizeof *entries);
    const struct safetensor **from = calloc((size_t)n_all, sizeof *from);
    bool *spoilt = calloc((size_t)n_all, sizeof *spoilt);
    int32_t n = 0;
    for (int32_t i = 0; i < n_all; i++) {
        const struct safetensor *t = safetensors_at(file, i);
        struct safetensors_entry entry = {.name = t->name, .type = t->type, .n_dims = t->n_dims};
        memcpy(entry.shape, t->shape, sizeof entry.shape);
        bool dropped = false;
        for (const struct edit *e = edits; e->name; e++) {
            if (strcmp(e->name, "*") ? strcmp(e->name, t->name) != 0 : t->type != TENSOR_F32) continue;
            dropped |= e->what == DROP;
            if (e->what == RENAME) entry.name = e->to;
            if (e->what == RETYPE) entry.type = e->type;
            if (e->what == RESHAPE)
                entry.n_dims = e->n_dims, memcpy(entry.shape, e->shape, sizeof entry.shape);
            spoilt[n] = e->what == SPOIL;
        }
        if (dropped) continue;
        from[n] = t;
        entries[n++] = entry;
    }
    struct safetensors_writer *writer;
    assert_ok(safetensors_create(temporary, entries, n, NULL, 0, &writer));
    for (int32_t i = 0; i < n; i++) {
        const size_t n_bytes = (size_t)from[i]->n_elem * tensor_type_bytes(entries[i].type);
        uint8_t *bytes = malloc(n_bytes + 8);
        if (entries[i].type == from[i]->type)
            memcpy(bytes, from[i]->bytes, n_bytes);
        else
            convert(from[i], entries[i].type, bytes);
        if (spoilt[i]) memcpy(bytes, &(float){NAN}, 4);
        assert_ok(safetensors_put(writer, i, bytes, n_bytes));
        free(bytes);
    }
    assert_ok(safetensors_commit(writer));
    free(entries), free(from), free(spoilt);
    safetensors_close(file);
}

static struct net *fresh_net(const struct model_spec *spec, int32_t height, int32_t width) {
    struct net *net;
    assert_ok(net_new(backend.ops, backend.be, spec, height, width, DTYPE_F32, &net));
    return net;
}

static void assert_same_weights(struct net *a, struct net *b) {
    assert_memory_equal(net_params(a), net_params(b), (size_t)net_n_elem(a) * sizeof(float));
    assert_memory_equal(net_buffers(a), net_buffers(b), (size_t)net_n_buffer_elem(a) * sizeof(float));
}

/* Every golden network, under its own names and where there are under its authors', and after saving. */
static void every_network(void **state) {
    (void)state;
    char folders[64][512], path[640];
    const int n = golden_net_list(folders);
    int n_renamed = 0;
    for (int i = 0; i < n; i++) {
        struct golden_net c;
        struct weights_report report;
        golden_net_open(&c, folders[i], backend, DTYPE_F32);
        struct net *net = fresh_net(&c.spec, c.height, c.width);
        snprintf(path, sizeof path, "%s/weights.safetensors", folders[i]);
        assert_ok(weights_load(net, path, WEIGHTS_HEAD_LOAD, &report));
        assert_int_equal(report.n_loaded, net_n_params(net));
        assert_int_equal(report.n_resized, 0);
        assert_string_equal(report.dialect, "timm");
        assert_same_weights(net, c.net);
        snprintf(path, sizeof path, "%s/weights_original_names.safetensors", folders[i]);
        if (access(path, R_OK) == 0) {
            struct net *other = fresh_net(&c.spec, c.height, c.width);
            assert_ok(weights_load(other, path, WEIGHTS_HEAD_LOAD, &report));
            assert_string_not_equal(report.dialect, "timm");
            assert_same_weights(other, c.net);
            net_free(other);
            n_renamed++;
        }
        assert_ok(weights_save(c.net, NULL, (const char *const[]){"classes", "a,b"}, 1, temporary));
        struct net *again = fresh_net(&c.spec, c.height, c.width);
        assert_ok(weights_load(again, temporary, WEIGHTS_HEAD_LOAD, &report));
        assert_same_weights(again, c.net);
        net_free(again);
        net_free(net);
        golden_net_close(&c);
    }
    assert_true(n_renamed >= 1 || getenv("GOLDEN"));
}

/* Column `other` of a table translates to its first column. */
static int check_table(const char *path, enum model_family family, int other) {
    static const enum weights_dialect dialects[] = {WEIGHTS_FACEBOOK, WEIGHTS_MICROSOFT,
                                                    WEIGHTS_TIMM_MOBILENETV2};
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("cannot read %s", path);
    char line[512], *columns[8];
    int n = 0;
    assert_non_null(fgets(line, sizeof line, file));
    while (fgets(line, sizeof line, file)) {
        int n_columns = 0;
        for (char *p = strtok(line, "\t\n"); p && n_columns < 8; p = strtok(NULL, "\t\n"))
            columns[n_columns++] = p;
        if (n_columns <= other) continue;
        char name[256];
        if (!weights_translate(dialects[family], family, columns[other], name, sizeof name)) continue;
        assert_string_equal(name, columns[0]);
        n++;
    }
    fclose(file);
    return n;
}

static void every_name_of_the_presets(void **state) {
    (void)state;
    assert_int_equal(
        check_table("tests/golden/presets/convnext_xlarge.fb_in22k_ft_in1k_384.tsv", MODEL_CONVNEXT, 4), 344);
    assert_int_equal(check_table("tests/golden/presets/swin_large_patch4_window12_384.ms_in22k_ft_in1k.tsv",
                                 MODEL_SWIN, 4),
                     329);
    assert_int_equal(check_table("tests/golden/presets/torchvision_mobilenet_v2.tsv", MODEL_MOBILENETV2, 4),
                     262);
}

static void misfits_are_listed(void **state) {
    struct golden_net *c = *state;
    struct net *net = fresh_net(&c->spec, c->height, c->width);
    static const struct edit edits[] = {
        {.name = "norm.weight", .what = DROP},
        {.name = "norm.bias", .what = RENAME, .to = "norm.offset"},
        {.name = "layers.0.blocks.0.mlp.fc1.bias", .what = RESHAPE, .n_dims = 2, .shape = {8, 8}},
        {0}};
    rewrite(SWIN "/weights.safetensors", edits);
    assert_fails(weights_load(net, temporary, WEIGHTS_HEAD_LOAD, NULL), STATUS_BAD_DATA,
                 "missing (2): norm.weight norm.bias");
    assert_non_null(strstr(status_message(), "extra (1): norm.offset"));
    assert_non_null(
        strstr(status_message(),
               "of another shape (1): layers.0.blocks.0.mlp.fc1.bias (8,8) where the network has (64)"));
    assert_non_null(strstr(status_message(), temporary));
    static const struct edit nan[] = {{.name = "norm.weight", .what = SPOIL}, {0}};
    rewrite(SWIN "/weights.safetensors", nan);
    assert_fails(weights_load(net, temporary, WEIGHTS_HEAD_LOAD, NULL), STATUS_BAD_DATA,
                 "\"norm.weight\" holds NaN");
    net_free(net);
    /* A file of another family: the list stays bounded. */
    struct model_spec spec = model_spec_default(MODEL_CONVNEXT);
    spec.n_stages = 1, spec.depths[0] = 1, spec.dims[0] = 8, spec.n_classes = 3;
    net = fresh_net(&spec, 32, 32);
    assert_fails(weights_load(net, SWIN "/weights.safetensors", WEIGHTS_HEAD_LOAD, NULL), STATUS_BAD_DATA,
                 " ...");
    assert_true(strlen(status_message()) < 3000);
    net_free(net);
}

static void other_types_and_trailing_axes(void **state) {
    struct golden_net *c = *state;
    struct weights_report report;
    struct net *net = fresh_net(&c->spec, c->height, c->width);
    static const struct edit wide[] = {
        {.name = "*", .what = RETYPE, .type = TENSOR_F64},
        {.name = "layers.0.blocks.0.mlp.fc1.weight", .what = RESHAPE, .n_dims = 4, .shape = {64, 16, 1, 1}},
        {0}};
    rewrite(SWIN "/weights.safetensors", wide);
    assert_ok(weights_load(net, temporary, WEIGHTS_HEAD_LOAD, &report));
    assert_same_weights(net, c->net);
    static const struct edit bf16[] = {{.name = "*", .what = RETYPE, .type = TENSOR_BF16}, {0}};
    rewrite(SWIN "/weights.safetensors", bf16);
    assert_ok(weights_load(net, temporary, WEIGHTS_HEAD_LOAD, &report));
    for (int64_t i = 0; i < net_n_elem(net); i++)
        assert_true(fabsf(net_params(net)[i] - net_params(c->net)[i]) <= fabsf(net_params(c->net)[i]) / 128);
    uint64_t one, two;
    assert_ok(weights_file_hash(temporary, &one));
    assert_ok(weights_file_hash(SWIN "/weights.safetensors", &two));
    assert_true(one != two);
    net_free(net);
}

static void the_classifier(void **state) {
    struct golden_net *c = *state;
    struct model_spec spec = c->spec;
    struct weights_report report;
    spec.n_classes = 5;
    struct net *net = fresh_net(&spec, c->height, c->width);
    assert_ok(net_init(net, 1, 0));
    const struct net_param *head = net_param(net, net_find_param(net, "head.fc.weight"));
    const float before = net_params(net)[head->offset];
    assert_fails(weights_load(net, SWIN "/weights.safetensors", WEIGHTS_HEAD_LOAD, NULL), STATUS_BAD_DATA,
                 "head.fc.weight");
    assert_ok(weights_load(net, SWIN "/weights.safetensors", WEIGHTS_HEAD_IF_FITS, &report));
    assert_false(report.head_loaded);
    assert_int_equal(report.n_loaded, net_n_params(net) - 2);
    assert_true(net_params(net)[head->offset] == before);
    net_free(net);
    net = fresh_net(&c->spec, c->height, c->width);
    assert_ok(weights_load(net, SWIN "/weights.safetensors", WEIGHTS_HEAD_SKIP, &report));
    assert_false(report.head_loaded);
    assert_ok(weights_load(net, SWIN "/weights_original_names.safetensors", WEIGHTS_HEAD_IF_FITS, &report));
    assert_true(report.head_loaded);
    assert_same_weights(net, c->net);
    net_free(net);
    spec.n_classes = 0;
    net = fresh_net(&spec, c->height, c->width);
    assert_ok(weights_load(net, SWIN "/weights.safetensors", WEIGHTS_HEAD_LOAD, &report));
    assert_false(report.head_loaded);
    net_free(net);
}

/* Windows of 4 and patches of 2 from a file with 8 and 4, on a map that is not square. */
static void another_window_and_patch(void **state) {
    struct golden_net *c = *state;
    struct model_spec spec = c->spec;
    struct weights_report report;
    spec.window = 6, spec.patch = 2;
    struct net *net = fresh_net(&spec, 32, 8);
    assert_ok(weights_load(net, SWIN "/weights.safetensors", WEIGHTS_HEAD_LOAD, &report));
    const char *name = "layers.0.blocks.1.attn.relative_position_bias_table";
    const struct net_param *old = net_param(c->net, net_find_param(c->net, name));
    const struct net_param *new = net_param(net, net_find_param(net, name));
    assert_int_equal(new->shape[0], 11 * 7); /* maps 16 x 4 */
    float want[11 * 7 * 4], kernels[16 * 3 * 4], *patches = malloc(16 * 3 * 16 * sizeof *patches),
                                                 got[16 * 3 * 4];
    assert_ok(
        weights_resize_table(net_params(c->net) + old->offset, old->shape[0], old->shape[1], 6, 4, want));
    assert_memory_equal(net_params(net) + new->offset, want, (size_t) new->n_elem * sizeof(float));
    assert_ok(
        net_get(c->net, net_find_param(c->net, "patch_embed.proj.weight"), net_params(c->net), patches));
    assert_ok(net_get(net, net_find_param(net, "patch_embed.proj.weight"), net_params(net), got));
    assert_ok(weights_resize_patch(patches, 16 * 3, 4, 4, 2, 2, kernels));
    assert_memory_equal(kernels, got, sizeof got);
    assert_true(report.n_resized >= 3);
    free(patches);
    net_free(net);
}

int main(void) {
    struct golden_net swin;
    close(mkstemp(temporary));
    backend.ops = &ops_ref;
    if (ref_backend_open(&backend.be) != STATUS_OK) return 1;
    golden_net_open(&swin, SWIN, backend, DTYPE_F32);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network),
        cmocka_unit_test(every_name_of_the_presets),
        cmocka_unit_test_prestate(misfits_are_listed, &swin),
        cmocka_unit_test_prestate(other_types_and_trailing_axes, &swin),
        cmocka_unit_test_prestate(the_classifier, &swin),
        cmocka_unit_test_prestate(another_window_and_patch, &swin),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    golden_net_close(&swin);
    ref_backend_close(backend.be);
    unlink(temporary);
    return failures;
}
