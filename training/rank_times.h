/* Where each rank's time goes: which one do the others wait for?
 *
 * A rank adds up, over some steps, what it computed and what it waited for: images, pseudo-labels of the
 * other peer, sums over ranks (gradients, parts of the loss, the figures of the log). A rank that others wait
 * for shows little waiting of its own and much computing, or much waiting for images; the others show it as
 * waits for the exchange or for sums. Rank 0 gathers the means once in log.ranks_every lines of
 * metrics.jsonl, in a message that is under way together with the step's figures: no step waits for it. */
#ifndef TRAINING_RANK_TIMES_H
#define TRAINING_RANK_TIMES_H

#include "training/run.h"

enum rank_time { RANK_COMPUTE, RANK_DATA, RANK_EXCHANGE, RANK_REDUCE, RANK_N_TIMES };

/* "compute_ms", "data_ms", "exchange_ms", "reduce_ms": arrays by rank in the record's object "ranks". */
const char *rank_time_name(enum rank_time time);

struct rank_times;

/* of_peers: ranks serve the peers of the run; otherwise all serve the student. Not collective; owned by the
 * caller. */
status_t rank_times_new(const struct run *run, bool of_peers, struct rank_times **out);
void rank_times_free(struct rank_times *times); /* NULL is fine */

/* Of this rank, summed over n_steps steps. */
struct rank_step {
    int64_t n_steps;
    double step_s, data_s, exchange_s;
    double waited_s; /* of all waits for other ranks, that for the exchange among them (comm_waited_s()) */
};
void rank_times_add(struct rank_times *times, const struct rank_step *step);

/* Is the step that makes n_done of the stage one after which to gather? last: of a phase. The same on all
 * ranks. */
bool rank_times_due(const struct rank_times *times, int64_t n_done, bool last);

/* Gather what was added since the last time. Collective over the world, both; between them the ranks may add
 * on. rank_times_end() without a begin does nothing. */
status_t rank_times_begin(struct rank_times *times);
status_t rank_times_end(struct rank_times *times);

/* Rank 0: put what was gathered into the record of metrics.jsonl that is being made, once: "ranks", and, with
 * several ranks, "slowest_rank", "slowest_host", "slowest_by" (compute or data) and "slowest_excess" (by
 * which share its compute and data are above the mean of the other ranks). */
void rank_times_put(struct rank_times *times);

/* For the watcher's line: "slowest rank 3 (node2) +42% compute", of the last time; "" where no rank is 5 %
 * above the others. */
const char *rank_times_text(const struct rank_times *times);

#endif
