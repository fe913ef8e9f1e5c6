/* The exchange of pseudo-labels between peers.
 *
 * Every peer's group shares the same n_images (a step's global batch of unlabelled images, or all N_u rows of
 * the frozen stage) out by interval_part(). A rank computes its peer's labels for its own interval, and needs
 * the labels of every other peer for that same interval; the groups may have any sizes, and a rank may serve
 * several peers. The plan says once who sends which interval to whom; each exchange is then one group of
 * non-blocking transfers, 8 bytes an image. Nothing counts on two peers. */
#ifndef COMM_EXCHANGE_H
#define COMM_EXCHANGE_H

#include "comm/comm.h"
#include "common/interval.h"
#include "common/pseudo_label.h"

struct exchange_plan;
struct exchange_request;

struct exchange_stats {
    int64_t n_bytes_sent;     /* by this rank to other ranks */
    int64_t n_bytes_received; /* by this rank from other ranks */
};

/* Not collective; cheap (no message). All ranks pass the same peers and n_images. *plan is owned by the
 * caller and borrows the communicator, which must outlive it; the memberships are copied. */
status_t exchange_plan_new(struct comm *world, int n_peers, const struct comm_membership *peers,
                           int64_t n_images, struct exchange_plan **plan);
void exchange_plan_free(struct exchange_plan **plan); /* NULL accepted; no exchange may be under way */

/* This rank's images of `peer`; empty (begin = end) where it does not serve the peer. */
struct interval exchange_interval(const struct exchange_plan *plan, int peer);

/* Start sending this rank's labels and receiving the other peers'. Collective over the world in the sense
 * that all ranks begin and end the same exchanges in the same order. Does not wait. send     [n_peers]:
 * send[p] = labels of peer p for exchange_interval(p); NULL where the rank does not serve p. Not touched
 * before exchange_end(). receive  [n_peers * n_peers]: receive[p * n_peers + q], q != p = labels of peer q
 * for exchange_interval(p); NULL where the rank does not serve p, and for q = p. Defined only after
 * exchange_end(). request  owned by the caller on STATUS_OK only The two arrays are not needed after the
 * call. A plan can have several exchanges under way. */
status_t exchange_begin(struct exchange_plan *plan, const struct pseudo_label *const *send,
                        struct pseudo_label *const *receive, struct exchange_request **request);

/* Wait for it, within the deadline: the exposed part of the exchange, comm_waited_s(COMM_FOR_EXCHANGE).
 * *stats (may be NULL) is set on STATUS_OK. Consumes the request. */
status_t exchange_end(struct exchange_request **request, struct exchange_stats *stats);

#endif
