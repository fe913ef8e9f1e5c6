// Safetensors: all types as the Python package writes them, round trip, and damaged files refused by name.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/rng.h"
#include "models/safetensors.h"

#define TYPES_FILE "tests/golden/weights/types.safetensors"

static void every_type_is_read(void **state) {
    (void)state;
    struct safetensors *file;
    assert_ok(safetensors_open(TYPES_FILE, &file));
    assert_int_equal(safetensors_count(file), 17);
    assert_string_equal(safetensors_metadata(file, "made"), "by Python");
    assert_null(safetensors_metadata(file, "else"));
    static const double exact[6] = {0, 1, -2.5, 3.140625, 65504, 6e-8};
    static const struct {
        const char *name;
        double relative;
    } reals[] = {{"float64", 6e-8}, {"float32", 6e-8}, {"float16", 1e-2}, {"bfloat16", 4e-3}};
    for (size_t i = 0; i < ARRAY_LENGTH(reals); i++) {
        float x[6];
        assert_ok(safetensors_get_f32(file, reals[i].name, 2, (int64_t[]){2, 3}, 6, x));
        for (int j = 0; j < 6; j++) assert_true(fabs(x[j] - exact[j]) <= reals[i].relative * fabs(exact[j]));
        assert_true(x[2] == -2.5f);
    }
    static const char *const whole[] = {"int64", "int32",  "int16",  "int8",
                                        "uint8", "uint16", "uint32", "uint64"};
    for (size_t i = 0; i < ARRAY_LENGTH(whole); i++) {
        int32_t x[5];
        float y[5];
        assert_ok(safetensor_read_i32(file, safetensors_find(file, whole[i]), x));
        assert_ok(safetensor_read_f32(file, safetensors_find(file, whole[i]), y));
        assert_memory_equal(x, ((const int32_t[]){0, 1, 7, 100, 127}), sizeof x);
        assert_true(y[4] == 127);
    }
    int32_t flags[3], scalar;
    assert_ok(safetensor_read_i32(file, safetensors_find(file, "bool"), flags));
    assert_memory_equal(flags, ((const int32_t[]){1, 0, 1}), sizeof flags);
    assert_ok(safetensor_read_i32(file, safetensors_find(file, "scalar"), &scalar));
    assert_int_equal(scalar, 42);
    float special[4];
    assert_ok(safetensors_get_f32(file, "special", 1, (int64_t[]){4}, 4, special));
    assert_true(isinf(special[0]) && special[0] > 0 && isinf(special[1]) && special[1] < 0 &&
                isnan(special[2]));
    assert_true(special[3] == 0 && signbit(special[3]));
    assert_int_equal(safetensors_find(file, "empty")->n_elem, 0);
    assert_fails(safetensor_read_i32(file, safetensors_find(file, "too_large"), &scalar), STATUS_BAD_DATA,
                 "too_large");
    assert_fails(safetensor_read_i32(file, safetensors_find(file, "float32"), flags), STATUS_BAD_DATA,
                 "float32");
    assert_fails(safetensors_get_f32(file, "float32", 2, (int64_t[]){3, 2}, 6, special), STATUS_BAD_DATA,
                 "shape");
    assert_fails(safetensors_get_f32(file, "none", 1, (int64_t[]){3}, 3, special), STATUS_BAD_DATA, "none");
    safetensors_close(file);
}

static const struct safetensors_entry entries[] = {
    {"b.bias", TENSOR_F32, 1, {3}},   {"labels", TENSOR_I32, 1, {2}}, {"a.weight", TENSOR_F32, 2, {2, 2}},
    {"half", TENSOR_BF16, 2, {1, 3}}, {"none", TENSOR_F32, 1, {0}},   {"long", TENSOR_I64, 0, {0}},
};

/* Write the entries above to `path`, with different bytes for every `salt`, in an order of its own. */
static void write_example(const char *path, uint8_t salt) {
    struct safetensors_writer *writer;
    static const char *const metadata[] = {"format", "pt", "quoted", "a \"b\" \n \\"};
    assert_ok(safetensors_create(path, entries, ARRAY_LENGTH(entries), metadata, 2, &writer));
    uint8_t bytes[16];
    for (int i = 0; i < 16; i++) bytes[i] = (uint8_t)(salt + 3 * i);
    static const size_t n_bytes[] = {12, 8, 16, 6, 0, 8};
    for (int i = 5; i >= 0; i--) assert_ok(safetensors_put(writer, i, bytes, n_bytes[i]));
    assert_ok(safetensors_commit(writer));
}

static void what_is_written_is_read(void **state) {
    const char *path = *state;
    write_example(path, 1);
    struct safetensors *file;
    assert_ok(safetensors_open(path, &file));
    assert_int_equal(safetensors_count(file), 6);
    assert_string_equal(safetensors_at(file, 0)->name, "long");
    for (int i = 0; i < 6; i++)
        assert_int_equal(
            (uintptr_t)safetensors_at(file, i)->bytes % tensor_type_bytes(safetensors_at(file, i)->type), 0);
    const char *key, *value;
    assert_true(safetensors_metadata_at(file, 1, &key, &value));
    assert_string_equal(value, "a \"b\" \n \\");
    assert_false(safetensors_metadata_at(file, 2, &key, &value));
    const struct safetensor *half = safetensors_find(file, "half");
    assert_int_equal(half->n_dims, 2);
    assert_memory_equal(half->bytes, ((const uint8_t[]){1, 4, 7, 10, 13, 16}), 6);
    const uint64_t hash = safetensors_hash(file);
    safetensors_close(file);
    write_example(path, 2);
    assert_ok(safetensors_open(path, &file));
    assert_true(safetensors_hash(file) != hash);
    safetensors_close(file);
}

