/* comm_ops over NCCL: communicators, waits and failures. */
#include "comm/cuda/nccl_impl.h"

#include "comm/control.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define WORLD_MAX_CTAS 2  /* the exchange is small, and its kernel spins until the slowest peer arrives */
#define WARM_MAX_RANKS 64 /* in larger worlds pairs of ranks connect when they first exchange */
#define ABORT_LIMIT_S  10.0

/* After a failure everything stays where it is until the process ends: NCCL may still use it. */
static struct nccl_world *kept;

/* ---- failures and waits ---- */

/* NCCL's own words, as the family's failure. */
static status_t fail_nccl(struct comm *comm, const char *what, ncclResult_t result) {
    struct comm_family *family = comm->family;
    const struct nccl_comm *c = comm->device;
    char self[128], where[64];
    const status_t status =
        FAIL(STATUS_INTERNAL, "%s: %s of group '%s'%s: NCCL: %s (%.300s)",
             family_rank_text(family, family->world->world_ranks[family->world->rank], self, sizeof self),
             what, comm->name, family_where_text(family, where, sizeof where), ncclGetErrorString(result),
             ncclGetLastError(c->nccl));
    family_fail(family, status, true, status_message());
    return status;
}

/* The others' failures, once COMM_LOOK_S. */
static status_t look_at_others(struct comm *comm, const char *what, double *next_look_s) {
    struct comm_family *family = comm->family;
    const double now_s = clock_now_s();
    if (now_s < *next_look_s) return STATUS_OK;
    *next_look_s = now_s + COMM_LOOK_S;
    struct comm_request doing = {.comm = comm, .what = what};
    const struct comm_request *before = family->waiting;
    if (!before) family->waiting = &doing; /* what this rank says when asked */
    control_poll(family);
    family->waiting = before;
    return family_check(family, true);
}

/* A deadline passed outside a wait of comm.h: the others are asked as if it had been in one. */
static status_t timed_out(struct comm *comm, const char *what) {
    struct comm_family *family = comm->family;
    struct comm_request doing = {.comm = comm, .what = what};
    const struct comm_request *before = family->waiting;
    family->waiting = &doing;
    const status_t status = request_timed_out(&doing);
    family->waiting = before;
    return status;
}

status_t nccl_settle(struct comm *comm, const char *what, ncclResult_t result) {
    const struct nccl_comm *c = comm->device;
    const double begin_s = clock_now_s();
    double next_look_s = begin_s + COMM_LOOK_S;
    if (!c->nccl) return STATUS_OK;
    while (result == ncclSuccess || result == ncclInProgress) {
        ncclResult_t state = ncclSuccess;
        result = NCCL_CALL(comm, what, ncclCommGetAsyncError(c->nccl, &state));
        if (result == ncclSuccess) result = state;
        if (result == ncclSuccess) return STATUS_OK;
        if (result != ncclInProgress) break;
        TRY(look_at_others(comm, what, &next_look_s));
        if (clock_now_s() > begin_s + comm->family->deadline_s) return timed_out(comm, what);
        sched_yield();
    }
    return fail_nccl(comm, what, result);
}

void nccl_abort(struct comm *world) {
    struct nccl_comm *c = world->device;
    if (!c || c->w->aborted) return;
    struct nccl_world *w = c->w;
    w->aborted = true;
    for (c = w->comms; c; c = c->next)
        if (c->nccl) {
            watch_enter("abort", c->comm->name, ABORT_LIMIT_S);
            watch_leave(ncclCommAbort(c->nccl));
        }
}

/* Errors that arose since a call was taken in. */
static status_t check_async(struct nccl_world *w) {
    for (struct nccl_comm *c = w->comms; c; c = c->next) {
        ncclResult_t state = ncclSuccess;
        if (!c->nccl) continue;
        const ncclResult_t result = NCCL_CALL(c->comm, "look", ncclCommGetAsyncError(c->nccl, &state));
        if (result != ncclSuccess) return fail_nccl(c->comm, "look", result);
        if (state != ncclSuccess && state != ncclInProgress) {
            const struct queued *first = w->queue.first;
            return first ? fail_nccl(first->comm, first->what, state)
                         : fail_nccl(c->comm, "operation", state);
        }
    }
    return STATUS_OK;
}

