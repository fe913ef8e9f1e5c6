/* A stand-in for libnccl over MPI, for tests: the functions that comm/cuda calls, under NCCL's own header.
 *
 * A communicator's operations are put on the stream they were given (cudart_cpu.cpp) and start when the
 * stream comes to them; they are done when the messages of the others are there, which the stream's scheduler
 * polls: nothing here ever blocks. Only non-blocking communicators are offered. A program that uses NCCL
 * wrongly must not pass its tests by luck:
 *   - before any data of a collective every rank hears from every other what that one believes it is: the
 *     communicator's n-th operation, kind, count, type, reduction and root. A difference ends the process
 *     with both descriptions (a swapped order, a wrong count). Sends and receives are compared pair by pair;
 *   - calls return ncclInProgress at random (COC_SEED), and then what was called is not on its stream until
 *     ncclCommGetAsyncError has said ncclSuccess; a call on a communicator in progress ends the process, and
 * so does a second thread, or ncclCommDestroy before ncclCommFinalize is through;
 *   - what an operation will overwrite is NaN from its start to its end;
 *   - sums are taken in descending order of the ranks: other bits than comm/mpi.c has.
 *
 * Faults, on one rank (-1: on all):   NCCL_MPI_FAULT=KIND:RANK:N[:MS]   with N counting this rank's launches
 * (a collective or a group is one) from 0, those of the start-up included:
 *   - delay: launch N starts MS milliseconds later
 *   - slowtransfers, slowsums: so do N and all later ones, of transfers or of collectives
 *   - stall: launch N and all later never start
 *   - stop, kill: SIGSTOP, SIGKILL when launch N starts
 *   - swap: launches N and N+1 change places
 *   - count: launch N has one element less
 *   - error: from launch N on the communicators report ncclRemoteError
 *   - hang: the call that ends launch N never returns */
#include "tests/emulated_cuda/coc.h"

#include "comm/reduce.h"

#include <mpi.h>
#include <nccl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#pragma GCC visibility push(default)
#pragma GCC diagnostic ignored                                                                               \
    "-Wmissing-prototypes" /* NCCL's header declares ncclGroupStart() without void */

enum kind { ALL_REDUCE, REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, SEND, RECEIVE };
static const char *const kind_names[] = {"all-reduce", "reduce",   "reduce-scatter", "all-gather",
                                         "broadcast",  "transfer", "transfer"};

/* In front of every message: what the sender believes it does. */
struct header {
    uint64_t number; /* of the communicator's collectives; of the pair's transfers */
    uint64_t count;
    int32_t kind, type, op, root, phase;
};

struct operation {
    enum kind kind;
    const void *in;
    void *out;
    size_t count;
    ncclDataType_t type;
    int op, root; /* root: also the other rank of a transfer */
    uint64_t number;
    char *own; /* a copy of what this rank brings, from the start on */
    bool summed, done;
};

struct outgoing {
    struct outgoing *next;
    MPI_Request request;
    char *bytes;
};

struct message { /* come from `from` and not yet used, or still coming */
    struct message *next;
    int from;
    bool here;
    MPI_Request request;
    size_t n_bytes; /* behind the header */
    struct header *header;
};

enum state { STARTING, COMPARING, READY, SPLITTING, FINALISING, FINALISED, ABORTED };

struct launch {
    struct launch *next;
    struct ncclComm *comm;
    cudaStream_t stream;
    int n_ops, number;
    bool started;
    double not_before_s;
    struct operation *ops;
};

struct ncclComm {
    enum state state;
    int rank, size;
    int *world; /* [size] ranks of MPI_COMM_WORLD */
    int tag;
    MPI_Comm mpi;
    MPI_Request request; /* of STARTING, COMPARING, SPLITTING */
    uint64_t id[2], ids[2];
    int n_splits, split[2], *splits; /* [2 * size] */
    ncclComm_t *new_comm;
    int lag;                /* answers ncclInProgress to come */
    struct launch *pending; /* behind those answers */
    int n_on_streams;
    uint64_t n_collectives, *n_sent, *n_received; /* [size] */
    struct message *messages;
    struct outgoing *outgoing;
};

static struct launch *group[16]; /* open group: one launch a communicator */
static int n_in_group, group_depth, n_launches;
static struct launch *held; /* by the fault "swap" */

/* ---- faults and mistakes ---- */

static struct {
    char kind[16];
    int rank, number, ms;
} fault;

