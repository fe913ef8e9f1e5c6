#include "data_shards/view.h"

#include "data_shards/view_kernels.h"

#include <string.h>

static const char *const names[VIEW_N_KINDS] = {"none", "perspective", "strong", "student_train",
                                                "student_eval"};

const char *view_kind_name(enum view_kind kind) {
    return (unsigned)kind < VIEW_N_KINDS ? names[kind] : NULL;
}

status_t view_kind_parse(const char *name, enum view_kind *out) {
    for (int kind = 0; kind < VIEW_N_KINDS; kind++)
        if (strcmp(name, names[kind]) == 0) {
            *out = (enum view_kind)kind;
            return STATUS_OK;
        }
    return FAIL(STATUS_BAD_CONFIG,
                "no view is named '%s': none, perspective, strong, student_train or student_eval", name);
}

struct view_spec view_spec_default(enum view_kind kind, int32_t size) {
    return (struct view_spec){
        .kind = kind,
        .size = size,
        .resize_side = (int32_t)(((int64_t)size * 256 + 112) / 224),
        .flip = true,
        .n = 2,
        .m = 10,
        .cutout_size = 16,
    };
}

status_t view_spec_check(const struct view_spec *spec) {
    CHECK((unsigned)spec->kind < VIEW_N_KINDS, STATUS_BAD_CONFIG, "no such view");
    const char *name = names[spec->kind];
    CHECK(spec->size >= 1 && spec->size <= VIEW_MAX_SIDE, STATUS_BAD_CONFIG,
          "view %s: a side of %d pixels is not in 1 .. %d", name, spec->size, VIEW_MAX_SIDE);
    if (spec->kind == VIEW_STUDENT_TRAIN || spec->kind == VIEW_STUDENT_EVAL)
        CHECK(spec->resize_side >= spec->size && spec->resize_side <= VIEW_MAX_SIDE, STATUS_BAD_CONFIG,
              "view %s: a side of %d pixels to crop %d from is not in %d .. %d", name, spec->resize_side,
              spec->size, spec->size, VIEW_MAX_SIDE);
    if (spec->kind == VIEW_STRONG) {
        CHECK(spec->n >= 0 && spec->n <= AUGMENT_MAX_N, STATUS_BAD_CONFIG,
              "view strong: %d operations are not in 0 .. %d", spec->n, AUGMENT_MAX_N);
        CHECK(spec->m >= 2 && spec->m <= AUGMENT_MAX_LEVEL, STATUS_BAD_CONFIG,
              "view strong: magnitude %d is not in 2 .. %d", spec->m, AUGMENT_MAX_LEVEL);
        CHECK(spec->cutout_size >= 0 && spec->cutout_size <= VIEW_MAX_SIDE, STATUS_BAD_CONFIG,
              "view strong: a cutout of %d pixels is not in 0 .. %d", spec->cutout_size, VIEW_MAX_SIDE);
    }
    return STATUS_OK;
}

/* out = in in the middle of a black square, the odd pixel to the right or the bottom. */
static status_t pad_to_square(const struct image *in, struct image *out) {
    const int32_t side = in->height > in->width ? in->height : in->width;
    TRY(image_reshape(out, side, side));
    const size_t in_bytes = 3 * (size_t)in->width, out_bytes = 3 * (size_t)side;
    const int32_t top = (side - in->height) / 2, left = (side - in->width) / 2;
    memset(out->data, 0, image_n_bytes(out));
    uint8_t *to = out->data + (size_t)top * out_bytes + 3 * (size_t)left;
    for (int32_t y = 0; y < in->height; y++)
        memcpy(to + (size_t)y * out_bytes, in->data + (size_t)y * in_bytes, in_bytes);
    return STATUS_OK;
}

/* The S x S piece of `in` whose left top pixel is (left, top), from right to left if `flip`: crop of the
 * flipped image counted from its own left. */
