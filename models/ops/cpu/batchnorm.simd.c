#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

#define RUN 8 /* rows summed in fp32 before they are added to the fp64 sums */

INLINE void add_to_double(double *sums, vf v, int64_t n) {
    if (n >= VL) {
        vd s;
        memcpy(&s, sums, sizeof s);
        s += __builtin_convertvector(v, vd);
        memcpy(sums, &s, sizeof s);
        return;
    }
    float t[VL];
    v_store(t, v);
    for (int64_t i = 0; i < n; i++) sums[i] += t[i];
}

INLINE bool taken(const struct batchnorm *a, int64_t row) { return !a->image_mask || a->image_mask[row / a->hw]; }

INLINE void sums_as(const struct batchnorm *a, double *sums, int64_t begin, int64_t end, const enum dtype type) {
    for (int64_t first = begin; first < end; first += RUN) {
        int64_t stop = first + RUN < end ? first + RUN : end;
        for (int64_t c = 0; c < a->c; c += VL) {
            vf s = v_zero(), q = v_zero();
            for (int64_t row = first; row < stop; row++) {
                if (!taken(a, row)) continue;
                vf x = load_part(a->x, row * a->c + c, a->c - c, type);
                s += x;
                q += x * x;
            }
            add_to_double(sums + c, s, a->c - c);
            add_to_double(sums + a->c + c, q, a->c - c);
        }
    }
}

void SIMD_NAME(kernel_batchnorm_sums)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct batchnorm_arguments *args = arguments;
    const struct batchnorm *a = args->a;
    double *sums = args->partial + part * 2 * a->c;
    memset(sums, 0, 2 * (size_t)a->c * sizeof *sums);
    if (a->dtype == DTYPE_F32)
        sums_as(a, sums, begin, end, DTYPE_F32);
    else
        sums_as(a, sums, begin, end, DTYPE_BF16);
}

INLINE void apply_as(const struct batchnorm *a, void *y, int64_t begin, int64_t end, const enum dtype type) {
    for (int64_t row = begin; row < end; row++) {
        for (int64_t c = 0; c < a->c; c += VL) {
            int64_t n = a->c - c, i = row * a->c + c;
            vf factor = load_part(a->rstd, c, n, DTYPE_F32) * load_part(a->weight, c, n, DTYPE_F32);
            vf z = (load_part(a->x, i, n, type) - load_part(a->mean, c, n, DTYPE_F32)) * factor +
                   load_part(a->bias, c, n, DTYPE_F32);
            if (a->relu6) z = v_min(v_max(z, v_zero()), v_set(6.0f));
            if (a->residual) z += load_part(a->residual, i, n, type);
            store_part(y, i, z, n, type);
        }
    }
}

void SIMD_NAME(kernel_batchnorm_apply)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct batchnorm_arguments *args = arguments;
    if (args->a->dtype == DTYPE_F32)
        apply_as(args->a, args->out, begin, end, DTYPE_F32);
    else
        apply_as(args->a, args->out, begin, end, DTYPE_BF16);
}

/* xhat and the gradient that passed ReLU6, of VL channels of a row. */
INLINE vf masked_grad(const struct batchnorm *a, const void *dy, int64_t i, int64_t c, int64_t n, vf *xhat,
                      const enum dtype type) {
    vf rstd = load_part(a->rstd, c, n, DTYPE_F32);
    vf centred = load_part(a->x, i, n, type) - load_part(a->mean, c, n, DTYPE_F32);
    *xhat = centred * rstd;
    vf g = load_part(dy, i, n, type);
    if (!a->relu6) return g;
    vf z = centred * (rstd * load_part(a->weight, c, n, DTYPE_F32)) + load_part(a->bias, c, n, DTYPE_F32);
    return v_between(z, 0.0f, 6.0f, g);
}

INLINE void grad_sums_as(const struct batchnorm *a, const void *dy, double *sums, int64_t begin, int64_t end,
                         const enum dtype type) {
    for (int64_t first = begin; first < end; first += RUN) {
        int64_t stop = first + RUN < end ? first + RUN : end;
        for (int64_t c = 0; c < a->c; c += VL) {
            vf s = v_zero(), q = v_zero();
            for (int64_t row = first; row < stop; row++) {
                if (!taken(a, row)) continue;
                vf xhat, g = masked_grad(a, dy, row * a->c + c, c, a->c - c, &xhat, type);
                s += g;
                q += g * xhat;
            }
            add_to_double(sums + c, s, a->c - c);
            add_to_double(sums + a->c + c, q, a->c - c);
        }
    }
}

void SIMD_NAME(kernel_batchnorm_grad_sums)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct batchnorm_arguments *args = arguments;
    const struct batchnorm *a = args->a;
    double *sums = args->partial + part * 2 * a->c;
    memset(sums, 0, 2 * (size_t)a->c * sizeof *sums);
    if (a->dtype == DTYPE_F32)
        grad_sums_as(a, args->dy, sums, begin, end, DTYPE_F32);
    else
        grad_sums_as(a, args->dy, sums, begin, end, DTYPE_BF16);
}

INLINE vf mean_of(const double *sums, double inverse_count, int64_t n) {
    if (n >= VL) {
        vd s;
        memcpy(&s, sums, sizeof s);
        return __builtin_convertvector(s * inverse_count, vf);
    }
    float t[VL] = {0};
    for (int64_t i = 0; i < n; i++) t[i] = (float)(sums[i] * inverse_count);
    return v_load(t);
}

INLINE void grad_apply_as(const struct batchnorm_arguments *args, int64_t begin, int64_t end,
                          const enum dtype type) {
    const struct batchnorm *a = args->a;
    for (int64_t row = begin; row < end; row++) {
        bool keep = taken(a, row);
        for (int64_t c = 0; c < a->c; c += VL) {
            int64_t n = a->c - c, i = row * a->c + c;
            vf xhat, g = masked_grad(a, args->dy, i, c, n, &xhat, type);
            vf factor = load_part(a->rstd, c, n, DTYPE_F32) * load_part(a->weight, c, n, DTYPE_F32);
            if (args->grad_sums) {
                vf m1 = mean_of(args->grad_sums + c, args->inverse_count, n);
                vf m2 = mean_of(args->grad_sums + a->c + c, args->inverse_count, n);
                g = g - m1 - xhat * m2;
            }
            store_part(args->out, i, keep ? factor * g : v_zero(), n, type);
        }
    }
}

void SIMD_NAME(kernel_batchnorm_grad_apply)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct batchnorm_arguments *args = arguments;
    if (args->a->dtype == DTYPE_F32)
        grad_apply_as(args, begin, end, DTYPE_F32);
    else
        grad_apply_as(args, begin, end, DTYPE_BF16);
}
