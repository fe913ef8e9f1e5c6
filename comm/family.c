#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm_impl.h"
#include "comm/direct.h"
#include "common/clock.h"
#include "common/memory.h"

status_t family_new(int world_rank, int world_size, struct comm_family **out) {
    status_t status = STATUS_OK;
    struct comm_family *family = memory_zeroed(1, sizeof *family);
    struct comm *world = memory_zeroed(1, sizeof *world);
    CHECK_TO(fail, family && world, STATUS_NO_MEMORY, "no memory for the communicators");
    family->world = world;
    family->deadline_s = COMM_DEADLINE_S;
    family->max_count = INT32_MAX;
    family->max_direct = COMM_MAX_DIRECT;
    family->step = -1;
    family->local_size = 1;
    family->ranks = memory_zeroed((size_t)world_size, sizeof *family->ranks);
    world->world_ranks = memory_zeroed((size_t)world_size, sizeof *world->world_ranks);
    CHECK_TO(fail, family->ranks && world->world_ranks, STATUS_NO_MEMORY, "no memory for the communicators");
    world->ops = &comm_ops_mpi;
    world->family = family;
    world->host = world;
    world->mpi = MPI_COMM_NULL;
    world->rank = world_rank;
    world->size = world_size;
    for (int i = 0; i < world_size; i++) world->world_ranks[i] = i;
    snprintf(world->name, sizeof world->name, "world");
    for (int i = 0; i < 3; i++) family->bf16_ops[i] = MPI_OP_NULL;
    *out = family;
    return STATUS_OK;
fail:
    if (family) free(family->ranks);
    if (world) free(world->world_ranks);
    free(family);
    free(world);
    return status;
}

static void request_free(struct comm_request *request) {
    free(request->parts);
    free(request->partners);
    free(request->counts);
    direct_free(request->direct);
    free(request);
}

void family_free(struct comm_family *family) {
    if (!family) return;
    for (struct comm_request *r = family->spare, *next; r; r = next) next = r->next, request_free(r);
    free(family->world->world_ranks);
    free(family->world);
    free(family->ranks);
    free(family);
}

const char *family_rank_text(const struct comm_family *family, int world_rank, char *text, size_t n_bytes) {
    snprintf(text, n_bytes, "rank %d on %s", world_rank, family->ranks[world_rank].host);
    return text;
}

const char *family_where_text(const struct comm_family *family, char *text, size_t n_bytes) {
    text[0] = '\0';
    if (family->step >= 0) snprintf(text, n_bytes, ", %s step %lld", family->stage, (long long)family->step);
    return text;
}

void family_poke_device(struct comm_family *family) {
    if (family->world->ops->poke) family->world->ops->poke(family->world);
}

void family_abort_device(struct comm_family *family) {
    if (family->world->ops->abort) family->world->ops->abort(family->world);
}

status_t family_check(struct comm_family *family, bool grace) {
    if (family->failure == STATUS_OK) return STATUS_OK;
    if (grace && !family->failure_is_ours && clock_now_s() < family->failure_time_s + COMM_FAILURE_GRACE_S)
        return STATUS_OK;
    return FAIL(family->failure, "%s", family->failure_text);
}

void family_fail(struct comm_family *family, status_t status, bool ours, const char *message) {
    if (family->failure != STATUS_OK) return;
    family->failure = status;
    family->failure_is_ours = ours;
    family->failure_time_s = clock_now_s();
    snprintf(family->failure_text, sizeof family->failure_text, "%s", message);
}

/* ---- requests ---------------------------------------------------------------------------------------------
 */

status_t request_new(struct comm *comm, const char *what, struct comm_request **out) {
    struct comm_family *family = comm->family;
    struct comm_request *request = family->spare;
    if (request)
        family->spare = request->next;
    else
        request = memory_zeroed(1, sizeof *request);
    CHECK(request, STATUS_NO_MEMORY, "no memory for a communication request");
    request->comm = comm;
    request->what = what;
    request->next = NULL;
    request->n_parts = 0;
    request->has_phases = false;
    request->device = NULL;
    family->n_under_way++;
    *out = request;
    return STATUS_OK;
}

status_t request_reserve(struct comm_request *request, int n) {
    const int needed = request->n_parts + n;
    if (needed <= request->capacity) return STATUS_OK;
    const int capacity = needed > 2 * request->capacity ? needed : 2 * request->capacity;
    MPI_Request *parts = realloc(request->parts, (size_t)capacity * sizeof *parts);
    if (parts) request->parts = parts;
    int *partners = realloc(request->partners, (size_t)capacity * sizeof *partners);
    if (partners) request->partners = partners;
    CHECK(parts && partners, STATUS_NO_MEMORY, "no memory for %d transfers", capacity);
    request->capacity = capacity;
    return STATUS_OK;
}

void request_release(struct comm_request *request) {
    struct comm_family *family = request->comm->family;
    family->n_under_way--;
    request->next = family->spare;
    family->spare = request;
}
