/* Which weights of a peer co-training keeps as its model: the best on validation so far (ties: the later), or
 * the last. With a moving average of the weights it is the average that is judged and kept. */
#ifndef TRAINING_COTRAIN_KEEPER_H
#define TRAINING_COTRAIN_KEEPER_H

#include "training/checkpoint.h"
#include "training/learner.h"
#include "training/predict.h"

struct cotrain_keeper {
    struct run *run; /* borrowed, with the next two */
    const struct run_peer *peer;
    struct net *net;
    struct predictor *predictor;
    struct weights_copy best;  /* valid when best_step >= 0 */
    struct weights_copy spare; /* own weights while the average is in their place; only with an average */
    int64_t best_step;         /* -1: none yet */
    double best_accuracy;      /* per cent */
};

/* average: a moving average of the weights will be kept. Owned by the caller, released with
 * cotrain_keeper_free() whatever the status, before the net. */
status_t cotrain_keeper_new(struct run *run, const struct run_peer *peer, struct net *net, bool average,
                            struct cotrain_keeper *out);
void cotrain_keeper_free(struct cotrain_keeper *keeper); /* accepts a zeroed struct */

/* The accuracy on validation after step `step` of what `learner` has learnt; its weights are kept where they
 * are the best, and always where last is true. Collective over the peer's group; per_cent on all its ranks.
 */
status_t cotrain_keeper_judge(struct cotrain_keeper *keeper, struct learner *learner, bool last, int64_t step,
                              double *per_cent);

/* The weights kept go into the net and, by the group's first rank, to models/<peer>.safetensors. Not
 * collective. */
status_t cotrain_keeper_save(struct cotrain_keeper *keeper);

#endif
