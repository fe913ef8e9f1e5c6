#include "launcher/placement.h"

#include "common/memory.h"
#include "models/net.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PEERS = SETTINGS_MAX_PEERS, N_SUBSETS = 1 << SETTINGS_MAX_PEERS };

/* Free ranks of one host while groups are being put on it. */
struct host {
    int index, n_free;
};

/* ---- sizes
 * ------------------------------------------------------------------------------------------------- */

/* Giving the next rank to the peer with the largest cost per rank makes the largest smallest. */
static void share_out(const struct placement_request *q, int n_left, int *sizes) {
    for (; n_left > 0; n_left--) {
        int dearest = -1;
        for (int p = 0; p < q->n_peers; p++) {
            if (q->peers[p].n_ranks > 0) continue;
            if (dearest < 0 || q->peers[p].cost * sizes[dearest] > q->peers[dearest].cost * sizes[p])
                dearest = p;
        }
        sizes[dearest]++;
    }
}

static status_t choose_sizes(const struct placement_request *q, int *sizes) {
    int n_wanted = 0, n_auto = 0;
    for (int p = 0; p < q->n_peers; p++) {
        sizes[p] = q->peers[p].n_ranks > 0 ? q->peers[p].n_ranks : 1;
        n_wanted += q->peers[p].n_ranks;
        n_auto += q->peers[p].n_ranks == 0;
    }
    CHECK(n_wanted <= q->n_ranks, STATUS_USAGE,
          "the peers want %d ranks, but there are %d: start %d, or set their `ranks` to auto", n_wanted,
          q->n_ranks, n_wanted);
    CHECK(n_wanted == 0 || n_wanted + n_auto <= q->n_ranks, STATUS_USAGE,
          "%d of %d ranks are wanted by number, which leaves too few for the %d peers with `ranks: auto`",
          n_wanted, q->n_ranks, n_auto);
    CHECK(
        n_auto > 0 || n_wanted == q->n_ranks, STATUS_USAGE,
        "%d ranks would serve no peer: the peers want %d of %d. Start %d, or set one peer's `ranks` to auto",
        q->n_ranks - n_wanted, n_wanted, q->n_ranks, n_wanted);
    share_out(q, q->n_ranks - n_wanted - n_auto,
              sizes); /* negative with fewer ranks than peers: nothing to share */
    return STATUS_OK;
}

/* ---- hosts
 * ------------------------------------------------------------------------------------------------- */

static int by_free_descending(const void *a, const void *b) {
    const struct host *x = a, *y = b;
    return x->n_free != y->n_free ? y->n_free - x->n_free : x->index - y->index;
}

/* Which sets of groups fit unsplit: bundle[h][mask] is what host h (of the n largest) takes where the set
 * `mask` fits the hosts 0..h, or -1. The n_peers largest hosts are enough: any packing can be moved onto
 * them. */
static void pack(const struct host *hosts, int n_hosts, const int *sums, int n_peers,
                 int bundle[][N_SUBSETS]) {
    for (int h = 0; h < n_hosts; h++)
        for (int mask = 0; mask < 1 << n_peers; mask++) {
            bundle[h][mask] = -1;
            for (int part = mask;; part = (part - 1) & mask) {
                const int rest = mask & ~part;
                if (sums[part] <= hosts[h].n_free && (h == 0 ? rest == 0 : bundle[h - 1][rest] >= 0)) {
                    bundle[h][mask] = part;
                    break;
                }
                if (part == 0) break;
            }
        }
}

/* The set of groups to keep whole: as many as possible, then those with most ranks. */
static int best_mask(const int (*bundle)[N_SUBSETS], int last_host, const int *sums, int n_peers) {
    int best = 0;
    for (int mask = 1; mask < 1 << n_peers; mask++) {
        if (bundle[last_host][mask] < 0) continue;
        const int more = __builtin_popcount((unsigned)mask) - __builtin_popcount((unsigned)best);
        if (more > 0 || (more == 0 && sums[mask] > sums[best])) best = mask;
    }
    return best;
}

/* Take n ranks of a host for a peer: counts[host * n_peers + peer]. */
static void take(struct host *host, int peer, int n, int n_peers, int *counts) {
    host->n_free -= n;
    counts[(size_t)host->index * (size_t)n_peers + (size_t)peer] += n;
}

/* The fullest host where n ranks still fit; NULL: none. */
static struct host *tightest(struct host *hosts, int n_hosts, int n) {
    struct host *best = NULL;
    for (int h = 0; h < n_hosts; h++)
        if (hosts[h].n_free >= n && (!best || hosts[h].n_free < best->n_free)) best = &hosts[h];
    return best;
}

static struct host *emptiest(struct host *hosts, int n_hosts) {
    struct host *best = &hosts[0];
    for (int h = 1; h < n_hosts; h++)
        if (hosts[h].n_free > best->n_free) best = &hosts[h];
    return best;
}

/* Groups kept whole: what shares a host stays together, the largest bundle first onto the tightest untouched
 * host. */
