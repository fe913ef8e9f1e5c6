/* comm_ops over MPI-3.1: non-blocking collectives on host memory, cut where a count passes MPI's int. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm_impl.h"
#include "comm/direct.h"
#include "comm/reduce.h"
#include "common/memory.h"

/* gcc 12 takes MPICH's MPI_STATUSES_IGNORE, the address 1, for an array of no room. */
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wstringop-overflow"

#define TRANSFER_TAG 1

status_t mpi_check(int error, const char *call) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (error == MPI_SUCCESS) return STATUS_OK;
    MPI_Error_string(error, text, &n);
    return FAIL(STATUS_INTERNAL, "%.*s: %s", (int)strcspn(call, "("), call, text);
}

/* ---- bf16, for MPI's own reductions in large groups: rounded after each addition
 * --------------------------- */

static void bf16_reduce(const void *in, void *inout, int n, enum comm_op op) {
    const void *const inputs[] = {in, inout};
    reduce_in_order(inout, inputs, 2, n, COMM_BF16, op);
}

static void bf16_sum(void *in, void *inout, int *n, MPI_Datatype *type) {
    (void)type;
    bf16_reduce(in, inout, *n, COMM_SUM);
}

static void bf16_max(void *in, void *inout, int *n, MPI_Datatype *type) {
    (void)type;
    bf16_reduce(in, inout, *n, COMM_MAX);
}

static void bf16_min(void *in, void *inout, int *n, MPI_Datatype *type) {
    (void)type;
    bf16_reduce(in, inout, *n, COMM_MIN);
}

static MPI_Datatype datatype(enum comm_type type) {
    switch (type) {
    case COMM_U8:
        return MPI_UINT8_T;
    case COMM_I32:
        return MPI_INT32_T;
    case COMM_I64:
        return MPI_INT64_T;
    case COMM_U64:
        return MPI_UINT64_T;
    case COMM_F32:
        return MPI_FLOAT;
    case COMM_F64:
        return MPI_DOUBLE;
    case COMM_BF16:
        return MPI_UINT16_T;
    }
    return MPI_DATATYPE_NULL;
}

static MPI_Op operation(const struct comm *comm, enum comm_type type, enum comm_op op) {
    if (type == COMM_BF16) return comm->family->bf16_ops[op];
    return op == COMM_SUM ? MPI_SUM : op == COMM_MAX ? MPI_MAX : MPI_MIN;
}

/* ---- pieces that MPI's int can count
 * ----------------------------------------------------------------------- */

static int n_pieces(const struct comm *comm, int64_t n_elem) {
    return (int)((n_elem + comm->family->max_count - 1) / comm->family->max_count);
}

struct piece {
    char *data;
    int n_elem;
};

static struct piece piece(const struct comm *comm, void *data, int64_t n_elem, size_t width, int i) {
    const int64_t begin = i * comm->family->max_count, left = n_elem - begin;
    return (struct piece){.data = (char *)data + (size_t)begin * width,
                          .n_elem = (int)(left < comm->family->max_count ? left : comm->family->max_count)};
}

/* Where the next part of the request goes; room has been reserved. */
static MPI_Request *next_part(struct comm_request *request, int partner) {
    request->partners[request->n_parts] = partner;
    return &request->parts[request->n_parts];
}

/* ---- collectives
 * ------------------------------------------------------------------------------------------- */

static status_t all_reduce_begin(struct comm_request *request, void *data, int64_t n_elem,
                                 enum comm_type type, enum comm_op op) {
    const struct comm *comm = request->comm;
    const int n = n_pieces(comm, n_elem);
    if (comm->size <= comm->family->max_direct)
        return direct_begin(request, DIRECT_ALL_REDUCE, 0, data, n_elem, NULL, type, op);
    TRY(request_reserve(request, n));
    for (int i = 0; i < n; i++) {
        const struct piece p = piece(comm, data, n_elem, comm_type_bytes(type), i);
        TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, p.data, p.n_elem, datatype(type), operation(comm, type, op),
                               comm->mpi, next_part(request, -1)));
        request->n_parts++;
    }
    return STATUS_OK;
}

