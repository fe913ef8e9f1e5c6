/* Decoding and resizing against Pillow as installed: every PNG colour type, depth and interlacing, kinds of
 * JPEG and WebP, files cut off anywhere (accepted and refused alike), 300 random sizes. Skipped without
 * Python and Pillow. */
// LIMIT 120
#include "common/file.h"
#include "data_shards/decode.h"
#include "data_shards/resize.h"
#include "tests/support/python.h"
#include "tests/support/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[] = "/tmp/pillow-XXXXXX";

static void check(const char *name, struct resize_workspace *workspace, struct image *image,
                  struct image *resized) {
    char path[512], *file, *want;
    size_t n_file, n_want;
    snprintf(path, sizeof path, "%s/%s.file", folder, name);
    assert_ok(file_read_all(path, 1 << 24, &file, &n_file));
    snprintf(path, sizeof path, "%s/%s.want", folder, name);
    assert_ok(file_read_all(path, 1 << 24, &want, &n_want));
    const status_t status = decode_image((const uint8_t *)file, n_file, image);
    if (n_want == 0) {
        if (status != STATUS_BAD_DATA) fail_msg("%s: Pillow refuses it, not so we", name);
    } else if (strncmp(name, "cut_png", 7) == 0 && status == STATUS_BAD_DATA) {
        /* Pillow takes a file that lacks the check sums of its last piece of pixels; here they must be there.
         */
        assert_non_null(strstr(status_message(), "ends early"));
    } else if (status != STATUS_OK) {
        fail_msg("%s: Pillow reads it; here %s", name, status_message());
    } else {
        int32_t sides[2];
        memcpy(sides, want, sizeof sides);
        const struct image *got = image;
        if (strncmp(name, "resize_", 7) == 0) {
            assert_ok(resize_bicubic(workspace, image, sides[0], sides[1], resized));
            got = resized;
        }
        assert_int_equal(got->height, sides[0]);
        assert_int_equal(got->width, sides[1]);
        for (size_t i = 0; i < image_n_bytes(got); i++)
            if (got->data[i] != (uint8_t)want[8 + i])
                fail_msg("%s: byte %zu is %d, not %d", name, i, got->data[i], (uint8_t)want[8 + i]);
    }
    free(file);
    free(want);
}

static void equals_pillow(void **state) {
    (void)state;
    struct resize_workspace workspace = {0};
    struct image image = {0}, resized = {0};
    int n_checked = 0;
    DIR *files = opendir(folder);
    assert_non_null(files);
    for (struct dirent *entry; (entry = readdir(files));) {
        char *end = strstr(entry->d_name, ".file");
        if (!end) continue;
        *end = 0;
        if (strncmp(entry->d_name, "webp_", 5) == 0 && !decode_has_webp()) continue;
        check(entry->d_name, &workspace, &image, &resized);
        n_checked++;
    }
    closedir(files);
    assert_true(n_checked > 300);
    image_free(&image);
    image_free(&resized);
    resize_workspace_free(&workspace);
}

int main(void) {
    if (!python_has("PIL, numpy")) return 77;
    const char *python = getenv("PYTHON");
    char command[512];
    if (!mkdtemp(folder)) return 1;
    snprintf(command, sizeof command, "%s tests/data_shards/pillow_cases.py %s", python ? python : "python3",
             folder);
    if (system(command) != 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_pillow)};
    const int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (n_failed == 0) {
        snprintf(command, sizeof command, "rm -rf %s", folder);
        if (system(command) != 0) return 1;
    }
    return n_failed;
}
