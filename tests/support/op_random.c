#include "tests/support/op_random.h"

#include "tests/support/test.h"

#include <math.h>
#include <string.h>

struct maker {
    struct rng rng;
    bool small;
    struct op_case *c;
};

static bool chance(struct maker *m, uint32_t one_in) {
    return rng_below(&m->rng, one_in) == 0;
}

/* One of the sizes, the small ones for finite differences. */
static int64_t channels(struct maker *m) {
    static const int64_t large[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 24, 31, 32, 33, 40, 64, 65, 96, 100};
    const uint32_t n = m->small ? 5 : sizeof large / sizeof *large;
    return large[rng_below(&m->rng, n)];
}

static int64_t between(struct maker *m, int64_t low, int64_t high) {
    return low + rng_below(&m->rng, (uint32_t)(high - low + 1));
}

/* Images of a batch; now and then none. */
static int64_t images(struct maker *m) {
    return !m->small && chance(m, 12) ? 0 : between(m, 1, m->small ? 2 : 4);
}

static struct tensor *normal(struct maker *m, const char *name, double mean, double deviation, int32_t n_dims,
                             const int64_t *shape) {
    struct tensor *x = case_add(m->c, name, n_dims, shape);
    for (int64_t i = 0; i < x->n; i++) x->v[i] = (double)(float)(mean + deviation * rng_normal(&m->rng));
    return x;
}
#define DIMS(...)                                                                                            \
    sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]) {                                        \
        __VA_ARGS__                                                                                          \
    }
#define NORMAL(m, name, ...) normal((m), (name), 0.0, 1.0, DIMS(__VA_ARGS__))

/* Bytes that are 0 or 1. */
static void mask(struct maker *m, const char *name, int64_t n) {
    struct tensor *x = case_add(m->c, name, DIMS(n));
    for (int64_t i = 0; i < n; i++) x->v[i] = chance(m, 3) ? 0.0 : 1.0;
}

/* What gradients start from, whether dx is added to, and which are wanted at all. */
static void gradient_settings(struct maker *m, bool can_accumulate) {
    if (m->small) return;
    case_set(m->c, "start", chance(m, 2) ? 0.25 : 0.0);
    if (can_accumulate) case_set(m->c, "accumulate", chance(m, 3));
    case_set(m->c, "frozen", (double)(chance(m, 4) ? between(m, 1, 2) : 0));
}

/* Residual and drop-path of `rows_per_image` rows an image. */
static void residual(struct maker *m, int64_t n_images, int64_t rows_per_image, int64_t n_columns,
                     bool always) {
    if (!always && chance(m, 2)) return;
    NORMAL(m, "residual", n_images * rows_per_image, n_columns);
    if (!m->small) case_set(m->c, "in_place", chance(m, 2));
    if (chance(m, 2)) return;
    struct tensor *scale = case_add(m->c, "row_scale", DIMS(n_images));
    for (int64_t i = 0; i < n_images; i++) scale->v[i] = chance(m, 3) ? 0.0 : 1.25;
    case_set(m->c, "rows_per_image", (double)rows_per_image);
}

static void make_linear(struct maker *m) {
    const int64_t n = images(m), per_image = between(m, 1, m->small ? 2 : 20), in = channels(m),
                  out = channels(m);
    NORMAL(m, "x", n * per_image, in);
    NORMAL(m, "weight", out, in);
    NORMAL(m, "dy", n * per_image, out);
    if (!chance(m, 3)) NORMAL(m, "bias", out);
    residual(m, n, per_image, out, false);
    if (!m->small && !case_find(m->c, "row_scale")) case_set(m->c, "relu6", chance(m, 4));
    gradient_settings(m, true);
}

