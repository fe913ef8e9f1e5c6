/* WebP through libwebp, where the build found it; one picture a file. */
#include "data_shards/decode_formats.h"

#ifdef HAVE_WEBP
#include <webp/decode.h>

bool decode_has_webp(void) {
    return true;
}

status_t decode_webp_probe(const uint8_t *bytes, size_t n_bytes, int32_t *height, int32_t *width) {
    WebPBitstreamFeatures features;
    const VP8StatusCode code = WebPGetFeatures(bytes, n_bytes, &features);
    CHECK(code == VP8_STATUS_OK, STATUS_BAD_DATA, "WebP: %s",
          code == VP8_STATUS_NOT_ENOUGH_DATA ? "the file ends early" : "damaged header");
    CHECK(!features.has_animation, STATUS_BAD_DATA, "WebP: an animation: take one picture out of it");
    CHECK(features.height > 0 && features.width > 0, STATUS_BAD_DATA, "WebP: damaged header");
    TRY(decode_check_sides((uint32_t)features.height, (uint32_t)features.width, n_bytes, UINT32_MAX));
    *height = features.height;
    *width = features.width;
    return STATUS_OK;
}

status_t decode_webp(const uint8_t *bytes, size_t n_bytes, struct image *out) {
    int32_t height, width;
    TRY(decode_webp_probe(bytes, n_bytes, &height, &width));
    TRY(image_reshape(out, height, width));
    CHECK(WebPDecodeRGBInto(bytes, n_bytes, out->data, image_n_bytes(out), 3 * width), STATUS_BAD_DATA,
          "WebP: damaged or cut off");
    return STATUS_OK;
}

#else

bool decode_has_webp(void) {
    return false;
}

status_t decode_webp_probe(const uint8_t *bytes, size_t n_bytes, int32_t *height, int32_t *width) {
    (void)bytes, (void)n_bytes, (void)height, (void)width;
    return FAIL(STATUS_BAD_DATA,
                "WebP: this build has no libwebp: install its headers and build again, or convert");
}

status_t decode_webp(const uint8_t *bytes, size_t n_bytes, struct image *out) {
    (void)out;
    return decode_webp_probe(bytes, n_bytes, NULL, NULL);
}
#endif
