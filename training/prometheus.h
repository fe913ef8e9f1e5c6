/* The newest numbers of a run as a text file for node_exporter's textfile collector: gauges
 * marrs_dist_<name>{run=,stage=,ranks=} with peer= or rank= where the number is one's own. Times are in
 * seconds, accuracies from 0 to 1, as Prometheus wants them; replaced as a whole every few seconds. */
#ifndef TRAINING_PROMETHEUS_H
#define TRAINING_PROMETHEUS_H

#include "common/status.h"

#include <jansson.h>

struct prometheus;

#define PROMETHEUS_EVERY_S 5.0

/* Nothing is written yet. run: what the label says. Owned by the caller. */
status_t prometheus_open(const char *path, const char *run, int n_ranks, struct prometheus **out);

/* Take over the numbers of a record of metrics.jsonl, and write the file where the last one is
 * PROMETHEUS_EVERY_S old. A file that cannot be written gives one warning: a run is not ended for it. Fails
 * for lack of memory only. */
status_t prometheus_add(struct prometheus *prometheus, json_t *record);

/* Write the last state, with marrs_dist_running 0, and free. NULL is fine. */
void prometheus_close(struct prometheus *prometheus);

#endif