static int world_rank(void) {
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static bool faulty(const char *kind, int number) {
    static bool read;
    const char *text = getenv("NCCL_MPI_FAULT");
    if (!text || !*text) return false;
    if (!read && sscanf(text, "%15[a-z]:%d:%d:%d", fault.kind, &fault.rank, &fault.number, &fault.ms) < 3)
        abort();
    read = true;
    if ((fault.rank != world_rank() && fault.rank != -1) || strcmp(kind, fault.kind) != 0) return false;
    const bool from_then_on =
        strcmp(kind, "stall") == 0 || strcmp(kind, "error") == 0 || strncmp(kind, "slow", 4) == 0;
    return from_then_on ? number >= fault.number : number == fault.number;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((format(printf, 1, 2))) static _Noreturn void mistake(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "nccl_mpi: rank %d: %s\n", world_rank(), text);
    fflush(NULL);
    abort();
}

static void check_thread(void) {
    static pthread_t first;
    static bool known;
    if (!known) first = pthread_self(), known = true;
    if (!pthread_equal(first, pthread_self())) mistake("two threads call NCCL");
}

static void check_usable(const struct ncclComm *comm) {
    check_thread();
    if (comm->state == ABORTED) mistake("a call on an aborted communicator");
    if (comm->state != READY || comm->lag > 0 || comm->pending)
        mistake("a call on a communicator that is in progress");
}

static void *room(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) abort();
    return p;
}

/* ---- messages ---- */

static size_t width(ncclDataType_t type) {
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    default:
        return 8;
    }
}

static void post(struct ncclComm *comm, int to, const struct header *header, const void *data,
                 size_t n_bytes) {
    struct outgoing *o = room(1, sizeof *o);
    o->bytes = room(1, sizeof *header + n_bytes);
    memcpy(o->bytes, header, sizeof *header);
    if (n_bytes) memcpy(o->bytes + sizeof *header, data, n_bytes);
    MPI_Isend(o->bytes, (int)(sizeof *header + n_bytes), MPI_BYTE, comm->world[to], comm->tag, comm->mpi,
              &o->request);
    o->next = comm->outgoing;
    comm->outgoing = o;
}

static void reap_sends(struct ncclComm *comm) {
    for (struct outgoing **link = &comm->outgoing; *link;) {
        struct outgoing *o = *link;
        int done = 0;
        MPI_Test(&o->request, &done, MPI_STATUS_IGNORE);
        if (done) {
            *link = o->next;
            free(o->bytes);
            free(o);
        } else {
            link = &o->next;
        }
    }
}

static int rank_of(const struct ncclComm *comm, int world) {
    for (int r = 0; r < comm->size; r++)
        if (comm->world[r] == world) return r;
    mistake("a message from rank %d, which is not in the communicator", world);
}

static void receive_all(struct ncclComm *comm) {
    for (;;) {
        int there = 0, n = 0;
        MPI_Message handle;
        MPI_Status status;
        MPI_Improbe(MPI_ANY_SOURCE, comm->tag, comm->mpi, &there, &handle, &status);
        if (!there) break;
        MPI_Get_count(&status, MPI_BYTE, &n);
        struct message *m = room(1, sizeof *m), **last = &comm->messages;
        m->from = rank_of(comm, status.MPI_SOURCE);
        m->header = room(1, (size_t)n);
        m->n_bytes = (size_t)n - sizeof *m->header;
        MPI_Imrecv(m->header, n, MPI_BYTE, &handle, &m->request);
        while (*last) last = &(*last)->next;
        *last = m;
    }
    for (struct message *m = comm->messages; m; m = m->next)
        if (!m->here) {
            int done = 0;
            MPI_Test(&m->request, &done, MPI_STATUS_IGNORE);
            m->here = done;
        }
}

static void describe(const struct header *h, char *text, size_t n_bytes) {
    const bool transfer = h->kind == SEND || h->kind == RECEIVE;
    snprintf(text, n_bytes, "%s %llu: %s of %llu elements, type %d, reduction %d, root %d",
             transfer ? "transfer" : "collective", (unsigned long long)h->number, kind_names[h->kind],
             (unsigned long long)h->count, h->type, h->op, h->root);
}

