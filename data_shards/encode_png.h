/* Writing PNG, for previews. */
#ifndef DATA_SHARDS_ENCODE_PNG_H
#define DATA_SHARDS_ENCODE_PNG_H

#include "common/status.h"
#include "data_shards/image.h"

#include <stddef.h>
#include <stdint.h>

/* The image as an 8-bit RGB PNG in memory (caller frees). STATUS_INTERNAL where libpng refuses. */
status_t encode_png(const struct image *image, uint8_t **bytes_out, size_t *n_bytes_out);

#endif
