/* bench model: one network's training step or inference, against what this machine reaches. */
#include "common/memory.h"
#include "launcher/arguments.h"
#include "launcher/bench.h"
#include "models/net.h"
#include "training/optimiser.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { CLASSES = 65 };

struct model_bench {
    struct bench bench;
    const char *model;
    int64_t image, batch;
    enum dtype dtype;
    bool train, recompute, record, json;
    int64_t threads;
    struct net *net;
    struct pass *pass;
    struct optimiser *optimiser;
    int32_t *labels; /* backend memory (N) */
    int64_t n_steps;
};

/* Forward; in training the gradients' zeros before it and cross-entropy behind it. */
static status_t forward(void *context) {
    struct model_bench *b = context;
    const struct ops *ops = b->bench.ops;
    struct backend *be = b->bench.be;
    const struct forward_options options = {.update_statistics = true,
                                            .rng = {.seed = 1, .step = (uint32_t)b->n_steps++}};
    if (b->train) TRY(ops->fill_zero(be, net_grads(b->net), (size_t)net_n_elem(b->net) * sizeof(float)));
    TRY(pass_forward(b->pass, &options));
    if (!b->train) return STATUS_OK;
    const struct cross_entropy loss = {.n = b->batch,
                                       .k = CLASSES,
                                       .smoothing = 0,
                                       .logits = pass_logits(b->pass),
                                       .labels = b->labels,
                                       .scale = 1.0f / (float)b->batch,
                                       .dlogits = pass_dlogits(b->pass)};
    return ops->cross_entropy(be, &loss);
}

/* Inference: forward. Training: forward, cross-entropy, backward, AdamW. */
static status_t one_step(void *context) {
    struct model_bench *b = context;
    TRY(forward(b));
    if (!b->train) return STATUS_OK;
    TRY(pass_backward(b->pass, NULL, NULL));
    return optimiser_step(b->optimiser, 1e-4, NULL, NULL);
}

static status_t only_optimiser(void *context) {
    struct model_bench *b = context;
    return optimiser_step(b->optimiser, 1e-4, NULL, NULL);
}

