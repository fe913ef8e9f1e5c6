/* Inside comm/: reductions by direct messages between the ranks of a group, for groups of up to
 * COMM_MAX_DIRECT.
 *
 * The data is cut into one part a rank. Phase 1: every rank sends each part to its owner, who adds what it
 * got in the order of the ranks. Phase 2: the owner sends the result on, to all ranks (all-reduce), to one
 * (reduce) or to none (reduce-scatter). Small data goes whole to everybody who needs the result, in one
 * phase.
 *
 * Why not MPI's own: Open MPI's non-blocking all-reduce in place, and any in groups below 4, is a tree of
 * whole buffers, 2 log2(n) times the bytes over the busiest link; here it is 2 (n-1) / n. And since each
 * element is always added in the order of the ranks, its bits depend neither on the cut into buckets nor on
 * whether the sum is sharded, nor on the MPI library. */
#ifndef COMM_DIRECT_H
#define COMM_DIRECT_H

#include "comm/comm_impl.h"

#define DIRECT_SMALL_BYTES 4096 /* up to here one phase, whole to everybody */

enum direct_kind { DIRECT_ALL_REDUCE, DIRECT_REDUCE, DIRECT_REDUCE_SCATTER };

/* Post phase 1. `offsets` [size + 1] only for DIRECT_REDUCE_SCATTER, `root` only for DIRECT_REDUCE. */
status_t direct_begin(struct comm_request *request, enum direct_kind kind, int root, void *data,
                      int64_t n_elem, const int64_t *offsets, enum comm_type type, enum comm_op op);

/* All messages of the request's phase have been tested complete: add and post the next phase, or set *done.
 */
status_t direct_advance(struct comm_request *request, bool *done);

void direct_free(struct direct *direct); /* of a request; NULL accepted */

#endif
