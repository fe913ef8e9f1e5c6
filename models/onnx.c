/* From the static graph to ONNX. Activations here lie channels-last; ONNX's convolutions want channels first.
 * Every value therefore has up to two names, one for each order, and a transposition is put in where the
 * other is needed. */
#include "models/onnx.h"
#include "common/memory.h"
#include "models/net_internal.h"
#include "models/onnx_graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum order { ROWS, CHANNELS_LAST, CHANNELS_FIRST, N_ORDERS }; /* (N,C); (N,H,W,C); (N,C,H,W) */

struct exporter {
    struct net *net;
    struct graph graph;
    struct onnx_graph onnx;
    struct onnx_name (*names)[N_ORDERS]; /* by value; "" where it does not exist in that order */
    float *host, *work;                  /* room for the largest parameter */
    status_t status;                     /* first failure */
};

#define NAMES(...)                                                                                           \
    (const struct onnx_name[]){__VA_ARGS__},                                                                 \
        (int32_t)(sizeof((const struct onnx_name[]){__VA_ARGS__}) / sizeof(struct onnx_name))

static bool has(const struct exporter *e, int32_t value, enum order order) {
    return e->names[value][order].text[0];
}

/* The value in this order. */
static struct onnx_name get(struct exporter *e, int32_t value, enum order order) {
    static const int64_t to_last[] = {0, 2, 3, 1}, to_first[] = {0, 3, 1, 2};
    struct onnx_name *names = e->names[value];
    if (!has(e, value, order)) {
        if (order == CHANNELS_LAST)
            names[order] = onnx_transpose(&e->onnx, names[CHANNELS_FIRST], 4, to_last);
        else
            names[order] = onnx_transpose(&e->onnx, names[CHANNELS_LAST], 4, to_first);
    }
    return names[order];
}

/* Order of a value for operations over its last axis. */
static enum order last(const struct exporter *e, int32_t value) {
    return has(e, value, ROWS) ? ROWS : CHANNELS_LAST;
}

static void put(struct exporter *e, int32_t value, enum order order, struct onnx_name name) {
    e->names[value][order] = name;
}

/* A parameter as an initializer in the framework's layout. transposed: a matrix (out,in) as (in,out). */
static struct onnx_name param(struct exporter *e, int32_t index, bool transposed) {
    const struct net_param *p = net_param(e->net, index);
    struct onnx_name name = onnx_named("%s%s", p->name, transposed ? ".T" : "");
    if (e->status != STATUS_OK) return name;
    e->status = net_get(e->net, index, p->is_buffer ? net_buffers(e->net) : net_params(e->net), e->host);
    if (!transposed) {
        onnx_initializer(&e->onnx, name, p->n_dims, p->shape, e->host);
        return name;
    }
    const int64_t out = p->shape[0], in = p->shape[1];
    for (int64_t i = 0; i < out; i++)
        for (int64_t j = 0; j < in; j++) e->work[j * out + i] = e->host[i * in + j];
    onnx_initializer(&e->onnx, name, 2, (const int64_t[]){in, out}, e->work);
    return name;
}

/* x w^T + bias over the last axis. */
static struct onnx_name affine(struct exporter *e, struct onnx_name x, int32_t weight, int32_t bias) {
    struct onnx_name y = onnx_binary(&e->onnx, "MatMul", x, param(e, weight, true));
    return bias == NONE ? y : onnx_binary(&e->onnx, "Add", y, param(e, bias, false));
}

static void add_conv(struct exporter *e, const struct node *node, int64_t groups) {
    const struct onnx_attribute attributes[] = {
        {.name = "kernel_shape", .type = ONNX_INTS, .n_ints = 2, .ints = {node->k, node->k}},
        {.name = "strides", .type = ONNX_INTS, .n_ints = 2, .ints = {node->stride, node->stride}},
        {.name = "pads",
         .type = ONNX_INTS,
         .n_ints = 4,
         .ints = {node->pad, node->pad, node->pad, node->pad}},
        {.name = "group", .type = ONNX_INT, .i = groups}};
    struct onnx_name in[3] = {get(e, node->x, CHANNELS_FIRST), param(e, node->params[0], false)};
    if (node->params[1] != NONE) in[2] = param(e, node->params[1], false);
    put(e, node->y, CHANNELS_FIRST,
        onnx_node(&e->onnx, "Conv", in, node->params[1] != NONE ? 3 : 2, attributes, 4));
}

