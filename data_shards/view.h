/* The views of an image that the networks see (MARRS; Jain and Das, CVPRW 2023): decoded to S x S pixels. */
#ifndef DATA_SHARDS_VIEW_H
#define DATA_SHARDS_VIEW_H

#include "common/rng.h"
#include "common/status.h"
#include "data_shards/augment.h"
#include "data_shards/image.h"
#include "data_shards/resize.h"

#include <stdbool.h>
#include <stdint.h>

enum view_kind {
    VIEW_NONE,          /* resize straight to SxS */
    VIEW_PERSPECTIVE,   /* pad to a square with black (left, top: floor of half), then resize to SxS */
    VIEW_STRONG,        /* none, then RandAugment and cutout, the same for all peers */
    VIEW_STUDENT_TRAIN, /* resize to RxR, random horizontal flip, random SxS crop */
    VIEW_STUDENT_EVAL,  /* resize to RxR, middle SxS */
    VIEW_N_KINDS
};

enum { VIEW_MAX_SIDE = 4096 }; /* of S and R */

/* "none", "perspective", "strong", "student_train", "student_eval"; NULL outside the list. Static storage. */
const char *view_kind_name(enum view_kind kind);

/* The inverse; STATUS_BAD_CONFIG, with the list of names, for any other. */
status_t view_kind_parse(const char *name, enum view_kind *out);

struct view_spec {
    enum view_kind kind;
    int32_t size;        /* S, the side of the result */
    int32_t resize_side; /* R >= S, of the student's views; not used by the others */
    bool flip;           /* student_train: flip with probability 1/2 */
    int32_t n, m;        /* strong: operations a view, levels 1 .. m-1 */
    int32_t cutout_size; /* strong: side - 1 of the grey square in pixels, 0: none */
};

/* The paper's settings: R = 256/224 S (rounded), flip, n = 2, m = 10, cutout 16. */
struct view_spec view_spec_default(enum view_kind kind, int32_t size);

/* STATUS_BAD_CONFIG, naming the setting, unless view_apply() can follow the spec. */
status_t view_spec_check(const struct view_spec *spec);

/* What the random views depend on besides the spec. */
struct view_key {
    uint64_t seed;
    uint8_t stage; /* as in struct rng_key */
    uint8_t peer;  /* 255: shared by all peers. The strong view always draws as for 255 */
    uint8_t view;  /* tells several views of one kind apart */
    uint32_t step; /* step or epoch */
    uint32_t image;
};

/* All scratch memory of view_apply(). One thread at a time. Zero-initialise; release with
 * view_workspace_free(). */
struct view_workspace {
    struct resize_workspace resize;
    struct image padded, scratch;
};

/* out = the view of in, (S,S,3). `out` must not be `in`. The result depends on the spec, the key and the
 * pixels alone. Allocates nothing once it has seen images of this size. The strong view of an image equals
 * that of its `none` view of the same S, so a caller that has the latter saves the resizing. The spec must
 * pass view_spec_check(). STATUS_BAD_DATA for an image too large to be padded, STATUS_NO_MEMORY. */
status_t view_apply(struct view_workspace *workspace, const struct view_spec *spec,
                    const struct view_key *key, const struct image *in, struct image *out);

/* Accepts a zeroed struct; leaves a zeroed struct. */
void view_workspace_free(struct view_workspace *workspace);

/* out (H,W,3) = (x/255 - mean) / std with ImageNet's mean and deviation, channels last; every value is the
 * float32 that these three operations give when each is rounded. */
void normalise_f32(const struct image *image, float *out);

/* The same, rounded to bfloat16 (nearest, ties to even). */
void normalise_bf16(const struct image *image, uint16_t *out);

#endif
