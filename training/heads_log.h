/* What an outer iteration of the heads reports, carried over all ranks. */
#ifndef TRAINING_HEADS_LOG_H
#define TRAINING_HEADS_LOG_H

#include "training/head.h"
#include "training/rank_times.h"
#include "training/run.h"

/* Doubles only: the struct is the message of one all-reduce. */
struct outer_report {
    struct {
        double losses[HEAD_N_TERMS], kept;
    } peers[SETTINGS_MAX_PEERS];
    double stop, exchange_wait_s;
};

struct outer_context {
    struct run *run;
    struct rank_times *times;
    double tau, steps_per_s;
};

/* One line of metrics.jsonl on rank 0, and the watcher's text (at most capacity bytes). */
status_t report_outer(const struct outer_context *context, int64_t outer, const struct outer_report *report,
                      char *text, size_t capacity);

#endif
