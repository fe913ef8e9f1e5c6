// Small operations of every table against values worked out by hand; images against golden normalised ones;
// batch norm over a group: two halves with their sums added give what the whole batch gives, and masked
// images take no part.
// LIMIT 240
#include "tests/support/tables.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

static struct tables tables;

static struct tensor values(int64_t n, const double *v) {
    struct tensor x = tensor_new("values", 1, &n);
    memcpy(x.v, v, (size_t)n * sizeof *v);
    return x;
}
#define VALUES(...) values(sizeof((double[]){__VA_ARGS__}) / sizeof(double), (double[]){__VA_ARGS__})

static void *up(struct table *t, enum dtype dtype, struct tensor x) {
    void *p = table_up(t, dtype, &x);
    tensor_free(&x);
    return p;
}

static void expect(struct table *t, enum dtype dtype, const void *p, struct tensor want, double allowed) {
    struct tensor got = table_down(t, dtype, p, "got", 1, &want.n);
    for (int64_t i = 0; i < want.n; i++)
        if (!(fabs(got.v[i] - want.v[i]) <= allowed))
            fail_msg("%s: element %d is %.9g, not %.9g", t->label, (int)i, got.v[i], want.v[i]);
    tensor_free(&got);
    tensor_free(&want);
}

static void expect_f64(struct table *t, const double *p, struct tensor want) {
    double got[8];
    assert_true(want.n <= 8);
    assert_ok(t->ops->copy_out(t->be, got, p, (size_t)want.n * sizeof *got));
    for (int64_t i = 0; i < want.n; i++) assert_true(fabs(got[i] - want.v[i]) < 1e-12);
    tensor_free(&want);
}

static void elementwise_of(struct table *t) {
    float *x = up(t, DTYPE_F32, VALUES(1.0, -2.5, 0.0, 3.0, 7.0));
    float *y = up(t, DTYPE_F32, VALUES(0.5, 0.5, 0.5, 0.5, -1.0));
    assert_ok(t->ops->add(t->be, DTYPE_F32, y, x, 5));
    expect(t, DTYPE_F32, y, VALUES(1.5, -2.0, 0.5, 3.5, 6.0), 0.0);
    uint16_t *bx = up(t, DTYPE_BF16, VALUES(1.0, 256.0, -1.0)),
             *by = up(t, DTYPE_BF16, VALUES(1.0, 1.0, 1.0));
    assert_ok(t->ops->add(t->be, DTYPE_BF16, by, bx, 3));
    expect(t, DTYPE_BF16, by, VALUES(2.0, 256.0, 0.0), 0.0); /* 257 lies halfway to 258: to even */
    assert_ok(t->ops->scale(t->be, y, -2.0f, 5));
    expect(t, DTYPE_F32, y, VALUES(-3.0, 4.0, -1.0, -7.0, -12.0), 0.0);
    /* Ties to even upwards and downwards, overflow. (Denormals: the processor's own conversion flushes them.)
     */
    float *z = up(t, DTYPE_F32, VALUES(0x1.01p0, 0x1.03p0, 0x1.010002p0, -0x1.01p0, 0x1.fffffep127));
    uint16_t *bz = table_filled(t, DTYPE_BF16, 5, (double)NAN);
    assert_ok(t->ops->cast(t->be, DTYPE_BF16, bz, DTYPE_F32, z, 5));
    uint16_t bits[5];
    assert_ok(t->ops->copy_out(t->be, bits, bz, sizeof bits));
    const uint16_t want[5] = {0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x7f80};
    assert_memory_equal(bits, want, sizeof want);
    assert_ok(t->ops->cast(t->be, DTYPE_F32, z, DTYPE_BF16, bz, 4));
    expect(t, DTYPE_F32, z, VALUES(1.0, 0x1.04p0, 0x1.02p0, -1.0), 0.0);
    table_release(t);
}

/* A NaN stays one in bf16, whatever its payload. */
static void nan_survives(struct table *t) {
    const uint32_t payloads[] = {0x7f800001, 0xffffffff, 0x7fc00000};
    void *x = table_bytes(t, sizeof payloads);
    uint16_t *y = table_bytes(t, 3 * sizeof *y), bits[3];
    assert_ok(t->ops->copy_in(t->be, x, payloads, sizeof payloads));
    assert_ok(t->ops->cast(t->be, DTYPE_BF16, y, DTYPE_F32, x, 3));
    assert_ok(t->ops->copy_out(t->be, bits, y, sizeof bits));
    for (int i = 0; i < 3; i++) assert_true((bits[i] & 0x7f80) == 0x7f80 && (bits[i] & 0x7f) != 0);
    table_release(t);
}