/* The message with this number and phase, complete and compared; NULL: not here yet. */
static struct message *find(struct ncclComm *comm, int from, const struct header *want) {
    const bool transfer = want->kind == SEND;
    for (struct message *m = comm->messages; m; m = m->next) {
        const struct header *h = m->header;
        if (m->from != from || !m->here || (h->kind == SEND) != transfer || h->number != want->number ||
            h->phase != want->phase)
            continue;
        if (h->kind == want->kind && h->count == want->count && h->type == want->type &&
            (transfer || (h->op == want->op && h->root == want->root)))
            return m;
        char ours[160], theirs[160];
        describe(want, ours, sizeof ours);
        describe(h, theirs, sizeof theirs);
        mistake("the ranks differ: here %s; rank %d has %s", ours, comm->world[from], theirs);
    }
    return NULL;
}

static void consume(struct ncclComm *comm, struct message *used) {
    for (struct message **link = &comm->messages; *link; link = &(*link)->next)
        if (*link == used) {
            *link = used->next;
            free(used->header);
            free(used);
            return;
        }
}

/* ---- operations ---- */

static struct header header_of(const struct operation *o, int phase) {
    return (struct header){.number = o->number,
                           .count = o->count,
                           .kind = o->kind == RECEIVE ? SEND : o->kind,
                           .type = o->type,
                           .op = o->kind == SEND || o->kind == RECEIVE ? 0 : o->op,
                           .root = o->kind == SEND || o->kind == RECEIVE ? 0 : o->root,
                           .phase = phase};
}

static size_t in_elements(const struct ncclComm *comm, const struct operation *o) {
    if (o->kind == RECEIVE || (o->kind == BROADCAST && o->root != comm->rank)) return 0;
    return o->count * (size_t)(o->kind == REDUCE_SCATTER ? comm->size : 1);
}

static size_t out_elements(const struct ncclComm *comm, const struct operation *o) {
    if (o->kind == SEND || (o->kind == REDUCE && o->root != comm->rank)) return 0;
    return o->count * (size_t)(o->kind == ALL_GATHER ? comm->size : 1);
}

/* What rank `to` needs of this rank's data in the first phase. */
static size_t share(const struct ncclComm *comm, const struct operation *o, int to, const char **data) {
    const size_t n = o->count * width(o->type);
    *data = o->own + (o->kind == REDUCE_SCATTER ? (size_t)to * n : 0);
    const bool wanted = o->kind == ALL_REDUCE  ? to == 0
                        : o->kind == REDUCE    ? to == o->root
                        : o->kind == BROADCAST ? comm->rank == o->root
                                               : true;
    return wanted ? n : 0;
}

static void start_operation(struct ncclComm *comm, struct operation *o) {
    const size_t w = width(o->type), n_in = in_elements(comm, o) * w, n_out = out_elements(comm, o) * w;
    o->own = room(1, n_in);
    coc_open_memory();
    if (n_in) memcpy(o->own, o->in, n_in);
    if (n_out) memset(o->out, 0xff, n_out);
    const struct header h = header_of(o, 0);
    if (o->kind == SEND) post(comm, o->root, &h, o->own, n_in);
    o->done = o->kind == SEND;
    for (int r = 0; r < comm->size && o->kind < SEND; r++) {
        const char *data;
        const size_t n = share(comm, o, r, &data);
        if (r != comm->rank) post(comm, r, &h, data, n);
    }
}

static enum comm_type comm_type_of(ncclDataType_t type) {
    switch (type) {
    case ncclUint8:
        return COMM_U8;
    case ncclInt32:
        return COMM_I32;
    case ncclInt64:
        return COMM_I64;
    case ncclUint64:
        return COMM_U64;
    case ncclFloat32:
        return COMM_F32;
    case ncclFloat64:
        return COMM_F64;
    case ncclBfloat16:
        return COMM_BF16;
    default:
        mistake("type %d cannot be reduced here", (int)type);
    }
}

/* Phase 1 of a reduction is here from all: the sum, last rank first. */
static void reduce_all(struct ncclComm *comm, const struct operation *o, char *out) {
    const struct header h = header_of(o, 0);
    const void **inputs = room((size_t)comm->size, sizeof *inputs);
    const char *own;
    share(comm, o, comm->rank, &own);
    for (int r = 0; r < comm->size; r++) {
        const struct message *m = r == comm->rank ? NULL : find(comm, r, &h);
        inputs[comm->size - 1 - r] = m ? (const char *)(m->header + 1) : own;
    }
    const enum comm_op op = o->op == ncclMax ? COMM_MAX : o->op == ncclMin ? COMM_MIN : COMM_SUM;
    reduce_in_order(out, inputs, comm->size, (int64_t)o->count, comm_type_of(o->type), op);
    free(inputs);
}

