/* One training step of all ranks as a chain of events, walked through without computing anything: who waits
 * for whom, and how long a step takes.
 *
 * A rank's step is the stage's own order (training/cotrain.c): take the batch · forward of the unlabelled own
 * view · send labels · forward of the rest · wait for the others' labels · backward, whose buckets of
 * gradients are summed over the group as they become final · update. Reductions are alpha-beta costs
 * (plan_links.h); the buckets of a group follow each other on its links. The figures of the step before are
 * summed over all ranks at the end of each step, which keeps groups within a step of each other.
 *
 * Ranks of a node share its cores: where more threads want to run than there are cores, all get the same
 * share; a waiting rank gives its core away. Decoding threads count too. */
#ifndef LAUNCHER_PLAN_STEP_H
#define LAUNCHER_PLAN_STEP_H

#include "launcher/plan_links.h"

#include <stdint.h>

enum { STEP_MAX_BUCKETS = 4096, STEP_MAX_RANKS = 512 };

/* A network that a group trains. */
struct step_group {
    const char *name;
    struct network_rate rate;
    int n_ranks;
    const int *ranks; /* [n_ranks] of the machine's, ascending */
    bool exchanges;   /* labels of n_own with the other groups */
    double n_own;     /* images of the global batch that have a pass of their own, the first */
    double n_rest;    /* all others, views counted one by one */
    int n_micro;      /* micro-batches a step (accumulation) */
    bool sharded;     /* ZeRO-1 */
    double n_param_bytes;
    int n_buckets;
    const double *bucket_bytes,
        *bucket_done;     /* [n_buckets] and the share of backward done when each is final */
    double sync_bytes[4]; /* all-reduces that the group waits for before backward (losses, Deep CORAL); 0:
                             none */
    int n_norms;          /* batch norms: as many small all-reduces in forward and in backward */
    double update_s;      /* of one rank, a shard of it with ZeRO-1 */
};

struct step_machine {
    int n_ranks, n_nodes;
    const int *node;                      /* [n_ranks] */
    double cores, threads, workers, busy; /* of plan_rates */
    int n_ahead;                          /* batches ready ahead of need */
    struct links links;
};

struct step_waits { /* of a group, seconds a step, mean over its ranks */
    double compute_s, exchange_s, reduce_s, sync_s, data_s, report_s;
    double
        alone_s; /* the step of this group if nobody else were there: what its ranks' work and links allow */
};

struct step_result {
    double step_s, images; /* images of the global batches of all groups, views counted */
    int n_groups;
    struct step_waits groups[SETTINGS_MAX_PEERS];
    double exchange_latency_s; /* from the last label sent to its receipt */
    double intra_bytes[SETTINGS_MAX_PEERS], inter_bytes[SETTINGS_MAX_PEERS]; /* of link_cost, a step */
    double exchange_bytes;                                                   /* all ranks together, a step */
};

/* Ranks of a group on the machine's nodes. */
status_t step_shape(const struct step_machine *machine, const struct step_group *group,
                    struct group_shape *out);

/* STATUS_NO_MEMORY, STATUS_INTERNAL for a machine it cannot walk through. */
status_t step_predict(const struct step_machine *machine, const struct step_group *groups, int n_groups,
                      struct step_result *out);

#endif
