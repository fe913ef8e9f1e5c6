/* The operations of comm.h as NCCL's. Each is one launch on the communication stream. */
#include "comm/cuda/nccl_impl.h"

static ncclDataType_t datatype(enum comm_type type) {
    static const ncclDataType_t types[] = {
        [COMM_U8] = ncclUint8,     [COMM_I32] = ncclInt32,   [COMM_I64] = ncclInt64,
        [COMM_U64] = ncclUint64,   [COMM_F32] = ncclFloat32, [COMM_F64] = ncclFloat64,
        [COMM_BF16] = ncclBfloat16};
    return types[type];
}

static ncclRedOp_t operation(enum comm_op op) {
    return op == COMM_SUM ? ncclSum : op == COMM_MAX ? ncclMax : ncclMin;
}

static struct nccl_comm *device_of(const struct comm_request *request) {
    return request->comm->device;
}

/* Between the two an operation puts its calls on the stream: one call, or a group of calls. */
static status_t open_operation(struct comm_request *request, struct queued **out) {
    struct nccl_world *w = device_of(request)->w;
    TRY(family_check(request->comm->family, true));
    CHECK(!w->aborted, STATUS_INTERNAL, "%s: the communication between GPUs has been ended", request->what);
    return queue_begin(&w->queue, request, out);
}

static status_t close_operation(struct comm_request *request, struct queued *operation, ncclResult_t result) {
    const status_t status = nccl_settle(request->comm, request->what, result);
    TRY(queue_end(&device_of(request)->w->queue, request, operation)); /* also after a failure: it is kept */
    return status;
}

/* The first that is neither success nor in progress. */
static void keep(ncclResult_t *first, ncclResult_t result) {
    if (*first == ncclSuccess || *first == ncclInProgress) *first = result;
}

static void group_start(struct comm_request *request, ncclResult_t *result) {
    *result = NCCL_CALL(request->comm, request->what, ncclGroupStart());
}

static void group_end(struct comm_request *request, ncclResult_t *result) {
    keep(result, NCCL_CALL(request->comm, request->what, ncclGroupEnd()));
}

status_t nccl_all_reduce_begin(struct comm_request *request, void *data, int64_t n_elem, enum comm_type type,
                               enum comm_op op) {
    const struct nccl_comm *c = device_of(request);
    struct queued *queued;
    TRY(open_operation(request, &queued));
    const ncclResult_t result = NCCL_CALL(request->comm, request->what,
                                          ncclAllReduce(data, data, (size_t)n_elem, datatype(type),
                                                        operation(op), c->nccl, c->w->queue.stream));
    return close_operation(request, queued, result);
}

status_t nccl_reduce_begin(struct comm_request *request, int root, void *data, int64_t n_elem,
                           enum comm_type type, enum comm_op op) {
    const struct nccl_comm *c = device_of(request);
    struct queued *queued;
    TRY(open_operation(request, &queued));
    const ncclResult_t result = NCCL_CALL(request->comm, request->what,
                                          ncclReduce(data, data, (size_t)n_elem, datatype(type),
                                                     operation(op), root, c->nccl, c->w->queue.stream));
    return close_operation(request, queued, result);
}

/* Parts of one size lie where NCCL's own collectives want them. */
static bool even(const struct comm *comm, const int64_t *offsets) {
    for (int r = 0; r < comm->size; r++)
        if (offsets[r + 1] - offsets[r] != offsets[1]) return false;
    return true;
}

static char *part_of(void *data, const int64_t *offsets, int rank, enum comm_type type) {
    return (char *)data + (size_t)offsets[rank] * comm_type_bytes(type);
}

/* Parts of any sizes: one group, in which each is reduced to its owner, or sent by it to all. */
static ncclResult_t part_by_part(struct comm_request *request, void *data, const int64_t *offsets,
                                 enum comm_type type, const enum comm_op *op) {
    const struct nccl_comm *c = device_of(request);
    const struct comm *comm = request->comm;
    cudaStream_t stream = c->w->queue.stream;
    ncclResult_t result;
    group_start(request, &result);
    for (int r = 0; r < comm->size; r++) {
        char *part = part_of(data, offsets, r, type);
        const size_t n = (size_t)(offsets[r + 1] - offsets[r]);
        if (n == 0) continue;
        keep(&result,
             NCCL_CALL(comm, request->what,
                       op ? ncclReduce(part, part, n, datatype(type), operation(*op), r, c->nccl, stream)
                          : ncclBroadcast(part, part, n, datatype(type), r, c->nccl, stream)));
    }
    group_end(request, &result);
    return result;
}

status_t nccl_reduce_scatter_begin(struct comm_request *request, void *data, const int64_t *offsets,
                                   enum comm_type type, enum comm_op op) {
    const struct nccl_comm *c = device_of(request);
    const struct comm *comm = request->comm;
    struct queued *queued;
    TRY(open_operation(request, &queued));
    const ncclResult_t result =
        even(comm, offsets)
            ? NCCL_CALL(comm, request->what,
                        ncclReduceScatter(data, part_of(data, offsets, comm->rank, type), (size_t)offsets[1],
                                          datatype(type), operation(op), c->nccl, c->w->queue.stream))
            : part_by_part(request, data, offsets, type, &op);
    return close_operation(request, queued, result);
}

