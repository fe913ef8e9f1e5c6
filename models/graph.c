/* Building graphs: see graph.h. */
#include "models/graph.h"

#include "common/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PARAM_ALIGNMENT = 16 }; /* elements */

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
static int32_t smaller(int64_t a, int64_t b) {
    return (int32_t)(a < b ? a : b);
}

/* ---- values, nodes, parameters ---- */

static int32_t add_value(struct graph *g, enum dtype dtype, size_t element_bytes, int64_t n, int64_t h,
                         int64_t w, int64_t c) {
    if (g->status != STATUS_OK) return NONE;
    size_t bytes = 0;
    if (n < 0 || h < 1 || w < 1 || c < 1) {
        g->status = FAIL(STATUS_BAD_CONFIG, "%s: the image is too small for this network", g->scope);
        return NONE;
    }
    if (!size_mul((size_t)n, (size_t)h, &bytes) || !size_mul(bytes, (size_t)w, &bytes) ||
        !size_mul(bytes, (size_t)c, &bytes) || !size_mul(bytes, element_bytes, &bytes) ||
        bytes > PTRDIFF_MAX / 4) {
        g->status = FAIL(STATUS_BAD_CONFIG, "%s: an activation would be too large to count", g->scope);
        return NONE;
    }
    if (!memory_grow(&g->values, (size_t)g->n_values, &g->value_capacity, sizeof *g->values)) {
        g->status = FAIL(STATUS_NO_MEMORY, "out of memory for the graph");
        return NONE;
    }
    g->values[g->n_values] = (struct value){.dtype = dtype, .n = n, .h = h, .w = w, .c = c, .n_bytes = bytes};
    return g->n_values++;
}

static int32_t add_activation(struct graph *g, enum dtype dtype, int64_t n, int64_t h, int64_t w, int64_t c) {
    return add_value(g, dtype, dtype_bytes(dtype), n, h, w, c);
}

static bool is_trained(const struct graph *g, int32_t param) {
    return param != NONE && g->table->items[param].layer >= g->first_trained_layer;
}

/* Append; fills in what all kinds share. Returns the node's output value. */
static int32_t add_node(struct graph *g, struct node node) {
    if (g->status != STATUS_OK) return NONE;
    if (!memory_grow(&g->nodes, (size_t)g->n_nodes, &g->node_capacity, sizeof *g->nodes)) {
        g->status = FAIL(STATUS_NO_MEMORY, "out of memory for the graph");
        return NONE;
    }
    node.block = g->block;
    struct value *y = &g->values[node.y];
    y->needs_grad =
        g->values[node.x].needs_grad || (node.residual != NONE && g->values[node.residual].needs_grad);
    for (int i = 0; i < NODE_MAX_PARAMS; i++) {
        int32_t p = node.params[i];
        if (p == NONE) continue;
        y->needs_grad |= is_trained(g, p);
        node.n_param_bytes +=
            (size_t)g->table->items[p].n_elem * (g->table->items[p].n_dims > 1 ? dtype_bytes(node.dtype) : 4);
    }
    g->nodes[g->n_nodes++] = node;
    return node.y;
}

/* A node of `kind` on x with nothing but the common fields. */
static struct node start_node(const struct graph *g, enum node_kind kind, int32_t x) {
    struct node node = {
        .kind = kind, .x = x, .residual = NONE, .y = NONE, .drop_path = NONE, .dtype = g->precision};
    for (int i = 0; i < NODE_MAX_SAVED; i++) node.saved[i] = NONE;
    for (int i = 0; i < NODE_MAX_PARAMS; i++) node.params[i] = NONE;
    node.stats[0] = node.stats[1] = NONE;
    if (x != NONE) node.dtype = g->values[x].dtype;
    return node;
}

