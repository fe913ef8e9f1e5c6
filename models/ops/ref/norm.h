/* Layer norm, batch norm, average pool and patch merging of ops_ref. */
#include "models/ops/ref/storage.h"

static status_t ref_layernorm_forward(struct backend *be, const struct layernorm *a, void *y) {
    (void)be;
    const int64_t n = a->channels;
    for (int64_t t = 0; t < a->rows; t++) {
        double sum = 0.0, squares = 0.0;
        for (int64_t c = 0; c < n; c++) sum += load(a->dtype, a->x, t * n + c);
        const double mean = sum / (double)n;
        for (int64_t c = 0; c < n; c++) squares += pow(load(a->dtype, a->x, t * n + c) - mean, 2.0);
        const double rstd = 1.0 / sqrt(squares / (double)n + (double)a->eps);
        for (int64_t c = 0; c < n; c++)
            store(a->dtype, y, t * n + c,
                  (load(a->dtype, a->x, t * n + c) - mean) * rstd * real_at(a->weight, c) +
                      real_at(a->bias, c));
        if (a->mean) set_real(a->mean, t, mean);
        if (a->rstd) set_real(a->rstd, t, rstd);
    }
    return STATUS_OK;
}

static double layernorm_xhat(const struct layernorm *a, int64_t t, int64_t c) {
    return (load(a->dtype, a->x, t * a->channels + c) - real_at(a->mean, t)) * real_at(a->rstd, t);
}

static status_t ref_layernorm_backward(struct backend *be, const struct layernorm *a,
                                       const struct layernorm_grad *g, void *scratch) {
    (void)be, (void)scratch;
    const int64_t n = a->channels;
    for (int64_t c = 0; c < n; c++) {
        double dweight = 0.0, dbias = 0.0;
        for (int64_t t = 0; t < a->rows; t++) {
            const double dy = load(a->dtype, g->dy, t * n + c);
            dweight += dy * layernorm_xhat(a, t, c);
            dbias += dy;
        }
        if (g->dweight) add_real(g->dweight, c, dweight);
        if (g->dbias) add_real(g->dbias, c, dbias);
    }
    for (int64_t t = 0; t < a->rows && g->dx; t++) {
        double mean_g = 0.0, mean_gx = 0.0; /* of g = dy * weight and of g * xhat */
        for (int64_t c = 0; c < n; c++) {
            const double gc = load(a->dtype, g->dy, t * n + c) * real_at(a->weight, c);
            mean_g += gc / (double)n;
            mean_gx += gc * layernorm_xhat(a, t, c) / (double)n;
        }
        for (int64_t c = 0; c < n; c++) {
            const double gc = load(a->dtype, g->dy, t * n + c) * real_at(a->weight, c);
            const double dx = real_at(a->rstd, t) * (gc - mean_g - layernorm_xhat(a, t, c) * mean_gx);
            store_or_add(a->dtype, g->dx, t * n + c, dx, g->dx_accumulate);
        }
    }
    return STATUS_OK;
}

static bool image_kept(const uint8_t *image_mask, int64_t n) {
    return !image_mask || image_mask[n];
}

static status_t ref_batchnorm_sums(struct backend *be, const struct batchnorm *a, double *sums,
                                   void *scratch) {
    (void)be, (void)scratch;
    for (int64_t i = 0; i < 1 + 2 * a->c; i++) sums[i] = 0.0;
    for (int64_t p = 0; p < a->n * a->hw; p++) {
        if (!image_kept(a->image_mask, p / a->hw)) continue;
        sums[0] += 1.0;
        for (int64_t c = 0; c < a->c; c++) {
            const double x = load(a->dtype, a->x, p * a->c + c);
            sums[1 + c] += x;
            sums[1 + a->c + c] += x * x;
        }
    }
    return STATUS_OK;
}

static status_t ref_batchnorm_finish(struct backend *be, const struct batchnorm *a, const double *sums) {
    (void)be;
    const double eps = (double)a->eps, momentum = (double)a->momentum;
    for (int64_t c = 0; c < a->c; c++) {
        if (!sums) {
            set_real(a->mean, c, real_at(a->running_mean, c));
            set_real(a->rstd, c, 1.0 / sqrt(real_at(a->running_var, c) + eps));
        } else if (sums[0] == 0.0) {
            set_real(a->mean, c, 0.0);
            set_real(a->rstd, c, 1.0);
        } else {
            const double mean = sums[1 + c] / sums[0];
            const double var = fmax(sums[1 + a->c + c] / sums[0] - mean * mean, 0.0);
            const double unbiased = var * sums[0] / fmax(sums[0] - 1.0, 1.0);
            set_real(a->mean, c, mean);
            set_real(a->rstd, c, 1.0 / sqrt(var + eps));
            if (!a->running_mean) continue;
            set_real(a->running_mean, c, (1.0 - momentum) * real_at(a->running_mean, c) + momentum * mean);
            set_real(a->running_var, c, (1.0 - momentum) * real_at(a->running_var, c) + momentum * unbiased);
        }
    }
    return STATUS_OK;
}

static double batchnorm_xhat(const struct batchnorm *a, int64_t p, int64_t c) {
    return (load(a->dtype, a->x, p * a->c + c) - real_at(a->mean, c)) * real_at(a->rstd, c);
}

static status_t ref_batchnorm_apply(struct backend *be, const struct batchnorm *a, void *y) {
    (void)be;
    for (int64_t p = 0; p < a->n * a->hw; p++) {
        for (int64_t c = 0; c < a->c; c++) {
            double v = batchnorm_xhat(a, p, c) * real_at(a->weight, c) + real_at(a->bias, c);
            if (a->relu6) v = fmin(fmax(v, 0.0), 6.0);
            if (a->residual) v += load(a->dtype, a->residual, p * a->c + c);
            store(a->dtype, y, p * a->c + c, v);
        }
    }
    return STATUS_OK;
}

