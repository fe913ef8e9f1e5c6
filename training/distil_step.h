/* One step of the distillation on one rank (METHOD.md section 5), whoever brings the batch.
 *
 * Batch norm `paper`: two forwards a step, hence two batches of statistics and two updates of the running
 * ones, in this order: source and labelled together, then only the kept unlabelled rows (the others are in
 * the tensors, so that shapes stay fixed, but take no part). `joint`: one forward over source, labelled and
 * all unlabelled rows.
 *
 * Loss: w_s CE(source) + w_t CE(labelled) + w_u CE(kept rows), each a mean over its own rows of the global
 * batch; no row kept: 0. With a temperature the kept rows' term is soft-target distillation instead.
 *
 * Collective over the group. */
#ifndef TRAINING_DISTIL_STEP_H
#define TRAINING_DISTIL_STEP_H

#include "training/learner.h"

enum distil_input { DISTIL_SOURCE, DISTIL_LABELLED, DISTIL_UNLABELLED, DISTIL_N_INPUTS };

struct distil_student_options {
    bool joint;
    int64_t n_global[DISTIL_N_INPUTS];
    int32_t height, width;
    bool recompute;
    bool record; /* replay passes from a recording, where the backend can */
    float weight[DISTIL_N_INPUTS];
    float temperature; /* 0: hard labels */
    const struct learner_options *learner;
};

struct distil_student {
    struct distil_student_options options;
    struct net *net;    /* borrowed */
    struct comm *group; /* borrowed: all ranks */
    struct interval rows[DISTIL_N_INPUTS];
    struct pass *first, *second; /* paper: labelled part, unlabelled part; joint: first only */
    struct learner learner;
    int32_t *labels;   /* backend: source, labelled, unlabelled rows */
    uint8_t *kept;     /* backend (N_u) */
    float *teacher;    /* backend (N_u,K) with a temperature */
    double *kept_sum;  /* (1) of the group */
    float *kept_scale; /* (1) */
    double *sums;      /* (3) raw sums of this rank */
    void *block;
    uint32_t *items; /* host: image numbers of all local rows */
};

status_t distil_student_new(struct net *net, struct comm *group, const struct distil_student_options *options,
                            struct distil_student *out);
void distil_student_free(struct distil_student *student); /* accepts a zeroed struct */

/* First of n local rows of (H,W,3), backend memory; and their number. */
void *distil_input(struct distil_student *student, enum distil_input input);
int64_t distil_n_local(const struct distil_student *student, enum distil_input input);

/* This rank's rows, host memory: labels (n); items (n) global image numbers (for dropout), or NULL. */
status_t distil_set_labels(struct distil_student *student, enum distil_input input, const int32_t *labels,
                           const uint32_t *items);
/* kept (n) 0 or 1; teacher (n,K) probabilities at the temperature, NULL for hard labels. */
status_t distil_set_kept(struct distil_student *student, const uint8_t *kept, const float *teacher);

/* Forward, loss, backward. rng: for dropout. */
status_t distil_forward_backward(struct distil_student *student, struct rng_key rng);
status_t distil_update(struct distil_student *student, double lr, struct optimiser_outcome *outcome);

/* Logits (n,K) of this rank's rows of an input, backend memory. */
const float *distil_logits(const struct distil_student *student, enum distil_input input);

/* Raw sums of this rank's rows, and the group's number of kept rows (on the group's rank 0, elsewhere 0). */
status_t distil_figures(struct distil_student *student, double sums[DISTIL_N_INPUTS], double *kept);

/* Unweighted terms from sums over the group. */
void distil_means(const struct distil_student *student, const double *sums, double kept,
                  double terms[DISTIL_N_INPUTS]);

#endif
