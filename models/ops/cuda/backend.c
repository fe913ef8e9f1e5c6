/* Opening a GPU; memory and copies. */
#include "models/ops/cuda/backend.h"

#include "common/log.h"
#include "common/memory.h"
#include "models/ops/cuda/conv_engine.h"
#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/gemm_plan.h"
#include "models/ops/cuda/plugin.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

status_t cuda_check(cudaError_t error, const char *what, const char *file, int line) {
    if (error == cudaSuccess) return STATUS_OK;
    (void)cudaGetLastError(); /* errors that stay until asked for must not be blamed on the next call */
    return status_fail(error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_INTERNAL, file, line,
                       "GPU: %s (%s): %.200s", cudaGetErrorString(error), cudaGetErrorName(error), what);
}

/* ---- waiting ---- */

status_t cuda_wait(struct backend *be) {
    if (!be->look) {
        TRY_CUDA(cudaStreamSynchronize(be->stream));
        return STATUS_OK;
    }
    for (;;) {
        const cudaError_t state = cudaStreamQuery(be->stream);
        if (state != cudaErrorNotReady) return cuda_check(state, "wait for the stream", __FILE__, __LINE__);
        (void)cudaGetLastError(); /* "not ready" is no error */
        TRY(be->look(be->look_context));
        sched_yield();
    }
}

status_t cuda_wait_event(struct backend *be, cudaEvent_t event) {
    if (!be->look) {
        TRY_CUDA(cudaEventSynchronize(event));
        return STATUS_OK;
    }
    for (;;) {
        const cudaError_t state = cudaEventQuery(event);
        if (state != cudaErrorNotReady) return cuda_check(state, "wait for an event", __FILE__, __LINE__);
        (void)cudaGetLastError();
        TRY(be->look(be->look_context));
        sched_yield();
    }
}

/* ---- open and close ---- */

status_t staging_open(struct staging *s) {
    for (int i = 0; i < STAGING_SLOTS; i++) {
        TRY_CUDA(cudaMallocHost(&s->slot[i], STAGING_BYTES));
        TRY_CUDA(cudaEventCreateWithFlags(&s->event[i], cudaEventDisableTiming));
    }
    return STATUS_OK;
}

void staging_close(struct staging *s) {
    for (int i = 0; i < STAGING_SLOTS; i++) {
        if (s->event[i]) cudaEventDestroy(s->event[i]);
        if (s->slot[i]) cudaFreeHost(s->slot[i]);
    }
}

static status_t open_on_device(struct backend *be) {
    int max_shared;
    TRY_CUDA(cudaSetDevice(be->device));
    TRY_CUDA(cudaDeviceGetAttribute(&be->n_sms, cudaDevAttrMultiProcessorCount, be->device));
    TRY_CUDA(cudaDeviceGetAttribute(&max_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, be->device));
    be->max_shared = (size_t)max_shared;
    TRY_CUDA(cudaStreamCreateWithFlags(&be->stream, cudaStreamNonBlocking));
    TRY(staging_open(&be->staging));
    TRY_CUDA(cudaMalloc((void **)&be->partials, PARTIALS * sizeof *be->partials));
    TRY_CUDA(cudaMalloc(&be->small, SMALL_BYTES));
    TRY_CUDA(cudaMalloc(&be->gemm_workspace, GEMM_WORKSPACE));
    const cublasStatus_t lt = cublasLtCreate(&be->lt);
    CHECK(lt == CUBLAS_STATUS_SUCCESS, STATUS_INTERNAL, "GPU: cublasLtCreate failed: %s",
          cublasLtGetStatusString(lt));
    return STATUS_OK;
}

status_t cuda_backend_open(int device, bool autotune, struct backend **out) {
    struct backend *be = memory_zeroed(1, sizeof *be);
    CHECK(be, STATUS_NO_MEMORY, "out of memory for a backend");
    be->device = device;
    be->autotune = autotune;
    const status_t status = open_on_device(be);
    if (status != STATUS_OK) {
        cuda_backend_close(be);
        return status;
    }
    *out = be;
    return STATUS_OK;
}

