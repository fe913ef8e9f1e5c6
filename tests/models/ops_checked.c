// The checking table names what a table of operations, or its caller, does wrong.
#include "models/ops/ref/checked.h"
#include "models/ops/ref/ref.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

enum { N = 32 };

struct fixture {
    struct ops faulty; /* ops_ref, with one slot that misbehaves */
    struct backend *ref, *be;
    float *x, *y, *z;
    double *sums;
};

static void open_fixture(struct fixture *f) {
    f->faulty = ops_ref;
    assert_ok(ref_backend_open(&f->ref));
    assert_ok(checked_backend_open(&f->faulty, f->ref, &f->be));
    void *p;
    const float host[N] = {1.0f, 2.0f, 3.0f};
    assert_ok(ops_checked.alloc(f->be, sizeof host, &p));
    f->x = p;
    assert_ok(ops_checked.alloc(f->be, sizeof host, &p));
    f->y = p;
    assert_ok(ops_checked.alloc(f->be, sizeof host, &p));
    f->z = p;
    assert_ok(ops_checked.alloc(f->be, 2 * sizeof(double), &p));
    f->sums = p;
    assert_ok(ops_checked.copy_in(f->be, f->x, host, sizeof host));
}

static void release_all(struct fixture *f) {
    ops_checked.release(f->be, f->x);
    ops_checked.release(f->be, f->y);
    ops_checked.release(f->be, f->z);
    ops_checked.release(f->be, f->sums);
}

static void close_fixture(struct fixture *f) {
    release_all(f);
    assert_ok(checked_backend_close(f->be));
    ref_backend_close(f->ref);
}

/* ---- faults of a table ---- */

static status_t cast_nothing(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                             int64_t n) {
    (void)be, (void)to, (void)y, (void)from, (void)x, (void)n;
    return STATUS_OK;
}

static status_t cast_all_but_last(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                                  int64_t n) {
    return ops_ref.cast(be, to, y, from, x, n - 1);
}

static status_t cast_into_input(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                                int64_t n) {
    TRY(ops_ref.cast(be, to, y, from, x, n));
    ((float *)(uintptr_t)x)[n - 1] += 1.0f;
    return STATUS_OK;
}

static void outputs_must_be_written_and_inputs_kept(void **state) {
    (void)state;
    struct fixture f;
    open_fixture(&f);
    assert_ok(ops_checked.cast(f.be, DTYPE_F32, f.y, DTYPE_F32, f.x, N));
    f.faulty.cast = cast_nothing;
    assert_fails(ops_checked.cast(f.be, DTYPE_F32, f.y, DTYPE_F32, f.x, N), STATUS_INTERNAL,
                 "cast: element 0 of output y");
    f.faulty.cast = cast_all_but_last;
    assert_fails(ops_checked.cast(f.be, DTYPE_BF16, f.y, DTYPE_F32, f.x, N), STATUS_INTERNAL,
                 "cast: element 31 of output y");
    f.faulty.cast = cast_into_input;
    assert_fails(ops_checked.cast(f.be, DTYPE_F32, f.y, DTYPE_F32, f.x, N), STATUS_INTERNAL,
                 "changed its input x");
    close_fixture(&f);
}

static status_t linear_overrun(struct backend *be, const struct linear *a, void *y, void *scratch) {
    ((float *)scratch)[0] = 1.0f;
    return ops_ref.linear_forward(be, a, y, scratch);
}

static size_t scratch_of_one_float(struct backend *be, const struct linear *a, bool train) {
    (void)be, (void)a, (void)train;
    return sizeof(float);
}

static void scratch_must_suffice(void **state) {
    (void)state;
    struct fixture f;
    void *scratch;
    open_fixture(&f);
    const struct linear a = {.dtype = DTYPE_F32, .rows = 4, .in = 4, .out = 4, .x = f.x, .w = f.z};
    f.faulty.linear_forward = linear_overrun;
    assert_ok(ops_checked.alloc(f.be, ops_checked.linear_scratch(f.be, &a, true) + 64, &scratch));
    assert_ok(ops_checked.fill_zero(f.be, f.z, N * sizeof(float)));
    assert_fails(ops_checked.linear_forward(f.be, &a, f.y, scratch), STATUS_INTERNAL,
                 "wrote 0 bytes behind the end of its scratch of 0 bytes");
    f.faulty.linear_scratch = scratch_of_one_float;
    assert_ok(ops_checked.linear_forward(f.be, &a, f.y, scratch));
    assert_fails(ops_checked.linear_forward(f.be, &a, f.y, (char *)scratch + 4), STATUS_INTERNAL,
                 "scratch is not aligned");
    ops_checked.release(f.be, scratch);
    close_fixture(&f);
}

