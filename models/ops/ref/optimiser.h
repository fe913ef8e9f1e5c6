/* Optimiser steps of ops_ref. */
#include "models/ops/ref/storage.h"

/* Elements [begin, end) of a segment that this step updates. */
static int64_t segment_begin(const struct optimiser_step *a, const struct optimiser_segment *s) {
    return s->offset > a->begin ? s->offset : a->begin;
}
static int64_t segment_end(const struct optimiser_step *a, const struct optimiser_segment *s) {
    const int64_t end = s->offset + s->n_elem;
    return end < a->end ? end : a->end;
}

/* Write parameter i and what follows from it. */
static void set_parameter(const struct optimiser_step *a, int64_t i, double p) {
    const double decay = (double)a->ema_decay;
    set_real(a->params, i, p);
    if (a->shadow) a->shadow[i] = bf16_from_f32((float)p);
    if (a->ema)
        set_real(a->ema, i - a->begin,
                 decay * real_at(a->ema, i - a->begin) + (1.0 - decay) * real_at(a->params, i));
}

static status_t ref_sgd(struct backend *be, const struct optimiser_step *a) {
    (void)be;
    if (a->skip && *a->skip) return STATUS_OK;
    const double grad_scale = a->grad_scale ? real_at(a->grad_scale, 0) : 1.0, momentum = (double)a->momentum;
    for (int32_t k = 0; k < a->n_segments; k++) {
        const struct optimiser_segment *s = &a->segments[k];
        const double lr = (double)a->lr * (double)s->lr_scale;
        for (int64_t i = segment_begin(a, s); i < segment_end(a, s); i++) {
            const double p = real_at(a->params, i);
            const double g = real_at(a->grads, i) * grad_scale + (double)s->weight_decay * p;
            const double v = a->first_step ? g : momentum * real_at(a->state1, i - a->begin) + g;
            set_real(a->state1, i - a->begin, v);
            set_parameter(a, i, p - lr * (a->nesterov ? g + momentum * v : v));
        }
    }
    return STATUS_OK;
}

static status_t ref_adamw(struct backend *be, const struct optimiser_step *a) {
    (void)be;
    if (a->skip && *a->skip) return STATUS_OK;
    const double grad_scale = a->grad_scale ? real_at(a->grad_scale, 0) : 1.0;
    const double b1 = a->beta1, b2 = a->beta2;
    const double c1 = 1.0 - pow(b1, (double)a->t), c2 = 1.0 - pow(b2, (double)a->t);
    for (int32_t k = 0; k < a->n_segments; k++) {
        const struct optimiser_segment *s = &a->segments[k];
        const double lr = (double)a->lr * (double)s->lr_scale;
        for (int64_t i = segment_begin(a, s); i < segment_end(a, s); i++) {
            const double g = real_at(a->grads, i) * grad_scale;
            const double m = b1 * real_at(a->state1, i - a->begin) + (1.0 - b1) * g;
            const double v = b2 * real_at(a->state2, i - a->begin) + (1.0 - b2) * g * g;
            set_real(a->state1, i - a->begin, m);
            set_real(a->state2, i - a->begin, v);
            const double p = real_at(a->params, i) * (1.0 - lr * (double)s->weight_decay);
            set_parameter(a, i, p - lr / c1 * m / (sqrt(v) / sqrt(c2) + a->eps));
        }
    }
    return STATUS_OK;
}

static status_t ref_square_sum(struct backend *be, const float *x, int64_t n_elem, double *sum) {
    (void)be;
    sum[0] = sum[1] = 0.0;
    for (int64_t i = 0; i < n_elem; i++) {
        sum[0] += real_at(x, i) * real_at(x, i);
        sum[1] += isfinite(real_at(x, i)) ? 0.0 : 1.0;
    }
    return STATUS_OK;
}

static status_t ref_clip_factor(struct backend *be, const double *sum, float clip, float *grad_scale,
                                int32_t *skip) {
    (void)be;
    const double factor = (double)clip / (sqrt(sum[0]) + 1e-6);
    *skip = sum[1] > 0.0 || !isfinite(sum[0]);
    set_real(grad_scale, 0, clip > 0.0f && factor < 1.0 ? factor : 1.0);
    return STATUS_OK;
}
