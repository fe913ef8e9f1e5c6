#include "data_shards/augment.h"

#include "data_shards/view_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

static const char *const names[AUGMENT_N_OPS] = {
    "AutoContrast", "Brightness", "Color",  "Contrast", "Equalize", "Identity",   "Posterize",
    "Rotate",       "Sharpness",  "ShearX", "ShearY",   "Solarize", "TranslateX", "TranslateY",
};

const char *augment_op_name(enum augment_op op) {
    return (unsigned)op < AUGMENT_N_OPS ? names[op] : NULL;
}

double augment_argument(enum augment_op op, int32_t level, int32_t sign, int32_t height, int32_t width) {
    const int32_t bits = level * 4 / 10 + 4, degrees = level * 30 / 10, threshold = 256 - level * 256 / 10;
    switch (op) {
    case AUGMENT_BRIGHTNESS:
    case AUGMENT_COLOR:
    case AUGMENT_CONTRAST:
    case AUGMENT_SHARPNESS:
        return level * 0.9 / 10 + 0.05;
    case AUGMENT_POSTERIZE:
        return bits;
    case AUGMENT_ROTATE:
        return sign * degrees;
    case AUGMENT_SHEAR_X:
    case AUGMENT_SHEAR_Y:
        return sign * (level * 0.3 / 10);
    case AUGMENT_SOLARIZE:
        return threshold;
    case AUGMENT_TRANSLATE_X:
        return trunc(sign * (level * 0.3 / 10) * width);
    case AUGMENT_TRANSLATE_Y:
        return trunc(sign * (level * 0.3 / 10) * height);
    case AUGMENT_AUTO_CONTRAST:
    case AUGMENT_EQUALIZE:
    case AUGMENT_IDENTITY:
    case AUGMENT_N_OPS:
        break;
    }
    return 0;
}

/* ---- by table -------------------------------------------------------------------------------------- */

static void count_values(const struct image *image, uint32_t histogram[3][256]) {
    /* Two histograms in turn, for equal neighbours would wait for each other. */
    static const size_t stride = 6;
    uint32_t odd[3][256] = {0};
    memset(histogram, 0, 3 * sizeof histogram[0]);
    const size_t n = image_n_bytes(image);
    const uint8_t *p = image->data;
    size_t i = 0;
    for (; i + stride <= n; i += stride)
        for (size_t c = 0; c < 3; c++) {
            histogram[c][p[i + c]]++;
            odd[c][p[i + 3 + c]]++;
        }
    for (; i < n; i++) histogram[i % 3][p[i]]++;
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) histogram[c][v] += odd[c][v];
}

static void identity_table(uint8_t table[256]) {
    for (int v = 0; v < 256; v++) table[v] = (uint8_t)v;
}

static void autocontrast_table(const uint32_t histogram[256], uint8_t table[256]) {
    int low = 0, high = 255;
    while (low < 255 && !histogram[low]) low++;
    while (high > 0 && !histogram[high]) high--;
    identity_table(table);
    if (high <= low) return;
    const double scale = 255.0 / (high - low), offset = -low * scale;
    for (int v = 0; v < 256; v++) {
        const int to = (int)(v * scale + offset);
        table[v] = (uint8_t)(to < 0 ? 0 : to > 255 ? 255 : to);
    }
}

static void equalize_table(const uint32_t histogram[256], uint8_t table[256]) {
    uint32_t n_pixels = 0, n_used = 0, last = 0;
    for (int v = 0; v < 256; v++) {
        n_pixels += histogram[v];
        n_used += histogram[v] > 0;
        if (histogram[v]) last = histogram[v];
    }
    identity_table(table);
    const uint32_t step = (n_pixels - last) / 255;
    if (n_used <= 1 || step == 0) return;
    uint32_t below = step / 2;
    for (int v = 0; v < 256; v++) {
        const uint32_t to = below / step;
        table[v] = (uint8_t)(to > 255 ? 255 : to);
        below += histogram[v];
    }
}

static void by_table(struct image *image, void (*make)(const uint32_t histogram[256], uint8_t table[256])) {
    uint32_t histogram[3][256];
    uint8_t table[3][256];
    count_values(image, histogram);
    for (int c = 0; c < 3; c++) make(histogram[c], table[c]);
    const size_t n = image_n_bytes(image);
    uint8_t *p = image->data;
    for (size_t i = 0; i < n; i += 3) {
        p[i] = table[0][p[i]];
        p[i + 1] = table[1][p[i + 1]];
        p[i + 2] = table[2][p[i + 2]];
    }
}

/* ---- geometry -------------------------------------------------------------------------------------- */

/* The pixel (x, y) of the result shows the source at (a x' + b y' + c, d x' + e y' + f), x' = x + 1/2, y' = y
 * + 1/2. */
struct affine {
    double a, b, c, d, e, f;
};

/* 16.16 fixed point. */
static int32_t fixed(double v) {
    return (int32_t)floor(v * 65536.0 + 0.5);
}

