/* Matrix products (gemm.h): packing, tiles, and what follows a tile. */
#include "models/ops/cpu/gemm.h"
#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

typedef int nothing_for_other_sets;

#if defined(__AVX512F__)

#define PACKED_TOGETHER GEMM_TOGETHER
#define AHEAD           8  /* steps of k that a tile's columns are fetched ahead */
#define FAR_AHEAD       48 /* ... where they are not packed yet */
#define FEW_PANELS      16 /* of rows: see packs_on_the_way() */

INLINE int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- packing: words of a panel side by side for each step of k ---- */

/* Words of elements [i, i + 16 words) of p, zeros from element n on. */
INLINE vu words_load(const void *p, int64_t i, int64_t n, const enum dtype type) {
    vu w;
    if (type == DTYPE_F32) {
        if (n - i >= 16) return (vu)load_as(p, i, type);
        return (vu)v_load_n((const float *)p + i, n - i);
    }
    if (n - i >= 32) {
        memcpy(&w, (const uint16_t *)p + i, sizeof w);
        return w;
    }
    return (vu)_mm512_maskz_loadu_epi16((__mmask32)((UINT64_C(1) << (n - i)) - 1), (const uint16_t *)p + i);
}

/* Rows become columns. */
INLINE void turn16(vu *r) {
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = (__m512i)r[i];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = (vu)_mm512_shuffle_i32x4(b[i], b[i + 8], 0x88);
        r[i + 4] = (vu)_mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88);
        r[i + 8] = (vu)_mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd);
        r[i + 12] = (vu)_mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xdd);
    }
}

/* Up to 16 rows with k elements side by side: word w of row r to out[w * stride + r]. */
INLINE void pack_turned(const void *x, int64_t ld, int64_t rows, int64_t k, uint32_t *out, int64_t stride,
                        const enum dtype type) {
    const int64_t step = type == DTYPE_F32 ? 16 : 32, each = step / 16;
    for (int64_t i = 0; i < k; i += step, out += 16 * stride) {
        vu r[16];
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++) r[j] = j < rows ? words_load(at(x, j * ld, type), i, k, type) : (vu){0};
        turn16(r);
        const int64_t words = least(16, (k - i + each - 1) / each);
        for (int j = 0; j < words; j++) w_store(out + j * stride, r[j]);
    }
}

/* Two neighbouring strips of columns and where their words go: word w of column c to out[.][w * stride + c],
 * 16 columns of each, whatever lies behind the last. */
struct strips {
    int64_t column, second, n; /* first column of both, of the second relative to it; columns there are */
    uint32_t *out[2];
    int64_t stride[2];
};

INLINE __mmask32 first_of(int64_t n) {
    return n >= 32 ? 0xffffffff : n <= 0 ? 0 : (__mmask32)((UINT64_C(1) << n) - 1);
}

