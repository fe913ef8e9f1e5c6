// Matrix products of the CPU's table, our own and oneDNN's, against plain sums in double precision: all
// shapes of tiles and edges, both factors turned or not, sums over more than one block, everything that may
// follow the product; one thread and three give the same bits, and pokes change nothing. LIMIT 60
#include "models/ops/bf16.h"
#include "models/ops/cpu/gemm.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct shape {
    int64_t m, n, k;
};

static const struct shape shapes[] = {
    {8, 64, 800},                     /* few rows */
    {15, 33, 5000},                   /* several blocks of k, odd edges */
    {65, 96, 2049},                   /* an odd k */
    {300, 64, 96},                    /* rows read where they lie */
    {301, 95, 130},  {211, 60, 1024}, /* rows that share sets of the cache: packed */
    {1000, 30, 256}, {64, 65, 512},   /* dot products, edges of a column and of rows */
    {77, 13, 700},   {98, 65, 2047},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static uint32_t noise_state;

static float noise(void) { /* in [-1, 1), exact in bf16 */
    noise_state = noise_state * 1664525u + 1013904223u;
    return (float)((int32_t)(noise_state >> 24) - 128) / 128.0f;
}

/* n elements of a type with guard bytes behind them. */
static void *elements(int64_t n, enum dtype type, bool fill) {
    char *p = malloc((size_t)n * dtype_bytes(type) + 64);
    assert_non_null(p);
    memset(p + (size_t)n * dtype_bytes(type), 0x5a, 64);
    for (int64_t i = 0; i < n; i++) {
        const float x = fill ? noise() : 0;
        if (type == DTYPE_F32)
            ((float *)(void *)p)[i] = x;
        else
            ((uint16_t *)(void *)p)[i] = bf16_from_f32(x);
    }
    return p;
}

static void check_guard(const void *p, int64_t n, enum dtype type) {
    for (int i = 0; i < 64; i++)
        assert_int_equal(((const unsigned char *)p)[(size_t)n * dtype_bytes(type) + (size_t)i], 0x5a);
}

static double value(const void *p, int64_t i, enum dtype type) {
    return type == DTYPE_F32 ? (double)((const float *)p)[i] : (double)bf16_to_f32(((const uint16_t *)p)[i]);
}

static double activated(double x, enum matmul_activation activation) {
    if (activation == MATMUL_GELU) return x * 0.5 * (1 + erf(x * M_SQRT1_2));
    if (activation == MATMUL_RELU6) return x < 0 ? 0 : x > 6 ? 6 : x;
    return x;
}

static double wanted(const struct matmul *a, const void *before, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t k = 0; k < a->k; k++)
        sum += value(a->a, a->transpose_a ? k * a->lda + i : i * a->lda + k, a->type) *
               value(a->b, a->transpose_b ? j * a->ldb + k : k * a->ldb + j, a->type);
    sum = activated((double)a->alpha * sum + (a->bias ? (double)a->bias[j] : 0), a->activation);
    if (a->column_scale) sum *= (double)a->column_scale[j];
    const int64_t at = i * a->ldc + j;
    return sum + (a->residual ? value(a->residual, at, a->c_type) : 0) +
           (double)a->beta * value(before, at, a->c_type);
}

static void compare(const struct matmul *a, const void *before, const char *who) {
    const double allowed = a->c_type == DTYPE_BF16 ? 5e-3 : 2e-6 * sqrt((double)a->k);
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < a->n; j += 1 + (i + j) % 3) {
            const double want = wanted(a, before, i, j), got = value(a->c, i * a->ldc + j, a->c_type);
            if (!(fabs(got - want) <= allowed * (1 + fabs(want))))
                fail_msg("%s, %s to %s, %lld x %lld x %lld, A %d, B %d: C[%lld,%lld] is %g, not %g", who,
                         a->type ? "bf16" : "fp32", a->c_type ? "bf16" : "fp32", (long long)a->m,
                         (long long)a->n, (long long)a->k, a->transpose_a, a->transpose_b, (long long)i,
                         (long long)j, got, want);
        }
}

static int64_t n_pokes;

static void count(void *context) {
    (void)context;
    n_pokes++;
}

/* Threads, own products, pokes. */
static void run(const struct matmul *a, int32_t n_threads, bool own, bool poked) {
    struct backend *be;
    assert_ok(cpu_backend_open(n_threads, &be));
    be->own_products = own;
    if (poked) ops_cpu.set_poke(be, count, NULL);
    assert_ok(cpu_matmul(be, a));
    cpu_backend_close(be);
}

static void check(struct matmul *a) {
    const int64_t n_c = a->m * a->ldc;
    void *before = elements(n_c, a->c_type, true), *own = elements(n_c, a->c_type, false),
         *again = elements(n_c, a->c_type, false);
    const size_t n_bytes = (size_t)n_c * dtype_bytes(a->c_type);
    a->c = own;
    memcpy(own, before, n_bytes);
    run(a, 1, true, false);
    compare(a, before, "own");
    check_guard(own, n_c, a->c_type);
    a->c = again;
    if (gemm_serves(a) || dot_serves(a)) {
        memcpy(again, before, n_bytes);
        run(a, 3, true, true);
        assert_memory_equal(own, again, n_bytes);
    }
    memcpy(again, before, n_bytes);
    run(a, 2, false, false);
    compare(a, before, "oneDNN");
    free(before);
    free(own);
    free(again);
}

/* What follows the product, by number. */
static void choose(struct matmul *a, int what, const float *row, const void *residual) {
    a->alpha = what == 1 ? 0.5f : 1.0f;
    a->beta = what == 2 || what == 6 ? 1.0f : 0.0f;
    a->bias = what == 3 || what >= 5 ? row : NULL;
    a->activation = what == 4 ? MATMUL_RELU6 : what == 5 ? MATMUL_GELU : MATMUL_NONE;
    a->column_scale = what >= 6 ? row : NULL;
    a->residual = what == 7 ? residual : NULL;
}

enum { N_FOLLOWS = 8 };

static void check_shape(const struct shape *s, enum dtype type, enum dtype c_type) {
    void *a = elements(s->m * s->k, type, true), *b = elements(s->n * s->k, type, true),
         *residual = elements(s->m * s->n, c_type, true);
    float *row = elements(s->n, DTYPE_F32, true);
    for (int turned = 0; turned < 4; turned++) {
        for (int what = turned; what < N_FOLLOWS; what += 4) {
            struct matmul m = {.type = type,
                               .c_type = c_type,
                               .transpose_a = turned & 1,
                               .transpose_b = turned & 2,
                               .m = s->m,
                               .n = s->n,
                               .k = s->k,
                               .ldc = s->n,
                               .a = a,
                               .b = b};
            m.lda = m.transpose_a ? s->m : s->k;
            m.ldb = m.transpose_b ? s->k : s->n;
            choose(&m, what, row, residual);
            check(&m);
            choose(&m, 0, row, residual);
            check(&m);
        }
    }
    free(a);
    free(b);
    free(residual);
    free(row);
}

static void products(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        check_shape(&shapes[i], DTYPE_F32, DTYPE_F32);
        if (!cpu_has_bf16()) continue;
        check_shape(&shapes[i], DTYPE_BF16, DTYPE_F32);
        check_shape(&shapes[i], DTYPE_BF16, DTYPE_BF16);
    }
    assert_true(n_pokes > 0 || !gemm_serves(&(struct matmul){.m = 100, .n = 64, .k = 100}));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
