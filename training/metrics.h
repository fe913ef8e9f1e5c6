/* What a run writes about itself while it runs: metrics.jsonl, the same for TensorBoard and Prometheus, and a
 * line for the person who watches.
 *
 * Rank 0 alone writes; on other ranks every call does nothing. A record goes out in one write(), so a reader
 * never sees half a line but at the very end of a killed run; metrics_open() cuts such a rest. */
#ifndef TRAINING_METRICS_H
#define TRAINING_METRICS_H

#include "common/status.h"

#include <stdbool.h>
#include <stdint.h>

struct metrics;

/* Open RUN/metrics.jsonl for appending behind the whole lines it has. writes: true on rank 0. */
status_t metrics_open(const char *path, bool writes, struct metrics **out);
void metrics_close(struct metrics *metrics); /* NULL is fine */

struct metrics_outputs {
    bool tensorboard;       /* event files beside metrics.jsonl (training/tensorboard.h) */
    const char *prometheus; /* text file (training/prometheus.h); NULL or "": none */
    const char *run;        /* the run's name there */
    int n_ranks;
};

/* Where the records go besides metrics.jsonl. What cannot be written there is warned of once. */
status_t metrics_also(struct metrics *metrics, const struct metrics_outputs *outputs);

/* Drop the first record of `stage` with a step >= first_step and all that follow it: what a killed run wrote
 * behind the checkpoint that it now goes on from. */
status_t metrics_cut(struct metrics *metrics, const char *stage, int64_t first_step);

/* A record: begin, any number of fields, end. It has the time, "time_ms" since 1970. Numbers that are not
 * finite are written as null. Names must not repeat within a record. Errors of memory surface at the end. */
void metrics_begin(struct metrics *metrics, const char *stage, int64_t step);
void metrics_number(struct metrics *metrics, const char *name, double value);
void metrics_integer(struct metrics *metrics, const char *name, int64_t value);
void metrics_text(struct metrics *metrics, const char *name, const char *value);
/* The same with the name "group.name" split over an object: {"convnext": {"loss": 1.2}}. */
void metrics_number_in(struct metrics *metrics, const char *group, const char *name, double value);
/* Append to a list in such an object: {"ranks": {"data_ms": [0.1, 0.2]}}. */
void metrics_number_of(struct metrics *metrics, const char *group, const char *name, double value);
void metrics_text_of(struct metrics *metrics, const char *group, const char *name, const char *value);
status_t metrics_end(struct metrics *metrics);

/* The watcher's line on standard error: on a terminal rewritten in place once a second, in a file a plain
 * line once a minute (log.every_s changes both). */
struct progress {
    double every_s, last_s, start_s;
    int64_t first_step;
    bool writes, terminal, drawn;
};

/* every_s 0: 1 s on a terminal, 60 s otherwise. first_step: where this process began (for the rate). */
struct progress progress_start(double every_s, int64_t first_step, bool writes);

/* Is it time to show something? Always true for the last step. */
bool progress_due(const struct progress *progress, bool last);

/* Show "stage step/n  text  ETA". */
void progress_show(struct progress *progress, const char *stage, int64_t step, int64_t n_steps,
                   const char *text);

/* Leave the line behind, so that other output starts on a fresh one. */
void progress_clear(struct progress *progress);

#endif