static status_t reduce_begin(struct comm_request *request, int root, void *data, int64_t n_elem,
                             enum comm_type type, enum comm_op op) {
    const struct comm *comm = request->comm;
    const int n = n_pieces(comm, n_elem);
    if (comm->size <= comm->family->max_direct)
        return direct_begin(request, DIRECT_REDUCE, root, data, n_elem, NULL, type, op);
    TRY(request_reserve(request, n));
    for (int i = 0; i < n; i++) {
        const struct piece p = piece(comm, data, n_elem, comm_type_bytes(type), i);
        const bool is_root = comm->rank == root;
        TRY_MPI(MPI_Ireduce(is_root ? MPI_IN_PLACE : p.data, is_root ? p.data : NULL, p.n_elem,
                            datatype(type), operation(comm, type, op), root, comm->mpi,
                            next_part(request, -1)));
        request->n_parts++;
    }
    return STATUS_OK;
}

/* In large groups a reduction to the owner of each part: takes uneven parts in place and any count. (Open
 * MPI's own non-blocking reduce_scatter reduces everything to rank 0 first.) */
static status_t reduce_scatter_begin(struct comm_request *request, void *data, const int64_t *offsets,
                                     enum comm_type type, enum comm_op op) {
    const size_t width = comm_type_bytes(type);
    const struct comm *comm = request->comm;
    if (comm->size <= comm->family->max_direct)
        return direct_begin(request, DIRECT_REDUCE_SCATTER, 0, data, offsets[comm->size], offsets, type, op);
    for (int r = 0; r < comm->size; r++)
        TRY(reduce_begin(request, r, (char *)data + (size_t)offsets[r] * width, offsets[r + 1] - offsets[r],
                         type, op));
    return STATUS_OK;
}

static status_t broadcast_begin(struct comm_request *request, int root, void *data, int64_t n_elem,
                                enum comm_type type) {
    const struct comm *comm = request->comm;
    const int n = n_pieces(comm, n_elem);
    TRY(request_reserve(request, n));
    for (int i = 0; i < n; i++) {
        const struct piece p = piece(comm, data, n_elem, comm_type_bytes(type), i);
        TRY_MPI(MPI_Ibcast(p.data, p.n_elem, datatype(type), root, comm->mpi, next_part(request, -1)));
        request->n_parts++;
    }
    return STATUS_OK;
}

static status_t all_gather_begin(struct comm_request *request, void *data, const int64_t *offsets,
                                 enum comm_type type) {
    const struct comm *comm = request->comm;
    const int size = comm->size;
    if (offsets[size] > comm->family->max_count) { /* MPI's displacements cannot express it */
        for (int r = 0; r < size; r++)
            TRY(broadcast_begin(request, r, (char *)data + (size_t)offsets[r] * comm_type_bytes(type),
                                offsets[r + 1] - offsets[r], type));
        return STATUS_OK;
    }
    TRY(request_reserve(request, 1));
    if (request->n_counts < 2 * size) {
        int *counts = realloc(request->counts, 2 * (size_t)size * sizeof *counts);
        CHECK(counts, STATUS_NO_MEMORY, "no memory to gather from %d ranks", size);
        request->counts = counts;
        request->n_counts = 2 * size;
    }
    int *counts = request->counts, *displacements = counts + size;
    for (int r = 0; r < size; r++) {
        displacements[r] = (int)offsets[r];
        counts[r] = (int)(offsets[r + 1] - offsets[r]);
    }
    TRY_MPI(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, counts, displacements, datatype(type),
                            comm->mpi, next_part(request, -1)));
    request->n_parts++;
    return STATUS_OK;
}

static status_t barrier_begin(struct comm_request *request) {
    TRY(request_reserve(request, 1));
    TRY_MPI(MPI_Ibarrier(request->comm->mpi, next_part(request, -1)));
    request->n_parts++;
    return STATUS_OK;
}

/* ---- transfers
 * --------------------------------------------------------------------------------------------- */

/* What this rank sends to itself: the k-th send meets the k-th receive. */
static status_t copy_own(const struct comm *comm, const struct comm_transfer *sends, int n_sends,
                         const struct comm_transfer *receives, int n_receives) {
    int r = 0;
    for (int s = 0; s < n_sends; s++) {
        if (sends[s].rank != comm->rank || sends[s].n_bytes == 0) continue;
        while (r < n_receives && (receives[r].rank != comm->rank || receives[r].n_bytes == 0)) r++;
        CHECK(r < n_receives && receives[r].n_bytes == sends[s].n_bytes, STATUS_INTERNAL,
              "a transfer of %zu bytes from rank %d to itself has no matching receive", sends[s].n_bytes,
              comm->rank);
        memmove(receives[r].data, sends[s].data, sends[s].n_bytes);
        r++;
    }
    return STATUS_OK;
}

