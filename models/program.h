/* The steps of one pass over a graph, and where in the arena everything lies.
 *
 * The steps of forward come first, those of backward (training only) follow. Every step names the tensors it
 * touches; from the first and last touch follow the lifetimes, from these the places (plan_memory.h).
 *
 * Gradients. The gradient of a value is one tensor. The first step of backward that reaches it writes it,
 * later ones add to it. Where a residual is added, its gradient *is* the gradient of the sum: the tensor is
 * handed on, and what the branch contributes is added to it in place.
 *
 * Recomputation. The values inside a block then have two tensors: one that lives in forward only (`first`),
 * and one that is computed again just before the block's backward steps (`again`).
 *
 * Folding. In inference a batch norm behind a layer becomes part of that layer's weights, folded anew in
 * every forward since nobody says when weights change; what lies between the two is never written. Internal
 * to models/. */
#ifndef MODELS_PROGRAM_H
#define MODELS_PROGRAM_H

#include "models/graph.h"
#include "models/plan_memory.h"

enum step_kind {
    STEP_FORWARD,
    STEP_FOLDED,    /* forward of a layer and the batch norm behind it, folded into its weights (inference) */
    STEP_RECOMPUTE, /* the same again, before a block's backward steps */
    STEP_RECOMPUTE_PRE, /* of an mlp whose output nobody needs again: only its hidden rows */
    STEP_BACKWARD,
    STEP_ADD /* dx += dy */
};

struct step {
    enum step_kind kind;
    int32_t node;
    int32_t dy, dx; /* tensors (backward, add); dx NONE: not wanted */
    bool dx_accumulate;
    int32_t grad_sums;    /* batch norm: tensor of the local and the reduced sums */
    int32_t folded[2];    /* STEP_FOLDED: tensors of weight and bias */
    int32_t scratch;      /* tensor, NONE: none */
    double flop, n_bytes; /* work, for the profile */
};

/* Where the values of the graph lie. */
struct place {
    int32_t first, again, grad; /* tensors, NONE: not kept */
};

struct program {
    struct step *steps;
    int32_t n_steps, n_forward;
    size_t step_capacity;
    struct tensor *tensors;
    int32_t n_tensors;
    size_t tensor_capacity;
    struct place *places; /* of each value of the graph */
    int32_t
        *final_step; /* of each parameter: the step after which its gradient is final; NONE: never touched */
    int32_t dlogits, dfeatures, dinput, drop_path; /* tensors, NONE: none */
    size_t n_bytes;                                /* of the arena */
};

/* `ops` NULL: no scratch is planned. On failure nothing is left to free. */
status_t program_build(struct program *p, const struct graph *g, const struct pass_options *options,
                       const struct ops *ops, struct backend *be);
void program_free(struct program *p);

/* Bytes of scratch of a step of this node. */
size_t node_scratch_bytes(const struct graph *g, const struct node *node, bool train, const struct ops *ops,
                          struct backend *be);

#endif