/* Words of the columns [first, first + 16) of two rows. */
INLINE vu pairs_of(__m512i low, __m512i high, int64_t first) {
    const __m512i even =
        _mm512_cvtepu16_epi32(_mm256_set_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    const __m512i index = _mm512_add_epi32(
        _mm512_or_si512(even, _mm512_slli_epi32(_mm512_add_epi32(even, _mm512_set1_epi32(32)), 16)),
        _mm512_set1_epi32((int)(first * 0x10001)));
    return (vu)_mm512_permutex2var_epi16(low, index, high);
}

/* k rows of n_strips pairs of strips, row by row: each row of x is read in one piece. */
INLINE void pack_columns(const void *x, int64_t ld, int64_t k, const struct strips *strips, int n_strips,
                         const enum dtype type) {
    const int64_t each = type == DTYPE_F32 ? 1 : 2;
    for (int64_t i = 0, w = 0; i < k; i += each, w++) {
        for (int t = 0; t < n_strips; t++) {
            const struct strips *s = &strips[t];
            const char *p = at(x, i * ld + s->column, type);
            const __mmask32 mask = first_of(s->n);
            __builtin_prefetch(at(p, 8 * ld, type));
            if (type == DTYPE_F32) {
                __builtin_prefetch(at(p, 8 * ld + 16, type));
                w_store(s->out[0] + w * s->stride[0], (vu)_mm512_maskz_loadu_ps((__mmask16)mask, p));
                w_store(s->out[1] + w * s->stride[1],
                        (vu)_mm512_maskz_loadu_ps((__mmask16)first_of(s->n - s->second),
                                                  (const float *)p + s->second));
            } else {
                __builtin_prefetch(at(p, 9 * ld, type));
                const __m512i low = _mm512_maskz_loadu_epi16(mask, p);
                const __m512i high =
                    i + 1 < k ? _mm512_maskz_loadu_epi16(mask, at(p, ld, type)) : _mm512_setzero_si512();
                w_store(s->out[0] + w * s->stride[0], pairs_of(low, high, 0));
                w_store(s->out[1] + w * s->stride[1], pairs_of(low, high, s->second));
            }
        }
    }
}

/* ---- tiles ---- */

/* Where the sums of a tile go. */
struct tile_out {
    enum {
        TILE_SUMS,
        TILE_F32,
        TILE_BF16
    } kind;   /* fp32 sums (rows,32), or C itself: 32 full columns, a bias at most */
    bool add; /* to what is there; not to bf16 */
    void *c;
    int64_t ld; /* bytes */
    const float *bias;
    const uint32_t *columns; /* of a tile that packs: where its columns lie, columns_ld words a step apart */
    int64_t columns_ld;
};

INLINE void tile_store(const struct tile_out *o, int r, vf s0, vf s1) {
    char *c = (char *)o->c + r * o->ld;
    if (o->kind == TILE_BF16) {
#if defined(__AVX512BF16__)
        _mm512_storeu_si512(c, (__m512i)_mm512_cvtne2ps_pbh((__m512)s1, (__m512)s0));
#endif
        return;
    }
    if (o->add) s0 += v_load((const float *)c), s1 += v_load((const float *)c + VL);
    v_store((float *)c, s0);
    v_store((float *)c + VL, s1);
}

/* How a tile finds its factors. Words of A: of a step side by side and ld words behind those of the step
 * before it, or with TILE_APART of a row side by side and ld bytes behind the row before it. With TILE_PACKS
 * the columns of B are read where they lie and written to b on the way, which costs nothing beside the
 * products. */
enum tile_kind { TILE_PACKED, TILE_APART, TILE_PACKS };

/* The products of `words` steps. */
INLINE void tile(const int rows, const enum tile_kind kind, int64_t words, const uint32_t *a, int64_t ld,
                 uint32_t *b, const struct tile_out *o, const enum dtype type) {
    const bool apart = kind == TILE_APART;
    const uint32_t *columns = o->columns;
    const char *rows_at[4] = {(const char *)a, (const char *)a + 4 * ld, (const char *)a + 8 * ld,
                              (const char *)a + 12 * ld};
    vf s[GEMM_ROWS][2];
    const vf bias0 = o->bias ? v_load(o->bias) : v_zero(), bias1 = o->bias ? v_load(o->bias + VL) : v_zero();
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) s[r][0] = bias0, s[r][1] = bias1;
#pragma GCC unroll 2
    for (int64_t i = 0; i < words; i++) {
        vu b0, b1;
        if (kind == TILE_PACKS) {
            b0 = w_load(columns);
            b1 = w_load(columns + 16);
            /* To the second cache: rows of B a power of two apart would push each other out of the first. */
            __builtin_prefetch(columns + FAR_AHEAD * o->columns_ld, 0, 2);
            __builtin_prefetch(columns + FAR_AHEAD * o->columns_ld + 16, 0, 2);
            columns += o->columns_ld;
            w_store(b + i * GEMM_COLUMNS, b0);
            w_store(b + i * GEMM_COLUMNS + 16, b1);
        } else {
            b0 = w_load(b + i * GEMM_COLUMNS);
            b1 = w_load(b + i * GEMM_COLUMNS + 16);
            __builtin_prefetch(b + (i + AHEAD) * GEMM_COLUMNS);
            __builtin_prefetch(b + (i + AHEAD) * GEMM_COLUMNS + 16);
        }
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            uint32_t x;
            if (apart)
                memcpy(&x, rows_at[r / 4] + r % 4 * ld, sizeof x);
            else
                x = a[r];
            s[r][0] = v_multiply_add(s[r][0], x, b0, type);
            s[r][1] = v_multiply_add(s[r][1], x, b1, type);
        }
#pragma GCC unroll 4
        for (int r = 0; apart && r < 4; r++) rows_at[r] += sizeof(uint32_t);
        a += apart ? 0 : ld;
    }
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) tile_store(o, r, s[r][0], s[r][1]);
}

