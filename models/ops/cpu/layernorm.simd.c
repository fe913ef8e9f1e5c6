#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

#include <math.h>

/* Mean of a row, then the variance about it: two passes, so that a large mean costs no digits. */
INLINE void row_statistics(const struct layernorm *a, int64_t first, float *mean, float *rstd,
                           const enum dtype type) {
    vf s0 = v_zero(), s1 = v_zero();
    int64_t c = 0;
    for (; c + 2 * VL <= a->channels; c += 2 * VL) {
        s0 += load_as(a->x, first + c, type);
        s1 += load_as(a->x, first + c + VL, type);
    }
    for (; c < a->channels; c += VL) s0 += load_part(a->x, first + c, a->channels - c, type);
    float m = v_sum(s0 + s1) / (float)a->channels;
    s0 = s1 = v_zero();
    for (c = 0; c + 2 * VL <= a->channels; c += 2 * VL) {
        vf d0 = load_as(a->x, first + c, type) - m, d1 = load_as(a->x, first + c + VL, type) - m;
        s0 += d0 * d0;
        s1 += d1 * d1;
    }
    for (; c + VL <= a->channels; c += VL) {
        vf d = load_as(a->x, first + c, type) - m;
        s0 += d * d;
    }
    float rest = 0;
    if (c < a->channels) {
        float t[VL];
        v_store(t, load_part(a->x, first + c, a->channels - c, type));
        for (int64_t j = 0; j < a->channels - c; j++) rest += (t[j] - m) * (t[j] - m);
    }
    *mean = m;
    *rstd = 1.0f / sqrtf((v_sum(s0 + s1) + rest) / (float)a->channels + a->eps);
}

INLINE void layernorm_as(const struct layernorm *a, void *y, int64_t begin, int64_t end,
                         const enum dtype type) {
    for (int64_t row = begin; row < end; row++) {
        float mean, rstd;
        int64_t first = row * a->channels, c = 0;
        row_statistics(a, first, &mean, &rstd, type);
        if (a->mean) a->mean[row] = mean;
        if (a->rstd) a->rstd[row] = rstd;
        for (; c + VL <= a->channels; c += VL) {
            vf xhat = (load_as(a->x, first + c, type) - mean) * rstd;
            store_as(y, first + c, xhat * v_load(a->weight + c) + v_load(a->bias + c), type);
        }
        if (c < a->channels) {
            int64_t n = a->channels - c;
            vf xhat = (load_part(a->x, first + c, n, type) - mean) * rstd;
            vf out = xhat * v_load_n(a->weight + c, n) + v_load_n(a->bias + c, n);
            store_part(y, first + c, out, n, type);
        }
    }
}

void SIMD_NAME(kernel_layernorm)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct layernorm_arguments *args = arguments;
    if (args->a->dtype == DTYPE_F32)
        layernorm_as(args->a, args->y, begin, end, DTYPE_F32);
    else
        layernorm_as(args->a, args->y, begin, end, DTYPE_BF16);
}

#define GRAD_ROWS 4 /* rows whose sums for dweight and dbias are kept in registers at a time */

/* mean(w dy) and mean(w dy xhat) of a row. */
INLINE void row_grad_means(const struct layernorm *a, const void *dy, int64_t row, float *m1, float *m2,
                           const enum dtype type) {
    vf s1 = v_zero(), s2 = v_zero();
    float mean = a->mean[row], rstd = a->rstd[row];
    for (int64_t c = 0; c < a->channels; c += VL) {
        int64_t n = a->channels - c, i = row * a->channels + c;
        vf g = load_part(dy, i, n, type) * load_part(a->weight, c, n, DTYPE_F32);
        s1 += g;
        s2 += g * ((load_part(a->x, i, n, type) - mean) * rstd);
    }
    *m1 = v_sum(s1) / (float)a->channels;
    *m2 = v_sum(s2) / (float)a->channels;
}

/* GRAD_ROWS rows or fewer: dx, and their share of dweight and dbias. */
INLINE void grad_rows(const struct layernorm_grad_arguments *args, int64_t row, const int64_t n_rows,
                      float *sums, const enum dtype type) {
    const struct layernorm *a = args->a;
    float m1[GRAD_ROWS], m2[GRAD_ROWS];
    for (int64_t r = 0; r < n_rows; r++) row_grad_means(a, args->dy, row + r, &m1[r], &m2[r], type);
    for (int64_t c = 0; c < a->channels; c += VL) {
        int64_t n = a->channels - c;
        vf w = load_part(a->weight, c, n, DTYPE_F32), dw = v_zero(), db = v_zero();
        for (int64_t r = 0; r < n_rows; r++) {
            int64_t i = (row + r) * a->channels + c;
            vf dy = load_part(args->dy, i, n, type);
            vf xhat = (load_part(a->x, i, n, type) - a->mean[row + r]) * a->rstd[row + r];
            dw += dy * xhat;
            db += dy;
            if (!args->dx) continue;
            vf dx = (dy * w - m1[r] - xhat * m2[r]) * a->rstd[row + r];
            if (args->accumulate) dx += load_part(args->dx, i, n, type);
            store_part(args->dx, i, dx, n, type);
        }
        store_part(sums, c, load_part(sums, c, n, DTYPE_F32) + dw, n, DTYPE_F32);
        float *bias_sums = sums + a->channels;
        store_part(bias_sums, c, load_part(bias_sums, c, n, DTYPE_F32) + db, n, DTYPE_F32);
    }
}

INLINE void layernorm_grad_as(const struct layernorm_grad_arguments *args, int64_t begin, int64_t end,
                              float *sums, const enum dtype type) {
    int64_t row = begin;
    for (; row + GRAD_ROWS <= end; row += GRAD_ROWS) grad_rows(args, row, GRAD_ROWS, sums, type);
    for (; row < end; row++) grad_rows(args, row, 1, sums, type);
}

void SIMD_NAME(kernel_layernorm_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct layernorm_grad_arguments *args = arguments;
    bool goes_on = part_goes_on(&part);
    float *sums = args->partial + part * 2 * args->a->channels;
    if (!goes_on) memset(sums, 0, 2 * (size_t)args->a->channels * sizeof *sums);
    if (args->a->dtype == DTYPE_F32)
        layernorm_grad_as(args, begin, end, sums, DTYPE_F32);
    else
        layernorm_grad_as(args, begin, end, sums, DTYPE_BF16);
}
