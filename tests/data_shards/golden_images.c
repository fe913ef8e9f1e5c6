// LIMIT 120
/* Decoding, views, RandAugment, cutout and normalisation against what Pillow made: every case that images.h5
 * in $GOLDEN (default tests/golden) holds, byte for byte, on every instruction set that this machine has. */
#include "common/memory.h"
#include "common/simd.h"
#include "data_shards/decode.h"
#include "data_shards/view.h"
#include "tests/support/golden_h5.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

static struct {
    hid_t file;
    int n_checked;
    struct view_workspace views;
    struct image source, result, scratch;
} run;

static void set_image(struct image *image, const uint8_t *data, hsize_t height, hsize_t width) {
    assert_ok(image_reshape(image, (int32_t)height, (int32_t)width));
    memcpy(image->data, data, image_n_bytes(image));
}

/* run.result must be height x width and hold these bytes. */
static void compare(const char *what, const uint8_t *want, hsize_t height, hsize_t width) {
    if ((hsize_t)run.result.height != height || (hsize_t)run.result.width != width)
        fail_msg("%s: %d x %d (height x width), not %d x %d", what, run.result.height, run.result.width,
                 (int)height, (int)width);
    for (size_t i = 0; i < image_n_bytes(&run.result); i++)
        if (run.result.data[i] != want[i])
            fail_msg("%s: row %d column %d channel %d is %d, not %d", what, (int)(i / 3 / width),
                     (int)(i / 3 % width), (int)(i % 3), run.result.data[i], want[i]);
    run.n_checked++;
}

static void compare_with(const char *path) {
    struct golden_array want = golden_read(run.file, path, H5T_NATIVE_UINT8);
    compare(path, want.data, want.shape[0], want.shape[1]);
    golden_free(&want);
}

/* run.source = the golden pixels of a source, or of any other path. */
static void load_pixels(const char *path) {
    struct golden_array rgb = golden_read(run.file, path, H5T_NATIVE_UINT8);
    set_image(&run.source, rgb.data, rgb.shape[0], rgb.shape[1]);
    golden_free(&rgb);
}

static void load_source(const char *name) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "sources/%s/rgb", name);
    load_pixels(path);
}

static void view(enum view_kind kind, int32_t size) {
    const struct view_spec spec = view_spec_default(kind, size);
    const struct view_key key = {0};
    assert_ok(view_spec_check(&spec));
    assert_ok(view_apply(&run.views, &spec, &key, &run.source, &run.result));
}

/* ---- decoding -------------------------------------------------------------------------------------- */

static void check_source(hid_t group, const char *name, void *context) {
    (void)group, (void)context;
    char path[PATH_BYTES], format[16];
    snprintf(path, sizeof path, "sources/%s", name);
    golden_text(run.file, path, "format", format, sizeof format);
    snprintf(path, sizeof path, "sources/%s/encoded", name);
    struct golden_array encoded = golden_read(run.file, path, H5T_NATIVE_UINT8);
    struct image_info info;
    assert_ok(decode_probe(encoded.data, encoded.n, &info));
    assert_ok(decode_image(encoded.data, encoded.n, &run.result));
    if (strcasecmp(format, image_format_name(info.format)) != 0) fail_msg("%s: not a %s", path, format);
    assert_int_equal(info.height, run.result.height);
    assert_int_equal(info.width, run.result.width);
    snprintf(path, sizeof path, "sources/%s/rgb", name);
    compare_with(path);
    golden_free(&encoded);
}

static void decoding(void **state) {
    (void)state;
    golden_walk(run.file, "sources", check_source, NULL);
}

/* ---- resizing and views ---------------------------------------------------------------------------- */

/* Pillow 13 goes down first for some shapes; the older result, which is ours, then lies in horizontal_first/.
 */
static void compare_view(const char *folder, const char *size, const char *image) {
    char path[PATH_BYTES], older[PATH_BYTES + 32], pass[32] = "";
    snprintf(path, sizeof path, "%s/%s/%s", folder, size, image);
    golden_text(run.file, path, "first_pass", pass, sizeof pass);
    snprintf(older, sizeof older, "horizontal_first/%s", path);
    compare_with(strcmp(pass, "vertical") == 0 ? older : path);
}

