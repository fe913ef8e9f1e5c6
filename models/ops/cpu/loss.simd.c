/* Cross-entropy of many rows: the frozen stage's full batches (tens of thousands of rows a step). */
#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

#include <math.h>

INLINE vf masked_exp(const float *x, int64_t n, vf top) {
    vf e = v_exp(v_load_n(x, n) - top);
    float t[VL];
    if (n == VL) return e;
    v_store(t, e);
    for (int64_t i = n; i < VL; i++) t[i] = 0; /* lanes behind the row hold exp(-top) */
    return v_load(t);
}

INLINE float row_top(const float *x, int64_t k) {
    float top = x[0];
    vf best = v_set(top);
    int64_t j = 0;
    for (; j + VL <= k; j += VL) best = v_max(best, v_load(x + j));
    for (; j < k; j++) top = x[j] > top ? x[j] : top;
    const float high = v_highest(best);
    return high > top ? high : top;
}

void SIMD_NAME(kernel_cross_entropy)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct cross_entropy_arguments *a = arguments;
    const int64_t k = a->k;
    const float even = a->smoothing / (float)k;
    double total = 0;
    for (int64_t i = begin; i < end; i++) {
        const float *x = a->logits + i * k;
        float *g = a->dlogits + i * k;
        const float top = row_top(x, k);
        const vf top_v = v_set(top);
        vf sum_v = v_zero(), x_sum = v_zero();
        for (int64_t j = 0; j < k; j += VL) { /* exp goes to dlogits first: one exp an element */
            const int64_t n = k - j < VL ? k - j : VL;
            const vf e = masked_exp(x + j, n, top_v);
            if (n == VL)
                v_store(g + j, e);
            else
                v_store_n(g + j, e, n);
            sum_v += e;
            x_sum += v_load_n(x + j, n);
        }
        const float sum = v_sum(sum_v), lse = top + logf(sum);
        const int32_t label = a->labels[i];
        const float hot = 1.0f - a->smoothing;
        total += (double)(hot * (lse - x[label]) + even * ((float)k * lse - v_sum(x_sum)));
        const float p_scale = a->scale / sum, shift = a->scale * even;
        for (int64_t j = 0; j < k; j++) g[j] = g[j] * p_scale - shift;
        g[label] -= a->scale * hot;
    }
    bool goes_on = part_goes_on(&part);
    a->sums[part] = goes_on ? a->sums[part] + total : total;
}
