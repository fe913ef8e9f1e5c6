// Loader: the same images, views and pixels on 1, 2, 3, 4 and 8 ranks, any number of threads, with and
// without cache, and after a resume; epochs without replacement; damaged images come back as errors; stops at
// any time.
// LIMIT 120
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include "tests/support/images.h"
#include "common/interval.h"
#include "data_shards/loader.h"
#include "data_shards/store.h"

enum { N_SOURCE = 57, N_TARGET = 40, N_LABELLED = 7, S = 24 };
static char folder[] = "/tmp/loader-XXXXXX";
static char source_path[64], target_path[64], broken_path[64];
static struct shard_set *source, *target;
static struct split source_split, target_split, labelled_split;

/* The co-training set-up: own views of two peers, and one strong view. */
static const struct loader_stream *streams(void) {
    static struct loader_stream s[3];
    s[0] = (struct loader_stream){.split = &source_split, .mode = SAMPLER_EPOCHS, .batch = 13, .id = 0};
    s[1] = (struct loader_stream){.split = &labelled_split, .mode = SAMPLER_EPOCHS, .batch = 5, .id = 1};
    s[2] = (struct loader_stream){.split = &target_split, .mode = SAMPLER_EPOCHS, .batch = 11, .id = 2};
    return s;
}

enum { N_PARTS = 6 };

static void make_parts(struct loader_part parts[N_PARTS], int64_t part, int64_t n_parts) {
    const struct {
        int stream;
        enum view_kind kind;
    } what[N_PARTS] = {{0, VIEW_PERSPECTIVE}, {1, VIEW_NONE},          {2, VIEW_STRONG},
                       {2, VIEW_NONE},        {2, VIEW_STUDENT_TRAIN}, {2, VIEW_STRONG}};
    for (int i = 0; i < N_PARTS; i++)
        parts[i] = (struct loader_part){.stream = what[i].stream,
                                        .view = view_spec_default(what[i].kind, S),
                                        .peer = i == 5 ? 0 : 1,
                                        .part = part,
                                        .n_parts = n_parts};
}

static struct loader *start(int64_t part, int64_t n_parts, int64_t first_step, int n_threads,
                            enum loader_type type) {
    struct loader_part parts[N_PARTS];
    make_parts(parts, part, n_parts);
    struct loader *loader;
    assert_ok(loader_open(&(struct loader_config){.streams = streams(),
                                                  .n_streams = 3,
                                                  .parts = parts,
                                                  .n_parts = N_PARTS,
                                                  .seed = 5,
                                                  .stage = 2,
                                                  .first_step = first_step,
                                                  .end_step = 12,
                                                  .fixed_view_step = -1,
                                                  .type = type,
                                                  .n_threads = n_threads,
                                                  .n_ahead = 3,
                                                  .verify = true},
                          &loader));
    return loader;
}

/* Order-independent sum over (part, position, image, label, pixels) of one step. */
static uint64_t batch_hash(const struct loader_batch *batch, size_t element_bytes) {
    uint64_t sum = 0;
    for (int p = 0; p < batch->n_parts; p++) {
        const struct loader_output *o = &batch->parts[p];
        const size_t n_bytes = (size_t)(3 * o->size * o->size) * element_bytes;
        for (int64_t i = 0; i < o->n; i++) {
            const uint64_t key[4] = {(uint64_t)p, (uint64_t)(o->first + i), o->images[i],
                                     (uint64_t)o->labels[i]};
            const uint64_t pixels = XXH3_64bits((const char *)o->pixels + (size_t)i * n_bytes, n_bytes);
            sum += XXH3_64bits_withSeed(key, sizeof key, pixels);
        }
    }
    return sum;
}

static void add_hashes(uint64_t hashes[12], int64_t part, int64_t n_parts, int64_t first, int n_threads) {
    struct loader *loader = start(part, n_parts, first, n_threads, LOADER_F32);
    struct loader_batch *batch;
    for (int64_t step = first; step < 12; step++) {
        assert_ok(loader_next(loader, &batch));
        assert_int_equal(batch->step, step);
        hashes[step] += batch_hash(batch, 4);
        loader_release(loader, batch);
    }
    assert_ok(loader_next(loader, &batch));
    assert_null(batch);
    loader_close(loader);
}