struct folder {
    const char *name, *size;
    enum view_kind kind;
};

static void check_view(hid_t group, const char *image, void *context) {
    (void)group;
    const struct folder *folder = context;
    load_source(image);
    view(folder->kind, atoi(folder->size));
    compare_view(folder->name, folder->size, image);
}

static void check_view_size(hid_t group, const char *size, void *context) {
    struct folder folder = *(const struct folder *)context;
    folder.size = size;
    golden_walk(group, size, check_view, &folder);
}

static void check_resize(hid_t group, const char *image, void *context) {
    (void)group;
    const char *size = context;
    int width, height;
    assert_int_equal(sscanf(size, "%dx%d", &width, &height), 2);
    load_source(image);
    assert_ok(resize_bicubic(&run.views.resize, &run.source, height, width, &run.result));
    compare_view("resize", size, image);
}

static void check_resize_size(hid_t group, const char *size, void *context) {
    (void)context;
    char copy[64];
    snprintf(copy, sizeof copy, "%s", size);
    golden_walk(group, size, check_resize, copy);
}

static void check_square_pad(hid_t group, const char *image, void *context) {
    (void)group, (void)context;
    char path[PATH_BYTES];
    load_source(image);
    const int32_t h = run.source.height, w = run.source.width;
    view(VIEW_PERSPECTIVE, h > w ? h : w); /* nothing is left to be resized */
    snprintf(path, sizeof path, "square_pad/%s", image);
    compare_with(path);
}

static void views(void **state) {
    (void)state;
    struct folder none = {.name = "none", .kind = VIEW_NONE},
                  perspective = {.name = "perspective", .kind = VIEW_PERSPECTIVE};
    golden_walk(run.file, "none", check_view_size, &none);
    golden_walk(run.file, "perspective", check_view_size, &perspective);
    golden_walk(run.file, "resize", check_resize_size, NULL);
    golden_walk(run.file, "square_pad", check_square_pad, NULL);
    if (!golden_has(run.file, "student_test_view/crop")) return;
    char source[PATH_BYTES];
    golden_text(run.file, "student_test_view", "source", source, sizeof source);
    load_source(source);
    view(VIEW_STUDENT_EVAL, 224);
    compare_with("student_test_view/crop");
}

static void normalisation(void **state) {
    (void)state;
    if (!golden_has(run.file, "normalise/u8")) return;
    load_pixels("normalise/u8");
    struct golden_array want = golden_read(run.file, "normalise/f32", H5T_NATIVE_FLOAT);
    const float *expected = want.data;
    float *got = memory_aligned(want.n * sizeof *got);
    normalise_f32(&run.source, got);
    for (size_t i = 0; i < want.n; i++)
        if (!(fabsf(got[i] - expected[i]) <= 1e-6f))
            fail_msg("value %d: %.9g, not %.9g", (int)i, got[i], expected[i]);
    run.n_checked++;
    free(got);
    golden_free(&want);
}

/* ---- augmentation ---------------------------------------------------------------------------------- */

static enum augment_op op_named(const char *name) {
    for (int op = 0; op < AUGMENT_N_OPS; op++)
        if (strcmp(name, augment_op_name((enum augment_op)op)) == 0) return (enum augment_op)op;
    fail_msg("no operation is named %s", name);
    return AUGMENT_N_OPS;
}

static void apply_to_result(enum augment_op op, double argument, int32_t level, int32_t sign) {
    const double ours = augment_argument(op, level, sign, run.source.height, run.source.width);
    if (ours != argument)
        fail_msg("%s at %d, %d: argument %.17g, not %.17g", augment_op_name(op), level, sign, ours, argument);
    assert_ok(image_copy(&run.source, &run.result));
    assert_ok(augment_apply(op, argument, &run.result, &run.scratch));
}

