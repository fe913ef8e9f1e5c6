/* marrs_dist bench data [SHARD...]: how fast images come, stage by stage. */
#include "launcher/cmd_data.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "data_shards/crew.h"
#include "data_shards/loader.h"
#include "data_shards/shard_set.h"
#include "data_shards/view.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <string.h>
#include <unistd.h>

enum { LOADER_THREADS = 2, LOADER_STEPS = 30, CONSUMER_MS = 100 };
enum { MAX_SAMPLE = 128, TRIAL = 32, READ_CHUNK = 1 << 20 };

/* One image at every stage. */
struct sample {
    uint32_t index;
    struct shard_buffer bytes;
    struct image decoded, resized;
};

struct scratch {
    struct image_source source;
    struct shard_buffer bytes;
    struct image image, resized;
    struct view_workspace views;
    float *normalised;
};

struct data_bench {
    struct shard_set *set;
    int32_t size, batch;
    int n_threads;
    double seconds;
    struct sample samples[MAX_SAMPLE];
    int64_t n_samples;
    struct scratch *scratch; /* [n_threads] */
    struct view_spec plain, strong;
};

static struct view_key key_of(int64_t i, uint32_t image) {
    return (struct view_key){.seed = 1, .peer = 255, .step = (uint32_t)i, .image = image};
}

/* ---- stages: one image each ---------------------------------------------------------------------------- */
static status_t stage_read(void *context, int64_t i, int thread) {
    struct data_bench *b = context;
    size_t row;
    const uint32_t index = (uint32_t)((uint64_t)i % shard_set_n_images(b->set));
    const struct shard *shard = shard_set_locate(b->set, index, &row);
    return shard_read(shard, row, true, &b->scratch[thread].bytes);
}

static status_t stage_decode(void *context, int64_t i, int thread) {
    struct data_bench *b = context;
    const struct sample *s = &b->samples[i % b->n_samples];
    size_t row;
    const struct shard *shard = shard_set_locate(b->set, s->index, &row);
    return shard_decode(shard, row, &s->bytes, &b->scratch[thread].image);
}

static status_t stage_resize(void *context, int64_t i, int thread) {
    struct data_bench *b = context;
    const struct sample *s = &b->samples[i % b->n_samples];
    const struct view_key key = key_of(i, s->index);
    return view_apply(&b->scratch[thread].views, &b->plain, &key, &s->decoded, &b->scratch[thread].resized);
}

static status_t stage_augment(void *context, int64_t i, int thread) {
    struct data_bench *b = context;
    const struct sample *s = &b->samples[i % b->n_samples];
    const struct view_key key = key_of(i, s->index);
    return view_apply(&b->scratch[thread].views, &b->strong, &key, &s->resized, &b->scratch[thread].image);
}

static status_t stage_normalise(void *context, int64_t i, int thread) {
    struct data_bench *b = context;
    normalise_f32(&b->samples[i % b->n_samples].resized, b->scratch[thread].normalised);
    return STATUS_OK;
}

/* Read, decode, resize, augment, normalise: the strong view as training gets it. */
static status_t stage_whole(void *context, int64_t i, int thread) {
    struct data_bench *b = context;
    struct scratch *s = &b->scratch[thread];
    const uint32_t index = (uint32_t)((uint64_t)i % shard_set_n_images(b->set));
    const struct image *image;
    const struct view_key key = key_of(i, index);
    TRY(shard_set_image(b->set, index, true, &s->source, &image));
    TRY(view_apply(&s->views, &b->strong, &key, image, &s->resized));
    normalise_f32(&s->resized, s->normalised);
    return STATUS_OK;
}

/* ---- measuring ----------------------------------------------------------------------------------------- */
/* Images a second: a trial tells how many fit the time. */
static status_t rate(struct data_bench *b, status_t (*stage)(void *, int64_t, int), int n_threads,
                     double *out) {
    double start_s = clock_now_s();
    TRY(crew_run(n_threads, TRIAL, stage, b));
    const double trial_s = clock_now_s() - start_s;
    int64_t n = (int64_t)(b->seconds / (trial_s > 1e-6 ? trial_s : 1e-6) * TRIAL);
    if (n < TRIAL) n = TRIAL;
    start_s = clock_now_s();
    TRY(crew_run(n_threads, n, stage, b));
    *out = (double)n / (clock_now_s() - start_s);
    return STATUS_OK;
}

/* Bytes a second of reading every file of the set from its beginning to its end, and of reading its images in
 * order; each twice, the first time only to bring all into the page cache. */
