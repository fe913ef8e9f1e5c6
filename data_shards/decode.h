/* Encoded files -> RGB pixels, byte for byte what Pillow's Image.open(..).convert("RGB") gives.
 *
 * JPEG: grey, YCbCr, RGB, CMYK and YCCK (Adobe's inverted inks), accurate DCT and smooth upsampling. PNG: all
 * colour types and depths; alpha and transparency are dropped, 16-bit grey is clipped to 255, other 16-bit
 * samples keep their high byte. WebP where the library is built in (decode_has_webp()). EXIF orientation is
 * not applied.
 *
 * All functions are thread-safe and keep nothing between calls. Every kind of damage gives STATUS_BAD_DATA
 * with a message that says what is wrong but not in which file: the caller adds that with status_context().
 * As in Pillow, a JPEG that ends early is an error; one with damaged entropy-coded data inside may give
 * pixels. */
#ifndef DATA_SHARDS_DECODE_H
#define DATA_SHARDS_DECODE_H

#include "common/status.h"
#include "data_shards/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };

/* "JPEG", "PNG", "WebP" or "unknown". Static storage. */
const char *image_format_name(enum image_format format);

struct image_info {
    enum image_format format;
    int32_t height, width;
};

/* By the first bytes alone; IMAGE_UNKNOWN for anything else, an empty file included. */
enum image_format decode_format(const uint8_t *bytes, size_t n_bytes);

/* Format and sides from the headers, without decoding pixels. STATUS_BAD_DATA. */
status_t decode_probe(const uint8_t *bytes, size_t n_bytes, struct image_info *out);

/* Decode a whole file into `out`, reshaping it. On failure the contents of `out` are undefined, but it stays
 * usable and must still be freed. STATUS_BAD_DATA, STATUS_NO_MEMORY. */
status_t decode_image(const uint8_t *bytes, size_t n_bytes, struct image *out);

/* Whether this build reads WebP. */
bool decode_has_webp(void);

#endif