static void sums_of(struct table *t) {
    float *x = up(t, DTYPE_F32, VALUES(1.0, 10.0, 2.0, 20.0, 6.0, 0.0));
    double *sums = table_bytes(t, 3 * sizeof *sums);
    assert_ok(t->ops->column_sums(t->be, x, 3, 2, sums));
    expect_f64(t, sums, VALUES(3.0, 9.0, 30.0));
    assert_ok(t->ops->centre(t->be, x, 3, 2, sums, x));
    expect(t, DTYPE_F32, x, VALUES(-2.0, 0.0, -1.0, 10.0, 3.0, -10.0), 1e-6);
    assert_ok(t->ops->column_sums(t->be, x, 0, 2, sums));
    expect_f64(t, sums, VALUES(0.0, 0.0, 0.0));
    struct tensor mask = VALUES(1, 0, 0, 1, 1);
    assert_ok(t->ops->mask_sum(t->be, table_up_u8(t, &mask), 5, sums));
    expect_f64(t, sums, VALUES(3.0));
    float *scale = table_filled(t, DTYPE_F32, 1, (double)NAN);
    assert_ok(t->ops->mean_scale(t->be, 0.75f, sums, scale));
    expect(t, DTYPE_F32, scale, VALUES(0.25), 0.0);
    assert_ok(t->ops->fill_zero(t->be, sums, sizeof *sums));
    assert_ok(t->ops->mean_scale(t->be, 0.75f, sums, scale));
    expect(t, DTYPE_F32, scale, VALUES(0.0), 0.0);
    tensor_free(&mask);
    table_release(t);
}

static void messages_of(struct table *t) {
    const struct pseudo_label want[3] = {{2, 0.5f}, {0, 0.75f}, {7, 0.9f}};
    struct pseudo_label *messages = table_bytes(t, sizeof want), got[3];
    struct tensor labels = VALUES(2, 0, 7);
    int32_t *label = table_up_i32(t, &labels), host_label[3];
    float *confidence = up(t, DTYPE_F32, VALUES((double)0.5f, (double)0.75f, (double)0.9f));
    assert_ok(t->ops->pseudo_pack(t->be, label, confidence, 3, messages));
    assert_ok(t->ops->copy_out(t->be, got, messages, sizeof got));
    assert_memory_equal(got, want, sizeof want);
    uint8_t *mask = table_bytes(t, 3), host_mask[3];
    assert_ok(
        t->ops->pseudo_unpack(t->be, messages, 3, 0.75f, label, mask)); /* the threshold itself is not kept */
    assert_ok(t->ops->copy_out(t->be, host_label, label, sizeof host_label));
    assert_ok(t->ops->copy_out(t->be, host_mask, mask, sizeof host_mask));
    assert_memory_equal(host_label, ((int32_t[]){2, 0, 7}), sizeof host_label);
    assert_memory_equal(host_mask, ((uint8_t[]){0, 0, 1}), sizeof host_mask);
    tensor_free(&labels);
    table_release(t);
}

static void by_hand(void **state) {
    (void)state;
    for (int32_t i = 0; i < tables.n; i++) {
        elementwise_of(&tables.table[i]);
        nan_survives(&tables.table[i]);
        sums_of(&tables.table[i]);
        messages_of(&tables.table[i]);
    }
}

static void golden_normalise(void **state) {
    (void)state;
    if (!golden_is_there("images.h5")) skip();
    const hid_t file = golden_open("images.h5");
    struct tensor u8 = tensor_read(file, "normalise/u8"), f32 = tensor_read(file, "normalise/f32");
    for (int32_t i = 0; i < tables.n; i++) {
        struct table *t = &tables.table[i];
        for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
            void *y = table_filled(t, (enum dtype)dtype, f32.n, (double)NAN);
            assert_ok(t->ops->normalise(t->be, (enum dtype)dtype, y, table_up_u8(t, &u8), u8.n / 3));
            struct tensor got = table_down(t, (enum dtype)dtype, y, "y", 1, &f32.n);
            const double error = tensor_error(got.v, f32.v, f32.n, 0.0);
            if (!(error <= (dtype == DTYPE_F32 ? 1e-6 : 4e-3))) fail_msg("%s: error %.3g", t->label, error);
            tensor_free(&got);
            table_release(t);
        }
    }
    tensor_free(&u8);
    tensor_free(&f32);
    H5Fclose(file);
}