static status_t read_files(const struct data_bench *b, double *mb_per_s) {
    char *buffer = malloc(READ_CHUNK);
    CHECK(buffer, STATUS_NO_MEMORY, "out of memory");
    status_t status = STATUS_OK;
    for (int round = 0; round < 2 && status == STATUS_OK; round++) {
        uint64_t n_bytes = 0;
        const double start_s = clock_now_s();
        for (size_t i = 0; i < shard_set_n_shards(b->set); i++) {
            const char *path = shard_path(shard_set_shard(b->set, i));
            const int fd = open(path, O_RDONLY | O_CLOEXEC);
            CHECK_TO(done, fd >= 0, STATUS_IO, "cannot open %s", path);
            for (ssize_t n; (n = read(fd, buffer, READ_CHUNK)) > 0;) n_bytes += (uint64_t)n;
            close(fd);
        }
        *mb_per_s = 1e-6 * (double)n_bytes / (clock_now_s() - start_s);
    }
done:
    free(buffer);
    return status;
}

static status_t read_images(struct data_bench *b, bool verify, double *mb_per_s) {
    for (int round = 0; round < 2; round++) {
        uint64_t n_bytes = 0;
        const double start_s = clock_now_s();
        for (size_t s = 0; s < shard_set_n_shards(b->set); s++) {
            const struct shard *shard = shard_set_shard(b->set, s);
            for (size_t i = 0; i < shard_n_images(shard); i++) {
                TRY(shard_read(shard, i, verify, &b->scratch[0].bytes));
                n_bytes += b->scratch[0].bytes.n_bytes;
            }
        }
        *mb_per_s = 1e-6 * (double)n_bytes / (clock_now_s() - start_s);
    }
    return STATUS_OK;
}

/* Images evenly spread over the set, kept in memory at every stage. */
static status_t take_samples(struct data_bench *b) {
    const size_t n = shard_set_n_images(b->set);
    CHECK(n > 0, STATUS_BAD_DATA, "the shards hold no images");
    b->n_samples = n < MAX_SAMPLE ? (int64_t)n : MAX_SAMPLE;
    for (int64_t i = 0; i < b->n_samples; i++) {
        struct sample *s = &b->samples[i];
        size_t row;
        s->index = (uint32_t)((uint64_t)i * n / (uint64_t)b->n_samples);
        const struct shard *shard = shard_set_locate(b->set, s->index, &row);
        const struct view_key key = key_of(i, s->index);
        TRY(shard_read(shard, row, true, &s->bytes));
        TRY(shard_decode(shard, row, &s->bytes, &s->decoded));
        TRY(view_apply(&b->scratch[0].views, &b->plain, &key, &s->decoded, &s->resized));
    }
    return STATUS_OK;
}

static status_t measure(struct data_bench *b) {
    static const struct {
        const char *name;
        status_t (*run)(void *, int64_t, int);
    } stages[] = {{"read, verify", stage_read}, {"decode", stage_decode},       {"resize", stage_resize},
                  {"augment", stage_augment},   {"normalise", stage_normalise}, {"whole path", stage_whole}};
    double files = 0, images = 0, verified = 0;
    TRY(take_samples(b));
    TRY(read_files(b, &files));
    TRY(read_images(b, false, &images));
    TRY(read_images(b, true, &verified));
    printf("reading in order, page cache: files %.0f MB/s, images %.0f MB/s, images with checksums %.0f "
           "MB/s\n\n",
           files, images, verified);
    printf("%-14s %16s %13s %d thread%s\n", "images/s", "1 thread", "", b->n_threads,
           b->n_threads == 1 ? "" : "s");
    for (size_t i = 0; i < ARRAY_LENGTH(stages); i++) {
        double one = 0, all = 0;
        TRY(rate(b, stages[i].run, 1, &one));
        TRY(rate(b, stages[i].run, b->n_threads, &all));
        printf("%-14s %16.0f %22.0f\n", stages[i].name, one, all);
    }
    return STATUS_OK;
}

/* The wait of a consumer that takes CONSUMER_MS a batch, as a training step does. The first batch, for which
 * every consumer must wait, is not counted. */
