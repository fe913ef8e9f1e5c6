/* The net's flat buffers and its parameters: see net.h. */
#include "models/net_internal.h"

#include "common/memory.h"

#include <stdio.h>
#include <string.h>

/* A net's parameter table from one graph of batch 1; also what the graph tells of the whole. */
static status_t fill_table(struct param_table *table, const struct model_spec *spec, int32_t height,
                           int32_t width, enum dtype precision, int32_t *n_features, int64_t *macs) {
    struct graph g;
    TRY(graph_build(&g, spec, table, 1, height, width, precision, 0, false));
    *n_features = (int32_t)g.values[g.features].c;
    *macs = graph_macs(&g);
    graph_free(&g);
    return STATUS_OK;
}

static status_t new_zeroed(struct net *net, int64_t n_elem, size_t element_bytes, void **out) {
    const size_t n_bytes = size_max((size_t)n_elem * element_bytes, 64);
    void *p = NULL;
    TRY(net->ops->alloc(net->be, n_bytes, &p));
    status_t status = net->ops->fill_zero(net->be, p, n_bytes);
    if (status == STATUS_OK)
        *out = p;
    else
        net->ops->release(net->be, p);
    return status;
}

status_t net_new(const struct ops *ops, struct backend *be, const struct model_spec *spec, int32_t height,
                 int32_t width, enum dtype precision, struct net **out) {
    TRY(model_spec_check(spec));
    struct net *net = memory_zeroed(1, sizeof *net);
    CHECK(net, STATUS_NO_MEMORY, "out of memory for a network");
    *net = (struct net){
        .ops = ops, .be = be, .spec = *spec, .precision = precision, .height = height, .width = width};
    status_t status;
    void *p = NULL;
    TRY_TO(failed,
           fill_table(&net->table, &net->spec, height, width, precision, &net->n_features, &net->macs));
    TRY_TO(failed, new_zeroed(net, net->table.n_elem, sizeof(float), &p));
    net->params = p;
    TRY_TO(failed, new_zeroed(net, net->table.n_buffer_elem, sizeof(float), &p));
    net->buffers = p;
    if (precision == DTYPE_BF16) {
        TRY_TO(failed, new_zeroed(net, net->table.n_elem, sizeof(uint16_t), &p));
        net->shadow = p;
    }
    *out = net;
    return STATUS_OK;

failed:
    net_free(net);
    return status;
}

void net_free(struct net *net) {
    if (!net) return;
    void *const memory[] = {net->params, net->grads, net->buffers, net->shadow};
    for (size_t i = 0; i < ARRAY_LENGTH(memory); i++)
        if (memory[i]) net->ops->release(net->be, memory[i]);
    param_table_free(&net->table);
    free(net);
}

status_t net_need_grads(struct net *net) {
    if (net->grads) return STATUS_OK;
    void *p = NULL;
    TRY(new_zeroed(net, net->table.n_elem, sizeof(float), &p));
    net->grads = p;
    return STATUS_OK;
}

const struct model_spec *net_spec(const struct net *net) {
    return &net->spec;
}
const struct ops *net_ops(const struct net *net) {
    return net->ops;
}
struct backend *net_backend(const struct net *net) {
    return net->be;
}
int32_t net_n_params(const struct net *net) {
    return net->table.n;
}
const struct net_param *net_param(const struct net *net, int32_t index) {
    return &net->table.items[index];
}
int64_t net_n_elem(const struct net *net) {
    return net->table.n_elem;
}
int64_t net_n_buffer_elem(const struct net *net) {
    return net->table.n_buffer_elem;
}
int32_t net_n_features(const struct net *net) {
    return net->n_features;
}
int32_t net_first_trained_layer(const struct net *net) {
    return net->first_trained_layer;
}

void net_input_size(const struct net *net, int32_t *height, int32_t *width) {
    *height = net->height;
    *width = net->width;
}

float *net_params(struct net *net) {
    return net->params;
}
float *net_grads(struct net *net) {
    return net->grads;
}
float *net_buffers(struct net *net) {
    return net->buffers;
}
uint16_t *net_shadow(struct net *net) {
    return net->shadow;
}
int64_t net_macs(const struct net *net) {
    return net->macs;
}

