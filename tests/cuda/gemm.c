// Matrix products through the backend's plans against loops: transposes, types, bias, beta, odd sizes and
// addresses; a shape is planned once; timing the algorithms changes nothing. And the stand-in for cuBLASLt:
// its epilogues against loops, and that it refuses what the library refuses. LIMIT 90
#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/gemm_plan.h"
#include "models/ops/cuda/plugin.h"
#include "tests/support/test.h"

#include "models/ops/bf16.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { M = 24, N = 40, K = 16, ROOM = 64 * 64, MAX_OWNED = 4096 };

static struct backend *be;
static void *owned[MAX_OWNED]; /* what on_device() has taken */
static int n_owned;

/* Exact in bf16. */
static double value_at(int64_t i) {
    return (double)((i * 7919 + 13) % 201 - 100) / 64;
}

/* n values on the device, `shift` elements behind an aligned address. */
static void *on_device(enum dtype dtype, int64_t n, int64_t shift, double factor) {
    float f32[ROOM];
    uint16_t bf16[ROOM];
    void *p;
    assert_true(n + shift <= ROOM && n_owned < MAX_OWNED);
    for (int64_t i = 0; i < n; i++) {
        f32[i] = (float)(factor * value_at(i));
        bf16[i] = bf16_from_f32(f32[i]);
    }
    assert_ok(cuda_alloc(be, ROOM * 4, &p)); /* until release_owned() */
    owned[n_owned++] = p;
    p = (char *)p + (size_t)shift * dtype_bytes(dtype);
    assert_ok(
        cuda_copy_in(be, p, dtype == DTYPE_F32 ? (void *)f32 : (void *)bf16, (size_t)n * dtype_bytes(dtype)));
    return p;
}

static void release_owned(void) {
    while (n_owned > 0) cuda_release(be, owned[--n_owned]);
}

static void to_host(enum dtype dtype, const void *p, int64_t n, float *out) {
    uint16_t bf16[ROOM];
    assert_ok(cuda_copy_out(be, dtype == DTYPE_F32 ? (void *)out : (void *)bf16, p,
                            (size_t)n * dtype_bytes(dtype)));
    for (int64_t i = 0; i < n && dtype == DTYPE_BF16; i++) out[i] = bf16_to_f32(bf16[i]);
}

struct shape {
    int64_t m, n, k, shift; /* shift: of B's address, elements */
    enum dtype dtype, d_dtype;
    bool ta, tb, bias;
    float beta;
};

static void check_product(const struct shape *s) {
    const struct gemm_call g = {.dtype = s->dtype,
                                .d_dtype = s->d_dtype,
                                .transpose_a = s->ta,
                                .transpose_b = s->tb,
                                .m = s->m,
                                .n = s->n,
                                .k = s->k,
                                .lda = s->ta ? s->m : s->k,
                                .ldb = s->tb ? s->k : s->n,
                                .ldd = s->n,
                                .alpha = 0.5f,
                                .beta = s->beta,
                                .a = on_device(s->dtype, s->m * s->k, 0, 1),
                                .b = on_device(s->dtype, s->n * s->k, s->shift, 1),
                                .d = on_device(s->d_dtype, s->m * s->n, 0, 2),
                                .bias = s->bias ? on_device(s->d_dtype, s->n, 0, 1) : NULL};
    float got[ROOM];
    assert_ok(gemm_planned(be, &g));
    to_host(s->d_dtype, g.d, s->m * s->n, got);
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = 0; j < s->n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < s->k; k++)
                sum += value_at(s->ta ? k * s->m + i : i * s->k + k) *
                       value_at(s->tb ? j * s->k + k : k * s->n + j);
            const double want =
                0.5 * sum + (double)s->beta * 2 * value_at(i * s->n + j) + (s->bias ? value_at(j) : 0);
            const double allowed = s->d_dtype == DTYPE_F32 ? 1e-4 : 0.06;
            if (fabs((double)got[i * s->n + j] - want) > allowed)
                fail_msg("%lldx%lldx%lld at (%lld,%lld): %g, not %g", (long long)s->m, (long long)s->n,
                         (long long)s->k, (long long)i, (long long)j, (double)got[i * s->n + j], want);
        }
    }
}

static void check_all_products(void) {
    for (int i = 0; i < 64; i++) {
        const bool bf16 = i & 4, wide = i & 8;
        struct shape s = {M,
                          N,
                          K,
                          0,
                          bf16 ? DTYPE_BF16 : DTYPE_F32,
                          bf16 && !wide ? DTYPE_BF16 : DTYPE_F32,
                          i & 1,
                          i & 2,
                          false,
                          i & 16 ? 1.0f : 0.0f};
        s.bias = (i & 32) && s.dtype == s.d_dtype;
        check_product(&s);
        s.m = 5, s.n = 7, s.k = 3, s.shift = 1; /* nothing is aligned; cuBLASLt may refuse the bias */
        check_product(&s);
    }
}

