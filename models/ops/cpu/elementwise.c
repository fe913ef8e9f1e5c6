#include "common/rng.h"
#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

#include <string.h>

status_t cpu_add(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n_elem) {
    struct add_arguments a = {dtype, y, x};
    parallel_for(be, n_elem, 0.3, SIMD_PICK(kernel_add), &a);
    return STATUS_OK;
}

status_t cpu_scale(struct backend *be, float *x, float factor, int64_t n_elem) {
    struct scale_arguments a = {x, factor};
    parallel_for(be, n_elem, 0.2, SIMD_PICK(kernel_scale), &a);
    return STATUS_OK;
}

status_t cpu_cast(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                  int64_t n_elem) {
    struct cast_arguments a = {to, from, y, x};
    parallel_for(be, n_elem, 0.2, SIMD_PICK(kernel_cast), &a);
    return STATUS_OK;
}

status_t cpu_normalise(struct backend *be, enum dtype dtype, void *y, const uint8_t *x, int64_t n_pixels) {
    struct normalise_arguments a = {dtype, y, x};
    parallel_for(be, n_pixels, 2, SIMD_PICK(kernel_normalise), &a);
    return STATUS_OK;
}

struct dropout_arguments {
    float *y;
    const float *x;
    int64_t d;
    float rate;
    struct rng_key key;
    const uint32_t *items;
};

static void dropout_rows(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct dropout_arguments *a = arguments;
    float factor = 1.0f / (1.0f - a->rate);
    for (int64_t i = begin; i < end; i++) {
        struct rng_key key = a->key;
        key.item = a->items ? a->items[i] : (uint32_t)i;
        struct rng rng = rng_start(key);
        for (int64_t j = 0; j < a->d; j++) {
            float x = a->x[i * a->d + j];
            a->y[i * a->d + j] = rng_float(&rng) >= a->rate ? x * factor : 0.0f;
        }
    }
}

status_t cpu_dropout(struct backend *be, float *y, const float *x, int64_t n, int64_t d, float rate,
                     struct rng_key key, const uint32_t *host_items) {
    struct dropout_arguments a = {y, x, d, rate, key, host_items};
    parallel_for(be, n, 5 * (double)d, dropout_rows, &a);
    return STATUS_OK;
}

status_t cpu_average_pool_forward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                  const void *x, float *y) {
    struct pool_arguments a = {.type = dtype, .hw = hw, .c = c, .x = x, .y = y};
    parallel_for(be, n, 0.2 * (double)(hw * c), SIMD_PICK(kernel_pool), &a);
    return STATUS_OK;
}

status_t cpu_average_pool_backward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw, int64_t c,
                                   const float *dy, void *dx) {
    struct pool_arguments a = {.type = dtype, .hw = hw, .c = c, .dy = dy, .dx = dx};
    parallel_for(be, n, 0.2 * (double)(hw * c), SIMD_PICK(kernel_pool_grad), &a);
    return STATUS_OK;
}

struct merge_arguments {
    const struct patch_merge *a;
    const char *whole;    /* (N,H,W,C): x, or dx in the backward pass (written) */
    const char *gathered; /* (N,ceil H/2,ceil W/2,4C): y, or dy */
    bool backward;
};

/* Items are rows of the gathered map. */
static void merge_rows(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct merge_arguments *m = arguments;
    const struct patch_merge *a = m->a;
    int64_t ho = (a->h + 1) / 2, wo = (a->w + 1) / 2;
    size_t pixel = (size_t)a->c * dtype_bytes(a->dtype);
    for (int64_t row = begin; row < end; row++) {
        int64_t image = row / ho, oy = row % ho;
        for (int64_t ox = 0; ox < wo; ox++) {
            for (int64_t q = 0; q < 4; q++) { /* row 0 col 0, row 1 col 0, row 0 col 1, row 1 col 1 */
                int64_t y = 2 * oy + q % 2, x = 2 * ox + q / 2;
                char *piece = (char *)(uintptr_t)m->gathered + (size_t)((row * wo + ox) * 4 + q) * pixel;
                char *source = (char *)(uintptr_t)m->whole + (size_t)((image * a->h + y) * a->w + x) * pixel;
                bool inside = y < a->h && x < a->w;
                if (m->backward && inside)
                    memcpy(source, piece, pixel);
                else if (!m->backward && inside)
                    memcpy(piece, source, pixel);
                else if (!m->backward)
                    memset(piece, 0, pixel);
            }
        }
    }
}

static void patch_merge(struct backend *be, const struct patch_merge *a, const void *whole,
                        const void *gathered, bool backward) {
    struct merge_arguments m = {a, whole, gathered, backward};
    int64_t n_rows = a->n * ((a->h + 1) / 2);
    parallel_for(be, n_rows, 0.2 * (double)(2 * a->w * a->c), merge_rows, &m);
}

status_t cpu_patch_merge_forward(struct backend *be, const struct patch_merge *a, const void *x, void *y) {
    patch_merge(be, a, x, y, false);
    return STATUS_OK;
}

status_t cpu_patch_merge_backward(struct backend *be, const struct patch_merge *a, const void *dy, void *dx) {
    patch_merge(be, a, dx, dy, true);
    return STATUS_OK;
}
