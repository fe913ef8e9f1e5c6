/* What net.c, pass.c and run.c share. Internal to models/. */
#ifndef MODELS_NET_INTERNAL_H
#define MODELS_NET_INTERNAL_H

#include "models/program.h"
#include "models/recording.h"

struct net {
    const struct ops *ops;
    struct backend *be;
    struct model_spec spec;
    enum dtype precision;
    int32_t height, width;
    int32_t n_features;
    int32_t first_trained_layer;
    int64_t macs;
    struct param_table table;
    float *params, *grads, *buffers;
    uint16_t *shadow;
    bool has_pass;
};

struct pass {
    struct net *net;
    struct pass_options options;
    struct graph graph;
    struct program program;
    struct recordings recordings;
    char *arena;                    /* backend memory */
    float *host_drop_path;          /* (rows, N) */
    struct forward_options forward; /* of the last forward */
    uint32_t *host_items;           /* (N) its image numbers, for dropout in backward */
    bool profiling;
    struct profile_row profile[2 * NODE_KINDS + 2];
};

/* Gradients exist from the first training pass on. */
status_t net_need_grads(struct net *net);

/* Carry out one step; `hooks` of pass_backward are not its business. */
status_t run_step(struct pass *pass, const struct step *step);

/* Memory of a tensor, NULL for NONE. */
void *pass_tensor(const struct pass *pass, int32_t tensor);

#endif