static void make_mlp(struct maker *m) {
    const int64_t n = images(m), per_image = between(m, 1, m->small ? 2 : 20), c = channels(m);
    const int64_t hidden = chance(m, 2) ? 4 * c : channels(m);
    NORMAL(m, "x", n * per_image, c);
    normal(m, "w1", 0.0, 1.0 / sqrt((double)c), DIMS(hidden, c));
    normal(m, "w2", 0.0, 1.0 / sqrt((double)hidden), DIMS(c, hidden));
    NORMAL(m, "b1", hidden);
    NORMAL(m, "b2", c);
    if (chance(m, 2)) NORMAL(m, "gamma", c);
    NORMAL(m, "dy", n * per_image, c);
    residual(m, n, per_image, c, true);
    gradient_settings(m, true);
}

static void make_layernorm(struct maker *m) {
    const int64_t rows = images(m) * between(m, 1, m->small ? 2 : 30), c = channels(m);
    normal(m, "x", 0.7, 1.0, DIMS(rows, c));
    normal(m, "weight", 1.0, 0.3, DIMS(c));
    NORMAL(m, "bias", c);
    NORMAL(m, "dy", rows, c);
    case_set(m->c, "eps", chance(m, 2) ? 1e-5 : 1e-6);
    /* Rows of few channels: gradients that are zero but for rounding. */
    if (c < 4) case_set(m->c, "floor", 100.0);
    gradient_settings(m, true);
    if (!m->small && case_setting(m->c, "accumulate", 0.0) == 0.0 && case_setting(m->c, "frozen", 0.0) != 2.0)
        case_set(m->c, "in_place", chance(m, 2));
}

static void make_convolution(struct maker *m, int64_t n, int64_t h, int64_t w, int64_t cin, int64_t cout,
                             int64_t k, int64_t stride, int64_t pad, int64_t groups) {
    const int64_t ho = (h + 2 * pad - k) / stride + 1, wo = (w + 2 * pad - k) / stride + 1;
    NORMAL(m, "x", n, h, w, cin);
    normal(m, "weight", 0.0, 0.3, DIMS(cout, cin / groups, k, k));
    if (!chance(m, 3)) NORMAL(m, "bias", cout);
    NORMAL(m, "dy", n, ho, wo, cout);
    case_set(m->c, "stride", (double)stride);
    case_set(m->c, "padding", (double)pad);
    case_set(m->c, "groups", (double)groups);
    if (!m->small) case_set(m->c, "relu6", chance(m, 4));
    gradient_settings(m, true);
}

static void make_conv(struct maker *m) {
    static const int64_t kernels[][3] = {
        {4, 4, 0}, {2, 2, 0}, {3, 2, 1}, {3, 1, 1}, {1, 1, 0}}; /* k, stride, pad */
    const int64_t *kernel = kernels[rng_below(&m->rng, 5)], k = kernel[0];
    const int64_t cin = chance(m, 2) ? 3 : channels(m), longest = m->small ? k + 2 : 14;
    make_convolution(m, images(m), between(m, k, longest), between(m, k, longest), cin, channels(m), k,
                     kernel[1], kernel[2], 1);
}

static void make_depthwise(struct maker *m) {
    const int64_t k = chance(m, 2) ? 3 : 7, c = channels(m) + 1, stride = k == 3 && chance(m, 2) ? 2 : 1;
    const int64_t longest = m->small ? 3 : 16;
    make_convolution(m, images(m), between(m, 1, longest), between(m, 1, longest), c, c, k, stride, k / 2, c);
}

