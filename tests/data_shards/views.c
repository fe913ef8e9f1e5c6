/* Views beyond the golden ones: draws are pure functions of their key and spread as they should, the
 * student's crops and flips, cutout sizes, no allocation after the first call, settings that are refused,
 * normalisation of all values. */
#include "common/simd.h"
#include "data_shards/view.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void fill(struct image *image, int32_t height, int32_t width, uint32_t seed) {
    struct rng rng = rng_start((struct rng_key){.seed = seed, .purpose = RNG_TEST});
    assert_ok(image_reshape(image, height, width));
    for (size_t i = 0; i < image_n_bytes(image); i++) image->data[i] = (uint8_t)rng_u32(&rng);
}

static void draws_depend_on_the_key_alone(void **state) {
    (void)state;
    const struct rng_key key = {.seed = 5, .peer = 255, .purpose = RNG_AUGMENT, .step = 3, .item = 17};
    const struct augment_draw two = augment_draw(key, 2, 10), again = augment_draw(key, 2, 10),
                              four = augment_draw(key, 4, 10);
    assert_true(two.cutout_x == again.cutout_x && two.cutout_x == four.cutout_x &&
                two.cutout_y == four.cutout_y);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(two.step[i].op, again.step[i].op);
        assert_int_equal(two.step[i].op, four.step[i].op);
        assert_int_equal(two.step[i].level, four.step[i].level);
        assert_int_equal(two.step[i].sign, four.step[i].sign);
        assert_int_equal(two.step[i].applied, four.step[i].applied);
    }
}

static void draws_are_uniform(void **state) {
    (void)state;
    enum { N = 28000 };
    int op[AUGMENT_N_OPS] = {0}, level[AUGMENT_MAX_LEVEL + 1] = {0}, n_positive = 0, n_applied = 0,
        n_left = 0;
    for (uint32_t i = 0; i < N; i++) {
        const struct rng_key key = {.seed = 5, .peer = 255, .purpose = RNG_AUGMENT, .item = i};
        const struct augment_draw draw = augment_draw(key, 1, 10);
        op[draw.step[0].op]++;
        level[draw.step[0].level]++;
        n_positive += draw.step[0].sign == 1;
        n_applied += draw.step[0].applied;
        n_left += draw.cutout_x < 0.25;
    }
    for (int i = 0; i < AUGMENT_N_OPS; i++)
        assert_in_range(op[i], N / 14 - 220, N / 14 + 220); /* 5 deviations */
    for (int i = 1; i < 10; i++) assert_in_range(level[i], N / 9 - 270, N / 9 + 270);
    assert_int_equal(level[0] + level[10], 0);
    assert_in_range(n_positive, N / 2 - 420, N / 2 + 420);
    assert_in_range(n_applied, N / 2 - 420, N / 2 + 420);
    assert_in_range(n_left, N / 4 - 370, N / 4 + 370);
}

/* One image that has the strong view's size: what differs between two views tells what they depend on. */
static bool strong_differs(struct view_key a, struct view_key b) {
    struct view_workspace workspace = {0};
    struct image in = {0}, first = {0}, second = {0};
    const struct view_spec spec = view_spec_default(VIEW_STRONG, 64);
    fill(&in, 64, 64, 1);
    assert_ok(view_apply(&workspace, &spec, &a, &in, &first));
    assert_ok(view_apply(&workspace, &spec, &b, &in, &second));
    const bool differs = memcmp(first.data, second.data, image_n_bytes(&first)) != 0;
    image_free(&in);
    image_free(&first);
    image_free(&second);
    view_workspace_free(&workspace);
    return differs;
}

static void strong_views_are_shared_by_peers(void **state) {
    (void)state;
    const struct view_key key = {.seed = 1, .stage = 2, .peer = 0, .view = 1, .step = 4, .image = 9};
    struct view_key other = key;
    other.peer = 1;
    assert_false(strong_differs(key, other));
    other = key, other.seed = 2;
    assert_true(strong_differs(key, other));
    other = key, other.stage = 3;
    assert_true(strong_differs(key, other));
    other = key, other.view = 0;
    assert_true(strong_differs(key, other));
    other = key, other.step = 5;
    assert_true(strong_differs(key, other));
    other = key, other.image = 10;
    assert_true(strong_differs(key, other));
}

static void strong_equals_that_of_the_plain_view(void **state) {
    (void)state;
    struct view_workspace workspace = {0};
    struct image in = {0}, none = {0}, direct = {0}, after = {0};
    const struct view_spec plain = view_spec_default(VIEW_NONE, 48),
                           strong = view_spec_default(VIEW_STRONG, 48);
    fill(&in, 70, 51, 2);
    for (uint32_t i = 0; i < 40; i++) {
        const struct view_key key = {.seed = 3, .image = i};
        assert_ok(view_apply(&workspace, &plain, &key, &in, &none));
        assert_ok(view_apply(&workspace, &strong, &key, &in, &direct));
        assert_ok(view_apply(&workspace, &strong, &key, &none, &after));
        assert_memory_equal(direct.data, after.data, image_n_bytes(&direct));
    }
    image_free(&in);
    image_free(&none);
    image_free(&direct);
    image_free(&after);
    view_workspace_free(&workspace);
}

