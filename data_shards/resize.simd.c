/* The passes of the bicubic resizing: exact sums of 22-bit weights times bytes. */
#include "data_shards/resize_kernels.h"

#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

static inline uint8_t clip(int32_t sum) {
    const int32_t v = sum >> RESIZE_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

#ifdef __AVX2__
/* One output pixel of two rows, one in each half of the register; a 32-bit lane sums one channel. A weight is
 * high * 2^12 + low with both in 16 bits, for the instruction that multiplies and adds pairs of those: two taps
 * a lane. Loads reach up to 4 bytes past the fourth tap. */
static inline __m256i two_pixels(const uint8_t *a, const uint8_t *b, const int16_t *split, int32_t n_taps) {
    const __m256i taps01 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i taps23 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    __m256i high = _mm256_setzero_si256(), low = _mm256_set1_epi32(1 << (RESIZE_BITS - 1));
    for (int32_t t = 0; t < n_taps; t += 4, a += 12, b += 12, split += 8) {
        int32_t pair[4];
        memcpy(pair, split, sizeof pair);
        const __m256i pixels = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)a)),
            _mm_loadu_si128((const __m128i *)(const void *)b), 1);
        const __m256i p01 = _mm256_shuffle_epi8(pixels, taps01), p23 = _mm256_shuffle_epi8(pixels, taps23);
        high = _mm256_add_epi32(high, _mm256_madd_epi16(p01, _mm256_set1_epi32(pair[0])));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(p01, _mm256_set1_epi32(pair[1])));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(p23, _mm256_set1_epi32(pair[2])));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(p23, _mm256_set1_epi32(pair[3])));
    }
    const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, RESIZE_SPLIT_BITS), low);
    const __m256i v = _mm256_srai_epi32(sum, RESIZE_BITS);
    return _mm256_packus_epi16(_mm256_packs_epi32(v, v), v);
}

/* Rows a and b (the same one where the height is odd) in step. Each pixel is stored with one byte too many, which
 * the next one overwrites, and the last with 3. */
static void across_two_rows(const struct resize_axis *axis, const uint8_t *a, const uint8_t *b, uint8_t *to_a,
                            uint8_t *to_b) {
    const size_t n_taps = (size_t)axis->n_taps;
    for (int32_t i = 0; i < axis->n_out; i++) {
        const size_t at = 3 * (size_t)axis->first[i], n_bytes = i + 1 < axis->n_out ? 4 : 3;
        const __m256i v = two_pixels(a + at, b + at, axis->split + 2 * n_taps * (size_t)i, axis->n_taps);
        const int32_t pixel_a = _mm256_cvtsi256_si32(v);
        const int32_t pixel_b = _mm_cvtsi128_si32(_mm256_extracti128_si256(v, 1));
        if (n_bytes == 4) {
            memcpy(to_a + 3 * (size_t)i, &pixel_a, 4);
            memcpy(to_b + 3 * (size_t)i, &pixel_b, 4);
        } else {
            memcpy(to_a + 3 * (size_t)i, &pixel_a, 3);
            memcpy(to_b + 3 * (size_t)i, &pixel_b, 3);
        }
    }
}

void SIMD_NAME(resize_across)(const struct resize_axis *axis, const uint8_t *in, int32_t height, uint8_t *out) {
    const size_t in_bytes = 3 * (size_t)axis->n_in, out_bytes = 3 * (size_t)axis->n_out;
    for (int32_t y = 0; y < height; y += 2) {
        const size_t a = (size_t)y, b = (size_t)(y + 1 < height ? y + 1 : y);
        across_two_rows(axis, in + a * in_bytes, in + b * in_bytes, out + a * out_bytes, out + b * out_bytes);
    }
}
#else
void SIMD_NAME(resize_across)(const struct resize_axis *axis, const uint8_t *in, int32_t height, uint8_t *out) {
    for (int32_t y = 0; y < height; y++, in += 3 * (size_t)axis->n_in)
        for (int32_t i = 0; i < axis->n_out; i++, out += 3) {
            const uint8_t *p = in + 3 * (size_t)axis->first[i];
            const int32_t *w = axis->weight + (size_t)i * (size_t)axis->n_taps;
            int32_t r = 1 << (RESIZE_BITS - 1), g = r, b = r;
            for (int32_t t = 0; t < axis->n_taps; t++, p += 3) {
                r += w[t] * p[0];
                g += w[t] * p[1];
                b += w[t] * p[2];
            }
            out[0] = clip(r);
            out[1] = clip(g);
            out[2] = clip(b);
        }
}
#endif

enum { BLOCK = 64 }; /* bytes of a row at a time: their sums fill four of the widest registers */
_Static_assert((int)BLOCK <= (int)IMAGE_SLACK_BYTES, "the last block of a row reaches past the image");

/* out[0 .. BLOCK) of one output row. */
static inline void down_block(const int32_t *weight, int32_t n_taps, const uint8_t *in, size_t row_bytes,
                              uint8_t *out) {
    int32_t sum[BLOCK];
    for (int j = 0; j < BLOCK; j++) sum[j] = 1 << (RESIZE_BITS - 1);
    for (int32_t t = 0; t < n_taps; t++, in += row_bytes)
        for (int j = 0; j < BLOCK; j++) sum[j] += weight[t] * in[j];
    for (int j = 0; j < BLOCK; j++) out[j] = clip(sum[j]);
}

void SIMD_NAME(resize_down)(const struct resize_axis *axis, const uint8_t *in, size_t row_bytes, uint8_t *out) {
    for (int32_t i = 0; i < axis->n_out; i++, out += row_bytes) {
        const int32_t first = axis->first[i], n_left = axis->n_in - first;
        const int32_t n_taps = axis->n_taps < n_left ? axis->n_taps : n_left;
        const int32_t *weight = axis->weight + (size_t)i * (size_t)axis->n_taps;
        /* A block may run over into the next row, which is written later, or the slack. */
        for (size_t x = 0; x < row_bytes; x += BLOCK)
            down_block(weight, n_taps, in + (size_t)first * row_bytes + x, row_bytes, out + x);
    }
}
