#include "data_shards/encode_png.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

status_t encode_png(const struct image *image, uint8_t **bytes_out, size_t *n_bytes_out) {
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)image->width,
                     .height = (png_uint_32)image->height,
                     .format = PNG_FORMAT_RGB};
    png_alloc_size_t n = PNG_IMAGE_PNG_SIZE_MAX(png);
    uint8_t *bytes = malloc(n);
    CHECK(bytes, STATUS_NO_MEMORY, "out of memory for a PNG of %d x %d", image->width, image->height);
    if (!png_image_write_to_memory(&png, bytes, &n, 0, image->data, 0, NULL)) {
        const status_t status =
            FAIL(STATUS_INTERNAL, "PNG of %d x %d: %s", image->width, image->height, png.message);
        png_image_free(&png);
        free(bytes);
        return status;
    }
    *bytes_out = bytes;
    *n_bytes_out = n;
    return STATUS_OK;
}