/* A picture of the resized side whose pixels name their place: red the column, green the row. */
static void fill_places(struct image *image, int32_t side) {
    assert_ok(image_reshape(image, side, side));
    for (int32_t i = 0; i < side * side; i++) {
        image->data[3 * i] = (uint8_t)(i % side);
        image->data[3 * i + 1] = (uint8_t)(i / side);
        image->data[3 * i + 2] = 0;
    }
}

static void student_crops_and_flips(void **state) {
    (void)state;
    enum { SIDE = 32, SIZE = 28, ROOM = SIDE - SIZE, N = 4000 };
    struct view_workspace workspace = {0};
    struct image in = {0}, out = {0};
    struct view_spec spec = view_spec_default(VIEW_STUDENT_TRAIN, SIZE);
    assert_int_equal(spec.resize_side, SIDE);
    assert_ok(view_spec_check(&spec));
    fill_places(&in, SIDE);
    int n_flipped = 0, left[ROOM + 1] = {0}, top[ROOM + 1] = {0};
    for (uint32_t i = 0; i < N; i++) {
        const struct view_key key = {.seed = 4, .peer = 1, .image = i};
        spec.flip = i % 2;
        assert_ok(view_apply(&workspace, &spec, &key, &in, &out));
        const uint8_t *last = out.data + 3 * (SIZE * SIZE - 1);
        const bool flipped = out.data[0] > last[0];
        assert_int_equal(last[0] - out.data[0], flipped ? 1 - SIZE : SIZE - 1);
        assert_int_equal(last[1] - out.data[1], SIZE - 1);
        assert_true(spec.flip || !flipped);
        n_flipped += flipped;
        left[flipped ? SIDE - 1 - out.data[0] : out.data[0]]++;
        top[out.data[1]]++;
    }
    assert_in_range(n_flipped, N / 4 - 130, N / 4 + 130);
    for (int i = 0; i <= ROOM; i++) {
        assert_in_range(left[i], N / 5 - 130, N / 5 + 130);
        assert_in_range(top[i], N / 5 - 130, N / 5 + 130);
    }
    image_free(&in);
    image_free(&out);
    view_workspace_free(&workspace);
}

/* Python's round() of half the difference, as torchvision's CenterCrop begins. */
static void student_eval_crops_the_middle(void **state) {
    (void)state;
    struct view_workspace workspace = {0};
    struct image in = {0}, out = {0};
    const struct view_key key = {0};
    for (int32_t room = 0; room < 9; room++) {
        static const uint8_t begins[] = {0, 0, 1, 2, 2, 2, 3, 4, 4};
        struct view_spec spec = view_spec_default(VIEW_STUDENT_EVAL, 20);
        spec.resize_side = 20 + room;
        fill_places(&in, spec.resize_side);
        assert_ok(view_apply(&workspace, &spec, &key, &in, &out));
        assert_int_equal(out.data[0], begins[room]);
        assert_int_equal(out.data[1], begins[room]);
    }
    image_free(&in);
    image_free(&out);
    view_workspace_free(&workspace);
}

static void cutout_of_any_size(void **state) {
    (void)state;
    struct image image = {0};
    assert_ok(image_reshape(&image, 20, 32));
    for (int32_t half = 0; half <= 20; half += 4) {
        const int32_t size = 2 * half;
        memset(image.data, 0, image_n_bytes(&image));
        augment_cutout(&image, 16.5, 9.5, size);
        const int32_t left = (int32_t)fmax(0, 16.5 - half), top = (int32_t)fmax(0, 9.5 - half);
        for (int32_t i = 0; i < 20 * 32; i++) {
            const int32_t x = i % 32, y = i / 32;
            const bool inside = size && x >= left && x <= left + size && y >= top && y <= top + size;
            assert_int_equal(image.data[3 * i], inside ? 127 : 0);
        }
    }
    image_free(&image);
}