static void finish_phase(struct ncclComm *comm, struct operation *o) {
    const struct header h = header_of(o, 0), h1 = header_of(o, 1);
    const size_t n = o->count * width(o->type);
    char *sum = room(1, n);
    coc_open_memory();
    const bool reduces = o->kind == REDUCE_SCATTER || (o->kind == ALL_REDUCE && comm->rank == 0) ||
                         (o->kind == REDUCE && comm->rank == o->root);
    if (reduces) reduce_all(comm, o, sum);
    if (reduces && n) memcpy(o->out, sum, n);
    for (int r = 0; r < comm->size; r++) {
        struct message *m = r == comm->rank ? NULL : find(comm, r, &h);
        const char *data = m ? (const char *)(m->header + 1) : o->own;
        if (o->kind == ALL_GATHER) memcpy((char *)o->out + (size_t)r * n, data, n);
        if (o->kind == BROADCAST && r == o->root) memcpy(o->out, data, n);
        if (o->kind == ALL_REDUCE && comm->rank == 0 && m) post(comm, r, &h1, sum, n);
        if (m) consume(comm, m);
    }
    free(sum);
    o->summed = true;
    o->done = o->kind != ALL_REDUCE || comm->rank == 0;
}

static void advance(struct ncclComm *comm, struct operation *o) {
    const struct header h = header_of(o, 0), h1 = header_of(o, 1);
    if (o->done) return;
    if (o->kind == RECEIVE || o->summed) {
        struct message *m = find(comm, o->kind == RECEIVE ? o->root : 0, o->kind == RECEIVE ? &h : &h1);
        if (!m) return;
        coc_open_memory();
        memcpy(o->out, m->header + 1, m->n_bytes);
        consume(comm, m);
        o->done = true;
        return;
    }
    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank && !find(comm, r, &h)) return;
    finish_phase(comm, o);
}

/* ---- launches ---- */

static void free_launch(struct launch *l) {
    l->comm->n_on_streams--;
    for (int i = 0; i < l->n_ops; i++) free(l->ops[i].own);
    free(l->ops);
    free(l);
}

static int poll_launch(void *job) {
    struct launch *l = job;
    struct ncclComm *comm = l->comm;
    bool done = true;
    if (comm->state == ABORTED) {
        free_launch(l);
        return 1;
    }
    if (faulty("stall", l->number)) return 0;
    if (!l->started) {
        if (l->not_before_s == 0 &&
            (faulty("delay", l->number) ||
             faulty(l->ops[0].kind >= SEND ? "slowtransfers" : "slowsums", l->number)))
            l->not_before_s = now_s() + 1e-3 * fault.ms;
        if (now_s() < l->not_before_s) return 0;
        if (faulty("stop", l->number)) raise(SIGSTOP);
        if (faulty("kill", l->number)) raise(SIGKILL);
        for (int i = 0; i < l->n_ops; i++) start_operation(comm, &l->ops[i]);
        l->started = true;
    }
    reap_sends(comm);
    receive_all(comm);
    for (int i = 0; i < l->n_ops; i++) {
        advance(comm, &l->ops[i]);
        done = done && l->ops[i].done;
    }
    if (!done || comm->outgoing) return 0;
    free_launch(l);
    return 1;
}

static void put_on_stream(struct launch *l) {
    struct ncclComm *comm = l->comm;
    if (faulty("count", l->number) && l->ops[0].count > 0) l->ops[0].count--;
    for (int i = 0; i < l->n_ops; i++) {
        struct operation *o = &l->ops[i];
        o->number = o->kind == SEND      ? comm->n_sent[o->root]++
                    : o->kind == RECEIVE ? comm->n_received[o->root]++
                                         : comm->n_collectives++;
    }
    comm->n_on_streams++;
    if (coc_submit_poll(l->stream, l, poll_launch) != cudaSuccess) mistake("not a stream");
}

static void submit(struct launch *l) {
    if (faulty("swap", l->number)) {
        held = l;
        return;
    }
    put_on_stream(l);
    if (held) put_on_stream(held);
    held = NULL;
}

