/* A network being trained by a group of ranks: its optimiser and the reduction of its gradients.
 *
 * One step:  learner_begin() · learner_backward() of every pass, the last with last = true ·
 * learner_update(). Collective over the group from learner_begin() to learner_update(). */
#ifndef TRAINING_LEARNER_H
#define TRAINING_LEARNER_H

#include "comm/buckets.h"
#include "models/net.h"
#include "training/optimiser.h"

struct learner {
    struct net *net;    /* borrowed */
    struct comm *group; /* borrowed */
    struct optimiser *optimiser;
    struct buckets *buckets;
    int32_t *segment_of; /* [n_params] index of the bucket segment, -1: buffer or frozen */
    bool sharded;
    struct buckets_stats stats; /* of the last step */
};

struct learner_options {
    const struct optimizer_settings *optimizer;
    double ema;
    size_t bucket_bytes;
    bool sharded;                /* ZeRO-1 */
    int32_t first_trained_layer; /* parameters of lower layers are frozen (net_freeze_below() was called) */
};

/* A training pass of `net` must exist already (it makes the gradient buffer). Owned by the caller. */
status_t learner_new(struct net *net, struct comm *group, const struct learner_options *options,
                     struct learner *out);
void learner_free(struct learner *learner); /* accepts a zeroed struct */

/* Zero the gradients. */
status_t learner_begin(struct learner *learner);

/* Add the gradients of a pass. With `last`, buckets are reduced as they become final. */
status_t learner_backward(struct learner *learner, struct pass *pass, bool last);

/* Wait for the sums over the group, update, gather (ZeRO-1). */
status_t learner_update(struct learner *learner, double lr, struct optimiser_outcome *outcome);

/* One state of the optimiser (optimiser_state()) as a whole flat buffer: full (n_elem of the net), backend
 * memory, "=" on every rank. Padding between parameters may hold anything of the state. Collective over the
 * group. */
status_t learner_gather_state(struct learner *learner, int32_t index, float *full);

/* The reverse, local: this rank's part out of a whole buffer. */
status_t learner_scatter_state(struct learner *learner, int32_t index, const float *full);

/* Sums over a group as callbacks; `group` is a struct comm *. */
status_t group_sum_f64(void *group, double *values, int64_t n);
status_t group_sum_f32(void *group, float *values, int64_t n);

#endif
