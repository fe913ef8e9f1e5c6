#define DEVICE_COMM_ITSELF
#include "tests/support/device_comm.h"

#include "comm/comm_impl.h"
#include "common/memory.h"
#include "tests/support/cuda_twin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A buffer of the host and its copy on the device, for an operation under way. */
struct mirror {
    struct mirror *next;
    const void *owner; /* the request, buckets, ... */
    void *host, *device;
    size_t n_bytes, capacity;
    bool back; /* copied back at the end */
};

static const struct cuda_plugin *plugin;
static struct backend *be;
static struct mirror *used, *spare;
static const char pending; /* owner while an operation is being begun */
static unsigned n_waits;

static struct {
    int n_peers;
    const struct exchange_plan *plan;
} plans[8];
static int n_plans;

/* ---- start and end ---- */

status_t device_start(int *argc, char ***argv, struct comm **world) {
    plugin = cuda_twin();
    if (!plugin) {
        puts("the GPU plugin's twin was not built");
        exit(77);
    }
    TRY(comm_start(argc, argv, world));
    cuda_twin_seed(16 * comm_size(*world) +
                   comm_rank(*world)); /* every rank and every number of ranks its own order */
    TRY(plugin->backend_open(0, false, &be));
    return plugin->comm_open(*world, be);
}

static void release_all(struct mirror *m) {
    while (m) {
        struct mirror *next = m->next;
        plugin->ops->release(be, m->device);
        free(m);
        m = next;
    }
}

status_t device_finish(struct comm **world) {
    const struct comm_family *family = (*world)->family;
    const bool failed = family->failure != STATUS_OK || family->agreed;
    while (!failed && (*world)->family->groups) {
        struct comm *group = (*world)->family->groups;
        comm_free(&group);
    }
    TRY(plugin->comm_close(*world, be, failed));
    release_all(used);
    release_all(spare);
    used = spare = NULL;
    plugin->backend_close(be);
    return comm_finish(world);
}

/* ---- mirrors ---- */

static status_t mirror_new(const void *host, size_t n_bytes, bool back, void **device) {
    struct mirror **link = &spare, *m;
    *device = (void *)(uintptr_t)host;
    if (!host || n_bytes == 0) return STATUS_OK;
    while (*link && (*link)->capacity < n_bytes) link = &(*link)->next;
    m = *link;
    if (m) {
        *link = m->next;
    } else {
        m = memory_zeroed(1, sizeof *m);
        CHECK(m, STATUS_NO_MEMORY, "no memory");
        m->capacity = n_bytes;
        TRY(plugin->ops->alloc(be, n_bytes, &m->device));
    }
    m->owner = &pending;
    m->host = (void *)(uintptr_t)host;
    m->n_bytes = n_bytes;
    m->back = back;
    m->next = used;
    used = m;
    *device = m->device;
    return plugin->ops->copy_in(be, m->device, host, n_bytes);
}

static void adopt(const void *owner) {
    for (struct mirror *m = used; m; m = m->next)
        if (m->owner == &pending) m->owner = owner;
}

/* Copy back what belongs to `owner`, and let it go. */
static status_t settle(const void *owner) {
    for (struct mirror **link = &used; *link;) {
        struct mirror *m = *link;
        if (m->owner != owner) {
            link = &m->next;
            continue;
        }
        if (m->back) TRY(plugin->ops->copy_out(be, m->host, m->device, m->n_bytes));
        *link = m->next;
        m->next = spare;
        spare = m;
    }
    return STATUS_OK;
}

static status_t begun(status_t status, struct comm_request *const *request) {
    if (status != STATUS_OK) return status;
    if (!*request) return settle(&pending); /* nothing to wait for */
    adopt(*request);
    return STATUS_OK;
}

static size_t bytes_of(int64_t n_elem, enum comm_type type) {
    return n_elem > 0 ? (size_t)n_elem * comm_type_bytes(type) : 0;
}

status_t device_wait(struct comm_request **request) {
    const void *owner = *request;
    TRY(n_waits++ % 2 ? comm_wait(request) : comm_wait_device(request));
    return owner ? settle(owner) : STATUS_OK;
}

status_t device_test(struct comm_request **request, bool *done) {
    const void *owner = *request;
    TRY(comm_test(request, done));
    return *done && owner ? settle(owner) : STATUS_OK;
}

/* ---- operations ---- */

status_t device_all_reduce_begin(struct comm *comm, void *data, int64_t n_elem, enum comm_type type,
                                 enum comm_op op, struct comm_request **request) {
    void *device;
    TRY(mirror_new(data, bytes_of(n_elem, type), true, &device));
    return begun(comm_all_reduce_begin(comm, device, n_elem, type, op, request), request);
}

status_t device_reduce_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                             enum comm_op op, struct comm_request **request) {
    void *device;
    TRY(mirror_new(data, bytes_of(n_elem, type), true, &device));
    return begun(comm_reduce_begin(comm, root, device, n_elem, type, op, request), request);
}

status_t device_all_gather_begin(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                                 struct comm_request **request) {
    void *device;
    TRY(mirror_new(data, bytes_of(offsets[comm_size(comm)], type), true, &device));
    return begun(comm_all_gather_begin(comm, device, offsets, type, request), request);
}

status_t device_broadcast_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                                struct comm_request **request) {
    void *device;
    TRY(mirror_new(data, bytes_of(n_elem, type), true, &device));
    return begun(comm_broadcast_begin(comm, root, device, n_elem, type, request), request);
}

