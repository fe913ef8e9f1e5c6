#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

#include <math.h>

INLINE vf v_sqrt(vf x) {
#if defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)x);
#else
    float t[VL];
    v_store(t, x);
    for (int i = 0; i < VL; i++) t[i] = sqrtf(t[i]);
    return v_load(t);
#endif
}

/* What both rules do with a new parameter value besides keeping it. */
INLINE void keep(const struct optimiser_step *a, int64_t i, int64_t j, vf p, int64_t n) {
    store_part(a->params, i, p, n, DTYPE_F32);
    if (a->shadow) store_part(a->shadow, i, p, n, DTYPE_BF16);
    if (!a->ema) return;
    vf e = load_part(a->ema, j, n, DTYPE_F32);
    store_part(a->ema, j, e * a->ema_decay + p * (1.0f - a->ema_decay), n, DTYPE_F32);
}

/* The part of segment s within elements [begin, end) of the flat buffer; false: none. */
INLINE bool segment_part(const struct optimiser_segment *s, int64_t begin, int64_t end, int64_t *first,
                         int64_t *last) {
    *first = s->offset > begin ? s->offset : begin;
    *last = s->offset + s->n_elem < end ? s->offset + s->n_elem : end;
    return *first < *last;
}

void SIMD_NAME(kernel_sgd)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct optimiser_arguments *args = arguments;
    const struct optimiser_step *a = args->a;
    for (int32_t s = 0; s < a->n_segments; s++) {
        int64_t first, last;
        if (!segment_part(&a->segments[s], a->begin + begin, a->begin + end, &first, &last)) continue;
        float lr = (float)(a->lr * a->segments[s].lr_scale), decay = a->segments[s].weight_decay;
        for (int64_t i = first; i < last; i += VL) {
            int64_t n = last - i, j = i - a->begin;
            vf p = load_part(a->params, i, n, DTYPE_F32);
            vf g = load_part(a->grads, i, n, DTYPE_F32) * args->grad_scale + p * decay;
            vf v = a->first_step ? g : load_part(a->state1, j, n, DTYPE_F32) * a->momentum + g;
            store_part(a->state1, j, v, n, DTYPE_F32);
            keep(a, i, j, p - (a->nesterov ? g + v * a->momentum : v) * lr, n);
        }
    }
}

void SIMD_NAME(kernel_adamw)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct optimiser_arguments *args = arguments;
    const struct optimiser_step *a = args->a;
    float correction1 = (float)(1.0 / (1.0 - pow((double)a->beta1, (double)a->t)));
    float correction2 = (float)(1.0 / sqrt(1.0 - pow((double)a->beta2, (double)a->t)));
    float beta2 = (float)a->beta2, rest1 = (float)(1.0 - (double)a->beta1),
          rest2 = (float)(1.0 - (double)a->beta2);
    float eps = (float)a->eps;
    for (int32_t s = 0; s < a->n_segments; s++) {
        int64_t first, last;
        if (!segment_part(&a->segments[s], a->begin + begin, a->begin + end, &first, &last)) continue;
        float lr = (float)(a->lr * a->segments[s].lr_scale);
        float shrink = (float)(1.0 - (double)lr * a->segments[s].weight_decay);
        float step = lr * correction1;
        for (int64_t i = first; i < last; i += VL) {
            int64_t n = last - i, j = i - a->begin;
            vf g = load_part(a->grads, i, n, DTYPE_F32) * args->grad_scale;
            vf m = load_part(a->state1, j, n, DTYPE_F32), v = load_part(a->state2, j, n, DTYPE_F32);
            m += (g - m) * rest1;
            v = v * beta2 + g * g * rest2;
            store_part(a->state1, j, m, n, DTYPE_F32);
            store_part(a->state2, j, v, n, DTYPE_F32);
            vf p = load_part(a->params, i, n, DTYPE_F32) * shrink;
            keep(a, i, j, p - m * step / (v_sqrt(v) * correction2 + eps), n);
        }
    }
}

void SIMD_NAME(kernel_square_sum)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct square_sum_arguments *a = arguments;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t first = piece * a->piece, last = first + a->piece < a->n_elem ? first + a->piece : a->n_elem;
        vd sum = {0};
        vi bad = {0};
        for (int64_t i = first; i < last; i += VL) {
            vf x = load_part(a->x, i, last - i, DTYPE_F32);
            vd wide = __builtin_convertvector(x, vd);
            sum += wide * wide;
            bad -= (vi)(((vi)x & 0x7f800000) == 0x7f800000);
        }
        double total = 0, n_bad = 0;
        for (int j = 0; j < VL; j++) total += sum[j], n_bad += bad[j];
        a->sums[2 * piece] = total;
        a->sums[2 * piece + 1] = n_bad;
    }
}
