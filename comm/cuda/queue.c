/* The one communication stream of a rank, and what lies on it. */
#include "comm/cuda/nccl_impl.h"
#include "common/clock.h"
#include "common/memory.h"

#include <stdlib.h>

status_t cuda_status(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return STATUS_OK;
    (void)cudaGetLastError(); /* not to be blamed on the next call */
    return FAIL(error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_INTERNAL,
                "GPU: %s (%s): %.200s", cudaGetErrorString(error), cudaGetErrorName(error), what);
}

status_t queue_open(struct queue *q, cudaStream_t compute) {
    int least = 0, greatest = 0;
    q->compute = compute;
    TRY_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    TRY_CUDA(cudaStreamCreateWithPriority(&q->stream, cudaStreamNonBlocking, greatest));
    TRY_CUDA(cudaEventCreateWithFlags(&q->ready, cudaEventDisableTiming));
    return STATUS_OK;
}

static void free_list(struct queued *operation) {
    while (operation) {
        struct queued *next = operation->next;
        if (operation->begun) cudaEventDestroy(operation->begun);
        if (operation->ended) cudaEventDestroy(operation->ended);
        free(operation);
        operation = next;
    }
}

static void free_stalled(struct stalled *stalled) {
    while (stalled) {
        struct stalled *next = stalled->next;
        if (stalled->before) cudaEventDestroy(stalled->before);
        if (stalled->after) cudaEventDestroy(stalled->after);
        free(stalled);
        stalled = next;
    }
}

void queue_close(struct queue *q) {
    free_list(q->first);
    free_list(q->spare);
    free_stalled(q->first_stalled);
    free_stalled(q->spare_stalled);
    if (q->ready) cudaEventDestroy(q->ready);
    if (q->stream) cudaStreamDestroy(q->stream);
    *q = (struct queue){0};
}

static status_t take_spare(struct queue *q, struct queued **out) {
    struct queued *operation = q->spare;
    if (!operation) {
        operation = memory_zeroed(1, sizeof *operation);
        CHECK(operation, STATUS_NO_MEMORY, "no memory for an operation of the GPU");
        operation->next = q->spare;
        q->spare = operation; /* in the list before its events are made: freed with it, whatever fails */
        TRY_CUDA(cudaEventCreateWithFlags(&operation->begun, cudaEventDisableTiming));
        TRY_CUDA(cudaEventCreateWithFlags(&operation->ended, cudaEventDisableTiming));
    }
    CHECK(operation->begun && operation->ended, STATUS_INTERNAL, "GPU: no events");
    q->spare = operation->next;
    *out = operation;
    return STATUS_OK;
}

status_t queue_begin(struct queue *q, struct comm_request *request, struct queued **out) {
    struct queued *operation;
    TRY(take_spare(q, &operation));
    *operation = (struct queued){.comm = request->comm,
                                 .what = request->what,
                                 .begun = operation->begun,
                                 .ended = operation->ended,
                                 .held = true};
    status_t status = STATUS_OK;
    TRY_TO(fail, cuda_status(cudaEventRecord(q->ready, q->compute), "event of the compute stream"));
    TRY_TO(fail, cuda_status(cudaStreamWaitEvent(q->stream, q->ready, 0), "wait for the compute stream"));
    TRY_TO(fail, cuda_status(cudaEventRecord(operation->begun, q->stream), "event of an operation"));
    *out = operation;
    return STATUS_OK;
fail:
    operation->next = q->spare;
    q->spare = operation;
    return status;
}

status_t queue_end(struct queue *q, struct comm_request *request, struct queued *operation) {
    if (q->first)
        q->last->next = operation;
    else
        q->first = operation;
    q->last = operation;
    request->device = operation;
    TRY_CUDA(cudaEventRecord(operation->ended, q->stream));
    return STATUS_OK;
}

void queue_let_go(struct queue *q, struct queued *operation) {
    operation->held = false;
    if (!operation->done) return; /* still in the list of those under way */
    operation->next = q->spare;
    q->spare = operation;
}

/* ---- how long the compute stream waits ---- */

static status_t take_spare_stalled(struct queue *q, struct stalled **out) {
    struct stalled *s = q->spare_stalled;
    if (!s) {
        s = memory_zeroed(1, sizeof *s);
        CHECK(s, STATUS_NO_MEMORY, "no memory for a wait of the GPU");
        q->spare_stalled = s; /* as above */
        TRY_CUDA(cudaEventCreateWithFlags(&s->before, cudaEventDefault));
        TRY_CUDA(cudaEventCreateWithFlags(&s->after, cudaEventDefault));
    }
    CHECK(s->before && s->after, STATUS_INTERNAL, "GPU: no events");
    *out = s;
    return STATUS_OK;
}

status_t queue_order_compute(struct queue *q, struct queued *operation, enum comm_purpose purpose) {
    struct stalled *s;
    TRY(take_spare_stalled(q, &s));
    TRY_CUDA(cudaEventRecord(s->before, q->compute));
    TRY_CUDA(cudaStreamWaitEvent(q->compute, operation->ended, 0));
    TRY_CUDA(cudaEventRecord(s->after, q->compute));
    q->spare_stalled = s->next;
    *s =
        (struct stalled){.comm = operation->comm, .purpose = purpose, .before = s->before, .after = s->after};
    if (q->first_stalled)
        q->last_stalled->next = s;
    else
        q->first_stalled = s;
    q->last_stalled = s;
    return STATUS_OK;
}

void queue_forget(struct queue *q, const struct comm *comm) {
    for (struct stalled *s = q->first_stalled; s; s = s->next)
        if (s->comm == comm) s->comm = NULL;
}

static status_t reap_stalled(struct queue *q) {
    while (q->first_stalled) {
        struct stalled *s = q->first_stalled;
        float time_ms = 0;
        const cudaError_t over = cudaEventQuery(s->after);
        if (over == cudaErrorNotReady) break;
        TRY(cuda_status(over, "operations of the compute stream"));
        TRY_CUDA(cudaEventElapsedTime(&time_ms, s->before, s->after));
        if (s->comm) request_waited(s->comm, s->purpose, 1e-3 * (double)time_ms);
        q->first_stalled = s->next;
        s->next = q->spare_stalled;
        q->spare_stalled = s;
    }
    (void)cudaGetLastError(); /* "not ready" is no error */
    return STATUS_OK;
}

/* The stream is in order: only the first can be next to end. */
status_t queue_reap(struct queue *q) {
    TRY(reap_stalled(q));
    while (q->first) {
        struct queued *operation = q->first;
        const cudaError_t ended = cudaEventQuery(operation->ended);
        if (ended == cudaErrorNotReady) break;
        TRY(cuda_status(ended, "operations between GPUs"));
        q->first = operation->next;
        q->running_since_s = 0;
        operation->done = true;
        operation->next = NULL;
        if (!operation->held) queue_let_go(q, operation);
    }
    (void)cudaGetLastError(); /* "not ready" is no error */
    if (q->first && q->running_since_s == 0 && cudaEventQuery(q->first->begun) == cudaSuccess)
        q->running_since_s = clock_now_s();
    (void)cudaGetLastError();
    return STATUS_OK;
}
