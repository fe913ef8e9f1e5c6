/* Matrix products in our own code, for processors with AVX-512: faster than oneDNN's where the weights are
 * not packed ahead. Both factors are packed into panels whose 32-bit words a tile of the product reads one
 * after another: numbers in fp32, pairs of neighbours along k in bf16. Every number of C is summed in one
 * order, whatever the number of threads. */
#ifndef MODELS_OPS_CPU_GEMM_H
#define MODELS_OPS_CPU_GEMM_H

#include "models/ops/cpu/backend.h"

/* Is this processor and this product one that gemm_run() is made for and good at? */
bool gemm_serves(const struct matmul *a);

/* The product, with pokes in between. Memory for panels is kept in `be` and grows to what the largest product
 * needs. */
status_t gemm_run(struct backend *be, const struct matmul *a);

/* Few columns and long rows: dot products. */
bool dot_serves(const struct matmul *a);
status_t dot_run(struct backend *be, const struct matmul *a);

enum { GEMM_ROWS = 14, GEMM_COLUMNS = 32 }; /* of a tile at most */
enum { DOT_TILE = 5 };                      /* rows and columns of dot products */
enum { GEMM_TOGETHER = 4 };                 /* column panels packed at a time */

/* How a product is dealt out and blocked; for gemm.simd.c. Items are the parts, (row part, column part). */
struct gemm_plan {
    const struct backend *be;
    const struct matmul *a;
    int64_t row_panels, column_panels; /* of C; row panels have equal heights but for one row */
    int64_t row_parts, column_parts;
    int64_t block_panels; /* row panels packed at a time */
    int64_t outer, inner; /* k at a time: of the panels packed, and of one tile's sums in registers */
    bool apart;           /* A is read where it lies: (m,k), rows apart */
    bool in_place;        /* ... (k,m) */
    bool keep;            /* all column panels of the part stay packed */
    char *buffer;         /* part_bytes a part */
    size_t a_bytes, b_bytes, sums_bytes, part_bytes;
};

#endif
