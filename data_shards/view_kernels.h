/* Loops over pixels of augment.c and view.c, one version an instruction set; all give the same values. */
#ifndef DATA_SHARDS_VIEW_KERNELS_H
#define DATA_SHARDS_VIEW_KERNELS_H

#include "common/simd.h"

#include <stddef.h>
#include <stdint.h>

/* ImageNet's, RGB. */
static const float view_mean[3] = {0.485f, 0.456f, 0.406f}, view_std[3] = {0.229f, 0.224f, 0.225f};

/* out (n) from x (n, whole pixels), n a multiple of 3. */
SIMD_DECLARE(void, normalise_f32, (const uint8_t *x, size_t n, float *out));
SIMD_DECLARE(void, normalise_bf16, (const uint8_t *x, size_t n, uint16_t *out));

/* x (n) = trunc(g + factor * (x - g)) in float32, g one number for all. */
SIMD_DECLARE(void, blend_constant, (uint8_t * x, size_t n, int32_t g, float factor));

/* The same, g the luma of each pixel; n_pixels pixels. */
SIMD_DECLARE(void, blend_luma, (uint8_t * rgb, size_t n_pixels, float factor));

/* The sum of the lumas of n_pixels pixels. */
SIMD_DECLARE(uint64_t, luma_sum, (const uint8_t *rgb, size_t n_pixels));

/* out (n) = trunc(g + factor * (x - g)) for the inner pixels of a row x (n bytes), g being the 3x3 smoothing
 * over the rows above, x and below; the first and the last pixel are copied. n >= 9. */
SIMD_DECLARE(void, sharpen_row,
             (const uint8_t *above, const uint8_t *x, const uint8_t *below, size_t n, float factor,
              uint8_t *out));

/* x (n) = x where x < threshold (0 .. 256), else 255 - x. */
SIMD_DECLARE(void, solarize, (uint8_t * x, size_t n, int32_t threshold));

#endif
