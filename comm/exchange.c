#include "comm/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "comm/comm_impl.h"
#include "common/memory.h"

/* What one rank serving one peer and another rank serving another peer have in common: images of `part`,
 * which the sender finds at part.begin - its interval's begin, and the receiver likewise. */
struct leg {
    int rank; /* the other one; of the world */
    int from_peer, to_peer;
    int64_t offset, n; /* in this rank's interval of from_peer (a send) or of to_peer (a receive) */
};

struct legs {
    struct leg *items;
    size_t n, capacity;
};

struct exchange_plan {
    struct comm *world;
    int n_peers;
    struct interval *own; /* [n_peers] */
    struct legs sends, receives;
    int64_t n_bytes_sent, n_bytes_received;
    struct exchange_request *spare; /* requests of earlier exchanges */
};

struct exchange_request {
    struct exchange_plan *plan;
    struct comm_request *request;
    struct comm_transfer *transfers; /* [sends.n + receives.n] */
    struct exchange_request *next;
};

static status_t add_leg(struct legs *legs, struct leg leg) {
    if (leg.n == 0) return STATUS_OK;
    CHECK(memory_grow(&legs->items, legs->n, &legs->capacity, sizeof *legs->items), STATUS_NO_MEMORY,
          "no memory for the exchange plan");
    legs->items[legs->n++] = leg;
    return STATUS_OK;
}

static int position(const struct comm_membership *peer, int rank) {
    for (int i = 0; i < peer->n_ranks; i++)
        if (peer->ranks[i] == rank) return i;
    return -1;
}

/* Pairs (from, to) in one order on all ranks, and within a pair ascending ranks: the k-th send of one rank to
 * another then meets the k-th receive there. */
static status_t plan_pair(struct exchange_plan *plan, const struct comm_membership *peers, int from, int to,
                          int64_t n_images) {
    const int rank = comm_rank(plan->world);
    const struct interval mine_from = plan->own[from], mine_to = plan->own[to];
    if (position(&peers[from], rank) >= 0)
        for (int i = 0; i < peers[to].n_ranks; i++) {
            const struct interval part =
                interval_meet(mine_from, interval_part(n_images, i, peers[to].n_ranks));
            TRY(add_leg(&plan->sends, (struct leg){.rank = peers[to].ranks[i],
                                                   .from_peer = from,
                                                   .to_peer = to,
                                                   .offset = part.begin - mine_from.begin,
                                                   .n = interval_length(part)}));
        }
    if (position(&peers[to], rank) >= 0)
        for (int i = 0; i < peers[from].n_ranks; i++) {
            const struct interval part =
                interval_meet(mine_to, interval_part(n_images, i, peers[from].n_ranks));
            TRY(add_leg(&plan->receives, (struct leg){.rank = peers[from].ranks[i],
                                                      .from_peer = from,
                                                      .to_peer = to,
                                                      .offset = part.begin - mine_to.begin,
                                                      .n = interval_length(part)}));
        }
    return STATUS_OK;
}

static int64_t bytes_to_others(const struct legs *legs, int rank) {
    int64_t n = 0;
    for (size_t i = 0; i < legs->n; i++)
        if (legs->items[i].rank != rank) n += legs->items[i].n;
    return n * (int64_t)sizeof(struct pseudo_label);
}

status_t exchange_plan_new(struct comm *world, int n_peers, const struct comm_membership *peers,
                           int64_t n_images, struct exchange_plan **out) {
    status_t status = STATUS_OK;
    const int rank = comm_rank(world);
    struct exchange_plan *plan = memory_zeroed(1, sizeof *plan);
    CHECK(plan, STATUS_NO_MEMORY, "no memory for the exchange plan");
    plan->world = world;
    plan->n_peers = n_peers;
    plan->own = memory_zeroed((size_t)n_peers, sizeof *plan->own);
    CHECK_TO(fail, plan->own, STATUS_NO_MEMORY, "no memory for the exchange plan");
    CHECK_TO(fail, n_images >= 0, STATUS_INTERNAL, "an exchange of %lld images", (long long)n_images);
    for (int p = 0; p < n_peers; p++) {
        CHECK_TO(fail, peers[p].n_ranks >= 1, STATUS_INTERNAL, "peer '%s' has no ranks", peers[p].name);
        const int i = position(&peers[p], rank);
        if (i >= 0) plan->own[p] = interval_part(n_images, i, peers[p].n_ranks);
    }
    for (int from = 0; from < n_peers; from++)
        for (int to = 0; to < n_peers; to++)
            if (from != to) TRY_TO(fail, plan_pair(plan, peers, from, to, n_images));
    plan->n_bytes_sent = bytes_to_others(&plan->sends, rank);
    plan->n_bytes_received = bytes_to_others(&plan->receives, rank);
    *out = plan;
    return STATUS_OK;
fail:
    exchange_plan_free(&plan);
    return status;
}