static void place_whole(const struct placement_request *q, struct host *hosts, const int *parts, int n_parts,
                        const int *sizes, const int *sums, int *counts) {
    bool done[MAX_PEERS] = {false};
    struct host *untouched = hosts;
    int n_untouched = q->n_hosts;
    for (int round = 0; round < n_parts; round++) {
        int largest = 0;
        while (done[largest]) largest++;
        for (int i = largest; i < n_parts; i++)
            if (!done[i] && sums[parts[i]] > sums[parts[largest]]) largest = i;
        done[largest] = true;
        if (parts[largest] == 0) continue;
        struct host *host = tightest(untouched, n_untouched, sums[parts[largest]]);
        for (int p = 0; p < q->n_peers; p++)
            if (parts[largest] >> p & 1) take(host, p, sizes[p], q->n_peers, counts);
        const struct host used = *host; /* out of the untouched ones */
        *host = *untouched;
        *untouched++ = used;
        n_untouched--;
    }
}

/* Groups that must be split: whole hosts first, the rest where it fits best. */
static void place_split(const struct placement_request *q, struct host *hosts, int mask, const int *sizes,
                        int *counts) {
    for (;;) {
        int largest = -1;
        for (int p = 0; p < q->n_peers; p++)
            if ((mask >> p & 1) && (largest < 0 || sizes[p] > sizes[largest])) largest = p;
        if (largest < 0) return;
        mask &= ~(1 << largest);
        for (int n = sizes[largest]; n > 0;) {
            struct host *host = tightest(hosts, q->n_hosts, n);
            if (!host) host = emptiest(hosts, q->n_hosts);
            const int part = n < host->n_free ? n : host->n_free;
            take(host, largest, part, q->n_peers, counts);
            n -= part;
        }
    }
}

/* counts[host * n_peers + peer]: ranks of the peer on the host. `hosts` is scratch. */
static status_t spread(const struct placement_request *q, const int *sizes, struct host *hosts, int *counts) {
    int(*bundle)[N_SUBSETS] = malloc(MAX_PEERS * sizeof *bundle);
    CHECK(bundle, STATUS_NO_MEMORY, "out of memory for the placement");
    int sums[N_SUBSETS] = {0}, parts[MAX_PEERS];
    for (int mask = 1; mask < 1 << q->n_peers; mask++) {
        const int low = __builtin_ctz((unsigned)mask);
        sums[mask] = sums[mask & (mask - 1)] + sizes[low];
    }
    for (int h = 0; h < q->n_hosts; h++) hosts[h] = (struct host){.index = h};
    for (int r = 0; r < q->n_ranks; r++) hosts[q->host[r]].n_free++;
    qsort(hosts, (size_t)q->n_hosts, sizeof *hosts, by_free_descending);
    const int n_largest = q->n_hosts < q->n_peers ? q->n_hosts : q->n_peers;
    pack(hosts, n_largest, sums, q->n_peers, bundle);
    const int whole = best_mask((const int(*)[N_SUBSETS])bundle, n_largest - 1, sums, q->n_peers);
    for (int h = n_largest - 1, mask = whole; h >= 0; h--) {
        parts[h] = bundle[h][mask];
        mask &= ~parts[h];
    }
    free(bundle);
    place_whole(q, hosts, parts, n_largest, sizes, sums, counts);
    place_split(q, hosts, ((1 << q->n_peers) - 1) & ~whole, sizes, counts);
    return STATUS_OK;
}

/* ---- ranks
 * ------------------------------------------------------------------------------------------------- */

/* More peers than ranks: the dearest peer left to the rank with the least work. */
static status_t stack_peers(const struct placement_request *q, struct placement *out) {
    double *work = memory_zeroed((size_t)q->n_ranks, sizeof *work);
    CHECK(work, STATUS_NO_MEMORY, "out of memory for the placement");
    bool done[MAX_PEERS] = {false};
    for (int round = 0; round < q->n_peers; round++) {
        int dearest = -1, idlest = 0;
        for (int p = 0; p < q->n_peers; p++)
            if (!done[p] && (dearest < 0 || q->peers[p].cost > q->peers[dearest].cost)) dearest = p;
        for (int r = 1; r < q->n_ranks; r++)
            if (work[r] < work[idlest]) idlest = r;
        done[dearest] = true;
        work[idlest] += q->peers[dearest].cost;
        out->group[dearest][0] = idlest;
    }
    free(work);
    return STATUS_OK;
}

