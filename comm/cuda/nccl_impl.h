/* Inside comm/cuda/. */
#ifndef COMM_CUDA_NCCL_IMPL_H
#define COMM_CUDA_NCCL_IMPL_H

#include <nccl.h>

#include "comm/comm_impl.h"
#include "comm/cuda/nccl.h"

#define CLOSE_LIMIT_S 20.0 /* from nccl_close(failed) to the end of the process */
#define STUCK_GRACE_S 5.0  /* a call that stays in NCCL this much beyond the deadline ends the process */

/* ---- the communication stream (queue.c) ---- */

/* An operation on the stream; the request refers to it until it is waited for. */
struct queued {
    struct queued *next;
    struct comm *comm;
    const char *what;
    cudaEvent_t begun, ended;
    bool held; /* by a request */
    bool done;
};

/* A wait of the compute stream for an operation: events in front of it and behind it. */
struct stalled {
    struct stalled *next;
    struct comm *comm; /* NULL: freed meanwhile */
    enum comm_purpose purpose;
    cudaEvent_t before, after;
};

struct queue {
    cudaStream_t compute, stream;
    cudaEvent_t ready;           /* of the compute stream, recorded at each begin */
    struct queued *first, *last; /* on the stream, in this order, not seen done */
    struct queued *spare;
    struct stalled *first_stalled, *last_stalled; /* on the compute stream, in this order, not seen over */
    struct stalled *spare_stalled;
    double running_since_s; /* when `first` was seen to have begun; 0: not yet */
};

status_t cuda_status(cudaError_t error, const char *what);
#define TRY_CUDA(call) TRY(cuda_status((call), #call))

status_t queue_open(struct queue *queue, cudaStream_t compute);
void queue_close(struct queue *queue);

/* The stream waits for the compute stream as it is now; then whatever the caller puts on it; then the end.
 * queue_end() gives the operation to request->device. */
status_t queue_begin(struct queue *queue, struct comm_request *request, struct queued **operation);
status_t queue_end(struct queue *queue, struct comm_request *request, struct queued *operation);

/* The compute stream waits for the operation; how long it stands still goes to request_waited() when
 * queue_reap() sees it over. */
status_t queue_order_compute(struct queue *queue, struct queued *operation, enum comm_purpose purpose);
void queue_forget(struct queue *queue, const struct comm *comm); /* which is freed */

/* Take note of what is done. Never waits. */
status_t queue_reap(struct queue *queue);
void queue_let_go(struct queue *queue, struct queued *operation); /* its request is done with it */

/* ---- a thread that only looks at the clock (watch.c) ---- */

/* One a process; `family` must outlive it. */
status_t watch_start(const struct comm_family *family);
void watch_stop(void);
/* Around every call of NCCL; `what` and `group` for the message. */
void watch_enter(const char *what, const char *group, double limit_s);
ncclResult_t watch_leave(ncclResult_t result);

/* ---- communicators (nccl.c, collectives.c) ---- */

struct nccl_world {
    struct comm *world;
    struct queue queue;
    struct nccl_comm *comms; /* list, the newest first, the world last */
    void *words;             /* device memory for the warm-up: [2 * size] of 8 bytes */
    double last_look_s;
    bool aborted;
};

/* comm->device */
struct nccl_comm {
    struct nccl_world *w;
    struct nccl_comm *next;
    struct comm *comm;
    struct comm host; /* the twin for host memory */
    ncclComm_t nccl;  /* NULL in a group of one */
};

#define NCCL_CALL(comm_, what_, call)                                                                        \
    (watch_enter((what_), (comm_)->name, (comm_)->family->deadline_s + STUCK_GRACE_S), watch_leave(call))

/* After every call that may answer ncclInProgress, before anything else is done with communicator or stream:
 * wait until NCCL has taken the call in, looking at the others and at the deadline. */
status_t nccl_settle(struct comm *comm, const char *what, ncclResult_t result);

/* Ends all that is under way; later operations fail. */
void nccl_abort(struct comm *world);

extern const struct comm_ops comm_ops_nccl; /* nccl.c; its collectives are in collectives.c */

status_t nccl_all_reduce_begin(struct comm_request *request, void *data, int64_t n_elem, enum comm_type type,
                               enum comm_op op);
status_t nccl_reduce_begin(struct comm_request *request, int root, void *data, int64_t n_elem,
                           enum comm_type type, enum comm_op op);
status_t nccl_reduce_scatter_begin(struct comm_request *request, void *data, const int64_t *offsets,
                                   enum comm_type type, enum comm_op op);
status_t nccl_all_gather_begin(struct comm_request *request, void *data, const int64_t *offsets,
                               enum comm_type type);
status_t nccl_broadcast_begin(struct comm_request *request, int root, void *data, int64_t n_elem,
                              enum comm_type type);
status_t nccl_transfer_begin(struct comm_request *request, const struct comm_transfer *sends, int n_sends,
                             const struct comm_transfer *receives, int n_receives);
status_t nccl_barrier_begin(struct comm_request *request);

#endif