static status_t crop(const struct image *in, int32_t left, int32_t top, bool flip, int32_t size,
                     struct image *out) {
    TRY(image_reshape(out, size, size));
    for (int32_t y = 0; y < size; y++) {
        const uint8_t *row = in->data + 3 * (size_t)(top + y) * (size_t)in->width;
        uint8_t *to = out->data + 3 * (size_t)y * (size_t)size;
        if (!flip) {
            memcpy(to, row + 3 * left, 3 * (size_t)size);
            continue;
        }
        const uint8_t *from = row + 3 * (in->width - 1 - left);
        for (int32_t x = 0; x < size; x++, from -= 3, to += 3) memcpy(to, from, 3);
    }
    return STATUS_OK;
}

/* Half of n, ties to the even integer: where torchvision's CenterCrop begins. */
static int32_t half_to_even(int32_t n) {
    return n / 2 + (n % 4 == 3);
}

static struct rng_key rng_key_of(const struct view_key *key, enum rng_purpose purpose, uint8_t peer) {
    return (struct rng_key){
        .seed = key->seed,
        .stage = key->stage,
        .peer = peer,
        .purpose = (uint8_t)purpose,
        .sub = key->view,
        .step = key->step,
        .item = key->image,
    };
}

static status_t apply_student(struct view_workspace *workspace, const struct view_spec *spec,
                              const struct view_key *key, const struct image *in, struct image *out) {
    const int32_t side = spec->resize_side, room = side - spec->size;
    const struct image *resized = &workspace->scratch;
    TRY(resize_bicubic(&workspace->resize, in, side, side, &workspace->scratch));
    if (spec->kind == VIEW_STUDENT_EVAL)
        return crop(resized, half_to_even(room), half_to_even(room), false, spec->size, out);
    struct rng rng = rng_start(rng_key_of(key, RNG_VIEW, key->peer));
    const bool flip = rng_below(&rng, 2) && spec->flip;
    const int32_t left = (int32_t)rng_below(&rng, (uint32_t)room + 1);
    const int32_t top = (int32_t)rng_below(&rng, (uint32_t)room + 1);
    return crop(resized, left, top, flip, spec->size, out);
}

static status_t apply_strong(struct view_workspace *workspace, const struct view_spec *spec,
                             const struct view_key *key, const struct image *in, struct image *out) {
    TRY(resize_bicubic(&workspace->resize, in, spec->size, spec->size, out));
    const struct augment_draw draw = augment_draw(rng_key_of(key, RNG_AUGMENT, 255), spec->n, spec->m);
    return augment_apply_draw(&draw, spec->cutout_size, out, &workspace->scratch);
}

status_t view_apply(struct view_workspace *workspace, const struct view_spec *spec,
                    const struct view_key *key, const struct image *in, struct image *out) {
    const struct image *from = in;
    switch (spec->kind) {
    case VIEW_PERSPECTIVE:
        if (in->height != in->width) {
            TRY(pad_to_square(in, &workspace->padded));
            from = &workspace->padded;
        }
        return resize_bicubic(&workspace->resize, from, spec->size, spec->size, out);
    case VIEW_STRONG:
        return apply_strong(workspace, spec, key, in, out);
    case VIEW_STUDENT_TRAIN:
    case VIEW_STUDENT_EVAL:
        return apply_student(workspace, spec, key, in, out);
    case VIEW_NONE:
    case VIEW_N_KINDS:
        break;
    }
    return resize_bicubic(&workspace->resize, in, spec->size, spec->size, out);
}

void view_workspace_free(struct view_workspace *workspace) {
    resize_workspace_free(&workspace->resize);
    image_free(&workspace->padded);
    image_free(&workspace->scratch);
}

void normalise_f32(const struct image *image, float *out) {
    SIMD_PICK(normalise_f32)(image->data, image_n_bytes(image), out);
}

void normalise_bf16(const struct image *image, uint16_t *out) {
    SIMD_PICK(normalise_bf16)(image->data, image_n_bytes(image), out);
}
