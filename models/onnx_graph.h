/* Building an ONNX graph: names of tensors, nodes, constants. Internal to models/. */
#ifndef MODELS_ONNX_GRAPH_H
#define MODELS_ONNX_GRAPH_H

#include "models/net.h"
#include "models/protobuf.h"

/* The name of a tensor in the file. */
struct onnx_name {
    char text[112];
};

struct onnx_attribute {
    const char *name;
    enum { ONNX_FLOAT = 1, ONNX_INT = 2, ONNX_INTS = 7 } type; /* numbers of the format */
    float f;
    int64_t i;
    int32_t n_ints;
    int64_t ints[8];
};

struct onnx_graph {
    struct protobuf nodes, initializers; /* fields of GraphProto, ready to be written */
    int32_t n_names;                     /* for fresh names */
};

struct onnx_name onnx_fresh(struct onnx_graph *g);
struct onnx_name onnx_named(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Add a node of one output and return its name. in[n_in]; attributes[n_attributes] may be NULL with 0. */
struct onnx_name onnx_node(struct onnx_graph *g, const char *op, const struct onnx_name *in, int32_t n_in,
                           const struct onnx_attribute *attributes, int32_t n_attributes);

/* The same with the output's name given. */
void onnx_node_to(struct onnx_graph *g, const char *op, const struct onnx_name *in, int32_t n_in,
                  const struct onnx_attribute *attributes, int32_t n_attributes, struct onnx_name out);

struct onnx_name onnx_unary(struct onnx_graph *g, const char *op, struct onnx_name x);
struct onnx_name onnx_binary(struct onnx_graph *g, const char *op, struct onnx_name a, struct onnx_name b);
struct onnx_name onnx_transpose(struct onnx_graph *g, struct onnx_name x, int32_t n,
                                const int64_t *permutation);
struct onnx_name onnx_reshape(struct onnx_graph *g, struct onnx_name x, int32_t n,
                              const int64_t *shape); /* 0: as it was, -1: the rest */
struct onnx_name onnx_slice(struct onnx_graph *g, struct onnx_name x, int64_t axis, int64_t begin,
                            int64_t end, int64_t step);
struct onnx_name onnx_concat(struct onnx_graph *g, int64_t axis, const struct onnx_name *in, int32_t n_in);

/* Constants under a name of their own. */
void onnx_initializer(struct onnx_graph *g, struct onnx_name name, int32_t n_dims, const int64_t *dims,
                      const float *values);
struct onnx_name onnx_floats(struct onnx_graph *g, int32_t n_dims, const int64_t *dims, const float *values);
struct onnx_name onnx_scalar(struct onnx_graph *g, float value);
struct onnx_name onnx_integers(struct onnx_graph *g, int32_t n_dims, int64_t n,
                               const int64_t *values); /* n_dims 0 or 1 */

/* Write the model around the graph: input (N,3,h,w), output (N,n_out), metadata pairs. Replaces `path`. */
struct onnx_model {
    const char *input, *output;
    int64_t height, width, n_out;
    const char *const *metadata; /* pairs */
    int32_t n_metadata;
};
status_t onnx_write(const struct onnx_graph *g, const struct onnx_model *model, const char *path);

#endif
