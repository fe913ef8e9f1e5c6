#include "training/pixels.h"

static size_t row_bytes(const struct loader_output *out, size_t element_bytes) {
    return 3 * (size_t)out->size * (size_t)out->size * element_bytes;
}

status_t pixels_open(struct pixels *p, const struct ops *ops, struct backend *be, enum dtype precision,
                     const struct loader_config *config) {
    struct loader_config c = *config;
    *p = (struct pixels){.ops = ops, .be = be, .precision = precision};
    c.type = ops->upload_open ? LOADER_U8 : precision == DTYPE_BF16 ? LOADER_BF16 : LOADER_F32;
    TRY(loader_open(&c, &p->loader));
    const status_t status =
        ops->upload_open ? ops->upload_open(be, loader_batch_bytes(&c), &p->upload) : STATUS_OK;
    if (status != STATUS_OK) pixels_close(p);
    return status;
}

void pixels_close(struct pixels *p) {
    loader_close(p->loader);
    if (p->upload) p->ops->upload_close(p->be, p->upload);
    *p = (struct pixels){0};
}

/* Take a batch and set its pixels under way. */
static status_t take(struct pixels *p, struct loader_batch **out) {
    struct loader_batch *batch;
    TRY(loader_next(p->loader, &batch));
    *out = batch;
    if (!batch) return STATUS_OK;
    const int32_t lane = (int32_t)(p->n_taken++ % UPLOAD_LANES);
    size_t at = 0;
    status_t status = STATUS_OK;
    for (int i = 0; i < batch->n_parts && p->upload && status == STATUS_OK; i++) {
        const struct loader_output *part = &batch->parts[i];
        const size_t n_bytes = (size_t)part->n * row_bytes(part, 1);
        p->offset[lane][i] = at;
        if (n_bytes > 0) status = p->ops->upload_begin(p->be, p->upload, lane, at, part->pixels, n_bytes);
        at += n_bytes;
    }
    if (status != STATUS_OK) {
        loader_release(p->loader, batch);
        *out = NULL;
    }
    return status;
}

status_t pixels_next(struct pixels *p, struct loader_batch **out) {
    *out = p->ahead;
    p->ahead = NULL;
    return *out ? STATUS_OK : take(p, out);
}

status_t pixels_copy(struct pixels *p, const struct loader_batch *batch, int part, void *y) {
    const struct loader_output *in = &batch->parts[part];
    if (in->n == 0) return STATUS_OK;
    if (!p->upload)
        return p->ops->copy_in(p->be, y, in->pixels,
                               (size_t)in->n * row_bytes(in, dtype_bytes(p->precision)));
    const int32_t lane = (int32_t)((p->n_taken - (p->ahead ? 2 : 1)) % UPLOAD_LANES);
    return p->ops->upload_normalise(p->be, p->upload, lane, p->offset[lane][part], p->precision, y,
                                    in->n * in->size * in->size);
}

status_t pixels_ahead(struct pixels *p) {
    if (!p->upload || p->ahead) return STATUS_OK;
    return take(p, &p->ahead);
}
