#include "data_shards/image.h"

#include "common/memory.h"

#include <stdlib.h>
#include <string.h>

status_t image_reshape(struct image *image, int32_t height, int32_t width) {
    CHECK(height >= 1 && width >= 1 && (int64_t)height * width <= IMAGE_MAX_PIXELS, STATUS_BAD_DATA,
          "an image of %d x %d pixels (width x height): sides of at least 1 and at most %d pixels are read",
          width, height, IMAGE_MAX_PIXELS);
    const size_t n_bytes = 3 * (size_t)height * (size_t)width + IMAGE_SLACK_BYTES;
    if (n_bytes > image->capacity_bytes) {
        uint8_t *data = memory_aligned(n_bytes);
        CHECK(data, STATUS_NO_MEMORY, "no memory for an image of %d x %d pixels", width, height);
        free(image->data);
        image->data = data;
        image->capacity_bytes = n_bytes;
    }
    image->height = height;
    image->width = width;
    return STATUS_OK;
}

status_t image_copy(const struct image *in, struct image *out) {
    if (in == out) return STATUS_OK;
    TRY(image_reshape(out, in->height, in->width));
    memcpy(out->data, in->data, image_n_bytes(in));
    return STATUS_OK;
}

void image_free(struct image *image) {
    if (!image) return;
    free(image->data);
    *image = (struct image){0};
}
