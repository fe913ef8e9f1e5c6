/* The passes of the bicubic resizing: exact sums of 22-bit weights times bytes, rounded and clipped to bytes.
 */
#include "data_shards/resize_kernels.h"

#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { HALF = 1 << (RESIZE_BITS - 1) };

/* ---- across ---------------------------------------------------------------------------------------- */

#ifdef __AVX2__
/* A pixel is stored with a byte too many, which the next one in the row overwrites; the last one without. */
static inline void put_pixel(uint8_t *to, int32_t pixel, size_t n_bytes) {
    memcpy(to, &pixel, n_bytes);
}

static inline __m128i load_16(const uint8_t *from) {
    return _mm_loadu_si128((const __m128i *)(const void *)from);
}

/* One output pixel of two rows, one in each half of the register; a 32-bit lane sums one channel. A weight is
 * high * 2^12 + low with both in 16 bits, for the instruction that multiplies and adds pairs of those: two
 * taps a lane. Loads reach up to 4 bytes past the fourth tap. */
static inline void two_rows(const uint8_t *a, const uint8_t *b, const int32_t *pair, int32_t n_taps,
                            uint8_t *to_a, uint8_t *to_b, size_t n_bytes) {
    const __m256i taps01 =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i taps23 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    __m256i high = _mm256_setzero_si256(), low = _mm256_set1_epi32(HALF);
    for (int32_t t = 0; t < n_taps; t += 4, a += 12, b += 12, pair += 4) {
        const __m256i pixels = _mm256_inserti128_si256(_mm256_castsi128_si256(load_16(a)), load_16(b), 1);
        const __m256i p01 = _mm256_shuffle_epi8(pixels, taps01), p23 = _mm256_shuffle_epi8(pixels, taps23);
        high = _mm256_add_epi32(high, _mm256_madd_epi16(p01, _mm256_set1_epi32(pair[0])));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(p01, _mm256_set1_epi32(pair[1])));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(p23, _mm256_set1_epi32(pair[2])));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(p23, _mm256_set1_epi32(pair[3])));
    }
    const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, RESIZE_SPLIT_BITS), low);
    const __m256i v = _mm256_srai_epi32(sum, RESIZE_BITS),
                  bytes = _mm256_packus_epi16(_mm256_packs_epi32(v, v), v);
    put_pixel(to_a, _mm256_cvtsi256_si32(bytes), n_bytes);
    put_pixel(to_b, _mm_cvtsi128_si32(_mm256_extracti128_si256(bytes, 1)), n_bytes);
}

static void across_two_rows(const struct resize_axis *axis, const uint8_t *a, const uint8_t *b, uint8_t *to_a,
                            uint8_t *to_b) {
    const size_t n_taps = (size_t)axis->n_taps, last = 3 * ((size_t)axis->n_out - 1);
    const int32_t *pair = axis->pair, *first = axis->first;
    if (n_taps == 4)
        for (size_t i = 0; i < last; i += 3, pair += 4, first++)
            two_rows(a + 3 * *first, b + 3 * *first, pair, 4, to_a + i, to_b + i, 4);
    else if (n_taps == 8)
        for (size_t i = 0; i < last; i += 3, pair += 8, first++)
            two_rows(a + 3 * *first, b + 3 * *first, pair, 8, to_a + i, to_b + i, 4);
    else
        for (size_t i = 0; i < last; i += 3, pair += n_taps, first++)
            two_rows(a + 3 * (size_t)*first, b + 3 * (size_t)*first, pair, axis->n_taps, to_a + i, to_b + i,
                     4);
    two_rows(a + 3 * (size_t)*first, b + 3 * (size_t)*first, pair, axis->n_taps, to_a + last, to_b + last, 3);
}

static void across_by_pairs(const struct resize_axis *axis, const uint8_t *in, int32_t height, uint8_t *out) {
    const size_t in_bytes = 3 * (size_t)axis->n_in, out_bytes = 3 * (size_t)axis->n_out;
    for (int32_t y = 0; y < height; y += 2) {
        const size_t a = (size_t)y, b = (size_t)(y + 1 < height ? y + 1 : y);
        across_two_rows(axis, in + a * in_bytes, in + b * in_bytes, out + a * out_bytes, out + b * out_bytes);
    }
}
#endif

#ifdef __AVX512BF16__
#define VNNI __attribute__((target("avx512vnni")))

