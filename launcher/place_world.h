/* The placement of a configuration's peers on the ranks that were really started, and its table. */
#ifndef LAUNCHER_PLACE_WORLD_H
#define LAUNCHER_PLACE_WORLD_H

#include "launcher/commands.h"
#include "launcher/placement.h"

#include <stdio.h>

/* Place the peers on the world's ranks, GPUs of the hosts included where settings->device asks for them.
 * Collective over context->world; without one the world is this process. *out is owned by the caller. */
status_t place_world(struct launch_context *context, const struct settings *settings, struct placement *out);

/* Print the table on rank 0: rank, host, cores or GPU, NUMA node, peer, part of its group, images of the
 * batch. Collective over context->world. */
status_t place_world_print(struct launch_context *context, const struct settings *settings,
                           const struct placement *placement, FILE *out);

/* One line of the table for a rank, and its head; `where` and `numa` are what place_world_print() shows. */
void placement_print_head(FILE *out);
void placement_print_rank(const struct settings *settings, const struct placement *placement, int rank,
                          const char *host, const char *where, const char *numa, FILE *out);

/* What each peer's ranks compute: images' cost and its share a rank. */
status_t placement_print_peers(const struct settings *settings, const struct placement *placement, FILE *out);

#endif
