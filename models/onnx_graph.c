/* Messages of the ONNX format. Field numbers are those of the format's onnx.proto. */
#include "models/onnx_graph.h"
#include "common/file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OPSET = 17, IR_VERSION = 8, TYPE_FLOAT = 1, TYPE_INT64 = 7 };

struct onnx_name onnx_named(const char *fmt, ...) {
    struct onnx_name name;
    va_list args;
    va_start(args, fmt);
    vsnprintf(name.text, sizeof name.text, fmt, args);
    va_end(args);
    return name;
}

struct onnx_name onnx_fresh(struct onnx_graph *g) {
    return onnx_named("t%d", g->n_names++);
}

void onnx_node_to(struct onnx_graph *g, const char *op, const struct onnx_name *in, int32_t n_in,
                  const struct onnx_attribute *attributes, int32_t n_attributes, struct onnx_name out) {
    struct protobuf node = {0};
    for (int32_t i = 0; i < n_in; i++) protobuf_string(&node, 1, in[i].text);
    protobuf_string(&node, 2, out.text);
    protobuf_string(&node, 3, out.text); /* a node is called after what it computes */
    protobuf_string(&node, 4, op);
    for (int32_t i = 0; i < n_attributes; i++) {
        const struct onnx_attribute *a = &attributes[i];
        struct protobuf attribute = {0};
        protobuf_string(&attribute, 1, a->name);
        if (a->type == ONNX_FLOAT) protobuf_float(&attribute, 2, a->f);
        if (a->type == ONNX_INT) protobuf_varint(&attribute, 3, (uint64_t)a->i);
        for (int32_t j = 0; a->type == ONNX_INTS && j < a->n_ints; j++)
            protobuf_varint(&attribute, 8, (uint64_t)a->ints[j]);
        protobuf_varint(&attribute, 20, a->type);
        protobuf_message(&node, 5, &attribute);
    }
    protobuf_message(&g->nodes, 1, &node);
}

struct onnx_name onnx_node(struct onnx_graph *g, const char *op, const struct onnx_name *in, int32_t n_in,
                           const struct onnx_attribute *attributes, int32_t n_attributes) {
    const struct onnx_name out = onnx_fresh(g);
    onnx_node_to(g, op, in, n_in, attributes, n_attributes, out);
    return out;
}

struct onnx_name onnx_unary(struct onnx_graph *g, const char *op, struct onnx_name x) {
    return onnx_node(g, op, &x, 1, NULL, 0);
}

struct onnx_name onnx_binary(struct onnx_graph *g, const char *op, struct onnx_name a, struct onnx_name b) {
    return onnx_node(g, op, (const struct onnx_name[]){a, b}, 2, NULL, 0);
}

struct onnx_name onnx_transpose(struct onnx_graph *g, struct onnx_name x, int32_t n,
                                const int64_t *permutation) {
    struct onnx_attribute perm = {.name = "perm", .type = ONNX_INTS, .n_ints = n};
    memcpy(perm.ints, permutation, (size_t)n * sizeof *permutation);
    return onnx_node(g, "Transpose", &x, 1, &perm, 1);
}

struct onnx_name onnx_reshape(struct onnx_graph *g, struct onnx_name x, int32_t n, const int64_t *shape) {
    return onnx_binary(g, "Reshape", x, onnx_integers(g, 1, n, shape));
}

struct onnx_name onnx_slice(struct onnx_graph *g, struct onnx_name x, int64_t axis, int64_t begin,
                            int64_t end, int64_t step) {
    const struct onnx_name in[] = {x, onnx_integers(g, 1, 1, &begin), onnx_integers(g, 1, 1, &end),
                                   onnx_integers(g, 1, 1, &axis), onnx_integers(g, 1, 1, &step)};
    return onnx_node(g, "Slice", in, 5, NULL, 0);
}

struct onnx_name onnx_concat(struct onnx_graph *g, int64_t axis, const struct onnx_name *in, int32_t n_in) {
    const struct onnx_attribute attribute = {.name = "axis", .type = ONNX_INT, .i = axis};
    return onnx_node(g, "Concat", in, n_in, &attribute, 1);
}

static void tensor(struct onnx_graph *g, struct onnx_name name, uint64_t type, int32_t n_dims,
                   const int64_t *dims, const void *values, size_t element_bytes) {
    struct protobuf message = {0};
    size_t n = 1;
    for (int32_t i = 0; i < n_dims; i++) {
        protobuf_varint(&message, 1, (uint64_t)dims[i]);
        n *= (size_t)dims[i];
    }
    protobuf_varint(&message, 2, type);
    protobuf_string(&message, 8, name.text);
    protobuf_bytes(&message, 9, values, n * element_bytes);
    protobuf_message(&g->initializers, 5, &message);
}