static void add_linear(struct exporter *e, const struct node *node) {
    if (net_param(e->net, node->params[0])->n_dims == 4) { /* a 1x1 convolution between others */
        struct node conv = *node;
        conv.k = conv.stride = 1, conv.pad = 0;
        add_conv(e, &conv, 1);
        return;
    }
    const enum order order = last(e, node->x);
    struct onnx_name y = affine(e, get(e, node->x, order), node->params[0], node->params[1]);
    if (node->residual != NONE) y = onnx_binary(&e->onnx, "Add", get(e, node->residual, order), y);
    put(e, node->y, order, y);
}

static void add_layernorm(struct exporter *e, const struct node *node) {
    const struct onnx_attribute attributes[] = {{.name = "axis", .type = ONNX_INT, .i = -1},
                                                {.name = "epsilon", .type = ONNX_FLOAT, .f = node->eps}};
    const enum order order = last(e, node->x);
    put(e, node->y, order,
        onnx_node(
            &e->onnx, "LayerNormalization",
            NAMES(get(e, node->x, order), param(e, node->params[0], false), param(e, node->params[1], false)),
            attributes, 2));
}

/* gelu(x) = x/2 (1 + erf(x / sqrt 2)): opset 17 has no GELU. */
static struct onnx_name gelu(struct exporter *e, struct onnx_name x) {
    struct onnx_graph *g = &e->onnx;
    struct onnx_name erf = onnx_unary(g, "Erf", onnx_binary(g, "Div", x, onnx_scalar(g, (float)M_SQRT2)));
    return onnx_binary(g, "Mul", onnx_binary(g, "Mul", x, onnx_binary(g, "Add", erf, onnx_scalar(g, 1))),
                       onnx_scalar(g, 0.5f));
}

static void add_mlp(struct exporter *e, const struct node *node) {
    struct onnx_name y = gelu(e, affine(e, get(e, node->x, CHANNELS_LAST), node->params[0], node->params[1]));
    y = affine(e, y, node->params[2], node->params[3]);
    if (node->params[4] != NONE) y = onnx_binary(&e->onnx, "Mul", y, param(e, node->params[4], false));
    if (node->residual != NONE) y = onnx_binary(&e->onnx, "Add", get(e, node->residual, CHANNELS_LAST), y);
    put(e, node->y, CHANNELS_LAST, y);
}

static void add_batchnorm(struct exporter *e, const struct node *node) {
    const struct onnx_attribute epsilon = {.name = "epsilon", .type = ONNX_FLOAT, .f = node->eps};
    struct onnx_name y = onnx_node(&e->onnx, "BatchNormalization",
                                   NAMES(get(e, node->x, CHANNELS_FIRST), param(e, node->params[0], false),
                                         param(e, node->params[1], false), param(e, node->stats[0], false),
                                         param(e, node->stats[1], false)),
                                   &epsilon, 1);
    if (node->relu6)
        y = onnx_node(&e->onnx, "Clip", NAMES(y, onnx_scalar(&e->onnx, 0), onnx_scalar(&e->onnx, 6)), NULL,
                      0);
    if (node->residual != NONE) y = onnx_binary(&e->onnx, "Add", get(e, node->residual, CHANNELS_FIRST), y);
    put(e, node->y, CHANNELS_FIRST, y);
}

static void add_average_pool(struct exporter *e, const struct node *node) {
    const bool first = has(e, node->x, CHANNELS_FIRST);
    const struct onnx_attribute attributes[] = {
        {.name = "axes", .type = ONNX_INTS, .n_ints = 2, .ints = {first ? 2 : 1, first ? 3 : 2}},
        {.name = "keepdims", .type = ONNX_INT, .i = 0}};
    const struct onnx_name x = get(e, node->x, first ? CHANNELS_FIRST : CHANNELS_LAST);
    put(e, node->y, ROWS, onnx_node(&e->onnx, "ReduceMean", &x, 1, attributes, 2));
}