static bool same_shape(const struct net_param *a, const struct net_param *b) {
    return a->n_dims == b->n_dims && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

/* The next parameter of a table that is complete: it must be the one wanted. */
static int32_t look_up(struct graph *g, const struct net_param *want) {
    if (g->cursor >= g->table->n || strcmp(g->table->items[g->cursor].name, want->name) != 0) {
        g->status = FAIL(STATUS_INTERNAL, "parameter %s is not where it was", want->name);
        return NONE;
    }
    const struct net_param *have = &g->table->items[g->cursor];
    if (!same_shape(have, want)) {
        g->status = FAIL(STATUS_BAD_CONFIG,
                         "%s is %lld x %lld, but this image size needs %lld x %lld: build the network "
                         "for this size",
                         want->name, (long long)have->shape[0], (long long)have->shape[1],
                         (long long)want->shape[0], (long long)want->shape[1]);
        return NONE;
    }
    return g->cursor++;
}

/* Add a parameter (or find it in a complete table) under scope + name + suffix. */
static int32_t add_param(struct graph *g, struct net_param p, const char *name, const char *suffix) {
    if (g->status != STATUS_OK) return NONE;
    struct param_table *t = g->table;
    char full[PARAM_NAME_BYTES];
    snprintf(full, sizeof full, "%s%s%s", g->scope, name, suffix);
    p.name = full;
    for (int i = p.n_dims; i < 4; i++) p.shape[i] = 0;
    if (t->complete) return look_up(g, &p);

    size_t names_capacity = t->capacity;
    if (!memory_grow(&t->items, (size_t)t->n, &t->capacity, sizeof *t->items) ||
        !memory_grow(&t->names, (size_t)t->n, &names_capacity, sizeof *t->names)) {
        g->status = FAIL(STATUS_NO_MEMORY, "out of memory for the table of parameters");
        return NONE;
    }
    memcpy(t->names[t->n], full, sizeof full);
    p.n_elem = 1;
    int64_t receptive = 1;
    for (int i = 0; i < p.n_dims; i++) p.n_elem *= p.shape[i];
    for (int i = 2; i < p.n_dims; i++) receptive *= p.shape[i];
    p.fan_in = p.n_dims > 1 ? p.shape[1] * receptive : 0;
    p.fan_out = p.n_dims > 1 ? p.shape[0] * receptive : 0;
    p.layer = g->layer;
    int64_t *end = p.is_buffer ? &t->n_buffer_elem : &t->n_elem;
    p.offset = *end;
    *end += divide_up(p.n_elem, PARAM_ALIGNMENT) * PARAM_ALIGNMENT;
    t->items[t->n] = p;
    return t->n++;
}

static int32_t add_matrix(struct graph *g, const char *name, const char *suffix, int64_t out, int64_t in) {
    return add_param(g, (struct net_param){.n_dims = 2, .shape = {out, in}}, name, suffix);
}

static int32_t add_vector(struct graph *g, const char *name, const char *suffix, int64_t n) {
    return add_param(g, (struct net_param){.n_dims = 1, .shape = {n}}, name, suffix);
}

int32_t graph_vector(struct graph *g, const char *name, int64_t n) {
    return add_vector(g, name, "", n);
}

/* ---- scopes, blocks, names ---- */

void graph_scope(struct graph *g, int32_t layer, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(g->scope, sizeof g->scope, fmt, args);
    va_end(args);
    g->layer = layer;
}

void graph_block_begin(struct graph *g) {
    g->block = g->n_blocks++;
}
void graph_block_end(struct graph *g) {
    g->block = NONE;
}

int32_t graph_name(struct graph *g, int32_t value, const char *fmt, ...) {
    if (g->status != STATUS_OK) return NONE;
    va_list args;
    va_start(args, fmt);
    vsnprintf(g->values[value].name, VALUE_NAME_BYTES, fmt, args);
    va_end(args);
    return value;
}

int32_t graph_drop_path(struct graph *g, float rate) {
    if (g->status != STATUS_OK || !(rate > 0)) return NONE;
    if (!memory_grow(&g->drop_path_rates, (size_t)g->n_drop_paths, &g->drop_path_capacity, sizeof(float))) {
        g->status = FAIL(STATUS_NO_MEMORY, "out of memory for the graph");
        return NONE;
    }
    g->drop_path_rates[g->n_drop_paths] = rate;
    return g->n_drop_paths++;
}

/* ---- nodes ---- */

int32_t graph_conv(struct graph *g, int32_t x, const char *name, int64_t cout, int32_t k, int32_t stride,
                   int32_t pad, bool bias) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_CONV, x);
    node.k = k, node.stride = stride, node.pad = pad;
    node.params[0] =
        add_param(g, (struct net_param){.n_dims = 4, .shape = {cout, in.c, k, k}, .layout = PARAM_CONV_OHWI},
                  name, ".weight");
    if (bias) node.params[1] = add_vector(g, name, ".bias", cout);
    int64_t h = in.h + 2 * pad - k, w = in.w + 2 * pad - k;
    node.y =
        add_activation(g, node.dtype, in.n, h < 0 ? 0 : h / stride + 1, w < 0 ? 0 : w / stride + 1, cout);
    if (g->status != STATUS_OK) return NONE;
    node.macs = value_elem(&g->values[node.y]) * in.c * k * k;
    return add_node(g, node);
}