typedef void tile_fn(int64_t words, const uint32_t *a, int64_t ld, uint32_t *b, const struct tile_out *o);

#define TILE(NAME, TYPE, ROWS)                                                                               \
    static void tile_##NAME##_##ROWS(int64_t words, const uint32_t *a, int64_t ld, uint32_t *b,              \
                                     const struct tile_out *o) {                                             \
        tile(ROWS, TILE_PACKED, words, a, ld, b, o, TYPE);                                                   \
    }
#define TILE_OF(NAME, TYPE, KIND, ROWS)                                                                      \
    static void tile_##NAME##_##ROWS##_##KIND(int64_t words, const uint32_t *a, int64_t ld, uint32_t *b,     \
                                              const struct tile_out *o) {                                    \
        tile(ROWS, KIND, words, a, ld, b, o, TYPE);                                                          \
    }
#define TILES(NAME, TYPE)                                                                                    \
    TILE(NAME, TYPE, 1)                                                                                      \
    TILE(NAME, TYPE, 2)                                                                                      \
    TILE(NAME, TYPE, 3)                                                                                      \
    TILE(NAME, TYPE, 4)                                                                                      \
    TILE(NAME, TYPE, 5)                                                                                      \
    TILE(NAME, TYPE, 6)                                                                                      \
    TILE(NAME, TYPE, 7)                                                                                      \
    TILE(NAME, TYPE, 8)                                                                                      \
    TILE(NAME, TYPE, 9)                                                                                      \
    TILE(NAME, TYPE, 10)                                                                                     \
    TILE(NAME, TYPE, 11)                                                                                     \
    TILE(NAME, TYPE, 12)                                                                                     \
    TILE(NAME, TYPE, 13)                                                                                     \
    TILE(NAME, TYPE, 14)                                                                                     \
    TILE_OF(NAME, TYPE, TILE_APART, 13)                                                                      \
    TILE_OF(NAME, TYPE, TILE_APART, 14)                                                                      \
    static tile_fn *const tiles_##NAME[] = {NULL,                                                            \
                                            tile_##NAME##_1,                                                 \
                                            tile_##NAME##_2,                                                 \
                                            tile_##NAME##_3,                                                 \
                                            tile_##NAME##_4,                                                 \
                                            tile_##NAME##_5,                                                 \
                                            tile_##NAME##_6,                                                 \
                                            tile_##NAME##_7,                                                 \
                                            tile_##NAME##_8,                                                 \
                                            tile_##NAME##_9,                                                 \
                                            tile_##NAME##_10,                                                \
                                            tile_##NAME##_11,                                                \
                                            tile_##NAME##_12,                                                \
                                            tile_##NAME##_13,                                                \
                                            tile_##NAME##_14,                                                \
                                            tile_##NAME##_13_TILE_APART,                                     \
                                            tile_##NAME##_14_TILE_APART};