status_t nccl_all_gather_begin(struct comm_request *request, void *data, const int64_t *offsets,
                               enum comm_type type) {
    const struct nccl_comm *c = device_of(request);
    const struct comm *comm = request->comm;
    struct queued *queued;
    TRY(open_operation(request, &queued));
    const ncclResult_t result =
        even(comm, offsets)
            ? NCCL_CALL(comm, request->what,
                        ncclAllGather(part_of(data, offsets, comm->rank, type), data, (size_t)offsets[1],
                                      datatype(type), c->nccl, c->w->queue.stream))
            : part_by_part(request, data, offsets, type, NULL);
    return close_operation(request, queued, result);
}

status_t nccl_broadcast_begin(struct comm_request *request, int root, void *data, int64_t n_elem,
                              enum comm_type type) {
    const struct nccl_comm *c = device_of(request);
    struct queued *queued;
    TRY(open_operation(request, &queued));
    const ncclResult_t result = NCCL_CALL(
        request->comm, request->what,
        ncclBroadcast(data, data, (size_t)n_elem, datatype(type), root, c->nccl, c->w->queue.stream));
    return close_operation(request, queued, result);
}

status_t nccl_barrier_begin(struct comm_request *request) {
    return nccl_all_reduce_begin(request, device_of(request)->w->words, 1, COMM_I32, COMM_MAX);
}

/* ---- transfers ---- */

/* What this rank sends to itself: the k-th send meets the k-th receive. */
static status_t copy_own(const struct comm *comm, cudaStream_t stream, const struct comm_transfer *sends,
                         int n_sends, const struct comm_transfer *receives, int n_receives) {
    int r = 0;
    for (int s = 0; s < n_sends; s++) {
        if (sends[s].rank != comm->rank || sends[s].n_bytes == 0) continue;
        while (r < n_receives && (receives[r].rank != comm->rank || receives[r].n_bytes == 0)) r++;
        CHECK(r < n_receives && receives[r].n_bytes == sends[s].n_bytes, STATUS_INTERNAL,
              "a transfer of %zu bytes from rank %d to itself has no matching receive", sends[s].n_bytes,
              comm->rank);
        TRY_CUDA(cudaMemcpyAsync(receives[r].data, sends[s].data, sends[s].n_bytes, cudaMemcpyDeviceToDevice,
                                 stream));
        r++;
    }
    return STATUS_OK;
}

static int count_others(const struct comm *comm, const struct comm_transfer *transfers, int n) {
    int n_others = 0;
    for (int i = 0; i < n; i++) n_others += transfers[i].rank != comm->rank && transfers[i].n_bytes > 0;
    return n_others;
}

/* All sends and receives as one group: NCCL lets them go on independently of each other. */
static ncclResult_t send_and_receive(struct comm_request *request, const struct comm_transfer *sends,
                                     int n_sends, const struct comm_transfer *receives, int n_receives) {
    const struct nccl_comm *c = device_of(request);
    const struct comm *comm = request->comm;
    cudaStream_t stream = c->w->queue.stream;
    ncclResult_t result;
    group_start(request, &result);
    for (int i = 0; i < n_sends; i++)
        if (sends[i].rank != comm->rank && sends[i].n_bytes > 0)
            keep(&result, NCCL_CALL(comm, request->what,
                                    ncclSend(sends[i].data, sends[i].n_bytes, ncclUint8, sends[i].rank,
                                             c->nccl, stream)));
    for (int i = 0; i < n_receives; i++)
        if (receives[i].rank != comm->rank && receives[i].n_bytes > 0)
            keep(&result, NCCL_CALL(comm, request->what,
                                    ncclRecv(receives[i].data, receives[i].n_bytes, ncclUint8,
                                             receives[i].rank, c->nccl, stream)));
    group_end(request, &result);
    return result;
}

status_t nccl_transfer_begin(struct comm_request *request, const struct comm_transfer *sends, int n_sends,
                             const struct comm_transfer *receives, int n_receives) {
    const struct nccl_comm *c = device_of(request);
    const int n_others =
        count_others(request->comm, sends, n_sends) + count_others(request->comm, receives, n_receives);
    ncclResult_t result = ncclSuccess;
    struct queued *queued;
    TRY(open_operation(request, &queued));
    const status_t copied = copy_own(request->comm, c->w->queue.stream, sends, n_sends, receives, n_receives);
    if (copied == STATUS_OK && n_others > 0)
        result = send_and_receive(request, sends, n_sends, receives, n_receives);
    const status_t status = close_operation(request, queued, result);
    return copied == STATUS_OK ? status : copied;
}
