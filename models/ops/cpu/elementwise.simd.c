#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

INLINE void add_as(const struct add_arguments *a, int64_t begin, int64_t end, const enum dtype type) {
    for (int64_t i = begin; i < end; i += VL) {
        int64_t n = end - i;
        store_part(a->y, i, load_part(a->y, i, n, type) + load_part(a->x, i, n, type), n, type);
    }
}

void SIMD_NAME(kernel_add)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct add_arguments *a = arguments;
    if (a->type == DTYPE_F32)
        add_as(a, begin, end, DTYPE_F32);
    else
        add_as(a, begin, end, DTYPE_BF16);
}

void SIMD_NAME(kernel_scale)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct scale_arguments *a = arguments;
    for (int64_t i = begin; i < end; i++) a->x[i] *= a->factor;
}

INLINE void cast_as(const struct cast_arguments *a, int64_t begin, int64_t end, const enum dtype to,
                    const enum dtype from) {
    for (int64_t i = begin; i < end; i += VL)
        store_part(a->y, i, load_part(a->x, i, end - i, from), end - i, to);
}

void SIMD_NAME(kernel_cast)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct cast_arguments *a = arguments;
    if (a->to == a->from)
        memcpy(at_mut(a->y, begin, a->to), at(a->x, begin, a->to),
               (size_t)(end - begin) * dtype_bytes(a->to));
    else if (a->to == DTYPE_F32)
        cast_as(a, begin, end, DTYPE_F32, DTYPE_BF16);
    else
        cast_as(a, begin, end, DTYPE_BF16, DTYPE_F32);
}

void SIMD_NAME(kernel_normalise)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct normalise_arguments *a = arguments;
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
    float y[3 * VL];
    for (int64_t i = 3 * begin; i < 3 * end; i += 3 * VL) { /* whole pixels, so that the channel is j % 3 */
        int64_t n = 3 * end - i < 3 * VL ? 3 * end - i : 3 * VL;
        for (int64_t j = 0; j < n; j++) y[j] = ((float)a->x[i + j] / 255.0f - mean[j % 3]) / deviation[j % 3];
        for (int64_t j = n; j < 3 * VL; j++) y[j] = 0;
        for (int64_t j = 0; j < n; j += VL) store_part(a->y, i + j, v_load(y + j), n - j, a->type);
    }
}

INLINE void gelu_as(const struct gelu_arguments *a, int64_t begin, int64_t end, const enum dtype type) {
    int64_t i = begin;
    for (; i + 2 * VL <= end; i += 2 * VL) { /* two chains of dependent steps at a time */
        vf x = load_as(a->pre, i, type), x2 = load_as(a->pre, i + VL, type);
        store_as(a->h, i, v_gelu(x), type);
        store_as(a->h, i + VL, v_gelu(x2), type);
    }
    for (; i < end; i += VL) store_part(a->h, i, v_gelu(load_part(a->pre, i, end - i, type)), end - i, type);
}

void SIMD_NAME(kernel_gelu)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct gelu_arguments *a = arguments;
    if (a->type == DTYPE_F32)
        gelu_as(a, begin, end, DTYPE_F32);
    else
        gelu_as(a, begin, end, DTYPE_BF16);
}

INLINE void gelu_grad_as(const struct gelu_grad_arguments *a, int64_t begin, int64_t end, float *sums,
                         const enum dtype type) {
    for (int64_t row = begin; row < end; row += 4) {
        int64_t n_rows = end - row < 4 ? end - row : 4;
        for (int64_t c = 0; c < a->n; c += VL) {
            int64_t n = a->n - c;
            vf sum = load_part(sums, c, n, DTYPE_F32);
            for (int64_t r = 0; r < n_rows; r++) {
                int64_t i = (row + r) * a->n + c;
                vf h, slope = v_gelu_grad(load_part(a->pre, i, n, type), &h);
                vf d = load_part(a->dh, i, n, type) * slope;
                store_part(a->h, i, h, n, type);
                store_part(a->dh, i, d, n, type);
                sum += d;
            }
            store_part(sums, c, sum, n, DTYPE_F32);
        }
    }
}

