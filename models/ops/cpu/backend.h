/* The CPU backend: its threads, and how work is dealt out to them.
 *
 * Results depend on the number of threads given at open (partial sums are added in the order of the parts),
 * never on timing. */
#ifndef MODELS_OPS_CPU_BACKEND_H
#define MODELS_OPS_CPU_BACKEND_H

#include "models/ops/cpu/onednn.h"
#include "models/ops/ops.h"

struct poke {
    void (*function)(void *context); /* NULL: none */
    void *context;
    double last_s;
};

struct backend {
    int32_t n_threads;
    struct onednn *onednn; /* owned */
    struct poke *poke;     /* owned */
    bool own_products;     /* gemm.h where it serves; MARRS_GEMM=onednn in the environment: never */
    void *panels;          /* owned: packed matrices of gemm.h */
    size_t panels_bytes;
};

/* Call the poke if one is set and its time has come; only the thread that called the operation may. */
void poke_when_due(const struct backend *be);

/* The product by our own code or oneDNN's, whichever serves it better; with pokes about every half a
 * millisecond where one is set. */
status_t cpu_matmul(struct backend *be, const struct matmul *a);

/* A kernel: items [begin, end) as part `part` of the work. Where a poke is set, a part is done in several
 * calls, one after the other; all but the first have ~part (part_goes_on() in kernels.h). */
typedef void (*part_fn)(const void *arguments, int64_t begin, int64_t end, int32_t part);

/* In how many parts parallel_for() splits n items of `cost` elementary steps (about a nanosecond) each: at
 * most n_threads, one where the work is too small to wake a thread for. */
int32_t parallel_parts(const struct backend *be, int64_t n, double cost);

/* Run `fn` over [0, n) in parallel_parts() contiguous parts and wait. */
void parallel_for(const struct backend *be, int64_t n, double cost, part_fn fn, const void *arguments);

/* Pieces of a scratch buffer, 256-byte aligned. With base NULL only `used` counts: the same function says how
 * much is needed and hands it out. */
struct carve {
    char *base;
    size_t used;
};

static inline void *carve(struct carve *c, size_t n_bytes) {
    char *p = c->base ? c->base + c->used : NULL;
    c->used += (n_bytes + 255) & ~(size_t)255;
    return p;
}

/* y[i] += factor * (partial[0][i] + partial[1][i] + ...); rows of `stride` floats. factor_each (n) or
 * NULL: 1. */
void add_partials(float *y, const float *partial, int32_t n_parts, int64_t stride, int64_t n,
                  const float *factor_each);

static inline const void *offset_of(const void *p, int64_t i, enum dtype type) {
    return (const char *)p + (size_t)i * dtype_bytes(type);
}

static inline void *offset_mut(void *p, int64_t i, enum dtype type) {
    return (char *)p + (size_t)i * dtype_bytes(type);
}

#endif
