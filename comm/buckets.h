/* Gradient buckets: the sum of gradients over a peer's group, while backward still runs.
 *
 * All gradients of a network lie in one flat fp32 buffer. Its segments (one a parameter or layer) become
 * final one after the other, last layer first; neighbours are put together into buckets of about
 * bucket_bytes, and a bucket's reduction starts as soon as its last segment is final. Buckets start in one
 * order on all ranks, whatever order the segments come in.
 *
 * Sums only: the caller has scaled its gradients so that their sum over the group is what it wants (loss
 * terms divided by the *global* count: uneven shares then weigh right).
 *
 * sharded (ZeRO-1): rank r of n owns interval_part(n_elem, r, n) of the flat buffer; each piece of a bucket
 * is reduced to its owner only, the owner updates its parameters, and buckets_gather_parameters() gives them
 * to all. What this saves is the optimiser's memory and work, not traffic. The sums have the same bits as
 * without. */
#ifndef COMM_BUCKETS_H
#define COMM_BUCKETS_H

#include "comm/comm.h"
#include "common/interval.h"

struct bucket_segment {
    int64_t offset, n_elem; /* of the flat buffer */
};

struct buckets;

struct buckets_stats {
    int64_t n_bytes; /* of gradients handed to the reductions (0 in a group of one) */
    int n_buckets;
};

/* How segments are put together: bucket_of[n_segments] = the bucket of each, ranges[<= n_segments] = what
 * each bucket covers. Returns the number of buckets. For buckets_new() and for planning; no communicator
 * needed. */
int buckets_cut(const struct bucket_segment *segments, int n_segments, size_t bucket_bytes, int *bucket_of,
                struct interval *ranges);

/* Not collective; all ranks pass the same segments, in the order in which backward makes them final (that is
 * the last layer first). Segments do not overlap; neighbours in that order lie next to each other in the
 * buffer (gaps from alignment are allowed inside a bucket and are summed along with it: keep them 0). A
 * segment longer than bucket_bytes is a bucket of its own. `group` and `gradients` [n_elem] are borrowed and
 * must outlive the buckets. */
status_t buckets_new(struct comm *group, float *gradients, int64_t n_elem,
                     const struct bucket_segment *segments, int n_segments, size_t bucket_bytes, bool sharded,
                     struct buckets **out);
void buckets_free(struct buckets **buckets); /* NULL accepted; no step may be under way */

int buckets_count(const struct buckets *buckets);

/* Before the backward pass whose gradients are to be summed (with gradient accumulation: the last one). */
status_t buckets_begin_step(struct buckets *buckets);

/* Segment `segment` is final; once a step each. Collective over the group in its effect: all ranks report all
 * segments. Never waits. */
status_t buckets_ready(struct buckets *buckets, int segment);

/* comm_poke() in the form of a callback; `buckets` is a struct buckets *. */
void buckets_poke(void *buckets);

/* Wait for all sums of this step, within the deadline for each; every segment must have been reported.
 * The exposed part of the reductions is comm_waited_s(group, COMM_FOR_GRADIENTS).
 * Afterwards gradients = sum over the group (sharded: in this rank's shard only, the rest is undefined).
 * *stats may be NULL. */
status_t buckets_wait(struct buckets *buckets, struct buckets_stats *stats);

/* The elements this rank's optimiser updates: its shard, or all. */
struct interval buckets_shard(const struct buckets *buckets);

/* parameters[n_elem], laid out as the gradients: every rank brings its shard, all get all. Collective over
 * the group; nothing to do where not sharded. */
status_t buckets_gather_parameters(struct buckets *buckets, float *parameters);

#endif
