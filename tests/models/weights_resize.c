// Resized position tables and patch embeddings equal timm's (tests/golden/weights/resize.safetensors).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "models/weights_names.h"

static struct safetensors *file;

/* Largest difference from the file's `name` relative to its largest value. */
static double error_of(const char *name, const float *got) {
    const struct safetensor *want = safetensors_find(file, name);
    assert_non_null(want);
    float *x = malloc(want->n_bytes);
    assert_ok(safetensor_read_f32(file, want, x));
    double largest = 0, error = 0;
    for (int64_t i = 0; i < want->n_elem; i++) {
        largest = fmax(largest, fabs(x[i]));
        error = fmax(error, fabs((double)got[i] - x[i]));
        if (!isfinite(got[i])) error = INFINITY;
    }
    free(x);
    return error / largest;
}

static void every_case_of_the_file(void **state) {
    (void)state;
    int n_tables = 0, n_patches = 0;
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensor *tensor = safetensors_at(file, i);
        char stem[64], out_name[80];
        int old, wh, ww, h, w;
        snprintf(stem, sizeof stem, "%s", tensor->name);
        char *end = strstr(stem, ".in");
        if (!end) continue;
        *end = 0;
        snprintf(out_name, sizeof out_name, "%s.out", stem);
        float *in = malloc(tensor->n_bytes), out[6 * 31 * 31];
        assert_ok(safetensor_read_f32(file, tensor, in));
        if (sscanf(stem, "table.%d.%dx%d", &old, &wh, &ww) == 3) {
            assert_ok(weights_resize_table(in, tensor->shape[0], tensor->shape[1], wh, ww, out));
            n_tables++;
        } else {
            assert_int_equal(sscanf(stem, "patch.%dx%d.%dx%d", &h, &w, &wh, &ww), 4);
            assert_ok(weights_resize_patch(in, 6, h, w, wh, ww, out));
            n_patches++;
        }
        const double error = error_of(out_name, out);
        if (!(error < 1e-5)) fail_msg("%s: error %g", stem, error);
        free(in);
    }
    assert_true(n_tables >= 9 && n_patches >= 6);
}

static void tables_of_no_window_are_refused(void **state) {
    (void)state;
    float x[64] = {0}, y[9];
    assert_fails(weights_resize_table(x, 15, 1, 2, 2, y), STATUS_BAD_DATA, "15 rows");
    assert_fails(weights_resize_table(x, 16, 1, 2, 2, y), STATUS_BAD_DATA, "16 rows");
}

int main(void) {
    if (safetensors_open("tests/golden/weights/resize.safetensors", &file) != STATUS_OK)
        return puts(status_message()), 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_case_of_the_file),
                                       cmocka_unit_test(tables_of_no_window_are_refused)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    safetensors_close(file);
    return failures;
}