static status_t check_overdue(struct nccl_world *w) {
    const struct queue *q = &w->queue;
    if (!q->first || q->running_since_s == 0) return STATUS_OK;
    if (clock_now_s() < q->running_since_s + q->first->comm->family->deadline_s) return STATUS_OK;
    return timed_out(q->first->comm, q->first->what);
}

static status_t look(struct nccl_world *w) {
    struct comm_family *family = w->world->family;
    const struct queued *first = w->queue.first;
    TRY(family_check(family, true));
    CHECK(!w->aborted, STATUS_INTERNAL, "the communication between GPUs has been ended");
    TRY(queue_reap(&w->queue));
    const double before_s = w->last_look_s;
    TRY(look_at_others(first ? first->comm : w->world, first ? first->what : "look", &w->last_look_s));
    if (w->last_look_s == before_s) return STATUS_OK;
    TRY(check_async(w));
    return check_overdue(w);
}

status_t nccl_look(void *context) {
    struct comm *world = context;
    struct nccl_comm *c = world->device;
    if (!c) return STATUS_OK;
    const status_t status = look(c->w);
    if (status != STATUS_OK) nccl_abort(world);
    return status;
}

static void poke(struct comm *world) {
    struct nccl_comm *c = world->device;
    if (!c || c->w->aborted) return;
    status_t status = queue_reap(&c->w->queue);
    if (status == STATUS_OK) status = check_async(c->w);
    if (status != STATUS_OK) family_fail(world->family, status, true, status_message());
}

/* ---- requests ---- */

static status_t test(struct comm_request *request, bool *done) {
    struct nccl_world *w = ((struct nccl_comm *)request->comm->device)->w;
    struct queued *operation = request->device;
    TRY(family_check(request->comm->family, true));
    CHECK(!w->aborted, STATUS_INTERNAL, "%s: the communication between GPUs has been ended", request->what);
    TRY(queue_reap(&w->queue));
    *done = operation->done;
    if (*done) queue_let_go(&w->queue, operation);
    return STATUS_OK;
}

static status_t order_device(struct comm_request *request, enum comm_purpose purpose) {
    struct nccl_world *w = ((struct nccl_comm *)request->comm->device)->w;
    struct queued *operation = request->device;
    TRY(family_check(request->comm->family, true));
    TRY(queue_order_compute(&w->queue, operation, purpose));
    queue_let_go(&w->queue, operation);
    return STATUS_OK;
}

static int missing(struct comm_request *request, int *ranks, int capacity) {
    (void)request;
    (void)ranks;
    (void)capacity;
    return -1;
}

/* ---- communicators ---- */

static status_t device_comm_new(struct nccl_world *w, struct comm *comm, struct nccl_comm **out) {
    struct nccl_comm *c = memory_zeroed(1, sizeof *c);
    CHECK(c, STATUS_NO_MEMORY, "no memory for the communicator of group '%s'", comm->name);
    c->w = w;
    c->comm = comm;
    c->host = *comm;
    c->host.ops = &comm_ops_mpi;
    c->host.host = &c->host;
    c->host.next = NULL;
    c->host.device = NULL;
    c->next = w->comms;
    w->comms = c;
    *out = c;
    return STATUS_OK;
}

static void device_comm_free(struct nccl_comm *c) {
    queue_forget(&c->w->queue, c->comm);
    struct nccl_comm **link = &c->w->comms;
    while (*link != c) link = &(*link)->next;
    *link = c->next;
    c->comm->device = NULL;
    c->comm->host = c->comm;
    free(c);
}

static ncclConfig_t configuration(const struct comm *comm) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.splitShare = 0; /* shared resources would let one abort break the family */
    config.commName = comm->name;
    return config;
}

/* NCCL connects when it is first used: here, under the deadline of the start, not in the first step. */
static status_t warm_collectives(struct comm *comm) {
    struct nccl_comm *c = comm->device;
    struct comm_request *request;
    if (comm->size == 1) return STATUS_OK;
    TRY(comm_all_reduce_begin(comm, c->w->words, 2, COMM_F32, COMM_SUM, &request));
    return comm_wait(&request);
}

