#include "launcher/plan_links.h"

#include <math.h>

enum { MAX_DIRECT = 32, SMALL_BYTES = 4096 }; /* comm/direct.h */

double links_message_s(const struct link_rate *link, double n_bytes) {
    return link->latency_s + n_bytes / link->bytes_per_s;
}

/* Every rank sends `part` bytes to every other rank of the group, all at once. */
static struct link_cost phase(const struct links *l, const struct group_shape *g, double part) {
    const int m = g->most_on_node, away = g->n - m;
    struct link_cost c = {0};
    if (g->n < 2) return c;
    if (m > 1) {
        c.intra_bytes = (m - 1) * part;
        c.own_s = c.intra_bytes / l->intra.bytes_per_s;
        c.wire_s = c.latency_s = l->intra.latency_s;
    }
    if (away > 0) {
        c.inter_bytes = (double)m * away * part;
        c.latency_s = l->inter.latency_s;
        c.wire_s = links_message_s(&l->inter, c.inter_bytes);
    }
    return c;
}

static struct link_cost sum(struct link_cost a, struct link_cost b) {
    return (struct link_cost){.own_s = a.own_s + b.own_s,
                              .wire_s = a.wire_s + b.wire_s,
                              .latency_s = a.latency_s + b.latency_s,
                              .intra_bytes = a.intra_bytes + b.intra_bytes,
                              .inter_bytes = a.inter_bytes + b.inter_bytes};
}

/* `rounds` times (n-1)/n of the bytes over each rank's links; a node has one neighbour that is another node.
 * A GPU's library climbs a tree of nodes where latency counts, MPI's ring takes a step a rank. */
static struct link_cost ring(const struct links *l, const struct group_shape *g, double n_bytes,
                             double rounds) {
    struct link_cost c = {0};
    if (g->n < 2) return c;
    const double share = rounds * (g->n - 1) / g->n * n_bytes;
    const bool crosses = g->n_nodes > 1;
    c.intra_bytes = g->most_on_node > 1 ? share : 0;
    c.inter_bytes = crosses ? share : 0;
    if (l->gpu)
        c.latency_s =
            rounds / 2 *
            ((g->most_on_node > 1 ? l->intra.latency_s : 0) + ceil(log2(g->n_nodes)) * l->inter.latency_s);
    else
        c.latency_s = rounds * (g->n - 1) * (crosses ? l->inter.latency_s : l->intra.latency_s);
    c.wire_s = c.latency_s + c.inter_bytes / l->inter.bytes_per_s;
    const double inside_s = c.intra_bytes / l->intra.bytes_per_s;
    if (l->gpu)
        c.wire_s = fmax(c.wire_s, c.latency_s + inside_s);
    else
        c.own_s = inside_s;
    return c;
}

struct link_cost links_all_reduce(const struct links *l, const struct group_shape *g, double n_bytes) {
    if (l->gpu || g->n > MAX_DIRECT) return ring(l, g, n_bytes, 2);
    if (n_bytes <= SMALL_BYTES) return phase(l, g, n_bytes);
    const struct link_cost one = phase(l, g, n_bytes / g->n);
    return sum(one, one);
}

struct link_cost links_reduce_to_owners(const struct links *l, const struct group_shape *g, double n_bytes) {
    if (l->gpu || g->n > MAX_DIRECT) return ring(l, g, n_bytes, 1);
    if (g->n == 2) return phase(l, g, n_bytes / 2); /* one message to the owner */
    const struct link_cost one =
        phase(l, g, n_bytes / g->n); /* parts of each piece to those who add them ... */
    return sum(one, one);            /* ... and the sums to the piece's owner */
}

struct link_cost links_all_gather(const struct links *l, const struct group_shape *g, double n_bytes) {
    return ring(l, g, n_bytes, 1);
}

double links_buckets_s(const struct link_rate *link, const double *bytes, const double *begin_s, int n) {
    double free_s = 0;
    for (int b = 0; b < n; b++) free_s = fmax(free_s, begin_s[b]) + bytes[b] / link->bytes_per_s;
    return free_s + 2 * link->latency_s;
}

double links_rate_of_buckets(double latency_s, const double *bytes, const double *begin_s, int n,
                             double end_s) {
    double low = 3, high = 15; /* decimal logarithms of bytes a second */
    for (int i = 0; i < 60; i++) {
        const double middle = 0.5 * (low + high);
        const struct link_rate link = {latency_s, pow(10, middle)};
        if (links_buckets_s(&link, bytes, begin_s, n) > end_s)
            low = middle;
        else
            high = middle;
    }
    return pow(10, high);
}