static void products_against_loops(void **state) {
    (void)state;
    check_all_products();
    const int64_t n_plans = gemm_plans_made(be);
    assert_true(n_plans > 32);
    check_all_products();
    assert_int_equal(gemm_plans_made(be), n_plans);
}

static void timed_algorithms(void **state) {
    (void)state;
    struct backend *untimed = be;
    release_owned();
    assert_ok(cuda_backend_open(0, true, &be));
    check_all_products();
    release_owned();
    cuda_backend_close(be);
    be = untimed;
}

/* ---- the stand-in itself ---- */

/* A column-major product of bf16 matrices: D (m,n) = A (m,k) B (k,n), with an epilogue. */
struct direct {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t layout[4];
    void *operand[4]; /* A B C D */
};

/* Freed behind the last test. */
static cublasLtMatmulDesc_t descs[16];
static cublasLtMatrixLayout_t layouts[64];
static int n_descs, n_layouts;

#define assert_lt(call) assert_int_equal((call), CUBLAS_STATUS_SUCCESS)
#define SET(desc, what, ...)                                                                                 \
    assert_lt(cublasLtMatmulDescSetAttribute((desc), CUBLASLT_MATMUL_DESC_##what, &(__VA_ARGS__),            \
                                             sizeof(__VA_ARGS__)))

static cublasLtMatrixLayout_t layout_of(cudaDataType_t type, uint64_t rows, uint64_t columns, int64_t ld) {
    assert_true(n_layouts < 64);
    assert_lt(cublasLtMatrixLayoutCreate(&layouts[n_layouts], type, rows, columns, ld));
    return layouts[n_layouts++];
}

static struct direct direct_product(cublasLtEpilogue_t epilogue, void *bias, void *aux, int64_t aux_ld) {
    const uint32_t value = epilogue;
    struct direct p;
    assert_true(n_descs < 16);
    assert_lt(cublasLtMatmulDescCreate(&descs[n_descs], CUBLAS_COMPUTE_32F, CUDA_R_32F));
    p.desc = descs[n_descs++];
    SET(p.desc, EPILOGUE, value);
    SET(p.desc, BIAS_POINTER, bias);
    SET(p.desc, EPILOGUE_AUX_POINTER, aux);
    SET(p.desc, EPILOGUE_AUX_LD, aux_ld);
    p.layout[0] = layout_of(CUDA_R_16BF, M, K, M);
    p.layout[1] = layout_of(CUDA_R_16BF, K, N, K);
    for (int i = 2; i < 4; i++) p.layout[i] = layout_of(CUDA_R_16BF, M, N, M);
    p.operand[0] = on_device(DTYPE_BF16, M * K, 0, 1);
    p.operand[1] = on_device(DTYPE_BF16, K * N, 0, 1);
    p.operand[2] = p.operand[3] = on_device(DTYPE_BF16, M * N, 0, 1);
    return p;
}

static cublasStatus_t ask(const struct direct *p, uint64_t workspace,
                          cublasLtMatmulHeuristicResult_t *found) {
    cublasLtMatmulPreference_t preference;
    int n = 0;
    assert_lt(cublasLtMatmulPreferenceCreate(&preference));
    assert_lt(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                   &workspace, sizeof workspace));
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        be->lt, p->desc, p->layout[0], p->layout[1], p->layout[2], p->layout[3], preference, 1, found, &n);
    cublasLtMatmulPreferenceDestroy(preference);
    return status == CUBLAS_STATUS_SUCCESS && n == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status;
}

static cublasStatus_t multiply(const struct direct *p, const cublasLtMatmulHeuristicResult_t *found,
                               size_t workspace) {
    const float one = 1.0f, zero = 0.0f;
    return cublasLtMatmul(be->lt, p->desc, &one, p->operand[0], p->layout[0], p->operand[1], p->layout[1],
                          &zero, p->operand[2], p->layout[2], p->operand[3], p->layout[3], &found->algo,
                          be->gemm_workspace, workspace, be->stream);
}