TILES(f32, DTYPE_F32)
TILE_OF(f32, DTYPE_F32, TILE_PACKS, 13)
TILE_OF(f32, DTYPE_F32, TILE_PACKS, 14)
#if defined(__AVX512BF16__)
TILES(bf16, DTYPE_BF16)
#endif

/* ---- what follows a tile (struct matmul's formula) ---- */

INLINE void finish_as(const struct matmul *a, float beta, const float *sums, int64_t row, int64_t rows,
                      int64_t column, const enum dtype type) {
    for (int v = 0; v < 2; v++, column += VL) {
        const int64_t n = a->n - column;
        if (n <= 0) return;
        const vf bias = a->bias ? load_part(a->bias, column, n, DTYPE_F32) : v_zero(),
                 scale = a->column_scale ? load_part(a->column_scale, column, n, DTYPE_F32) : v_set(1);
        for (int64_t r = 0; r < rows; r++) {
            const int64_t i = (row + r) * a->ldc + column;
            vf x = v_load(sums + r * GEMM_COLUMNS + v * VL) * a->alpha + bias;
            if (a->activation == MATMUL_GELU) x = v_gelu(x);
            if (a->activation == MATMUL_RELU6) x = v_min(v_max(x, v_zero()), v_set(6));
            x *= scale;
            if (a->residual) x += load_part(a->residual, i, n, type);
            if (beta != 0) x += load_part(a->c, i, n, type) * beta;
            store_part(a->c, i, x, n, type);
        }
    }
}

static void finish(const struct matmul *a, float beta, const float *sums, int64_t row, int64_t rows,
                   int64_t column) {
    if (a->c_type == DTYPE_F32)
        finish_as(a, beta, sums, row, rows, column, DTYPE_F32);
    else
        finish_as(a, beta, sums, row, rows, column, DTYPE_BF16);
}

/* What a tile will be written to, on its way to the cache while the tile is computed. */
INLINE void fetch(const struct matmul *a, int64_t row, int64_t rows, int64_t column) {
    const char *c = at(a->c, row * a->ldc + column, a->c_type);
    const int64_t ld = a->ldc * (a->c_type == DTYPE_F32 ? 4 : 2);
    for (int64_t r = 0; r < rows; r++, c += ld) {
        __builtin_prefetch(c, 1);
        if (a->c_type == DTYPE_F32) __builtin_prefetch(c + 64, 1);
    }
}

/* ---- a part ---- */

/* First row of row panel p. */
INLINE int64_t panel_row(const struct gemm_plan *g, int64_t p) {
    return g->a->m / g->row_panels * p + least(p, g->a->m % g->row_panels);
}

struct job {
    const struct gemm_plan *g;
    tile_fn *const *tiles;
    int64_t k0, k;       /* of the panels packed */
    int64_t first, last; /* row panels of the block */
    uint32_t *rows;      /* packed */
    bool pack;           /* the first row panel's tiles pack the columns */
    float *sums;
};

/* Words between the beginnings of two packed row panels. */
INLINE int64_t panel_step(int64_t words) {
    return words * GEMM_ROWS + 16;
}

/* May tiles of this column panel be written to C at once? */
INLINE bool is_direct(const struct gemm_plan *g, int64_t k0, int64_t k, int64_t panel) {
    const struct matmul *a = g->a;
    if (k > g->inner || (panel + 1) * GEMM_COLUMNS > a->n || a->alpha != 1) return false;
    if (a->residual || a->column_scale || a->activation != MATMUL_NONE) return false;
    return a->c_type == DTYPE_F32 ? k0 > 0 || a->beta == 0 || a->beta == 1 : a->beta == 0;
}

/* May the tiles of the first row panel pack this column panel? Worth it where few row panels share it:
 * elsewhere several are packed together, which reads longer pieces of B's rows. */
INLINE bool packs_on_the_way(const struct job *j, int64_t panel) {
    const struct matmul *a = j->g->a;
    return a->type == DTYPE_F32 && !a->transpose_b && !j->g->apart && (panel + 1) * GEMM_COLUMNS <= a->n &&
           j->last - j->first <= FEW_PANELS &&
           panel_row(j->g, j->first + 1) - panel_row(j->g, j->first) >= 13;
}