static void ranks_threads_and_resume_change_nothing(void **state) {
    (void)state;
    uint64_t want[12] = {0};
    add_hashes(want, 0, 1, 0, 1);
    for (int i = 1; i < 12; i++) assert_true(want[i] != want[i - 1]);
    const int ranks[] = {1, 2, 3, 4, 8, 16};
    for (int k = 0; k < 6; k++) {
        uint64_t got[12] = {0};
        for (int r = 0; r < ranks[k]; r++) add_hashes(got, r, ranks[k], 0, 1 + (k + r) % 4);
        assert_memory_equal(got, want, sizeof want);
    }
    uint64_t resumed[12] = {0};
    add_hashes(resumed, 0, 1, 7, 3);
    assert_memory_equal(resumed + 7, want + 7, 5 * sizeof *want);
}

/* Every image once an epoch; each position holds what interval_part says. */
static void epochs_without_replacement(void **state) {
    (void)state;
    struct loader *loader = start(0, 1, 0, 2, LOADER_F32);
    int counts[N_SOURCE] = {0}, labelled[N_TARGET] = {0};
    for (int step = 0; step < 12; step++) {
        struct loader_batch *batch;
        assert_ok(loader_next(loader, &batch));
        for (int i = 0; i < 13; i++) {
            const int position = step * 13 + i;
            const uint32_t image = batch->parts[0].images[i];
            counts[image]++;
            assert_int_equal(batch->parts[0].labels[i], (int)(image % TEST_CLASSES));
            assert_int_equal(counts[image], position / N_SOURCE + 1);
        }
        for (int i = 0; i < 5; i++) labelled[batch->parts[1].images[i] - N_SOURCE]++;
        assert_memory_equal(batch->parts[2].images, batch->parts[3].images, 11 * sizeof(uint32_t));
        /* one strong view for all peers */
        assert_memory_equal(batch->parts[2].pixels, batch->parts[5].pixels, 11 * 3 * S * S * sizeof(float));
        loader_release(loader, batch);
    }
    loader_close(loader);
    /* 60 draws of 7 images: 8 epochs and 4 */
    for (size_t i = 0; i < N_LABELLED; i++)
        assert_in_range(labelled[labelled_split.index[i] - N_SOURCE], 8, 9);
}

static void drop_last_and_in_order(void **state) {
    (void)state;
    struct sampler s;
    uint32_t items[10], seen[7] = {0};
    assert_ok(sampler_init(&s, SAMPLER_DROP_LAST, "x", 7, 3, 1, 1, 0));
    for (int step = 0; step < 6; step++) {
        assert_ok(sampler_items(&s, step, 0, 3, items));
        if (step % 2 == 0) memset(seen, 0, sizeof seen);
        for (int i = 0; i < 3; i++) assert_int_equal(seen[items[i]]++, 0);
    }
    sampler_free(&s);
    assert_ok(sampler_init(&s, SAMPLER_DROP_LAST, "x", 2, 24, 1, 1, 0)); /* fewer images than the batch */
    assert_int_equal(sampler_batch(&s, 3), 2);
    assert_ok(sampler_items(&s, 3, 0, 2, items));
    assert_int_equal(items[0] + items[1], 1);
    sampler_free(&s);
    assert_ok(sampler_init(&s, SAMPLER_IN_ORDER, "x", 7, 3, 1, 1, 0));
    assert_int_equal(sampler_batch(&s, 2), 1);
    assert_int_equal(sampler_batch(&s, 3), 0);
    assert_ok(sampler_items(&s, 2, 0, 1, items));
    assert_int_equal(items[0], 6);
    sampler_free(&s);
    assert_fails(sampler_init(&s, SAMPLER_EPOCHS, "x", 0, 3, 1, 1, 0), STATUS_BAD_CONFIG, "x has no images");
}

/* Rows [a, b) of a split in order, once with the cache and once in bf16. */
static void sequential(void **state) {
    (void)state;
    struct loader_stream stream = {
        .split = &target_split, .mode = SAMPLER_IN_ORDER, .batch = 4, .first_row = 3, .end_row = 13};
    struct loader_part part = {
        .stream = 0, .view = view_spec_default(VIEW_NONE, S), .peer = 255, .part = 0, .n_parts = 1};
    struct loader_config config = {.streams = &stream,
                                   .n_streams = 1,
                                   .parts = &part,
                                   .n_parts = 1,
                                   .end_step = 3,
                                   .type = LOADER_BF16,
                                   .n_threads = 2,
                                   .n_ahead = 2};
    struct loader *loader;
    struct loader_batch *batch;
    struct image_source image_source = {0};
    struct image made = {0};
    struct view_workspace views = {0};
    uint16_t want[3 * S * S];
    assert_ok(loader_open(&config, &loader));
    for (int row = 3; row < 13;) {
        assert_ok(loader_next(loader, &batch));
        assert_int_equal(batch->parts[0].n, row == 11 ? 2 : 4);
        for (int64_t i = 0; i < batch->parts[0].n; i++, row++) {
            const struct image *image;
            assert_int_equal(batch->parts[0].images[i], target_split.index[row]);
            assert_ok(shard_set_image(target, target_split.index[row], true, &image_source, &image));
            assert_ok(view_apply(&views, &part.view, &(struct view_key){0}, image, &made));
            normalise_bf16(&made, want);
            assert_memory_equal((uint16_t *)batch->parts[0].pixels + i * 3 * S * S, want, sizeof want);
        }
        loader_release(loader, batch);
    }
    assert_ok(loader_next(loader, &batch));
    assert_null(batch);
    loader_close(loader);
    image_source_free(&image_source);
    image_free(&made);
    view_workspace_free(&views);
}