status_t mpi_post(struct comm_request *request, int rank, void *data, int64_t n_elem, enum comm_type type,
                  int tag, bool send) {
    const struct comm *comm = request->comm;
    const int n = n_pieces(comm, n_elem);
    TRY(request_reserve(request, n));
    for (int i = 0; i < n; i++) {
        const struct piece p = piece(comm, data, n_elem, comm_type_bytes(type), i);
        MPI_Request *part = next_part(request, rank);
        if (send)
            TRY_MPI(MPI_Isend(p.data, p.n_elem, datatype(type), rank, tag, comm->mpi, part));
        else
            TRY_MPI(MPI_Irecv(p.data, p.n_elem, datatype(type), rank, tag, comm->mpi, part));
        request->n_parts++;
    }
    return STATUS_OK;
}

static status_t transfer_one(struct comm_request *request, const struct comm_transfer *transfer, bool send) {
    if (transfer->rank == request->comm->rank) return STATUS_OK;
    return mpi_post(request, transfer->rank, transfer->data, (int64_t)transfer->n_bytes, COMM_U8,
                    TRANSFER_TAG, send);
}

static status_t transfer_begin(struct comm_request *request, const struct comm_transfer *sends, int n_sends,
                               const struct comm_transfer *receives, int n_receives) {
    for (int i = 0; i < n_receives; i++) TRY(transfer_one(request, &receives[i], false));
    for (int i = 0; i < n_sends; i++) TRY(transfer_one(request, &sends[i], true));
    return copy_own(request->comm, sends, n_sends, receives, n_receives);
}

/* ---- requests
 * ---------------------------------------------------------------------------------------------- */

static status_t test(struct comm_request *request, bool *done) {
    int flag = 0;
    TRY_MPI(MPI_Testall(request->n_parts, request->parts, &flag, MPI_STATUSES_IGNORE));
    *done = flag;
    return flag && request->has_phases ? direct_advance(request, done) : STATUS_OK;
}

static int missing(struct comm_request *request, int *ranks, int capacity) {
    int n = 0;
    for (int i = 0; i < request->n_parts; i++) {
        int flag = 0;
        if (request->partners[i] < 0) return -1;
        if (MPI_Request_get_status(request->parts[i], &flag, MPI_STATUS_IGNORE) != MPI_SUCCESS || flag)
            continue;
        bool known = false;
        for (int k = 0; k < n; k++) known |= ranks[k] == request->partners[i];
        if (!known && n < capacity) ranks[n++] = request->partners[i];
    }
    return n;
}

/* ---- communicators
 * ----------------------------------------------------------------------------------------- */

static status_t split(struct comm *world, const struct comm_membership *membership, struct comm *group) {
    if (membership->n_ranks == 1) return STATUS_OK; /* a group of one sends nothing */
    MPI_Comm made = MPI_COMM_NULL;
    TRY_MPI(MPI_Comm_split(world->mpi, group ? 0 : MPI_UNDEFINED, world->rank, &made));
    if (group) group->mpi = made;
    return STATUS_OK;
}

static void free_comm(struct comm *comm) {
    if (comm->mpi != MPI_COMM_NULL) MPI_Comm_free(&comm->mpi);
    struct comm_family *family = comm->family;
    if (comm == family->world)
        for (int i = 0; i < 3; i++)
            if (family->bf16_ops[i] != MPI_OP_NULL) MPI_Op_free(&family->bf16_ops[i]);
}

status_t mpi_world_setup(struct comm *world) {
    MPI_Op *ops = world->family->bf16_ops;
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &world->mpi));
    TRY_MPI(MPI_Comm_set_errhandler(world->mpi, MPI_ERRORS_RETURN)); /* groups inherit it */
    TRY_MPI(MPI_Op_create(bf16_sum, 1, &ops[COMM_SUM]));
    TRY_MPI(MPI_Op_create(bf16_max, 1, &ops[COMM_MAX]));
    TRY_MPI(MPI_Op_create(bf16_min, 1, &ops[COMM_MIN]));
    return STATUS_OK;
}

const struct comm_ops comm_ops_mpi = {
    .name = "mpi",
    .all_reduce_begin = all_reduce_begin,
    .reduce_begin = reduce_begin,
    .reduce_scatter_begin = reduce_scatter_begin,
    .all_gather_begin = all_gather_begin,
    .broadcast_begin = broadcast_begin,
    .transfer_begin = transfer_begin,
    .barrier_begin = barrier_begin,
    .test = test,
    .order_device = NULL,
    .missing = missing,
    .split = split,
    .free = free_comm,
};