/* One output pixel of four rows, one in each quarter of the register. A weight is three signed digits to the
 * base 256, for the instruction that multiplies bytes by those and adds four products to a lane: four taps.
 */
VNNI static inline void four_rows(const uint8_t *const in[4], size_t at, const int32_t *digit, int32_t n_taps,
                                  uint8_t *const out[4], size_t to, size_t n_bytes) {
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    __m512i low = _mm512_set1_epi32(HALF), middle = _mm512_setzero_si512(), high = middle;
    for (int32_t t = 0; t < n_taps; t += 4, at += 12, digit += 3) {
        __m512i pixels = _mm512_castsi128_si512(load_16(in[0] + at));
        pixels = _mm512_inserti32x4(pixels, load_16(in[1] + at), 1);
        pixels = _mm512_inserti32x4(pixels, load_16(in[2] + at), 2);
        pixels = _mm512_inserti32x4(pixels, load_16(in[3] + at), 3);
        pixels = _mm512_shuffle_epi8(pixels, by_channel);
        low = _mm512_dpbusd_epi32(low, pixels, _mm512_set1_epi32(digit[0]));
        middle = _mm512_dpbusd_epi32(middle, pixels, _mm512_set1_epi32(digit[1]));
        high = _mm512_dpbusd_epi32(high, pixels, _mm512_set1_epi32(digit[2]));
    }
    const __m512i sum =
        _mm512_add_epi32(_mm512_add_epi32(low, _mm512_slli_epi32(middle, 8)), _mm512_slli_epi32(high, 16));
    const __m512i v = _mm512_max_epi32(_mm512_srai_epi32(sum, RESIZE_BITS), _mm512_setzero_si512());
    const __m128i bytes = _mm512_cvtusepi32_epi8(v);
    put_pixel(out[0] + to, _mm_cvtsi128_si32(bytes), n_bytes);
    put_pixel(out[1] + to, _mm_extract_epi32(bytes, 1), n_bytes);
    put_pixel(out[2] + to, _mm_extract_epi32(bytes, 2), n_bytes);
    put_pixel(out[3] + to, _mm_extract_epi32(bytes, 3), n_bytes);
}

VNNI static void across_four_rows(const struct resize_axis *axis, const uint8_t *const in[4],
                                  uint8_t *const out[4]) {
    const size_t n_taps = (size_t)axis->n_taps, last = 3 * ((size_t)axis->n_out - 1);
    const int32_t *digit = axis->digit, *first = axis->first;
    if (n_taps == 4)
        for (size_t i = 0; i < last; i += 3, digit += 3, first++)
            four_rows(in, 3 * (size_t)*first, digit, 4, out, i, 4);
    else if (n_taps == 8)
        for (size_t i = 0; i < last; i += 3, digit += 6, first++)
            four_rows(in, 3 * (size_t)*first, digit, 8, out, i, 4);
    else
        for (size_t i = 0; i < last; i += 3, digit += n_taps / 4 * 3, first++)
            four_rows(in, 3 * (size_t)*first, digit, axis->n_taps, out, i, 4);
    four_rows(in, 3 * (size_t)*first, digit, axis->n_taps, out, last, 3);
}

static void across_by_digits(const struct resize_axis *axis, const uint8_t *in, int32_t height,
                             uint8_t *out) {
    const size_t in_bytes = 3 * (size_t)axis->n_in, out_bytes = 3 * (size_t)axis->n_out;
    for (int32_t y = 0; y < height; y += 4) {
        const uint8_t *from[4];
        uint8_t *to[4];
        for (int32_t j = 0; j < 4; j++) { /* the last row again where there are no four */
            const size_t row = (size_t)(y + j < height ? y + j : height - 1);
            from[j] = in + row * in_bytes;
            to[j] = out + row * out_bytes;
        }
        across_four_rows(axis, from, to);
    }
}