static status_t warm_transfers(struct comm *world) {
    struct nccl_comm *c = world->device;
    const int size = world->size;
    struct comm_request *request = NULL;
    if (size == 1 || size > WARM_MAX_RANKS) return STATUS_OK;
    struct comm_transfer *transfers = memory_zeroed(2 * (size_t)size, sizeof *transfers);
    CHECK(transfers, STATUS_NO_MEMORY, "no memory for a transfer between %d ranks", size);
    for (int i = 0; i < 2 * size; i++)
        transfers[i] = (struct comm_transfer){
            .rank = i % size, .data = (char *)c->w->words + 8 * (size_t)i, .n_bytes = 8};
    const status_t status = comm_transfer_begin(world, transfers, size, transfers + size, size, &request);
    free(transfers);
    TRY(status);
    return comm_wait(&request);
}

static status_t split(struct comm *world, const struct comm_membership *membership, struct comm *group) {
    struct nccl_comm *parent = world->device, *child = NULL;
    ncclComm_t made = NULL;
    if (group) {
        TRY(device_comm_new(parent->w, group, &child));
        group->device = child;
        group->host = &child->host;
    }
    TRY(comm_ops_mpi.split(&parent->host, membership, child ? &child->host : NULL));
    if (membership->n_ranks == 1) return STATUS_OK;
    ncclConfig_t config = configuration(group ? group : world);
    const ncclResult_t result =
        NCCL_CALL(world, "split",
                  ncclCommSplit(parent->nccl, group ? 0 : NCCL_SPLIT_NOCOLOR, world->rank, &made, &config));
    TRY(nccl_settle(world, "split", result)); /* NCCL writes `made` by then */
    if (!child) return STATUS_OK;
    child->nccl = made;
    TRY(nccl_settle(group, "split", ncclSuccess));
    return warm_collectives(group);
}

static status_t drain(struct nccl_world *w) {
    const double end_s = clock_now_s() + w->world->family->deadline_s;
    for (;;) {
        TRY(look(w));
        if (!w->queue.first) return STATUS_OK;
        CHECK(clock_now_s() < end_s, STATUS_TIMEOUT, "%s of group '%s' is not done after %g s",
              w->queue.first->what, w->queue.first->comm->name, w->world->family->deadline_s);
        sched_yield();
    }
}

static status_t destroy(struct nccl_comm *c) {
    TRY(drain(c->w)); /* what is queued refers to the communicator */
    if (!c->nccl) return STATUS_OK;
    TRY(nccl_settle(c->comm, "finalize", NCCL_CALL(c->comm, "finalize", ncclCommFinalize(c->nccl))));
    const ncclResult_t result = NCCL_CALL(c->comm, "destroy", ncclCommDestroy(c->nccl));
    c->nccl = NULL;
    CHECK(result == ncclSuccess, STATUS_INTERNAL, "group '%s': ncclCommDestroy: %s", c->comm->name,
          ncclGetErrorString(result));
    return STATUS_OK;
}

/* In order, of the world's part: afterwards it is what it was before nccl_open(). */
static status_t close_world(struct comm *world) {
    struct nccl_comm *c = world->device;
    struct nccl_world *w = c->w;
    CHECK(w->comms == c && !c->next, STATUS_INTERNAL, "groups are left while the GPUs' world is closed");
    TRY(destroy(c));
    watch_stop();
    queue_close(&w->queue);
    TRY_CUDA(cudaFree(w->words));
    world->ops = &comm_ops_mpi;
    device_comm_free(c);
    free(w);
    kept = NULL;
    return STATUS_OK;
}

static void free_comm(struct comm *comm) {
    struct nccl_comm *c = comm->device;
    if (c->w->aborted) return; /* stays until the process ends */
    const bool is_world = comm == comm->family->world;
    const status_t status = is_world ? close_world(comm) : destroy(c);
    if (status != STATUS_OK) {
        log_local(LOG_WARNING, "%s", status_message());
        nccl_abort(comm->family->world);
        return;
    }
    if (is_world) {
        comm_ops_mpi.free(comm);
    } else {
        comm_ops_mpi.free(&c->host);
        device_comm_free(c);
    }
}