void exchange_plan_free(struct exchange_plan **handle) {
    struct exchange_plan *plan = *handle;
    if (!plan) return;
    for (struct exchange_request *r = plan->spare, *next; r; r = next) {
        next = r->next;
        free(r->transfers);
        free(r);
    }
    free(plan->sends.items);
    free(plan->receives.items);
    free(plan->own);
    free(plan);
    *handle = NULL;
}

struct interval exchange_interval(const struct exchange_plan *plan, int peer) {
    return plan->own[peer];
}

static status_t request_for(struct exchange_plan *plan, struct exchange_request **out) {
    struct exchange_request *request = plan->spare;
    if (request) {
        plan->spare = request->next;
        *out = request;
        return STATUS_OK;
    }
    request = memory_zeroed(1, sizeof *request);
    struct comm_transfer *transfers = memory_zeroed(plan->sends.n + plan->receives.n, sizeof *transfers);
    if (!request || !transfers) {
        free(request);
        free(transfers);
        return FAIL(STATUS_NO_MEMORY, "no memory for an exchange");
    }
    request->plan = plan;
    request->transfers = transfers;
    *out = request;
    return STATUS_OK;
}

status_t exchange_begin(struct exchange_plan *plan, const struct pseudo_label *const *send,
                        struct pseudo_label *const *receive, struct exchange_request **out) {
    const int n_sends = (int)plan->sends.n, n_receives = (int)plan->receives.n;
    struct exchange_request *request = NULL;
    TRY(request_for(plan, &request));
    struct comm_transfer *t = request->transfers;
    for (int i = 0; i < n_sends; i++) {
        const struct leg *leg = &plan->sends.items[i];
        /* sends do not write: the cast takes away only what comm_transfer cannot express */
        t[i] = (struct comm_transfer){.rank = leg->rank,
                                      .data = (void *)(uintptr_t)(send[leg->from_peer] + leg->offset),
                                      .n_bytes = (size_t)leg->n * sizeof(struct pseudo_label)};
    }
    for (int i = 0; i < n_receives; i++) {
        const struct leg *leg = &plan->receives.items[i];
        t[n_sends + i] = (struct comm_transfer){
            .rank = leg->rank,
            .data = receive[leg->to_peer * plan->n_peers + leg->from_peer] + leg->offset,
            .n_bytes = (size_t)leg->n * sizeof(struct pseudo_label)};
    }
    const status_t status =
        comm_transfer_begin(plan->world, t, n_sends, t + n_sends, n_receives, &request->request);
    if (status != STATUS_OK) {
        request->next = plan->spare;
        plan->spare = request;
        return status;
    }
    *out = request;
    return STATUS_OK;
}

status_t exchange_end(struct exchange_request **handle, struct exchange_stats *stats) {
    struct exchange_request *request = *handle;
    struct exchange_plan *plan = request->plan;
    const status_t status = request_wait_device(&request->request, COMM_FOR_EXCHANGE);
    *handle = NULL;
    request->next = plan->spare;
    plan->spare = request;
    if (status != STATUS_OK) return status_context(status, "exchange of pseudo-labels");
    if (stats)
        *stats = (struct exchange_stats){.n_bytes_sent = plan->n_bytes_sent,
                                         .n_bytes_received = plan->n_bytes_received};
    return STATUS_OK;
}
