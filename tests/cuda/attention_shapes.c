// Window attention of the GPU's table, kernels on the CPU, on the shapes of real networks: windows 7 and 12,
// shifted, clipped to small maps, padded, all sizes of tile; heads of other widths and windows too large for
// tensor cores take the general kernels. Forward and every gradient against the plain loops.
// LIMIT 120
#include "common/rng.h"
#include "tests/support/tables.h"
#include "tests/support/test.h"

#include <stdio.h>

struct shape {
    int64_t n, h, w, heads, d;
    int32_t wh, ww, shift_h, shift_w;
    bool fp32; /* too, with the general kernels */
};

static const struct shape shapes[] = {
    {1, 7, 7, 24, 32, 7, 7, 0, 0, true},     /* stage 4 of 224 px: one window, many heads */
    {2, 14, 14, 3, 32, 7, 7, 3, 3, false},   /* stage 3 */
    {1, 21, 28, 2, 32, 7, 7, 3, 3, false},   /* more windows than blocks: each takes several */
    {1, 7, 14, 2, 32, 7, 7, 0, 3, false},    /* one axis is a single window and is not shifted */
    {1, 10, 17, 2, 32, 7, 7, 3, 3, true},    /* padded and shifted */
    {1, 12, 12, 6, 32, 12, 12, 0, 0, false}, /* stage 4 of 384 px */
    {1, 24, 24, 2, 32, 12, 12, 6, 6, false}, /* stage 3 */
    {1, 13, 25, 1, 32, 12, 12, 6, 6, false}, /* padded */
    {1, 6, 6, 48, 32, 6, 6, 0, 0, false},    /* window clipped to the map: 36 tokens */
    {2, 9, 9, 2, 32, 9, 9, 0, 0, false},     /* 81 tokens */
    {1, 10, 11, 1, 32, 10, 11, 0, 0, false}, /* 110 tokens */
    {3, 8, 8, 2, 32, 4, 4, 2, 2, true},      /* 16 tokens */
    {1, 10, 10, 2, 32, 5, 5, 2, 2, false},   /* 25 tokens */
    {1, 3, 26, 1, 32, 2, 12, 1, 6, false},   /* long and narrow, padded */
    {1, 14, 14, 2, 24, 7, 7, 3, 3, true},    /* heads of 24 channels */
    {1, 15, 15, 1, 32, 15, 15, 0, 0, true},  /* 225 tokens */
};

/* Values that bf16 keeps, so that both tables compute from the same numbers. */
static void normal(struct op_case *c, struct rng *rng, const char *name, int32_t n_dims,
                   const int64_t *shape) {
    struct tensor *x = case_add(c, name, n_dims, shape);
    for (int64_t i = 0; i < x->n; i++) x->v[i] = round_to_bf16(rng_normal(rng));
}

static struct op_case *case_of(const struct shape *s, uint32_t number) {
    const int64_t c = s->heads * s->d;
    char name[TENSOR_MAX_NAME];
    snprintf(name, sizeof name, "%dx%d, %d heads of %d, window %dx%d, shift %d %d", (int)s->h, (int)s->w,
             (int)s->heads, (int)s->d, s->wh, s->ww, s->shift_h, s->shift_w);
    struct op_case *out = case_new("window_attention_core", name);
    struct rng rng = rng_start((struct rng_key){.seed = 5, .purpose = RNG_TEST, .item = number});
    normal(out, &rng, "qkv", 4, (int64_t[]){s->n, s->h, s->w, 3 * c});
    normal(out, &rng, "dy", 4, (int64_t[]){s->n, s->h, s->w, c});
    normal(out, &rng, "table", 2, (int64_t[]){(2 * s->wh - 1) * (2 * s->ww - 1), s->heads});
    if (s->h % s->wh != 0 || s->w % s->ww != 0) normal(out, &rng, "qkv_bias", 1, (int64_t[]){3 * c});
    case_set(out, "heads", (double)s->heads);
    case_set2(out, "window", s->wh, s->ww);
    case_set2(out, "shift", s->shift_h, s->shift_w);
    case_set(out, "start", 0.25);
    return out;
}

static void check(struct table *t, enum dtype dtype, struct op_case *got, const struct op_case *want) {
    case_run(t, dtype, got);
    assert_int_equal(got->n_out, want->n_out);
    for (int32_t i = 0; i < got->n_out; i++) {
        const struct tensor *a = &got->out[i], *b = &want->out[i];
        const double allowed = dtype == DTYPE_BF16 ? 1e-2 : 2e-5, error = tensor_error(a->v, b->v, b->n, 0.0);
        if (!(error <= allowed))
            fail_msg("%s: %s: error %.3g, allowed %.3g", got->name, a->name, error, allowed);
    }
}

static void shapes_of_networks(void **state) {
    (void)state;
    struct tables tables;
    tables_open(&tables);
    if (tables.n <= TABLE_CUDA) {
        tables_close(&tables);
        skip();
    }
    for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct op_case *got = case_of(&shapes[i], i), *want = case_of(&shapes[i], i);
        case_run(&tables.table[TABLE_REF], DTYPE_F32, want);
        check(&tables.table[TABLE_CUDA], DTYPE_BF16, got, want);
        if (shapes[i].fp32) check(&tables.table[TABLE_CUDA], DTYPE_F32, got, want);
        case_free(got);
        case_free(want);
    }
    tables_close(&tables);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes_of_networks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
