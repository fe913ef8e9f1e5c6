// Shards: written and read back; 10,000 random corruptions; wild values behind correct checksums; named
// faults.
// LIMIT 120
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "tests/support/images.h"
#include "common/file.h"
#include "data_shards/shard.h"
#include "data_shards/store.h"

enum { N = 6 };
static char folder[] = "/tmp/shard-XXXXXX";
static char path[64], damaged[64];

static void read_back(void **state) {
    (void)state;
    struct shard *s;
    assert_ok(shard_open(path, &s));
    assert_string_equal(shard_domain(s), "pen");
    assert_int_equal(shard_n_images(s), N);
    assert_int_equal(shard_n_classes(s), TEST_CLASSES);
    assert_string_equal(shard_class_name(s, 4), "four");
    assert_string_equal(shard_id(s, 5), "pen/0/00005.png");
    assert_int_equal(shard_label(s, 4), 4);
    struct shard_buffer buffer = {0};
    struct image image = {0};
    for (size_t i = 0; i < N; i++) {
        size_t n_bytes;
        uint8_t *want = test_png((uint32_t)i + 3000, 20 + (int)(i % 9), 16 + (int)(i % 13), &n_bytes);
        assert_ok(shard_read(s, i, true, &buffer));
        assert_int_equal(buffer.n_bytes, n_bytes);
        assert_memory_equal(buffer.data, want, n_bytes);
        free(want);
        assert_ok(shard_decode(s, i, &buffer, &image));
        assert_int_equal(image.height, 20 + (int)(i % 9));
    }
    image_free(&image);
    free(buffer.data);
    shard_close(s);
}

/* Open, read, decode everything; *hash_out: over all that was found. */
static status_t read_all(const char *from, uint64_t *hash_out) {
    struct shard *s;
    TRY(shard_open(from, &s));
    uint64_t hash = shard_n_images(s);
    struct shard_buffer buffer = {0};
    struct image image = {0};
    status_t status = STATUS_OK;
    for (size_t i = 0; i < shard_n_images(s) && status == STATUS_OK; i++) {
        status = shard_read(s, i, true, &buffer);
        if (status == STATUS_OK) status = shard_decode(s, i, &buffer, &image);
        if (status != STATUS_OK) break;
        hash = XXH3_64bits_withSeed(image.data, image_n_bytes(&image), hash + (uint64_t)shard_label(s, i));
        hash = XXH3_64bits_withSeed(shard_id(s, i), strlen(shard_id(s, i)), hash);
    }
    *hash_out = hash;
    image_free(&image);
    free(buffer.data);
    shard_close(s);
    return status;
}