/* Bytes, normalised by whoever takes them, are what the loader gives normalised. */
static void bytes_of_every_view(void **state) {
    (void)state;
    struct loader *plain = start(1, 3, 0, 2, LOADER_F32), *raw = start(1, 3, 0, 2, LOADER_U8);
    for (int step = 0; step < 12; step++) {
        struct loader_batch *want, *got;
        assert_ok(loader_next(plain, &want));
        assert_ok(loader_next(raw, &got));
        for (int p = 0; p < N_PARTS; p++) {
            const struct loader_output *w = &want->parts[p], *g = &got->parts[p];
            assert_int_equal(g->n, w->n);
            assert_memory_equal(g->images, w->images, (size_t)g->n * sizeof *g->images);
            for (int64_t i = 0; i < g->n; i++) {
                float pixels[3 * S * S];
                const struct image image = {
                    .data = (uint8_t *)g->pixels + i * 3 * S * S, .height = S, .width = S};
                normalise_f32(&image, pixels);
                assert_memory_equal((float *)w->pixels + i * 3 * S * S, pixels, sizeof pixels);
            }
        }
        loader_release(plain, want);
        loader_release(raw, got);
    }
    loader_close(plain);
    loader_close(raw);
}

static void damaged_image_is_an_error(void **state) {
    (void)state;
    struct shard_set *set;
    struct split split;
    test_shard(broken_path, "broken", 9);
    struct store_reader *r;
    assert_ok(store_reader_open(broken_path, &r));
    const long at = (long)store_reader_find(r, "image/data")->file_offset;
    store_reader_close(r);
    FILE *f = fopen(broken_path, "r+b");
    fseek(f, at + 20, SEEK_SET); /* inside image 0 */
    fputc(0x55, f);
    fclose(f);
    assert_ok(shard_set_open(NULL, (const char *[]){broken_path}, 1, 0, &set));
    assert_ok(split_all(set, &split));
    struct loader_stream stream = {.split = &split, .mode = SAMPLER_IN_ORDER, .batch = 3};
    struct loader_part part = {.view = view_spec_default(VIEW_NONE, S), .part = 0, .n_parts = 1};
    struct loader_config config = {.streams = &stream,
                                   .n_streams = 1,
                                   .parts = &part,
                                   .n_parts = 1,
                                   .end_step = 3,
                                   .n_threads = 3,
                                   .n_ahead = 2,
                                   .verify = true};
    struct loader *loader;
    struct loader_batch *batch;
    assert_ok(loader_open(&config, &loader));
    assert_fails(loader_next(loader, &batch), STATUS_BAD_DATA, "row 0 (broken/0/00000.png) is damaged");
    assert_null(batch);
    assert_ok(loader_next(loader, &batch)); /* the others can still be had */
    assert_int_equal(batch->step, 1);
    loader_close(loader); /* with a batch held */
    split_free(&split);
    shard_set_close(set);
}

static void close_at_any_time(void **state) {
    (void)state;
    for (int i = 0; i < 60; i++) {
        struct loader *loader = start(i % 3, 3, 0, 1 + i % 4, LOADER_BF16);
        struct loader_batch *batch;
        for (int k = 0; k < i % 5; k++) {
            assert_ok(loader_next(loader, &batch));
            if (i % 2) loader_release(loader, batch);
            if (!(i % 2) && k == 1) break; /* two held, the third slot is being filled */
        }
        if (i % 7 == 0) nanosleep(&(struct timespec){.tv_nsec = 100000 * i}, NULL);
        loader_close(loader);
    }
}

