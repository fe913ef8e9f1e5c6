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

/* ---- GELU: polynomials in 16 pieces of |x|, looked up in registers. Absolute errors of the normal
 * distribution and of the slope: 2e-7 and 7e-7 by quartics, 3e-6 and 2e-5 by cubics (bf16) ---- */

#if defined(__AVX512F__)

static const float normal_quartics[5][16] = {
    /* Phi(a) - 1/2 */
    {0.000000000e+00f, 1.386448294e-01f, 2.610479891e-01f, 3.564526141e-01f, 4.221022725e-01f,
     4.619844854e-01f, 4.833742380e-01f, 4.935018718e-01f, 4.977352023e-01f, 4.992973208e-01f,
     4.998061955e-01f, 4.999525547e-01f, 4.999896884e-01f, 4.999980032e-01f, 4.999996722e-01f,
     4.999999404e-01f},
    {1.415591240e-01f, 1.329222023e-01f, 1.100465357e-01f, 8.032925427e-02f, 5.169976875e-02f,
     2.933725156e-02f, 1.467791293e-02f, 6.474719383e-03f, 2.518178197e-03f, 8.634906844e-04f,
     2.610542288e-04f, 6.958272570e-05f, 1.635178160e-05f, 3.387789093e-06f, 6.187987651e-07f,
     9.964553982e-08f},
    {0.000000000e+00f, -8.368029259e-03f, -1.385581587e-02f, -1.517124381e-02f, -1.301895082e-02f,
     -9.234628640e-03f, -5.544345826e-03f, -2.853392623e-03f, -1.268326538e-03f, -4.892967991e-04f,
     -1.643719152e-04f, -4.819750393e-05f, -1.235722539e-05f, -2.773904498e-06f, -5.457349062e-07f,
     -9.417679081e-08f},
    {-2.953191055e-03f, -2.425823594e-03f, -1.145190676e-03f, 2.162348392e-04f, 1.090022153e-03f,
     1.315008965e-03f, 1.085923635e-03f, 7.034832379e-04f, 3.750358883e-04f, 1.683373703e-04f,
     6.444122118e-05f, 2.120857243e-05f, 6.033424143e-06f, 1.489275292e-06f, 3.198610443e-07f,
     5.990267482e-08f},
    {0.000000000e+00f, 2.504632575e-04f, 3.606039681e-04f, 2.959308040e-04f, 1.348411461e-04f,
     -1.332056218e-05f, -8.827354759e-05f, -9.448771016e-05f, -6.730047608e-05f, -3.709593875e-05f,
     -1.667180732e-05f, -6.263935120e-06f, -1.995648290e-06f, -5.439786719e-07f, -1.276374206e-07f,
     -2.589147563e-08f},
};
static const float slope_quartics[5][16] = {
    /* gelu'(a) - 1/2 */
    {0.000000000e+00f, 2.715677917e-01f, 4.811411798e-01f, 5.974388123e-01f, 6.288986802e-01f,
     6.086685061e-01f, 5.714408755e-01f, 5.388253927e-01f, 5.178816319e-01f, 5.070696473e-01f,
     5.024173260e-01f, 5.007182360e-01f, 5.001860261e-01f, 5.000420809e-01f, 5.000083447e-01f,
     5.000014305e-01f},
    {2.831138968e-01f, 2.491055131e-01f, 1.646701247e-01f, 6.963358074e-02f, -7.495189784e-04f,
     -3.367059305e-02f, -3.717643023e-02f, -2.699867822e-02f, -1.525738928e-02f, -7.080615964e-03f,
     -2.765401267e-03f, -9.211797151e-04f, -2.638579172e-04f, -6.533841952e-05f, -1.403996612e-05f,
     -2.625093884e-06f},
    {0.000000000e+00f, -3.241781518e-02f, -4.844421148e-02f, -4.349293560e-02f, -2.584878728e-02f,
     -7.870778441e-03f, 2.953516552e-03f, 6.190748420e-03f, 5.147408694e-03f, 3.033244284e-03f,
     1.412274898e-03f, 5.415829364e-04f, 1.746524649e-04f, 4.794047345e-05f, 1.128793883e-05f,
     2.292024419e-06f},
    {-1.177797280e-02f, -8.678681217e-03f, -1.698409789e-03f, 4.395905416e-03f, 6.497135386e-03f,
     4.984139465e-03f, 2.226005774e-03f, 1.732351084e-04f, -6.493027322e-04f, -6.600663764e-04f,
     -4.085364344e-04f, -1.907779078e-04f, -7.175291830e-05f, -2.238993147e-05f, -5.892361514e-06f,
     -1.321226819e-06f},
    {0.000000000e+00f, 1.445700764e-03f, 1.832982525e-03f, 1.081353868e-03f, -7.382814147e-06f,
     -6.424522144e-04f, -6.543198251e-04f, -3.539258614e-04f, -7.797907892e-05f, 4.904955495e-05f,
     6.515267160e-05f, 4.178672316e-05f, 1.924379649e-05f, 6.984368611e-06f, 2.076584678e-06f,
     5.162265779e-07f},
};
static const float normal_cubics[4][16] = {
    /* Phi(a) - 1/2 */
    {-3.059120957e-08f, 1.386428326e-01f, 2.610450685e-01f, 3.564502001e-01f, 4.221011400e-01f,
     4.619845450e-01f, 4.833748937e-01f, 4.935025871e-01f, 4.977357090e-01f, 4.992976189e-01f,
     4.998063445e-01f, 4.999525845e-01f, 4.999897182e-01f, 4.999980330e-01f, 4.999996722e-01f,
     4.999999404e-01f},
    {1.415619999e-01f, 1.329221725e-01f, 1.100465208e-01f, 8.032926172e-02f, 5.169978738e-02f,
     2.933727391e-02f, 1.467793155e-02f, 6.474731024e-03f, 2.518184483e-03f, 8.634934784e-04f,
     2.610553056e-04f, 6.958308222e-05f, 1.635188164e-05f, 3.387813422e-06f, 6.188039379e-07f,
     9.964650616e-08f},
    {-1.633477041e-05f, -8.305404335e-03f, -1.376565266e-02f, -1.509725116e-02f, -1.298523601e-02f,
     -9.237959050e-03f, -5.566417240e-03f, -2.877017716e-03f, -1.285153907e-03f, -4.985720734e-04f,
     -1.685404422e-04f, -4.976370110e-05f, -1.285620601e-05f, -2.909917839e-06f, -5.776486773e-07f,
     -1.006505528e-07f},
    {-2.931407653e-03f, -2.425821265e-03f, -1.145190443e-03f, 2.162333549e-04f, 1.090020291e-03f,
     1.315007685e-03f, 1.085923170e-03f, 7.034834125e-04f, 3.750362375e-04f, 1.683376613e-04f,
     6.444138853e-05f, 2.120864883e-05f, 6.033451882e-06f, 1.489283704e-06f, 3.198632328e-07f,
     5.990316509e-08f},
};
static const float slope_cubics[4][16] = {
    /* gelu'(a) - 1/2 */
    {-1.830922827e-07f, 2.715564072e-01f, 4.811267257e-01f, 5.974302888e-01f, 6.288987398e-01f,
     6.086735725e-01f, 5.714460611e-01f, 5.388281941e-01f, 5.178822875e-01f, 5.070692897e-01f,
     5.024168491e-01f, 5.007179379e-01f, 5.001858473e-01f, 5.000420213e-01f, 5.000083447e-01f,
     5.000014305e-01f},
    {2.831313312e-01f, 2.491054535e-01f, 1.646701396e-01f, 6.963364780e-02f, -7.494453457e-04f,
     -3.367055580e-02f, -3.717643023e-02f, -2.699870057e-02f, -1.525741257e-02f, -7.080632728e-03f,
     -2.765410347e-03f, -9.211836150e-04f, -2.638593141e-04f, -6.533884152e-05f, -1.404007344e-05f,
     -2.625117304e-06f},
    {-9.780465189e-05f, -3.205636144e-02f, -4.798592627e-02f, -4.322258011e-02f, -2.585064247e-02f,
     -8.031412959e-03f, 2.789920429e-03f, 6.102261599e-03f, 5.127915647e-03f, 3.045510734e-03f,
     1.428566407e-03f, 5.520315026e-04f, 1.794642012e-04f, 4.968684152e-05f, 1.180716481e-05f,
     2.421100589e-06f},
    {-1.164755039e-02f, -8.678674698e-03f, -1.698413165e-03f, 4.395896103e-03f, 6.497128401e-03f,
     4.984138533e-03f, 2.226008801e-03f, 1.732384262e-04f, -6.493011606e-04f, -6.600663182e-04f,
     -4.085369292e-04f, -1.907783590e-04f, -7.175317296e-05f, -2.239003697e-05f, -5.892396530e-06f,
     -1.321236482e-06f},
};