int32_t graph_depthwise(struct graph *g, int32_t x, const char *name, int32_t k, int32_t stride, bool bias) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_DEPTHWISE, x);
    node.k = k, node.stride = stride, node.pad = k / 2;
    node.params[0] =
        add_param(g, (struct net_param){.n_dims = 4, .shape = {in.c, 1, k, k}, .layout = PARAM_DEPTHWISE_HWC},
                  name, ".weight");
    if (bias) node.params[1] = add_vector(g, name, ".bias", in.c);
    node.y = add_activation(g, node.dtype, in.n, (in.h + 2 * node.pad - k) / stride + 1,
                            (in.w + 2 * node.pad - k) / stride + 1, in.c);
    if (g->status != STATUS_OK) return NONE;
    node.macs = value_elem(&g->values[node.y]) * k * k;
    return add_node(g, node);
}

int32_t graph_layernorm(struct graph *g, int32_t x, const char *name, float eps) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_LAYERNORM, x);
    node.eps = eps;
    node.params[0] = add_vector(g, name, ".weight", in.c);
    node.params[1] = add_vector(g, name, ".bias", in.c);
    node.saved[0] = add_activation(g, DTYPE_F32, in.n, in.h, in.w, 1);
    node.saved[1] = add_activation(g, DTYPE_F32, in.n, in.h, in.w, 1);
    node.y = add_activation(g, node.dtype, in.n, in.h, in.w, in.c);
    return add_node(g, node);
}

static int32_t add_linear(struct graph *g, int32_t x, int32_t weight, int32_t bias, int64_t out,
                          int32_t residual, int32_t drop_path) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_LINEAR, x);
    node.params[0] = weight, node.params[1] = bias;
    node.residual = residual, node.drop_path = drop_path;
    node.y = add_activation(g, node.dtype, in.n, in.h, in.w, out);
    node.macs = value_rows(&in) * in.c * out;
    return add_node(g, node);
}

int32_t graph_linear(struct graph *g, int32_t x, const char *name, int64_t out, bool bias, int32_t residual,
                     int32_t drop_path) {
    if (g->status != STATUS_OK) return NONE;
    int32_t weight = add_matrix(g, name, ".weight", out, g->values[x].c);
    int32_t b = bias ? add_vector(g, name, ".bias", out) : NONE;
    return add_linear(g, x, weight, b, out, residual, drop_path);
}

int32_t graph_pointwise(struct graph *g, int32_t x, const char *name, int64_t cout) {
    if (g->status != STATUS_OK) return NONE;
    struct net_param p = {.n_dims = 4, .shape = {cout, g->values[x].c, 1, 1}};
    return add_linear(g, x, add_param(g, p, name, ".weight"), NONE, cout, NONE, NONE);
}

int32_t graph_mlp(struct graph *g, int32_t x, const char *name, int32_t gamma, int32_t residual,
                  int32_t drop_path) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_MLP, x);
    const int32_t n_dims = g->spec->family == MODEL_CONVNEXT && g->spec->conv_mlp ? 4 : 2;
    node.hidden = 4 * in.c;
    node.params[0] = add_param(g, (struct net_param){.n_dims = n_dims, .shape = {node.hidden, in.c, 1, 1}},
                               name, ".fc1.weight");
    node.params[1] = add_vector(g, name, ".fc1.bias", node.hidden);
    node.params[2] = add_param(g, (struct net_param){.n_dims = n_dims, .shape = {in.c, node.hidden, 1, 1}},
                               name, ".fc2.weight");
    node.params[3] = add_vector(g, name, ".fc2.bias", in.c);
    node.params[4] = gamma;
    node.residual = residual, node.drop_path = drop_path;
    node.saved[0] = add_activation(g, node.dtype, in.n, in.h, in.w, node.hidden);
    node.y = add_activation(g, node.dtype, in.n, in.h, in.w, in.c);
    node.macs = 2 * value_rows(&in) * in.c * node.hidden;
    return add_node(g, node);
}

int32_t graph_window_attention(struct graph *g, int32_t x, const char *name, int32_t heads, int32_t window,
                               bool shift) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    /* A map no larger than the window is one window, and there is nothing to shift to. */
    const int32_t wh = smaller(in.h, window), ww = smaller(in.w, window);
    struct net_param table = {
        .n_dims = 2, .shape = {(int64_t)(2 * wh - 1) * (2 * ww - 1), heads}, .is_table = true};
    int32_t table_index = add_param(g, table, name, ".relative_position_bias_table");
    char qkv_name[PARAM_NAME_BYTES];
    snprintf(qkv_name, sizeof qkv_name, "%s.qkv", name);
    int32_t qkv = graph_linear(g, x, qkv_name, 3 * in.c, true, NONE, NONE);
    if (g->status != STATUS_OK) return NONE;

    struct node node = start_node(g, NODE_WINDOW_ATTENTION, qkv);
    node.params[0] = table_index;
    node.params[1] = g->nodes[g->n_nodes - 1].params[1];
    node.heads = heads, node.wh = wh, node.ww = ww;
    node.shift_h = shift && in.h > wh ? window / 2 : 0;
    node.shift_w = shift && in.w > ww ? window / 2 : 0;
    const int64_t windows = divide_up(in.h, wh) * divide_up(in.w, ww), tokens = (int64_t)wh * ww;
    node.saved[0] = add_activation(g, DTYPE_F32, in.n, windows, heads, tokens);
    node.y = add_activation(g, node.dtype, in.n, in.h, in.w, in.c);
    node.macs = 2 * in.n * windows * tokens * tokens * in.c;
    return add_node(g, node);
}

