/* The placement of a configuration's peers on the ranks that were really started, and its table. */
#ifndef LAUNCHER_PLACE_WORLD_H
#define LAUNCHER_PLACE_WORLD_H

#include "launcher/commands.h"
#include "launcher/device.h"
#include "launcher/placement.h"

#include <stdio.h>

/* What the ranks of a world run on. */
struct devices {
    enum device_choice choice; /* never DEVICE_AUTO */
    int n_here;                /* GPUs of this host; 0: the CPU */
    bool shared;               /* several ranks may have one (the twin's) */
};

/* What settings->device asks for. auto takes GPUs where every rank of every host can have one of its own,
 * else the CPU, and says so once. STATUS_MISSING, with reason and remedy, where GPUs are asked for that
 * cannot be had. Collective over context->world; without one the world is this process. */
status_t place_devices(struct launch_context *context, const struct settings *settings, struct devices *out);

/* Place the peers on the world's ranks, and these on the hosts' GPUs where there are any. Collective over
 * context->world. *out is owned by the caller. */
status_t place_world(struct launch_context *context, const struct settings *settings,
                     const struct devices *devices, struct placement *out);

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