/* g of pixel p, channel c: dy behind ReLU6 and the image mask. */
static status_t ref_batchnorm_fold(struct backend *be, const struct batchnorm_fold *a) {
    (void)be;
    for (int64_t c = 0; c < a->c; c++) {
        const double s = real_at(a->weight, c) / sqrt(real_at(a->running_var, c) + (double)a->eps);
        set_real(a->bias_folded, c, real_at(a->bias, c) - s * real_at(a->running_mean, c));
        for (int64_t t = 0; t < a->taps; t++) {
            const int64_t i = a->channels_last ? t * a->c + c : c * a->taps + t;
            store(a->dtype, a->w_folded, i, s * real_at(a->w, i));
        }
    }
    return STATUS_OK;
}

static double batchnorm_g(const struct batchnorm *a, const void *dy, int64_t p, int64_t c) {
    const double v = batchnorm_xhat(a, p, c) * real_at(a->weight, c) + real_at(a->bias, c);
    const bool passes = image_kept(a->image_mask, p / a->hw) && (!a->relu6 || (v > 0.0 && v < 6.0));
    return passes ? load(a->dtype, dy, p * a->c + c) : 0.0;
}

static status_t ref_batchnorm_grad_sums(struct backend *be, const struct batchnorm *a, const void *dy,
                                        double *sums, void *scratch) {
    (void)be, (void)scratch;
    for (int64_t i = 0; i < 2 * a->c; i++) sums[i] = 0.0;
    for (int64_t p = 0; p < a->n * a->hw; p++) {
        for (int64_t c = 0; c < a->c && image_kept(a->image_mask, p / a->hw); c++) {
            sums[c] += batchnorm_g(a, dy, p, c);
            sums[a->c + c] += batchnorm_g(a, dy, p, c) * batchnorm_xhat(a, p, c);
        }
    }
    return STATUS_OK;
}

static status_t ref_batchnorm_grad_apply(struct backend *be, const struct batchnorm *a,
                                         const struct batchnorm_grad *g) {
    (void)be;
    for (int64_t p = 0; p < a->n * a->hw && g->dx; p++) {
        const bool kept = image_kept(a->image_mask, p / a->hw);
        for (int64_t c = 0; c < a->c; c++) {
            double dx = 0.0;
            if (kept) {
                dx = batchnorm_g(a, g->dy, p, c);
                if (g->grad_sums)
                    dx -= (g->grad_sums[c] + batchnorm_xhat(a, p, c) * g->grad_sums[a->c + c]) / g->sums[0];
            }
            store(a->dtype, g->dx, p * a->c + c, real_at(a->weight, c) * real_at(a->rstd, c) * dx);
        }
    }
    for (int64_t c = 0; c < a->c; c++) {
        if (g->dbias) add_real(g->dbias, c, g->local_sums[c]);
        if (g->dweight) add_real(g->dweight, c, g->local_sums[a->c + c]);
    }
    return STATUS_OK;
}

static status_t ref_average_pool_forward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw,
                                         int64_t c, const void *x, float *y) {
    (void)be;
    for (int64_t i = 0; i < n * c; i++) {
        double sum = 0.0;
        for (int64_t p = 0; p < hw; p++) sum += load(dtype, x, (i / c * hw + p) * c + i % c);
        set_real(y, i, sum / (double)hw);
    }
    return STATUS_OK;
}

static status_t ref_average_pool_backward(struct backend *be, enum dtype dtype, int64_t n, int64_t hw,
                                          int64_t c, const float *dy, void *dx) {
    (void)be;
    for (int64_t i = 0; i < n * hw * c; i++)
        store(dtype, dx, i, real_at(dy, i / (hw * c) * c + i % c) / (double)hw);
    return STATUS_OK;
}

/* Where element (n, y, x, c) of the map lies in the gathered tensor. */
static int64_t merged_at(const struct patch_merge *a, int64_t n, int64_t y, int64_t x, int64_t c) {
    const int64_t ho = (a->h + 1) / 2, wo = (a->w + 1) / 2, part = y % 2 + 2 * (x % 2);
    return (((n * ho + y / 2) * wo + x / 2) * 4 + part) * a->c + c;
}

static status_t ref_patch_merge_forward(struct backend *be, const struct patch_merge *a, const void *x,
                                        void *y) {
    (void)be;
    const int64_t n_out = a->n * ((a->h + 1) / 2) * ((a->w + 1) / 2) * 4 * a->c;
    for (int64_t i = 0; i < n_out; i++) store(a->dtype, y, i, 0.0);
    for (int64_t i = 0; i < a->n * a->h * a->w * a->c; i++) {
        const int64_t p = i / a->c;
        store(a->dtype, y, merged_at(a, p / (a->h * a->w), p / a->w % a->h, p % a->w, i % a->c),
              load(a->dtype, x, i));
    }
    return STATUS_OK;
}

static status_t ref_patch_merge_backward(struct backend *be, const struct patch_merge *a, const void *dy,
                                         void *dx) {
    (void)be;
    for (int64_t i = 0; i < a->n * a->h * a->w * a->c; i++) {
        const int64_t p = i / a->c;
        const int64_t from = merged_at(a, p / (a->h * a->w), p / a->w % a->h, p % a->w, i % a->c);
        store(a->dtype, dx, i, load(a->dtype, dy, from));
    }
    return STATUS_OK;
}
