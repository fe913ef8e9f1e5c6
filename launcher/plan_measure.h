/* What plan_calibrate() measures besides the networks' steps. */
#ifndef LAUNCHER_PLAN_MEASURE_H
#define LAUNCHER_PLAN_MEASURE_H

#include "launcher/plan.h"

/* Processor time to read, decode and view one image of peer p's part, from the configuration's own shards.
 * Fails where they cannot be opened. Not collective. */
status_t plan_measure_data(const struct plan *plan, int peer, double *data_s);

/* Latency and rate within a node and between nodes, from all-reduces of the largest bucket's size:
 * rates->intra, rates->inter and whether each is known. Collective over world. */
status_t plan_measure_links(const struct plan *plan, struct comm *world, struct plan_rates *rates);

double plan_median(double *values, int n);

#endif