static double product_at(int64_t row, int64_t column) {
    double sum = 0;
    for (int64_t k = 0; k < K; k++) sum += value_at(k * M + row) * value_at(column * K + k);
    return sum;
}
static double gelu_tanh(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
static double gelu_slope(double x) {
    return (gelu_tanh(x + 1e-5) - gelu_tanh(x - 1e-5)) / 2e-5;
}

static void assert_near(double got, double want) {
    if (!(fabs(got - want) <= 8e-3 * fmax(1, fabs(want)))) fail_msg("%g, not %g", got, want);
}

/* z = product + bias is kept, D = gelu(z); then D = product * gelu'(z) with the sums of its rows. */
static void gelu_epilogues(void **state) {
    (void)state;
    cublasLtMatmulHeuristicResult_t found;
    float d[M * N], z[M * N], sums[M];
    void *bias = on_device(DTYPE_BF16, M, 0, 1), *aux = on_device(DTYPE_BF16, M * N, 0, 0);
    struct direct p = direct_product(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, bias, aux, M);
    assert_lt(ask(&p, GEMM_WORKSPACE, &found));
    assert_lt(multiply(&p, &found, GEMM_WORKSPACE));
    to_host(DTYPE_BF16, p.operand[3], M * N, d);
    to_host(DTYPE_BF16, aux, M * N, z);
    for (int64_t i = 0; i < M * N; i++) {
        assert_near((double)z[i], product_at(i % M, i / M) + value_at(i % M));
        assert_near((double)d[i], gelu_tanh((double)z[i]));
    }
    p = direct_product(CUBLASLT_EPILOGUE_DGELU_BGRAD, bias, aux, M);
    assert_lt(ask(&p, 0, &found));
    assert_lt(multiply(&p, &found, 0));
    to_host(DTYPE_BF16, p.operand[3], M * N, d);
    to_host(DTYPE_BF16, bias, M, sums);
    for (int64_t row = 0; row < M; row++) {
        double sum = 0;
        for (int64_t i = row; i < M * N; i += M) {
            assert_near((double)d[i], product_at(row, i / M) * gelu_slope((double)z[i]));
            sum += (double)d[i];
        }
        assert_near((double)sums[row], sum);
    }
}

static void bias_gradient_epilogues(void **state) {
    (void)state;
    for (int of_b = 0; of_b < 2; of_b++) {
        cublasLtMatmulHeuristicResult_t found;
        float sums[N];
        void *bias = on_device(DTYPE_BF16, N, 0, 1);
        struct direct p =
            direct_product(of_b ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_BGRADA, bias, NULL, 0);
        assert_lt(ask(&p, 0, &found));
        assert_lt(multiply(&p, &found, 0));
        to_host(DTYPE_BF16, bias, N, sums);
        for (int64_t i = 0; i < (of_b ? N : M); i++) {
            double sum = 0;
            for (int64_t k = 0; k < K; k++) sum += of_b ? value_at(i * K + k) : value_at(k * M + i);
            assert_near((double)sums[i], sum);
        }
    }
}

static void refused(const struct direct *p) {
    cublasLtMatmulHeuristicResult_t found;
    assert_int_not_equal(ask(p, 0, &found), CUBLAS_STATUS_SUCCESS);
}

static void the_stand_in_refuses(void **state) {
    (void)state;
    cublasLtMatmulHeuristicResult_t found;
    void *aux = on_device(DTYPE_BF16, M * N, 0, 1);
    struct direct p = direct_product(CUBLASLT_EPILOGUE_BIAS, NULL, NULL, 0);
    refused(&p); /* no bias */
    p = direct_product(CUBLASLT_EPILOGUE_DGELU, NULL, aux, M + 4);
    refused(&p); /* no multiple of 8 */
    p = direct_product(CUBLASLT_EPILOGUE_DGELU, NULL, aux, 0);
    refused(&p);
    p = direct_product(CUBLASLT_EPILOGUE_DEFAULT, NULL, NULL, 0);
    assert_lt(ask(&p, GEMM_WORKSPACE, &found));
    assert_true(found.workspaceSize > 0);
    assert_int_not_equal(multiply(&p, &found, found.workspaceSize - 1), CUBLAS_STATUS_SUCCESS);
    const struct direct right = p;
    p.operand[1] = (char *)p.operand[1] + 16; /* less aligned than asked for */
    assert_int_not_equal(multiply(&p, &found, GEMM_WORKSPACE), CUBLAS_STATUS_SUCCESS);
    p = right;
    const int32_t transposed = CUBLAS_OP_T;
    SET(p.desc, TRANSB, transposed); /* shapes no longer fit */
    assert_int_not_equal(multiply(&p, &found, GEMM_WORKSPACE), CUBLAS_STATUS_SUCCESS);
    p = direct_product(CUBLASLT_EPILOGUE_DEFAULT, NULL, NULL, 0);
    p.layout[1] = layout_of(CUDA_R_16BF, K, N, K + 8); /* others than asked for */
    assert_int_not_equal(multiply(&p, &found, GEMM_WORKSPACE), CUBLAS_STATUS_SUCCESS);
    p.layout[1] = layout_of(CUDA_R_16BF, K, N, K - 1);
    refused(&p); /* leading dimension */
    p.layout[1] = layout_of(CUDA_R_32F, K, N, K);
    refused(&p); /* types */
}

static int open_backend(void **state) {
    (void)state;
    return cuda_backend_open(0, false, &be) == STATUS_OK ? 0 : -1;
}
static int close_backend(void **state) {
    (void)state;
    for (int i = 0; i < n_descs; i++) cublasLtMatmulDescDestroy(descs[i]);
    for (int i = 0; i < n_layouts; i++) cublasLtMatrixLayoutDestroy(layouts[i]);
    release_owned();
    cuda_backend_close(be);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_against_loops),
                                       cmocka_unit_test(timed_algorithms), cmocka_unit_test(gelu_epilogues),
                                       cmocka_unit_test(bias_gradient_epilogues),
                                       cmocka_unit_test(the_stand_in_refuses)};
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