static void check_augment_image(hid_t group, const char *image, void *context) {
    const char *operation = context;
    char what[PATH_BYTES];
    snprintf(what, sizeof what, "augment/input/%s", image);
    load_pixels(what);
    const hid_t at = H5Gopen2(group, image, H5P_DEFAULT);
    struct golden_array v = golden_read(at, "v", H5T_NATIVE_INT32),
                        sign = golden_read(at, "sign", H5T_NATIVE_INT32);
    struct golden_array arg = golden_read(at, "arg", H5T_NATIVE_DOUBLE),
                        out = golden_read(at, "out", H5T_NATIVE_UINT8);
    for (size_t i = 0; i < v.n; i++) {
        const int32_t level = ((int32_t *)v.data)[i], direction = ((int32_t *)sign.data)[i];
        snprintf(what, sizeof what, "augment/%s/%s level %d sign %d", operation, image, level, direction);
        apply_to_result(op_named(operation), ((double *)arg.data)[i], level, direction);
        compare(what, (uint8_t *)out.data + i * (out.n / v.n), out.shape[1], out.shape[2]);
    }
    golden_free(&v), golden_free(&sign), golden_free(&arg), golden_free(&out);
    H5Gclose(at);
}

static void check_augment(hid_t group, const char *operation, void *context) {
    (void)context;
    if (strcmp(operation, "input") == 0) return;
    char copy[64];
    snprintf(copy, sizeof copy, "%s", operation);
    golden_walk(group, operation, check_augment_image, copy);
}

static void operations(void **state) {
    (void)state;
    golden_walk(run.file, "augment", check_augment, NULL);
}

static void check_cutout(hid_t group, const char *image, void *context) {
    (void)context;
    char what[PATH_BYTES];
    snprintf(what, sizeof what, "augment/input/%s", image);
    load_pixels(what);
    const hid_t at = H5Gopen2(group, image, H5P_DEFAULT);
    struct golden_array draw = golden_read(at, "draw", H5T_NATIVE_DOUBLE),
                        out = golden_read(at, "out", H5T_NATIVE_UINT8);
    for (size_t i = 0; i < out.shape[0]; i++) {
        const double *xy = (double *)draw.data + 2 * i;
        snprintf(what, sizeof what, "cutout/%s at %g, %g", image, xy[0], xy[1]);
        assert_ok(image_copy(&run.source, &run.result));
        augment_cutout(&run.result, xy[0], xy[1], 16);
        compare(what, (uint8_t *)out.data + i * (out.n / out.shape[0]), out.shape[1], out.shape[2]);
    }
    golden_free(&draw), golden_free(&out);
    H5Gclose(at);
}

static void cutouts(void **state) {
    (void)state;
    golden_walk(run.file, "cutout", check_cutout, NULL);
}

/* The index'th of comma-separated names. */
static enum augment_op op_listed(const char *names, int index) {
    char name[64];
    while (index-- > 0) {
        names = strchr(names, ',');
        assert_non_null(names);
        names++;
    }
    snprintf(name, sizeof name, "%.*s", (int)strcspn(names, ","), names);
    return op_named(name);
}

static void pipelines(void **state) {
    (void)state;
    if (!golden_has(run.file, "pipeline/op")) return;
    char names[1024], what[64];
    golden_text(run.file, "pipeline", "operations", names, sizeof names);
    load_pixels("pipeline/input");
    const hid_t at = H5Gopen2(run.file, "pipeline", H5P_DEFAULT);
    struct golden_array op = golden_read(at, "op", H5T_NATIVE_INT32),
                        v = golden_read(at, "v", H5T_NATIVE_INT32);
    struct golden_array sign = golden_read(at, "sign", H5T_NATIVE_INT32),
                        out = golden_read(at, "out", H5T_NATIVE_UINT8);
    struct golden_array applied = golden_read(at, "applied", H5T_NATIVE_INT32);
    struct golden_array cut = golden_read(at, "cutout_draw", H5T_NATIVE_DOUBLE);
    const int32_t n = (int32_t)op.shape[1];
    for (size_t i = 0; i < op.shape[0]; i++) {
        const double *xy = (double *)cut.data + 2 * i;
        struct augment_draw draw = {.n = n};
        for (int32_t j = 0; j < n; j++) {
            const size_t k = i * (size_t)n + (size_t)j;
            draw.step[j].op = op_listed(names, ((int32_t *)op.data)[k]);
            draw.step[j].level = ((int32_t *)v.data)[k];
            draw.step[j].sign = ((int32_t *)sign.data)[k];
            draw.step[j].applied = ((int32_t *)applied.data)[k];
        }
        assert_ok(image_copy(&run.source, &run.result));
        assert_ok(augment_apply_draw(&draw, 0, &run.result, &run.scratch));
        augment_cutout(&run.result, xy[0], xy[1], 16);
        snprintf(what, sizeof what, "pipeline %d", (int)i);
        compare(what, (uint8_t *)out.data + i * (out.n / out.shape[0]), out.shape[1], out.shape[2]);
    }
    golden_free(&op), golden_free(&v), golden_free(&sign), golden_free(&out), golden_free(&applied),
        golden_free(&cut);
    H5Gclose(at);
}

