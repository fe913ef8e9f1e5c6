/* The front of comm.h: arguments, groups of one, waits with deadlines. What moves data is behind comm_ops. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm_impl.h"
#include "comm/control.h"
#include "common/clock.h"
#include "common/memory.h"

int comm_rank(const struct comm *comm) {
    return comm->rank;
}
int comm_size(const struct comm *comm) {
    return comm->size;
}
const char *comm_name(const struct comm *comm) {
    return comm->name;
}
int comm_world_rank(const struct comm *comm, int rank) {
    return comm->world_ranks[rank];
}
int comm_local_rank(const struct comm *comm) {
    return comm->family->local_rank;
}
int comm_local_size(const struct comm *comm) {
    return comm->family->local_size;
}
struct comm *comm_host_side(struct comm *comm) {
    return comm->host;
}

const char *comm_hostname(const struct comm *comm, int rank) {
    return comm->family->ranks[comm->world_ranks[rank]].host;
}

int comm_node(const struct comm *comm, int rank) {
    return comm->family->ranks[comm->world_ranks[rank]].node;
}

void comm_set_deadline(struct comm *comm, double deadline_s) {
    comm->family->deadline_s = deadline_s;
}

void comm_set_step(struct comm *comm, const char *stage, int64_t step) {
    snprintf(comm->family->stage, sizeof comm->family->stage, "%s", stage);
    comm->family->step = step;
}

size_t comm_type_bytes(enum comm_type type) {
    static const size_t n_bytes[] = {[COMM_U8] = 1,  [COMM_I32] = 4, [COMM_I64] = 8, [COMM_U64] = 8,
                                     [COMM_F32] = 4, [COMM_F64] = 8, [COMM_BF16] = 2};
    return n_bytes[type];
}

/* ---- waiting ----------------------------------------------------------------------------------------------
 */

/* The buffers of an abandoned request stay in MPI's hands: it is kept, and never used again. */
static void request_abandon(struct comm_request *request) {
    struct comm_family *family = request->comm->family;
    request->next = family->abandoned;
    family->abandoned = request;
}

/* Start the next phase of every operation that has come so far. Other ranks may wait for it, whatever this
 * one waits for. An error is kept as the family's. */
static void advance_all(struct comm_family *family) {
    for (struct comm_request **link = &family->active; *link;) {
        struct comm_request *request = *link;
        bool done;
        const status_t status = request->comm->ops->test(request, &done);
        if (status != STATUS_OK) family_fail(family, status, true, status_message());
        if (status != STATUS_OK || !request->has_phases)
            *link = request->next;
        else
            link = &request->next;
    }
}

static void forget_active(struct comm_request *request) {
    for (struct comm_request **link = &request->comm->family->active; *link; link = &(*link)->next)
        if (*link == request) {
            *link = request->next;
            return;
        }
}

status_t request_timed_out(struct comm_request *request) {
    const struct comm *comm = request->comm;
    struct comm_family *family = comm->family;
    char self[128], where[64], missing[640];
    control_explain(request, missing, sizeof missing);
    TRY(family_check(family, false)); /* what the others just told is the better reason */
    const status_t status =
        FAIL(STATUS_TIMEOUT, "%s: %s of group '%s'%s not done after %g s%s%s",
             family_rank_text(family, family->world->world_ranks[family->world->rank], self, sizeof self),
             request->what, comm->name, family_where_text(family, where, sizeof where), family->deadline_s,
             missing[0] ? ": " : "", missing);
    family_fail(family, status, true, status_message());
    return status;
}

/* A request that is over: to be used again, or kept where it failed. */
static void close_request(struct comm_request *request, status_t status) {
    if (status == STATUS_OK) {
        request_release(request);
        return;
    }
    family_abort_device(request->comm->family);
    request_abandon(request);
}

static status_t wait_loop(struct comm_request *request) {
    struct comm_family *family = request->comm->family;
    const double begin_s = clock_now_s();
    double look_s = begin_s + COMM_LOOK_S;
    for (;;) {
        bool done;
        TRY(request->comm->ops->test(request, &done));
        if (done) return STATUS_OK;
        const double now_s = clock_now_s();
        if (now_s >= family->last_poke_s + COMM_POKE_S) {
            advance_all(family);
            family_poke_device(family);
            family->last_poke_s = now_s;
        }
        if (now_s >= look_s) {
            control_poll(family);
            TRY(family_check(family, true));
            look_s = now_s + COMM_LOOK_S;
        }
        if (now_s >= begin_s + family->deadline_s) return request_timed_out(request);
        sched_yield();
    }
}