static void add_patch_merge(struct exporter *e, const struct node *node) {
    const struct value *v = &e->graph.values[node->x];
    struct onnx_name x = get(e, node->x, CHANNELS_LAST), parts[4];
    const int64_t pads[8] = {0, 0, 0, 0, 0, v->h % 2, v->w % 2, 0};
    if (pads[5] || pads[6]) x = onnx_binary(&e->onnx, "Pad", x, onnx_integers(&e->onnx, 1, 8, pads));
    for (int i = 0; i < 4; i++) { /* [row 0 col 0 | row 1 col 0 | row 0 col 1 | row 1 col 1] */
        struct onnx_name rows = onnx_slice(&e->onnx, x, 1, i % 2, INT32_MAX, 2);
        parts[i] = onnx_slice(&e->onnx, rows, 2, i / 2, INT32_MAX, 2);
    }
    put(e, node->y, CHANNELS_LAST, onnx_concat(&e->onnx, 3, parts, 4));
}

/* ---- window attention ---- */

/* The map rolled by -shift along an axis of n. */
static struct onnx_name roll(struct exporter *e, struct onnx_name x, int64_t axis, int64_t shift, int64_t n) {
    if (shift % n == 0) return x;
    const struct onnx_name parts[] = {onnx_slice(&e->onnx, x, axis, shift, n, 1),
                                      onnx_slice(&e->onnx, x, axis, 0, shift, 1)};
    return onnx_concat(&e->onnx, axis, parts, 2);
}

/* The bias table spread out: (1, 1, heads, T, T). */
static struct onnx_name position_bias(struct exporter *e, const struct node *node) {
    const int64_t wh = node->wh, ww = node->ww, t = wh * ww, heads = node->heads;
    struct onnx_name name = onnx_named("%s.expanded", net_param(e->net, node->params[0])->name);
    float *bias = memory_zeroed((size_t)(heads * t * t), sizeof *bias);
    if (!bias && e->status == STATUS_OK)
        e->status = FAIL(STATUS_NO_MEMORY, "no memory to export %s", name.text);
    if (e->status == STATUS_OK) e->status = net_get(e->net, node->params[0], net_params(e->net), e->host);
    for (int64_t head = 0; head < heads && e->status == STATUS_OK; head++)
        for (int64_t i = 0; i < t; i++)
            for (int64_t j = 0; j < t; j++) {
                const int64_t row = (i / ww - j / ww + wh - 1) * (2 * ww - 1) + i % ww - j % ww + ww - 1;
                bias[(head * t + i) * t + j] = e->host[row * heads + head];
            }
    if (e->status == STATUS_OK)
        onnx_initializer(&e->onnx, name, 5, (const int64_t[]){1, 1, heads, t, t}, bias);
    free(bias);
    return name;
}

/* Region of position x on an axis of n with windows of `window`: [0,n-window) [n-window,n-shift) [n-shift,n).
 */
static int region(int64_t x, int64_t n, int64_t window, int64_t shift) {
    return (x >= n - window) + (x >= n - shift);
}

/* -100 between tokens of different regions: (1, windows, 1, T, T). */
static struct onnx_name shift_mask(struct exporter *e, const struct node *node, int64_t nh, int64_t nw) {
    const int64_t wh = node->wh, ww = node->ww, t = wh * ww, h = nh * wh, w = nw * ww;
    float *mask = memory_zeroed((size_t)(nh * nw * t * t), sizeof *mask);
    int *regions = memory_zeroed((size_t)t, sizeof *regions);
    if ((!mask || !regions) && e->status == STATUS_OK)
        e->status = FAIL(STATUS_NO_MEMORY, "no memory for a shift mask");
    for (int64_t k = 0; k < nh * nw && e->status == STATUS_OK; k++) {
        for (int64_t i = 0; i < t; i++)
            regions[i] = 3 * region(k / nw * wh + i / ww, h, wh, node->shift_h) +
                         region(k % nw * ww + i % ww, w, ww, node->shift_w);
        for (int64_t i = 0; i < t; i++)
            for (int64_t j = 0; j < t; j++) mask[(k * t + i) * t + j] = regions[i] == regions[j] ? 0 : -100;
    }
    struct onnx_name name = {"mask"};
    if (e->status == STATUS_OK) name = onnx_floats(&e->onnx, 5, (const int64_t[]){1, nh * nw, 1, t, t}, mask);
    free(mask);
    free(regions);
    return name;
}

