#include "data_shards/decode.h"

#include "data_shards/decode_formats.h"

#include <string.h>

const char *image_format_name(enum image_format format) {
    static const char *const names[] = {"unknown", "JPEG", "PNG", "WebP"};
    return names[format];
}

enum image_format decode_format(const uint8_t *bytes, size_t n_bytes) {
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (n_bytes >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) return IMAGE_JPEG;
    if (n_bytes >= sizeof png && memcmp(bytes, png, sizeof png) == 0) return IMAGE_PNG;
    if (n_bytes >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return IMAGE_WEBP;
    return IMAGE_UNKNOWN;
}

static status_t unknown_format(size_t n_bytes) {
    if (n_bytes == 0) return FAIL(STATUS_BAD_DATA, "the file is empty");
    return FAIL(STATUS_BAD_DATA, "neither JPEG nor PNG nor WebP: convert it, or take it off the list");
}

status_t decode_check_sides(uint32_t height, uint32_t width, size_t n_bytes, uint32_t max_pixels_per_byte) {
    CHECK(height >= 1 && width >= 1, STATUS_BAD_DATA, "the header says %u x %u pixels", width, height);
    CHECK((uint64_t)height * width <= IMAGE_MAX_PIXELS, STATUS_BAD_DATA,
          "the header says %u x %u pixels, more than the %d that are read: shrink the image", width, height,
          IMAGE_MAX_PIXELS);
    CHECK((uint64_t)height * width / max_pixels_per_byte <= n_bytes, STATUS_BAD_DATA,
          "the header says %u x %u pixels, more than %zu bytes can hold", width, height, n_bytes);
    return STATUS_OK;
}

status_t decode_probe(const uint8_t *bytes, size_t n_bytes, struct image_info *out) {
    struct image_info info = {.format = decode_format(bytes, n_bytes)};
    switch (info.format) {
    case IMAGE_JPEG:
        TRY(decode_jpeg_probe(bytes, n_bytes, &info.height, &info.width));
        break;
    case IMAGE_PNG:
        TRY(decode_png_probe(bytes, n_bytes, &info.height, &info.width));
        break;
    case IMAGE_WEBP:
        TRY(decode_webp_probe(bytes, n_bytes, &info.height, &info.width));
        break;
    case IMAGE_UNKNOWN:
        return unknown_format(n_bytes);
    }
    *out = info;
    return STATUS_OK;
}

status_t decode_image(const uint8_t *bytes, size_t n_bytes, struct image *out) {
    switch (decode_format(bytes, n_bytes)) {
    case IMAGE_JPEG:
        return decode_jpeg(bytes, n_bytes, out);
    case IMAGE_PNG:
        return decode_png(bytes, n_bytes, out);
    case IMAGE_WEBP:
        return decode_webp(bytes, n_bytes, out);
    case IMAGE_UNKNOWN:
        break;
    }
    return unknown_format(n_bytes);
}
