/* What a report is made of: metrics.jsonl as series, results.json, and the placement of the last start.
 *
 * A damaged line of metrics.jsonl is left out and counted; a missing file leaves its part empty. */
#ifndef TRAINING_REPORT_DATA_H
#define TRAINING_REPORT_DATA_H

#include "common/status.h"
#include "training/report_ranks.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* One number over the steps of a stage: "kept_fraction" with group "" or "loss" of the group "convnext". */
struct report_series {
    char *stage, *group, *name; /* owned */
    size_t n, capacity_step, capacity_value;
    double *step, *value; /* [n]; a value that was null is NAN */
};

enum { REPORT_MAX_STAGES = 8 };

struct report_data {
    struct report_series *series;
    size_t n_series, capacity;
    size_t n_records, n_damaged;
    struct report_ranks ranks[REPORT_MAX_STAGES];
    int n_ranks_stages;
    double cotrain_begins; /* step at which the warm-up ends; NAN */
    json_t *results;       /* NULL: no readable results.json */
    char *placement;       /* placement.txt; NULL: none */
    char *config;          /* config.yaml; NULL: none */
    long long written;     /* seconds since 1970 of the newest of the files; 0: none */
};

/* Read what RUN has. Fails for lack of memory or where RUN has neither metrics nor results (STATUS_MISSING).
 */
status_t report_data_read(const char *run, struct report_data *out);
void report_data_free(struct report_data *data); /* accepts a zeroed struct */

/* One line of metrics.jsonl. false: damaged. */
bool report_data_add_line(struct report_data *data, const char *line, size_t n_bytes);

/* NULL where there is none. */
const struct report_series *report_data_find(const struct report_data *data, const char *stage,
                                             const char *group, const char *name);
bool report_data_has_stage(const struct report_data *data, const char *stage);

/* The ranks' times of a stage; NULL where there are none. */
const struct report_ranks *report_data_ranks(const struct report_data *data, const char *stage);

/* The median of the finite values; NAN where there is none. */
double report_series_median(const struct report_series *series);

/* results[phase][model][split] in per cent; NAN where there is none. */
double report_data_accuracy(const struct report_data *data, const char *phase, const char *model,
                            const char *split);

/* The name of class k (borrowed), or its number printed into `buffer`. */
const char *report_data_class(const struct report_data *data, size_t k, char buffer[24]);

#endif
