/* Vectors of the instruction set this file is compiled for (*.simd.c only): GCC's vector extensions,
 * intrinsics where the compilers need help. VL floats a vector: 16 (AVX-512), 8 (AVX2), 4 (base, any
 * processor).
 *
 * Kernels are written once for fp32 and bf16: a function that is always inlined takes `const enum dtype
 * type`, and load_as() and store_as() become one instruction or two. All arithmetic is fp32. */
#ifndef MODELS_OPS_CPU_VEC_H
#define MODELS_OPS_CPU_VEC_H

#include "models/ops/ops.h"

#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VL 16
#elif defined(__AVX2__)
#define VL 8
#else
#define VL 4
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
typedef double vd __attribute__((vector_size(VL * 8)));

INLINE vf v_set(float x) {
    return x - (vf){0};
}
INLINE vf v_zero(void) {
    return (vf){0};
}

INLINE vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void v_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}

/* The first n < VL elements, 0 in the others. */
INLINE vf v_load_n(const float *p, int64_t n) {
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    float t[VL] = {0};
    for (int64_t i = 0; i < n; i++) t[i] = p[i];
    return v_load(t);
#endif
}

INLINE void v_store_n(float *p, vf v, int64_t n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    float t[VL];
    v_store(t, v);
    for (int64_t i = 0; i < n; i++) p[i] = t[i];
#endif
}

INLINE vf v_max(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    vi m = a > b;
    return (vf)(((vi)a & m) | ((vi)b & ~m));
#endif
}

INLINE vf v_min(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    vi m = a < b;
    return (vf)(((vi)a & m) | ((vi)b & ~m));
#endif
}

/* a where x > lo and x < hi, else 0. */
INLINE vf v_between(vf x, float lo, float hi, vf a) {
#if defined(__AVX512F__)
    __mmask16 m = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(lo), _CMP_GT_OQ);
    m = _mm512_mask_cmp_ps_mask(m, (__m512)x, _mm512_set1_ps(hi), _CMP_LT_OQ);
    return (vf)_mm512_maskz_mov_ps(m, (__m512)a);
#else
    return (vf)((vi)a & (x > v_set(lo)) & (x < v_set(hi)));
#endif
}

INLINE vf v_abs(vf x) {
    return (vf)((vi)x & 0x7fffffff);
}

INLINE float v_sum(vf v) { /* halves added to halves, whatever the set */
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#endif
    float t[VL];
    v_store(t, v);
    for (int h = VL / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++) t[i] += t[i + h];
    return t[0];
}

INLINE float v_highest(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#endif
    float t[VL];
    v_store(t, v);
    for (int h = VL / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++) t[i] = t[i] > t[i + h] ? t[i] : t[i + h];
    return t[0];
}

/* ---- bf16: round to nearest even, NaN stays NaN ---- */

INLINE vf v_from_bf16(vh h) {
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

INLINE vh v_to_bf16(vf v) {
#if defined(__AVX512BF16__)
    __m256bh r = _mm512_cvtneps_pbh((__m512)v);
    vh h;
    memcpy(&h, &r, sizeof h);
    return h;
#else
    vu u = (vu)v;
    vu rounded = u + 0x7fff + ((u >> 16) & 1);
    vu nan = (vu)(v != v);
    return __builtin_convertvector(((rounded & ~nan) | ((u | 0x400000) & nan)) >> 16, vh);
#endif
}

/* ---- elements of either type ---- */

INLINE const void *at(const void *p, int64_t i, const enum dtype type) {
    return (const char *)p + i * (type == DTYPE_F32 ? 4 : 2);
}

INLINE void *at_mut(void *p, int64_t i, const enum dtype type) {
    return (char *)p + i * (type == DTYPE_F32 ? 4 : 2);
}

INLINE vf load_as(const void *p, int64_t i, const enum dtype type) {
    if (type == DTYPE_F32) return v_load((const float *)p + i);
    vh h;
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return v_from_bf16(h);
}

INLINE void store_as(void *p, int64_t i, vf v, const enum dtype type) {
    if (type == DTYPE_F32) {
        v_store((float *)p + i, v);
        return;
    }
    vh h = v_to_bf16(v);
    memcpy((uint16_t *)p + i, &h, sizeof h);
}

/* The first n <= VL elements; full vectors take the short way. */
INLINE vf load_part(const void *p, int64_t i, int64_t n, const enum dtype type) {
    if (n >= VL) return load_as(p, i, type);
    if (type == DTYPE_F32) return v_load_n((const float *)p + i, n);
    vh h = {0};
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    __m256i part = _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), (const uint16_t *)p + i);
    memcpy(&h, &part, sizeof h);