status_t device_transfer_begin(struct comm *comm, const struct comm_transfer *sends, int n_sends,
                               const struct comm_transfer *receives, int n_receives,
                               struct comm_request **request) {
    struct comm_transfer all[64];
    CHECK(n_sends + n_receives <= 64, STATUS_INTERNAL, "too many transfers for a test");
    for (int i = 0; i < n_sends + n_receives; i++) {
        const bool receive = i >= n_sends;
        all[i] = receive ? receives[i - n_sends] : sends[i];
        TRY(mirror_new(all[i].data, all[i].n_bytes, receive, &all[i].data));
    }
    return begun(comm_transfer_begin(comm, all, n_sends, all + n_sends, n_receives, request), request);
}

status_t device_all_reduce(struct comm *comm, void *data, int64_t n_elem, enum comm_type type,
                           enum comm_op op) {
    struct comm_request *request = NULL;
    TRY(device_all_reduce_begin(comm, data, n_elem, type, op, &request));
    return device_wait(&request);
}

status_t device_reduce_scatter(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                               enum comm_op op) {
    struct comm_request *request = NULL;
    void *device;
    TRY(mirror_new(data, bytes_of(offsets[comm_size(comm)], type), true, &device));
    TRY(begun(comm_reduce_scatter_begin(comm, device, offsets, type, op, &request), &request));
    return device_wait(&request);
}

status_t device_all_gather(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type) {
    struct comm_request *request = NULL;
    TRY(device_all_gather_begin(comm, data, offsets, type, &request));
    return device_wait(&request);
}

status_t device_broadcast(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type) {
    struct comm_request *request = NULL;
    TRY(device_broadcast_begin(comm, root, data, n_elem, type, &request));
    return device_wait(&request);
}

status_t device_gather(struct comm *comm, int root, const void *part, void *whole, const int64_t *offsets,
                       enum comm_type type) {
    struct comm_request *request = NULL;
    void *from, *to;
    const int rank = comm_rank(comm);
    TRY(mirror_new(part, bytes_of(offsets[rank + 1] - offsets[rank], type), false, &from));
    TRY(mirror_new(whole, bytes_of(offsets[comm_size(comm)], type), true, &to));
    TRY(begun(comm_gather_begin(comm, root, from, to, offsets, type, &request), &request));
    return device_wait(&request);
}

/* ---- exchange ---- */

status_t device_exchange_plan_new(struct comm *world, int n_peers, const struct comm_membership *peers,
                                  int64_t n_images, struct exchange_plan **plan) {
    TRY(exchange_plan_new(world, n_peers, peers, n_images, plan));
    const int slot = n_plans++ % 8;
    for (int i = 0; i < 8; i++)
        if (plans[i].plan == *plan) plans[i].plan = NULL; /* of one that was freed */
    plans[slot].plan = *plan;
    plans[slot].n_peers = n_peers;
    return STATUS_OK;
}

status_t device_exchange_begin(struct exchange_plan *plan, const struct pseudo_label *const *send,
                               struct pseudo_label *const *receive, struct exchange_request **request) {
    const struct pseudo_label *from[8] = {NULL};
    struct pseudo_label *to[64] = {NULL};
    int n = 0;
    for (int i = 0; i < 8; i++)
        if (plans[i].plan == plan) n = plans[i].n_peers;
    for (int p = 0; p < n; p++) {
        const size_t n_bytes = (size_t)interval_length(exchange_interval(plan, p)) * sizeof **send;
        void *device;
        TRY(mirror_new(send[p], n_bytes, false, &device));
        from[p] = device;
        for (int q = 0; q < n; q++) {
            TRY(mirror_new(receive[p * n + q], n_bytes, true, &device));
            to[p * n + q] = device;
        }
    }
    TRY(exchange_begin(plan, from, to, request));
    adopt(*request);
    return STATUS_OK;
}

status_t device_exchange_end(struct exchange_request **request, struct exchange_stats *stats) {
    const void *owner = *request;
    TRY(exchange_end(request, stats));
    const status_t status = settle(owner); /* what is late shows here */
    return status == STATUS_OK ? status : status_context(status, "exchange of pseudo-labels");
}

/* ---- buckets: the gradients' mirror stays as long as they ---- */

static struct mirror *find(const void *owner) {
    struct mirror *m = used;
    while (m && m->owner != owner) m = m->next;
    return m;
}

status_t device_buckets_new(struct comm *group, float *gradients, int64_t n_elem,
                            const struct bucket_segment *segments, int n_segments, size_t bucket_bytes,
                            bool sharded, struct buckets **buckets) {
    void *device;
    TRY(mirror_new(gradients, (size_t)n_elem * sizeof *gradients, false, &device));
    const status_t status =
        buckets_new(group, device, n_elem, segments, n_segments, bucket_bytes, sharded, buckets);
    if (status == STATUS_OK)
        adopt(*buckets);
    else
        (void)settle(&pending);
    return status;
}

void device_buckets_free(struct buckets **buckets) {
    if (*buckets) (void)settle(*buckets);
    buckets_free(buckets);
}

status_t device_buckets_begin_step(struct buckets *buckets) {
    const struct mirror *m = find(buckets);
    TRY(buckets_begin_step(buckets));
    return plugin->ops->copy_in(be, m->device, m->host, m->n_bytes);
}

status_t device_buckets_wait(struct buckets *buckets, struct buckets_stats *stats) {
    const struct mirror *m = find(buckets);
    TRY(buckets_wait(buckets, stats));
    return plugin->ops->copy_out(be, m->host, m->device, m->n_bytes);
}

status_t device_buckets_gather(struct buckets *buckets, float *parameters) {
    void *device;
    TRY(mirror_new(parameters, find(buckets)->n_bytes, true, &device));
    TRY(buckets_gather_parameters(buckets, device));
    return settle(&pending);
}