/* The tiles of one column panel with the block's rows. */
static void column(const struct job *j, uint32_t *b, int64_t panel) {
    const struct gemm_plan *g = j->g;
    const struct matmul *a = g->a;
    const int64_t each = a->type == DTYPE_F32 ? 1 : 2, words = (j->k + each - 1) / each,
                  c_bytes = a->c_type == DTYPE_F32 ? 4 : 2, n0 = panel * GEMM_COLUMNS;
    const float beta = j->k0 > 0 ? 1.0f : a->beta;
    const bool direct = is_direct(g, j->k0, j->k, panel);
    const int64_t ld = a->lda * (a->type == DTYPE_F32 ? 4 : 2);
    for (int64_t k = 0; k < j->k; k += g->inner) {
        const int64_t w0 = k / each, n_words = least((g->inner + each - 1) / each, words - w0);
        const bool done = k + g->inner >= j->k;
        for (int64_t p = j->first; p < j->last; p++) {
            const int64_t row = panel_row(g, p), n_rows = panel_row(g, p + 1) - row;
            float *sums = j->sums + (done && k == 0 ? 0 : (p - j->first) * GEMM_ROWS * GEMM_COLUMNS);
            struct tile_out o = {.kind = TILE_SUMS, .add = k > 0, .c = sums, .ld = GEMM_COLUMNS * 4};
            if (direct)
                o = (struct tile_out){.kind = a->c_type == DTYPE_F32 ? TILE_F32 : TILE_BF16,
                                      .add = beta != 0,
                                      .c = (char *)a->c + (row * a->ldc + n0) * c_bytes,
                                      .ld = a->ldc * c_bytes,
                                      .bias = a->bias ? a->bias + n0 : NULL};
            if (done) fetch(a, row, n_rows, n0);
            tile_fn *tile_of_rows = j->tiles[n_rows];
            if (p == j->first && j->pack) {
                tile_of_rows = n_rows == 13 ? tile_f32_13_TILE_PACKS : tile_f32_14_TILE_PACKS;
                o.columns = (const uint32_t *)a->b + (j->k0 + k) * a->ldb + n0;
                o.columns_ld = a->ldb;
            }
            if (g->apart)
                j->tiles[n_rows + 2](n_words, at(a->a, row * a->lda + j->k0 + k, a->type), ld,
                                     b + w0 * GEMM_COLUMNS, &o);
            else if (g->in_place)
                tile_of_rows(n_words, at(a->a, (j->k0 + k) * a->lda + row, a->type), a->lda,
                             b + w0 * GEMM_COLUMNS, &o);
            else
                tile_of_rows(n_words, j->rows + (p - j->first) * panel_step(words) + w0 * n_rows, n_rows,
                             b + w0 * GEMM_COLUMNS, &o);
            if (done && !direct) finish(a, beta, sums, row, n_rows, n0);
        }
    }
}

INLINE void pack_rows(const struct job *j, const enum dtype type) {
    const struct gemm_plan *g = j->g;
    const struct matmul *a = g->a;
    const int64_t words = type == DTYPE_F32 ? j->k : (j->k + 1) / 2, step = panel_step(words);
    struct strips strips[PACKED_TOGETHER];
    int n = 0;
    for (int64_t p = j->first; p < j->last; p++) {
        const int64_t row = panel_row(g, p), n_rows = panel_row(g, p + 1) - row;
        uint32_t *out = j->rows + (p - j->first) * step;
        if (!a->transpose_a) {
            pack_turned(at(a->a, row * a->lda + j->k0, type), a->lda, n_rows, j->k, out, n_rows, type);
            continue;
        }
        const bool two = p + 1 < j->last;
        strips[n++] = (struct strips){.column = row,
                                      .second = two ? n_rows : 0,
                                      .n = a->m - row,
                                      .out = {out, out + (two ? step : 0)},
                                      .stride = {n_rows, two ? panel_row(g, p + 2) - row - n_rows : n_rows}};
        p += two;
        if (n < PACKED_TOGETHER && p + 1 < j->last) continue;
        pack_columns(at(a->a, j->k0 * a->lda, type), a->lda, j->k, strips, n, type);
        n = 0;
    }
}

