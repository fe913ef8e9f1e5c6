#include "comm/direct.h"

#include <stdlib.h>
#include <string.h>

#include "comm/reduce.h"
#include "common/interval.h"
#include "common/memory.h"

#define FIRST_TAG 16
#define N_TAGS                                                                                               \
    8000 /* operations that may be under way at once in a group; two tags each; MPI promises 32767 */

/* What a reduction remembers between its phases. The buffers stay with the request for the next one. */
struct direct {
    enum direct_kind kind;
    int root, phase, tag;
    bool small;
    char *data;
    enum comm_type type;
    enum comm_op op;
    int64_t *offsets; /* [size + 1] of the parts */
    int64_t n_offsets;
    char *received; /* [size - 1 pieces] of this rank's part, in the order of the ranks without this one */
    size_t n_received_bytes;
    struct interval own; /* what this rank adds up */
};

void direct_free(struct direct *direct) {
    if (!direct) return;
    free(direct->offsets);
    free(direct->received);
    free(direct);
}

static status_t room(struct direct *d, int size, size_t n_received_bytes) {
    if (d->n_offsets < size + 1) {
        int64_t *offsets = realloc(d->offsets, ((size_t)size + 1) * sizeof *offsets);
        CHECK(offsets, STATUS_NO_MEMORY, "no memory to reduce over %d ranks", size);
        d->offsets = offsets;
        d->n_offsets = size + 1;
    }
    if (d->n_received_bytes < n_received_bytes) {
        free(d->received);
        d->n_received_bytes = 0;
        d->received = memory_aligned(n_received_bytes);
        CHECK(d->received, STATUS_NO_MEMORY, "no memory for %zu bytes to be added up", n_received_bytes);
        d->n_received_bytes = n_received_bytes;
    }
    return STATUS_OK;
}

/* A part to or from `rank` under the tag of this operation and phase. */
static status_t post(struct comm_request *request, int rank, char *data, int64_t n_elem, bool send) {
    const struct direct *d = request->direct;
    return mpi_post(request, rank, data, n_elem, d->type, d->tag + d->phase, send);
}

static bool gets_all(const struct direct *d, int rank) {
    return d->kind == DIRECT_ALL_REDUCE || (d->kind == DIRECT_REDUCE && d->root == rank);
}

/* The elements that rank r adds up. */
static struct interval part_of(const struct direct *d, int r, int size) {
    if (!d->small) return (struct interval){.begin = d->offsets[r], .end = d->offsets[r + 1]};
    return (struct interval){.begin = 0, .end = gets_all(d, r) ? d->offsets[size] : 0};
}

static status_t post_phase_1(struct comm_request *request) {
    struct direct *d = request->direct;
    const struct comm *comm = request->comm;
    const size_t width = comm_type_bytes(d->type), own_bytes = (size_t)interval_length(d->own) * width;
    for (int r = 0, place = 0; r < comm->size; r++)
        if (r != comm->rank)
            TRY(post(request, r, d->received + (size_t)place++ * own_bytes, interval_length(d->own), false));
    for (int k = 1; k < comm->size; k++) { /* each rank begins with another neighbour */
        const int r = (comm->rank + k) % comm->size;
        const struct interval part = part_of(d, r, comm->size);
        TRY(post(request, r, d->data + (size_t)part.begin * width, interval_length(part), true));
    }
    return STATUS_OK;
}

status_t direct_begin(struct comm_request *request, enum direct_kind kind, int root, void *data,
                      int64_t n_elem, const int64_t *offsets, enum comm_type type, enum comm_op op) {
    struct comm *comm = request->comm;
    const int size = comm->size;
    const size_t width = comm_type_bytes(type);
    CHECK(comm->family->n_under_way < N_TAGS, STATUS_INTERNAL, "more than %d operations under way", N_TAGS);
    if (!request->direct) request->direct = memory_zeroed(1, sizeof *request->direct);
    struct direct *d = request->direct;
    CHECK(d, STATUS_NO_MEMORY, "no memory for a reduction");
    TRY(room(d, size, 0));
    d->kind = kind, d->root = root, d->data = data, d->type = type, d->op = op;
    d->phase = 0;
    d->tag = FIRST_TAG + 2 * (int)(comm->n_reductions++ % N_TAGS);
    /* between two ranks a reduction to one of them is one message anyway */
    d->small = kind != DIRECT_REDUCE_SCATTER &&
               ((size_t)n_elem * width <= DIRECT_SMALL_BYTES || (kind == DIRECT_REDUCE && size == 2));
    for (int r = 0; r <= size; r++)
        d->offsets[r] = offsets ? offsets[r] : r == size ? n_elem : interval_part(n_elem, r, size).begin;
    d->own = part_of(d, comm->rank, size);
    TRY(room(d, size, (size_t)(size - 1) * (size_t)interval_length(d->own) * width));
    request->has_phases = true;
    return post_phase_1(request);
}

/* data[own] = x_0 op x_1 op ... op x_(n-1), block by block, this rank's own x at its place. */
static void add_up(const struct comm *comm, struct direct *d) {
    const size_t width = comm_type_bytes(d->type);
    const int64_t n = interval_length(d->own);
    const void *inputs[COMM_MAX_DIRECT];
    char *own = d->data + (size_t)d->own.begin * width;
    for (int r = 0, place = 0; r < comm->size; r++)
        inputs[r] = r == comm->rank ? own : d->received + (size_t)place++ * (size_t)n * width;
    reduce_in_order(own, inputs, comm->size, n, d->type, d->op);
}

static status_t post_phase_2(struct comm_request *request) {
    struct direct *d = request->direct;
    const struct comm *comm = request->comm;
    const size_t width = comm_type_bytes(d->type);
    for (int r = 0; r < comm->size && gets_all(d, comm->rank); r++)
        if (r != comm->rank)
            TRY(post(request, r, d->data + (size_t)d->offsets[r] * width, d->offsets[r + 1] - d->offsets[r],
                     false));
    for (int k = 1; k < comm->size; k++) {
        const int r = (comm->rank + k) % comm->size;
        if (gets_all(d, r))
            TRY(post(request, r, d->data + (size_t)d->own.begin * width, interval_length(d->own), true));
    }
    return STATUS_OK;
}

status_t direct_advance(struct comm_request *request, bool *done) {
    struct direct *d = request->direct;
    *done = true;
    if (d->phase == 0) {
        d->phase = 1;
        add_up(request->comm, d);
        if (!d->small && d->kind != DIRECT_REDUCE_SCATTER) {
            request->n_parts = 0;
            TRY(post_phase_2(request));
            *done = request->n_parts == 0;
        }
    }
    if (*done) request->has_phases = false;
    return STATUS_OK;
}
