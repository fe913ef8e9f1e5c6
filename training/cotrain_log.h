/* What a co-training step reports, carried over all ranks without stopping the step.
 *
 * The figures of step t are added up by one non-blocking all-reduce that begins at the end of step t and is
 * waited for at the end of step t + 1; the same message carries the wish to stop. */
#ifndef TRAINING_COTRAIN_LOG_H
#define TRAINING_COTRAIN_LOG_H

#include "training/cotrain_step.h"
#include "training/rank_times.h"
#include "training/run.h"

/* Of one peer, summed over its ranks. Doubles only: the struct is the message. */
struct peer_report {
    struct cotrain_figures figures;
    double gradient_norm, lr;                                   /* of the group's rank 0 */
    double exchange_wait_s, reduce_wait_s, data_wait_s, step_s; /* summed over the group's ranks */
    double waited_s;                                            /* the same of all waits for other ranks */
    double exchange_bytes, reduce_bytes;
    double skipped; /* of the group's rank 0 */
};

struct step_report {
    struct peer_report peers[SETTINGS_MAX_PEERS];
    double stop; /* ranks that want to stop */
};

struct report_context {
    struct run *run;
    struct rank_times *times;
    const struct cotrain_loss *loss; /* sizes of the global batch; any local peer's */
    bool warmup;
    double weight[LOSS_N_TERMS];
    double tau;
    int64_t images; /* of a step, a peer */
};

/* One line of metrics.jsonl on rank 0, and the watcher's text (at most capacity bytes). step: number of the
 * step, from 0. */
status_t report_step(const struct report_context *context, int64_t step, const struct step_report *report,
                     char *text, size_t capacity);

#endif