void onnx_initializer(struct onnx_graph *g, struct onnx_name name, int32_t n_dims, const int64_t *dims,
                      const float *values) {
    tensor(g, name, TYPE_FLOAT, n_dims, dims, values, sizeof *values);
}

struct onnx_name onnx_floats(struct onnx_graph *g, int32_t n_dims, const int64_t *dims, const float *values) {
    const struct onnx_name name = onnx_fresh(g);
    onnx_initializer(g, name, n_dims, dims, values);
    return name;
}

struct onnx_name onnx_scalar(struct onnx_graph *g, float value) {
    return onnx_floats(g, 0, NULL, &value);
}

struct onnx_name onnx_integers(struct onnx_graph *g, int32_t n_dims, int64_t n, const int64_t *values) {
    const struct onnx_name name = onnx_fresh(g);
    tensor(g, name, TYPE_INT64, n_dims, &n, values, sizeof *values);
    return name;
}

/* ValueInfoProto of an fp32 tensor; the first axis is the free batch "N". */
static void value_info(struct protobuf *graph, uint32_t field, const char *name, int32_t n_dims,
                       const int64_t *dims) {
    struct protobuf shape = {0}, tensor_type = {0}, type = {0}, info = {0};
    for (int32_t i = 0; i < n_dims; i++) {
        struct protobuf dim = {0};
        if (i == 0)
            protobuf_string(&dim, 2, "N");
        else
            protobuf_varint(&dim, 1, (uint64_t)dims[i]);
        protobuf_message(&shape, 1, &dim);
    }
    protobuf_varint(&tensor_type, 1, TYPE_FLOAT);
    protobuf_message(&tensor_type, 2, &shape);
    protobuf_message(&type, 1, &tensor_type);
    protobuf_string(&info, 1, name);
    protobuf_message(&info, 2, &type);
    protobuf_message(graph, field, &info);
}

static status_t write_pieces(const struct protobuf *const *pieces, int n_pieces, const char *path) {
    struct file_replacement replacement = {0};
    status_t status;
    TRY(file_replace_begin(path, &replacement));
    FILE *file = fopen(replacement.temporary, "wb");
    CHECK_TO(end, file, STATUS_CANT_CREATE, "%s: %s", replacement.temporary, strerror(errno));
    bool good = true;
    for (int i = 0; i < n_pieces; i++)
        good &= fwrite(pieces[i]->bytes, 1, pieces[i]->n, file) == pieces[i]->n;
    good &= !fclose(file);
    CHECK_TO(end, good, STATUS_IO, "%s: %s", path, strerror(errno));
    status = file_replace_commit(&replacement);
end:
    file_replace_abandon(&replacement);
    return status;
}

status_t onnx_write(const struct onnx_graph *g, const struct onnx_model *model, const char *path) {
    struct protobuf front = {0}, rest = {0}, back = {0}, opset = {0};
    protobuf_string(&rest, 2, "marrs_dist");
    value_info(&rest, 11, model->input, 4, (const int64_t[]){0, 3, model->height, model->width});
    value_info(&rest, 12, model->output, 2, (const int64_t[]){0, model->n_out});
    protobuf_varint(&front, 1, IR_VERSION);
    protobuf_string(&front, 2, "marrs_dist");
    protobuf_string(&front, 3, MARRS_VERSION);
    protobuf_header(&front, 7, g->nodes.n + g->initializers.n + rest.n);
    protobuf_varint(&opset, 2, OPSET);
    protobuf_message(&back, 8, &opset);
    for (int32_t i = 0; i < model->n_metadata; i++) {
        struct protobuf pair = {0};
        protobuf_string(&pair, 1, model->metadata[2 * i]);
        protobuf_string(&pair, 2, model->metadata[2 * i + 1]);
        protobuf_message(&back, 14, &pair);
    }
    const struct protobuf *const pieces[] = {&front, &g->nodes, &g->initializers, &rest, &back};
    size_t n = 0;
    bool failed = false;
    for (int i = 0; i < 5; i++) n += pieces[i]->n, failed |= pieces[i]->failed;
    status_t status;
    CHECK_TO(end, !failed, STATUS_NO_MEMORY, "no memory for %s", path);
    CHECK_TO(end, n <= INT32_MAX, STATUS_BAD_CONFIG, "%s would have %zu bytes; ONNX files hold at most 2 GB",
             path, n);
    status = write_pieces(pieces, 5, path);
end:
    protobuf_free(&front);
    protobuf_free(&rest);
    protobuf_free(&back);
    return status;
}
