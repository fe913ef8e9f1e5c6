// Stores: what is written is read back; partial rows; replacement; damage at random offsets is found and
// named.
// LIMIT 60
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include "tests/support/test.h"
#include "common/file.h"
#include "common/rng.h"
#include "data_shards/store.h"

static char folder[] = "/tmp/store-XXXXXX";
static char path[64], damaged[64];

enum { ROWS = 3000, COLUMNS = 257 };
static float big[ROWS * COLUMNS];

static void write_store(const char *to) {
    struct store_writer *w;
    assert_ok(store_writer_open(to, "marrs-test", 3, &w));
    assert_ok(store_writer_set_text(w, "note", "grüß dich"));
    assert_ok(store_writer_set_text(w, "empty", ""));
    assert_ok(store_writer_set_integer(w, "step", -7));
    assert_ok(store_writer_set_number(w, "tau", 0.85));
    const uint64_t shape[2] = {ROWS, COLUMNS};
    assert_ok(store_writer_begin(w, "group/big", STORE_F32, 2, shape));
    for (int i = 0; i < ROWS; i += 500)
        assert_ok(store_writer_append(w, big + i * COLUMNS, 500 * COLUMNS * sizeof(float)));
    const uint64_t five = 5, none = 0;
    assert_ok(store_writer_put(w, "group/deep/labels", STORE_I32, 1, &five, (int32_t[]){1, -1, 2, 3, 4}));
    assert_ok(store_writer_put(w, "half", STORE_BF16, 1, &five, (uint16_t[]){1, 2, 3, 4, 5}));
    assert_ok(store_writer_put(w, "empty", STORE_U8, 1, &none, NULL));
    assert_ok(store_writer_put(w, "scalar", STORE_U64, 0, NULL, &(uint64_t){99}));
    assert_ok(store_writer_commit(w));
}

static void read_back(void **state) {
    (void)state;
    struct store_reader *r;
    assert_ok(store_reader_open(path, &r));
    assert_true(store_reader_sealed(r));
    assert_string_equal(store_reader_format(r), "marrs-test");
    assert_string_equal(store_reader_text(r, "note"), "grüß dich");
    assert_string_equal(store_reader_text(r, "empty"), "");
    int64_t step = 0;
    double tau = 0;
    assert_true(store_reader_integer(r, "step", &step) && step == -7);
    assert_true(store_reader_number(r, "tau", &tau) && tau == 0.85);
    assert_false(store_reader_integer(r, "tau", &step));
    assert_null(store_reader_text(r, "absent"));
    assert_int_equal(store_reader_n_tensors(r), 5);

    const struct store_tensor *t = store_reader_find(r, "group/big");
    float *all = malloc(sizeof big);
    assert_non_null(t);
    assert_ok(store_reader_read(r, t, all));
    assert_memory_equal(all, big, sizeof big);
    const uint64_t ranges[][2] = {{0, 1}, {1019, 4}, {1020, 1020}, {2999, 1}, {7, 2993}, {3000, 0}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        memset(all, 0, sizeof big);
        assert_ok(store_reader_read_rows(r, t, ranges[i][0], ranges[i][1], all));
        assert_memory_equal(all, big + ranges[i][0] * COLUMNS, ranges[i][1] * COLUMNS * sizeof(float));
    }
    assert_fails(store_reader_read_rows(r, t, 2999, 2, all), STATUS_USAGE, "rows 2999 to 3001");
    free(all);

    uint16_t half[5];
    assert_ok(store_reader_require(r, "half", STORE_BF16, 1, &(uint64_t){5}, &t));
    assert_ok(store_reader_read(r, t, half));
    assert_int_equal(half[4], 5);
    uint64_t scalar;
    assert_ok(store_reader_require(r, "scalar", STORE_U64, 0, NULL, &t));
    assert_ok(store_reader_read(r, t, &scalar));
    assert_int_equal(scalar, 99);
    assert_fails(store_reader_require(r, "half", STORE_F32, 1, &(uint64_t){5}, &t), STATUS_BAD_DATA,
                 "is bf16, expected f32");
    assert_fails(store_reader_require(r, "half", STORE_BF16, 1, &(uint64_t){6}, &t), STATUS_BAD_DATA,
                 "(5), expected (6)");
    assert_fails(store_reader_require(r, "x", STORE_F32, 0, NULL, &t), STATUS_BAD_DATA, "x is missing");
    store_reader_close(r);
}

