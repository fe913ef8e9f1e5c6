/* What the ranks of a plan need in memory, from the networks' graphs and the numbers of images. */
#ifndef LAUNCHER_PLAN_MEMORY_H
#define LAUNCHER_PLAN_MEMORY_H

#include "launcher/plan.h"

#include <stdio.h>

/* MiB of the rank with the largest share of the batch. NAN: the stage has no such thing. */
struct plan_memory {
    const char *peer, *stage; /* borrowed */
    double weights, gradients, optimiser, optimiser_sharded, activations, recomputed, total;
};

enum { PLAN_MAX_MEMORY = 3 * SETTINGS_MAX_PEERS + 1 };

/* A row a peer and stage, and the student. Stage heads needs the numbers of images (plan->data). rows
 * [PLAN_MAX_MEMORY]. Without the operations' scratch, the loader and libraries. Not collective. */
status_t plan_memory_find(const struct plan *plan, struct plan_memory *rows, int *n_rows);

status_t plan_memory_print(const struct plan *plan, FILE *out);

#endif
