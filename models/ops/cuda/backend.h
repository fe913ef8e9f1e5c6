/* A GPU of one rank: stream, workspaces and handles, and what the backend's files share.
 *
 * All operations go to one stream, in order. Nothing allocates or waits for the device inside a step: what
 * operations need besides the graph's scratch lies here and is used in the order of the stream.
 *
 * C and C++ (.cu) include this header. */
#ifndef MODELS_OPS_CUDA_BACKEND_H
#define MODELS_OPS_CUDA_BACKEND_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "models/ops/ops.h"

enum {
    STAGING_SLOTS = 4,
    STAGING_BYTES = 8 << 20,  /* of a slot: pinned host memory */
    PARTIALS = 1 << 16,       /* doubles: sums by block, added in a second kernel in a fixed order */
    SMALL_BYTES = 1 << 20,    /* device memory for small arrays that a call brings from the host */
    GEMM_WORKSPACE = 32 << 20 /* what cuBLASLt may use (NVIDIA's advice for Hopper) */
};

/* Pinned host memory that asynchronous copies read from; a slot is used again when its event has passed. */
struct staging {
    void *slot[STAGING_SLOTS];
    cudaEvent_t event[STAGING_SLOTS]; /* recorded behind the last copy out of the slot */
    int next;
};

/* All slots, or nothing that staging_close() would not release. */
status_t staging_open(struct staging *s);
void staging_close(struct staging *s); /* once the copies are done; a zeroed struct is fine */
/* Copy to the device behind what `stream` holds, by way of pinned memory: the host's buffer is free at once.
 */
status_t staging_copy(struct backend *be, struct staging *s, cudaStream_t stream, void *dst, const void *host,
                      size_t n_bytes);

struct gemm_plans; /* gemm_plan.c: what cuBLASLt was asked for, and the algorithm it chose */

struct conv_engines; /* conv_engine.c: cuDNN, and which convolutions are its */

struct backend {
    int device;
    int n_sms;
    size_t max_shared; /* bytes of shared memory a block may ask for */
    cudaStream_t stream;
    struct staging staging;
    cudaStream_t upload_stream; /* upload.c: pixels of steps to come; NULL before the first */
    struct staging upload_staging;
    double *partials; /* [PARTIALS] */
    void *small;      /* [SMALL_BYTES]; a call's own part, see small_array() */
    size_t small_used;
    cublasLtHandle_t lt;
    void *gemm_workspace; /* [GEMM_WORKSPACE] */
    struct gemm_plans *plans;
    struct conv_engines *engines;
    bool autotune; /* time what can be computed in several ways when it is first met, keep the fastest */
    /* Called while the host waits for the device: what the stream waits for may never come, from another
     * rank. NULL: nothing to look at. An error ends the wait. */
    status_t (*look)(void *context);
    void *look_context;
};

/* STATUS_INTERNAL (out of memory: STATUS_NO_MEMORY) with CUDA's text unless `error` is cudaSuccess. */
status_t cuda_check(cudaError_t error, const char *what, const char *file, int line);
#define TRY_CUDA(call)           TRY(cuda_check((call), #call, __FILE__, __LINE__))
#define TRY_CUDA_TO(label, call) TRY_TO(label, cuda_check((call), #call, __FILE__, __LINE__))
/* After LAUNCH: an error of the launch itself. */
#define TRY_LAUNCH() TRY(cuda_check(cudaGetLastError(), "kernel launch", __FILE__, __LINE__))

/* The host's waits, with be->look. */
status_t cuda_wait(struct backend *be);                          /* for all that is on the stream */
status_t cuda_wait_event(struct backend *be, cudaEvent_t event); /* for an event of the stream */

/* Bring a small array (indices, settings of segments) from the host to memory of the device that is this
 * call's alone until the operations enqueued after it have run: `*device` is valid for kernels enqueued
 * before SMALL_BYTES more bytes were asked for. The host array may change at once. */
status_t small_array(struct backend *be, const void *host, size_t n_bytes, void **device);

/* Blocks for a loop over n elements with `threads` a block, bounded so that every SM has some blocks. */
static inline unsigned grid_of(const struct backend *be, int64_t n, int threads) {
    const int64_t blocks = (n + threads - 1) / threads, most = (int64_t)be->n_sms * 16;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

#ifdef __cplusplus
}
#endif
#endif
