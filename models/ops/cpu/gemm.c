#include "models/ops/cpu/gemm.h"

#include "common/memory.h"
#include "models/ops/cpu/kernels.h"

#include <stdlib.h>

#define A_BYTES  (512 * 1024)      /* packed rows at a time: half a second-level cache */
#define A_MOST   (4 * 1024 * 1024) /* ... where column panels must be packed again for each block of rows */
#define B_MOST   (6 * 1024 * 1024) /* column panels that stay packed */
#define WORDS    1024              /* steps of k at a time: 128 KiB of a column panel */
#define DOT_MOST 200 /* columns: their rows of B, read again for each five rows of A, stay in the caches */
#define MIN_FLOP 4e5 /* below, the call of oneDNN's kernel costs less */
#define PACKING  6.0 /* what packing a word costs, in sixteenths of the time of a product's step */

bool gemm_serves(const struct matmul *a) {
#if defined(__x86_64__)
    if (simd_isa() < (a->type == DTYPE_BF16 ? SIMD_AVX512BF16 : SIMD_AVX512)) return false;
    const int64_t columns = (a->n + GEMM_COLUMNS - 1) / GEMM_COLUMNS * GEMM_COLUMNS;
    return 2.0 * (double)a->m * (double)a->n * (double)a->k >= MIN_FLOP && a->m >= 8 && a->k >= 16 &&
           (double)a->n >= 0.8 * (double)columns;
#else
    (void)a;
    return false;
#endif
}

static int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit;
}

static int64_t lower(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Rows times columns of parts: the least work of the busiest part, packing counted. */
static void deal_out(struct gemm_plan *p, int64_t n_parts) {
    double best = 0;
    p->row_parts = p->column_parts = 1;
    for (int64_t rows = 1; rows <= n_parts; rows++) {
        const int64_t columns = n_parts / rows;
        if (columns < 1 || n_parts % rows != 0) continue;
        const double m = (double)(up(p->row_panels, rows) * GEMM_ROWS),
                     n = (double)(up(p->column_panels, columns) * GEMM_COLUMNS);
        const double work = m * n + PACKING * (m + n);
        if (best != 0 && work >= best) continue;
        best = work;
        p->row_parts = rows;
        p->column_parts = columns;
    }
}

static void block(struct gemm_plan *p) {
    const struct matmul *a = p->a;
    const bool plain = a->c_type == DTYPE_F32 && !a->bias && !a->residual && !a->column_scale &&
                       a->activation == MATMUL_NONE;
    const int64_t words = a->type == DTYPE_BF16 ? 2 : 1; /* elements a word */
    /* Rows whose beginnings share few sets of the first cache push each other out. */
    const int64_t row_bytes = a->lda * (int64_t)dtype_bytes(a->type);
    const bool spread = row_bytes % 2048 != 0;
    p->apart = !a->transpose_a && a->m >= GEMM_ROWS * (GEMM_ROWS - 1) && a->k % words == 0 && spread;
    p->in_place = a->transpose_a && words == 1 && spread;
    p->outer = plain ? lower(a->k, WORDS * words) : a->k;
    p->inner = lower(p->outer, WORDS * words);
    const size_t k_bytes = (size_t)up(p->outer, words) * 4;
    const int64_t columns = up(p->column_panels, p->column_parts), rows = up(p->row_panels, p->row_parts);
    p->b_bytes = k_bytes * GEMM_COLUMNS;
    p->keep = p->b_bytes * (size_t)columns <= B_MOST;
    const size_t panel_bytes = k_bytes * GEMM_ROWS + 64;
    p->block_panels = (int64_t)((p->keep ? A_BYTES : A_MOST) / panel_bytes);
    p->block_panels = lower(p->block_panels > 4 ? p->block_panels : 4, rows);
    p->block_panels = up(rows, up(rows, p->block_panels));
    p->a_bytes = p->apart || p->in_place ? 0 : up((int64_t)panel_bytes * p->block_panels + 64, 256) * 256;
    p->sums_bytes = (size_t)(p->block_panels * GEMM_ROWS * GEMM_COLUMNS) * 4;
    p->part_bytes =
        p->a_bytes + p->sums_bytes + p->b_bytes * (size_t)(p->keep ? columns : lower(columns, GEMM_TOGETHER));
    p->part_bytes = (p->part_bytes + 4095) / 4096 * 4096 + 256;
}

static status_t need_panels(struct backend *be, size_t n_bytes) {
    if (n_bytes <= be->panels_bytes) return STATUS_OK;
    free(be->panels);
    be->panels_bytes = 0;
    be->panels = memory_aligned(n_bytes);
    CHECK(be->panels, STATUS_NO_MEMORY, "no memory for %zu bytes of packed matrices", n_bytes);
    be->panels_bytes = n_bytes;
    return STATUS_OK;
}

status_t gemm_run(struct backend *be, const struct matmul *a) {
    struct gemm_plan p = {
        .be = be, .a = a, .row_panels = up(a->m, GEMM_ROWS), .column_panels = up(a->n, GEMM_COLUMNS)};
    int64_t parts = (int64_t)(2.0 * (double)a->m * (double)a->n * (double)a->k / (2 * MIN_FLOP));
    parts = parts < 1 ? 1 : lower(parts, be->n_threads);
    deal_out(&p, parts);
    block(&p);
    TRY(need_panels(be, p.part_bytes * (size_t)parts));
    p.buffer = be->panels;
#if defined(__x86_64__)
    const part_fn kernel = simd_isa() == SIMD_AVX512BF16 ? kernel_gemm_avx512bf16 : kernel_gemm_avx512;
#pragma omp parallel for num_threads((int)parts) schedule(static, 1) if (parts > 1)
    for (int64_t part = 0; part < parts; part++) kernel(&p, part, part + 1, (int32_t)part);
#endif
    return STATUS_OK;
}

bool dot_serves(const struct matmul *a) {
#if defined(__x86_64__)
    if (simd_isa() < (a->type == DTYPE_BF16 ? SIMD_AVX512BF16 : SIMD_AVX512)) return false;
    return !a->transpose_a && a->transpose_b && a->c_type == DTYPE_F32 && !a->bias && !a->residual &&
           !a->column_scale && a->activation == MATMUL_NONE && a->n >= 10 && a->n <= DOT_MOST &&
           a->k >= 512 && a->m >= 64;
#else
    (void)a;
    return false;
#endif
}

status_t dot_run(struct backend *be, const struct matmul *a) {
#if defined(__x86_64__)
    const bool low = simd_isa() == SIMD_AVX512BF16;
    const double cost = 0.02 * (double)(a->n * a->k);
    TRY(need_panels(be, (size_t)(a->n * a->k) * dtype_bytes(a->type) + 4096));
    const struct dot_arguments d = {a, be->panels};
    parallel_for(be, a->n / DOT_TILE * DOT_TILE, 0.1 * (double)a->k,
                 low ? kernel_dot_pack_avx512bf16 : kernel_dot_pack_avx512, &d);
    parallel_for(be, a->m, cost, low ? kernel_dot_avx512bf16 : kernel_dot_avx512, &d);
#else
    (void)be;
    (void)a;
#endif
    return STATUS_OK;
}
