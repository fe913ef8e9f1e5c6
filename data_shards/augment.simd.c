/* The operations of RandAugment that compute; see view_kernels.h. */
#include "data_shards/view_kernels.h"

/* As Pillow blends: float32, cut off. */
static inline uint8_t blend(int32_t g, int32_t x, float factor) {
    return (uint8_t)(int32_t)((float)g + factor * (float)(x - g));
}

static inline int32_t luma(const uint8_t *p) {
    return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16;
}

void SIMD_NAME(blend_constant)(uint8_t *x, size_t n, int32_t g, float factor) {
    for (size_t i = 0; i < n; i++) x[i] = blend(g, x[i], factor);
}

void SIMD_NAME(blend_luma)(uint8_t *rgb, size_t n_pixels, float factor) {
    for (size_t i = 0; i < n_pixels; i++) {
        uint8_t *p = rgb + 3 * i;
        const int32_t g = luma(p);
        p[0] = blend(g, p[0], factor);
        p[1] = blend(g, p[1], factor);
        p[2] = blend(g, p[2], factor);
    }
}

uint64_t SIMD_NAME(luma_sum)(const uint8_t *rgb, size_t n_pixels) {
    uint64_t total = 0;
    for (size_t begin = 0; begin < n_pixels; begin += 1 << 16) { /* sums of 32 bits inside */
        const size_t end = n_pixels - begin < 1 << 16 ? n_pixels : begin + (1 << 16);
        uint32_t sum = 0;
        for (size_t i = begin; i < end; i++) sum += (uint32_t)luma(rgb + 3 * i);
        total += sum;
    }
    return total;
}

/* Pillow sums in float32, adds 1/2 and cuts off. A sum s over 13 plus 1/2 is never within 1/26 of an integer,
 * so this is (2 s + 13) / 26 exactly. */
static inline int32_t smooth(const uint8_t *above, const uint8_t *x, const uint8_t *below) {
    const int32_t s =
        above[-3] + above[0] + above[3] + x[-3] + 5 * x[0] + x[3] + below[-3] + below[0] + below[3];
    return (uint16_t)(2 * s + 13) / 26;
}

void SIMD_NAME(sharpen_row)(const uint8_t *above, const uint8_t *x, const uint8_t *below, size_t n,
                            float factor, uint8_t *restrict out) {
    for (size_t i = 0; i < 3; i++) {
        out[i] = x[i];
        out[n - 3 + i] = x[n - 3 + i];
    }
    for (size_t i = 3; i < n - 3; i++) out[i] = blend(smooth(above + i, x + i, below + i), x[i], factor);
}

void SIMD_NAME(solarize)(uint8_t *x, size_t n, int32_t threshold) {
    for (size_t i = 0; i < n; i++) x[i] = (uint8_t)(x[i] < threshold ? x[i] : 255 - x[i]);
}