static void the_old_file_stays(void **state) {
    const char *path = *state;
    write_example(path, 1);
    char *before, *after;
    size_t n_before, n_after;
    assert_ok(file_read_all(path, 1 << 20, &before, &n_before));
    struct safetensors_writer *writer;
    assert_ok(safetensors_create(path, entries, 2, NULL, 0, &writer));
    assert_fails(safetensors_put(writer, 0, "abc", 3), STATUS_INTERNAL, "entry 0");
    assert_fails(safetensors_commit(writer), STATUS_INTERNAL, "never written");
    const struct safetensors_entry twice[] = {entries[0], entries[0]};
    assert_fails(safetensors_create(path, twice, 2, NULL, 0, &writer), STATUS_INTERNAL, "two tensors");
    assert_ok(file_read_all(path, 1 << 20, &after, &n_after));
    assert_int_equal(n_before, n_after);
    assert_memory_equal(before, after, n_before);
    free(before), free(after);
}

/* A file with this header (and `n` zero bytes of data) is refused with these words. */
static void refused(const char *header, size_t n, const char *words) {
    uint8_t bytes[1024] = {0};
    const uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    snprintf((char *)bytes + 8, sizeof bytes - 8, "%s", header);
    struct safetensors *file = NULL;
    assert_fails(safetensors_open_memory(bytes, 8 + length + n, "x.safetensors", &file), STATUS_BAD_DATA,
                 words);
    if (!strstr(status_message(), "x.safetensors")) fail_msg("the file is not named: %s", status_message());
}

#define T(type, shape, range) "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static void damaged_headers_are_refused(void **state) {
    (void)state;
    refused("", 0, "header");
    refused("[]", 0, "'{'");
    refused("{\"a\":", 0, "header");
    refused("{\"a\":1}", 0, "\"a\"");
    refused("{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8, "duplicate");
    refused("{\"a\":" T("F32", "[1]", "[0,4]") "}", 3, "\"a\"");
    refused("{\"a\":" T("F32", "[1]", "[0,4]") "}", 5, "no tensor");
    refused("{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, "where its shape wants 8");
    refused("{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, "\"a\"");
    refused("{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, "\"a\"");
    refused("{\"a\":" T("F32", "[1]", "[0,4.0]") "}", 4, "data_offsets");
    refused("{\"a\":" T("F32", "[1]", "[0]") "}", 4, "data_offsets");
    refused("{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, "whole numbers");
    refused("{\"a\":" T("F32", "1", "[0,4]") "}", 4, "shape");
    refused("{\"a\":" T("F31", "[1]", "[0,4]") "}", 4, "F31");
    refused("{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, "hole");
    refused("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[1]", "[4,8]") "}", 8, "overlaps");
    refused("{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "overflows");
    refused("{\"a\":" T("F64", "[2305843009213693953]", "[0,8]") "}", 8, "\"a\"");
    refused("{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "dimensions");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "metadata");
    refused("{\"__metadata__\":[]}", 0, "__metadata__");
    struct safetensors *file;
    const uint64_t huge = 1ull << 40;
    assert_fails(safetensors_open_memory(&huge, 8, "x", &file), STATUS_BAD_DATA, "not a safetensors file");
    assert_fails(safetensors_open("tests/golden/weights/none.safetensors", &file), STATUS_MISSING,
                 "none.safetensors");
    assert_fails(safetensors_open("tests", &file), STATUS_BAD_DATA, "not a file");
}

/* Random bytes changed, files cut: never a crash; a file that is still accepted keeps every range inside. */
static void random_damage(void **state) {
    (void)state;
    char *good;
    size_t n;
    assert_ok(file_read_all(TYPES_FILE, 1 << 20, &good, &n));
    int n_refused = 0;
    for (uint32_t trial = 0; trial < 20000; trial++) {
        struct rng rng = rng_start((struct rng_key){.seed = 11, .purpose = RNG_TEST, .item = trial});
        const size_t n_kept = trial % 4 ? n : rng_below(&rng, (uint32_t)n);
        char *bytes = malloc(n_kept + 1);
        memcpy(bytes, good, n_kept);
        const uint32_t n_changes = 1 + rng_below(&rng, 4);
        for (uint32_t i = 0; i < n_changes && n_kept; i++) {
            const size_t at = rng_below(&rng, (uint32_t)n_kept);
            bytes[at] = rng_below(&rng, 2) ? (char)rng_below(&rng, 256) : (char)('0' + rng_below(&rng, 10));
        }
        struct safetensors *file = NULL;
        if (safetensors_open_memory(bytes, n_kept, "damaged", &file) == STATUS_OK) {
            for (int32_t i = 0; i < safetensors_count(file); i++) {
                const struct safetensor *tensor = safetensors_at(file, i);
                assert_true((const char *)tensor->bytes >= bytes &&
                            (const char *)tensor->bytes + tensor->n_bytes <= bytes + n_kept);
            }
            (void)safetensors_hash(file);
            safetensors_close(file);
        } else
            n_refused++;
        free(bytes);
    }
    assert_true(n_refused > 15000);
    free(good);
}

int main(void) {
    char path[] = "/tmp/safetensors-test-XXXXXX";
    close(mkstemp(path));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read), cmocka_unit_test_prestate(what_is_written_is_read, path),
        cmocka_unit_test_prestate(the_old_file_stays, path), cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(random_damage)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failures;
}
