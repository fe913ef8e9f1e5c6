// The GPU's kernels over maps, run on the CPU, against the plain loops: real numbers of channels, which other
// tests are too small for, maps tall enough to be cut into chunks, and many images, all tiny otherwise. LIMIT
// 120
#include "tests/support/tables.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

static struct tables tables;
static struct rng rng;

#define DIMS(...)                                                                                            \
    sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]) {                                        \
        __VA_ARGS__                                                                                          \
    }

/* Normal values that bf16 keeps. */
static struct tensor *add_normal(struct op_case *c, const char *name, double mean, double deviation,
                                 int32_t n_dims, const int64_t *shape) {
    struct tensor *x = case_add(c, name, n_dims, shape);
    for (int64_t i = 0; i < x->n; i++) x->v[i] = round_to_bf16(mean + deviation * rng_normal(&rng));
    return x;
}

/* Run both tables and compare every output; releases the case. */
static void compare(struct op_case *c, enum dtype dtype) {
    struct tensor want[CASE_MAX_TENSORS];
    case_run(&tables.table[TABLE_REF], DTYPE_F32, c);
    const int32_t n = c->n_out;
    memcpy(want, c->out, sizeof want);
    c->n_out = 0; /* the tensors are ours now */
    case_run(&tables.table[TABLE_CUDA], dtype, c);
    assert_int_equal(c->n_out, n);
    for (int32_t i = 0; i < n; i++) {
        const double allowed = dtype == DTYPE_BF16 ? 1e-2 : 2e-5;
        const double error = tensor_error(c->out[i].v, want[i].v, want[i].n, case_setting(c, "floor", 0.0));
        if (!(error <= allowed))
            fail_msg("%s, %s: %s: %s: error %.3g, allowed %.3g", dtype == DTYPE_F32 ? "fp32" : "bf16",
                     c->operation, c->name, want[i].name, error, allowed);
        tensor_free(&want[i]);
    }
    case_free(c);
}

static void layernorm(int64_t rows, int64_t channels, enum dtype dtype) {
    char name[64];
    snprintf(name, sizeof name, "%d rows of %d", (int)rows, (int)channels);
    struct op_case *c = case_new("layernorm", name);
    add_normal(c, "x", 0.7, 1.0, DIMS(rows, channels));
    add_normal(c, "weight", 1.0, 0.3, DIMS(channels));
    add_normal(c, "bias", 0.0, 1.0, DIMS(channels));
    add_normal(c, "dy", 0.0, 1.0, DIMS(rows, channels));
    case_set(c, "eps", 1e-6);
    case_set(c, "start", 0.25);
    case_set(c, "accumulate", (double)(channels / 128 % 2));
    compare(c, dtype);
}

/* Every width of ConvNeXt and Swin, and merged patches'; more rows than blocks have at once. */
static void layernorm_widths(void **state) {
    (void)state;
    static const int64_t widths[] = {96,   128,  192,  256,  384,  512,  768,
                                     1024, 1536, 2048, 3072, 4096, 4104, 1001};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) layernorm(13, widths[i], (enum dtype)dtype);
    layernorm(2200, 24, DTYPE_BF16);
}

static void depthwise(int64_t n, int64_t h, int64_t w, int64_t channels, int64_t k, int64_t stride,
                      int64_t pad, bool relu6, enum dtype dtype) {
    char name[96];
    snprintf(name, sizeof name, "%d images of %dx%dx%d, k %d stride %d", (int)n, (int)h, (int)w,
             (int)channels, (int)k, (int)stride);
    struct op_case *c = case_new("conv2d", name);
    const int64_t ho = (h + 2 * pad - k) / stride + 1, wo = (w + 2 * pad - k) / stride + 1;
    add_normal(c, "x", 0.0, 1.0, DIMS(n, h, w, channels));
    add_normal(c, "weight", 0.0, 0.3, DIMS(channels, 1, k, k));
    add_normal(c, "bias", 0.0, 1.0, DIMS(channels));
    add_normal(c, "dy", 0.0, 1.0, DIMS(n, ho, wo, channels));
    case_set(c, "stride", (double)stride);
    case_set(c, "padding", (double)pad);
    case_set(c, "groups", (double)channels);
    case_set(c, "relu6", relu6);
    case_set(c, "start", 0.25);
    case_set(c, "accumulate", (double)(w % 2));
    compare(c, dtype);
}

/* ConvNeXt's 7x7; maps of 12 by 12 down to less than the kernel, odd sides, and rows cut into chunks. */
static void depthwise_7x7(void **state) {
    (void)state;
    static const int64_t widths[] = {96, 128, 192, 256, 512, 768, 1024, 2048};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        depthwise(1, 3, 5, widths[i], 7, 1, 3, false, DTYPE_BF16);
        depthwise(1, 2, 4, widths[i], 7, 1, 3, i % 2 == 1, DTYPE_F32);
    }
    depthwise(2, 12, 12, 64, 7, 1, 3, false, DTYPE_BF16);
    depthwise(1, 59, 6, 34, 7, 1, 3, false, DTYPE_BF16);
    depthwise(2, 73, 3, 4, 7, 1, 3, false, DTYPE_F32);
    depthwise(1, 9, 8, 6, 7, 1, 0, false, DTYPE_F32);
    depthwise(1, 9, 8, 6, 7, 1, 6, false, DTYPE_F32);
}