static ncclResult_t close_group(void) {
    ncclResult_t result = ncclSuccess;
    for (int i = 0; i < n_in_group; i++) {
        struct launch *l = group[i];
        l->number = n_launches++;
        if (faulty("hang", l->number))
            for (;;) sleep(1);
        l->comm->lag = (int)(coc_random() % 4);
        if (l->comm->lag > 0) {
            l->comm->pending = l;
            result = ncclInProgress;
        } else {
            submit(l);
        }
    }
    n_in_group = 0;
    return result;
}

ncclResult_t ncclGroupStart(void) {
    check_thread();
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    check_thread();
    if (group_depth-- == 0) mistake("a group is ended that was not started");
    return group_depth == 0 ? close_group() : ncclSuccess;
}

static ncclResult_t add(struct ncclComm *comm, cudaStream_t stream, struct operation o) {
    int g = 0;
    check_usable(comm);
    if (o.root < 0 || o.root >= comm->size) mistake("root or partner %d of %d", o.root, comm->size);
    if (o.count == 0 && o.kind < SEND) return ncclSuccess; /* empty collectives are dropped */
    while (g < n_in_group && group[g]->comm != comm) g++;
    if (g == n_in_group) {
        if (g == 16) mistake("too many communicators in a group");
        group[n_in_group++] = room(1, sizeof **group);
    }
    struct launch *l = group[g];
    if (l->comm && l->stream != stream) mistake("a group uses two streams");
    l->comm = comm;
    l->stream = stream;
    l->ops = realloc(l->ops, (size_t)(l->n_ops + 1) * sizeof *l->ops);
    if (!l->ops) abort();
    l->ops[l->n_ops++] = o;
    return group_depth == 0 ? close_group() : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t s) {
    return add(comm, s,
               (struct operation){
                   .kind = ALL_REDUCE, .in = in, .out = out, .count = n, .type = type, .op = (int)op});
}
ncclResult_t ncclReduce(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t s) {
    return add(
        comm, s,
        (struct operation){
            .kind = REDUCE, .in = in, .out = out, .count = n, .type = type, .op = (int)op, .root = root});
}
ncclResult_t ncclReduceScatter(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t s) {
    return add(comm, s,
               (struct operation){
                   .kind = REDUCE_SCATTER, .in = in, .out = out, .count = n, .type = type, .op = (int)op});
}
ncclResult_t ncclAllGather(const void *in, void *out, size_t n, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t s) {
    return add(comm, s,
               (struct operation){.kind = ALL_GATHER, .in = in, .out = out, .count = n, .type = type});
}
ncclResult_t ncclBroadcast(const void *in, void *out, size_t n, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t s) {
    return add(
        comm, s,
        (struct operation){.kind = BROADCAST, .in = in, .out = out, .count = n, .type = type, .root = root});
}
ncclResult_t ncclSend(const void *in, size_t n, ncclDataType_t type, int to, ncclComm_t comm,
                      cudaStream_t s) {
    return add(comm, s, (struct operation){.kind = SEND, .in = in, .count = n, .type = type, .root = to});
}
ncclResult_t ncclRecv(void *out, size_t n, ncclDataType_t type, int from, ncclComm_t comm, cudaStream_t s) {
    return add(comm, s,
               (struct operation){.kind = RECEIVE, .out = out, .count = n, .type = type, .root = from});
}

/* ---- communicators ---- */

static struct ncclComm *comm_new(int rank, int size, int tag) {
    struct ncclComm *comm = room(1, sizeof *comm);
    comm->rank = rank;
    comm->size = size;
    comm->tag = tag;
    comm->world = room((size_t)size, sizeof *comm->world);
    comm->n_sent = room((size_t)size, sizeof *comm->n_sent);
    comm->n_received = room((size_t)size, sizeof *comm->n_received);
    for (int r = 0; r < size; r++) comm->world[r] = r;
    return comm;
}

static void comm_release(struct ncclComm *comm) {
    free(comm->world);
    free(comm->n_sent);
    free(comm->n_received);
    free(comm->splits);
    free(comm);
}

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    const uint64_t bits[] = {coc_random(), (uint64_t)getpid()};
    memset(id, 0, sizeof *id);
    memcpy(id, bits, sizeof bits);
    return ncclSuccess;
}