const struct comm_ops comm_ops_nccl = {
    .name = "nccl",
    .all_reduce_begin = nccl_all_reduce_begin,
    .reduce_begin = nccl_reduce_begin,
    .reduce_scatter_begin = nccl_reduce_scatter_begin,
    .all_gather_begin = nccl_all_gather_begin,
    .broadcast_begin = nccl_broadcast_begin,
    .transfer_begin = nccl_transfer_begin,
    .barrier_begin = nccl_barrier_begin,
    .test = test,
    .order_device = order_device,
    .missing = missing,
    .split = split,
    .free = free_comm,
    .poke = poke,
    .abort = nccl_abort,
};

/* ---- open and close ---- */

static status_t connect(struct nccl_comm *c) {
    static ncclUniqueId id; /* MPI may still write to it after a failure */
    struct comm *world = c->comm;
    ncclResult_t result = ncclSuccess;
    if (world->rank == 0) result = NCCL_CALL(world, "unique id", ncclGetUniqueId(&id));
    CHECK(result == ncclSuccess, STATUS_INTERNAL, "NCCL makes no identity: %s (%.300s)",
          ncclGetErrorString(result), ncclGetLastError(NULL));
    TRY(comm_broadcast(&c->host, 0, &id, sizeof id, COMM_U8));
    ncclConfig_t config = configuration(world);
    config.minCTAs = 1;
    config.maxCTAs = WORLD_MAX_CTAS;
    result =
        NCCL_CALL(world, "start", ncclCommInitRankConfig(&c->nccl, world->size, id, world->rank, &config));
    if (!c->nccl) return fail_nccl(world, "start", result);
    return nccl_settle(world, "start", result);
}

static status_t open_world(struct nccl_world *w, struct comm *world, int device, cudaStream_t compute) {
    struct nccl_comm *c;
    const size_t n_bytes = 16 * (size_t)world->size;
    TRY_CUDA(cudaSetDevice(device));
    TRY(device_comm_new(w, world, &c));
    world->device = c;
    world->host = &c->host;
    world->ops = &comm_ops_nccl;
    TRY(queue_open(&w->queue, compute));
    TRY_CUDA(cudaMalloc(&w->words, n_bytes));
    TRY_CUDA(cudaMemsetAsync(w->words, 0, n_bytes, compute));
    if (world->size == 1) return STATUS_OK;
    TRY(watch_start(world->family));
    TRY(connect(c));
    TRY(warm_transfers(world));
    return warm_collectives(world);
}

status_t nccl_open(struct comm *world, int device, cudaStream_t compute) {
    CHECK(world->ops == &comm_ops_mpi && !world->family->groups && !kept, STATUS_INTERNAL,
          "GPUs join the world twice, or after its groups");
    struct nccl_world *w = memory_zeroed(1, sizeof *w);
    CHECK(w, STATUS_NO_MEMORY, "no memory for the GPUs' world");
    w->world = world;
    kept = w;
    const status_t status = open_world(w, world, device, compute);
    if (status != STATUS_OK) nccl_close(world, true);
    return status;
}

status_t nccl_close(struct comm *world, bool failed) {
    struct nccl_comm *c = world->device;
    if (!c) return STATUS_OK;
    status_t status = failed ? STATUS_OK : comm_barrier(world); /* nobody ends while another one fails */
    if (!failed && status == STATUS_OK) status = close_world(world);
    if (!failed && status == STATUS_OK) return STATUS_OK;
    nccl_abort(world);
    world->ops = &comm_ops_mpi;
    world->host = world;
    world->device = NULL;
    watch_enter("end", world->name, CLOSE_LIMIT_S);
    return status;
}

void nccl_version_text(char *text, size_t n_bytes) {
    int v = 0;
    if (ncclGetVersion(&v) != ncclSuccess) v = 0;
    snprintf(text, n_bytes, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
}