static void no_allocation_after_the_first_call(void **state) {
    (void)state;
    struct view_workspace workspace = {0};
    struct image in = {0}, out = {0};
    fill(&in, 90, 60, 3);
    struct view_workspace before = {0};
    struct image out_before = {0};
    for (int round = 0; round < 2; round++) {
        for (int kind = 0; kind < VIEW_N_KINDS; kind++) {
            const struct view_spec spec = view_spec_default((enum view_kind)kind, 64);
            for (uint32_t i = 0; i < 50; i++) {
                const struct view_key key = {.image = i};
                assert_ok(view_apply(&workspace, &spec, &key, &in, &out));
            }
        }
        if (round == 0) before = workspace, out_before = out;
    }
    assert_int_equal(workspace.resize.next, before.resize.next);
    assert_memory_equal(workspace.resize.axis, before.resize.axis, sizeof before.resize.axis);
    assert_ptr_equal(workspace.padded.data, before.padded.data);
    /* The scratch image and the result change places in some operations. */
    assert_true((workspace.scratch.data == before.scratch.data && out.data == out_before.data) ||
                (workspace.scratch.data == out_before.data && out.data == before.scratch.data));
    image_free(&in);
    image_free(&out);
    view_workspace_free(&workspace);
}

static void refused_settings(void **state) {
    (void)state;
    enum view_kind kind;
    assert_ok(view_kind_parse("student_eval", &kind));
    assert_int_equal(kind, VIEW_STUDENT_EVAL);
    assert_fails(view_kind_parse("nothing", &kind), STATUS_BAD_CONFIG, "perspective");
    struct view_spec spec = view_spec_default(VIEW_NONE, 0);
    assert_fails(view_spec_check(&spec), STATUS_BAD_CONFIG, "none: a side of 0");
    spec = view_spec_default(VIEW_STUDENT_TRAIN, 64), spec.resize_side = 63;
    assert_fails(view_spec_check(&spec), STATUS_BAD_CONFIG, "63");
    spec = view_spec_default(VIEW_STRONG, 64), spec.m = 11;
    assert_fails(view_spec_check(&spec), STATUS_BAD_CONFIG, "magnitude 11");
    spec = view_spec_default(VIEW_STRONG, 64), spec.n = AUGMENT_MAX_N + 1;
    assert_fails(view_spec_check(&spec), STATUS_BAD_CONFIG, "operations");
    spec = view_spec_default(VIEW_STRONG, 64), spec.cutout_size = -1;
    assert_fails(view_spec_check(&spec), STATUS_BAD_CONFIG, "cutout");
    struct image image = {0}, scratch = {0};
    fill(&image, 4, 4, 1);
    assert_fails(augment_apply(AUGMENT_COLOR, 1.5, &image, &scratch), STATUS_INTERNAL, "Color");
    assert_fails(augment_apply(AUGMENT_POSTERIZE, 0, &image, &scratch), STATUS_INTERNAL, "Posterize");
    assert_fails(image_reshape(&image, 0, 5), STATUS_BAD_DATA, "5 x 0");
    assert_fails(image_reshape(&image, 20000, 20000), STATUS_BAD_DATA, "20000");
    assert_int_equal(image.width, 4);
    image_free(&image);
}

/* All 256 values of all channels against divisions, and bfloat16 against the nearest by trying both
 * neighbours. */
static void normalisation_of_every_value(void **state) {
    (void)state;
    static const float mean[] = {0.485f, 0.456f, 0.406f}, std[] = {0.229f, 0.224f, 0.225f};
    struct image image = {0};
    for (int32_t width = 250; width <= 257; width++) { /* ends of every length */
        float wide[3 * 257];
        uint16_t narrow[3 * 257];
        assert_ok(image_reshape(&image, 1, width));
        for (int32_t i = 0; i < 3 * width; i++) image.data[i] = (uint8_t)(i / 3);
        normalise_f32(&image, wide);
        normalise_bf16(&image, narrow);
        for (int32_t i = 0; i < 3 * width; i++) {
            volatile float unit = image.data[i] / 255.0f; /* rounded here, whatever the compiler would like */
            volatile float centred = unit - mean[i % 3];
            volatile float want = centred / std[i % 3];
            if (wide[i] != want) fail_msg("%d: %.9g, not %.9g", image.data[i], wide[i], want);
            float near[3];
            for (int j = -1; j <= 1; j++) {
                const uint32_t bits = (uint32_t)(narrow[i] + j) << 16;
                memcpy(&near[j + 1], &bits, sizeof bits);
            }
            const float off = fabsf(near[1] - want), off_low = fabsf(near[0] - want),
                        off_high = fabsf(near[2] - want);
            assert_true(off <= off_low && off <= off_high);
            if (off == off_low || off == off_high) assert_int_equal(narrow[i] % 2, 0);
        }
    }
    image_free(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_depend_on_the_key_alone),
        cmocka_unit_test(draws_are_uniform),
        cmocka_unit_test(strong_views_are_shared_by_peers),
        cmocka_unit_test(strong_equals_that_of_the_plain_view),
        cmocka_unit_test(student_crops_and_flips),
        cmocka_unit_test(student_eval_crops_the_middle),
        cmocka_unit_test(cutout_of_any_size),
        cmocka_unit_test(no_allocation_after_the_first_call),
        cmocka_unit_test(refused_settings),
        cmocka_unit_test(normalisation_of_every_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
