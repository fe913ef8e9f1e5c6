/* The two-layer perceptron in blocks of rows, so that the hidden rows of a block are still in cache when the
 * second product reads them. The whole (T, hidden) matrix exists only as `pre`, in training. */
#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

#define BLOCK_BYTES (512 * 1024) /* hidden rows of a block, in elements of their type */
#define MIN_BLOCK   512          /* rows: below, the products lose more than the cache gives */

static int64_t block_rows(const struct mlp *a) {
    int64_t row_bytes = a->hidden * (int64_t)dtype_bytes(a->dtype);
    int64_t rows = BLOCK_BYTES / (row_bytes > 0 ? row_bytes : 1) / 64 * 64;
    rows = rows < MIN_BLOCK ? MIN_BLOCK : rows;
    return rows < a->rows ? rows : a->rows;
}

/* Scratch memory of one block; the same layout serves to count it, when no pointer is known yet. */
struct forward_scratch {
    void *h;  /* (rows, hidden) */
    float *z; /* (rows, C), drop-path only */
};

static struct forward_scratch forward_scratch(const struct mlp *a, struct carve *c) {
    struct forward_scratch s = {0};
    int64_t rows = block_rows(a);
    s.h = carve(c, (size_t)(rows * a->hidden) * dtype_bytes(a->dtype));
    s.z = carve(c, (size_t)(rows * a->channels) * 4);
    return s;
}

struct backward_scratch {
    void *g, *scaled;   /* (rows, C): row_scale*dy, gamma*row_scale*dy; unused where that is dy itself */
    void *h, *dh;       /* (rows, hidden) */
    float *m;           /* (C, hidden) g^T h, with layer scale only */
    float *hidden_sums; /* a row of `hidden` a thread */
    float *g_sums;      /* a row of C a thread */
    float *sum_g;       /* (C) */
};

static struct backward_scratch backward_scratch(const struct backend *be, const struct mlp *a,
                                                struct carve *c) {
    struct backward_scratch s = {0};
    int64_t rows = block_rows(a);
    size_t wide = (size_t)(rows * a->hidden) * dtype_bytes(a->dtype);
    size_t narrow = (size_t)(rows * a->channels) * dtype_bytes(a->dtype);
    s.g = carve(c, narrow);
    s.scaled = carve(c, narrow);
    s.h = carve(c, wide);
    s.dh = carve(c, wide);
    s.m = carve(c, (size_t)(a->channels * a->hidden) * 4);
    s.hidden_sums = carve(c, (size_t)(be->n_threads * a->hidden) * 4);
    s.g_sums = carve(c, (size_t)(be->n_threads * a->channels) * 4);
    s.sum_g = carve(c, (size_t)a->channels * 4);
    return s;
}

size_t cpu_mlp_scratch(struct backend *be, const struct mlp *a, bool train) {
    struct carve forward = {0}, backward = {0};
    forward_scratch(a, &forward);
    if (train) backward_scratch(be, a, &backward);
    return forward.used > backward.used ? forward.used : backward.used;
}

/* h = gelu(x w1^T + b1) of rows [row, row + n). */
static status_t hidden_rows(struct backend *be, const struct mlp *a, int64_t row, int64_t n, void *h) {
    struct matmul m = {.type = a->dtype,
                       .c_type = a->dtype,
                       .transpose_b = true,
                       .m = n,
                       .n = a->hidden,
                       .k = a->channels,
                       .lda = a->channels,
                       .ldb = a->channels,
                       .ldc = a->hidden,
                       .alpha = 1,
                       .a = offset_of(a->x, row * a->channels, a->dtype),
                       .b = a->w1,
                       .bias = a->b1};
    m.c = a->pre ? offset_mut(a->pre, row * a->hidden, a->dtype) : h;
    TRY(cpu_matmul(be, &m));
    struct gelu_arguments gelu = {.type = a->dtype, .pre = m.c, .h = h};
    parallel_for(be, n * a->hidden, 0.5, SIMD_PICK(kernel_gelu), &gelu);
    return STATUS_OK;
}