/* The row of the result that shows `in` moved sideways: out(x) = in(x + shift), black outside. */
static void shifted_row(const uint8_t *in, int32_t width, int32_t shift, uint8_t *out) {
    const int32_t begin = shift < 0 ? (-shift < width ? -shift : width) : 0;
    const int32_t end = shift > 0 ? (shift < width ? width - shift : 0) : width;
    memset(out, 0, 3 * (size_t)width);
    if (end > begin) memcpy(out + 3 * begin, in + 3 * (begin + shift), 3 * (size_t)(end - begin));
}

/* One row from the source positions (u + x du, v + x dv) >> 16. */
static void sampled_row(const struct image *in, int32_t u, int32_t v, int32_t du, int32_t dv, uint8_t *out) {
    const uint32_t width = (uint32_t)in->width, height = (uint32_t)in->height;
    for (uint32_t x = 0; x < width; x++, u += du, v += dv, out += 3) {
        const uint32_t sx = (uint32_t)(u >> 16), sy = (uint32_t)(v >> 16);
        if (sx < width && sy < height)
            memcpy(out, in->data + 3 * ((size_t)sy * width + sx), 3);
        else
            memset(out, 0, 3);
    }
}

/* Nearest source pixel, black outside. As in Pillow each of the six numbers is rounded to fixed point, and
 * then they are added up. */
static status_t transform(struct image *image, struct image *scratch, struct affine m) {
    CHECK(image->width < 1 << 13 && image->height < 1 << 13, STATUS_INTERNAL,
          "geometric operations take sides below 8192 pixels");
    TRY(image_reshape(scratch, image->height, image->width));
    const int32_t du = fixed(m.a), dv = fixed(m.d), u_row = fixed(m.b), v_row = fixed(m.e);
    int32_t u = fixed(m.c + m.a * 0.5 + m.b * 0.5), v = fixed(m.f + m.d * 0.5 + m.e * 0.5);
    const size_t row_bytes = 3 * (size_t)image->width;
    uint8_t *out = scratch->data;
    for (int32_t y = 0; y < image->height; y++, u += u_row, v += v_row, out += row_bytes) {
        const int32_t sy = v >> 16;
        if (du != 65536 || dv != 0)
            sampled_row(image, u, v, du, dv, out);
        else if (sy >= 0 && sy < image->height)
            shifted_row(image->data + (size_t)sy * row_bytes, image->width, u >> 16, out);
        else
            memset(out, 0, row_bytes);
    }
    const struct image swap = *image;
    *image = *scratch;
    *scratch = swap;
    return STATUS_OK;
}

/* To 15 decimals, correctly rounded, as Python's round(). */
static double round_15(double v) {
    char text[32];
    snprintf(text, sizeof text, "%.15f", v);
    return strtod(text, NULL);
}

/* Anticlockwise by `degrees` about the middle. */
static struct affine rotation(double degrees, int32_t height, int32_t width) {
    double turned = fmod(degrees, 360.0);
    if (turned < 0) turned += 360.0;
    const double angle = -(turned * (3.14159265358979323846 / 180.0));
    const double cosine = round_15(cos(angle)), sine = round_15(sin(angle)),
                 minus_sine = round_15(-sin(angle));
    const double cx = width / 2.0, cy = height / 2.0;
    return (struct affine){
        .a = cosine,
        .b = sine,
        .c = cosine * -cx + sine * -cy + cx,
        .d = minus_sine,
        .e = cosine,
        .f = minus_sine * -cx + cosine * -cy + cy,
    };
}

/* ---- enhancement ----------------------------------------------------------------------------------- */

static void contrast(struct image *image, float factor) {
    const size_t n_pixels = (size_t)image->height * (size_t)image->width;
    const double mean = (double)SIMD_PICK(luma_sum)(image->data, n_pixels) / (double)n_pixels;
    SIMD_PICK(blend_constant)(image->data, image_n_bytes(image), (int32_t)(mean + 0.5), factor);
}

static status_t sharpness(struct image *image, struct image *scratch, float factor) {
    if (image->height < 3 || image->width < 3) return STATUS_OK; /* smoothing leaves those as they are */
    TRY(image_reshape(scratch, image->height, image->width));
    const size_t n = 3 * (size_t)image->width, last = (size_t)image->height - 1;
    memcpy(scratch->data, image->data, n);
    memcpy(scratch->data + last * n, image->data + last * n, n);
    for (size_t y = 1; y < last; y++) {
        const uint8_t *row = image->data + y * n;
        SIMD_PICK(sharpen_row)(row - n, row, row + n, n, factor, scratch->data + y * n);
    }
    const struct image swap = *image;
    *image = *scratch;
    *scratch = swap;
    return STATUS_OK;
}

static void posterize(struct image *image, int32_t bits) {
    const size_t n = image_n_bytes(image);
    const uint8_t mask = (uint8_t)(256 - (1 << (8 - bits)));
    for (size_t i = 0; i < n; i++) image->data[i] &= mask;
}

