/* The trained models of a run: peers end to end, peers as a frozen backbone with a linear classifier, the
 * student. */
#ifndef TRAINING_TRAINED_H
#define TRAINING_TRAINED_H

#include "training/predict.h"

enum { TRAINED_STUDENT = -1 };

/* A linear classifier on frozen features, as stage heads leaves it in RUN/models/<peer>.head.safetensors:
 * logits = W u, u = (x - mean) / max(|x - mean|, 1e-12) with `normalise`, else x - mean. */
struct frozen_head {
    int64_t d, n_classes;
    float *mean, *weight; /* (d), (K,d); owned */
    bool normalise;
    double mean_norm; /* of the target rows it was trained on */
};
status_t frozen_head_read(const char *path, struct frozen_head *out);
void frozen_head_free(struct frozen_head *head); /* accepts a zeroed struct */

/* probabilities (n,K) from features (n,D), host memory. */
void frozen_head_apply(const struct frozen_head *head, const float *features, int64_t n,
                       float *probabilities);

/* Put the head into the classifier of a whole net, so that end-to-end training begins with what it answers:
 * weights W / mean_norm, bias -W mean / mean_norm where the net has one. */
status_t frozen_head_install(const struct frozen_head *head, struct net *net);

struct trained;

/* Open peer `peer` (its models/<peer>.safetensors, or without that its head and backbone) or the student.
 * STATUS_MISSING names the file and the stage that makes it. Owned by the caller; `run` must outlive it. */
status_t trained_open(struct run *run, int32_t peer, struct trained **out);
void trained_close(struct trained *trained); /* NULL is fine */

/* probabilities (n,K) host memory "=" of all rows of `split`, on every rank of `group`. Collective over it.
 */
status_t trained_predict(struct trained *trained, struct comm *group, const struct split *split,
                         float *probabilities);

/* Accuracy of every model there is on validation and unlabelled images (as listed, and without validation
 * images), with confusion matrices, into results.json. At least one model must be there. Collective over the
 * world. */
status_t trained_evaluate(struct run *run);

#endif
