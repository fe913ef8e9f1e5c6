#include "models/ops/cuda/timing.h"

enum { N_RUNS = 5 };

static status_t time_once(struct backend *be, status_t (*enqueue)(struct backend *be, void *context),
                          void *context, cudaEvent_t event[2], float *time_ms) {
    TRY_CUDA(cudaEventRecord(event[0], be->stream));
    TRY(enqueue(be, context));
    TRY_CUDA(cudaEventRecord(event[1], be->stream));
    TRY_CUDA(cudaEventSynchronize(event[1]));
    TRY_CUDA(cudaEventElapsedTime(time_ms, event[0], event[1]));
    return STATUS_OK;
}

status_t device_time(struct backend *be, status_t (*enqueue)(struct backend *be, void *context),
                     void *context, float *time_ms) {
    float ms[N_RUNS];
    cudaEvent_t event[2] = {NULL, NULL};
    status_t status = STATUS_OK;
    for (int i = 0; i < 2; i++) TRY_CUDA_TO(end, cudaEventCreateWithFlags(&event[i], cudaEventDefault));
    TRY_TO(end, time_once(be, enqueue, context, event, &ms[0]));
    for (int i = 0; i < N_RUNS; i++) TRY_TO(end, time_once(be, enqueue, context, event, &ms[i]));
    for (int i = 1; i < N_RUNS; i++) {
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float earlier = ms[j];
            ms[j] = ms[j - 1], ms[j - 1] = earlier;
        }
    }
    *time_ms = ms[N_RUNS / 2];
end:
    for (int i = 0; i < 2; i++)
        if (event[i]) cudaEventDestroy(event[i]);
    return status;
}
