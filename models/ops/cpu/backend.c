#include "models/ops/cpu/backend.h"

#include "common/clock.h"
#include "common/interval.h"
#include "common/memory.h"
#include "common/simd.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/gemm.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT      256
#define WORTH_A_THREAD 20000.0 /* elementary steps a thread at least: waking it takes some microseconds */
#define POKE_S         0.5e-3  /* between two pokes, about */
#define POKE_FLOP      5e7     /* of a matrix product in that time, each thread, fp32 */
#define POKE_BYTES     1.5e6   /* read and written by a narrow one in that time, each thread */
#define MIN_BLOCK      64      /* rows of a product at least: below, it loses too much */

status_t cpu_backend_open(int32_t n_threads, struct backend **out) {
    status_t status = STATUS_OK;
    struct backend *be = memory_zeroed(1, sizeof *be);
    CHECK(be, STATUS_NO_MEMORY, "no memory for the CPU backend");
    be->poke = memory_zeroed(1, sizeof *be->poke);
    CHECK_TO(failed, be->poke, STATUS_NO_MEMORY, "no memory for the CPU backend");
    if (n_threads > 0) omp_set_num_threads(n_threads);
    be->n_threads = omp_get_max_threads();
    const char *choice = getenv("MARRS_GEMM");
    be->own_products = !choice || strcmp(choice, "onednn") != 0;
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
    free(be->panels);
    free(be->poke);
    free(be);
}

bool cpu_has_bf16(void) {
    return simd_isa() == SIMD_AVX512BF16;
}

int32_t parallel_parts(const struct backend *be, int64_t n, double cost) {
    double worth = (double)n * cost / WORTH_A_THREAD;
    int64_t parts = be->n_threads;
    if (worth < (double)parts) parts = (int64_t)worth;
    if (parts > n) parts = n;
    return parts < 1 ? 1 : (int32_t)parts;
}

void cpu_set_poke(struct backend *be, void (*poke)(void *context), void *context) {
    *be->poke = (struct poke){.function = poke, .context = context, .last_s = be->poke->last_s};
}

void poke_when_due(const struct backend *be) {
    struct poke *p = be->poke;
    if (!p->function) return;
    double now_s = clock_now_s();
    if (now_s - p->last_s < POKE_S / 2) return; /* half: the next chance may be as far away again */
    p->last_s = now_s;
    p->function(p->context);
}

/* Items of `cost` nanoseconds between two pokes. Multiples of 64 or 4, so that kernels which add up some rows
 * at a time add up the same ones. */
static int64_t poke_items(const struct backend *be, int64_t n, double cost) {
    double items = POKE_S * 1e9 / cost;
    if (!be->poke->function || items >= (double)n) return n;
    return items >= 64 ? (int64_t)items / 64 * 64 : items >= 4 ? (int64_t)items / 4 * 4 : 1;
}

static void run_part(const struct backend *be, struct interval items, int64_t block, part_fn fn,
                     const void *arguments, int32_t part) {
    for (int64_t i = items.begin; i < items.end || i == items.begin; i += block) {
        int64_t stop = items.end - i < block ? items.end : i + block;
        fn(arguments, i, stop, i == items.begin ? part : ~part);
        if (part == 0) poke_when_due(be);
        if (stop == items.end) return;
    }
}

void parallel_for(const struct backend *be, int64_t n, double cost, part_fn fn, const void *arguments) {
    int32_t n_parts = parallel_parts(be, n, cost);
    int64_t block = poke_items(be, n, cost);
    if (n_parts == 1) {
        run_part(be, (struct interval){0, n}, block, fn, arguments, 0);
        return;
    }
#pragma omp parallel num_threads(n_parts)
    for (int32_t part = omp_get_thread_num(); part < n_parts; part += omp_get_num_threads())
        run_part(be, (struct interval){n * part / n_parts, n * (part + 1) / n_parts}, block, fn, arguments,
                 part);
}

/* Blocks of rows of C, or of the rows that A^T B sums over. */
status_t cpu_matmul(struct backend *be, const struct matmul *a) {
    if (be->own_products && gemm_serves(a)) return gemm_run(be, a);
    if (be->own_products && dot_serves(a)) return dot_run(be, a);
    const bool over_k = a->transpose_a && a->c_type == DTYPE_F32 && a->alpha == 1 && !a->bias &&
                        !a->residual && a->activation == MATMUL_NONE && !a->column_scale;
    const int64_t n = over_k ? a->k : a->m;
    const double other = (double)(over_k ? a->m : a->k);
    const double by_flop = 2.0 * (double)a->n * other / (POKE_FLOP * (a->type == DTYPE_BF16 ? 2 : 1));
    const double by_bytes = ((double)a->n + other) * (double)dtype_bytes(a->type) / POKE_BYTES;
    const double pokes_a_row = (by_flop > by_bytes ? by_flop : by_bytes) / be->n_threads;
    int64_t block = pokes_a_row > 0 ? (int64_t)(1 / pokes_a_row) / MIN_BLOCK * MIN_BLOCK : n;
    block = block < MIN_BLOCK ? MIN_BLOCK : block;
    if (!be->poke->function || block >= n || (a->transpose_a && !over_k)) {
        TRY(onednn_matmul(be->onednn, a));
        poke_when_due(be);
        return STATUS_OK;
    }
    for (int64_t row = 0; row < n; row += block) {
        struct matmul m = *a;
        *(over_k ? &m.k : &m.m) = n - row < block ? n - row : block;
        m.a = offset_of(a->a, row * a->lda, a->type);
        if (over_k) {
            m.b = offset_of(a->b, row * (a->transpose_b ? 1 : a->ldb), a->type);
            m.beta = row > 0 ? 1 : a->beta;
        } else {
            m.c = offset_mut(a->c, row * a->ldc, a->c_type);
            if (a->residual) m.residual = offset_of(a->residual, row * a->ldc, a->c_type);
        }
        TRY(onednn_matmul(be->onednn, &m));
        poke_when_due(be);
    }
    return STATUS_OK;
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
    CHECK(size_add(n_bytes, ALIGNMENT, &rounded), STATUS_NO_MEMORY, "%zu bytes are more than can be had",
          n_bytes);
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

status_t cpu_fill_zero(struct backend *be, void *dst, size_t n_bytes) {
    return cpu_copy(be, dst, NULL, n_bytes);
}

status_t cpu_synchronise(struct backend *be) {
    (void)be;
    return STATUS_OK;
}