/* What timing changed. */
static void log_choices(const struct backend *be) {
    int64_t n_products, n_convolutions;
    const int64_t n_changed = gemm_plans_raced(be, &n_products),
                  n_foreign = conv_engines_raced(be, &n_convolutions);
    log_global(
        LOG_INFO,
        "GPU: cuda.autotune timed %lld matrix products, %lld of them now by another algorithm than the "
        "first, and %lld convolutions, %lld of them now by cuDNN",
        (long long)n_products, (long long)n_changed, (long long)n_convolutions, (long long)n_foreign);
}

void cuda_backend_close(struct backend *be) {
    if (!be) return;
    if (be->stream) cudaStreamSynchronize(be->stream);
    if (be->upload_stream) cudaStreamSynchronize(be->upload_stream);
    if (be->autotune) log_choices(be);
    conv_engines_close(be->engines);
    gemm_plans_free(be->plans);
    if (be->lt) cublasLtDestroy(be->lt);
    cudaFree(be->gemm_workspace);
    cudaFree(be->small);
    cudaFree(be->partials);
    staging_close(&be->staging);
    staging_close(&be->upload_staging);
    if (be->upload_stream) cudaStreamDestroy(be->upload_stream);
    if (be->stream) cudaStreamDestroy(be->stream);
    free(be);
}

/* ---- memory ---- */

status_t cuda_alloc(struct backend *be, size_t n_bytes, void **out) {
    void *p = NULL;
    const cudaError_t error = cudaMalloc(&p, n_bytes > 0 ? n_bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        size_t n_free = 0, total = 0;
        (void)cudaGetLastError();
        (void)cudaMemGetInfo(&n_free, &total);
        return FAIL(STATUS_NO_MEMORY,
                    "GPU %d: %.2f GiB are wanted, %.2f of %.2f GiB are free; smaller batches, "
                    "recompute=blocks or more ranks need less",
                    be->device, (double)n_bytes / (1 << 30), (double)n_free / (1 << 30),
                    (double)total / (1 << 30));
    }
    TRY_CUDA(error);
    *out = p;
    return STATUS_OK;
}

void cuda_release(struct backend *be, void *p) {
    (void)be;
    cudaFree(p);
}

status_t staging_copy(struct backend *be, struct staging *s, cudaStream_t stream, void *dst, const void *host,
                      size_t n_bytes) {
    for (size_t done = 0; done < n_bytes;) {
        const size_t n = n_bytes - done < STAGING_BYTES ? n_bytes - done : STAGING_BYTES;
        const int slot = s->next;
        s->next = (s->next + 1) % STAGING_SLOTS;
        TRY(cuda_wait_event(be, s->event[slot]));
        memcpy(s->slot[slot], (const char *)host + done, n);
        TRY_CUDA(cudaMemcpyAsync((char *)dst + done, s->slot[slot], n, cudaMemcpyHostToDevice, stream));
        TRY_CUDA(cudaEventRecord(s->event[slot], stream));
        done += n;
    }
    return STATUS_OK;
}

status_t cuda_copy_in(struct backend *be, void *dst, const void *host, size_t n_bytes) {
    return staging_copy(be, &be->staging, be->stream, dst, host, n_bytes);
}

status_t cuda_copy_out(struct backend *be, void *host, const void *src, size_t n_bytes) {
    TRY_CUDA(cudaMemcpyAsync(host, src, n_bytes, cudaMemcpyDeviceToHost, be->stream));
    return cuda_wait(be);
}

status_t cuda_copy(struct backend *be, void *dst, const void *src, size_t n_bytes) {
    if (n_bytes == 0) return STATUS_OK;
    TRY_CUDA(cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyDeviceToDevice, be->stream));
    return STATUS_OK;
}

status_t cuda_fill_zero(struct backend *be, void *dst, size_t n_bytes) {
    if (n_bytes == 0) return STATUS_OK;
    TRY_CUDA(cudaMemsetAsync(dst, 0, n_bytes, be->stream));
    return STATUS_OK;
}

status_t cuda_synchronise(struct backend *be) {
    return cuda_wait(be);
}

status_t small_array(struct backend *be, const void *host, size_t n_bytes, void **device) {
    const size_t room = (n_bytes + 255) / 256 * 256;
    CHECK(room <= SMALL_BYTES, STATUS_INTERNAL, "%zu bytes are more than an operation may bring", n_bytes);
    if (be->small_used + room > SMALL_BYTES) be->small_used = 0;
    *device = (char *)be->small + be->small_used;
    be->small_used += room;
    return cuda_copy_in(be, *device, host, n_bytes);
}
