/* bench infer: what an answer costs - each teacher, both together, the student. */
#include "common/memory.h"
#include "launcher/arguments.h"
#include "launcher/bench.h"
#include "launcher/config.h"
#include "models/net.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

enum { CLASSES = 65 };

struct infer_bench {
    struct bench bench;
    int64_t batch, threads;
    enum dtype dtype;
    struct pass *pass;
};

static status_t one_batch(void *context) {
    struct infer_bench *b = context;
    TRY(pass_forward(b->pass, &(struct forward_options){0}));
    return b->bench.ops->synchronise(b->bench.be);
}

/* Seconds an image of one network, weights drawn. */
static status_t time_model(struct infer_bench *b, const struct model_settings *model, int64_t image,
                           double *per_image_s) {
    struct model_spec spec = model->spec, preset;
    struct net *net = NULL;
    int32_t side = (int32_t)image;
    double time_s;
    status_t status;
    if (side == 0) {
        side = 224;
        if (model->preset[0]) TRY(model_spec_preset(model->preset, &preset, &side));
    }
    spec.n_classes = CLASSES;
    TRY_TO(done, net_new(b->bench.ops, b->bench.be, &spec, side, side, b->dtype, &net));
    TRY_TO(done, net_init(net, 1, 0));
    const struct pass_options o = {
        .batch = (int32_t)b->batch, .height = side, .width = side, .mode = PASS_INFER};
    TRY_TO(done, pass_new(net, &o, &b->pass));
    TRY_TO(done, b->bench.ops->fill_zero(b->bench.be, pass_input(b->pass),
                                         (size_t)(b->batch * side * side * 3) * dtype_bytes(b->dtype)));
    TRY_TO(done, bench_time(&b->bench, one_batch, b, &time_s));
    *per_image_s = time_s / (double)b->batch;
done:
    pass_free(b->pass);
    b->pass = NULL;
    net_free(net);
    return status;
}

static void print_row(const char *name, double per_image_s, double student_s) {
    printf("%-16s %10.3f ms/image %10.2f images/s %9.1f x the student\n", name, 1e3 * per_image_s,
           1 / per_image_s, per_image_s / student_s);
}

static status_t measure(struct infer_bench *b, const struct settings *settings) {
    double peers[SETTINGS_MAX_PEERS], student, ensemble = 0;
    for (int32_t p = 0; p < settings->n_peers; p++) {
        TRY(time_model(b, &settings->peers[p].model, settings->peers[p].image, &peers[p]));
        ensemble += peers[p];
    }
    TRY(time_model(b, &settings->distil.student.model, settings->distil.student.image, &student));
    printf("%s, %lld threads, batch %lld, %s, median of %d; random weights, without decoding\n",
           b->bench.device.plugin ? "GPU" : "CPU", (long long)b->threads, (long long)b->batch,
           b->dtype == DTYPE_F32 ? "fp32" : "bf16", b->bench.runs);
    for (int32_t p = 0; p < settings->n_peers; p++) print_row(settings->peers[p].name, peers[p], student);
    print_row("ensemble", ensemble, student);
    print_row("student", student, student);
    return STATUS_OK;
}

status_t cmd_bench_infer(struct launch_context *context, int argc, char **argv) {
    (void)context;
    argv[0] = (char[]){"bench infer"}; /* what messages call the command */
    const char *precision = "fp32", *device = NULL, *config = NULL;
    char *default_path = NULL;
    int n_configs = 0;
    int64_t runs = 5;
    struct infer_bench b = {.batch = 1};
    struct settings settings = {.run = NULL};
    const struct argument table[] = {
        {.name = "--batch", .number = &b.batch, .minimum = 1, .maximum = 65536},
        {.name = "--precision", .text = &precision},
        {.name = "--device", .text = &device},
        {.name = "--threads", .number = &b.threads, .minimum = 1, .maximum = 4096},
        {.name = "--runs", .number = &runs, .minimum = 1, .maximum = 1000},
        {0}};
    status_t status;
    TRY(arguments_parse(argc, argv, table, &config, 1, &n_configs));
    if (n_configs == 0) {
        TRY(config_default_path(&default_path));
        config = default_path;
    }
    TRY_TO(done, config_read(config, &(struct config_overrides){.environment = environ}, &settings));
    if (b.threads == 0) b.threads = omp_get_max_threads();
    b.bench.autotune = settings.cuda.autotune;
    TRY_TO(done, bench_open(&b.bench, device, b.threads, runs));
    TRY_TO(done, bench_precision(&b.bench, precision, &b.dtype));
    status = measure(&b, &settings);
done:
    bench_close(&b.bench);
    settings_free(&settings);
    free(default_path);
    return status;
}
