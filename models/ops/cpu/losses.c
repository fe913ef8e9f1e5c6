/* Losses and confidences: mostly a few thousand numbers a step, so exact (fp64) rather than fast, and in one
 * thread. The full batches of the frozen stage are large: they go to vectorised kernels in all threads. */
#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

#include <math.h>

/* log(sum exp(factor * x_j)) */
static double log_sum_exp(const float *x, int64_t k, double factor) {
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < k; j++) top = factor * x[j] > top ? factor * x[j] : top;
    for (int64_t j = 0; j < k; j++) sum += exp(factor * x[j] - top);
    return top + log(sum);
}

static void put(float *dlogits, bool accumulate, double value) {
    *dlogits = accumulate ? *dlogits + (float)value : (float)value;
}

enum { MANY = 1 << 15, MAX_PARTS = 256 }; /* numbers worth a vectorised kernel; threads it is made for */

static bool is_large(const struct backend *be, int64_t n, int64_t k) {
    return n * k >= MANY && be->n_threads <= MAX_PARTS;
}

static void large_cross_entropy(struct backend *be, const struct cross_entropy *a) {
    double sums[MAX_PARTS] = {0};
    const struct cross_entropy_arguments arguments = {.k = a->k,
                                                      .smoothing = a->smoothing,
                                                      .scale = a->scale *
                                                               (a->scale_device ? *a->scale_device : 1.0f),
                                                      .logits = a->logits,
                                                      .labels = a->labels,
                                                      .dlogits = a->dlogits,
                                                      .sums = sums};
    const double cost = 1.5 * (double)a->k;
    parallel_for(be, a->n, cost, SIMD_PICK(kernel_cross_entropy), &arguments);
    for (int32_t i = 0; a->loss_sum && i < parallel_parts(be, a->n, cost); i++) *a->loss_sum += sums[i];
}

status_t cpu_cross_entropy(struct backend *be, const struct cross_entropy *a) {
    if (is_large(be, a->n, a->k) && a->dlogits && !a->dlogits_accumulate && !a->mask && !a->rows) {
        large_cross_entropy(be, a);
        return STATUS_OK;
    }
    double scale = (double)a->scale * (a->scale_device ? (double)*a->scale_device : 1.0), total = 0;
    double even = (double)a->smoothing / (double)(a->k > 0 ? a->k : 1);
    for (int64_t i = 0; i < a->n; i++) {
        const float *x = a->logits + i * a->k;
        bool keep = !a->mask || a->mask[i];
        double lse = keep ? log_sum_exp(x, a->k, 1) : 0, loss = 0;
        for (int64_t j = 0; j < a->k; j++) {
            double target = even + (keep && j == a->labels[i] ? 1.0 - (double)a->smoothing : 0.0);
            if (keep && target != 0) loss += target * (lse - x[j]);
            if (!a->dlogits) continue;
            double g = keep ? scale * (exp(x[j] - lse) - target) : 0;
            put(a->dlogits + i * a->k + j, a->dlogits_accumulate, g);
        }
        total += loss;
        if (a->rows) a->rows[i] = (float)loss;
    }
    if (a->loss_sum) *a->loss_sum += total;
    return STATUS_OK;
}

status_t cpu_soft_cross_entropy(struct backend *be, const struct soft_cross_entropy *a) {
    (void)be;
    double t = a->temperature, total = 0,
           scale = (double)a->scale * (a->scale_device ? (double)*a->scale_device : 1.0);
    for (int64_t i = 0; i < a->n; i++) {
        const float *x = a->logits + i * a->k, *teacher = a->teacher + i * a->k;
        bool keep = !a->mask || a->mask[i];
        double lse = keep ? log_sum_exp(x, a->k, 1 / t) : 0, mass = 0;
        for (int64_t j = 0; j < a->k; j++) mass += teacher[j];
        for (int64_t j = 0; j < a->k; j++) {
            double log_student = x[j] / t - lse;
            if (keep && teacher[j] > 0) total += t * t * teacher[j] * (log(teacher[j]) - log_student);
            if (!a->dlogits) continue;
            double g = keep ? scale * t * (mass * exp(log_student) - teacher[j]) : 0;
            put(a->dlogits + i * a->k + j, a->dlogits_accumulate, g);
        }
    }
    if (a->loss_sum) *a->loss_sum += total;
    return STATUS_OK;
}

status_t cpu_confidence(struct backend *be, const struct confidence *a) {
    (void)be;
    for (int64_t i = 0; i < a->n; i++) {
        const float *x = a->logits + i * a->k;
        int32_t best = 0;
        for (int64_t j = 1; j < a->k; j++)
            if (x[j] > x[best]) best = (int32_t)j;
        double lse = log_sum_exp(x, a->k, 1);
        float confidence = (float)exp(x[best] - lse);
        if (a->confidence) a->confidence[i] = confidence;
        if (a->label) a->label[i] = best;
        if (a->mask) a->mask[i] = confidence > a->threshold;
        if (!a->probabilities) continue;
        for (int64_t j = 0; j < a->k; j++) a->probabilities[i * a->k + j] = (float)exp(x[j] - lse);
    }
    return STATUS_OK;
}

status_t cpu_column_sums(struct backend *be, const float *x, int64_t n, int64_t d, double *sums) {
    (void)be;
    sums[0] = (double)n;
    for (int64_t j = 0; j < d; j++) sums[1 + j] = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) sums[1 + j] += x[i * d + j];
    return STATUS_OK;
}

status_t cpu_centre(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums, float *y) {
    (void)be;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++)
            y[i * d + j] = (float)(x[i * d + j] - (sums[0] > 0 ? sums[1 + j] / sums[0] : 0));
    return STATUS_OK;
}