status_t cpu_mlp_forward(struct backend *be, const struct mlp *a, void *y, void *scratch) {
    struct carve c = {.base = scratch};
    struct forward_scratch s = forward_scratch(a, &c);
    int64_t block = block_rows(a);
    for (int64_t row = 0; row < a->rows; row += block) {
        int64_t n = a->rows - row < block ? a->rows - row : block, first = row * a->channels;
        TRY(hidden_rows(be, a, row, n, s.h));
        struct matmul m = {.type = a->dtype,
                           .c_type = a->dtype,
                           .transpose_b = true,
                           .m = n,
                           .n = a->channels,
                           .k = a->hidden,
                           .lda = a->hidden,
                           .ldb = a->hidden,
                           .ldc = a->channels,
                           .alpha = 1,
                           .a = s.h,
                           .b = a->w2,
                           .bias = a->b2};
        if (!a->row_scale) {
            m.c = offset_mut(y, first, a->dtype);
            m.column_scale = a->gamma;
            if (a->residual == y)
                m.beta = 1;
            else
                m.residual = offset_of(a->residual, first, a->dtype);
            TRY(cpu_matmul(be, &m));
            continue;
        }
        m.c = s.z;
        m.c_type = DTYPE_F32;
        TRY(cpu_matmul(be, &m));
        struct residual_arguments r = {.type = a->dtype,
                                       .n = a->channels,
                                       .rows_per_image = a->rows_per_image,
                                       .first_row = row,
                                       .z = s.z,
                                       .row_scale = a->row_scale,
                                       .column_scale = a->gamma,
                                       .residual = offset_of(a->residual, first, a->dtype),
                                       .y = offset_mut(y, first, a->dtype)};
        parallel_for(be, n, 0.3 * (double)a->channels, SIMD_PICK(kernel_residual), &r);
    }
    return STATUS_OK;
}

/* g, gamma*g and the sums of g of a block; returns through the pointers what the products shall read. */
static void output_grad(struct backend *be, const struct mlp *a, const struct mlp_grad *grad,
                        const struct backward_scratch *s, int64_t row, int64_t n, const void **g,
                        const void **scaled) {
    const void *dy = offset_of(grad->dy, row * a->channels, a->dtype);
    struct scale_rows_arguments k = {.type = a->dtype,
                                     .n = a->channels,
                                     .rows_per_image = a->rows_per_image,
                                     .first_row = row,
                                     .dy = dy,
                                     .row_scale = a->row_scale,
                                     .column_scale = a->gamma,
                                     .g = a->row_scale ? s->g : NULL,
                                     .scaled = a->gamma ? s->scaled : NULL,
                                     .partial = s->g_sums};
    double cost = 0.4 * (double)a->channels;
    parallel_for(be, n, cost, SIMD_PICK(kernel_scale_rows), &k);
    add_partials(s->sum_g, s->g_sums, parallel_parts(be, n, cost), a->channels, a->channels, NULL);
    *g = a->row_scale ? s->g : dy;
    *scaled = a->gamma ? s->scaled : *g;
}

/* h and the gradient of `pre` (in s->dh) of a block, and db1. */
static status_t hidden_grad(struct backend *be, const struct mlp *a, const struct mlp_grad *grad,
                            const struct backward_scratch *s, int64_t row, int64_t n, const void *scaled) {
    struct matmul m = {.type = a->dtype,
                       .c_type = a->dtype,
                       .m = n,
                       .n = a->hidden,
                       .k = a->channels,
                       .lda = a->channels,
                       .ldb = a->hidden,
                       .ldc = a->hidden,
                       .alpha = 1,
                       .a = scaled,
                       .b = a->w2,
                       .c = s->dh};
    TRY(cpu_matmul(be, &m));
    struct gelu_grad_arguments k = {.type = a->dtype,
                                    .n = a->hidden,
                                    .pre = offset_of(a->pre, row * a->hidden, a->dtype),
                                    .h = s->h,
                                    .dh = s->dh,
                                    .partial = s->hidden_sums};
    double cost = (double)a->hidden;
    parallel_for(be, n, cost, SIMD_PICK(kernel_gelu_grad), &k);
    if (grad->db1)
        add_partials(grad->db1, s->hidden_sums, parallel_parts(be, n, cost), a->hidden, a->hidden, NULL);
    return STATUS_OK;
}