static status_t add_too_far(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n) {
    TRY(ops_ref.add(be, dtype, y, x, n));
    ((float *)y)[n] = 0.0f;
    return STATUS_OK;
}

static void writes_behind_an_allocation_show(void **state) {
    (void)state;
    struct fixture f;
    open_fixture(&f);
    assert_ok(ops_checked.copy(f.be, f.y, f.x, N * sizeof(float)));
    f.faulty.add = add_too_far;
    assert_ok(ops_checked.add(f.be, DTYPE_F32, f.y, f.x, N));
    release_all(&f);
    assert_fails(checked_backend_close(f.be), STATUS_INTERNAL, "behind the end of an allocation");
    ref_backend_close(f.ref);
}

/* ---- faults of a caller ---- */

static void pointers_must_lie_in_allocations(void **state) {
    (void)state;
    struct fixture f;
    float elsewhere[N] = {0};
    open_fixture(&f);
    assert_fails(ops_checked.cast(f.be, DTYPE_F32, f.y, DTYPE_F32, elsewhere, N), STATUS_INTERNAL,
                 "cast: x (128 bytes at");
    assert_fails(ops_checked.cast(f.be, DTYPE_F32, f.y + 1, DTYPE_F32, f.x, N), STATUS_INTERNAL,
                 "cast: y (128 bytes at");
    assert_fails(ops_checked.copy_in(f.be, f.y + 1, elsewhere, sizeof elsewhere), STATUS_INTERNAL, "copy_in");
    assert_fails(ops_checked.fill_zero(f.be, f.y, sizeof elsewhere + 1), STATUS_INTERNAL, "fill_zero");
    assert_fails(ops_checked.cast(f.be, DTYPE_F32, (char *)f.y + 2, DTYPE_F32, f.x, N - 1), STATUS_INTERNAL,
                 "y is not aligned to 4 bytes");
    close_fixture(&f);
}

static void outputs_must_not_alias(void **state) {
    (void)state;
    struct fixture f;
    open_fixture(&f);
    assert_fails(ops_checked.cast(f.be, DTYPE_F32, f.x, DTYPE_F32, f.x, N), STATUS_INTERNAL,
                 "cast: x overlaps y");
    assert_fails(ops_checked.cast(f.be, DTYPE_F32, f.x + 4, DTYPE_F32, f.x, 8), STATUS_INTERNAL,
                 "cast: x overlaps y");
    /* where ops.h allows it, but only as a whole */
    struct rng_key key = {.purpose = RNG_TEST};
    assert_ok(ops_checked.dropout(f.be, f.x, f.x, 4, 4, 0.5f, key, NULL));
    assert_fails(ops_checked.dropout(f.be, f.x + 4, f.x, 4, 4, 0.5f, key, NULL), STATUS_INTERNAL, "overlaps");
    close_fixture(&f);
}

static void nan_in_nan_out_is_no_fault(void **state) {
    (void)state;
    struct fixture f;
    const float nan_value = NAN;
    open_fixture(&f);
    assert_ok(ops_checked.copy_in(f.be, f.x, &nan_value, sizeof nan_value));
    assert_ok(ops_checked.cast(f.be, DTYPE_F32, f.y, DTYPE_F32, f.x, N));
    assert_ok(ops_checked.square_sum(f.be, f.x, N, f.sums));
    close_fixture(&f);
}

static void memory_must_be_released(void **state) {
    (void)state;
    struct fixture f;
    open_fixture(&f);
    float *left = f.x;
    f.x = NULL;
    release_all(&f);
    assert_fails(checked_backend_close(f.be), STATUS_INTERNAL, "1 allocations were not released");
    ops_ref.release(f.ref, left);
    ref_backend_close(f.ref);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_must_be_written_and_inputs_kept),
        cmocka_unit_test(scratch_must_suffice),
        cmocka_unit_test(writes_behind_an_allocation_show),
        cmocka_unit_test(pointers_must_lie_in_allocations),
        cmocka_unit_test(outputs_must_not_alias),
        cmocka_unit_test(nan_in_nan_out_is_no_fault),
        cmocka_unit_test(memory_must_be_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
