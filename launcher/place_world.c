#include "launcher/place_world.h"

#include "launcher/topology.h"

#include "comm/comm.h"
#include "common/interval.h"
#include "common/log.h"
#include "common/memory.h"

#include <stdlib.h>
#include <string.h>

/* A GPU for each rank of this host; else the reason. */
static bool find_gpus(const struct launch_context *context, int *n_here, char *reason, size_t n_bytes) {
    enum device_choice found;
    char why[512];
    if (topology_n_gpus() == 0) { /* no need to load any library */
        snprintf(reason, n_bytes, "this host has no GPU");
        return false;
    }
    if (device_settle(DEVICE_AUTO, &found, n_here, why, sizeof why) != STATUS_OK || found == DEVICE_CPU) {
        snprintf(reason, n_bytes, "%.*s", (int)strcspn(why, ";"),
                 why); /* behind it: the remedy for device=cuda */
        return false;
    }
    snprintf(reason, n_bytes, "%d ranks on a host with %d GPU%s", context->n_local_ranks, *n_here,
             *n_here == 1 ? "" : "s");
    return *n_here >= context->n_local_ranks;
}

status_t place_devices(struct launch_context *context, const struct settings *settings, struct devices *out) {
    struct devices d = {.choice = settings->device, .shared = settings->device == DEVICE_CUDA_EMULATED};
    char reason[600];
    if (settings->device != DEVICE_AUTO) {
        TRY(device_settle(settings->device, &d.choice, &d.n_here, reason, sizeof reason));
        *out = d;
        return STATUS_OK;
    }
    const bool own = find_gpus(context, &d.n_here, reason, sizeof reason);
    bool any_without = !own;
    if (context->world) TRY(comm_any(context->world, any_without, &any_without));
    d.choice = any_without ? DEVICE_CPU : DEVICE_CUDA;
    if (any_without) {
        d.n_here = 0;
        log_global(LOG_INFO, "device auto: the CPU (%s)",
                   own ? "another host has no GPU for each of its ranks" : reason);
    }
    *out = d;
    return STATUS_OK;
}

/* host[r] and n_devices[h] of the world; both have room for n_ranks. */
static status_t gather_hosts(struct launch_context *context, const struct devices *devices,
                             struct placement_request *q, int *host, int32_t *n_devices) {
    q->n_ranks = context->n_ranks;
    q->n_hosts = 1;
    for (int r = 0; r < q->n_ranks; r++) {
        host[r] = context->world ? comm_node(context->world, r) : 0;
        if (host[r] >= q->n_hosts) q->n_hosts = host[r] + 1;
    }
    n_devices[host[context->rank]] = devices->n_here;
    if (context->world)
        TRY(comm_all_reduce(comm_host_side(context->world), n_devices, q->n_hosts, COMM_I32, COMM_MAX));
    q->host = host;
    q->n_devices = devices->n_here > 0 ? n_devices : NULL;
    q->share_devices = devices->shared;
    return STATUS_OK;
}

status_t place_world(struct launch_context *context, const struct settings *settings,
                     const struct devices *devices, struct placement *out) {
    struct placement_request request = {.n_peers = 0};
    int *host = memory_zeroed((size_t)context->n_ranks, sizeof *host);
    int32_t *n_devices = memory_zeroed((size_t)context->n_ranks, sizeof *n_devices);
    status_t status = STATUS_OK;
    CHECK_TO(done, host && n_devices, STATUS_NO_MEMORY, "out of memory for the placement");
    TRY_TO(done, placement_peers(settings, &request));
    TRY_TO(done, gather_hosts(context, devices, &request, host, n_devices));
    status = placement_make(&request, out);
done:
    free(host);
    free(n_devices);
    return status;
}

void placement_print_head(FILE *out) {
    fprintf(out, "%5s  %-16s %-14s %-5s %-28s %s\n", "rank", "host", "runs on", "NUMA",
            "peer (part of its group)", "images a step");
}