int32_t net_find_param(const struct net *net, const char *name) {
    for (int32_t i = 0; i < net->table.n; i++)
        if (strcmp(net->table.items[i].name, name) == 0) return i;
    return -1;
}

size_t net_n_bytes(const struct net *net, bool train) {
    const size_t n = (size_t)net->table.n_elem, n_buffers = (size_t)net->table.n_buffer_elem;
    return n * sizeof(float) * (train ? 2 : 1) + n_buffers * sizeof(float) +
           (net->precision == DTYPE_BF16 ? n * sizeof(uint16_t) : 0);
}

status_t net_refresh_shadow(struct net *net) {
    if (!net->shadow) return STATUS_OK;
    return net->ops->cast(net->be, DTYPE_BF16, net->shadow, DTYPE_F32, net->params, net->table.n_elem);
}

status_t net_freeze_below(struct net *net, int32_t first_trained_layer) {
    CHECK(!net->has_pass, STATUS_INTERNAL, "freezing must come before the first pass");
    const int32_t last = net->table.items[net->table.n - 1].layer;
    CHECK(first_trained_layer >= 0 && first_trained_layer <= last, STATUS_BAD_CONFIG,
          "cannot freeze below layer %d: this network has layers 0 to %d", first_trained_layer, last);
    net->first_trained_layer = first_trained_layer;
    return STATUS_OK;
}

/* ---- layouts ---- */

/* Copy one parameter between the framework's order and ours: (out,in,kh,kw) with out,kh,kw,in, and
 * (C,1,kh,kw) with kh,kw,C. to_ours: framework -> ours. */
static void convert_layout(const struct net_param *p, const float *from, float *to, bool to_ours) {
    if (p->layout == PARAM_AS_IS) {
        memcpy(to, from, sizeof(float) * (size_t)p->n_elem);
        return;
    }
    const int64_t outs = p->shape[0], ins = p->shape[1], pixels = p->shape[2] * p->shape[3];
    for (int64_t o = 0; o < outs; o++) {
        for (int64_t i = 0; i < ins; i++) {
            for (int64_t k = 0; k < pixels; k++) {
                const int64_t theirs = (o * ins + i) * pixels + k;
                const int64_t ours = p->layout == PARAM_CONV_OHWI ? (o * pixels + k) * ins + i : k * outs + o;
                if (to_ours)
                    to[ours] = from[theirs];
                else
                    to[theirs] = from[ours];
            }
        }
    }
}

status_t net_get(struct net *net, int32_t index, const float *flat_device, float *host) {
    const struct net_param *p = &net->table.items[index];
    const size_t n_bytes = sizeof(float) * (size_t)p->n_elem;
    if (p->layout == PARAM_AS_IS) return net->ops->copy_out(net->be, host, flat_device + p->offset, n_bytes);
    float *ours = memory_aligned(n_bytes);
    CHECK(ours, STATUS_NO_MEMORY, "out of memory for a copy of %s", p->name);
    status_t status = net->ops->copy_out(net->be, ours, flat_device + p->offset, n_bytes);
    if (status == STATUS_OK) convert_layout(p, ours, host, false);
    free(ours);
    return status;
}

status_t net_set(struct net *net, int32_t index, float *flat_device, const float *host) {
    const struct net_param *p = &net->table.items[index];
    const size_t n_bytes = sizeof(float) * (size_t)p->n_elem;
    if (p->layout == PARAM_AS_IS) return net->ops->copy_in(net->be, flat_device + p->offset, host, n_bytes);
    float *ours = memory_aligned(n_bytes);
    CHECK(ours, STATUS_NO_MEMORY, "out of memory for a copy of %s", p->name);
    convert_layout(p, host, ours, true);
    status_t status = net->ops->copy_in(net->be, flat_device + p->offset, ours, n_bytes);
    free(ours);
    return status;
}

/* ---- cost without memory ---- */

