/* Products with few columns as dot products (gemm.h): rows of A times rows of B, both read where they lie. A
 * tile of 5 x 5 dot products keeps the processor's multipliers busy whatever the number of columns, where
 * panels of 32 columns would be filled with zeros: 65 classes take 13 tiles. A dot product is summed in the
 * same order in every tile. */
#include "models/ops/cpu/gemm.h"
#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

typedef int nothing_for_other_sets;

#if defined(__AVX512F__)

#define TILE DOT_TILE

INLINE vf multiply_add(vf sum, vu x, vu y, const enum dtype type) {
#if defined(__AVX512BF16__)
    if (type == DTYPE_BF16) return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)y);
#endif
    (void)type;
    return sum + (vf)x * (vf)y;
}

/* Loaded once: left to itself, the compiler makes it an operand of every product, and loads are what is
 * short. */
INLINE vu load_once(const char *p) {
    vu w;
    memcpy(&w, p, sizeof w);
    __asm__("" : "+v"(w));
    return w;
}

/* The last elements [i, k) of both, less than a vector. */
INLINE vf multiply_add_rest(vf sum, const void *a, const void *b, int64_t i, int64_t k,
                            const enum dtype type) {
#if defined(__AVX512BF16__)
    if (type == DTYPE_BF16) {
        const __mmask32 mask = (__mmask32)((UINT64_C(1) << (k - i)) - 1);
        return (vf)_mm512_dpbf16_ps((__m512)sum,
                                    (__m512bh)_mm512_maskz_loadu_epi16(mask, (const uint16_t *)a + i),
                                    (__m512bh)_mm512_maskz_loadu_epi16(mask, (const uint16_t *)b + i));
    }
#endif
    (void)type;
    return sum + v_load_n((const float *)a + i, k - i) * v_load_n((const float *)b + i, k - i);
}

/* The four sums of the elements of a, b, c, d. */
INLINE __m128 sums_of(vf a, vf b, vf c, vf d) {
    const __m512 ab =
        _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b), _mm512_unpackhi_ps((__m512)a, (__m512)b));
    const __m512 cd =
        _mm512_add_ps(_mm512_unpacklo_ps((__m512)c, (__m512)d), _mm512_unpackhi_ps((__m512)c, (__m512)d));
    const __m512 abcd = _mm512_add_ps((__m512)_mm512_unpacklo_pd((__m512d)ab, (__m512d)cd),
                                      (__m512)_mm512_unpackhi_pd((__m512d)ab, (__m512d)cd));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* C (rows, columns) of a tile. `packed`: the vectors of the tile's columns, one after another for each step
 * (NULL: they are read where they lie). */
INLINE void tile(const int rows, const int columns, const struct matmul *m, int64_t row, int64_t column,
                 const char *packed, const enum dtype type) {
    const int64_t step = type == DTYPE_F32 ? 16 : 32, full = m->k / step;
    const char *a = at(m->a, row * m->lda, type), *b = at(m->b, column * m->ldb, type);
    const int64_t lda = m->lda * 64 / step, ldb = m->ldb * 64 / step;
    vf s[TILE][TILE];
    for (int r = 0; r < TILE; r++)
        for (int c = 0; c < TILE; c++) s[r][c] = v_zero();
    const int64_t next = packed ? columns * 64 : 64, apart = packed ? 64 : ldb;
    const char *y_at = packed ? packed : b;
    for (int64_t i = 0; i < full; i++, y_at += next) {
        vu y[TILE];
#pragma GCC unroll 5
        for (int c = 0; c < columns; c++) y[c] = load_once(y_at + c * apart);
#pragma GCC unroll 5
        for (int r = 0; r < rows; r++) {
            const vu x = load_once(a + r * lda + i * 64);
#pragma GCC unroll 5
            for (int c = 0; c < columns; c++) s[r][c] = multiply_add(s[r][c], x, y[c], type);
        }
    }
    if (full * step < m->k)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                s[r][c] = multiply_add_rest(s[r][c], a + r * lda, b + c * ldb, full * step, m->k, type);
#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
        float *out = (float *)m->c + (row + r) * m->ldc + column, t[8];
        _mm_storeu_ps(t, sums_of(s[r][0], s[r][1], s[r][2], s[r][3]));
        if (columns == TILE) _mm_storeu_ps(t + 4, sums_of(s[r][4], v_zero(), v_zero(), v_zero()));
        for (int c = 0; c < columns; c++) out[c] = t[c] * m->alpha + (m->beta != 0 ? m->beta * out[c] : 0);
    }
}

