/* The static graph of one network for one batch and size: values, nodes, and the parameters they use.
 *
 * A family's file (convnext.c, swin.c, mobilenetv2.c) calls the graph_* functions below in forward order,
 * each of which adds one node and returns the value it computes. Shapes, parameter names and work counts
 * follow from these calls alone; program.c makes of the nodes the steps of forward and backward with their
 * memory, run.c carries them out. Nothing here touches memory of a backend.
 *
 * Internal to models/. Glossary: N H W C as in ops.h; a *value* is one activation (or what a node keeps for
 * its backward step); a *tensor* (program.h) is a place in the arena. */
#ifndef MODELS_GRAPH_H
#define MODELS_GRAPH_H

#include "models/net.h"

enum { NONE = -1, NODE_MAX_PARAMS = 5, NODE_MAX_SAVED = 3, VALUE_NAME_BYTES = 64, PARAM_NAME_BYTES = 96 };

enum node_kind {
    NODE_CONV,
    NODE_DEPTHWISE,
    NODE_LAYERNORM,
    NODE_LINEAR,
    NODE_MLP,
    NODE_WINDOW_ATTENTION,
    NODE_PATCH_MERGE,
    NODE_BATCHNORM,
    NODE_AVERAGE_POOL,
    NODE_DROPOUT,
    NODE_KINDS
};

struct value {
    char name[VALUE_NAME_BYTES]; /* "" where nobody asks for it */
    enum dtype dtype;
    int64_t n, h, w, c; /* a matrix (N,C) has h = w = 1 */
    size_t n_bytes;
    bool needs_grad; /* some trained parameter (or a wanted input gradient) lies below it */
};

struct node {
    enum node_kind kind;
    int32_t x, residual, y; /* values; residual: NONE without */
    int32_t
        saved[NODE_MAX_SAVED]; /* values a backward step reads: pre | mean, rstd | mean, rstd, sums | lse */
    int32_t
        params[NODE_MAX_PARAMS]; /* indices of parameters in the order of the node's kind, NONE: without */
    int32_t stats[2];            /* batch norm: running_mean, running_var */
    int32_t block;               /* number of the block it belongs to, NONE outside */
    int32_t drop_path;           /* which row of drop-path factors scales its branch; NONE */
    float rate;                  /* dropout */
    enum dtype dtype;            /* of the operation; the head stays fp32 */
    int32_t k, stride, pad;
    int32_t heads, wh, ww, shift_h, shift_w;
    int64_t hidden;
    float eps;
    bool relu6;
    int64_t macs;         /* multiplications of the forward step as golden/presets counts them */
    size_t n_param_bytes; /* what a forward step reads of parameters */
};

/* Names, shapes and places of parameters: filled by the first graph built, only checked by later ones. */
struct param_table {
    struct net_param *items;
    char (*names)[PARAM_NAME_BYTES];
    int32_t n;
    size_t capacity;
    bool complete; /* later graphs look parameters up instead of adding them */
    int64_t n_elem, n_buffer_elem;
};

struct graph {
    const struct model_spec *spec;
    struct param_table *table;
    enum dtype precision;
    int32_t batch;
    struct value *values;
    int32_t n_values;
    size_t value_capacity;
    struct node *nodes;
    int32_t n_nodes;
    size_t node_capacity;
    int32_t input, features, logits; /* values; logits: NONE without classifier */
    float *drop_path_rates;          /* one for each row of factors */
    int32_t n_drop_paths;
    size_t drop_path_capacity;
    int32_t n_blocks;
    int32_t first_trained_layer;
    /* where the building stands */
    int32_t block, layer, cursor; /* cursor: next parameter when the table is complete */
    char scope[PARAM_NAME_BYTES];
    bool input_grad;
    status_t status; /* first failure; later calls do nothing */
};

/* Build the whole graph of `spec`; on failure nothing is left to free. `table` is borrowed and outlives the
 * graph. Errors: STATUS_BAD_CONFIG (the size does not suit the network), STATUS_NO_MEMORY. */
status_t graph_build(struct graph *g, const struct model_spec *spec, struct param_table *table, int32_t batch,
                     int32_t height, int32_t width, enum dtype precision, int32_t first_trained_layer,
                     bool input_grad);
void graph_free(struct graph *g);
void param_table_free(struct param_table *table);

int64_t graph_macs(const struct graph *g);

static inline int64_t value_rows(const struct value *v) {
    return v->n * v->h * v->w;
}
static inline int64_t value_elem(const struct value *v) {
    return value_rows(v) * v->c;
}

/* ---- what the families' files call; every one returns the value computed, NONE after a failure ---- */

/* The families: from the input value to features (and logits). */
void convnext_build(struct graph *g);
void swin_build(struct graph *g);
void mobilenetv2_build(struct graph *g);

/* Names of parameters made from here on begin with this ("stages.0.blocks.1."); layer: timm's number for
 * layer-wise decay. */
void graph_scope(struct graph *g, int32_t layer, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A block whose activations can be recomputed: nodes between begin and end. */
void graph_block_begin(struct graph *g);
void graph_block_end(struct graph *g);

/* Name a value as timm names the module that returns it. */
int32_t graph_name(struct graph *g, int32_t value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A parameter of its own: a vector (n) under `name`. Returns its index. */
int32_t graph_vector(struct graph *g, const char *name, int64_t n);

/* A row of drop-path factors with this rate; NONE for rate 0. */
int32_t graph_drop_path(struct graph *g, float rate);

int32_t graph_conv(struct graph *g, int32_t x, const char *name, int64_t cout, int32_t k, int32_t stride,
                   int32_t pad, bool bias);
/* 1x1 convolution: a linear layer over tokens whose weight is (out,in,1,1), without bias. */
int32_t graph_pointwise(struct graph *g, int32_t x, const char *name, int64_t cout);
int32_t graph_depthwise(struct graph *g, int32_t x, const char *name, int32_t k, int32_t stride, bool bias);
int32_t graph_layernorm(struct graph *g, int32_t x, const char *name, float eps);
/* y = x w^T + b, with residual != NONE: residual + drop_path * (x w^T + b) */
int32_t graph_linear(struct graph *g, int32_t x, const char *name, int64_t out, bool bias, int32_t residual,
                     int32_t drop_path);
/* residual + drop_path * gamma * fc2(gelu(fc1(x))), hidden width 4C; gamma: index of a vector or NONE */
int32_t graph_mlp(struct graph *g, int32_t x, const char *name, int32_t gamma, int32_t residual,
                  int32_t drop_path);
/* name.relative_position_bias_table, name.qkv and the attention between the two linear layers */
int32_t graph_window_attention(struct graph *g, int32_t x, const char *name, int32_t heads, int32_t window,
                               bool shift);
int32_t graph_patch_merge(struct graph *g, int32_t x);
int32_t graph_batchnorm(struct graph *g, int32_t x, const char *name, bool relu6, int32_t residual);
int32_t graph_average_pool(struct graph *g, int32_t x);

/* Dropout (rate > 0) and the classifier `name`; sets g->features and g->logits. */
void graph_head(struct graph *g, int32_t features, const char *name);

#endif