static void check_config(const ncclConfig_t *config) {
    if (!config || config->magic != 0xcafebeef || config->blocking != 0)
        mistake("only communicators with blocking = 0 are offered");
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    int world_size;
    check_thread();
    check_config(config);
    MPI_Comm_size(MPI_COMM_WORLD, &world_size);
    if (size != world_size || rank != world_rank()) mistake("the first communicator must be the world");
    struct ncclComm *comm = comm_new(rank, size, 0);
    uint64_t bits;
    memcpy(&bits, &id, sizeof bits);
    comm->id[0] = bits;
    comm->id[1] = ~bits;
    MPI_Comm_idup(MPI_COMM_WORLD, &comm->mpi, &comm->request);
    *out = comm;
    return ncclInProgress;
}

ncclResult_t ncclCommSplit(ncclComm_t parent, int color, int key, ncclComm_t *out, ncclConfig_t *config) {
    check_usable(parent);
    check_config(config);
    if (parent->tag != 0) mistake("only the world is split here");
    parent->state = SPLITTING;
    parent->n_splits++;
    parent->split[0] = color;
    parent->split[1] = key;
    parent->new_comm = out;
    if (!parent->splits) parent->splits = room((size_t)parent->size, 2 * sizeof *parent->splits);
    MPI_Iallgather(parent->split, 2, MPI_INT, parent->splits, 2, MPI_INT, parent->mpi, &parent->request);
    *out = NULL;
    return ncclInProgress;
}

/* All colours and keys are here. Keys must ascend with the ranks: nobody needs more. */
static void finish_split(struct ncclComm *parent) {
    const int color = parent->split[0];
    int n = 0, rank = 0, last_key = -1;
    parent->state = READY;
    if (color == NCCL_SPLIT_NOCOLOR) return;
    struct ncclComm *comm = comm_new(0, parent->size, 16 * parent->n_splits + color);
    for (int r = 0; r < parent->size; r++) {
        if (parent->splits[2 * r] != color) continue;
        if (parent->splits[2 * r + 1] < last_key) mistake("keys of a split fall");
        last_key = parent->splits[2 * r + 1];
        if (r == parent->rank) rank = n;
        comm->world[n++] = parent->world[r];
    }
    comm->rank = rank;
    comm->size = n;
    comm->mpi = parent->mpi;
    comm->state = READY;
    *parent->new_comm = comm;
}

static bool request_done(struct ncclComm *comm) {
    int done = 0;
    MPI_Test(&comm->request, &done, MPI_STATUS_IGNORE);
    return done;
}

/* What a communicator that is in progress can do by now. */
static void proceed(struct ncclComm *comm) {
    if (comm->state == STARTING && request_done(comm)) {
        MPI_Iallreduce(comm->id, comm->ids, 2, MPI_UINT64_T, MPI_MAX, comm->mpi, &comm->request);
        comm->state = COMPARING;
    } else if (comm->state == COMPARING && request_done(comm)) {
        if (comm->ids[0] != comm->id[0] || comm->ids[1] != comm->id[1])
            mistake("the ranks have other unique ids");
        comm->state = READY;
    } else if (comm->state == SPLITTING && request_done(comm)) {
        finish_split(comm);
    } else if (comm->state == FINALISING && comm->n_on_streams == 0) {
        comm->state = FINALISED;
    } else if (comm->lag > 0 && --comm->lag == 0 && comm->pending) {
        struct launch *l = comm->pending;
        comm->pending = NULL;
        submit(l);
    }
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    check_thread();
    if (comm->state == ABORTED) mistake("a call on an aborted communicator");
    coc_progress();
    proceed(comm);
    const bool settled = (comm->state == READY || comm->state == FINALISED) && comm->lag == 0;
    *error = !settled ? ncclInProgress : faulty("error", n_launches - 1) ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    check_usable(comm);
    comm->state = FINALISING;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    check_thread();
    if (comm->state != FINALISED) mistake("a communicator is destroyed that is not finalised");
    if (comm->tag == 0) MPI_Comm_free(&comm->mpi);
    comm_release(comm);
    return ncclSuccess;
}

/* Its operations end where they are; the memory stays with MPI, which may still write to it. */
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    check_thread();
    comm->state = ABORTED;
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *n) {
    *n = comm->size;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
    *rank = comm->rank;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    return result == ncclSuccess       ? "no error"
           : result == ncclInProgress  ? "NCCL operation in progress"
           : result == ncclRemoteError ? "remote process exited or there was a network error"
                                       : "an error of the stand-in";
}

const char *ncclGetLastError(ncclComm_t comm) {
    (void)comm;
    return "none of its own";
}