int32_t graph_patch_merge(struct graph *g, int32_t x) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_PATCH_MERGE, x);
    node.y = add_activation(g, node.dtype, in.n, divide_up(in.h, 2), divide_up(in.w, 2), 4 * in.c);
    return add_node(g, node);
}

int32_t graph_batchnorm(struct graph *g, int32_t x, const char *name, bool relu6, int32_t residual) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_BATCHNORM, x);
    node.eps = 1e-5f, node.relu6 = relu6, node.residual = residual;
    node.params[0] = add_vector(g, name, ".weight", in.c);
    node.params[1] = add_vector(g, name, ".bias", in.c);
    struct net_param buffer = {.n_dims = 1, .shape = {in.c}, .is_buffer = true};
    node.stats[0] = add_param(g, buffer, name, ".running_mean");
    node.stats[1] = add_param(g, buffer, name, ".running_var");
    node.saved[0] = add_activation(g, DTYPE_F32, 1, 1, 1, in.c);
    node.saved[1] = add_activation(g, DTYPE_F32, 1, 1, 1, in.c);
    node.saved[2] = add_value(g, DTYPE_F32, sizeof(double), 1, 1, 1, 1 + 2 * in.c);
    node.y = add_activation(g, node.dtype, in.n, in.h, in.w, in.c);
    return add_node(g, node);
}

int32_t graph_average_pool(struct graph *g, int32_t x) {
    if (g->status != STATUS_OK) return NONE;
    const struct value in = g->values[x];
    struct node node = start_node(g, NODE_AVERAGE_POOL, x);
    node.y = add_activation(g, DTYPE_F32, in.n, 1, 1, in.c);
    return add_node(g, node);
}

void graph_head(struct graph *g, int32_t features, const char *name) {
    if (g->status != STATUS_OK) return;
    const struct model_spec *spec = g->spec;
    g->features = features;
    if (spec->n_classes == 0) return;
    int32_t x = features;
    if (spec->dropout > 0) {
        struct node node = start_node(g, NODE_DROPOUT, x);
        node.rate = spec->dropout;
        node.y = add_activation(g, DTYPE_F32, g->values[x].n, 1, 1, g->values[x].c);
        x = add_node(g, node);
    }
    const int32_t first = g->table->n;
    g->logits = graph_linear(g, x, name, spec->n_classes, spec->head_bias, NONE, NONE);
    for (int32_t i = first; i < g->table->n; i++) g->table->items[i].is_head = true;
}

/* ---- the whole ---- */

status_t graph_build(struct graph *g, const struct model_spec *spec, struct param_table *table, int32_t batch,
                     int32_t height, int32_t width, enum dtype precision, int32_t first_trained_layer,
                     bool input_grad) {
    *g = (struct graph){.spec = spec,
                        .table = table,
                        .precision = precision,
                        .batch = batch,
                        .block = NONE,
                        .features = NONE,
                        .logits = NONE,
                        .first_trained_layer = first_trained_layer};
    g->input = add_activation(g, precision, batch, height, width, 3);
    if (g->status == STATUS_OK) g->values[g->input].needs_grad = input_grad;
    switch (spec->family) {
    case MODEL_CONVNEXT:
        convnext_build(g);
        break;
    case MODEL_SWIN:
        swin_build(g);
        break;
    case MODEL_MOBILENETV2:
        mobilenetv2_build(g);
        break;
    }
    /* Names are pointed to only now: the array moved while it grew. */
    for (int32_t i = 0; i < table->n; i++) table->items[i].name = table->names[i];
    if (g->status == STATUS_OK) {
        table->complete = true;
        return STATUS_OK;
    }
    status_t status = g->status;
    graph_free(g);
    return status;
}

void graph_free(struct graph *g) {
    free(g->values);
    free(g->nodes);
    free(g->drop_path_rates);
    *g = (struct graph){0};
}

void param_table_free(struct param_table *table) {
    free(table->items);
    free(table->names);
    *table = (struct param_table){0};
}

int64_t graph_macs(const struct graph *g) {
    int64_t macs = 0;
    for (int32_t i = 0; i < g->n_nodes; i++) macs += g->nodes[i].macs;
    return macs;
}