/* softmax(q k^T / sqrt(d) + bias + mask) v of qkv (3, N, windows, heads, T, d). */
static struct onnx_name attend(struct exporter *e, const struct node *node, struct onnx_name qkv, int64_t d,
                               int64_t nh, int64_t nw) {
    struct onnx_graph *g = &e->onnx;
    const struct onnx_attribute axis0 = {.name = "axis", .type = ONNX_INT, .i = 0},
                                axis_last = {.name = "axis", .type = ONNX_INT, .i = -1};
    struct onnx_name parts[3];
    for (int64_t i = 0; i < 3; i++)
        parts[i] = onnx_node(g, "Gather", NAMES(qkv, onnx_integers(g, 0, 1, &i)), &axis0, 1);
    struct onnx_name q = onnx_binary(g, "Mul", parts[0], onnx_scalar(g, 1 / sqrtf((float)d)));
    struct onnx_name k = onnx_transpose(g, parts[1], 5, (const int64_t[]){0, 1, 2, 4, 3});
    struct onnx_name s = onnx_binary(g, "Add", onnx_binary(g, "MatMul", q, k), position_bias(e, node));
    if (node->shift_h || node->shift_w) s = onnx_binary(g, "Add", s, shift_mask(e, node, nh, nw));
    return onnx_binary(g, "MatMul", onnx_node(g, "Softmax", &s, 1, &axis_last, 1), parts[2]);
}

static void add_window_attention(struct exporter *e, const struct node *node) {
    struct onnx_graph *g = &e->onnx;
    const struct value *v = &e->graph.values[node->y];
    const int64_t wh = node->wh, ww = node->ww, heads = node->heads, d = v->c / heads;
    const int64_t nh = (v->h + wh - 1) / wh, nw = (v->w + ww - 1) / ww;
    const int64_t pads[8] = {0, 0, 0, 0, 0, nh * wh - v->h, nw * ww - v->w, 0};
    struct onnx_name x = get(e, node->x, CHANNELS_LAST);
    x = roll(e, roll(e, x, 1, node->shift_h, v->h), 2, node->shift_w, v->w);
    if (pads[5] || pads[6]) { /* padded tokens are zero before the linear layer: its bias after it */
        const struct onnx_name bias = onnx_named("%s", net_param(e->net, node->params[1])->name);
        x = onnx_binary(g, "Pad", onnx_binary(g, "Sub", x, bias), onnx_integers(g, 1, 8, pads));
        x = onnx_binary(g, "Add", x, bias);
    }
    x = onnx_reshape(g, x, 8, (const int64_t[]){0, nh, wh, nw, ww, 3, heads, d});
    x = onnx_transpose(g, x, 8, (const int64_t[]){5, 0, 1, 3, 6, 2, 4, 7});
    x = onnx_reshape(g, x, 6, (const int64_t[]){3, -1, nh * nw, heads, wh * ww, d});
    x = attend(e, node, x, d, nh, nw);
    x = onnx_reshape(g, x, 7, (const int64_t[]){0, nh, nw, heads, wh, ww, d});
    x = onnx_transpose(g, x, 7, (const int64_t[]){0, 1, 4, 2, 5, 3, 6});
    x = onnx_reshape(g, x, 4, (const int64_t[]){0, nh * wh, nw * ww, v->c});
    if (pads[5]) x = onnx_slice(g, x, 1, 0, v->h, 1);
    if (pads[6]) x = onnx_slice(g, x, 2, 0, v->w, 1);
    x = roll(e, roll(e, x, 1, v->h - node->shift_h, v->h), 2, v->w - node->shift_w, v->w);
    put(e, node->y, CHANNELS_LAST, x);
}

