#include "launcher/bench.h"
#include "common/clock.h"
#include "common/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_now_s(const struct bench *bench) {
    struct timespec used;
    if (!bench->cpu_time) return clock_now_s();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

status_t bench_time(const struct bench *bench, status_t (*call)(void *context), void *context,
                    double *median_s) {
    double *times = memory_zeroed((size_t)bench->runs, sizeof *times);
    CHECK(times, STATUS_NO_MEMORY, "no memory for %d times", bench->runs);
    status_t status = STATUS_OK;
    int64_t n_inner = 1;
    for (int32_t run = -1; run < bench->runs && status == STATUS_OK; run++) {
        const double start = bench_now_s(bench);
        for (int64_t i = 0; i < n_inner && status == STATUS_OK; i++) status = call(context);
        if (status == STATUS_OK) status = bench->ops->synchronise(bench->be);
        const double time_s = (bench_now_s(bench) - start) / (double)n_inner;
        if (run >= 0)
            times[run] = time_s;
        else
            n_inner = time_s < 0.01 ? 1 + (int64_t)(0.01 / (time_s + 1e-6)) : 1;
    }
    qsort(times, (size_t)bench->runs, sizeof *times, ascending);
    if (status == STATUS_OK) *median_s = 0.5 * (times[(bench->runs - 1) / 2] + times[bench->runs / 2]);
    free(times);
    return status;
}

struct square {
    const struct bench *bench;
    struct linear linear;
    void *y, *scratch;
};

static status_t multiply(void *context) {
    const struct square *s = context;
    return s->bench->ops->linear_forward(s->bench->be, &s->linear, s->y, s->scratch);
}

status_t bench_peak_gflops(const struct bench *bench, enum dtype dtype, double *gflops) {
    enum { SIDE = 2048 };
    const struct ops *ops = bench->ops;
    struct backend *be = bench->be;
    struct square s = {
        .bench = bench,
        .linear = {.dtype = dtype, .rows = SIDE, .in = SIDE, .out = SIDE, .rows_per_image = SIDE}};
    const size_t n_bytes = (size_t)SIDE * SIDE * dtype_bytes(dtype);
    const size_t n_scratch = ops->linear_scratch ? ops->linear_scratch(be, &s.linear, false) : 0;
    void *x = NULL, *w = NULL;
    double time_s;
    status_t status;
    TRY_TO(end, ops->alloc(be, n_bytes, &x));
    TRY_TO(end, ops->alloc(be, n_bytes, &w));
    TRY_TO(end, ops->alloc(be, n_bytes, &s.y));
    TRY_TO(end, ops->alloc(be, n_scratch + 64, &s.scratch));
    TRY_TO(end, ops->fill_zero(be, x, n_bytes));
    TRY_TO(end, ops->fill_zero(be, w, n_bytes));
    s.linear.x = x, s.linear.w = w;
    TRY_TO(end, bench_time(bench, multiply, &s, &time_s));
    *gflops = 2e-9 * SIDE * SIDE * SIDE / time_s;
end:
    if (x) ops->release(be, x);
    if (w) ops->release(be, w);
    if (s.y) ops->release(be, s.y);
    if (s.scratch) ops->release(be, s.scratch);
    return status;
}

struct copying {
    const struct bench *bench;
    void *from, *to;
    size_t n_bytes;
};

static status_t copy_once(void *context) {
    const struct copying *c = context;
    return c->bench->ops->copy(c->bench->be, c->to, c->from, c->n_bytes);
}

static status_t add_once(void *context) {
    const struct copying *c = context;
    return c->bench->ops->add(c->bench->be, DTYPE_F32, c->to, c->from, (int64_t)(c->n_bytes / sizeof(float)));
}

status_t bench_peak_gb_s(const struct bench *bench, double *gb_s) {
    struct copying c = {.bench = bench, .n_bytes = (size_t)128 << 20};
    double copy_s, add_s;
    status_t status;
    TRY_TO(end, bench->ops->alloc(bench->be, c.n_bytes, &c.from));
    TRY_TO(end, bench->ops->alloc(bench->be, c.n_bytes, &c.to));
    TRY_TO(end, bench->ops->fill_zero(bench->be, c.from, c.n_bytes));
    TRY_TO(end, bench->ops->fill_zero(bench->be, c.to, c.n_bytes));
    TRY_TO(end, bench_time(bench, copy_once, &c, &copy_s));
    TRY_TO(end, bench_time(bench, add_once, &c, &add_s));
    *gb_s = 1e-9 * (double)c.n_bytes * fmax(2 / copy_s, 3 / add_s);
end:
    if (c.from) bench->ops->release(bench->be, c.from);
    if (c.to) bench->ops->release(bench->be, c.to);
    return status;
}

status_t bench_precision(const struct bench *bench, const char *text, enum dtype *out) {
    CHECK(!strcmp(text, "fp32") || !strcmp(text, "bf16"), STATUS_USAGE,
          "--precision is fp32 or bf16, not \"%s\"", text);
    *out = !strcmp(text, "bf16") ? DTYPE_BF16 : DTYPE_F32;
    return device_check_precision(&bench->device, *out, "--precision");
}

status_t bench_open(struct bench *bench, const char *device, int64_t threads, int64_t runs) {
    enum device_choice wanted = DEVICE_CPU, chosen;
    char why[512];
    int n_devices;
    if (device) TRY(device_named(device, &wanted));
    TRY(device_settle(wanted, &chosen, &n_devices, why, sizeof why));
    if (*why) fprintf(stderr, "on the CPU: %s\n", why);
    TRY(device_open(chosen,
                    &(struct device_options){.autotune = bench->autotune, .n_threads = (int32_t)threads},
                    &bench->device));
    bench->ops = bench->device.ops;
    bench->be = bench->device.be;
    bench->runs = (int32_t)runs;
    return STATUS_OK;
}

void bench_close(struct bench *bench) {
    device_close(&bench->device);
}