/* Column panels [first, last). */
INLINE void pack_column_panels(const struct job *j, int64_t first, int64_t last, uint32_t *out,
                               const enum dtype type) {
    const struct matmul *a = j->g->a;
    const int64_t panel_words = (int64_t)(j->g->b_bytes / 4);
    struct strips strips[PACKED_TOGETHER];
    for (int64_t p = first; p < last; p++, out += panel_words) {
        const int64_t column = p * GEMM_COLUMNS, n = least(GEMM_COLUMNS, a->n - column);
        strips[p - first] = (struct strips){.column = column,
                                            .second = 16,
                                            .n = n,
                                            .out = {out, out + 16},
                                            .stride = {GEMM_COLUMNS, GEMM_COLUMNS}};
        for (int64_t c = 0; c < n && a->transpose_b; c += 16)
            pack_turned(at(a->b, (column + c) * a->ldb + j->k0, type), a->ldb, n - c, j->k, out + c,
                        GEMM_COLUMNS, type);
    }
    if (!a->transpose_b)
        pack_columns(at(a->b, j->k0 * a->ldb, type), a->ldb, j->k, strips, (int)(last - first), type);
}

INLINE void run_part(const struct gemm_plan *g, int64_t part, tile_fn *const *tiles, const enum dtype type) {
    const struct matmul *a = g->a;
    const int64_t i = part / g->column_parts, i2 = part % g->column_parts;
    const int64_t r0 = g->row_panels * i / g->row_parts, r1 = g->row_panels * (i + 1) / g->row_parts;
    const int64_t c0 = g->column_panels * i2 / g->column_parts,
                  c1 = g->column_panels * (i2 + 1) / g->column_parts;
    char *buffer = g->buffer + (size_t)part * g->part_bytes;
    const int64_t panel_words = (int64_t)(g->b_bytes / 4);
    struct job j = {.g = g, .tiles = tiles, .rows = (uint32_t *)(void *)buffer};
    j.sums = (float *)(void *)(buffer + g->a_bytes);
    uint32_t *columns = (uint32_t *)(void *)(buffer + g->a_bytes + g->sums_bytes);
    for (j.k0 = 0; j.k0 < a->k; j.k0 += g->outer) {
        j.k = least(g->outer, a->k - j.k0);
        for (j.first = r0; j.first < r1; j.first = j.last) {
            j.last = least(j.first + g->block_panels, r1);
            if (!g->apart && !g->in_place) pack_rows(&j, type);
            for (int64_t c = c0; c < c1; c += PACKED_TOGETHER) {
                const int64_t end = least(c + PACKED_TOGETHER, c1);
                uint32_t *b = columns + (g->keep ? (c - c0) * panel_words : 0);
                const bool fresh = !g->keep || j.first == r0;
                j.pack = fresh && packs_on_the_way(&j, end - 1);
                if (fresh && !j.pack) pack_column_panels(&j, c, end, b, type);
                for (int64_t p = c; p < end; p++) {
                    column(&j, b + (p - c) * panel_words, p);
                    if (part == 0) poke_when_due(g->be);
                }
            }
        }
    }
}

void SIMD_NAME(kernel_gemm)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct gemm_plan *g = arguments;
    for (int64_t i = begin; i < end; i++) {
#if defined(__AVX512BF16__)
        if (g->a->type == DTYPE_BF16) {
            run_part(g, i, tiles_bf16, DTYPE_BF16);
            continue;
        }
#endif
        run_part(g, i, tiles_f32, DTYPE_F32);
    }
}

#endif
