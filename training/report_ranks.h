/* The times of every rank, as the records of metrics.jsonl with "ranks" tell them (training/rank_times.h). */
#ifndef TRAINING_REPORT_RANKS_H
#define TRAINING_REPORT_RANKS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { REPORT_N_TIMES = 4, REPORT_MAX_RANKS = 65536 }; /* compute, data, exchange, reduce */

struct report_rank {
    double sum[REPORT_N_TIMES], last[REPORT_N_TIMES]; /* ms a step: over all records, of the newest */
    size_t n_slowest;                                 /* records that name it */
    char *host, *peer;                                /* owned; NULL: not told */
};

/* Of one stage. A record with another number of ranks begins anew: the run went on elsewhere. */
struct report_ranks {
    char stage[32];
    struct report_rank *ranks; /* [n_ranks] */
    size_t n_ranks, n_records;
    int slowest; /* of the newest record; -1: none is named */
    double excess;
    char slowest_by[16];
};

/* Take a record over; without "ranks", or with damaged ones, nothing happens. false: out of memory. */
bool report_ranks_add(struct report_ranks *ranks, const json_t *record);
void report_ranks_free(struct report_ranks *ranks); /* accepts a zeroed struct */

/* Compute and wait for data: what a rank does before it meets the others. */
double report_rank_own_ms(const double times[REPORT_N_TIMES]);

/* The ranks from the slowest on, at most `capacity`: by the sums, or by the newest record. Returns how many.
 */
size_t report_ranks_order(const struct report_ranks *ranks, bool newest, size_t *order, size_t capacity);

/* A table with bars, the slowest first; nothing without records. */
void report_put_ranks(FILE *out, const struct report_ranks *ranks);

#endif