static status_t assign_ranks(const struct placement_request *q, struct placement *out) {
    const size_t n_counts = (size_t)q->n_hosts * (size_t)q->n_peers;
    int *counts = memory_zeroed(n_counts, sizeof *counts);
    struct host *hosts = memory_zeroed((size_t)q->n_hosts, sizeof *hosts);
    status_t status = STATUS_OK;
    CHECK_TO(done, counts && hosts, STATUS_NO_MEMORY, "out of memory for the placement");
    TRY_TO(done, spread(q, out->group_size, hosts, counts));
    int filled[MAX_PEERS] = {0};
    for (int r = 0; r < q->n_ranks; r++) { /* ascending, so the groups are */
        int *here = counts + (size_t)q->host[r] * (size_t)q->n_peers, p = 0;
        while (here[p] == 0) p++;
        here[p]--;
        out->group[p][filled[p]++] = r; // NOLINT(clang-analyzer-core.NullDereference): made by the caller
    }
done:
    free(counts);
    free(hosts);
    return status;
}

static status_t assign_devices(const struct placement_request *q, int *device) {
    int *next = memory_zeroed((size_t)q->n_hosts, sizeof *next);
    CHECK(next, STATUS_NO_MEMORY, "out of memory for the placement");
    status_t status = STATUS_OK;
    for (int r = 0; r < q->n_ranks; r++) {
        const int h = q->host[r], n = q->n_devices ? q->n_devices[h] : 0;
        device[r] = n > 0 ? next[h]++ % n : -1;
    }
    for (int r = 0; r < q->n_ranks && q->n_devices; r++) {
        const int h = q->host[r];
        CHECK_TO(done, q->n_devices[h] > 0, STATUS_USAGE, "rank %d runs on a host without a GPU", r);
        CHECK_TO(done, next[h] <= q->n_devices[h] || q->share_devices, STATUS_USAGE,
                 "rank %d: its host has %d ranks but %d GPUs; start one rank a GPU (--gpus-per-node %d "
                 "--ntasks-per-node %d)",
                 r, next[h], q->n_devices[h], q->n_devices[h], q->n_devices[h]);
    }
done:
    free(next);
    return status;
}

static status_t check_request(const struct placement_request *q) {
    CHECK(q->n_peers >= 1 && q->n_peers <= MAX_PEERS && q->n_ranks >= 1 && q->n_hosts >= 1, STATUS_INTERNAL,
          "placement of %d peers on %d ranks of %d hosts", q->n_peers, q->n_ranks, q->n_hosts);
    for (int p = 0; p < q->n_peers; p++)
        CHECK(q->peers[p].cost > 0 && q->peers[p].n_ranks >= 0, STATUS_INTERNAL,
              "placement: peer %s costs %g", q->peers[p].name, q->peers[p].cost);
    for (int r = 0; r < q->n_ranks; r++)
        CHECK(q->host[r] >= 0 && q->host[r] < q->n_hosts, STATUS_INTERNAL, "placement: rank %d on host %d", r,
              q->host[r]);
    return STATUS_OK;
}

status_t placement_make(const struct placement_request *q, struct placement *out) {
    struct placement p = {.n_peers = q->n_peers, .n_ranks = q->n_ranks};
    status_t status;
    TRY(check_request(q));
    TRY(choose_sizes(q, p.group_size));
    p.device = memory_zeroed((size_t)q->n_ranks, sizeof *p.device);
    CHECK_TO(fail, p.device, STATUS_NO_MEMORY, "out of memory for the placement");
    for (int i = 0; i < q->n_peers; i++) {
        p.group[i] = memory_zeroed((size_t)p.group_size[i], sizeof *p.group[i]);
        CHECK_TO(fail, p.group[i], STATUS_NO_MEMORY, "out of memory for the placement");
    }
    TRY_TO(fail, q->n_ranks < q->n_peers ? stack_peers(q, &p) : assign_ranks(q, &p));
    TRY_TO(fail, assign_devices(q, p.device));
    *out = p;
    return STATUS_OK;
fail:
    placement_free(&p);
    return status;
}

void placement_free(struct placement *placement) {
    if (!placement) return;
    for (int p = 0; p < MAX_PEERS; p++) free(placement->group[p]);
    free(placement->device);
    memset(placement, 0, sizeof *placement);
}

int placement_index(const struct placement *placement, int peer, int rank) {
    for (int i = 0; i < placement->group_size[peer]; i++)
        if (placement->group[peer][i] == rank) return i;
    return -1;
}

status_t placement_cost(const struct peer_settings *peer, double *cost) {
    struct model_cost model;
    const int32_t side = (int32_t)peer->image;
    TRY(model_cost(&peer->model.spec, 1, side, side, DTYPE_F32, &model));
    *cost = (double)(model.macs > 0 ? model.macs : 1);
    return STATUS_OK;
}

status_t placement_peers(const struct settings *settings, struct placement_request *request) {
    request->n_peers = settings->n_peers;
    for (int p = 0; p < settings->n_peers; p++) {
        const struct peer_settings *peer = &settings->peers[p];
        double cost = 1;
        const status_t status = placement_cost(peer, &cost);
        if (status != STATUS_OK) return status_context(status, "peer %s", peer->name);
        request->peers[p] =
            (struct placement_peer){.name = peer->name, .cost = cost, .n_ranks = (int)peer->ranks};
    }
    return STATUS_OK;
}
