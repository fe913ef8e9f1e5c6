// LIMIT 120
/* 10,000 damaged JPEG and as many PNG files: flipped bits, cuts, overwritten stretches, wild headers (PNG
 * also with its check sums put right). Each gives pixels or STATUS_BAD_DATA with a reason; run with SAN=1 for
 * the rest. */
#include "common/rng.h"
#include "data_shards/decode.h"
#include "tests/support/golden_h5.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_DAMAGED = 10000, MAX_SOURCES = 64 };

struct source {
    const uint8_t *bytes;
    size_t n_bytes;
};

static struct source jpegs[MAX_SOURCES], pngs[MAX_SOURCES];
static uint32_t n_jpegs, n_pngs;

static void collect(hid_t group, const char *name, void *context) {
    (void)context;
    char path[512];
    snprintf(path, sizeof path, "%s/encoded", name);
    struct golden_array encoded = golden_read(group, path, H5T_NATIVE_UINT8);
    const struct source source = {.bytes = encoded.data, .n_bytes = encoded.n};
    const enum image_format format = decode_format(source.bytes, source.n_bytes);
    if (format == IMAGE_JPEG && n_jpegs < MAX_SOURCES) jpegs[n_jpegs++] = source;
    if (format == IMAGE_PNG && n_pngs < MAX_SOURCES) pngs[n_pngs++] = source;
}

/* Damages bytes[0 .. n) and returns how many are left. */
static size_t damage(struct rng *rng, uint8_t *bytes, size_t n) {
    const uint32_t n_marks = 1 + rng_below(rng, 6);
    switch (rng_below(rng, 5)) {
    case 0:
        return rng_below(rng, (uint32_t)n + 1);
    case 1: /* near the start, where the headers are */
        for (uint32_t i = 0; i < n_marks; i++)
            bytes[rng_below(rng, n < 200 ? (uint32_t)n : 200)] = (uint8_t)rng_u32(rng);
        return n;
    case 2: /* a stretch */
        for (uint32_t i = 0, at = rng_below(rng, (uint32_t)n); i < 40 && at + i < n; i++)
            bytes[at + i] = (uint8_t)rng_u32(rng);
        return n;
    case 3: /* a piece left out */
    {
        const size_t at = rng_below(rng, (uint32_t)n), length = rng_below(rng, (uint32_t)(n - at));
        memmove(bytes + at, bytes + at + length, n - at - length);
        return n - length;
    }
    default:
        for (uint32_t i = 0; i < n_marks; i++)
            bytes[rng_below(rng, (uint32_t)n)] ^= (uint8_t)(1u << rng_below(rng, 8));
        return n;
    }
}

