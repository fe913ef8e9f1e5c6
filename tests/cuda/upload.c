// Pixels that travel to the device while operations run: many steps, two lanes, uneven parts, fp32 and bf16
// give the bits of the host's normalisation whatever the order of streams. The planted faults, a wait for an
// event left out on either stream, give wrong pixels. LIMIT 120
#include "data_shards/view.h"
#include "tests/support/cuda_twin.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_STEPS = 9, N_PARTS = 3, SIDE = 5, N_SEEDS = 8, IMAGE = 3 * SIDE * SIDE, N_IMAGES = 6 };
enum fault { NONE, OPERATIONS_DO_NOT_WAIT, COPIES_DO_NOT_WAIT }; /* number of the stream that does not wait */
static const int64_t n_images[N_PARTS] = {3, 1, 2};

struct scene {
    const struct ops *ops;
    struct backend *be;
    struct upload *upload;
    enum dtype dtype;
    char *y[N_STEPS]; /* (N_IMAGES, SIDE, SIDE, 3) on the device */
    float *work;      /* keeps the stream of operations busy */
};

static uint8_t pixel(int step, int64_t i) {
    return (uint8_t)(37 * step + 11 * i + (i * i) % 251);
}

/* The pixels of a step set under way, the host's copy overwritten at once. */
static status_t begin(const struct scene *s, int step) {
    uint8_t bytes[N_IMAGES * IMAGE];
    size_t at = 0;
    for (int p = 0; p < N_PARTS; p++) {
        const size_t n_bytes = (size_t)(n_images[p] * IMAGE);
        for (size_t i = 0; i < n_bytes; i++) bytes[at + i] = pixel(step, (int64_t)(at + i));
        TRY(s->ops->upload_begin(s->be, s->upload, step % UPLOAD_LANES, at, bytes + at, n_bytes));
        memset(bytes + at, 0, n_bytes);
        at += n_bytes;
    }
    return STATUS_OK;
}

static status_t compute(const struct scene *s, int step) {
    size_t at = 0;
    for (int p = 0; p < N_PARTS; p++) {
        TRY(s->ops->upload_normalise(s->be, s->upload, step % UPLOAD_LANES, at, s->dtype,
                                     s->y[step] + at * dtype_bytes(s->dtype), n_images[p] * SIDE * SIDE));
        at += (size_t)(n_images[p] * IMAGE);
    }
    for (int i = 0; i < 3; i++) TRY(s->ops->scale(s->be, s->work, 1.5f, 100));
    return STATUS_OK;
}

static status_t run_steps(const struct scene *s) {
    TRY(begin(s, 0));
    for (int step = 0; step < N_STEPS; step++) {
        TRY(compute(s, step));
        if (step + 1 < N_STEPS) TRY(begin(s, step + 1));
    }
    return STATUS_OK;
}

/* Do all steps' pixels have the bits of the host's? */
static bool right(const struct scene *s) {
    const size_t n_bytes = N_IMAGES * IMAGE * dtype_bytes(s->dtype);
    for (int step = 0; step < N_STEPS; step++) {
        uint8_t bytes[N_IMAGES * IMAGE + IMAGE_SLACK_BYTES];
        float want[N_IMAGES * IMAGE], got[N_IMAGES * IMAGE];
        for (int i = 0; i < N_IMAGES * IMAGE; i++) bytes[i] = pixel(step, i);
        const struct image image = {.data = bytes, .height = N_IMAGES * SIDE, .width = SIDE};
        if (s->dtype == DTYPE_F32)
            normalise_f32(&image, want);
        else
            normalise_bf16(&image, (uint16_t *)(void *)want);
        assert_ok(s->ops->copy_out(s->be, got, s->y[step], n_bytes));
        if (memcmp(got, want, n_bytes) != 0) return false;
    }
    return true;
}

static bool scene_is_right(enum dtype dtype) {
    const struct cuda_plugin *twin = cuda_twin();
    struct scene s = {.ops = twin->ops, .dtype = dtype};
    void *p;
    assert_ok(twin->backend_open(0, false, &s.be));
    for (int step = 0; step < N_STEPS; step++) {
        assert_ok(s.ops->alloc(s.be, N_IMAGES * IMAGE * sizeof(float), &p));
        s.y[step] = p;
    }
    assert_ok(s.ops->alloc(s.be, 100 * sizeof(float), &p));
    s.work = p;
    assert_ok(s.ops->upload_open(s.be, N_IMAGES * IMAGE, &s.upload));
    assert_ok(run_steps(&s));
    const bool ok = right(&s);
    s.ops->upload_close(s.be, s.upload);
    for (int step = 0; step < N_STEPS; step++) s.ops->release(s.be, s.y[step]);
    s.ops->release(s.be, s.work);
    twin->backend_close(s.be);
    return ok;
}

/* In a process of its own: the stand-in reads its faults once. */
static bool right_with(int seed, enum fault fault, enum dtype dtype) {
    char text[16];
    int status;
    fflush(stdout);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        snprintf(text, sizeof text, "%d", fault);
        setenv("COC_DROP_WAITS", text, 1);
        cuda_twin();
        cuda_twin_seed(seed);
        _exit(scene_is_right(dtype) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 0;
}

static void every_order(void **state) {
    (void)state;
    if (!getenv("MARRS_CUDA_TWIN")) skip();
    for (int seed = 0; seed < N_SEEDS; seed++) assert_true(right_with(seed, NONE, (enum dtype)(seed % 2)));
}

static void missing_waits_show(void **state) {
    (void)state;
    if (!getenv("MARRS_CUDA_TWIN")) skip();
    for (enum fault fault = OPERATIONS_DO_NOT_WAIT; fault <= COPIES_DO_NOT_WAIT; fault++) {
        int n_seen = 0;
        for (int seed = 0; seed < N_SEEDS; seed++) {
            n_seen += !right_with(seed, fault, DTYPE_F32);
            if (seed == TWIN_SEEDS - 1)
                assert_true(n_seen > 0); /* those that other tests use see it already */
        }
        if (n_seen < N_SEEDS / 2) fail_msg("fault %d shows in %d of %d orders only", fault, n_seen, N_SEEDS);
    }
}

/* More than the lane holds is an error, not an overrun. */
static void too_much(void **state) {
    (void)state;
    const struct cuda_plugin *twin = cuda_twin();
    if (!twin) skip();
    struct scene s = {.ops = twin->ops};
    const uint8_t bytes[100] = {0};
    assert_ok(twin->backend_open(0, false, &s.be));
    assert_ok(s.ops->upload_open(s.be, 99, &s.upload));
    assert_fails(s.ops->upload_begin(s.be, s.upload, 0, 0, bytes, 100), STATUS_INTERNAL,
                 "100 bytes of pixels");
    assert_fails(s.ops->upload_begin(s.be, s.upload, 1, 98, bytes, 2), STATUS_INTERNAL, "lane 1");
    assert_fails(s.ops->upload_begin(s.be, s.upload, 2, 0, bytes, 2), STATUS_INTERNAL, "lane 2");
    s.ops->upload_close(s.be, s.upload);
    s.ops->upload_close(s.be, NULL);
    twin->backend_close(s.be);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_order), cmocka_unit_test(missing_waits_show),
                                       cmocka_unit_test(too_much)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
