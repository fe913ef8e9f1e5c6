/* (x/255 - mean) / std, each of the three operations rounded to float32. */
#include "data_shards/view_kernels.h"

#include <math.h>
#include <string.h>

/* The correctly rounded quotient x / d for the x that occur here, given r = the rounded 1/d: one step of
 * correction (Markstein). The test of normalisation compares all 768 values with real divisions. */
static inline float divide(float x, float d, float r) {
#ifdef __FMA__
    const float q = x * r;
    return __builtin_fmaf(__builtin_fmaf(-q, d, x), r, q);
#else
    (void)r;
    return x / d;
#endif
}

/* Whole registers and whole pixels; too long for the compiler to unroll, which it does badly. */
enum { BLOCK = 192 };

struct constants {
    float mean[BLOCK], std[BLOCK], per_std[BLOCK];
};

static struct constants constants(void) {
    struct constants c;
    for (int j = 0; j < BLOCK; j++) {
        c.mean[j] = view_mean[j % 3];
        c.std[j] = view_std[j % 3];
        c.per_std[j] = 1.0f / c.std[j];
    }
    return c;
}

static inline void block(const struct constants *c, const uint8_t *x, float *out) {
    for (int j = 0; j < BLOCK; j++)
        out[j] = divide(divide((float)x[j], 255.0f, 1.0f / 255.0f) - c->mean[j], c->std[j], c->per_std[j]);
}

/* Nearest, ties to even; the values here are finite. */
static inline uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline void block_bf16(const struct constants *c, const uint8_t *x, uint16_t *out) {
    float wide[BLOCK];
    block(c, x, wide);
    for (int j = 0; j < BLOCK; j++) out[j] = to_bf16(wide[j]);
}

void SIMD_NAME(normalise_f32)(const uint8_t *x, size_t n, float *out) {
    const struct constants c = constants();
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) block(&c, x + i, out + i);
    uint8_t last[BLOCK] = {0};
    float wide[BLOCK];
    memcpy(last, x + i, n - i);
    block(&c, last, wide);
    memcpy(out + i, wide, (n - i) * sizeof *out);
}

void SIMD_NAME(normalise_bf16)(const uint8_t *x, size_t n, uint16_t *out) {
    const struct constants c = constants();
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) block_bf16(&c, x + i, out + i);
    uint8_t last[BLOCK] = {0};
    uint16_t narrow[BLOCK];
    memcpy(last, x + i, n - i);
    block_bf16(&c, last, narrow);
    memcpy(out + i, narrow, (n - i) * sizeof *out);
}