/* MobileNet-V2's 3x3 of both strides, and strides and paddings that have no kernel of their own. */
static void depthwise_3x3(void **state) {
    (void)state;
    static const int64_t widths[] = {16, 32, 96, 144, 192, 384, 576, 960};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int64_t stride = 1; stride <= 2; stride++) {
            depthwise(2, 5, 6, widths[i], 3, stride, 1, false, DTYPE_BF16);
            depthwise(1, 4, 7, widths[i], 3, stride, 1, i % 2 == 1, DTYPE_F32);
        }
    for (int64_t stride = 1; stride <= 4; stride++) depthwise(3, 35, 9, 10, 3, stride, 1, false, DTYPE_BF16);
    depthwise(1, 8, 8, 6, 3, 2, 0, false, DTYPE_F32);
    depthwise(1, 8, 8, 6, 3, 1, 4, false, DTYPE_F32);
    depthwise(40, 2, 2, 8, 3, 1, 1, false, DTYPE_BF16);
}

static void batchnorm(int64_t n, int64_t side, int64_t channels, bool masked, enum dtype dtype) {
    char name[64];
    snprintf(name, sizeof name, "%d images of %dx%dx%d", (int)n, (int)side, (int)side, (int)channels);
    struct op_case *c = case_new("batchnorm", name);
    add_normal(c, "x", 0.5, 1.5, DIMS(n, side, side, channels));
    add_normal(c, "weight", 1.0, 0.3, DIMS(channels));
    add_normal(c, "bias", 1.0, 1.0, DIMS(channels));
    add_normal(c, "dy", 0.0, 1.0, DIMS(n, side, side, channels));
    add_normal(c, "running_mean", 0.0, 1.0, DIMS(channels));
    struct tensor *var = add_normal(c, "running_var", 0.0, 1.0, DIMS(channels));
    for (int64_t i = 0; i < channels; i++) var->v[i] = 1.0 + var->v[i] * var->v[i];
    for (int64_t i = 0; i < channels; i++) var->v[i] = (double)(float)var->v[i];
    if (masked) {
        struct tensor *mask = case_add(c, "image_mask", DIMS(n));
        for (int64_t i = 0; i < n; i++) mask->v[i] = i % 3 != 1;
    } else
        add_normal(c, "residual", 0.0, 1.0, DIMS(n, side, side, channels));
    case_set(c, "train", 1.0);
    case_set(c, "floor", 1.0);
    compare(c, dtype);
}

/* The widths of MobileNet-V2; without ReLU6, whose corners another rounding may pass on the other side. */
static void batchnorm_widths(void **state) {
    (void)state;
    static const int64_t widths[] = {16, 24, 32, 64, 96, 144, 160, 192, 320, 384, 576, 960, 1280, 30};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        batchnorm(5, 3, widths[i], true, DTYPE_BF16);
        batchnorm(4, 3, widths[i], false, DTYPE_F32);
    }
    batchnorm(6, 31, 8, true, DTYPE_BF16); /* many values a thread */
}

static void pool_and_merge(void **state) {
    (void)state;
    static const int64_t widths[] = {192, 384, 768, 1280, 1536, 2048};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        struct op_case *c = case_new("global_average_pool", "wide");
        add_normal(c, "x", 0.0, 1.0, DIMS(2, 5, 3, widths[i]));
        add_normal(c, "dy", 0.0, 1.0, DIMS(2, widths[i]));
        compare(c, i % 2 ? DTYPE_F32 : DTYPE_BF16);
        c = case_new("patch_merge", "wide");
        add_normal(c, "x", 0.0, 1.0, DIMS(2, 3, 4, widths[i]));
        add_normal(c, "dy", 0.0, 1.0, DIMS(2, 2, 2, 4 * widths[i]));
        compare(c, i % 2 ? DTYPE_F32 : DTYPE_BF16);
    }
}

/* Draws equal those of common/rng.c, image by image. */
static void dropout_draws(void **state) {
    (void)state;
    for (int64_t d = 1; d <= 1537; d += 512) {
        struct op_case *c = case_new("dropout", "draws");
        add_normal(c, "x", 0.0, 1.0, DIMS(3, d));
        case_set(c, "rate", 0.3);
        compare(c, DTYPE_F32);
    }
}

int main(void) {
    tables_open(&tables);
    if (tables.n <= TABLE_CUDA) return 77;
    rng = rng_start((struct rng_key){.seed = 5, .purpose = RNG_TEST});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layernorm_widths), cmocka_unit_test(depthwise_7x7),  cmocka_unit_test(depthwise_3x3),
        cmocka_unit_test(batchnorm_widths), cmocka_unit_test(pool_and_merge), cmocka_unit_test(dropout_draws),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures == 0) tables_close(&tables);
    return failures;
}