static status_t measure_wait(struct data_bench *b) {
    struct split split = {0};
    struct loader *loader = NULL;
    struct loader_batch *batch;
    TRY(split_all(b->set, &split));
    const struct loader_stream stream = {
        .split = &split, .mode = SAMPLER_EPOCHS, .batch = (uint32_t)b->batch};
    const struct loader_part part = {.view = b->strong, .peer = 255, .n_parts = 1};
    const struct loader_config config = {.streams = &stream,
                                         .n_streams = 1,
                                         .parts = &part,
                                         .n_parts = 1,
                                         .seed = 1,
                                         .end_step = LOADER_STEPS + 1,
                                         .fixed_view_step = -1,
                                         .n_threads = LOADER_THREADS,
                                         .n_ahead = 4,
                                         .verify = true};
    status_t status;
    double wait_s = 0, start_s = 0;
    TRY_TO(done, loader_open(&config, &loader));
    for (int step = 0; step <= LOADER_STEPS; step++) {
        TRY_TO(done, loader_next(loader, &batch));
        if (step == 0)
            start_s = clock_now_s();
        else
            wait_s += batch->wait_s;
        nanosleep(&(struct timespec){.tv_nsec = CONSUMER_MS * 1000000L}, NULL);
        loader_release(loader, batch);
    }
    printf("\nloader, %d threads, batch %d, consumer of %d ms a batch: waits %.2f %% of the time\n",
           LOADER_THREADS, b->batch, CONSUMER_MS, 100 * wait_s / (clock_now_s() - start_s));
done:
    loader_close(loader);
    split_free(&split);
    return status;
}

static status_t prepare(struct data_bench *b) {
    b->plain = view_spec_default(VIEW_NONE, b->size);
    b->strong = view_spec_default(VIEW_STRONG, b->size);
    b->scratch = memory_zeroed((size_t)b->n_threads, sizeof *b->scratch);
    CHECK(b->scratch, STATUS_NO_MEMORY, "out of memory for %d threads", b->n_threads);
    for (int t = 0; t < b->n_threads; t++) {
        b->scratch[t].normalised = memory_aligned(3 * sizeof(float) * (size_t)b->size * (size_t)b->size);
        CHECK(b->scratch[t].normalised, STATUS_NO_MEMORY, "out of memory for %d threads", b->n_threads);
    }
    return STATUS_OK;
}

static void release(struct data_bench *b) {
    for (int t = 0; b->scratch && t < b->n_threads; t++) {
        image_source_free(&b->scratch[t].source);
        free(b->scratch[t].bytes.data);
        image_free(&b->scratch[t].image);
        image_free(&b->scratch[t].resized);
        view_workspace_free(&b->scratch[t].views);
        free(b->scratch[t].normalised);
    }
    for (int64_t i = 0; i < b->n_samples; i++) {
        free(b->samples[i].bytes.data);
        image_free(&b->samples[i].decoded);
        image_free(&b->samples[i].resized);
    }
    free(b->scratch);
    shard_set_close(b->set);
}

/* Options into the bench, other words into shards[]. */
static status_t parse(int argc, char **argv, struct data_bench *b, const char **shards, size_t *n_shards) {
    static const char *const known[] = {"--size", "--batch", "--threads", "--seconds", NULL};
    int64_t number = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--size") == 0) {
            TRY(option_integer(argc, argv, i++, 1, VIEW_MAX_SIDE, &number));
            b->size = (int32_t)number;
        } else if (strcmp(argv[i], "--batch") == 0) {
            TRY(option_integer(argc, argv, i++, 1, 65536, &number));
            b->batch = (int32_t)number;
        } else if (strcmp(argv[i], "--threads") == 0) {
            TRY(option_integer(argc, argv, i++, 1, 1024, &number));
            b->n_threads = (int)number;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            TRY(option_integer(argc, argv, i++, 1, 3600, &number));
            b->seconds = (double)number;
        } else if (strncmp(argv[i], "--", 2) == 0) {
            return command_unknown_option("bench data", argv[i], known);
        } else {
            shards[(*n_shards)++] = argv[i];
        }
    }
    return STATUS_OK;
}

status_t cmd_bench_data(struct launch_context *context, int argc, char **argv) {
    static const char *const fallback[] = {"data/digits/*.h5"};
    struct data_bench b = {
        .size = 384, .batch = 16, .n_threads = data_default_threads(context), .seconds = 1};
    const char **shards = memory_zeroed((size_t)argc, sizeof *shards);
    CHECK(shards, STATUS_NO_MEMORY, "out of memory");
    size_t n_shards = 0;
    status_t status;
    TRY_TO(done, parse(argc, argv, &b, shards, &n_shards));
    if (context->rank != 0) goto done;
    TRY_TO(done, shard_set_open(NULL, n_shards ? shards : fallback, n_shards ? n_shards : 1, 0, &b.set));
    TRY_TO(done, prepare(&b));
    printf("%zu images in %zu shard%s, views of %dx%d\n", shard_set_n_images(b.set),
           shard_set_n_shards(b.set), shard_set_n_shards(b.set) == 1 ? "" : "s", b.size, b.size);
    TRY_TO(done, measure(&b));
    status = measure_wait(&b);
done:
    release(&b);
    free(shards);
    return status;
}