static void bad_configurations(void **state) {
    (void)state;
    struct loader_part part = {.view = view_spec_default(VIEW_NONE, S), .part = 0, .n_parts = 1};
    struct loader_config config = {.streams = streams(),
                                   .n_streams = 3,
                                   .parts = &part,
                                   .n_parts = 1,
                                   .end_step = -1,
                                   .n_threads = 1,
                                   .n_ahead = 2};
    struct loader *loader;
    struct loader_config c = config;
    c.n_ahead = 1;
    assert_fails(loader_open(&c, &loader), STATUS_BAD_CONFIG, "1 batches in memory");
    c = config, c.n_threads = 0;
    assert_fails(loader_open(&c, &loader), STATUS_BAD_CONFIG, "0 loader threads");
    c = config, part.stream = 3;
    assert_fails(loader_open(&c, &loader), STATUS_BAD_CONFIG, "no stream 3");
    part.stream = 0, part.view.size = 0;
    assert_fails(loader_open(&c, &loader), STATUS_BAD_CONFIG, "");
}

static void splits(void **state) {
    (void)state;
    struct image_list list;
    struct split split, rest;
    assert_ok(list_parse("l.txt", "tgt/1/00001.png 1\ntgt/2/00002.png -1\n", 36, &list));
    assert_ok(split_resolve(target, &list, &split));
    assert_int_equal(split.index[1], N_SOURCE + 2);
    assert_int_equal(split.label[1], 2);
    list_free(&list);
    assert_ok(split_without(&target_split, &split, &rest));
    assert_int_equal(rest.n, N_TARGET - 2);
    assert_int_equal(rest.index[1], N_SOURCE + 3);
    split_free(&split);
    split_free(&rest);
    assert_ok(list_parse("l.txt", "tgt/1/00001.png 1\nx 1\ny 0\n", 26, &list));
    assert_fails(split_resolve(target, &list, &split), STATUS_BAD_DATA,
                 "l.txt:2: x is in none of the shards (2 of the 3");
    list_free(&list);
    assert_ok(list_parse("l.txt", "tgt/1/00001.png 2\n", 18, &list));
    assert_fails(split_resolve(target, &list, &split), STATUS_BAD_DATA,
                 "l.txt:1: tgt/1/00001.png has class 2 here, but 1 in");
    list_free(&list);
    struct shard_set *set;
    assert_fails(shard_set_open(folder, (const char *[]){"none-*.h5"}, 1, 0, &set), STATUS_MISSING,
                 "none-*.h5");
    assert_fails(shard_set_open(folder, (const char *[]){"src.h5", "s*.h5"}, 2, 0, &set), STATUS_BAD_DATA,
                 "named twice");
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(source_path, sizeof source_path, "%s/src.h5", folder);
    snprintf(target_path, sizeof target_path, "%s/tgt.h5", folder);
    snprintf(broken_path, sizeof broken_path, "%s/broken.h5", folder);
    test_shard(source_path, "src", N_SOURCE);
    test_shard(target_path, "tgt", N_TARGET);
    assert_ok(shard_set_open(folder, (const char *[]){"src.h5"}, 1, 0, &source));
    assert_ok(shard_set_open(folder, (const char *[]){"t*.h5"}, 1, N_SOURCE, &target));
    assert_ok(shard_set_cache(target, 40000)); /* about half of the images */
    assert_ok(split_all(source, &source_split));
    assert_ok(split_all(target, &target_split));
    char text[512] = "";
    for (int i = 0; i < N_LABELLED; i++)
        sprintf(text + strlen(text), "tgt/%d/%05d.png %d\n", i * 3 % 5, i * 3, i * 3 % 5);
    struct image_list list;
    assert_ok(list_parse("labelled.txt", text, strlen(text), &list));
    assert_ok(split_resolve(target, &list, &labelled_split));
    list_free(&list);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    split_free(&source_split);
    split_free(&target_split);
    split_free(&labelled_split);
    shard_set_close(source);
    shard_set_close(target);
    unlink(source_path);
    unlink(target_path);
    unlink(broken_path);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_threads_and_resume_change_nothing),
                                       cmocka_unit_test(epochs_without_replacement),
                                       cmocka_unit_test(drop_last_and_in_order),
                                       cmocka_unit_test(sequential),
                                       cmocka_unit_test(bytes_of_every_view),
                                       cmocka_unit_test(damaged_image_is_an_error),
                                       cmocka_unit_test(close_at_any_time),
                                       cmocka_unit_test(bad_configurations),
                                       cmocka_unit_test(splits)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