/* ---- batch norm over a group ---- */

enum { N = 5, HW = 6, C = 19, FIRST = 2 };

struct half {
    struct batchnorm a;
    void *y, *dy, *dx, *work;
    double *sums, *local, *reduced;
    float *dweight, *dbias;
};

/* Images [begin, end) as one rank has them. */
static struct half half_of(struct table *t, const struct tensor *x, const struct tensor *dy, int64_t begin,
                           int64_t end) {
    const int64_t n = (end - begin) * HW * C;
    struct half h = {
        .a = {.dtype = DTYPE_F32, .n = end - begin, .hw = HW, .c = C, .eps = 1e-5f, .momentum = 0.1f}};
    h.a.relu6 = true;
    h.a.x = up(t, DTYPE_F32, values(n, x->v + begin * HW * C));
    h.dy = up(t, DTYPE_F32, values(n, dy->v + begin * HW * C));
    h.a.weight = table_filled(t, DTYPE_F32, C, 1.5);
    h.a.bias = table_filled(t, DTYPE_F32, C, 0.25);
    h.a.running_mean = table_filled(t, DTYPE_F32, C, 0.5);
    h.a.running_var = table_filled(t, DTYPE_F32, C, 2.0);
    h.a.mean = table_filled(t, DTYPE_F32, C, (double)NAN);
    h.a.rstd = table_filled(t, DTYPE_F32, C, (double)NAN);
    h.y = table_filled(t, DTYPE_F32, n, (double)NAN);
    h.dx = table_filled(t, DTYPE_F32, n, (double)NAN);
    h.dweight = table_filled(t, DTYPE_F32, C, 0.0);
    h.dbias = table_filled(t, DTYPE_F32, C, 0.0);
    h.sums = table_bytes(t, (1 + 2 * C) * sizeof(double));
    h.local = table_bytes(t, 2 * C * sizeof(double));
    h.reduced = table_bytes(t, 2 * C * sizeof(double));
    h.work = table_bytes(t, t->ops->batchnorm_scratch ? t->ops->batchnorm_scratch(t->be, &h.a, true) : 0);
    return h;
}

/* b = a + b, then a = b: what a reduction over the two does. */
static void add_up(struct table *t, double *a, double *b, int64_t n) {
    double x[1 + 2 * C], y[1 + 2 * C];
    const size_t n_bytes = (size_t)n * sizeof *x;
    assert_ok(t->ops->copy_out(t->be, x, a, n_bytes));
    assert_ok(t->ops->copy_out(t->be, y, b, n_bytes));
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
    assert_ok(t->ops->copy_in(t->be, a, x, n_bytes));
    assert_ok(t->ops->copy_in(t->be, b, x, n_bytes));
}

/* Forward and backward of one or two ranks. */
static void run_group(struct table *t, struct half *h, int n_ranks) {
    for (int i = 0; i < n_ranks; i++) assert_ok(t->ops->batchnorm_sums(t->be, &h[i].a, h[i].sums, h[i].work));
    if (n_ranks == 2) add_up(t, h[0].sums, h[1].sums, 1 + 2 * C);
    for (int i = 0; i < n_ranks; i++) {
        assert_ok(t->ops->batchnorm_finish(t->be, &h[i].a, h[i].sums));
        assert_ok(t->ops->batchnorm_apply(t->be, &h[i].a, h[i].y));
        assert_ok(t->ops->batchnorm_grad_sums(t->be, &h[i].a, h[i].dy, h[i].local, h[i].work));
        assert_ok(t->ops->copy(t->be, h[i].reduced, h[i].local, 2 * C * sizeof(double)));
    }
    if (n_ranks == 2) add_up(t, h[0].reduced, h[1].reduced, 2 * C);
    for (int i = 0; i < n_ranks; i++) {
        const struct batchnorm_grad g = {.dy = h[i].dy,
                                         .dx = h[i].dx,
                                         .sums = h[i].sums,
                                         .grad_sums = h[i].reduced,
                                         .local_sums = h[i].local,
                                         .dweight = h[i].dweight,
                                         .dbias = h[i].dbias};
        assert_ok(t->ops->batchnorm_grad_apply(t->be, &h[i].a, &g));
    }
}

