/* Small PNG files and shards of them, for tests. */
#ifndef TESTS_SUPPORT_IMAGES_H
#define TESTS_SUPPORT_IMAGES_H

#include <png.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"
#include "common/rng.h"
#include "data_shards/shard.h"

/* A height x width RGB image of smooth random colours, as a PNG file in fresh memory. */
static inline uint8_t *test_png(uint32_t seed, int height, int width, size_t *n_bytes_out) {
    struct rng rng = rng_start((struct rng_key){.seed = seed, .purpose = RNG_TEST});
    uint8_t *pixels = malloc((size_t)(3 * height * width));
    int32_t base[3], dx[3], dy[3];
    for (int c = 0; c < 3; c++) {
        base[c] = (int32_t)rng_below(&rng, 128);
        dx[c] = (int32_t)rng_below(&rng, 9) - 4;
        dy[c] = (int32_t)rng_below(&rng, 9) - 4;
    }
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                pixels[3 * (y * width + x) + c] = (uint8_t)(base[c] + dx[c] * x + dy[c] * y);
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (uint32_t)width,
                     .height = (uint32_t)height,
                     .format = PNG_FORMAT_RGB};
    png_alloc_size_t n_bytes = 0;
    assert_true(png_image_write_to_memory(&png, NULL, &n_bytes, 0, pixels, 0, NULL));
    uint8_t *bytes = malloc(n_bytes);
    assert_true(png_image_write_to_memory(&png, bytes, &n_bytes, 0, pixels, 0, NULL));
    free(pixels);
    *n_bytes_out = n_bytes;
    return bytes;
}

enum { TEST_CLASSES = 5 };

/* Image i of a test shard is "domain/<class>/<i>.png", class i mod 5, 20 + i mod 9 high and 16 + i mod 13
 * wide. */
static inline void test_shard(const char *path, const char *domain, size_t n) {
    char(*names)[64] = malloc(n * sizeof *names);
    const char **ids = malloc(n * sizeof *ids);
    int32_t *labels = malloc(n * sizeof *labels);
    uint64_t *sizes = malloc(n * sizeof *sizes);
    uint8_t **images = malloc(n * sizeof *images);
    for (size_t i = 0; i < n; i++) {
        size_t n_bytes;
        images[i] = test_png((uint32_t)i + (uint32_t)strlen(domain) * 1000, 20 + (int)(i % 9),
                             16 + (int)(i % 13), &n_bytes);
        sizes[i] = n_bytes;
        labels[i] = (int32_t)(i % TEST_CLASSES);
        snprintf(names[i], sizeof names[i], "%s/%d/%05zu.png", domain, labels[i], i);
        ids[i] = names[i];
    }
    const char *classes[TEST_CLASSES] = {"zero", "one", "two", "three", "four"};
    struct shard_writer *w;
    assert_ok(shard_writer_open(path,
                                &(struct shard_description){.domain = domain,
                                                            .n_images = n,
                                                            .n_classes = TEST_CLASSES,
                                                            .ids = ids,
                                                            .labels = labels,
                                                            .n_bytes = sizes,
                                                            .class_names = classes},
                                &w));
    for (size_t i = 0; i < n; i++) {
        assert_ok(shard_writer_put(w, i, images[i]));
        free(images[i]);
    }
    assert_ok(shard_writer_commit(w));
    free(names);
    free(ids);
    free(labels);
    free(sizes);
    free(images);
}

#endif