void SIMD_NAME(kernel_gelu_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct gelu_grad_arguments *a = arguments;
    bool goes_on = part_goes_on(&part);
    float *sums = a->partial + part * a->n;
    if (!goes_on) memset(sums, 0, (size_t)a->n * sizeof *sums);
    if (a->type == DTYPE_F32)
        gelu_grad_as(a, begin, end, sums, DTYPE_F32);
    else
        gelu_grad_as(a, begin, end, sums, DTYPE_BF16);
}

INLINE void residual_as(const struct residual_arguments *a, int64_t begin, int64_t end,
                        const enum dtype type) {
    for (int64_t row = begin; row < end; row++) {
        float s = a->row_scale ? a->row_scale[(row + a->first_row) / a->rows_per_image] : 1.0f;
        for (int64_t c = 0; c < a->n; c += VL) {
            int64_t n = a->n - c, i = row * a->n + c;
            vf z = load_part(a->z, i, n, DTYPE_F32) * s;
            if (a->column_scale) z *= load_part(a->column_scale, c, n, DTYPE_F32);
            store_part(a->y, i, load_part(a->residual, i, n, type) + z, n, type);
        }
    }
}

void SIMD_NAME(kernel_residual)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct residual_arguments *a = arguments;
    if (a->type == DTYPE_F32)
        residual_as(a, begin, end, DTYPE_F32);
    else
        residual_as(a, begin, end, DTYPE_BF16);
}

INLINE void scale_rows_as(const struct scale_rows_arguments *a, int64_t begin, int64_t end, float *sums,
                          const enum dtype type) {
    for (int64_t row = begin; row < end; row += 8) {
        int64_t n_rows = end - row < 8 ? end - row : 8;
        for (int64_t c = 0; c < a->n; c += VL) {
            int64_t n = a->n - c;
            vf sum = v_zero();
            vf gamma = a->column_scale ? load_part(a->column_scale, c, n, DTYPE_F32) : v_set(1);
            for (int64_t r = 0; r < n_rows; r++) {
                int64_t i = (row + r) * a->n + c;
                vf g = load_part(a->dy, i, n, type);
                if (a->row_scale) g *= a->row_scale[(row + r + a->first_row) / a->rows_per_image];
                if (a->g) store_part(a->g, i, g, n, type);
                if (a->scaled) store_part(a->scaled, i, g * gamma, n, type);
                sum += g;
            }
            if (sums) store_part(sums, c, load_part(sums, c, n, DTYPE_F32) + sum, n, DTYPE_F32);
        }
    }
}

void SIMD_NAME(kernel_scale_rows)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct scale_rows_arguments *a = arguments;
    bool goes_on = part_goes_on(&part);
    float *sums = a->partial ? a->partial + part * a->n : NULL;
    if (sums && !goes_on) memset(sums, 0, (size_t)a->n * sizeof *sums);
    if (a->type == DTYPE_F32)
        scale_rows_as(a, begin, end, sums, DTYPE_F32);
    else
        scale_rows_as(a, begin, end, sums, DTYPE_BF16);
}

void SIMD_NAME(kernel_layer_scale_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct layer_scale_grad_arguments *a = arguments;
    for (int64_t c = begin; c < end; c++) {
        vf dot = v_zero();
        for (int64_t j = 0; j < a->hidden; j += VL) {
            int64_t n = a->hidden - j, i = c * a->hidden + j;
            vf m = load_part(a->m, i, n, DTYPE_F32);
            dot += m * load_part(a->w2, i, n, a->type);
            if (a->dw2)
                store_part(a->dw2, i, load_part(a->dw2, i, n, DTYPE_F32) + m * a->gamma[c], n, DTYPE_F32);
        }
        if (a->dgamma) a->dgamma[c] += v_sum(dot) + (a->b2 ? a->b2[c] * a->sum_g[c] : 0);
    }
}
