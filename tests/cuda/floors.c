// Work of a training image as the graph counts it, in FLOP and bytes of memory traffic, against the table of
// floors for an H100 (per image, bf16, batch 32): within 10 %, operation by operation. `plan` and `bench
// model` print the graph's counts.
//
// The graph counts every input and output of an operation once. The table adds up kernels: matrix products
// with bias, GELU and GELU's gradient fused into them, whose operands go through memory; products, layer
// scale and residual, and the adding of gradients apart. What lies between the kernels of one operation is
// stated below in sizes of the operation's own tensors and added to the graph's count.
//   mlp        forward: hidden rows written by the first product, read by the second; second product written,
//   then
//              read where it is scaled and added. Backward: gradient of the hidden rows written, read by the
//              gradients of x and of w1; hidden rows read by that of w2; dy read there again; gradient added
//              to the residual's (2 read, 1 written); with layer scale: its own pass (2 read, 1 written).
//              Gradients of weights in fp32.
//   linear     dy read by both gradients; with a residual as in mlp: product written, read; gradient added.
//   depthwise  dy read by both gradients.
//   attention  the output read in backward.
//   conv       dy read by both gradients.
// FLOORS_VERBOSE=1 prints the table.
#include "models/program.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 32, SIDE = 384, ADAMW_BYTES = 28 /* a parameter and step, fp32 state, bf16 copy */ };

/* A row of comparison: nodes of one kind inside blocks, or whatever lies outside. */
struct row {
    const char *name;
    enum node_kind kind; /* inside blocks; NODE_KINDS: everything outside */
    double gflop, mb;    /* the table's */
    double adamw;        /* 1: the optimiser is in this row too */
};

/* Sums of the table's rows: pw1 fwd, pw2 dgrad, pw2 fwd + pw1 dgrad, wgrads, and layer scale + residual. */
static const struct row CONVNEXT_XL[] = {
    {"mlp", NODE_MLP, 173.9 + 173.9 + 347.8 + 347.8, 504 + 504 + 569 + 590 + 494, 0},
    {"depthwise 7x7", NODE_DEPTHWISE, 8.1, 329, 0},
    {"LayerNorm", NODE_LAYERNORM, 0, 274, 0},
    {"stem, downsampling, AdamW", NODE_KINDS, 22.4, 118 + 306, 1},
};
/* fc1 fwd, fc2 dgrad, fc2 fwd + fc1 dgrad, wgrads, and of the residual adds one of the two of a block. */
static const struct row SWIN_L[] = {
    {"mlp", NODE_MLP, 65.2 + 65.2 + 130.4 + 130.4, 251 + 251 + 282 + 290 + 329.0 / 2, 0},
    {"qkv, proj", NODE_LINEAR, 195.6, 509 + 329.0 / 2, 0},
    {"window attention", NODE_WINDOW_ATTENTION, 27.6, 329, 0},
    {"LayerNorm", NODE_LAYERNORM, 0, 274, 0},
    {"embed, merging, AdamW", NODE_KINDS, 13, 275, 1},
};

struct count {
    double flop, n_bytes, between;
};

/* Bytes that go through memory between the kernels of one operation. */
static double between_kernels(const struct graph *g, const struct node *node, bool backward) {
    const double y = (double)g->values[node->y].n_bytes;
    const double added = node->residual != NONE ? 3 * y : 0;
    switch (node->kind) {
    case NODE_MLP: {
        const double hidden = (double)g->values[node->saved[0]].n_bytes;
        const double layer_scale = node->params[4] != NONE ? 3 * y : 0;
        return backward ? 4 * hidden + y + added + layer_scale + (double)node->n_param_bytes
                        : 2 * hidden + 2 * y;
    }
    case NODE_LINEAR:
        if (!backward) return node->residual != NONE ? 2 * y : 0;
        return y + added + (double)node->n_param_bytes;
    case NODE_DEPTHWISE:
    case NODE_CONV:
    case NODE_WINDOW_ATTENTION:
        return backward ? y : 0;
    default:
        return 0;
    }
}

/* LayerNorm and the like have a few operations an element, which the table leaves out. */
static struct count count_steps(const struct graph *g, const struct program *p, const struct row *row) {
    struct count c = {0};
    for (int32_t i = 0; i < p->n_steps; i++) {
        const struct step *s = &p->steps[i];
        const struct node *node = &g->nodes[s->node];
        const bool inside = node->block != NONE;
        if (s->kind == STEP_ADD || (row->kind == NODE_KINDS ? inside : !inside || node->kind != row->kind))
            continue;
        c.flop += s->flop / BATCH;
        c.n_bytes += s->n_bytes / BATCH;
        c.between += between_kernels(g, node, s->kind == STEP_BACKWARD) / BATCH;
    }
    if (row->adamw > 0) c.n_bytes += ADAMW_BYTES * (double)g->table->n_elem / BATCH;
    return c;
}

static void check(const char *net, const struct row *row, const char *what, double counted, double table) {
    if (fabs(counted - table) > 0.1 * table)
        fail_msg("%s, %s: %.1f %s counted, the table has %.1f", net, row->name, counted, what, table);
}

static void check_network(const char *name, const struct row *rows, size_t n_rows) {
    struct model_spec spec;
    struct param_table table = {0};
    struct graph g;
    struct program program;
    int32_t trained_at;
    const struct pass_options options = {.batch = BATCH, .height = SIDE, .width = SIDE, .mode = PASS_TRAIN};
    assert_ok(model_spec_preset(name, &spec, &trained_at));
    spec.n_classes = 0;
    assert_ok(graph_build(&g, &spec, &table, BATCH, SIDE, SIDE, DTYPE_BF16, 0, false));
    assert_ok(program_build(&program, &g, &options, NULL, NULL));
    for (size_t i = 0; i < n_rows; i++) {
        const struct count c = count_steps(&g, &program, &rows[i]);
        if (getenv("FLOORS_VERBOSE"))
            printf("%-40.40s %-28s %8.1f GFLOP (%7.1f)  %6.0f + %6.0f between = %6.0f MB (%6.1f)\n", name,
                   rows[i].name, 1e-9 * c.flop, rows[i].gflop, 1e-6 * c.n_bytes, 1e-6 * c.between,
                   1e-6 * (c.n_bytes + c.between), rows[i].mb);
        if (rows[i].gflop > 0) check(name, &rows[i], "GFLOP", 1e-9 * c.flop, rows[i].gflop);
        check(name, &rows[i], "MB", 1e-6 * (c.n_bytes + c.between), rows[i].mb);
    }
    program_free(&program);
    graph_free(&g);
    param_table_free(&table);
}

static void convnext_xlarge(void **state) {
    (void)state;
    check_network("convnext_xlarge.fb_in22k_ft_in1k_384", CONVNEXT_XL,
                  sizeof CONVNEXT_XL / sizeof *CONVNEXT_XL);
}

static void swin_large(void **state) {
    (void)state;
    check_network("swin_large_patch4_window12_384", SWIN_L, sizeof SWIN_L / sizeof *SWIN_L);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(convnext_xlarge), cmocka_unit_test(swin_large)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