#else
    for (int64_t j = 0; j < n; j++) h[j] = ((const uint16_t *)p)[i + j];
#endif
    return v_from_bf16(h);
}

INLINE void store_part(void *p, int64_t i, vf v, int64_t n, const enum dtype type) {
    if (n >= VL) {
        store_as(p, i, v, type);
        return;
    }
    if (type == DTYPE_F32) {
        v_store_n((float *)p + i, v, n);
        return;
    }
    vh h = v_to_bf16(v);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    __m256i part;
    memcpy(&part, &h, sizeof part);
    _mm256_mask_storeu_epi16((uint16_t *)p + i, (__mmask16)((1u << n) - 1), part);
#else
    for (int64_t j = 0; j < n; j++) ((uint16_t *)p)[i + j] = h[j];
#endif
}

/* ---- 32-bit words: numbers in fp32, pairs of neighbours in bf16 ---- */

INLINE vu w_load(const uint32_t *p) {
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void w_store(uint32_t *p, vu v) {
    memcpy(p, &v, sizeof v);
}

/* sum + a b of numbers or, where the processor multiplies bf16, of both numbers of the pairs. */
INLINE vf v_multiply_add(vf sum, uint32_t a, vu b, const enum dtype type) {
#if defined(__AVX512BF16__)
    if (type == DTYPE_BF16)
        return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
#endif
    (void)type;
    return sum + (vf)(a - (vu){0}) * (vf)b;
}

/* ---- functions ---- */

/* e^x, relative error 1e-7; x is limited to -87 .. 88. */
INLINE vf v_exp(vf x) {
    vf t = v_min(v_max(x, v_set(-87.0f)), v_set(88.0f)) * 1.442695041f;
    vf shifted = t + 12582912.0f; /* 1.5 * 2^23: the integer part in the low bits */
    vf f = t - (shifted - 12582912.0f);
    vf p = v_set(1.546973197e-04f);
    p = p * f + 1.340043217e-03f;
    p = p * f + 9.618025603e-03f;
    p = p * f + 5.550327214e-02f;
    p = p * f + 2.402265121e-01f;
    p = p * f + 6.931472067e-01f;
    p = p * f + 1.0f;
    vi scale = (vi)shifted << 23;
    return (vf)((vi)p + scale);
}

/* Phi(x) - 1/2 of the standard normal distribution: x * P(2 x^2/5.5^2 - 1) within +-5.5, absolute error 2e-7.
 */
INLINE vf v_normal_cdf_half(vf x) {
    vf c = v_min(v_max(x, v_set(-5.5f)), v_set(5.5f));
    vf s = c * c * (2.0f / (5.5f * 5.5f)) - 1.0f;
    vf p = v_set(6.562366470e-04f);
    p = p * s + -1.428040806e-03f;
    p = p * s + 6.399065030e-04f;
    p = p * s + -1.051773089e-03f;
    p = p * s + 4.723569624e-03f;
    p = p * s + -7.878193783e-03f;
    p = p * s + 1.016421201e-02f;
    p = p * s + -1.456035862e-02f;
    p = p * s + 2.038480692e-02f;
    p = p * s + -2.614160622e-02f;
    p = p * s + 3.206722320e-02f;
    p = p * s + -3.878402957e-02f;
    p = p * s + 4.773779589e-02f;
    p = p * s + -6.417257621e-02f;
    p = p * s + 1.285519294e-01f;
    return v_min(v_max(c * p, v_set(-0.5f)), v_set(0.5f));
}

INLINE vf v_gelu(vf x) {
    return x * (v_normal_cdf_half(x) + 0.5f);
}

/* gelu(x) and its derivative Phi(x) + x phi(x). */
INLINE vf v_gelu_grad(vf x, vf *gelu) {
    vf cdf = v_normal_cdf_half(x) + 0.5f;
    *gelu = x * cdf;
    return cdf + x * v_exp(x * x * -0.5f) * 0.3989422804f;
}

#endif
