/* What the ranks of a peer need in memory, from the networks' graphs. */
#ifndef LAUNCHER_PLAN_MEMORY_H
#define LAUNCHER_PLAN_MEMORY_H

#include "launcher/placement.h"

#include <stdio.h>

/* A line a peer and stage: weights, gradients, optimiser and activations of the rank with the largest share
 * of the batch, in MiB; activations with and without recomputation. Without the operations' scratch, the
 * loader and libraries. Not collective. */
status_t plan_memory_print(const struct settings *settings, const struct placement *placement, FILE *out);

#endif
