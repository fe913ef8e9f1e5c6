/* Pillow's antialiased bicubic resizing (its default since 7.0), bit for bit.
 *
 * The kernel (a = -0.5) is widened by in/out when shrinking. Weights are normalised in double and rounded to
 * 22 fractional bits; each pass rounds to 8 bits. The horizontal pass always comes first, as in Pillow up to
 * 12; a pass that changes nothing is left out. Results do not depend on the instruction set. */
#ifndef DATA_SHARDS_RESIZE_H
#define DATA_SHARDS_RESIZE_H

#include "common/status.h"
#include "data_shards/image.h"

#include <stddef.h>
#include <stdint.h>

enum { RESIZE_CACHED_AXES = 16 };

/* The weights of one pass, n_in -> n_out samples. */
struct resize_axis {
    int32_t n_in, n_out;
    int32_t n_taps;  /* weights kept for each output sample, a multiple of 4; the unused ones are 0 */
    int32_t *first;  /* (n_out) the first input sample of each output sample; first + n_taps <= n_in + 3 */
    int32_t *weight; /* (n_out, n_taps) 22 fractional bits */
    int32_t *pair;   /* (n_out, n_taps/2, 2) the same for kernels that multiply 16 bits: of two taps the high
                      * parts w >> 12 in the halves of one word, then the low 12 bits in those of another */
    int32_t *digit; /* (n_out, n_taps/4, 3) the same for kernels that multiply 8 bits: of four taps the lowest
                     * signed digits to the base 256 in one word, then the middle ones, then the highest */
    size_t first_capacity, weight_capacity; /* elements; pair and digit lie in the same block as weight */
};

/* Scratch memory and the weights of the last RESIZE_CACHED_AXES pairs of sizes. One thread at a time.
 * Zero-initialise; release with resize_workspace_free(). */
struct resize_workspace {
    struct resize_axis axis[RESIZE_CACHED_AXES];
    int32_t next;        /* the slot that the next unknown pair replaces */
    struct image across; /* (H_in, W_out, 3) after the horizontal pass */
};

/* out = in resized to height x width. `out` must not be `in`. Allocates nothing once it has seen images of
 * this size. STATUS_BAD_DATA for an empty image or a size that image_reshape() refuses, STATUS_NO_MEMORY. */
status_t resize_bicubic(struct resize_workspace *workspace, const struct image *in, int32_t height,
                        int32_t width, struct image *out);

/* Accepts a zeroed struct; leaves a zeroed struct. */
void resize_workspace_free(struct resize_workspace *workspace);

#endif
