#include "models/ops/ref/memory.h"

#include <stdlib.h>
#include <string.h>

#include "models/ops/ref/ref.h"

struct backend {
    int unused; /* the host's memory needs no state */
};

status_t ref_backend_open(struct backend **out) {
    struct backend *be = calloc(1, sizeof *be);
    CHECK(be, STATUS_NO_MEMORY, "no memory for a backend");
    *out = be;
    return STATUS_OK;
}

void ref_backend_close(struct backend *be) {
    free(be);
}

status_t ref_alloc(struct backend *be, size_t n_bytes, void **out) {
    (void)be;
    void *p = NULL;
    CHECK(posix_memalign(&p, 256, n_bytes ? n_bytes : 1) == 0, STATUS_NO_MEMORY, "no memory for %zu bytes",
          n_bytes);
    *out = p;
    return STATUS_OK;
}

void ref_release(struct backend *be, void *p) {
    (void)be;
    free(p);
}

status_t ref_copy(struct backend *be, void *dst, const void *src, size_t n_bytes) {
    (void)be;
    if (n_bytes > 0) memcpy(dst, src, n_bytes);
    return STATUS_OK;
}

status_t ref_fill_zero(struct backend *be, void *dst, size_t n_bytes) {
    (void)be;
    if (n_bytes > 0) memset(dst, 0, n_bytes);
    return STATUS_OK;
}

status_t ref_synchronise(struct backend *be) {
    (void)be;
    return STATUS_OK;
}