void request_waited(struct comm *comm, enum comm_purpose purpose, double time_s) {
    comm->family->waited_s += time_s;
    comm->waited_s[purpose] += time_s;
}

static status_t wait_host(struct comm_request **handle, enum comm_purpose purpose) {
    struct comm_request *request = *handle;
    if (!request) return STATUS_OK;
    struct comm_family *family = request->comm->family;
    *handle = NULL;
    family->waiting = request;
    const double begin_s = clock_now_s();
    const status_t status = wait_loop(request);
    request_waited(request->comm, purpose, clock_now_s() - begin_s);
    family->waiting = NULL;
    forget_active(request);
    close_request(request, status);
    return status;
}

status_t request_wait_device(struct comm_request **handle, enum comm_purpose purpose) {
    struct comm_request *request = *handle;
    if (!request || !request->comm->ops->order_device) return wait_host(handle, purpose);
    *handle = NULL;
    const status_t status = request->comm->ops->order_device(request, purpose);
    close_request(request, status);
    return status;
}

status_t comm_wait(struct comm_request **handle) {
    return wait_host(handle, COMM_FOR_ANYTHING);
}

status_t comm_wait_device(struct comm_request **handle) {
    return request_wait_device(handle, COMM_FOR_ANYTHING);
}

double comm_waited_s(struct comm *comm, enum comm_purpose purpose) {
    family_poke_device(comm->family);
    return purpose == COMM_FOR_ANYTHING ? comm->family->waited_s : comm->waited_s[purpose];
}

status_t comm_test(struct comm_request **handle, bool *done) {
    struct comm_request *request = *handle;
    *done = true;
    if (!request) return STATUS_OK;
    const status_t status = request->comm->ops->test(request, done);
    if (status == STATUS_OK && !*done) return STATUS_OK;
    forget_active(request);
    *handle = NULL;
    close_request(request, status);
    return status;
}

void comm_poke(struct comm *comm) {
    struct comm_family *family = comm->family;
    if (!family->control) return;
    const double now_s = clock_now_s();
    if (now_s - family->last_poke_s < (family->n_under_way ? COMM_POKE_S : COMM_LOOK_S)) return;
    advance_all(family);
    family_poke_device(family);
    control_poll(family);
    family->last_poke_s = clock_now_s();
}

/* ---- begin ------------------------------------------------------------------------------------------------
 */

/* Every begin ends so: keep the request, or hand back nothing. A request that failed half way is abandoned,
 * because its first parts may be under way. Nothing under way at all: nothing to wait for. */
static status_t begun(status_t status, struct comm_request *request, struct comm_request **out) {
    if (status != STATUS_OK) {
        close_request(request, status);
        return status;
    }
    if (request->n_parts == 0 && !request->device) {
        request_release(request);
        request = NULL;
    }
    if (request && request->has_phases) {
        request->next = request->comm->family->active;
        request->comm->family->active = request;
    }
    *out = request;
    return STATUS_OK;
}

/* The part that all collectives begin with: *request stays NULL where there is nothing to do. */
static status_t open_request(struct comm *comm, const char *what, bool nothing_to_do,
                             struct comm_request **request) {
    *request = NULL;
    TRY(family_check(comm->family, true));
    return nothing_to_do ? STATUS_OK : request_new(comm, what, request);
}

static status_t check_root(const struct comm *comm, int root) {
    CHECK(root >= 0 && root < comm->size, STATUS_INTERNAL, "root %d in group '%s' of %d", root, comm->name,
          comm->size);
    return STATUS_OK;
}

static status_t check_count(int64_t n_elem) {
    CHECK(n_elem >= 0, STATUS_INTERNAL, "a negative number of elements, %lld", (long long)n_elem);
    return STATUS_OK;
}