/* ---- the whole ---- */

static void add(struct exporter *e, const struct node *node) {
    switch (node->kind) {
    case NODE_CONV:
        add_conv(e, node, 1);
        break;
    case NODE_DEPTHWISE:
        add_conv(e, node, e->graph.values[node->x].c);
        break;
    case NODE_LAYERNORM:
        add_layernorm(e, node);
        break;
    case NODE_LINEAR:
        add_linear(e, node);
        break;
    case NODE_MLP:
        add_mlp(e, node);
        break;
    case NODE_WINDOW_ATTENTION:
        add_window_attention(e, node);
        break;
    case NODE_PATCH_MERGE:
        add_patch_merge(e, node);
        break;
    case NODE_BATCHNORM:
        add_batchnorm(e, node);
        break;
    case NODE_AVERAGE_POOL:
        add_average_pool(e, node);
        break;
    case NODE_DROPOUT:
        put(e, node->y, ROWS, get(e, node->x, ROWS));
        break;
    case NODE_KINDS:
        break;
    }
}

static status_t write_model(struct exporter *e, const char *const *metadata, int32_t n_metadata,
                            const char *path) {
    const struct net *net = e->net;
    const bool classifies = e->graph.logits != NONE;
    const int32_t value = classifies ? e->graph.logits : e->graph.features;
    const struct onnx_name out = onnx_named("%s", classifies ? "logits" : "features");
    onnx_node_to(&e->onnx, "Identity", &e->names[value][ROWS], 1, NULL, 0, out);
    char image[32];
    snprintf(image, sizeof image, "%dx%d", net->height, net->width);
    const char **pairs = memory_zeroed((size_t)(2 * (n_metadata + 4)), sizeof *pairs);
    CHECK(pairs, STATUS_NO_MEMORY, "no memory to export %s", path);
    const char *const own[] = {"model", net->spec.name,      "image", image,
                               "mean",  "0.485,0.456,0.406", "std",   "0.229,0.224,0.225"};
    for (int32_t i = 0; i < 8; i++) pairs[i] = own[i];
    for (int32_t i = 0; i < 2 * n_metadata; i++) pairs[8 + i] = metadata[i];
    const struct onnx_model model = {.input = "image",
                                     .output = out.text,
                                     .height = net->height,
                                     .width = net->width,
                                     .n_out = e->graph.values[value].c,
                                     .metadata = pairs,
                                     .n_metadata = n_metadata + 4};
    const status_t status = onnx_write(&e->onnx, &model, path);
    free(pairs);
    return status;
}

status_t onnx_export(struct net *net, const char *const *metadata, int32_t n_metadata, const char *path) {
    struct exporter e = {.net = net};
    TRY(graph_build(&e.graph, &net->spec, &net->table, 1, net->height, net->width, DTYPE_F32, 0, false));
    size_t n_largest = 1;
    for (int32_t i = 0; i < net_n_params(net); i++)
        n_largest = size_max(n_largest, (size_t)net_param(net, i)->n_elem);
    e.names = memory_zeroed((size_t)e.graph.n_values, sizeof *e.names);
    e.host = memory_zeroed(n_largest, sizeof *e.host);
    e.work = memory_zeroed(n_largest, sizeof *e.work);
    if (!e.names || !e.host || !e.work) e.status = FAIL(STATUS_NO_MEMORY, "no memory to export %s", path);
    if (e.status == STATUS_OK) put(&e, e.graph.input, CHANNELS_FIRST, onnx_named("image"));
    for (int32_t i = 0; i < e.graph.n_nodes && e.status == STATUS_OK; i++) add(&e, &e.graph.nodes[i]);
    if (e.status == STATUS_OK) e.status = write_model(&e, metadata, n_metadata, path);
    protobuf_free(&e.onnx.nodes);
    protobuf_free(&e.onnx.initializers);
    free(e.names);
    free(e.host);
    free(e.work);
    graph_free(&e.graph);
    return e.status;
}
