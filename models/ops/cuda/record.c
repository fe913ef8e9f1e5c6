/* Recording: what the stream is told becomes a CUDA graph. */
#include "models/ops/cuda/backend.h"
#include "models/ops/cuda/functions.h"

status_t cuda_record_begin(struct backend *be) {
    TRY_CUDA(cudaStreamBeginCapture(be->stream, cudaStreamCaptureModeThreadLocal));
    return STATUS_OK;
}

status_t cuda_record_end(struct backend *be, void **recording) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec;
    TRY_CUDA(cudaStreamEndCapture(be->stream, &graph));
    const cudaError_t error = cudaGraphInstantiate(&exec, graph, 0);
    (void)cudaGraphDestroy(graph);
    TRY_CUDA(error);
    *recording = exec;
    return STATUS_OK;
}

status_t cuda_replay(struct backend *be, void *recording) {
    TRY_CUDA(cudaGraphLaunch(recording, be->stream));
    return STATUS_OK;
}

void cuda_record_free(struct backend *be, void *recording) {
    (void)cudaStreamSynchronize(be->stream); /* it may still be running */
    (void)cudaGraphExecDestroy(recording);
}
