/* RandAugment (Cubuk et al., NeurIPS 2020) in the form that semi-supervised learning uses, and cutout: what
 * Pillow's ImageOps, ImageEnhance and Image.transform compute, bit for bit. */
#ifndef DATA_SHARDS_AUGMENT_H
#define DATA_SHARDS_AUGMENT_H

#include "common/rng.h"
#include "common/status.h"
#include "data_shards/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of their names; the numbers are part of what makes a run repeatable. */
enum augment_op {
    AUGMENT_AUTO_CONTRAST,
    AUGMENT_BRIGHTNESS,
    AUGMENT_COLOR,
    AUGMENT_CONTRAST,
    AUGMENT_EQUALIZE,
    AUGMENT_IDENTITY,
    AUGMENT_POSTERIZE,
    AUGMENT_ROTATE,
    AUGMENT_SHARPNESS,
    AUGMENT_SHEAR_X,
    AUGMENT_SHEAR_Y,
    AUGMENT_SOLARIZE,
    AUGMENT_TRANSLATE_X,
    AUGMENT_TRANSLATE_Y,
    AUGMENT_N_OPS
};

enum {
    AUGMENT_MAX_N = 8,      /* operations a view at most */
    AUGMENT_MAX_LEVEL = 10, /* m at most: levels are tenths of an operation's range */
};

/* "AutoContrast", ...; NULL outside the list. Static storage. */
const char *augment_op_name(enum augment_op op);

/* The argument of `op` at `level` (0 .. 10; drawn levels are 1 .. m-1) on a height x width image: the factor
 * of the enhancements, bits, signed degrees, signed shear, threshold, signed pixels; 0 for the operations
 * without one. `sign` is +1 or -1 and counts only where the operation has a direction. */
double augment_argument(enum augment_op op, int32_t level, int32_t sign, int32_t height, int32_t width);

/* Apply one operation in place; `scratch` is used by those that need a second image, which then changes
 * places with `image`. Bits outside 1..8 and factors outside 0..1 give STATUS_INTERNAL; STATUS_NO_MEMORY. */
status_t augment_apply(enum augment_op op, double argument, struct image *image, struct image *scratch);

/* Fill with grey (127,127,127) the columns left .. right and the rows top .. bottom, all *inclusive*, where
 * left = int(max(0, x - size/2)), right = int(min(W, left + size)), rows likewise: size + 1 pixels a side,
 * moved inside at the left and the top, cut at the right and the bottom. x in [0, W), y in [0, H); size 0:
 * nothing. */
void augment_cutout(struct image *image, double x, double y, int32_t size);

/* What RandAugment draws for one view. */
struct augment_draw {
    int32_t n; /* <= AUGMENT_MAX_N */
    struct {
        enum augment_op op;
        int32_t level, sign;
        bool applied; /* with probability 1/2 */
    } step[AUGMENT_MAX_N];
    double cutout_x, cutout_y; /* in [0, 1): fractions of the sides */
};

/* The draw under `key` (purpose RNG_AUGMENT; peer 255, for all peers share it): n operations out of 14 with
 * replacement, levels uniform in 1 .. m-1. A pure function of its arguments; 0 <= n <= AUGMENT_MAX_N,
 * 2 <= m <= AUGMENT_MAX_LEVEL. The draws of the first operations do not depend on n. */
struct augment_draw augment_draw(struct rng_key key, int32_t n, int32_t m);

/* Apply the drawn operations in turn, then the cutout of `cutout_size` (0: none), in place. */
status_t augment_apply_draw(const struct augment_draw *draw, int32_t cutout_size, struct image *image,
                            struct image *scratch);

#endif