/* Any pixels and labels. */
static status_t fill_batch(struct model_bench *b) {
    const struct ops *ops = b->bench.ops;
    struct backend *be = b->bench.be;
    const int64_t n_pixels = b->batch * b->image * b->image;
    uint8_t *host = memory_zeroed((size_t)n_pixels, 3);
    int32_t *labels = memory_zeroed((size_t)b->batch, sizeof *labels);
    void *pixels = NULL;
    status_t status;
    CHECK_TO(end, host && labels, STATUS_NO_MEMORY, "no memory for a batch of %lld", (long long)b->batch);
    for (int64_t i = 0; i < 3 * n_pixels; i++) host[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
    for (int64_t i = 0; i < b->batch; i++) labels[i] = (int32_t)(i * 7 % CLASSES);
    TRY_TO(end, ops->alloc(be, (size_t)(3 * n_pixels), &pixels));
    TRY_TO(end, ops->copy_in(be, pixels, host, (size_t)(3 * n_pixels)));
    TRY_TO(end, ops->normalise(be, b->dtype, pass_input(b->pass), pixels, n_pixels));
    TRY_TO(end, ops->alloc(be, (size_t)b->batch * sizeof *labels, (void **)&b->labels));
    TRY_TO(end, ops->copy_in(be, b->labels, labels, (size_t)b->batch * sizeof *labels));
    status = ops->synchronise(be);
end:
    if (pixels) ops->release(be, pixels);
    free(host);
    free(labels);
    return status;
}

static status_t build(struct model_bench *b) {
    struct model_spec spec;
    int32_t side;
    TRY(model_spec_preset(b->model, &spec, &side));
    if (b->image == 0) b->image = side;
    spec.n_classes = b->train ? CLASSES : 0;
    spec.drop_path = spec.dropout = 0; /* as the libraries we compare with create a network */
    TRY(net_new(b->bench.ops, b->bench.be, &spec, (int32_t)b->image, (int32_t)b->image, b->dtype, &b->net));
    TRY(net_init(b->net, 1, 0));
    const struct pass_options options = {.batch = (int32_t)b->batch,
                                         .height = (int32_t)b->image,
                                         .width = (int32_t)b->image,
                                         .mode = b->train ? PASS_TRAIN : PASS_INFER,
                                         .recompute = b->recompute,
                                         .record = b->record};
    TRY(pass_new(b->net, &options, &b->pass));
    if (b->train) {
        const struct optimizer_settings settings = {.name = OPTIMIZER_ADAMW,
                                                    .betas = {.n = 2, .items = {0.9, 0.999}},
                                                    .eps = 1e-8,
                                                    .weight_decay = 0.01,
                                                    .layer_decay = 1,
                                                    .backbone_scale = 1};
        TRY(optimiser_new(b->net, &settings, (struct interval){0, net_n_elem(b->net)}, 0, &b->optimiser));
    }
    return fill_batch(b);
}

static double peak_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* One step with every operation waited for, by kind; then the optimiser. */
static status_t print_kinds(struct model_bench *b, double peak_gflops) {
    struct profile_row rows[PROFILE_MAX_ROWS];
    double total_s = 0, optimiser_s = 0;
    if (b->train) TRY(bench_time(&b->bench, only_optimiser, b, &optimiser_s));
    pass_enable_profile(b->pass, true);
    TRY(one_step(b));
    TRY(b->bench.ops->synchronise(b->bench.be));
    const int32_t n = pass_profile(b->pass, rows);
    for (int32_t i = 0; i < n; i++) total_s += rows[i].time_s;
    total_s += optimiser_s;
    for (int32_t i = 0; i < n; i++) {
        const struct profile_row *row = &rows[i];
        printf("  %-20s %-8s %5lld calls %9.2f ms %5.1f %% %8.1f GFLOP/s (%3.0f %% of GEMM) %7.1f GB/s\n",
               row->kind, row->backward ? "backward" : "forward", (long long)row->n_calls, 1e3 * row->time_s,
               100 * row->time_s / total_s, 1e-9 * row->flop / row->time_s,
               1e-7 * row->flop / row->time_s / peak_gflops, 1e-9 * row->n_bytes / row->time_s);
    }
    if (b->train)
        printf("  %-20s %-8s %5d calls %9.2f ms %5.1f %%\n", "adamw", "", 1, 1e3 * optimiser_s,
               100 * optimiser_s / total_s);
    return STATUS_OK;
}

static status_t print_pokes(struct model_bench *b) {
    struct bench_pokes pokes;
    TRY(bench_pokes(&b->bench, b->net, b->pass, forward, b, &pokes));
    printf("backward pokes communication %lld times: each %.3f ms on average, the longest gap %.3f ms, after "
           "%s\n",
           (long long)pokes.n, 1e3 * pokes.mean_s, 1e3 * pokes.longest_s,
           pokes.after ? pokes.after : "its begin");
    return STATUS_OK;
}

static status_t measure(struct model_bench *b) {
    double time_s, peak_gflops;
    TRY(build(b));
    TRY(bench_time(&b->bench, one_step, b, &time_s));
    const double memory_mib = peak_mib(),
                 flop = 2.0 * (double)net_macs(b->net) * (double)b->batch * (b->train ? 3 : 1);
    const char *what = b->train ? "train" : "features", *precision = b->dtype == DTYPE_F32 ? "fp32" : "bf16";
    const double arena_mib = (double)pass_arena_bytes(b->pass) / 1048576,
                 images_per_s = (double)b->batch / time_s;
    if (b->json) {
        printf("{\"what\": \"%s\", \"engine\": \"marrs_dist\", \"model\": \"%s\", \"image\": %lld, "
               "\"batch\": %lld, \"precision\": \"%s\", "
               "\"threads\": %lld, \"images_per_s\": %.3f, \"gflop_per_s\": %.1f, \"peak_mib\": %.0f, "
               "\"arena_mib\": %.1f}\n",
               what, b->model, (long long)b->image, (long long)b->batch, precision, (long long)b->threads,
               images_per_s, 1e-9 * flop / time_s, memory_mib, arena_mib);
        return STATUS_OK;
    }
    TRY(bench_peak_gflops(&b->bench, b->dtype, &peak_gflops));
    printf(
        "%s, %s at %lld, batch %lld, %s: %.3f images/s, %.1f GFLOP/s (%.0f %% of GEMM 2048^3), median of %d\n"
        "peak memory %.0f MiB, of it activations %.1f MiB and parameters with gradients %.1f MiB\n",
        what, b->model, (long long)b->image, (long long)b->batch, precision, images_per_s,
        1e-9 * flop / time_s, 1e-7 * flop / time_s / peak_gflops, b->bench.runs, memory_mib, arena_mib,
        (double)net_n_bytes(b->net, b->train) / 1048576);
    if (b->train && b->bench.ops->set_poke) TRY(print_pokes(b));
    return print_kinds(b, peak_gflops);
}

status_t cmd_bench_model(struct launch_context *context, int argc, char **argv) {
    (void)context;
    argv[0] = (char[]){"bench model"}; /* what messages call the command */
    const char *precision = "fp32", *device = NULL;
    int64_t runs = 5;
    struct model_bench b = {.batch = 8};
    const struct argument table[] = {
        {.name = "--model", .text = &b.model},
        {.name = "--image", .number = &b.image, .minimum = 1, .maximum = 4096},
        {.name = "--batch", .number = &b.batch, .minimum = 1, .maximum = 65536},
        {.name = "--precision", .text = &precision},
        {.name = "--device", .text = &device},
        {.name = "--train", .flag = &b.train},
        {.name = "--recompute", .flag = &b.recompute},
        {.name = "--graph", .flag = &b.record},
        {.name = "--autotune", .flag = &b.bench.autotune},
        {.name = "--threads", .number = &b.threads, .minimum = 1, .maximum = 4096},
        {.name = "--runs", .number = &runs, .minimum = 1, .maximum = 1000},
        {.name = "--cpu-time", .flag = &b.bench.cpu_time},
        {.name = "--json", .flag = &b.json},
        {0}};
    TRY(arguments_parse(argc, argv, table, NULL, 0, NULL));
    CHECK(b.model, STATUS_USAGE, "bench model: --model NAME is wanted, as in --model convnext_tiny");
    if (b.threads == 0) b.threads = omp_get_max_threads();
    status_t status;
    TRY_TO(done, bench_open(&b.bench, device, b.threads, runs));
    TRY_TO(done, bench_precision(&b.bench, precision, &b.dtype));
    status = measure(&b);
done:
    optimiser_free(b.optimiser);
    if (b.labels) b.bench.ops->release(b.bench.be, b.labels);
    pass_free(b.pass);
    net_free(b.net);
    bench_close(&b.bench);
    return status;
}