INLINE vf v_pieces(const float (*pieces)[16], const int degree, __m512i index, vf f) {
    vf p = (vf)_mm512_permutexvar_ps(index, (__m512)v_load(pieces[degree]));
#pragma GCC unroll 4
    for (int i = degree - 1; i >= 0; i--)
        p = p * f + (vf)_mm512_permutexvar_ps(index, (__m512)v_load(pieces[i]));
    return p;
}

/* Number of the piece of |x| (in the low bits) and the place in it, -1/2 to 1/2. */
INLINE __m512i v_piece(vf x, vf *f) {
    const vf t = v_min(v_abs(x), v_set(5.5f)) * (15.5f / 5.5f - 1e-6f), shifted = t + 12582912.0f;
    *f = t - (shifted - 12582912.0f);
    return (__m512i)shifted;
}

INLINE vf v_gelu_as(vf x, const enum dtype type) {
    vf f;
    const __m512i index = v_piece(x, &f);
    return x * 0.5f + v_abs(x) * (type == DTYPE_BF16 ? v_pieces(normal_cubics, 3, index, f)
                                                     : v_pieces(normal_quartics, 4, index, f));
}

INLINE vf v_gelu_grad_as(vf x, vf *gelu, const enum dtype type) {
    vf f;
    const __m512i index = v_piece(x, &f);
    *gelu = v_gelu_as(x, type);
    const vf slope =
        type == DTYPE_BF16 ? v_pieces(slope_cubics, 3, index, f) : v_pieces(slope_quartics, 4, index, f);
    return (vf)((vu)slope ^ ((vu)x & 0x80000000u)) + 0.5f;
}

#else

INLINE vf v_gelu_as(vf x, const enum dtype type) {
    (void)type;
    return v_gelu(x);
}

INLINE vf v_gelu_grad_as(vf x, vf *gelu, const enum dtype type) {
    (void)type;
    return v_gelu_grad(x, gelu);
}

#endif

INLINE void gelu_as(const struct gelu_arguments *a, int64_t begin, int64_t end, const enum dtype type) {
    int64_t i = begin;
    for (; i + 2 * VL <= end; i += 2 * VL) { /* two chains of dependent steps at a time */
        vf x = load_as(a->pre, i, type), x2 = load_as(a->pre, i + VL, type);
        store_as(a->h, i, v_gelu_as(x, type), type);
        store_as(a->h, i + VL, v_gelu_as(x2, type), type);
    }
    for (; i < end; i += VL)
        store_part(a->h, i, v_gelu_as(load_part(a->pre, i, end - i, type), type), end - i, type);
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
                const vf pre = load_part(a->pre, i, n, type);
                vf h, slope = v_gelu_grad_as(pre, &h, type);
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
