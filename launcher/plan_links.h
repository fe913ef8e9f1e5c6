/* Alpha-beta times of what a group of ranks sends: what comm/ really does, as numbers. Pure functions.
 *
 * Up to 32 ranks a reduction over MPI is comm/direct.c: n parts, each sent to its owner (phase 1), each
 * result sent to all (phase 2); up to 4 KiB whole to everybody in one phase. More ranks, and GPUs, count as a
 * ring: 2 (n-1)/n of the bytes over the slowest link. A node's link carries what all its ranks send to other
 * nodes together. */
#ifndef LAUNCHER_PLAN_LINKS_H
#define LAUNCHER_PLAN_LINKS_H

#include "launcher/plan_rates.h"

#include <stdbool.h>

struct group_shape {
    int n;            /* ranks */
    int n_nodes;      /* that they lie on */
    int most_on_node; /* ranks on the fullest of them */
};

struct links {
    struct link_rate intra, inter;
    bool gpu; /* reductions are rings of the GPU library, and cost the rank no time of its own */
};

/* What one operation costs. The rank's own work (copying and adding within the node, on CPUs) cannot be
 * hidden; the wire's time can. Together they are what it takes where nothing is computed meanwhile. */
struct link_cost {
    double own_s, wire_s;
    double latency_s;   /* part of wire_s: operations under way together share it, the rest they queue for */
    double intra_bytes; /* that a rank sends within its node */
    double inter_bytes; /* that the fullest node sends to others */
};

struct link_cost links_all_reduce(const struct links *links, const struct group_shape *group, double n_bytes);

/* Each part of a bucket to its owner only (ZeRO-1). */
struct link_cost links_reduce_to_owners(const struct links *links, const struct group_shape *group,
                                        double n_bytes);

/* Everybody gets everybody's part of n_bytes (ZeRO-1's parameters): MPI's or the GPU library's ring. */
struct link_cost links_all_gather(const struct links *links, const struct group_shape *group, double n_bytes);

/* Between two ranks: when the sum of the last of n buckets is there that are handed over at begin_s[n].
 * Buckets queue for the link, their latencies of two phases overlap. */
double links_buckets_s(const struct link_rate *link, const double *bytes, const double *begin_s, int n);

/* The reverse: at which rate the last sum would be there at end_s. */
double links_rate_of_buckets(double latency_s, const double *bytes, const double *begin_s, int n,
                             double end_s);

/* One message of n_bytes. */
double links_message_s(const struct link_rate *link, double n_bytes);

#endif
