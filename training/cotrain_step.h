/* One step of the end-to-end stage for one peer on one rank (METHOD.md section 4), whoever brings the batch.
 *
 * A step in the order in which the stage calls it for each peer of this rank:
 *   cotrain_forward_own()   the unlabelled own view: labels and confidences are ready to be sent
 *   (the exchange begins)
 *   cotrain_forward_rest()  source, labelled, strong view: hides the exchange
 *   (the exchange ends)
 *   cotrain_backward()      losses, Deep CORAL, gradients of both passes, reduced bucket by bucket
 *   cotrain_update()        optimiser
 * In the warm-up only the last three, without unlabelled images.
 *
 * Collective over the peer's group from cotrain_forward_rest() on. */
#ifndef TRAINING_COTRAIN_STEP_H
#define TRAINING_COTRAIN_STEP_H

#include "training/cotrain_loss.h"
#include "training/deep_coral.h"
#include "training/learner.h"

struct cotrain_peer_options {
    bool warmup;
    int64_t n_global[N_INPUTS]; /* global batch: source, labelled, unlabelled, (strong = unlabelled) */
    int32_t n_others;           /* peers whose labels come in: 1 of two peers */
    int32_t height, width;
    bool recompute;
    bool record; /* replay passes from a recording, where the backend can */
    bool deep_coral;
    const struct learner_options *learner;
};

/* What a rank keeps for one peer during one phase (warm-up or co-training). */
struct cotrain_peer {
    struct cotrain_peer_options options;
    struct net *net;                /* borrowed */
    struct comm *group;             /* borrowed */
    struct interval rows[N_INPUTS]; /* of the global batch: this rank's */
    struct pass *own,
        *rest; /* own: unlabelled own view; rest: source | labelled | strong, rows in that order */
    struct learner learner;
    struct cotrain_loss loss;
    struct cotrain_loss_buffers buffers;
    struct deep_coral_buffers coral;
    int32_t *labels;                 /* backend memory: source, then labelled */
    uint32_t *items;                 /* host: image numbers of the rows of `rest` */
    struct pseudo_label *host_other; /* host: (N_u), for the figures, with the next two */
    int32_t *host_label;
    uint8_t *host_mask;
};

/* Owned by the caller. Group and net are borrowed. Builds passes, optimiser (fresh) and buffers. */
status_t cotrain_peer_new(struct net *net, struct comm *group, const struct cotrain_peer_options *options,
                          struct cotrain_peer *out);
void cotrain_peer_free(struct cotrain_peer *peer); /* accepts a zeroed struct */

/* Where the batch goes: the first of n rows of (H,W,3) of the net's precision, backend memory. */
void *cotrain_input(struct cotrain_peer *peer, enum step_input input);
int64_t cotrain_n_local(const struct cotrain_peer *peer, enum step_input input);

/* True labels of this rank's rows, host memory; input is source or labelled. */
status_t cotrain_set_labels(struct cotrain_peer *peer, enum step_input input, const int32_t *host_labels);

struct cotrain_step {
    float weight[LOSS_N_TERMS];
    float smoothing, tau, tau_source;
    struct rng_key rng; /* for drop-path */
    const uint32_t *
        host_items[N_INPUTS]; /* global image numbers of this rank's rows, for drop-path; NULL: none needed */
};

status_t cotrain_forward_own(struct cotrain_peer *peer, const struct cotrain_step *step);
status_t cotrain_forward_rest(struct cotrain_peer *peer, const struct cotrain_step *step);
/* first, last: of the micro-batches that make one step (both true without accumulation): gradients start at
 * zero with the first, are reduced with the last. Weights are the caller's to divide by the number of
 * micro-batches. */
status_t cotrain_backward(struct cotrain_peer *peer, const struct cotrain_step *step, bool first, bool last);
status_t cotrain_update(struct cotrain_peer *peer, double lr, struct optimiser_outcome *outcome);

/* What this rank's rows gave, for logs; host memory. Waits for the device. Add up over the group, then divide
 * with cotrain_loss_means(). */
struct cotrain_figures {
    double sums[LOSS_N_TERMS];    /* raw; coral: the term itself, on the group's rank 0 only */
    double kept_source;           /* of the group, on the group's rank 0 only */
    double kept;                  /* own mask */
    double kept_other;            /* rows with a label of another peer above the threshold */
    double agree;                 /* rows on which own and other label are equal */
    double agree_kept, both_kept; /* the same among rows that both keep */
};
status_t cotrain_figures(struct cotrain_peer *peer, struct cotrain_figures *out);

#endif
