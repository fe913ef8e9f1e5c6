#include "models/ops/bf16.h"
#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

#include <math.h>

/* ---- layer norm ---- */

size_t cpu_layernorm_scratch(struct backend *be, const struct layernorm *a, bool train) {
    return train ? (size_t)(be->n_threads * 2 * a->channels) * 4 : 0;
}

status_t cpu_layernorm_forward(struct backend *be, const struct layernorm *a, void *y) {
    struct layernorm_arguments k = {a, y};
    parallel_for(be, a->rows, 0.5 * (double)a->channels, SIMD_PICK(kernel_layernorm), &k);
    return STATUS_OK;
}

status_t cpu_layernorm_backward(struct backend *be, const struct layernorm *a, const struct layernorm_grad *g,
                                void *scratch) {
    double cost = 0.8 * (double)a->channels;
    struct layernorm_grad_arguments k = {
        .a = a, .dy = g->dy, .dx = g->dx, .accumulate = g->dx_accumulate, .partial = scratch};
    parallel_for(be, a->rows, cost, SIMD_PICK(kernel_layernorm_grad), &k);
    int32_t n_parts = parallel_parts(be, a->rows, cost);
    if (g->dweight) add_partials(g->dweight, k.partial, n_parts, 2 * a->channels, a->channels, NULL);
    if (g->dbias)
        add_partials(g->dbias, k.partial + a->channels, n_parts, 2 * a->channels, a->channels, NULL);
    return STATUS_OK;
}

/* ---- batch norm ---- */

size_t cpu_batchnorm_scratch(struct backend *be, const struct batchnorm *a, bool train) {
    return train ? (size_t)(be->n_threads * 2 * a->c) * sizeof(double) : 0;
}

static void add_double_partials(double *sums, const double *partial, int32_t n_parts, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        sums[i] = 0;
        for (int32_t p = 0; p < n_parts; p++) sums[i] += partial[p * n + i];
    }
}

#define ROW_COST(a) ((double)(a)->c)

status_t cpu_batchnorm_sums(struct backend *be, const struct batchnorm *a, double *sums, void *scratch) {
    struct batchnorm_arguments k = {.a = a, .partial = scratch};
    int64_t rows = a->n * a->hw, images = 0;
    for (int64_t i = 0; i < a->n; i++) images += !a->image_mask || a->image_mask[i];
    parallel_for(be, rows, ROW_COST(a), SIMD_PICK(kernel_batchnorm_sums), &k);
    sums[0] = (double)(images * a->hw);
    add_double_partials(sums + 1, k.partial, parallel_parts(be, rows, ROW_COST(a)), 2 * a->c);
    return STATUS_OK;
}

status_t cpu_batchnorm_finish(struct backend *be, const struct batchnorm *a, const double *sums) {
    (void)be;
    for (int64_t c = 0; c < a->c; c++) {
        if (!sums) {
            a->mean[c] = a->running_mean[c];
            a->rstd[c] = 1.0f / sqrtf(a->running_var[c] + a->eps);
            continue;
        }
        double count = sums[0];
        if (count <= 0) {
            a->mean[c] = 0;
            a->rstd[c] = 1;
            continue;
        }
        double mean = sums[1 + c] / count, var = sums[1 + a->c + c] / count - mean * mean;
        var = var > 0 ? var : 0;
        a->mean[c] = (float)mean;
        a->rstd[c] = (float)(1.0 / sqrt(var + (double)a->eps));
        double unbiased = count > 1 ? var * count / (count - 1) : var;
        if (a->running_mean)
            a->running_mean[c] = (float)((1.0 - a->momentum) * a->running_mean[c] + a->momentum * mean);
        if (a->running_var)
            a->running_var[c] = (float)((1.0 - a->momentum) * a->running_var[c] + a->momentum * unbiased);
    }
    return STATUS_OK;
}

status_t cpu_batchnorm_apply(struct backend *be, const struct batchnorm *a, void *y) {
    struct batchnorm_arguments k = {.a = a, .out = y};
    parallel_for(be, a->n * a->hw, ROW_COST(a), SIMD_PICK(kernel_batchnorm_apply), &k);
    return STATUS_OK;
}

/* Items are rows of w: channels, or with channels_last taps. */
static void fold_rows(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct batchnorm_fold *a = arguments;
    const int64_t n = a->channels_last ? a->c : a->taps;
    for (int64_t row = begin; row < end; row++) {
        for (int64_t i = 0; i < n; i++) {
            const int64_t c = a->channels_last ? i : row, at = row * n + i;
            const float w = a->w[at] * (a->weight[c] / sqrtf(a->running_var[c] + a->eps));
            if (a->dtype == DTYPE_F32)
                ((float *)a->w_folded)[at] = w;
            else
                ((uint16_t *)a->w_folded)[at] = bf16_from_f32(w);
        }
    }
}

status_t cpu_batchnorm_fold(struct backend *be, const struct batchnorm_fold *a) {
    for (int64_t c = 0; c < a->c; c++)
        a->bias_folded[c] =
            a->bias[c] - a->weight[c] / sqrtf(a->running_var[c] + a->eps) * a->running_mean[c];
    const int64_t rows = a->channels_last ? a->taps : a->c;
    parallel_for(be, rows, (double)(a->channels_last ? a->c : a->taps), fold_rows, a);
    return STATUS_OK;
}

status_t cpu_batchnorm_grad_sums(struct backend *be, const struct batchnorm *a, const void *dy, double *sums,
                                 void *scratch) {
    struct batchnorm_arguments k = {.a = a, .dy = dy, .partial = scratch};
    int64_t rows = a->n * a->hw;
    parallel_for(be, rows, ROW_COST(a), SIMD_PICK(kernel_batchnorm_grad_sums), &k);
    add_double_partials(sums, k.partial, parallel_parts(be, rows, ROW_COST(a)), 2 * a->c);
    return STATUS_OK;
}

status_t cpu_batchnorm_grad_apply(struct backend *be, const struct batchnorm *a,
                                  const struct batchnorm_grad *g) {
    struct batchnorm_arguments k = {.a = a, .dy = g->dy, .out = g->dx, .grad_sums = g->grad_sums};
    k.inverse_count = g->sums && g->sums[0] > 0 ? 1.0 / g->sums[0] : 0;
    if (g->dx) parallel_for(be, a->n * a->hw, ROW_COST(a), SIMD_PICK(kernel_batchnorm_grad_apply), &k);
    for (int64_t c = 0; c < a->c; c++) {
        if (g->dbias) g->dbias[c] += (float)g->local_sums[c];
        if (g->dweight) g->dweight[c] += (float)g->local_sums[a->c + c];
    }
    return STATUS_OK;
}