static void refusals(void **state) {
    (void)state;
    struct store_reader *r;
    assert_fails(store_reader_open("/nonexistent/a.h5", &r), STATUS_MISSING, "/nonexistent/a.h5");
    assert_fails(store_reader_open("/tmp", &r), STATUS_BAD_DATA, "not a file");
    assert_ok(file_write_atomic(damaged, "hello", 5));
    assert_fails(store_reader_open(damaged, &r), STATUS_BAD_DATA, "not a readable HDF5 file");
    struct store_writer *w;
    assert_ok(store_writer_open(damaged, "marrs-test", 1, &w));
    assert_ok(store_writer_begin(w, "t", STORE_F32, 1, &(uint64_t){4}));
    assert_ok(store_writer_append(w, big, 12));
    assert_fails(store_writer_append(w, big, 8), STATUS_INTERNAL, "more bytes");
    assert_fails(store_writer_commit(w), STATUS_INTERNAL, "12 of its 16");
    char *text;
    size_t n;
    assert_ok(file_read_all(damaged, 100, &text, &n)); /* the old file stays */
    assert_int_equal(n, 5);
    free(text);
}

/* Opens and verifies everything; the status of the first failure. */
static status_t read_all(const char *from) {
    struct store_reader *r;
    TRY(store_reader_open(from, &r));
    status_t status = STATUS_OK;
    for (size_t i = 0; i < store_reader_n_tensors(r) && status == STATUS_OK; i++) {
        const struct store_tensor *t = store_reader_tensor(r, i);
        void *data = malloc(t->n_bytes + 1);
        status = store_reader_read(r, t, data);
        free(data);
    }
    store_reader_close(r);
    return status;
}

static void damage_is_found(void **state) {
    (void)state;
    char *bytes;
    size_t n;
    assert_ok(file_read_all(path, 1 << 24, &bytes, &n));
    struct rng rng = rng_start((struct rng_key){.seed = 11, .purpose = RNG_TEST});
    for (int i = 0; i < 600; i++) {
        /* Half of the flips hit the last 16 KiB or the first 2: headers, attributes, seal. */
        const size_t at = i % 4 == 0   ? rng_below(&rng, 2048)
                          : i % 4 == 1 ? n - 1 - rng_below(&rng, 16384)
                                       : rng_below(&rng, (uint32_t)n);
        const char flip = (char)(1 << rng_below(&rng, 8));
        bytes[at] ^= flip;
        const size_t length = i % 10 == 9 ? rng_below(&rng, (uint32_t)n) : n;
        unlink(damaged); /* truncating a file makes some file systems flush it */
        FILE *f = fopen(damaged, "wb");
        assert_int_equal(fwrite(bytes, 1, length, f), length);
        fclose(f);
        const status_t status = read_all(damaged);
        if (status != STATUS_BAD_DATA) fail_msg("flip at %zu of %zu: %s", at, n, status_name(status));
        assert_non_null(strstr(status_message(), damaged));
        bytes[at] ^= flip;
    }
    free(bytes);
    /* One wrong byte in a row names dataset and rows. */
    write_store(damaged);
    struct store_reader *r;
    assert_ok(store_reader_open(damaged, &r));
    const struct store_tensor *t = store_reader_find(r, "group/big");
    FILE *f = fopen(damaged, "r+b");
    fseek(f, (long)t->file_offset + 2000 * COLUMNS * 4, SEEK_SET);
    fputc(0xff, f);
    fclose(f);
    float row[COLUMNS];
    assert_ok(store_reader_read_rows(r, t, 0, 1, row));
    assert_fails(store_reader_read_rows(r, t, 2000, 1, row), STATUS_BAD_DATA,
                 "dataset group/big is damaged: rows 1");
    assert_fails(store_reader_verify(r, t, NULL), STATUS_BAD_DATA, "group/big");
    store_reader_close(r);
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/a.h5", folder);
    snprintf(damaged, sizeof damaged, "%s/b.h5", folder);
    for (int i = 0; i < ROWS * COLUMNS; i++) big[i] = (float)i;
    write_store(path);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    unlink(damaged);
    return rmdir(folder); /* fails when a temporary file was left */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(read_back), cmocka_unit_test(refusals),
                                       cmocka_unit_test(damage_is_found)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
