/* Which ranks serve which peer, on which device. A pure function: no MPI, no files, the same answer on every
 * rank. */
#ifndef LAUNCHER_PLACEMENT_H
#define LAUNCHER_PLACEMENT_H

#include "training/settings.h"

#include "common/status.h"

#include <stdbool.h>

struct placement_peer {
    const char *name; /* borrowed; for messages */
    double cost;      /* of an image, in any unit common to the peers; > 0 */
    int n_ranks;      /* wanted; 0: in proportion to the cost */
};

struct placement_request {
    int n_peers; /* 1..SETTINGS_MAX_PEERS */
    struct placement_peer peers[SETTINGS_MAX_PEERS];
    int n_ranks; /* of the world, >= 1 */
    int n_hosts;
    const int *host;      /* [n_ranks] host of each rank, 0..n_hosts-1 */
    const int *n_devices; /* [n_hosts] GPUs of each host, or NULL: none are used */
    bool share_devices;   /* several ranks may use one GPU (emulated ones only) */
};

struct placement {
    int n_peers, n_ranks;
    int group_size[SETTINGS_MAX_PEERS];
    int *group[SETTINGS_MAX_PEERS]; /* [group_size] ranks of the peer, ascending; owned */
    int *device;                    /* [n_ranks] GPU on the rank's host, -1: CPU; owned */
};

/* With at least as many ranks as peers every rank serves exactly one peer: sizes wanted are kept, the other
 * ranks go to the other peers so that the largest cost per rank is smallest. With fewer ranks every peer has
 * one rank, and the ranks' sums of costs are kept even. As many groups as possible lie on one host each (and
 * among equally many those with most ranks). STATUS_USAGE with the reason: sizes that do not add up, more
 * ranks than GPUs on a host. *out is owned by the caller (placement_free()). */
status_t placement_make(const struct placement_request *request, struct placement *out);
void placement_free(struct placement *placement);

/* Does this rank serve the peer? Its index in the group, or -1. */
int placement_index(const struct placement *placement, int peer, int rank);

/* Multiply-accumulates of one image forward, from the network's graph: the cost used for `ranks: auto`. */
status_t placement_cost(const struct peer_settings *peer, double *cost);

/* Fill the peers' part of a request from the settings. Strings are borrowed from them. */
status_t placement_peers(const struct settings *settings, struct placement_request *request);

#endif
