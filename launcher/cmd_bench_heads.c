/* bench heads: one full-batch step of the frozen stage's classifier, by default of Office-Home's size. */
#include "comm/comm.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/rng.h"
#include "launcher/arguments.h"
#include "launcher/bench.h"
#include "training/head.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

struct heads_bench {
    struct bench bench;
    int64_t n[HEAD_N_INPUTS], d, k, kept_per_cent, threads;
    enum dtype dtype;
    struct head *head;
    struct pseudo_label *labels;
};

static float *random_rows(int64_t n, int64_t d, uint32_t item) {
    float *x = memory_zeroed((size_t)(n * d), sizeof *x);
    struct rng rng = rng_start((struct rng_key){.seed = 1, .purpose = RNG_TEST, .item = item});
    const float scale = 3.4f / (float)d; /* rows of about unit length */
    for (int64_t i = 0; x && i < n * d; i++) x[i] = (rng_float(&rng) - 0.5f) * scale * 20;
    return x;
}

static status_t make_head(struct heads_bench *b, struct comm *alone) {
    struct head_options o = {.ops = b->bench.ops,
                             .be = b->bench.be,
                             .group = alone,
                             .n_classes = (int32_t)b->k,
                             .d = b->d,
                             .precision = b->dtype,
                             .lr = 30,
                             .momentum = 0.9,
                             .nesterov = true};
    float *x[HEAD_N_INPUTS] = {NULL};
    int32_t *y[2] = {NULL};
    status_t status = STATUS_OK;
    for (int i = 0; i < HEAD_N_INPUTS; i++) {
        x[i] = random_rows(b->n[i], b->d, (uint32_t)i);
        CHECK_TO(done, x[i], STATUS_NO_MEMORY, "no memory for %lld x %lld features", (long long)b->n[i],
                 (long long)b->d);
        o.rows[i] = x[i];
        o.n_local[i] = o.n_global[i] = b->n[i];
    }
    for (int i = 0; i < 2; i++) {
        y[i] = memory_zeroed((size_t)b->n[i], sizeof(int32_t));
        CHECK_TO(done, y[i], STATUS_NO_MEMORY, "no memory for labels");
        for (int64_t r = 0; r < b->n[i]; r++) y[i][r] = (int32_t)(r * 7 % b->k);
        o.labels[i] = y[i];
    }
    status = head_new(&o, &b->head);
done:
    for (int i = 0; i < HEAD_N_INPUTS; i++) free(x[i]);
    free(y[0]);
    free(y[1]);
    return status;
}

/* Every source row, and the wanted share of the unlabelled ones. */
static status_t select_rows(struct heads_bench *b) {
    const int64_t n_u = b->n[HEAD_UNLABELLED];
    b->labels = memory_zeroed((size_t)n_u, sizeof *b->labels);
    CHECK(b->labels, STATUS_NO_MEMORY, "no memory for labels");
    TRY(head_label(b->head, -1, b->labels));
    for (int64_t i = 0; i < n_u; i++)
        b->labels[i] = (struct pseudo_label){.label = (int32_t)(i % b->k),
                                             .confidence = i % 100 < b->kept_per_cent ? 1.0f : 0.0f};
    return head_select(b->head, &(struct head_selection){.weight = {0.1, 0.05, 0.5, 0.9},
                                                         .smoothing = 0.1,
                                                         .tau = 0.5,
                                                         .own = b->labels,
                                                         .other = b->labels});
}

static status_t one_step(void *context) {
    struct heads_bench *b = context;
    return head_step(b->head, NULL);
}

static status_t measure(struct heads_bench *b) {
    double time_s, peak_gflops;
    TRY(select_rows(b));
    TRY(bench_time(&b->bench, one_step, b, &time_s));
    TRY(bench_peak_gflops(&b->bench, b->dtype, &peak_gflops));
    int64_t kept = 0;
    for (int64_t i = 0; i < b->n[HEAD_UNLABELLED]; i++) kept += b->labels[i].confidence > 0;
    const double rows = (double)(b->n[HEAD_SOURCE] + b->n[HEAD_LABELLED] + 2 * kept);
    const double flop = 4.0 * rows * (double)(b->d * b->k);
    printf("%.0f rows of %lld features, %lld classes, %s, %lld threads: %.2f ms a step, %.1f GFLOP/s (%.0f "
           "%% of GEMM 2048^3), median of %d\n",
           rows, (long long)b->d, (long long)b->k, b->dtype == DTYPE_F32 ? "fp32" : "bf16",
           (long long)b->threads, 1e3 * time_s, 1e-9 * flop / time_s, 1e-7 * flop / time_s / peak_gflops,
           b->bench.runs);
    return STATUS_OK;
}

status_t cmd_bench_heads(struct launch_context *context, int argc, char **argv) {
    (void)context;
    argv[0] = (char[]){"bench heads"}; /* what messages call the command */
    const char *precision = "fp32", *device = NULL;
    int64_t runs = 9;
    struct heads_bench b = {.n = {4357, 195, 4170, 4170}, .d = 2048, .k = 65, .kept_per_cent = 100};
    struct comm *alone = NULL;
    const struct argument table[] = {
        {.name = "--source", .number = &b.n[HEAD_SOURCE], .minimum = 1, .maximum = 10000000},
        {.name = "--labelled", .number = &b.n[HEAD_LABELLED], .minimum = 1, .maximum = 10000000},
        {.name = "--unlabelled", .number = &b.n[HEAD_UNLABELLED], .minimum = 1, .maximum = 10000000},
        {.name = "--features", .number = &b.d, .minimum = 1, .maximum = 65536},
        {.name = "--classes", .number = &b.k, .minimum = 2, .maximum = 65536},
        {.name = "--kept", .number = &b.kept_per_cent, .minimum = 0, .maximum = 100},
        {.name = "--precision", .text = &precision},
        {.name = "--device", .text = &device},
        {.name = "--threads", .number = &b.threads, .minimum = 1, .maximum = 256},
        {.name = "--runs", .number = &runs, .minimum = 1, .maximum = 1000},
        {.name = "--cpu-time", .flag = &b.bench.cpu_time},
        {0}};
    status_t status;
    TRY(arguments_parse(argc, argv, table, NULL, 0, NULL));
    b.n[HEAD_STRONG] = b.n[HEAD_UNLABELLED];
    if (b.threads == 0) b.threads = omp_get_max_threads();
    TRY_TO(done, bench_open(&b.bench, device, b.threads, runs));
    TRY_TO(done, bench_precision(&b.bench, precision, &b.dtype));
    TRY_TO(done, comm_start_alone(&alone));
    TRY_TO(done, make_head(&b, alone));
    status = measure(&b);
done:
    free(b.labels);
    head_free(b.head);
    comm_finish(&alone);
    bench_close(&b.bench);
    return status;
}