static status_t check_offsets(const struct comm *comm, const int64_t *offsets) {
    CHECK(offsets[0] == 0, STATUS_INTERNAL, "offsets of group '%s' begin with %lld", comm->name,
          (long long)offsets[0]);
    for (int r = 0; r < comm->size; r++)
        CHECK(offsets[r] <= offsets[r + 1], STATUS_INTERNAL, "offsets of group '%s' fall at part %d",
              comm->name, r);
    return STATUS_OK;
}

status_t comm_all_reduce_begin(struct comm *comm, void *data, int64_t n_elem, enum comm_type type,
                               enum comm_op op, struct comm_request **out) {
    struct comm_request *request;
    TRY(check_count(n_elem));
    TRY(open_request(comm, "all_reduce", comm->size == 1 || n_elem == 0, &request));
    if (!request) return *out = NULL, STATUS_OK;
    return begun(comm->ops->all_reduce_begin(request, data, n_elem, type, op), request, out);
}

status_t comm_reduce_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                           enum comm_op op, struct comm_request **out) {
    struct comm_request *request;
    TRY(check_root(comm, root));
    TRY(check_count(n_elem));
    TRY(open_request(comm, "reduce", comm->size == 1 || n_elem == 0, &request));
    if (!request) return *out = NULL, STATUS_OK;
    return begun(comm->ops->reduce_begin(request, root, data, n_elem, type, op), request, out);
}

status_t comm_reduce_scatter_begin(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                                   enum comm_op op, struct comm_request **out) {
    struct comm_request *request;
    TRY(check_offsets(comm, offsets));
    TRY(open_request(comm, "reduce_scatter", comm->size == 1 || offsets[comm->size] == 0, &request));
    if (!request) return *out = NULL, STATUS_OK;
    return begun(comm->ops->reduce_scatter_begin(request, data, offsets, type, op), request, out);
}

status_t comm_all_gather_begin(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                               struct comm_request **out) {
    struct comm_request *request;
    TRY(check_offsets(comm, offsets));
    TRY(open_request(comm, "all_gather", comm->size == 1 || offsets[comm->size] == 0, &request));
    if (!request) return *out = NULL, STATUS_OK;
    return begun(comm->ops->all_gather_begin(request, data, offsets, type), request, out);
}

status_t comm_broadcast_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                              struct comm_request **out) {
    struct comm_request *request;
    TRY(check_root(comm, root));
    TRY(check_count(n_elem));
    TRY(open_request(comm, "broadcast", comm->size == 1 || n_elem == 0, &request));
    if (!request) return *out = NULL, STATUS_OK;
    return begun(comm->ops->broadcast_begin(request, root, data, n_elem, type), request, out);
}

status_t comm_transfer_begin(struct comm *comm, const struct comm_transfer *sends, int n_sends,
                             const struct comm_transfer *receives, int n_receives,
                             struct comm_request **out) {
    struct comm_request *request;
    for (int i = 0; i < n_sends; i++) TRY(check_root(comm, sends[i].rank));
    for (int i = 0; i < n_receives; i++) TRY(check_root(comm, receives[i].rank));
    TRY(open_request(comm, "transfer", n_sends + n_receives == 0, &request));
    if (!request) return *out = NULL, STATUS_OK;
    return begun(comm->ops->transfer_begin(request, sends, n_sends, receives, n_receives), request, out);
}

status_t comm_gather_begin(struct comm *comm, int root, const void *part, void *whole, const int64_t *offsets,
                           enum comm_type type, struct comm_request **out) {
    const size_t width = comm_type_bytes(type);
    const int rank = comm->rank;
    TRY(check_root(comm, root));
    TRY(check_offsets(comm, offsets));
    /* sends do not write: the cast takes away only what comm_transfer cannot express */
    const struct comm_transfer send = {.rank = root,
                                       .data = (void *)(uintptr_t)part,
                                       .n_bytes = (size_t)(offsets[rank + 1] - offsets[rank]) * width};
    if (rank != root) return comm_transfer_begin(comm, &send, 1, NULL, 0, out);
    struct comm_transfer *receives = memory_zeroed((size_t)comm->size, sizeof *receives);
    CHECK(receives, STATUS_NO_MEMORY, "no memory to gather from %d ranks", comm->size);
    for (int r = 0; r < comm->size; r++)
        receives[r] = (struct comm_transfer){.rank = r,
                                             .data = (char *)whole + (size_t)offsets[r] * width,
                                             .n_bytes = (size_t)(offsets[r + 1] - offsets[r]) * width};
    const status_t status = comm_transfer_begin(comm, &send, 1, receives, comm->size, out);
    free(receives);
    return status;
}