static void make_batchnorm(struct maker *m) {
    const int64_t n = images(m), h = between(m, 1, m->small ? 2 : 7), w = between(m, 1, m->small ? 3 : 7);
    const int64_t c = channels(m);
    normal(m, "x", 0.5, 1.5, DIMS(n, h, w, c));
    normal(m, "weight", 1.0, 0.3, DIMS(c));
    NORMAL(m, "bias", c);
    struct tensor *dy = NORMAL(m, "dy", n, h, w, c);
    NORMAL(m, "running_mean", c);
    struct tensor *var = NORMAL(m, "running_var", c);
    for (int64_t i = 0; i < c; i++) var->v[i] = (double)(float)exp(0.5 * var->v[i]);
    case_set(m->c, "train", !chance(m, 4));
    case_set(m->c, "relu6", chance(m, 2));
    if (chance(m, 3)) mask(m, "image_mask", n);
    /* What masked images give is of no consequence: differences must not see it. */
    const struct tensor *kept = case_find(m->c, "image_mask");
    for (int64_t i = 0; m->small && kept && i < dy->n; i++)
        if (kept->v[i / (h * w * c)] == 0.0) dy->v[i] = 0.0;
    if (chance(m, 3)) NORMAL(m, "residual", n, h, w, c);
    /* Statistics of few values: gradients that are zero but for rounding times 1/sqrt(eps). */
    case_set(m->c, "floor", n * h * w < 8 || case_find(m->c, "image_mask") ? 300.0 : 1.0);
    gradient_settings(m, false);
    if (case_setting(m->c, "frozen", 0.0) == 2.0)
        case_set(m->c, "frozen", 0.0); /* dx is always wanted there */
}

static void make_fold(struct maker *m) {
    const int64_t c = channels(m), taps = channels(m);
    const bool channels_last = chance(m, 2);
    NORMAL(m, "w", channels_last ? taps : c, channels_last ? c : taps);
    NORMAL(m, "weight", c);
    NORMAL(m, "bias", c);
    NORMAL(m, "running_mean", c);
    struct tensor *var = NORMAL(m, "running_var", c);
    for (int64_t i = 0; i < c; i++) var->v[i] = (double)(float)exp(var->v[i]);
    case_set(m->c, "channels_last", channels_last);
}

static void make_pool(struct maker *m) {
    const int64_t n = images(m), h = between(m, 1, 7), w = between(m, 1, 7), c = channels(m);
    NORMAL(m, "x", n, h, w, c);
    NORMAL(m, "dy", n, c);
}

static void make_patch_merge(struct maker *m) {
    const int64_t n = images(m), h = between(m, 1, 7), w = between(m, 1, 7), c = channels(m);
    NORMAL(m, "x", n, h, w, c);
    NORMAL(m, "dy", n, (h + 1) / 2, (w + 1) / 2, 4 * c);
}

static void make_attention(struct maker *m) {
    const int64_t n = images(m), heads = between(m, 1, 3), longest = m->small ? 3 : 7;
    const int64_t d = m->small ? between(m, 1, 3) : chance(m, 3) ? 32 : between(m, 1, 20), c = heads * d;
    const int64_t h = between(m, 1, 2 * longest), w = between(m, 1, 2 * longest);
    const int64_t wh = between(m, 1, h < longest ? h : longest),
                  ww = between(m, 1, w < longest ? w : longest);
    NORMAL(m, "qkv", n, h, w, 3 * c);
    NORMAL(m, "table", (2 * wh - 1) * (2 * ww - 1), heads);
    NORMAL(m, "dy", n, h, w, c);
    if (h % wh != 0 || w % ww != 0 || chance(m, 2)) NORMAL(m, "qkv_bias", 3 * c);
    case_set(m->c, "heads", (double)heads);
    case_set2(m->c, "window", (double)wh, (double)ww);
    case_set2(m->c, "shift", h > wh && chance(m, 2) ? (double)(wh / 2) : 0.0,
              w > ww && chance(m, 2) ? (double)(ww / 2) : 0.0);
    case_set(m->c, "floor", 1.0); /* a window of one token: nothing but rounding reaches q, k and table */
    gradient_settings(m, false);
    if (case_setting(m->c, "frozen", 0.0) == 2.0) case_set(m->c, "frozen", 0.0);
}