/* out (rows_out, cols) += left^T right over the n rows of a block. */
static status_t weight_grad(struct backend *be, enum dtype type, int64_t rows_out, int64_t cols, int64_t n,
                            const void *left, const void *right, float beta, float *out) {
    struct matmul m = {.type = type,
                       .c_type = DTYPE_F32,
                       .transpose_a = true,
                       .m = rows_out,
                       .n = cols,
                       .k = n,
                       .lda = rows_out,
                       .ldb = cols,
                       .ldc = cols,
                       .alpha = 1,
                       .beta = beta,
                       .a = left,
                       .b = right,
                       .c = out};
    return cpu_matmul(be, &m);
}

static status_t backward_block(struct backend *be, const struct mlp *a, const struct mlp_grad *grad,
                               const struct backward_scratch *s, int64_t row, int64_t n) {
    const void *g, *scaled;
    output_grad(be, a, grad, s, row, n, &g, &scaled);
    TRY(hidden_grad(be, a, grad, s, row, n, scaled));
    if (a->gamma && (grad->dw2 || grad->dgamma))
        TRY(weight_grad(be, a->dtype, a->channels, a->hidden, n, g, s->h, row > 0 ? 1.0f : 0.0f, s->m));
    if (!a->gamma && grad->dw2)
        TRY(weight_grad(be, a->dtype, a->channels, a->hidden, n, g, s->h, 1.0f, grad->dw2));
    const void *x = offset_of(a->x, row * a->channels, a->dtype);
    if (grad->dw1) TRY(weight_grad(be, a->dtype, a->hidden, a->channels, n, s->dh, x, 1.0f, grad->dw1));
    if (!grad->dx) return STATUS_OK;
    struct matmul m = {.type = a->dtype,
                       .c_type = a->dtype,
                       .m = n,
                       .n = a->channels,
                       .k = a->hidden,
                       .lda = a->hidden,
                       .ldb = a->channels,
                       .ldc = a->channels,
                       .alpha = 1,
                       .beta = grad->dx_accumulate ? 1.0f : 0.0f,
                       .a = s->dh,
                       .b = a->w1,
                       .c = offset_mut(grad->dx, row * a->channels, a->dtype)};
    return cpu_matmul(be, &m);
}

status_t cpu_mlp_backward(struct backend *be, const struct mlp *a, const struct mlp_grad *g, void *scratch) {
    if (a->rows == 0) return STATUS_OK;
    struct carve c = {.base = scratch};
    struct backward_scratch s = backward_scratch(be, a, &c);
    int64_t block = block_rows(a);
    for (int64_t i = 0; i < a->channels; i++)
        s.sum_g[i] = 0; // NOLINT(clang-analyzer-core.NullDereference): scratch is given
    for (int64_t row = 0; row < a->rows; row += block)
        TRY(backward_block(be, a, g, &s, row, a->rows - row < block ? a->rows - row : block));
    if (a->gamma && (g->dw2 || g->dgamma)) {
        struct layer_scale_grad_arguments k = {.type = a->dtype,
                                               .hidden = a->hidden,
                                               .m = s.m,
                                               .gamma = a->gamma,
                                               .b2 = a->b2,
                                               .sum_g = s.sum_g,
                                               .w2 = a->w2,
                                               .dw2 = g->dw2,
                                               .dgamma = g->dgamma};
        parallel_for(be, a->channels, 0.5 * (double)a->hidden, SIMD_PICK(kernel_layer_scale_grad), &k);
    }
    if (g->db2)
        for (int64_t i = 0; i < a->channels; i++) g->db2[i] += (a->gamma ? a->gamma[i] : 1.0f) * s.sum_g[i];
    return STATUS_OK;
}