/* "convnext 2/5, swin 1/1" and the images of the global batch that fall on the rank. */
void placement_print_rank(const struct settings *settings, const struct placement *placement, int rank,
                          const char *host, const char *where, const char *numa, FILE *out) {
    const struct batch_settings *b = &settings->cotrain.batch;
    const int64_t batch[] = {b->source, b->labelled, b->unlabelled,
                             b->unlabelled}; /* the last two: own and strong view */
    char peers[256] = "";
    int64_t n_images = 0;
    size_t n = 0;
    for (int p = 0; p < placement->n_peers; p++) {
        const int index = placement_index(placement, p, rank), size = placement->group_size[p];
        if (index < 0 || n >= sizeof peers) continue;
        n += (size_t)snprintf(peers + n, sizeof peers - n, "%s%s %d/%d", n ? ", " : "",
                              settings->peers[p].name, index + 1, size);
        for (size_t i = 0; i < ARRAY_LENGTH(batch); i++)
            n_images += interval_length(interval_part(batch[i], index, size));
    }
    fprintf(out, "%5d  %-16.16s %-14s %-5s %-28s %lld\n", rank, host, where, numa, peers,
            (long long)n_images);
}

status_t placement_print_peers(const struct settings *settings, const struct placement *placement,
                               FILE *out) {
    fprintf(out, "\n%-16s %-32s %6s %6s %12s %12s\n", "peer", "model", "image", "ranks", "GMAC/image",
            "GMAC/rank");
    for (int p = 0; p < placement->n_peers; p++) {
        const struct peer_settings *peer = &settings->peers[p];
        static const char *const families[] = {"own shape (convnext)", "own shape (swin)",
                                               "own shape (mobilenetv2)"};
        double cost;
        TRY(placement_cost(peer, &cost));
        fprintf(out, "%-16s %-32.32s %6lld %6d %12.4g %12.4g\n", peer->name,
                peer->model.preset[0] ? peer->model.preset : families[peer->model.family],
                (long long)peer->image, placement->group_size[p], cost / 1e9,
                cost / 1e9 / placement->group_size[p]);
    }
    return STATUS_OK;
}

/* What a rank tells of itself: three texts, each with its NUL. */
struct self_portrait {
    char where[48], numa[24];
};

status_t place_world_print(struct launch_context *context, const struct settings *settings,
                           const struct placement *placement, FILE *out) {
    struct topology topology;
    TRY(topology_find(&topology));
    struct self_portrait self = {.numa = ""};
    const int device = placement->device[context->rank];
    if (device >= 0)
        snprintf(self.where, sizeof self.where, "GPU %d", device);
    else
        snprintf(self.where, sizeof self.where, "core%s %.40s", topology.n_cores > 1 ? "s" : "",
                 topology.cores);
    snprintf(self.numa, sizeof self.numa, "%s", topology.numa);
    const int n = context->n_ranks;
    struct self_portrait *all = memory_zeroed((size_t)n, sizeof *all);
    int64_t *offsets = memory_zeroed((size_t)n + 1, sizeof *offsets);
    status_t status = STATUS_OK;
    CHECK_TO(done, all && offsets, STATUS_NO_MEMORY, "out of memory for the placement");
    for (int r = 0; r <= n; r++) offsets[r] = r * (int64_t)sizeof self;
    all[0] = self;
    if (context->world)
        TRY_TO(done, comm_gather(comm_host_side(context->world), 0, &self, all, offsets, COMM_U8));
    if (context->rank == 0) {
        placement_print_head(out);
        for (int r = 0; r < n; r++)
            placement_print_rank(settings, placement, r,
                                 context->world ? comm_hostname(context->world, r) : context->host,
                                 all[r].where, all[r].numa, out);
        TRY_TO(done, placement_print_peers(settings, placement, out));
        fflush(out);
    }
done:
    free(all);
    free(offsets);
    return status;
}