static void make_cross_entropy(struct maker *m) {
    const int64_t n = images(m) * between(m, 1, 5), k = channels(m) + 1;
    normal(m, "logits", 0.0, 3.0, DIMS(n, k));
    struct tensor *labels = case_add(m->c, "labels", DIMS(n));
    for (int64_t i = 0; i < n; i++) labels->v[i] = rng_below(&m->rng, (uint32_t)k);
    if (!chance(m, 3)) mask(m, "mask", n);
    case_set(m->c, "smoothing", chance(m, 2) ? 0.1 : 0.0);
    gradient_settings(m, true);
}

static void make_soft_cross_entropy(struct maker *m) {
    const int64_t n = images(m) * between(m, 1, 5), k = channels(m) + 1;
    normal(m, "logits", 0.0, 3.0, DIMS(n, k));
    struct tensor *teacher = case_add(m->c, "teacher", DIMS(n, k));
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < k; j++) sum += teacher->v[i * k + j] = rng_double(&m->rng);
        for (int64_t j = 0; j < k; j++) teacher->v[i * k + j] = (double)(float)(teacher->v[i * k + j] / sum);
    }
    if (chance(m, 2)) mask(m, "mask", n);
    case_set(m->c, "temperature", chance(m, 2) ? 1.0 : 4.0);
    case_set(m->c, "scale", 0.3);
    gradient_settings(m, true);
}

static void make_confidence(struct maker *m) {
    const int64_t n = images(m) * between(m, 1, 20), k = channels(m);
    normal(m, "logits", 0.0, 3.0, DIMS(n, k));
    case_set(m->c, "threshold", 0.55);
}

static void make_gemm(struct maker *m) {
    const int64_t rows = channels(m), columns = channels(m), inner = channels(m);
    const bool ta = chance(m, 2), tb = chance(m, 2);
    NORMAL(m, "a", ta ? inner : rows, (ta ? rows : inner) + between(m, 0, 2));
    NORMAL(m, "b", tb ? columns : inner, (tb ? inner : columns) + between(m, 0, 2));
    NORMAL(m, "c", rows, columns + between(m, 0, 2));
    case_set(m->c, "columns", (double)columns);
    case_set(m->c, "inner", (double)inner);
    case_set(m->c, "transpose_a", ta);
    case_set(m->c, "transpose_b", tb);
    case_set(m->c, "alpha", 0.5);
    case_set(m->c, "beta", chance(m, 2) ? 0.0 : -1.5);
    case_set(m->c, "floor", 1.0);
}

static void make_dropout(struct maker *m) {
    NORMAL(m, "x", images(m), channels(m));
    case_set(m->c, "rate", chance(m, 4) ? 0.0 : 0.2);
}

static const struct {
    const char *operation;
    void (*make)(struct maker *m);
} makers[] = {
    {"linear", make_linear},
    {"mlp", make_mlp},
    {"layernorm", make_layernorm},
    {"conv2d", make_conv},
    {"conv2d", make_depthwise},
    {"batchnorm", make_batchnorm},
    {"global_average_pool", make_pool},
    {"patch_merge", make_patch_merge},
    {"window_attention_core", make_attention},
    {"cross_entropy", make_cross_entropy},
    {"soft_cross_entropy", make_soft_cross_entropy},
    {"confidence", make_confidence},
    {"gemm", make_gemm},
    {"dropout", make_dropout},
    {"batchnorm_fold", make_fold},
};
const uint32_t n_random_operations = sizeof makers / sizeof *makers;

struct op_case *random_case(uint64_t seed, uint32_t number, bool small) {
    char name[TENSOR_MAX_NAME];
    snprintf(name, sizeof name, "random %u", (unsigned)number);
    struct maker m = {.small = small, .c = case_new(makers[number % n_random_operations].operation, name)};
    m.rng = rng_start((struct rng_key){.seed = seed, .purpose = RNG_TEST, .item = number});
    makers[number % n_random_operations].make(&m);
    return m.c;
}