/* ---- begin and wait ---------------------------------------------------------------------------------------
 */

/* Small data is often a variable on the caller's stack, and MPI may still write to the buffer of a failed
 * wait: it goes through a buffer of the family, which outlives the wait. After a failure nothing is begun any
 * more, so that one buffer does for all. */
status_t comm_all_reduce(struct comm *comm, void *data, int64_t n_elem, enum comm_type type,
                         enum comm_op op) {
    struct comm_request *request;
    const size_t n_bytes = (size_t)n_elem * comm_type_bytes(type);
    char *small = comm->family->small;
    const bool through_small = comm == comm->host && n_elem >= 0 && n_bytes <= sizeof comm->family->small;
    if (through_small) memcpy(small, data, n_bytes);
    TRY(comm_all_reduce_begin(comm, through_small ? small : data, n_elem, type, op, &request));
    TRY(comm_wait(&request));
    if (through_small) memcpy(data, small, n_bytes);
    return STATUS_OK;
}

status_t comm_reduce_scatter(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                             enum comm_op op) {
    struct comm_request *request;
    TRY(comm_reduce_scatter_begin(comm, data, offsets, type, op, &request));
    return comm_wait(&request);
}

status_t comm_all_gather(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type) {
    struct comm_request *request;
    TRY(comm_all_gather_begin(comm, data, offsets, type, &request));
    return comm_wait(&request);
}

status_t comm_broadcast(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type) {
    struct comm_request *request;
    TRY(comm_broadcast_begin(comm, root, data, n_elem, type, &request));
    return comm_wait(&request);
}

status_t comm_gather(struct comm *comm, int root, const void *part, void *whole, const int64_t *offsets,
                     enum comm_type type) {
    struct comm_request *request;
    TRY(comm_gather_begin(comm, root, part, whole, offsets, type, &request));
    return comm_wait(&request);
}

status_t comm_barrier(struct comm *comm) {
    struct comm_request *request;
    comm = comm->host;
    TRY(open_request(comm, "barrier", comm->size == 1, &request));
    if (!request) return STATUS_OK;
    TRY(begun(comm->ops->barrier_begin(request), request, &request));
    return comm_wait(&request);
}

status_t comm_any(struct comm *comm, bool flag, bool *any) {
    int32_t value = flag;
    TRY(comm_all_reduce(comm->host, &value, 1, COMM_I32, COMM_MAX));
    *any = value != 0;
    return STATUS_OK;
}

status_t comm_gather_bytes(struct comm *comm, int root, const void *part, int64_t n_bytes, char **whole,
                           int64_t *offsets) {
    comm = comm->host;
    const size_t size = (size_t)comm->size;
    status_t status = STATUS_OK;
    char *bytes = NULL;
    int64_t *table = memory_zeroed(2 * size + 2, sizeof *table); /* lengths, then offsets */
    CHECK(table, STATUS_NO_MEMORY, "no memory to gather from %d ranks", comm->size);
    int64_t *lengths = table, *ends = table + size;
    for (size_t r = 0; r <= size; r++) ends[r] = (int64_t)r;
    lengths[comm->rank] = n_bytes;
    TRY(comm_all_gather(comm, lengths, ends,
                        COMM_I64)); /* on failure MPI keeps the buffers: they are not freed */
    ends[0] = 0;
    for (size_t r = 0; r < size; r++) ends[r + 1] = ends[r] + lengths[r];
    if (comm->rank == root) {
        bytes = malloc((size_t)ends[size] + 1);
        CHECK_TO(out, bytes, STATUS_NO_MEMORY, "no memory for %lld gathered bytes", (long long)ends[size]);
    }
    TRY(comm_gather(comm, root, part, bytes, ends, COMM_U8)); // NOLINT(clang-analyzer-unix.Malloc): the same
    if (comm->rank == root) {
        memcpy(offsets, ends, (size + 1) * sizeof *offsets);
        *whole = bytes;
    }
out:
    free(table);
    return status;
}
