#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

/* With drop-path's row_scale the product goes through blocks of this many bytes of fp32, small enough to stay
 * in cache until the pass that scales, adds and rounds it. */
#define BLOCK_BYTES (512 * 1024)

static int64_t residual_rows(const struct linear *a) {
    int64_t rows = BLOCK_BYTES / (4 * (a->out > 0 ? a->out : 1));
    rows = rows < 128 ? 128 : rows;
    return rows < a->rows ? rows : a->rows;
}

size_t cpu_linear_scratch(struct backend *be, const struct linear *a, bool train) {
    struct carve c = {0};
    const bool residual =
        a->epilogue == LINEAR_RESIDUAL; /* pointers, row_scale among them, are not known yet */
    if (residual) carve(&c, (size_t)(residual_rows(a) * a->out) * 4); /* z of a block */
    if (!train) return c.used;
    size_t forward = c.used;
    c.used = 0;
    if (residual) carve(&c, (size_t)(a->rows * a->out) * dtype_bytes(a->dtype)); /* g */
    carve(&c, (size_t)(be->n_threads * a->out) * 4);                             /* sums of g */
    return c.used > forward ? c.used : forward;
}

status_t cpu_linear_forward(struct backend *be, const struct linear *a, void *y, void *scratch) {
    if (a->rows == 0) return STATUS_OK;
    struct matmul m = {.type = a->dtype,
                       .c_type = a->dtype,
                       .transpose_b = true,
                       .m = a->rows,
                       .n = a->out,
                       .k = a->in,
                       .lda = a->in,
                       .ldb = a->in,
                       .ldc = a->out,
                       .alpha = 1,
                       .a = a->x,
                       .b = a->w,
                       .c = y,
                       .bias = a->bias,
                       .activation = a->relu6 ? MATMUL_RELU6 : MATMUL_NONE};
    bool residual = a->epilogue == LINEAR_RESIDUAL;
    if (!residual || !a->row_scale) {
        if (residual && a->residual == y) m.beta = 1;
        if (residual && a->residual != y) m.residual = a->residual;
        return cpu_matmul(be, &m);
    }
    int64_t block = residual_rows(a);
    m.c_type = DTYPE_F32;
    m.c = scratch;
    for (int64_t row = 0; row < a->rows; row += block) {
        m.m = a->rows - row < block ? a->rows - row : block;
        m.a = offset_of(a->x, row * a->in, a->dtype);
        TRY(cpu_matmul(be, &m));
        struct residual_arguments r = {.type = a->dtype,
                                       .n = a->out,
                                       .rows_per_image = a->rows_per_image,
                                       .first_row = row,
                                       .z = scratch,
                                       .row_scale = a->row_scale,
                                       .residual = offset_of(a->residual, row * a->out, a->dtype),
                                       .y = offset_mut(y, row * a->out, a->dtype)};
        parallel_for(be, m.m, 0.3 * (double)a->out, SIMD_PICK(kernel_residual), &r);
    }
    return STATUS_OK;
}

status_t cpu_linear_backward(struct backend *be, const struct linear *a, const struct linear_grad *g,
                             void *scratch) {
    if (a->rows == 0) return STATUS_OK;
    struct carve c = {.base = scratch};
    const void *grad = g->dy;
    void *scaled = a->row_scale ? carve(&c, (size_t)(a->rows * a->out) * dtype_bytes(a->dtype)) : NULL;
    if (a->row_scale || g->dbias) {
        double cost = 0.3 * (double)a->out;
        struct scale_rows_arguments s = {.type = a->dtype,
                                         .n = a->out,
                                         .rows_per_image = a->rows_per_image,
                                         .dy = g->dy,
                                         .row_scale = a->row_scale,
                                         .g = scaled};
        if (g->dbias) s.partial = carve(&c, (size_t)(be->n_threads * a->out) * 4);
        parallel_for(be, a->rows, cost, SIMD_PICK(kernel_scale_rows), &s);
        if (g->dbias)
            add_partials(g->dbias, s.partial, parallel_parts(be, a->rows, cost), a->out, a->out, NULL);
        if (scaled) grad = scaled;
    }
    if (g->dx) {
        struct matmul m = {.type = a->dtype,
                           .c_type = a->dtype,
                           .m = a->rows,
                           .n = a->in,
                           .k = a->out,
                           .lda = a->out,
                           .ldb = a->in,
                           .ldc = a->in,
                           .alpha = 1,
                           .beta = g->dx_accumulate ? 1.0f : 0.0f,
                           .a = grad,
                           .b = a->w,
                           .c = g->dx};
        TRY(cpu_matmul(be, &m));
    }
    if (g->dw) {
        struct matmul m = {.type = a->dtype,
                           .c_type = DTYPE_F32,
                           .transpose_a = true,
                           .m = a->out,
                           .n = a->in,
                           .k = a->rows,
                           .lda = a->out,
                           .ldb = a->in,
                           .ldc = a->in,
                           .alpha = 1,
                           .beta = 1,
                           .a = grad,
                           .b = a->x,
                           .c = g->dw};
        TRY(cpu_matmul(be, &m));
    }
    return STATUS_OK;
}

status_t cpu_gemm(struct backend *be, const struct gemm *a) {
    if (a->m == 0 || a->n == 0) return STATUS_OK;
    if (a->k == 0) { /* C = beta * C */
        for (int64_t i = 0; i < a->m; i++)
            for (int64_t j = 0; j < a->n; j++)
                a->c[i * a->ldc + j] = a->beta == 0 ? 0 : a->beta * a->c[i * a->ldc + j];
        return STATUS_OK;
    }
    struct matmul m = {.type = a->dtype,
                       .c_type = DTYPE_F32,
                       .transpose_a = a->transpose_a,
                       .transpose_b = a->transpose_b,
                       .m = a->m,
                       .n = a->n,
                       .k = a->k,
                       .lda = a->lda,
                       .ldb = a->ldb,
                       .ldc = a->ldc,
                       .alpha = a->alpha,
                       .beta = a->beta,
                       .a = a->a,
                       .b = a->b,
                       .c = a->c};
    return cpu_matmul(be, &m);
}
