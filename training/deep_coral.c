#include "training/deep_coral.h"

#include "common/memory.h"

#include <string.h>

status_t deep_coral_buffers_new(const struct ops *ops, struct backend *be, int64_t n_source, int64_t n_target,
                                int64_t d, struct deep_coral_buffers *out) {
    struct deep_coral_buffers b = {.n_source = n_source, .n_target = n_target, .d = d};
    const size_t row = (size_t)d * sizeof(float);
    const size_t sizes[] = {memory_round_up(2 * (size_t)(1 + d) * sizeof(double)),
                            memory_round_up((size_t)n_source * row), memory_round_up((size_t)n_target * row),
                            memory_round_up((size_t)d * row), memory_round_up(2 * sizeof(double))};
    size_t total = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) total += sizes[i];
    TRY(ops->alloc(be, total, &b.block));
    char *p = b.block;
    b.sums = (double *)p, p += sizes[0];
    b.x_source = (float *)p, p += sizes[1];
    b.x_target = (float *)p, p += sizes[2];
    b.difference = (float *)p, p += sizes[3];
    b.square = (double *)p;
    *out = b;
    return STATUS_OK;
}

void deep_coral_buffers_free(const struct ops *ops, struct backend *be, struct deep_coral_buffers *b) {
    if (b->block) ops->release(be, b->block);
    memset(b, 0, sizeof *b);
}

/* difference = alpha X^T X + beta difference */
static status_t add_covariance(const struct deep_coral *a, const float *x, int64_t n, int64_t d, float alpha,
                               float beta, float *difference) {
    return a->ops->gemm(a->be, &(struct gemm){.dtype = DTYPE_F32,
                                              .transpose_a = true,
                                              .m = d,
                                              .n = d,
                                              .k = n,
                                              .lda = d,
                                              .ldb = d,
                                              .ldc = d,
                                              .alpha = alpha,
                                              .beta = beta,
                                              .a = x,
                                              .b = x,
                                              .c = difference});
}

/* df += alpha X G */
static status_t add_gradient(const struct deep_coral *a, const float *x, int64_t n, int64_t d, float alpha,
                             const float *difference, float *df) {
    return a->ops->gemm(a->be, &(struct gemm){.dtype = DTYPE_F32,
                                              .m = n,
                                              .n = d,
                                              .k = d,
                                              .lda = d,
                                              .ldb = d,
                                              .ldc = d,
                                              .alpha = alpha,
                                              .beta = 1.0f,
                                              .a = x,
                                              .b = difference,
                                              .c = df});
}

status_t deep_coral(const struct deep_coral *a, struct deep_coral_buffers *b) {
    const struct ops *ops = a->ops;
    const int64_t d = b->d, n_s = b->n_source, n_t = b->n_target;
    if (a->n_source_global < 2 || a->n_target_global < 2)
        return ops->fill_zero(a->be, b->square, 2 * sizeof(double));
    TRY(ops->column_sums(a->be, a->source, n_s, d, b->sums));
    TRY(ops->column_sums(a->be, a->target, n_t, d, b->sums + 1 + d));
    if (a->reduce) TRY(a->reduce(a->reduce_context, b->sums, 2 * (1 + d)));
    TRY(ops->centre(a->be, a->source, n_s, d, b->sums, b->x_source));
    TRY(ops->centre(a->be, a->target, n_t, d, b->sums + 1 + d, b->x_target));
    const float per_s = 1.0f / (float)(a->n_source_global - 1),
                per_t = 1.0f / (float)(a->n_target_global - 1);
    TRY(add_covariance(a, b->x_source, n_s, d, per_s, 0.0f, b->difference));
    TRY(add_covariance(a, b->x_target, n_t, d, -per_t, 1.0f, b->difference));
    if (a->reduce_f32) TRY(a->reduce_f32(a->reduce_context, b->difference, d * d));
    TRY(ops->square_sum(a->be, b->difference, d * d, b->square));
    const float scale = a->weight / (float)(d * d);
    TRY(add_gradient(a, b->x_source, n_s, d, scale * per_s, b->difference, a->dsource));
    return add_gradient(a, b->x_target, n_t, d, -scale * per_t, b->difference, a->dtarget);
}