static status_t arena_bytes(const struct ops *ops, struct backend *be, const struct model_spec *spec,
                            struct param_table *table, const struct pass_options *o, enum dtype precision,
                            size_t *n_bytes) {
    struct graph g;
    struct program p;
    TRY(graph_build(&g, spec, table, o->batch, o->height, o->width, precision,
                    o->mode == PASS_TRAIN ? 0 : INT32_MAX, o->input_grad));
    status_t status = program_build(&p, &g, o, ops, be);
    if (status == STATUS_OK) {
        *n_bytes = p.n_bytes;
        program_free(&p);
    }
    graph_free(&g);
    return status;
}

status_t model_arena_bytes(const struct ops *ops, struct backend *be, const struct model_spec *spec,
                           const struct pass_options *options, enum dtype precision, size_t *n_bytes_out) {
    TRY(model_spec_check(spec));
    struct param_table table = {0};
    status_t status = arena_bytes(ops, be, spec, &table, options, precision, n_bytes_out);
    param_table_free(&table);
    return status;
}

status_t model_cost(const struct model_spec *spec, int32_t batch, int32_t height, int32_t width,
                    enum dtype precision, struct model_cost *out) {
    TRY(model_spec_check(spec));
    struct param_table table = {0};
    struct model_cost cost = {0};
    struct pass_options o = {.batch = batch, .height = height, .width = width, .mode = PASS_TRAIN};
    int32_t n_features;
    status_t status;
    TRY_TO(done, fill_table(&table, spec, height, width, precision, &n_features, &cost.macs));
    for (int32_t i = 0; i < table.n; i++)
        *(table.items[i].is_buffer ? &cost.n_buffers : &cost.n_params) += table.items[i].n_elem;
    TRY_TO(done, arena_bytes(NULL, NULL, spec, &table, &o, precision, &cost.activation_bytes_train));
    o.recompute = true;
    TRY_TO(done,
           arena_bytes(NULL, NULL, spec, &table, &o, precision, &cost.activation_bytes_train_recompute));
    o.recompute = false, o.mode = PASS_INFER;
    TRY_TO(done, arena_bytes(NULL, NULL, spec, &table, &o, precision, &cost.activation_bytes_infer));
    *out = cost;

done:
    param_table_free(&table);
    return status;
}

/* Backward walks the nodes from the last to the first; the gradients of a node's parameters are final with
 * it. */
static void describe_parameters(const struct graph *g, const struct param_table *table,
                                struct model_parameter *out) {
    const double total = (double)(graph_macs(g) > 0 ? graph_macs(g) : 1);
    for (int32_t i = 0; i < table->n; i++) {
        const struct net_param *p = &table->items[i];
        out[i] = (struct model_parameter){.offset = p->offset,
                                          .n_elem = p->n_elem,
                                          .layer = p->layer,
                                          .is_buffer = p->is_buffer,
                                          .is_head = p->is_head,
                                          .backward_done = 1};
        snprintf(out[i].name, sizeof out[i].name, "%s", p->name);
    }
    double done = 0;
    for (int32_t i = g->n_nodes - 1; i >= 0; i--) {
        const struct node *node = &g->nodes[i];
        done += (double)node->macs;
        for (int k = 0; k < NODE_MAX_PARAMS; k++)
            if (node->params[k] != NONE) out[node->params[k]].backward_done = done / total;
    }
}

status_t model_parameters(const struct model_spec *spec, int32_t height, int32_t width,
                          struct model_parameter **out, int32_t *n_out) {
    struct param_table table = {0};
    struct graph g;
    TRY(model_spec_check(spec));
    status_t status = graph_build(&g, spec, &table, 1, height, width, DTYPE_F32, 0, false);
    if (status != STATUS_OK) {
        param_table_free(&table);
        return status;
    }
    struct model_parameter *items = memory_zeroed((size_t)table.n, sizeof *items);
    CHECK_TO(done, items, STATUS_NO_MEMORY, "out of memory for %d parameters", table.n);
    describe_parameters(&g, &table, items);
    *out = items;
    *n_out = table.n;
done:
    graph_free(&g);
    param_table_free(&table);
    return status;
}