static void write_file(const char *to, const char *bytes, size_t n) {
    unlink(to); /* truncating a file makes some file systems flush it */
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

/* A seal lies behind the HDF5 data: its offset is the third last word. */
static size_t without_seal(const char *bytes, size_t n) {
    uint64_t begin;
    memcpy(&begin, bytes + n - 24, sizeof begin);
    return (size_t)begin;
}

/* n_corruptions of our own file, or of one without a seal, as other programs write it: there a change of a
 * header may be one that no checksum covers (a class's name), so that only crashes and faults without a
 * file's name count. */
static void corrupt(int n_corruptions, bool sealed) {
    char *bytes, *copy;
    size_t n;
    int n_unnoticed = 0;
    uint64_t hash = 0, sound = 0;
    assert_ok(read_all(path, &sound));
    assert_ok(file_read_all(path, 1 << 24, &bytes, &n));
    if (!sealed) n = without_seal(bytes, n);
    copy = malloc(n);
    struct rng rng = rng_start((struct rng_key){.seed = 12, .purpose = RNG_TEST});
    for (int i = 0; i < n_corruptions; i++) {
        memcpy(copy, bytes, n);
        size_t length = n;
        const uint32_t kind = rng_below(&rng, 8);
        if (kind == 0) {
            length = rng_below(&rng, (uint32_t)n); /* truncation */
        } else if (kind == 1) {                    /* a wild 64-bit value */
            const uint64_t wild = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
            memcpy(copy + rng_below(&rng, (uint32_t)n - 8), &wild, sizeof wild);
        } else { /* flipped bits */
            for (uint32_t k = 0; k < kind - 1; k++)
                copy[rng_below(&rng, (uint32_t)n)] ^= (char)(1 << rng_below(&rng, 8));
        }
        if (length == n && memcmp(copy, bytes, n) == 0) continue;
        write_file(damaged, copy, length);
        const status_t status = read_all(damaged, &hash);
        if (status == STATUS_OK && (hash == sound || !sealed)) { /* where only the mark of the seal was hit */
            n_unnoticed++;
            continue;
        }
        if (status != STATUS_BAD_DATA) fail_msg("corruption %d: %s", i, status_name(status));
        if (!strstr(status_message(), damaged))
            fail_msg("corruption %d names no file: %s", i, status_message());
    }
    assert_in_range(n_unnoticed, 0, sealed ? 50 : n_corruptions / 2);
    free(copy);
    free(bytes);
}

static void random_corruption(void **state) {
    (void)state;
    corrupt(10000, true);
}

static void random_corruption_without_seal(void **state) {
    (void)state;
    corrupt(3000, false);
}

static void damaged_row_is_named(void **state) {
    (void)state;
    struct store_reader *r;
    assert_ok(store_reader_open(path, &r));
    const struct store_tensor *data = store_reader_find(r, "image/data"),
                              *label = store_reader_find(r, "label");
    char *bytes;
    size_t n;
    uint64_t hash = 0;
    assert_ok(file_read_all(path, 1 << 24, &bytes, &n));
    bytes[data->file_offset + data->n_bytes - 1] ^= 4;
    write_file(damaged, bytes, n);
    assert_fails(read_all(damaged, &hash), STATUS_BAD_DATA, "image/data row 5 (pen/0/00005.png) is damaged");
    bytes[data->file_offset + data->n_bytes - 1] ^= 4;
    bytes[label->file_offset] ^= 4;
    write_file(damaged, bytes, n);
    assert_fails(read_all(damaged, &hash), STATUS_BAD_DATA, "dataset label is damaged");
    free(bytes);
    store_reader_close(r);
}

/* What one shard of two images, "ab" and "c", claims; each case changes a part of it. */
struct claims {
    const char *format, *encoding;
    int64_t version;
    uint64_t n_hash, n_label, offset[3], id_offset[3];
    int32_t label[2];
    const char *words; /* that the error must have */
};

static void write_claims(const struct claims *c) {
    struct store_writer *w;
    assert_ok(store_writer_open(damaged, c->format, c->version, &w));
    assert_ok(store_writer_set_text(w, "domain", "pen"));
    assert_ok(store_writer_set_text(w, "encoding", c->encoding));
    const uint64_t hash[2] = {XXH3_64bits("ab", 2), XXH3_64bits("c", 1)};
    assert_ok(store_writer_put(w, "image/data", STORE_U8, 1, &(uint64_t){3}, "abc"));
    assert_ok(store_writer_put(w, "image/offset", STORE_U64, 1, &(uint64_t){3}, c->offset));
    assert_ok(store_writer_put(w, "image/hash", STORE_U64, 1, &c->n_hash, hash));
    assert_ok(store_writer_put(w, "label", STORE_I32, 1, &c->n_label, c->label));
    assert_ok(store_writer_put(w, "id/data", STORE_U8, 1, &(uint64_t){4}, "x/yz"));
    assert_ok(store_writer_put(w, "id/offset", STORE_U64, 1, &(uint64_t){3}, c->id_offset));
    assert_ok(store_writer_put(w, "class/data", STORE_U8, 1, &(uint64_t){2}, "kl"));
    assert_ok(store_writer_put(w, "class/offset", STORE_U64, 1, &(uint64_t){3}, (uint64_t[]){0, 1, 2}));
    assert_ok(store_writer_commit(w));
}

static void wild_values(void **state) {
    (void)state;
#define FORMAT .format = "marrs-shard", .encoding = "encoded", .version = 1
#define COUNTS .n_hash = 2, .n_label = 2
#define LABELS .label = { 1, -1 }
#define IMAGES .offset = {0, 2, 3}
#define IDS    .id_offset = {0, 3, 4}
    const struct claims cases[] = {
        {FORMAT, COUNTS, LABELS, IMAGES, IDS, .words = NULL},
        {FORMAT, COUNTS, LABELS, IDS, .offset = {1, 2, 3}, .words = "image/offset row 0"},
        {FORMAT, COUNTS, LABELS, IDS, .offset = {0, 4, 3}, .words = "image/offset row 1"},
        {FORMAT, COUNTS, LABELS, IDS, .offset = {0, UINT64_MAX, 3}, .words = "image/offset row 1"},
        {FORMAT, COUNTS, LABELS, IDS, .offset = {0, 2, 1}, .words = "image/offset row 2"},
        {FORMAT, COUNTS, LABELS, IDS, .offset = {0, 2, 2}, .words = "image/offset row 2: ends at 2"},
        {FORMAT, COUNTS, LABELS, IDS, .offset = {0, 2, 1ull << 63}, .words = "image/offset row 2"},
        {FORMAT, COUNTS, LABELS, IMAGES, .id_offset = {0, 5, 4}, .words = "id/offset row 1"},
        {FORMAT, COUNTS, LABELS, IMAGES, .id_offset = {0, 0, 4}, .words = "id/offset row 0: an empty id"},
        {FORMAT, LABELS, IMAGES, IDS, .n_hash = 1, .n_label = 2,
         .words = "image/hash has 1 rows, expected 2"},
        {FORMAT, LABELS, IMAGES, IDS, .n_hash = 2, .n_label = 0, .words = "label has 0 rows, expected 2"},
        {FORMAT, COUNTS, IMAGES, IDS, .label = {0, 2}, .words = "label row 1: class 2"},
        {FORMAT, COUNTS, IMAGES, IDS, .label = {-2, 0}, .words = "label row 0: class -2"},
        {COUNTS, LABELS, IMAGES, IDS, .format = "x", .encoding = "raw", .version = 1,
         .words = "is not a shard"},
        {COUNTS, LABELS, IMAGES, IDS, .format = "marrs-shard", .encoding = "raw", .version = 2,
         .words = "shard version 2"},
        {COUNTS, LABELS, IMAGES, IDS, .format = "marrs-shard", .encoding = "gzip", .version = 1,
         .words = "'gzip'"},
        {COUNTS, LABELS, IMAGES, IDS, .format = "marrs-shard", .encoding = "raw", .version = 1,
         .words = "height, width"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_claims(&cases[i]);
        struct shard *s;
        if (cases[i].words) {
            assert_fails(shard_open(damaged, &s), STATUS_BAD_DATA, cases[i].words);
            continue;
        }
        assert_ok(shard_open(damaged, &s));
        struct shard_buffer buffer = {0};
        assert_ok(shard_read(s, 1, true, &buffer));
        assert_int_equal(buffer.data[0], 'c');
        struct image image = {0};
        assert_fails(shard_decode(s, 1, &buffer, &image), STATUS_BAD_DATA, "row 1 (z)");
        image_free(&image);
        free(buffer.data);
        shard_close(s);
    }
}

static void raw_images(void **state) {
    (void)state;
    uint8_t pixels[2][4 * 3 * 3];
    for (int i = 0; i < 36; i++) pixels[0][i] = (uint8_t)i, pixels[1][i] = (uint8_t)(255 - i);
    struct shard_writer *w;
    const struct shard_description d = {.domain = "pen",
                                        .n_images = 2,
                                        .n_classes = 1,
                                        .ids = (const char *[]){"a", "b"},
                                        .labels = (int32_t[]){0, -1},
                                        .class_names = (const char *[]){"k"},
                                        .raw_height = 4,
                                        .raw_width = 3};
    assert_ok(shard_writer_open(damaged, &d, &w));
    assert_ok(shard_writer_put(w, 1, pixels[1]));
    assert_ok(shard_writer_put(w, 0, pixels[0]));
    assert_ok(shard_writer_commit(w));
    struct shard *s;
    assert_ok(shard_open(damaged, &s));
    assert_true(shard_is_raw(s));
    struct shard_buffer buffer = {0};
    struct image image = {0};
    assert_ok(shard_read(s, 1, true, &buffer));
    assert_ok(shard_decode(s, 1, &buffer, &image));
    assert_int_equal(image.height, 4);
    assert_memory_equal(image.data, pixels[1], 36);
    image_free(&image);
    free(buffer.data);
    shard_close(s);
    /* An unfinished shard never appears. */
    unlink(damaged);
    assert_ok(shard_writer_open(damaged, &d, &w));
    assert_fails(shard_writer_commit(w), STATUS_INTERNAL, "image 0");
    assert_false(file_exists(damaged));
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/a.h5", folder);
    snprintf(damaged, sizeof damaged, "%s/b.h5", folder);
    test_shard(path, "pen", N);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    unlink(damaged);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_back),         cmocka_unit_test(damaged_row_is_named),
        cmocka_unit_test(wild_values),       cmocka_unit_test(raw_images),
        cmocka_unit_test(random_corruption), cmocka_unit_test(random_corruption_without_seal)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