static uint32_t crc32_of(const uint8_t *bytes, size_t n) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* Make every chunk's check sum right again, as far as the lengths can be followed. */
static void repair_png(uint8_t *bytes, size_t n) {
    for (size_t at = 8; at + 12 <= n;) {
        const size_t length = (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 |
                              (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length > n - at - 12) return;
        const uint32_t crc = crc32_of(bytes + at + 4, length + 4);
        for (size_t i = 0; i < 4; i++) bytes[at + 8 + length + i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}

static void decode_damaged(const struct source *sources, uint32_t n_sources, bool repaired) {
    struct rng rng = rng_start((struct rng_key){.seed = 11, .purpose = RNG_TEST, .sub = sources == pngs});
    struct image image = {0};
    int n_refused = 0;
    assert_true(n_sources > 0);
    for (int i = 0; i < N_DAMAGED; i++) {
        const struct source source = sources[rng_below(&rng, n_sources)];
        uint8_t *bytes = malloc(source.n_bytes);
        memcpy(bytes, source.bytes, source.n_bytes);
        const size_t n_bytes = damage(&rng, bytes, source.n_bytes);
        if (repaired && i % 2) repair_png(bytes, n_bytes);
        uint8_t *exact = malloc(n_bytes + !n_bytes); /* so that a sanitizer sees the end */
        memcpy(exact, bytes, n_bytes);
        struct image_info info = {0};
        const status_t probed = decode_probe(exact, n_bytes, &info),
                       status = decode_image(exact, n_bytes, &image);
        if (status == STATUS_OK) {
            assert_int_equal(probed, STATUS_OK);
            assert_int_equal(info.height, image.height);
            assert_int_equal(info.width, image.width);
        } else {
            assert_int_equal(status, STATUS_BAD_DATA);
            assert_true(status_message()[0]);
            n_refused++;
        }
        free(exact);
        free(bytes);
    }
    assert_in_range(n_refused, N_DAMAGED / 10, N_DAMAGED);
    image_free(&image);
}

static void jpeg(void **state) {
    (void)state;
    decode_damaged(jpegs, n_jpegs, false);
}

static void png(void **state) {
    (void)state;
    decode_damaged(pngs, n_pngs, true);
}

static void not_an_image(void **state) {
    (void)state;
    struct image image = {0};
    struct image_info info;
    const uint8_t text[] = "a text file named .jpg\n";
    assert_fails(decode_image(text, 0, &image), STATUS_BAD_DATA, "empty");
    assert_fails(decode_image(text, sizeof text - 1, &image), STATUS_BAD_DATA, "neither JPEG nor PNG");
    assert_fails(decode_probe(text, sizeof text - 1, &info), STATUS_BAD_DATA, "neither JPEG nor PNG");
    assert_int_equal(decode_format(text, 2), IMAGE_UNKNOWN);
    image_free(&image);
}

/* A header that asks for a gigabyte in a file of some hundred bytes. */
static void bombs(void **state) {
    (void)state;
    struct image image = {0};
    uint8_t bytes[1 << 16];
    assert_in_range(pngs[0].n_bytes, 33, sizeof bytes);
    memcpy(bytes, pngs[0].bytes, pngs[0].n_bytes);
    memcpy(bytes + 16, (uint8_t[]){0, 0, 0x30, 0, 0, 0, 0x30, 0}, 8); /* 12288 x 12288 */
    repair_png(bytes, pngs[0].n_bytes);
    assert_fails(decode_image(bytes, pngs[0].n_bytes, &image), STATUS_BAD_DATA, "can hold");
    memcpy(bytes + 16, (uint8_t[]){0, 1, 0, 0, 0, 1, 0, 0}, 8); /* 65536 x 65536 */
    repair_png(bytes, pngs[0].n_bytes);
    assert_fails(decode_image(bytes, pngs[0].n_bytes, &image), STATUS_BAD_DATA, "shrink");
    assert_null(image.data);
}

/* A progressive file whose last scan comes 600 times: every one costs a pass over the whole image. */
static void too_many_scans(void **state) {
    (void)state;
    struct image image = {0};
    for (uint32_t i = 0; i < n_jpegs; i++) {
        const uint8_t *from = jpegs[i].bytes;
        size_t at = jpegs[i].n_bytes - 2, n_scans = 0;
        for (size_t j = 0; j + 2 < jpegs[i].n_bytes; j++)
            if (from[j] == 0xff && from[j + 1] == 0xda) at = j, n_scans++;
        if (n_scans < 3) continue; /* not progressive */
        const size_t scan_bytes = jpegs[i].n_bytes - 2 - at, n_bytes = at + 600 * scan_bytes + 2;
        uint8_t *bytes = malloc(n_bytes);
        memcpy(bytes, from, at);
        for (size_t j = 0; j < 600; j++) memcpy(bytes + at + j * scan_bytes, from + at, scan_bytes);
        memcpy(bytes + n_bytes - 2, from + jpegs[i].n_bytes - 2, 2);
        assert_fails(decode_image(bytes, n_bytes, &image), STATUS_BAD_DATA, "500 scans");
        free(bytes);
        image_free(&image);
        return;
    }
    fail_msg("no progressive file among the sources");
}

int main(void) {
    const hid_t file = golden_open("images.h5");
    golden_walk(file, "sources", collect, NULL);
    H5Fclose(file);
    const struct CMUnitTest tests[] = {cmocka_unit_test(jpeg), cmocka_unit_test(png),
                                       cmocka_unit_test(not_an_image), cmocka_unit_test(bombs),
                                       cmocka_unit_test(too_many_scans)};
    const int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (uint32_t i = 0; i < n_jpegs; i++) free((void *)(uintptr_t)jpegs[i].bytes);
    for (uint32_t i = 0; i < n_pngs; i++) free((void *)(uintptr_t)pngs[i].bytes);
    return n_failed;
}
