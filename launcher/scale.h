/* `bench scale`: what one run at n ranks reached, and how a row of such runs is shown. */
#ifndef LAUNCHER_SCALE_H
#define LAUNCHER_SCALE_H

#include "common/status.h"

#include <stdint.h>
#include <stdio.h>

/* Medians over the steps counted; waits are of the slowest group. */
struct scale_point {
    int n_ranks;
    int64_t n_steps; /* counted */
    double images_per_s, step_ms;
    double speed_up, efficiency; /* against the first point: (images/s) / (images/s of the first), that /
                                    (ranks / ranks) */
    double exchange_ms, reduce_ms, data_ms; /* exposed waits */
    double imbalance; /* busiest group's time without waits / least busy one's; 1: even */
};

/* Read the co-training steps of RUN/metrics.jsonl; the first `skip` are not counted (caches fill, loaders
 * start). STATUS_BAD_DATA with the reason where there are too few. Speed-up and efficiency are left to
 * scale_compare(). */
status_t scale_read(const char *run_folder, int64_t skip, struct scale_point *out);

/* Fill in speed-up and efficiency against points[0]; the same formula serves strong and weak scaling. */
void scale_compare(struct scale_point *points, int n);

void scale_print_table(const struct scale_point *points, int n, FILE *out);
void scale_print_csv(const struct scale_point *points, int n, FILE *out);

/* One picture: images/s over ranks, both axes logarithmic, with the line of perfect scaling. */
void scale_print_svg(const struct scale_point *points, int n, const char *title, FILE *out);

#endif