/* ---- all of them ----------------------------------------------------------------------------------- */

static status_t check_argument(enum augment_op op, double argument) {
    const bool is_factor =
        op == AUGMENT_BRIGHTNESS || op == AUGMENT_COLOR || op == AUGMENT_CONTRAST || op == AUGMENT_SHARPNESS;
    CHECK(!is_factor || (argument >= 0 && argument <= 1), STATUS_INTERNAL, "%s by %g: not in 0..1", names[op],
          argument);
    CHECK(op != AUGMENT_POSTERIZE || (argument >= 1 && argument <= 8), STATUS_INTERNAL,
          "Posterize to %g bits: not in 1..8", argument);
    CHECK(fabs(argument) < 8192, STATUS_INTERNAL, "%s by %g: too far", names[op], argument);
    return STATUS_OK;
}

status_t augment_apply(enum augment_op op, double argument, struct image *image, struct image *scratch) {
    CHECK((unsigned)op < AUGMENT_N_OPS && image->data, STATUS_INTERNAL,
          "augment_apply: no such operation or image");
    TRY(check_argument(op, argument));
    const size_t n_bytes = image_n_bytes(image);
    const float factor = (float)argument;
    switch (op) {
    case AUGMENT_AUTO_CONTRAST:
        by_table(image, autocontrast_table);
        break;
    case AUGMENT_EQUALIZE:
        by_table(image, equalize_table);
        break;
    case AUGMENT_BRIGHTNESS:
        SIMD_PICK(blend_constant)(image->data, n_bytes, 0, factor);
        break;
    case AUGMENT_COLOR:
        SIMD_PICK(blend_luma)(image->data, n_bytes / 3, factor);
        break;
    case AUGMENT_CONTRAST:
        contrast(image, factor);
        break;
    case AUGMENT_SHARPNESS:
        return sharpness(image, scratch, factor);
    case AUGMENT_POSTERIZE:
        posterize(image, (int32_t)argument);
        break;
    case AUGMENT_SOLARIZE:
        SIMD_PICK(solarize)(image->data, n_bytes, (int32_t)argument);
        break;
    case AUGMENT_ROTATE:
        return transform(image, scratch, rotation(argument, image->height, image->width));
    case AUGMENT_SHEAR_X:
        return transform(image, scratch, (struct affine){.a = 1, .b = argument, .e = 1});
    case AUGMENT_SHEAR_Y:
        return transform(image, scratch, (struct affine){.a = 1, .d = argument, .e = 1});
    case AUGMENT_TRANSLATE_X:
        return transform(image, scratch, (struct affine){.a = 1, .c = argument, .e = 1});
    case AUGMENT_TRANSLATE_Y:
        return transform(image, scratch, (struct affine){.a = 1, .e = 1, .f = argument});
    case AUGMENT_IDENTITY:
    case AUGMENT_N_OPS:
        break;
    }
    return STATUS_OK;
}

void augment_cutout(struct image *image, double x, double y, int32_t size) {
    if (size <= 0) return;
    const int32_t half = size / 2, w = image->width, h = image->height;
    const int32_t left = (int32_t)fmax(0, x - half), top = (int32_t)fmax(0, y - half);
    /* The right and the bottom edge are inclusive, so these ends are one more. */
    const int32_t right_end = left + size < w ? left + size + 1 : w,
                  bottom_end = top + size < h ? top + size + 1 : h;
    if (right_end <= left) return;
    for (int32_t row = top; row < bottom_end; row++)
        memset(image->data + 3 * ((size_t)row * (size_t)w + (size_t)left), 127,
               3 * (size_t)(right_end - left));
}

struct augment_draw augment_draw(struct rng_key key, int32_t n, int32_t m) {
    struct rng rng = rng_start(key);
    struct augment_draw draw = {.n = n, .cutout_x = rng_double(&rng), .cutout_y = rng_double(&rng)};
    for (int32_t i = 0; i < n; i++) {
        draw.step[i].op = (enum augment_op)rng_below(&rng, AUGMENT_N_OPS);
        draw.step[i].level = 1 + (int32_t)rng_below(&rng, (uint32_t)(m - 1));
        draw.step[i].sign = rng_below(&rng, 2) ? 1 : -1;
        draw.step[i].applied = rng_below(&rng, 2);
    }
    return draw;
}

status_t augment_apply_draw(const struct augment_draw *draw, int32_t cutout_size, struct image *image,
                            struct image *scratch) {
    for (int32_t i = 0; i < draw->n; i++) {
        if (!draw->step[i].applied) continue;
        const enum augment_op op = draw->step[i].op;
        const double argument =
            augment_argument(op, draw->step[i].level, draw->step[i].sign, image->height, image->width);
        TRY(augment_apply(op, argument, image, scratch));
    }
    augment_cutout(image, draw->cutout_x * image->width, draw->cutout_y * image->height, cutout_size);
    return STATUS_OK;
}
