/* One reader a file format; only decode.c includes this. Contracts as in decode.h. */
#ifndef DATA_SHARDS_DECODE_FORMATS_H
#define DATA_SHARDS_DECODE_FORMATS_H

#include "data_shards/decode.h"

status_t decode_jpeg_probe(const uint8_t *bytes, size_t n_bytes, int32_t *height, int32_t *width);
status_t decode_jpeg(const uint8_t *bytes, size_t n_bytes, struct image *out);

status_t decode_png_probe(const uint8_t *bytes, size_t n_bytes, int32_t *height, int32_t *width);
status_t decode_png(const uint8_t *bytes, size_t n_bytes, struct image *out);

status_t decode_webp_probe(const uint8_t *bytes, size_t n_bytes, int32_t *height, int32_t *width);
status_t decode_webp(const uint8_t *bytes, size_t n_bytes, struct image *out);

/* STATUS_BAD_DATA unless a header's sides are ones that image_reshape() takes and a file of n_bytes can hold
 * so many pixels at `max_pixels_per_byte`: so a small damaged or malicious file cannot ask for a gigabyte. */
status_t decode_check_sides(uint32_t height, uint32_t width, size_t n_bytes, uint32_t max_pixels_per_byte);

#endif
