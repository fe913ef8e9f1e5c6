#include "models/ops/cpu/backend.h"

#include "common/memory.h"
#include "common/simd.h"
#include "models/ops/cpu/functions.h"

#include <omp.h>
#include <string.h>

#define ALIGNMENT 256
#define WORTH_A_THREAD 20000.0 /* elementary steps a thread at least: waking it takes some microseconds */

status_t cpu_backend_open(int32_t n_threads, struct backend **out) {
    status_t status = STATUS_OK;
    struct backend *be = memory_zeroed(1, sizeof *be);
    CHECK(be, STATUS_NO_MEMORY, "no memory for the CPU backend");
    if (n_threads > 0) omp_set_num_threads(n_threads);
    be->n_threads = omp_get_max_threads();
    TRY_TO(failed, onednn_open(be->n_threads, &be->onednn));
    *out = be;
    return STATUS_OK;
failed:
    cpu_backend_close(be);
    return status;
}

void cpu_backend_close(struct backend *be) {
    if (!be) return;
    onednn_close(be->onednn);
    free(be);
}

bool cpu_has_bf16(void) { return simd_isa() == SIMD_AVX512BF16; }

int32_t parallel_parts(const struct backend *be, int64_t n, double cost) {
    double worth = (double)n * cost / WORTH_A_THREAD;
    int64_t parts = be->n_threads;
    if (worth < (double)parts) parts = (int64_t)worth;
    if (parts > n) parts = n;
    return parts < 1 ? 1 : (int32_t)parts;
}

void parallel_for(const struct backend *be, int64_t n, double cost, part_fn fn, const void *arguments) {
    int32_t n_parts = parallel_parts(be, n, cost);
    if (n_parts == 1) {
        fn(arguments, 0, n, 0);
        return;
    }
#pragma omp parallel num_threads(n_parts)
    for (int32_t part = omp_get_thread_num(); part < n_parts; part += omp_get_num_threads())
        fn(arguments, n * part / n_parts, n * (part + 1) / n_parts, part);
}

void add_partials(float *y, const float *partial, int32_t n_parts, int64_t stride, int64_t n,
                  const float *factor_each) {
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int32_t p = 0; p < n_parts; p++) sum += partial[p * stride + i];
        y[i] += factor_each ? factor_each[i] * sum : sum;
    }
}

status_t cpu_alloc(struct backend *be, size_t n_bytes, void **out) {
    (void)be;
    size_t rounded;
    CHECK(size_add(n_bytes, ALIGNMENT, &rounded), STATUS_NO_MEMORY, "%zu bytes are more than can be had", n_bytes);
    void *p = aligned_alloc(ALIGNMENT, rounded & ~(size_t)(ALIGNMENT - 1));
    CHECK(p, STATUS_NO_MEMORY, "no memory for %zu bytes", n_bytes);
    *out = p;
    return STATUS_OK;
}

void cpu_release(struct backend *be, void *p) {
    (void)be;
    free(p);
}

struct bytes {
    char *dst;
    const char *src; /* NULL: zeros */
};

static void move_part(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct bytes *b = arguments;
    if (b->src)
        memcpy(b->dst + begin, b->src + begin, (size_t)(end - begin));
    else
        memset(b->dst + begin, 0, (size_t)(end - begin));
}

status_t cpu_copy(struct backend *be, void *dst, const void *src, size_t n_bytes) {
    struct bytes b = {dst, src};
    if (n_bytes > 0) parallel_for(be, (int64_t)n_bytes, 0.05, move_part, &b);
    return STATUS_OK;
}

status_t cpu_fill_zero(struct backend *be, void *dst, size_t n_bytes) { return cpu_copy(be, dst, NULL, n_bytes); }

status_t cpu_synchronise(struct backend *be) {
    (void)be;
    return STATUS_OK;
}