/* Elements of the whole batch's `all` from `at` on are those of `part`. */
static void same_part(struct table *t, const void *all, int64_t n_all, const void *part, int64_t n_part,
                      int64_t at) {
    struct tensor a = table_down(t, DTYPE_F32, all, "all", 1, &n_all);
    struct tensor p = table_down(t, DTYPE_F32, part, "part", 1, &n_part);
    assert_true(tensor_error(p.v, a.v + at, n_part, 1.0) < 2e-5);
    tensor_free(&a);
    tensor_free(&p);
}

static void check_group(struct table *t, const struct tensor *x, const struct tensor *dy) {
    struct half whole = half_of(t, x, dy, 0, N);
    struct half ranks[2] = {half_of(t, x, dy, 0, FIRST), half_of(t, x, dy, FIRST, N)};
    run_group(t, &whole, 1);
    run_group(t, ranks, 2);
    const int64_t n = N * HW * C, n_first = FIRST * HW * C;
    for (int i = 0; i < 2; i++) {
        const int64_t n_part = i == 0 ? n_first : n - n_first;
        same_part(t, whole.y, n, ranks[i].y, n_part, i * n_first);
        same_part(t, whole.dx, n, ranks[i].dx, n_part, i * n_first);
        same_part(t, whole.a.running_mean, C, ranks[i].a.running_mean, C, 0);
        same_part(t, whole.a.running_var, C, ranks[i].a.running_var, C, 0);
    }
    assert_ok(t->ops->add(t->be, DTYPE_F32, ranks[0].dweight, ranks[1].dweight, C));
    assert_ok(t->ops->add(t->be, DTYPE_F32, ranks[0].dbias, ranks[1].dbias, C));
    same_part(t, whole.dweight, C, ranks[0].dweight, C, 0);
    same_part(t, whole.dbias, C, ranks[0].dbias, C, 0);
    table_release(t);
}

/* A batch whose last images are masked gives what the batch without them gives. */
static void check_mask(struct table *t, const struct tensor *x, const struct tensor *dy) {
    struct half masked = half_of(t, x, dy, 0, N), without = half_of(t, x, dy, 0, FIRST);
    struct tensor mask = VALUES(1, 1, 0, 0, 0);
    masked.a.image_mask = table_up_u8(t, &mask);
    run_group(t, &masked, 1);
    run_group(t, &without, 1);
    const int64_t n = N * HW * C, n_first = FIRST * HW * C;
    same_part(t, masked.y, n, without.y, n_first, 0);
    same_part(t, masked.dx, n, without.dx, n_first, 0);
    same_part(t, masked.dweight, C, without.dweight, C, 0);
    same_part(t, masked.a.running_var, C, without.a.running_var, C, 0);
    const int64_t n_rest = n - n_first;
    struct tensor zero = tensor_new("zero", 1, &n_rest);
    expect(t, DTYPE_F32, (const float *)masked.dx + n_first, zero, 0.0);
    tensor_free(&mask);
    table_release(t);
}

static void batchnorm_over_a_group(void **state) {
    (void)state;
    const int64_t n = N * HW * C;
    struct rng rng = rng_start((struct rng_key){.seed = 3, .purpose = RNG_TEST});
    struct tensor x = tensor_new("x", 1, &n), dy = tensor_new("dy", 1, &n);
    for (int64_t i = 0; i < n; i++) {
        x.v[i] = (double)(float)(1.0 + 2.0 * rng_normal(&rng));
        dy.v[i] = (double)(float)rng_normal(&rng);
    }
    for (int32_t i = 0; i < tables.n; i++) {
        check_group(&tables.table[i], &x, &dy);
        check_mask(&tables.table[i], &x, &dy);
    }
    tensor_free(&x);
    tensor_free(&dy);
}

int main(void) {
    tables_open(&tables);
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(golden_normalise),
                                       cmocka_unit_test(batchnorm_over_a_group)};
    int failures = 0;
    for (int n = 0; tables_order(&tables, n); n++) failures += cmocka_run_group_tests(tests, NULL, NULL);
    if (failures == 0) tables_close(&tables);
    return failures;
}
