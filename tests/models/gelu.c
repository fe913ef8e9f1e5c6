// GELU and its slope on the CPU against erf in double precision, over all of where they bend: within the
// errors that elementwise.simd.c states, and the rounding of the type. A perceptron of one channel is GELU
// itself.
#include "models/ops/bf16.h"
#include "models/ops/cpu/backend.h"
#include "models/ops/ops.h"
#include "tests/support/test.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { N = 40001 };
static const double furthest = 10; /* x in [-furthest, furthest] */

static void put(void *p, int i, enum dtype type, float x) {
    if (type == DTYPE_F32)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = bf16_from_f32(x);
}

static double get(const void *p, int i, enum dtype type) {
    return type == DTYPE_F32 ? (double)((const float *)p)[i] : (double)bf16_to_f32(((const uint16_t *)p)[i]);
}

/* normal, slope: errors of the normal distribution and of gelu'; rounding: of the type, relative. */
static void check(enum dtype type, double normal, double slope, double rounding) {
    struct backend *be;
    assert_ok(cpu_backend_open(1, &be));
    void *x = calloc(N, 4), *y = calloc(N, 4), *pre = calloc(N, 4), *ones = calloc(N, 4), *dx = calloc(N, 4);
    const float zero = 0;
    assert_true(x && y && pre && ones && dx);
    for (int i = 0; i < N; i++) {
        put(x, i, type, (float)(furthest * (2.0 * i / (N - 1) - 1)));
        put(ones, i, type, 1);
    }
    struct mlp a = {.dtype = type,
                    .rows = N,
                    .channels = 1,
                    .hidden = 1,
                    .rows_per_image = N,
                    .x = x,
                    .w1 = ones,
                    .w2 = ones,
                    .b1 = &zero,
                    .b2 = &zero,
                    .residual = calloc(N, 4),
                    .pre = pre};
    void *scratch = calloc(1, ops_cpu.mlp_scratch(be, &a, true) + 64);
    assert_true(a.residual && scratch);
    assert_ok(ops_cpu.mlp_forward(be, &a, y, scratch));
    assert_ok(ops_cpu.mlp_backward(be, &a, &(struct mlp_grad){.dy = ones, .dx = dx}, scratch));
    for (int i = 0; i < N; i++) {
        const double at = get(x, i, type), phi = 0.5 * erfc(-at * M_SQRT1_2), gelu = at * phi,
                     grad = phi + at * exp(-0.5 * at * at) / sqrt(2 * M_PI);
        const double e = fabs(get(y, i, type) - gelu), e_grad = fabs(get(dx, i, type) - grad);
        if (!(e <= normal * fabs(at) + rounding * fabs(gelu))) fail_msg("gelu(%.9g) is off by %.2g", at, e);
        if (!(e_grad <= slope + rounding * fabs(grad))) fail_msg("gelu'(%.9g) is off by %.2g", at, e_grad);
    }
    cpu_backend_close(be);
    free((void *)(uintptr_t)a.residual);
    free(scratch);
    free(x);
    free(y);
    free(pre);
    free(ones);
    free(dx);
}

static void test_fp32(void **state) {
    (void)state;
    check(DTYPE_F32, 2e-7, 7e-7, FLT_EPSILON);
}

static void test_bf16(void **state) {
    (void)state;
    check(DTYPE_BF16, 3e-6, 2e-5, 1.0 / 256);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fp32), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
