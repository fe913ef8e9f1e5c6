/* What `bench ops` and `bench model` share: the timing of calls of one backend. */
#ifndef LAUNCHER_BENCH_H
#define LAUNCHER_BENCH_H

#include "launcher/commands.h"
#include "launcher/device.h"
#include "models/net.h"

struct bench {
    struct device device;
    const struct ops *ops; /* the device's */
    struct backend *be;
    bool autotune; /* set before bench_open(): as cuda.autotune */
    int32_t runs;  /* timed runs; their median counts */
    bool
        cpu_time; /* time of the processor instead of the clock's: with one thread, whatever else runs here */
};

/* Open the device that --device names ("cpu", "cuda", ...); NULL: the CPU. Owned until bench_close(). */
status_t bench_open(struct bench *bench, const char *device, int64_t threads, int64_t runs);
void bench_close(struct bench *bench);

/* Median over bench->runs of the time of call(context), after one run that is not counted; short calls are
 * repeated within a run until it lasts 10 ms. */
status_t bench_time(const struct bench *bench, status_t (*call)(void *context), void *context,
                    double *median_s);

double bench_now_s(const struct bench *bench); /* of the clock that bench_time() uses */

/* The moments at which a backward pass lets communication move on, as in training by several ranks: pokes
 * between blocks of long operations, and gradients that become final. */
struct bench_pokes {
    int64_t n;                /* a pass */
    double mean_s, longest_s; /* from one to the next; longest: the median over the passes */
    const char *after;        /* parameter whose gradient became final last before the longest gap, borrowed
                                 from the net; NULL: the gap is the pass's first */
};

/* bench->runs backward passes after one that is not counted, each behind a call of forward(context), which is
 * not watched. */
status_t bench_pokes(const struct bench *bench, struct net *net, struct pass *pass,
                     status_t (*forward)(void *context), void *context, struct bench_pokes *out);

/* What this machine reaches: GFLOP/s of a square product of matrices of side 2048 of type dtype, and GB/s
 * (read and written, as STREAM counts) of the better of a copy and y += x over 128 MiB. */
status_t bench_peak_gflops(const struct bench *bench, enum dtype dtype, double *gflops);
status_t bench_peak_gb_s(const struct bench *bench, double *gb_s);

/* "fp32" or "bf16" -> dtype; STATUS_USAGE otherwise, and where the opened device has no bf16 arithmetic. */
status_t bench_precision(const struct bench *bench, const char *text, enum dtype *out);

/* The rows of cmd_bench.c's table. argv[0] is the word after "bench". */
status_t cmd_bench_ops(struct launch_context *context, int argc, char **argv);
status_t cmd_bench_model(struct launch_context *context, int argc, char **argv);
status_t cmd_bench_heads(struct launch_context *context, int argc, char **argv);
status_t cmd_bench_infer(struct launch_context *context, int argc, char **argv);
status_t cmd_bench_scale(struct launch_context *context, int argc, char **argv);

#endif
