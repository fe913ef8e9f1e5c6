/* Losses, confidences and the halves of a covariance of ops_ref. */
#include "models/ops/ref/storage.h"

static double log_sum_exp(const float *logits, int64_t k, double temperature) {
    double max = -INFINITY, sum = 0.0;
    for (int64_t j = 0; j < k; j++) max = fmax(max, real_at(logits, j) / temperature);
    for (int64_t j = 0; j < k; j++) sum += exp(real_at(logits, j) / temperature - max);
    return max + log(sum);
}

/* Row i of an (N,K) array; float * stands for real *. */
static const float *row_of(const float *p, int64_t i, int64_t k) {
    return (const float *)((const real *)(const void *)p + i * k);
}

static status_t ref_cross_entropy(struct backend *be, const struct cross_entropy *a) {
    (void)be;
    const double scale = (double)a->scale * (a->scale_device ? real_at(a->scale_device, 0) : 1.0);
    const double eps = (double)a->smoothing;
    for (int64_t i = 0; i < a->n; i++) {
        const bool kept = !a->mask || a->mask[i];
        const float *logits = row_of(a->logits, i, a->k);
        const double lse = log_sum_exp(logits, a->k, 1.0);
        double loss = 0.0;
        for (int64_t j = 0; j < a->k; j++) {
            const double log_p = real_at(logits, j) - lse;
            const double target = (j == a->labels[i] ? 1.0 - eps : 0.0) + eps / (double)a->k;
            loss -= target * log_p;
            if (a->dlogits)
                store_or_add(DTYPE_F32, a->dlogits, i * a->k + j, kept ? scale * (exp(log_p) - target) : 0.0,
                             a->dlogits_accumulate);
        }
        if (a->rows) set_real(a->rows, i, kept ? loss : 0.0);
        if (a->loss_sum && kept) *a->loss_sum += loss;
    }
    return STATUS_OK;
}

static status_t ref_soft_cross_entropy(struct backend *be, const struct soft_cross_entropy *a) {
    (void)be;
    const double temperature = (double)a->temperature,
                 scale = (double)a->scale * (a->scale_device ? real_at(a->scale_device, 0) : 1.0);
    for (int64_t i = 0; i < a->n; i++) {
        if (a->mask && !a->mask[i]) {
            for (int64_t j = 0; j < a->k && a->dlogits && !a->dlogits_accumulate; j++)
                set_real(a->dlogits, i * a->k + j, 0.0);
            continue;
        }
        const float *logits = row_of(a->logits, i, a->k), *teacher = row_of(a->teacher, i, a->k);
        const double lse = log_sum_exp(logits, a->k, temperature);
        double loss = 0.0, teacher_sum = 0.0;
        for (int64_t j = 0; j < a->k; j++) {
            const double q = real_at(teacher, j), log_p = real_at(logits, j) / temperature - lse;
            if (q > 0.0) loss += temperature * temperature * q * (log(q) - log_p);
            teacher_sum += q;
        }
        for (int64_t j = 0; j < a->k && a->dlogits; j++) {
            const double p = exp(real_at(logits, j) / temperature - lse);
            store_or_add(DTYPE_F32, a->dlogits, i * a->k + j,
                         scale * temperature * (teacher_sum * p - real_at(teacher, j)),
                         a->dlogits_accumulate);
        }
        if (a->loss_sum) *a->loss_sum += loss;
    }
    return STATUS_OK;
}

static status_t ref_confidence(struct backend *be, const struct confidence *a) {
    (void)be;
    for (int64_t i = 0; i < a->n; i++) {
        const float *logits = row_of(a->logits, i, a->k);
        const double lse = log_sum_exp(logits, a->k, 1.0);
        int64_t best = 0;
        for (int64_t j = 0; j < a->k; j++) {
            if (real_at(logits, j) > real_at(logits, best)) best = j;
            if (a->probabilities) set_real(a->probabilities, i * a->k + j, exp(real_at(logits, j) - lse));
        }
        const float confidence = (float)exp(real_at(logits, best) - lse);
        if (a->confidence) set_real(a->confidence, i, (double)confidence);
        if (a->label) a->label[i] = (int32_t)best;
        if (a->mask) a->mask[i] = confidence > a->threshold;
    }
    return STATUS_OK;
}

static status_t ref_column_sums(struct backend *be, const float *x, int64_t n, int64_t d, double *sums) {
    (void)be;
    sums[0] = (double)n;
    for (int64_t j = 0; j < d; j++) {
        sums[1 + j] = 0.0;
        for (int64_t i = 0; i < n; i++) sums[1 + j] += real_at(x, i * d + j);
    }
    return STATUS_OK;
}

static status_t ref_centre(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums,
                           float *y) {
    (void)be;
    for (int64_t i = 0; i < n * d; i++) set_real(y, i, real_at(x, i) - sums[1 + i % d] / sums[0]);
    return STATUS_OK;
}
