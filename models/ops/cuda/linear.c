/* Linear layers and matrix products. */
#include "models/ops/cuda/linear.h"

#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/gemm_plan.h"
#include "models/ops/cuda/rows.h"

/* ---- products of layers, shared with the perceptron and convolutions ---- */

status_t layer_bias(struct backend *be, enum dtype dtype, const float *bias, int64_t n, void *room,
                    const void **out) {
    *out = bias;
    if (!bias || dtype == DTYPE_F32) return STATUS_OK;
    *out = room;
    return cuda_cast(be, DTYPE_BF16, room, DTYPE_F32, bias, n);
}

/* A dense product d (m,n) = op(a) op(b): rows of every matrix lie one behind the other. */
static struct gemm_call dense(enum dtype dtype, const void *a, bool transpose_a, const void *b,
                              bool transpose_b, int64_t m, int64_t n, int64_t k) {
    return (struct gemm_call){.dtype = dtype,
                              .d_dtype = dtype,
                              .transpose_a = transpose_a,
                              .transpose_b = transpose_b,
                              .m = m,
                              .n = n,
                              .k = k,
                              .lda = transpose_a ? m : k,
                              .ldb = transpose_b ? k : n,
                              .ldd = n,
                              .alpha = 1.0f,
                              .a = a,
                              .b = b};
}

status_t layer_forward(struct backend *be, const struct layer *a, const void *bias, const void *residual,
                       void *y) {
    struct gemm_call call = dense(a->dtype, a->x, false, a->w, true, a->rows, a->out, a->in);
    call.bias = bias, call.d = y;
    if (residual) call.c = residual, call.beta = 1.0f;
    return gemm_planned(be, &call);
}

status_t layer_dx(struct backend *be, const struct layer *a, const void *g, void *dx, bool accumulate) {
    struct gemm_call call = dense(a->dtype, g, false, a->w, false, a->rows, a->in, a->out);
    call.d = dx, call.beta = accumulate ? 1.0f : 0.0f;
    return gemm_planned(be, &call);
}

status_t layer_dw(struct backend *be, const struct layer *a, const void *g, float *dw, bool accumulate) {
    struct gemm_call call = dense(a->dtype, g, true, a->x, false, a->out, a->in, a->rows);
    call.d = dw, call.d_dtype = DTYPE_F32, call.beta = accumulate ? 1.0f : 0.0f;
    return gemm_planned(be, &call);
}

/* ---- the linear layer ---- */

/* Forward: the bias as bf16, and the product where y must keep the residual until it is added. Backward: g.
 */
struct linear_room {
    void *bias, *matrix;
};

static size_t linear_room(const struct linear *a, void *scratch, struct linear_room *room) {
    struct pieces p = {.base = scratch};
    room->bias = take(&p, a->dtype == DTYPE_BF16 ? (size_t)a->out * 2 : 0);
    room->matrix =
        take(&p, a->epilogue == LINEAR_RESIDUAL ? (size_t)(a->rows * a->out) * dtype_bytes(a->dtype) : 0);
    return p.used;
}

size_t cuda_linear_scratch(struct backend *be, const struct linear *a, bool train) {
    (void)be, (void)train;
    struct linear_room room;
    return linear_room(a, NULL, &room);
}

static struct layer layer_of(const struct linear *a) {
    return (struct layer){
        .dtype = a->dtype, .rows = a->rows, .in = a->in, .out = a->out, .x = a->x, .w = a->w};
}

status_t cuda_linear_forward(struct backend *be, const struct linear *a, void *y, void *scratch) {
    const struct layer layer = layer_of(a);
    const bool residual = a->epilogue == LINEAR_RESIDUAL;
    struct linear_room room;
    if (a->rows == 0) return STATUS_OK;
    linear_room(a, scratch, &room);
    if (!a->relu6 && !(residual && a->row_scale)) {
        const void *bias;
        TRY(layer_bias(be, a->dtype, a->bias, a->out, room.bias, &bias));
        return layer_forward(be, &layer, bias, residual ? a->residual : NULL, y);
    }
    void *z = residual && a->residual == y ? room.matrix : y;
    TRY(layer_forward(be, &layer, NULL, NULL, z));
    const struct row_epilogue epilogue = {.dtype = a->dtype,
                                          .rows = a->rows,
                                          .columns = a->out,
                                          .rows_per_image = a->rows_per_image,
                                          .z = z,
                                          .residual = residual ? a->residual : NULL,
                                          .bias = a->bias,
                                          .row_scale = residual ? a->row_scale : NULL,
                                          .relu6 = a->relu6,
                                          .y = y};
    return rows_epilogue(be, &epilogue);
}

status_t cuda_linear_backward(struct backend *be, const struct linear *a, const struct linear_grad *g,
                              void *scratch) {
    const struct layer layer = layer_of(a);
    const bool scaled = a->epilogue == LINEAR_RESIDUAL && a->row_scale;
    struct linear_room room;
    if (a->rows == 0) return STATUS_OK;
    linear_room(a, scratch, &room);
    if (scaled || g->dbias) {
        const struct row_sums sums = {.dtype = a->dtype,
                                      .rows = a->rows,
                                      .columns = a->out,
                                      .rows_per_image = a->rows_per_image,
                                      .x = g->dy,
                                      .row_scale = scaled ? a->row_scale : NULL,
                                      .scaled = scaled ? room.matrix : NULL,
                                      .sum = g->dbias,
                                      .accumulate = true};
        TRY(rows_sum(be, &sums));
    }
    const void *dz = scaled ? room.matrix : g->dy;
    if (g->dw) TRY(layer_dw(be, &layer, dz, g->dw, true));
    if (g->dx) TRY(layer_dx(be, &layer, dz, g->dx, g->dx_accumulate));
    return STATUS_OK;
}

status_t cuda_gemm(struct backend *be, const struct gemm *a) {
    if (a->m == 0 || a->n == 0) return STATUS_OK;
    if (a->k == 0) return rows_scale(be, a->c, a->ldc, a->m, a->n, a->beta);
    const struct gemm_call call = {.dtype = a->dtype,
                                   .d_dtype = DTYPE_F32,
                                   .transpose_a = a->transpose_a,
                                   .transpose_b = a->transpose_b,
                                   .m = a->m,
                                   .n = a->n,
                                   .k = a->k,
                                   .lda = a->lda,
                                   .ldb = a->ldb,
                                   .ldd = a->ldc,
                                   .alpha = a->alpha,
                                   .beta = a->beta,
                                   .a = a->a,
                                   .b = a->b,
                                   .d = a->c};
    return gemm_planned(be, &call);
}
