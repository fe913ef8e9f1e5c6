/* The two passes of resize.c, one version an instruction set; all give the same bytes. */
#ifndef DATA_SHARDS_RESIZE_KERNELS_H
#define DATA_SHARDS_RESIZE_KERNELS_H

#include "common/simd.h"
#include "data_shards/resize.h"

enum { RESIZE_BITS = 22, RESIZE_SPLIT_BITS = 12, RESIZE_LOW_MASK = (1 << RESIZE_SPLIT_BITS) - 1 };

/* in (height, n_in, 3) -> out (height, n_out, 3). Both have IMAGE_SLACK_BYTES behind them. */
SIMD_DECLARE(void, resize_across,
             (const struct resize_axis *axis, const uint8_t *in, int32_t height, uint8_t *out));

/* in (n_in, row_bytes) -> out (n_out, row_bytes). Both have IMAGE_SLACK_BYTES behind them. */
SIMD_DECLARE(void, resize_down,
             (const struct resize_axis *axis, const uint8_t *in, size_t row_bytes, uint8_t *out));

#endif