void SIMD_NAME(resize_across)(const struct resize_axis *axis, const uint8_t *in, int32_t height,
                              uint8_t *out) {
    if (__builtin_cpu_supports("avx512vnni")) /* no processor is known to have bf16 and not this */
        across_by_digits(axis, in, height, out);
    else
        across_by_pairs(axis, in, height, out);
}
#elif defined(__AVX2__)
void SIMD_NAME(resize_across)(const struct resize_axis *axis, const uint8_t *in, int32_t height,
                              uint8_t *out) {
    across_by_pairs(axis, in, height, out);
}
#else
static inline uint8_t clip(int32_t sum) {
    const int32_t v = sum >> RESIZE_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

void SIMD_NAME(resize_across)(const struct resize_axis *axis, const uint8_t *in, int32_t height,
                              uint8_t *out) {
    for (int32_t y = 0; y < height; y++, in += 3 * (size_t)axis->n_in)
        for (int32_t i = 0; i < axis->n_out; i++, out += 3) {
            const uint8_t *p = in + 3 * (size_t)axis->first[i];
            const int32_t *w = axis->weight + (size_t)i * (size_t)axis->n_taps;
            int32_t r = HALF, g = HALF, b = HALF;
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

/* ---- down ------------------------------------------------------------------------------------------ */

/* down_block() makes BLOCK bytes of one output row from n_taps rows. */
#if defined(__AVX512BW__)
enum { BLOCK = 64 };

static inline void down_block(const int32_t *weight, int32_t n_taps, const uint8_t *in, size_t row_bytes,
                              uint8_t *out) {
    __m512i sum[4];
    for (int j = 0; j < 4; j++) sum[j] = _mm512_set1_epi32(HALF);
    for (int32_t t = 0; t < n_taps; t++, in += row_bytes) {
        const __m512i w = _mm512_set1_epi32(weight[t]);
        for (int j = 0; j < 4; j++)
            sum[j] =
                _mm512_add_epi32(sum[j], _mm512_mullo_epi32(w, _mm512_cvtepu8_epi32(load_16(in + 16 * j))));
    }
    for (int j = 0; j < 4; j++) {
        const __m512i v = _mm512_max_epi32(_mm512_srai_epi32(sum[j], RESIZE_BITS), _mm512_setzero_si512());
        _mm_storeu_si128((__m128i *)(void *)(out + 16 * j), _mm512_cvtusepi32_epi8(v));
    }
}
#elif defined(__AVX2__)
enum { BLOCK = 32 };

static inline void down_block(const int32_t *weight, int32_t n_taps, const uint8_t *in, size_t row_bytes,
                              uint8_t *out) {
    __m256i sum[4];
    for (int j = 0; j < 4; j++) sum[j] = _mm256_set1_epi32(HALF);
    for (int32_t t = 0; t < n_taps; t++, in += row_bytes) {
        const __m256i w = _mm256_set1_epi32(weight[t]);
        for (int j = 0; j < 4; j++) {
            const __m256i x =
                _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(in + 8 * j)));
            sum[j] = _mm256_add_epi32(sum[j], _mm256_mullo_epi32(w, x));
        }
    }
    for (int j = 0; j < 4; j++) sum[j] = _mm256_srai_epi32(sum[j], RESIZE_BITS);
    /* Packing works on halves of registers: four bytes of each sum in turn. */
    const __m256i bytes =
        _mm256_packus_epi16(_mm256_packs_epi32(sum[0], sum[1]), _mm256_packs_epi32(sum[2], sum[3]));
    const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)out, ordered);
}
#else
enum { BLOCK = 64 };

static inline void down_block(const int32_t *weight, int32_t n_taps, const uint8_t *in, size_t row_bytes,
                              uint8_t *out) {
    int32_t sum[BLOCK];
    for (int j = 0; j < BLOCK; j++) sum[j] = HALF;
    for (int32_t t = 0; t < n_taps; t++, in += row_bytes)
        for (int j = 0; j < BLOCK; j++) sum[j] += weight[t] * in[j];
    for (int j = 0; j < BLOCK; j++) out[j] = clip(sum[j]);
}
#endif

_Static_assert((int)BLOCK <= (int)IMAGE_SLACK_BYTES, "the last block of a row reaches past the image");

void SIMD_NAME(resize_down)(const struct resize_axis *axis, const uint8_t *in, size_t row_bytes,
                            uint8_t *out) {
    for (int32_t i = 0; i < axis->n_out; i++, out += row_bytes) {
        const int32_t first = axis->first[i], n_left = axis->n_in - first;
        const int32_t n_taps = axis->n_taps < n_left ? axis->n_taps : n_left;
        const int32_t *weight = axis->weight + (size_t)i * (size_t)axis->n_taps;
        /* A block may run over into the next row, which is written later, or the slack. */
        for (size_t x = 0; x < row_bytes; x += BLOCK)
            down_block(weight, n_taps, in + (size_t)first * row_bytes + x, row_bytes, out + x);
    }
}
