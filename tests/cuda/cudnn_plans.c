// Every convolution that the GPU backend would ask of cuDNN, for whole networks at their real sizes, becomes
// a plan of the real library for an H100 that is only described (tests/cuda/h100.json): no GPU is needed.
// Skipped where cuDNN is not installed. LIMIT 240
#include "models/graph.h"
#include "models/ops/cuda/cudnn_graph.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHAPES = 256, WORKSPACE = 256 << 20 };

struct shapes {
    struct conv_shape shape[MAX_SHAPES];
    int n;
};

static void add_shape(struct shapes *all, const struct conv_shape *shape) {
    for (int i = 0; i < all->n; i++)
        if (memcmp(&all->shape[i], shape, sizeof *shape) == 0) return;
    assert_true(all->n < MAX_SHAPES);
    all->shape[all->n++] = *shape;
}

/* The convolutions of a network, forward and both gradients (of x only where the graph wants it). */
static void add_network(struct shapes *all, const struct model_spec *spec, int32_t batch, int32_t side) {
    struct param_table table = {0};
    struct graph g;
    assert_ok(graph_build(&g, spec, &table, batch, side, side, DTYPE_BF16, 0, false));
    for (int32_t i = 0; i < g.n_nodes; i++) {
        const struct node *node = &g.nodes[i];
        const struct value *x = &g.values[node->x], *y = &g.values[node->y];
        if (node->kind != NODE_CONV && node->kind != NODE_DEPTHWISE) continue;
        for (int pass = CONV_FORWARD; pass <= CONV_DW; pass++) {
            struct conv_shape s;
            memset(&s, 0, sizeof s); /* compared as bytes */
            s.pass = (enum conv_pass)pass, s.dtype = DTYPE_BF16, s.depthwise = node->kind == NODE_DEPTHWISE;
            s.n = x->n, s.h = x->h, s.w = x->w, s.cin = x->c, s.cout = y->c;
            s.k = node->k, s.stride = node->stride, s.pad = node->pad;
            if (pass != CONV_DX || x->needs_grad) add_shape(all, &s);
        }
    }
    graph_free(&g);
    param_table_free(&table);
}

static void add_preset(struct shapes *all, const char *name, int32_t batch, int32_t side) {
    struct model_spec spec;
    int32_t trained_at;
    assert_ok(model_spec_preset(name, &spec, &trained_at));
    add_network(all, &spec, batch, side);
}

static struct model_spec digits_student(void) {
    struct model_spec spec = model_spec_default(MODEL_MOBILENETV2);
    const int32_t strides[7] = {1, 1, 2, 2, 1, 2, 1};
    memcpy(spec.strides, strides, sizeof strides);
    spec.width = 0.35f;
    spec.n_classes = 10;
    return spec;
}

static void read_device(char *json, size_t n_bytes) {
    FILE *file = fopen("tests/cuda/h100.json", "r");
    assert_non_null(file);
    json[fread(json, 1, n_bytes - 1, file)] = '\0';
    fclose(file);
}

static void shape_text(const struct conv_shape *s, char *text, size_t n_bytes) {
    static const char *const passes[] = {"forward", "gradient of x", "gradient of the weights"};
    snprintf(text, n_bytes, "%s %dx%d/%d, (%lld,%lld,%lld,%lld) to %lld, %s",
             s->depthwise ? "depthwise" : "dense", s->k, s->k, s->stride, (long long)s->n, (long long)s->h,
             (long long)s->w, (long long)s->cin, (long long)s->cout, passes[s->pass]);
}

static void plans_for_an_h100(void **state) {
    (void)state;
    static struct shapes all;
    char json[4096];
    struct cudnn *lib;
    read_device(json, sizeof json);
    if (cudnn_open("libcudnn.so.9", NULL, json, &lib) == STATUS_MISSING) skip();
    add_preset(&all, "mobilenetv2_100", 96, 224);
    add_preset(&all, "convnext_xlarge.fb_in22k_ft_in1k_384", 32, 384);
    const struct model_spec student = digits_student();
    add_network(&all, &student, 74, 32);
    assert_true(all.n > 60);
    for (int i = 0; i < all.n; i++) {
        struct cudnn_plan *plan = NULL;
        char text[256];
        int n;
        shape_text(&all.shape[i], text, sizeof text);
        if (cudnn_plans(lib, &all.shape[i], WORKSPACE, 1, &plan, &n) != STATUS_OK)
            fail_msg("%s: %s", text, status_message());
        if (getenv("CUDNN_VERBOSE"))
            printf("%-70s %s engine %lld, %.1f MiB\n", text, n ? "ok" : "NONE",
                   n ? (long long)cudnn_plan_engine(plan) : -1,
                   n ? (double)cudnn_plan_workspace(plan) / (1 << 20) : 0.0);
        if (n == 0) fail_msg("%s: no plan", text);
        cudnn_plan_free(lib, plan);
    }
    cudnn_close(lib);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plans_for_an_h100)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
