/* Checkpoints: the whole state of one network's training as full logical tensors, so that a run goes on bit
 * by bit at the same number of ranks and to the same losses within rounding at another one.
 *
 * RUN/checkpoints/STAGE-STEP-NAME.h5 (a store, data_shards/store.h: every tensor has checksums; written under
 * a temporary name, synced, renamed), NAME being the peer or "student": param/<name>, buffer/<name> weights
 * in the framework's layout, fp32 state/<state>/<name>             optimiser: momentum | m, v | ema
 *   best/param/<name>, best/buffer/<name>  the weights kept so far, if any
 *   attributes: stage, step, n_steps, best_step, best_accuracy
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
void weights_copy_free(struct net *net, struct weights_copy *copy);          /* accepts a zeroed struct */
status_t weights_copy_take(struct net *net, struct weights_copy *copy);      /* copy = net */
status_t weights_copy_put(struct net *net, const struct weights_copy *copy); /* net = copy, shadow renewed */

/* What is saved of one network. */
struct checkpoint {
    const char *name;   /* of the peer, or "student" */
    struct comm *group; /* its rank 0 reads and writes */
    struct net *net;
    struct learner *learner;
    struct weights_copy *best; /* valid when best_step >= 0 */
    int64_t best_step;         /* -1: none yet */
    double best_accuracy;
};

/* Save step `step` (the number of steps done) of every name and then remove all but the newest
 * checkpoint.keep of this stage. Groups write side by side; checkpoints [n] as for checkpoint_find(). A full
 * disk with checkpoint.on_full: continue is said, *written false, the older files of all names stay and none
 * of this step; with stop it is an error. Collective over the world. */
status_t checkpoint_write(struct run *run, enum stage stage, int64_t step,
                          const struct checkpoint *checkpoints, int32_t n, bool *written);

/* The newest step of `stage` for which every name has a whole, undamaged file; 0: none. A damaged one is
 * named and passed over. Only name and group of the checkpoints [n] are used; all names of the stage are
 * given, with group = NULL on ranks outside a group. Collective over the world. */
status_t checkpoint_find(struct run *run, enum stage stage, const struct checkpoint *checkpoints, int32_t n,
                         int64_t *step);

/* Fill this rank's checkpoints (net, learner, best, numbers) from the files of `step`. Collective over the
 * world. */
status_t checkpoint_load(struct run *run, enum stage stage, int64_t step, struct checkpoint *checkpoints,
                         int32_t n);

#endif
