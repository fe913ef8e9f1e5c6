/* An 8-bit RGB image whose buffer grows and is used again. */
#ifndef DATA_SHARDS_IMAGE_H
#define DATA_SHARDS_IMAGE_H

#include "common/status.h"

#include <stddef.h>
#include <stdint.h>

enum {
    IMAGE_MAX_PIXELS = 178956970, /* H * W; where Pillow calls a file a decompression bomb */
    IMAGE_SLACK_BYTES = 64, /* readable behind the last pixel, so that kernels may load whole registers */
};

/* Zero-initialise before the first use; release with image_free(). */
struct image {
    uint8_t *data; /* (H,W,3) RGB, rows contiguous; owned; NULL while the capacity is 0 */
    int32_t height, width;
    size_t capacity_bytes; /* allocated, IMAGE_SLACK_BYTES included */
};

static inline size_t image_n_bytes(const struct image *image) {
    return 3 * (size_t)image->height * (size_t)image->width;
}

/* Make the image height x width, contents undefined; allocates only when it has never been that large.
 * STATUS_BAD_DATA for a side below 1 or more than IMAGE_MAX_PIXELS, STATUS_NO_MEMORY. On failure the image
 * is unchanged. */
status_t image_reshape(struct image *image, int32_t height, int32_t width);

/* out = a copy of in; `out` may be `in`. */
status_t image_copy(const struct image *in, struct image *out);

/* Accepts NULL and a zeroed struct; leaves a zeroed struct. */
void image_free(struct image *image);

#endif
