/* The training path of one image, one thread: decode, resize, RandAugment, normalise, and all of it.
 *
 *     images FOLDER [SIDE] [SECONDS]
 *
 * Of every file in FOLDER, again and again for SECONDS (5) a part, at SIDE (384). Prints images a second of
 * processor time, which a busy machine disturbs less than the clock on the wall. */
#include "common/file.h"
#include "common/memory.h"
#include "common/simd.h"
#include "data_shards/decode.h"
#include "data_shards/view.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_FILES = 256 };

static struct {
    int n;
    char *file[MAX_FILES];
    size_t n_bytes[MAX_FILES];
    struct image decoded[MAX_FILES], resized[MAX_FILES];
    struct view_workspace views;
    struct view_spec spec;
    struct image image, view;
    float *values;
} bench;

static void must(status_t status) {
    if (status == STATUS_OK) return;
    fprintf(stderr, "%s\n", status_message());
    exit(1);
}

static void decode_one(int i, uint32_t step) {
    (void)step;
    must(decode_image((const uint8_t *)bench.file[i], bench.n_bytes[i], &bench.image));
}

static void resize_one(int i, uint32_t step) {
    (void)step;
    must(resize_bicubic(&bench.views.resize, &bench.decoded[i], bench.spec.size, bench.spec.size,
                        &bench.view));
}

/* The strong view of an image that has the size already: a copy and the operations. */
static void augment_one(int i, uint32_t step) {
    const struct view_key key = {.seed = 1, .step = step, .image = (uint32_t)i};
    must(view_apply(&bench.views, &bench.spec, &key, &bench.resized[i], &bench.view));
}

static void normalise_one(int i, uint32_t step) {
    (void)step;
    normalise_f32(&bench.resized[i], bench.values);
}

static void whole_path(int i, uint32_t step) {
    const struct view_key key = {.seed = 1, .step = step, .image = (uint32_t)i};
    decode_one(i, step);
    must(view_apply(&bench.views, &bench.spec, &key, &bench.image, &bench.view));
    normalise_f32(&bench.view, bench.values);
}

static double cpu_now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void measure(const char *name, void (*call)(int i, uint32_t step), double time_s) {
    for (int i = 0; i < bench.n; i++) call(i, 0);
    uint32_t count = 0;
    const double start = cpu_now_s();
    while (cpu_now_s() - start < time_s) {
        call((int)(count % (uint32_t)bench.n), count);
        count++;
    }
    printf("%s\t%.1f\n", name, count / (cpu_now_s() - start));
    fflush(stdout);
}

static void load(const char *folder) {
    struct dirent **entries;
    const int n_entries = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < n_entries && bench.n < MAX_FILES; i++) {
        if (entries[i]->d_name[0] == '.') continue;
        const int k = bench.n++;
        must(
            file_read_all(file_join(folder, entries[i]->d_name), 1 << 26, &bench.file[k], &bench.n_bytes[k]));
        must(decode_image((const uint8_t *)bench.file[k], bench.n_bytes[k], &bench.decoded[k]));
        must(resize_bicubic(&bench.views.resize, &bench.decoded[k], bench.spec.size, bench.spec.size,
                            &bench.resized[k]));
    }
}

int main(int argc, char **argv) {
    const int32_t side = argc > 2 ? atoi(argv[2]) : 384;
    const double time_s = argc > 3 ? atof(argv[3]) : 5;
    bench.spec = view_spec_default(VIEW_STRONG, side);
    bench.values = memory_aligned(3 * (size_t)side * (size_t)side * sizeof(float));
    if (argc < 2 || !bench.values || view_spec_check(&bench.spec) != STATUS_OK) return 64;
    load(argv[1]);
    if (bench.n == 0) return 66;
    measure("decode", decode_one, time_s);
    measure("resize", resize_one, time_s);
    measure("augment", augment_one, time_s);
    measure("normalise", normalise_one, time_s);
    measure("whole", whole_path, time_s);
    return 0;
}