static uint32_t crc32_of(const struct image *image) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < image_n_bytes(image); i++) {
        crc ^= image->data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void large(void **state) {
    (void)state;
    if (!golden_has(run.file, "large/none")) return;
    char names[1024], photo[PATH_BYTES] = "photo_420";
    golden_text(run.file, "/", "operations", names, sizeof names);
    load_source(photo);
    struct golden_array none = golden_read(run.file, "large/none", H5T_NATIVE_UINT8);
    view(VIEW_PERSPECTIVE, (int32_t)none.shape[0]);
    assert_int_equal(crc32_of(&run.result),
                     (uint32_t)golden_attribute(run.file, "large", "perspective_crc32"));
    view(VIEW_NONE, (int32_t)none.shape[0]);
    compare("large/none", none.data, none.shape[0], none.shape[1]);
    assert_ok(image_copy(&run.result, &run.source));
    const hid_t at = H5Gopen2(run.file, "large", H5P_DEFAULT);
    struct golden_array op = golden_read(at, "op", H5T_NATIVE_INT32),
                        v = golden_read(at, "v", H5T_NATIVE_INT32);
    struct golden_array sign = golden_read(at, "sign", H5T_NATIVE_INT32),
                        arg = golden_read(at, "arg", H5T_NATIVE_DOUBLE);
    struct golden_array crc = golden_read(at, "crc32", H5T_NATIVE_UINT32);
    for (size_t i = 0; i < op.n; i++) {
        const enum augment_op which = op_listed(names, ((int32_t *)op.data)[i]);
        const int32_t level = ((int32_t *)v.data)[i], direction = ((int32_t *)sign.data)[i];
        apply_to_result(which, ((double *)arg.data)[i], level, direction);
        if (crc32_of(&run.result) != ((uint32_t *)crc.data)[i])
            fail_msg("large: %s level %d sign %d differs", augment_op_name(which), level, direction);
        run.n_checked++;
    }
    apply_to_result(AUGMENT_ROTATE, 27, 9, 1);
    compare_with("large/rotate_v9");
    golden_free(&none), golden_free(&op), golden_free(&v), golden_free(&sign), golden_free(&arg),
        golden_free(&crc);
    H5Gclose(at);
}

static void something_was_checked(void **state) {
    (void)state;
    assert_true(run.n_checked > 0);
}

static int run_all(void) {
    run.file = golden_open("images.h5");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding),      cmocka_unit_test(views),
        cmocka_unit_test(normalisation), cmocka_unit_test(operations),
        cmocka_unit_test(cutouts),       cmocka_unit_test(pipelines),
        cmocka_unit_test(large),         cmocka_unit_test(something_was_checked),
    };
    const int n_failed = cmocka_run_group_tests_name(simd_isa_name(simd_isa()), tests, NULL, NULL);
    view_workspace_free(&run.views);
    image_free(&run.source);
    image_free(&run.result);
    image_free(&run.scratch);
    H5Fclose(run.file);
    return n_failed;
}

/* The instruction set is chosen once a process, so each has its own; a set that the machine lacks falls back.
 */
int main(void) {
    static const char *const isas[] = {"base", "avx2", "avx512", "avx512bf16"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const pid_t child = fork();
        if (child == 0) {
            setenv("MARRS_ISA", isas[i], 1);
            exit(run_all());
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child) return 1;
        if (!WIFEXITED(status)) return 1;
        if (WEXITSTATUS(status) != 0) return WEXITSTATUS(status);
    }
    return 0;
}