static void tile_f32(const struct matmul *m, int64_t row, int64_t column, const char *packed) {
    tile(TILE, TILE, m, row, column, packed, DTYPE_F32);
}
static void edge_f32(const struct matmul *m, int64_t row, int64_t column, const char *packed) {
    (void)packed;
    tile(TILE, 1, m, row, column, NULL, DTYPE_F32);
}
static void corner_f32(const struct matmul *m, int64_t row, int64_t column, const char *packed) {
    (void)packed;
    tile(1, 1, m, row, column, NULL, DTYPE_F32);
}
#if defined(__AVX512BF16__)
static void tile_bf16(const struct matmul *m, int64_t row, int64_t column, const char *packed) {
    tile(TILE, TILE, m, row, column, packed, DTYPE_BF16);
}
static void edge_bf16(const struct matmul *m, int64_t row, int64_t column, const char *packed) {
    (void)packed;
    tile(TILE, 1, m, row, column, NULL, DTYPE_BF16);
}
static void corner_bf16(const struct matmul *m, int64_t row, int64_t column, const char *packed) {
    (void)packed;
    tile(1, 1, m, row, column, NULL, DTYPE_BF16);
}
#endif

typedef void tile_fn(const struct matmul *m, int64_t row, int64_t column, const char *packed);

/* Ask for a share of the rows after the next tile's. */
INLINE void fetch(const struct matmul *m, int64_t row, int64_t end, int64_t share, int64_t n_shares) {
    const int64_t n_bytes = m->k * (m->type == DTYPE_F32 ? 4 : 2);
    for (int64_t r = row; r < row + TILE && r < end; r++) {
        const char *p = at(m->a, r * m->lda, m->type);
        const int64_t stop = n_bytes * (share + 1) / n_shares;
        for (int64_t i = n_bytes * share / n_shares / 64 * 64; i < stop; i += 64)
            __builtin_prefetch(p + i, 0, 2);
    }
}

void SIMD_NAME(kernel_dot_pack)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct dot_arguments *d = arguments;
    const struct matmul *m = d->a;
    const int64_t n_bytes = m->type == DTYPE_F32 ? 4 : 2, steps = m->k * n_bytes / 64;
    for (int64_t row = begin; row < end; row++) {
        const char *from = (const char *)m->b + row * m->ldb * n_bytes;
        char *to = d->packed + row / TILE * TILE * steps * 64 + row % TILE * 64;
        for (int64_t i = 0; i < steps; i++, from += 64, to += TILE * 64) memcpy(to, from, 64);
    }
}

void SIMD_NAME(kernel_dot)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct dot_arguments *d = arguments;
    const struct matmul *m = d->a;
    tile_fn *full = tile_f32, *edge = edge_f32, *corner = corner_f32;
#if defined(__AVX512BF16__)
    if (m->type == DTYPE_BF16) full = tile_bf16, edge = edge_bf16, corner = corner_bf16;
#endif
    const int64_t n_tiles = m->n / TILE, full_bytes = m->k * (m->type == DTYPE_F32 ? 4 : 2) / 64 * 64;
    int64_t row = begin;
    for (; row + TILE <= end; row += TILE) {
        for (int64_t c = 0; c < n_tiles; c++) {
            fetch(m, row + TILE, end, c, n_tiles);
            full(m, row, c * TILE, d->packed + c * TILE * full_bytes);
        }
        for (int64_t c = n_tiles * TILE; c < m->n; c++) edge(m, row, c, NULL);
    }
    for (; row < end; row++)
        for (int64_t c = 0; c < m->n; c++) corner(m, row, c, NULL);
}

#endif
