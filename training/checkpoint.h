/* Checkpoints: the whole state of one network's training as full logical tensors, so that a run goes on bit by bit at
 * the same number of ranks and to the same losses within rounding at another one.
 *
 * RUN/checkpoints/STAGE-STEP-NAME.h5 (a store, data_shards/store.h: every tensor has checksums; written under a
 * temporary name, synced, renamed), NAME being the peer or "student":
 *   param/<name>, buffer/<name>      weights in the framework's layout, fp32
 *   state/<state>/<name>             optimiser: momentum | m, v | ema
 *   best/param/<name>, best/buffer/<name>  the weights kept so far, if any
 *   attributes: stage, step, n_steps, n_skipped, best_step, best_accuracy, metrics_position
 * There is no state of random numbers or of the loader: both are functions of (seed, stage, step). */
#ifndef TRAINING_CHECKPOINT_H
#define TRAINING_CHECKPOINT_H

#include "training/learner.h"
#include "training/run.h"

/* A copy of a net's parameters and buffers in backend memory. */
struct weights_copy {
    float *params, *buffers;
};
status_t weights_copy_new(struct net *net, struct weights_copy *out);
void weights_copy_free(struct net *net, struct weights_copy *copy); /* accepts a zeroed struct */
status_t weights_copy_take(struct net *net, struct weights_copy *copy);       /* copy = net */
status_t weights_copy_put(struct net *net, const struct weights_copy *copy);  /* net = copy, shadow renewed */

/* What is saved of one network. */
struct checkpoint {
    const char *name;          /* of the peer, or "student" */
    struct comm *group;        /* its rank 0 reads and writes */
    struct net *net;
    struct learner *learner;
    struct weights_copy *best; /* valid when best_step >= 0 */
    int64_t best_step;         /* -1: none yet */
    double best_accuracy;
    int64_t metrics_position;  /* of rank 0 of the world; 0 elsewhere */
};

/* Save step `step` (the number of steps done) and remove all but the newest checkpoint.keep of this stage and name. Groups
 * write side by side. A full disk: the old files stay; with checkpoint.on_full: continue it is said and STATUS_OK
 * returned. Collective over checkpoint->group. */
status_t checkpoint_write(struct run *run, enum stage stage, int64_t step, const struct checkpoint *checkpoint);

/* The newest step of `stage` for which every name has a whole, undamaged file: each of this rank's checkpoints
 * [n] is then filled from it (net, learner, best, numbers) and *step set; -1: none, nothing changed. A damaged one is
 * named and passed over. Collective over the world; all names of the stage are given, on ranks outside a group with
 * group = NULL. */
status_t checkpoint_resume(struct run *run, enum stage stage, struct checkpoint *checkpoints, int32_t n, int64_t *step);

#endif
