#include "data_shards/resize.h"

#include "common/memory.h"
#include "data_shards/resize_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

/* Keys' cubic convolution with a = -0.5, in the order of operations that Pillow has. */
static double bicubic(double x) {
    x = fabs(x);
    if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * -0.5;
    return 0.0;
}

struct taps {
    int32_t first, count;
    double centre, stretch; /* in input samples; the kernel's stretch, >= 1 */
};

static struct taps taps_of(int32_t n_in, int32_t n_out, int32_t i) {
    const double scale = (double)n_in / n_out, stretch = scale > 1.0 ? scale : 1.0, support = 2.0 * stretch;
    const double centre = (i + 0.5) * scale;
    int32_t first = (int32_t)(centre - support + 0.5), end = (int32_t)(centre + support + 0.5);
    if (first < 0) first = 0;
    if (end > n_in) end = n_in;
    return (struct taps){.first = first, .count = end - first, .centre = centre, .stretch = stretch};
}

/* The weights of one output sample into weight[0 .. count). */
static void weigh(struct taps taps, int32_t *weight) {
    const double per_stretch = 1.0 / taps.stretch;
    double sum = 0;
    for (int32_t t = 0; t < taps.count; t++)
        sum += bicubic((t + taps.first - taps.centre + 0.5) * per_stretch);
    for (int32_t t = 0; t < taps.count; t++) {
        double w = bicubic((t + taps.first - taps.centre + 0.5) * per_stretch);
        if (sum != 0.0) w /= sum;
        w *= 1 << RESIZE_BITS;
        weight[t] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
}

/* The forms that the vectorised kernels read; n_taps is a multiple of 4. */
static void pack(const int32_t *weight, int32_t n_taps, int32_t *pair, int32_t *digit) {
    for (int32_t t = 0; t < n_taps; t += 2) {
        const uint32_t high0 = (uint32_t)(weight[t] >> RESIZE_SPLIT_BITS), low0 = weight[t] & RESIZE_LOW_MASK;
        const uint32_t high1 = (uint32_t)(weight[t + 1] >> RESIZE_SPLIT_BITS),
                       low1 = weight[t + 1] & RESIZE_LOW_MASK;
        pair[t] = (int32_t)(high1 << 16 | (high0 & 0xffff));
        pair[t + 1] = (int32_t)(low1 << 16 | low0);
    }
    for (int32_t t = 0; t < n_taps; t += 4, digit += 3) {
        uint32_t word[3] = {0};
        for (int32_t j = 0; j < 4; j++) {
            int32_t rest = weight[t + j];
            for (int32_t d = 0; d < 3; d++) {
                const int8_t value = (int8_t)(uint8_t)(rest & 0xff);
                word[d] |= (uint32_t)(uint8_t)value << 8 * j;
                rest = (rest - value) >> 8;
            }
        }
        memcpy(digit, word, sizeof word);
    }
}

/* Room for n elements; the contents are lost. */
static bool reserve(void *array, size_t *capacity, size_t n, size_t element_bytes) {
    if (n <= *capacity) return true;
    void *old, *fresh = calloc(n, element_bytes);
    if (!fresh) return false;
    memcpy(&old, array, sizeof old);
    free(old);
    memcpy(array, &fresh, sizeof fresh);
    *capacity = n;
    return true;
}

static status_t axis_reserve(struct resize_axis *axis, int32_t n_in, int32_t n_out, int32_t n_taps) {
    size_t n_weights, n_elem;
    axis->n_in = axis->n_out = 0; /* no longer what it was, should memory run out */
    const bool fits = size_mul((size_t)n_out, (size_t)n_taps, &n_weights) &&
                      size_mul(n_weights, 3, &n_elem) &&
                      reserve(&axis->first, &axis->first_capacity, (size_t)n_out, sizeof *axis->first) &&
                      reserve(&axis->weight, &axis->weight_capacity, n_elem, sizeof *axis->weight);
    CHECK(fits, STATUS_NO_MEMORY, "no memory for the weights of resizing %d to %d pixels", n_in, n_out);
    axis->pair = axis->weight + n_weights;
    axis->digit = axis->pair + n_weights;
    return STATUS_OK;
}

static status_t axis_make(struct resize_axis *axis, int32_t n_in, int32_t n_out) {
    int32_t n_taps = 0;
    for (int32_t i = 0; i < n_out; i++) {
        const int32_t count = taps_of(n_in, n_out, i).count;
        if (count > n_taps) n_taps = count;
    }
    n_taps = (n_taps + 3) & ~3;
    TRY(axis_reserve(axis, n_in, n_out, n_taps));
    for (int32_t i = 0; i < n_out; i++) {
        const struct taps taps = taps_of(n_in, n_out, i);
        int32_t *weight = axis->weight + (size_t)i * (size_t)n_taps;
        /* Zeros go in front where behind they would reach out of the row. */
        int32_t n_front = taps.first + n_taps - n_in;
        n_front = n_front < 0 ? 0 : n_front > taps.first ? taps.first : n_front;
        memset(weight, 0, (size_t)n_taps * sizeof *weight);
        weigh(taps, weight + n_front);
        axis->first[i] = taps.first - n_front;
        const size_t at = (size_t)i * (size_t)n_taps;
        pack(weight, n_taps, axis->pair + at, axis->digit + at / 4 * 3);
    }
    axis->n_in = n_in;
    axis->n_out = n_out;
    axis->n_taps = n_taps;
    return STATUS_OK;
}

static status_t axis_find(struct resize_workspace *workspace, int32_t n_in, int32_t n_out,
                          const struct resize_axis **out) {
    for (int32_t i = 0; i < RESIZE_CACHED_AXES; i++) {
        *out = &workspace->axis[i];
        if ((*out)->n_in == n_in && (*out)->n_out == n_out) return STATUS_OK;
    }
    struct resize_axis *axis = &workspace->axis[workspace->next];
    workspace->next = (workspace->next + 1) % RESIZE_CACHED_AXES;
    *out = axis;
    return axis_make(axis, n_in, n_out);
}

status_t resize_bicubic(struct resize_workspace *workspace, const struct image *in, int32_t height,
                        int32_t width, struct image *out) {
    CHECK(in != out && in->data, STATUS_INTERNAL, "resize_bicubic: no image, or one onto itself");
    if (in->height == height && in->width == width) return image_copy(in, out);
    TRY(image_reshape(out, height, width));
    const struct image *across = in;
    const struct resize_axis *axis;
    if (in->width != width) {
        TRY(axis_find(workspace, in->width, width, &axis));
        struct image *target = in->height == height ? out : &workspace->across;
        TRY(image_reshape(target, in->height, width));
        SIMD_PICK(resize_across)(axis, in->data, in->height, target->data);
        across = target;
    }
    if (in->height == height) return STATUS_OK;
    TRY(axis_find(workspace, in->height, height, &axis));
    SIMD_PICK(resize_down)(axis, across->data, 3 * (size_t)width, out->data);
    return STATUS_OK;
}

void resize_workspace_free(struct resize_workspace *workspace) {
    for (int32_t i = 0; i < RESIZE_CACHED_AXES; i++) {
        free(workspace->axis[i].first);
        free(workspace->axis[i].weight);
    }
    image_free(&workspace->across);
    *workspace = (struct resize_workspace){0};
}
