/* Raw pixels of steps to come: they travel on a stream of their own while operations run on the backend's,
 * and are normalised there. Events order the two: a lane is written once its earlier pixels were normalised,
 * and read once its new ones are there. */
#include "models/ops/cuda/backend.h"

#include "common/memory.h"
#include "models/ops/cuda/functions.h"

#include <stdlib.h>

struct lane {
    uint8_t *bytes;
    cudaEvent_t arrived; /* recorded on the upload stream behind each copy */
    cudaEvent_t emptied; /* recorded on the backend's stream behind each normalisation */
};

struct upload {
    size_t n_bytes; /* of a lane */
    struct lane lane[UPLOAD_LANES];
};

/* Stream and pinned memory of all uploads, with the first of them. */
static status_t open_stream(struct backend *be) {
    if (be->upload_stream) return STATUS_OK;
    TRY(staging_open(&be->upload_staging));
    TRY_CUDA(cudaStreamCreateWithFlags(&be->upload_stream, cudaStreamNonBlocking));
    return STATUS_OK;
}

static status_t open_lane(struct backend *be, struct lane *lane, size_t n_bytes) {
    void *bytes;
    TRY(cuda_alloc(be, n_bytes, &bytes));
    lane->bytes = bytes;
    TRY_CUDA(cudaEventCreateWithFlags(&lane->arrived, cudaEventDisableTiming));
    TRY_CUDA(cudaEventCreateWithFlags(&lane->emptied, cudaEventDisableTiming));
    return STATUS_OK;
}

status_t cuda_upload_open(struct backend *be, size_t n_bytes, struct upload **out) {
    struct upload *u = memory_zeroed(1, sizeof *u);
    CHECK(u, STATUS_NO_MEMORY, "out of memory for an upload");
    u->n_bytes = n_bytes;
    status_t status = open_stream(be);
    for (int i = 0; i < UPLOAD_LANES && status == STATUS_OK; i++)
        status = open_lane(be, &u->lane[i], n_bytes);
    if (status != STATUS_OK) {
        cuda_upload_close(be, u);
        return status;
    }
    *out = u;
    return STATUS_OK;
}

void cuda_upload_close(struct backend *be, struct upload *upload) {
    if (!upload) return;
    if (be->upload_stream) cudaStreamSynchronize(be->upload_stream);
    cudaStreamSynchronize(be->stream);
    for (int i = 0; i < UPLOAD_LANES; i++) {
        struct lane *lane = &upload->lane[i];
        if (lane->arrived) cudaEventDestroy(lane->arrived);
        if (lane->emptied) cudaEventDestroy(lane->emptied);
        if (lane->bytes) cuda_release(be, lane->bytes);
    }
    free(upload);
}

static status_t check_room(const struct upload *u, int32_t lane, size_t offset, size_t n_bytes) {
    CHECK(lane >= 0 && lane < UPLOAD_LANES && offset <= u->n_bytes && n_bytes <= u->n_bytes - offset,
          STATUS_INTERNAL, "%zu bytes of pixels at %zu of lane %d, which has %zu", n_bytes, offset, lane,
          u->n_bytes);
    return STATUS_OK;
}

status_t cuda_upload_begin(struct backend *be, struct upload *upload, int32_t lane, size_t offset,
                           const void *host, size_t n_bytes) {
    TRY(check_room(upload, lane, offset, n_bytes));
    const struct lane *l = &upload->lane[lane];
    TRY_CUDA(cudaStreamWaitEvent(be->upload_stream, l->emptied, 0));
    TRY(staging_copy(be, &be->upload_staging, be->upload_stream, l->bytes + offset, host, n_bytes));
    TRY_CUDA(cudaEventRecord(l->arrived, be->upload_stream));
    return STATUS_OK;
}

status_t cuda_upload_normalise(struct backend *be, struct upload *upload, int32_t lane, size_t offset,
                               enum dtype dtype, void *y, int64_t n_pixels) {
    TRY(check_room(upload, lane, offset, 3 * (size_t)n_pixels));
    const struct lane *l = &upload->lane[lane];
    TRY_CUDA(cudaStreamWaitEvent(be->stream, l->arrived, 0));
    TRY(cuda_normalise(be, dtype, y, l->bytes + offset, n_pixels));
    TRY_CUDA(cudaEventRecord(l->emptied, be->stream));
    return STATUS_OK;
}
