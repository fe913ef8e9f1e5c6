/* One peer's linear classifier on frozen features (METHOD.md section 2), on one rank of its group.
 *
 * The rank holds its rows of every input in backend memory. For a number of steps the masks are fixed, so the
 * rows that count are gathered once into one matrix A (rows that a mask leaves out cost nothing); a step is
 * then Z = A W^T · cross-entropy of each piece of A with its own scale and smoothing -> G · dW = G^T A,
 * summed over the group · SGD (Nesterov).
 *
 * Collective over the group where a function says so. */
#ifndef TRAINING_HEAD_H
#define TRAINING_HEAD_H

#include "comm/comm.h"
#include "models/ops/ops.h"

enum head_input { HEAD_SOURCE, HEAD_LABELLED, HEAD_UNLABELLED, HEAD_STRONG, HEAD_N_INPUTS };
enum head_term {
    HEAD_TERM_SOURCE,
    HEAD_TERM_LABELLED,
    HEAD_TERM_CONSISTENCY,
    HEAD_TERM_COTRAINING,
    HEAD_N_TERMS
};

struct head_options {
    const struct ops *ops;
    struct backend *be;
    struct comm *group; /* borrowed */
    int32_t n_classes;
    int64_t d;            /* features */
    enum dtype precision; /* of features and weights in the matrix products of training */
    int64_t n_local[HEAD_N_INPUTS], n_global[HEAD_N_INPUTS];
    const float *rows[HEAD_N_INPUTS]; /* (n_local,d) host memory, copied */
    const int32_t *labels[2];         /* (n_local) of source and labelled, host memory, copied */
    double lr, momentum, weight_decay;
    bool nesterov;
};

struct head;

status_t head_new(const struct head_options *options, struct head **out);
void head_free(struct head *head); /* NULL is fine */

/* Bytes of backend memory that head_new() takes, for plan. */
size_t head_n_bytes(const struct head_options *options);

/* W (K,d), host memory. Setting also makes the momentum fresh. */
status_t head_set_weights(struct head *head, const float *weights);
status_t head_get_weights(struct head *head, float *weights);
/* State of the optimiser, for checkpoints: v (K,d) and the number of steps since it was fresh. */
status_t head_get_state(struct head *head, float *momentum, int64_t *n_steps);
status_t head_set_state(struct head *head, const float *momentum, int64_t n_steps);

/* The pieces of A for initial training: all source and labelled rows, weights w_s / N_s and w_t / N_t, plain
 * CE. */
status_t head_select_init(struct head *head, double weight_source, double weight_labelled);

/* Confidence and label of every unlabelled row of this rank into `own` (host, (n_u)), and the source mask
 * confidence > tau_source. Kept source rows are counted over the group. Collective. */
status_t head_label(struct head *head, double tau_source, struct pseudo_label *own);

struct head_selection {
    double weight[HEAD_N_TERMS];
    double smoothing, tau;          /* tau: of the unlabelled masks */
    const struct pseudo_label *own; /* (n_u) of this peer: labels and mask of the strong view */
    const struct pseudo_label
        *other; /* (n_u) of the other peer, for this rank's rows: of the own view; NULL: no term */
};

/* Gather A for co-training from the masks of the last head_label(). */
status_t head_select(struct head *head, const struct head_selection *selection);

/* One step with the A at hand. losses (HEAD_N_TERMS, weighted terms of the whole group, before the update)
 * may be NULL; asking for them costs one more small reduction. Collective. */
status_t head_step(struct head *head, double *losses);

/* Softmax probabilities (n,K), host memory, of rows (n,d), host memory; in fp32 whatever the precision of
 * training. The A at hand is lost. */
status_t head_predict(struct head *head, const float *rows, int64_t n, float *probabilities);

/* For tests and logs: (n_local) of the last head_label(). */
const float *head_source_confidence(const struct head *head);
const uint8_t *head_source_mask(const struct head *head);
double head_kept_source(const struct head *head); /* of the group */

#endif
