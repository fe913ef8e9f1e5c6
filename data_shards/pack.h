/* Packing: image files named by lists -> shards. */
#ifndef DATA_SHARDS_PACK_H
#define DATA_SHARDS_PACK_H

#include "common/status.h"
#include "data_shards/image.h"
#include "data_shards/list.h"
#include "data_shards/resize.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How an image is checked before it goes in. */
enum pack_check {
    PACK_CHECK_STRUCTURE, /* headers, and that the file is whole (JPEG: ends with its end marker; PNG: chunk
                             lengths and CRCs up to IEND; WebP: length). Whatever is unusual there is decoded
                           */
    PACK_CHECK_DECODE,    /* decode every image */
};

/* STATUS_BAD_DATA with the reason unless the bytes are an image that this program can read. `scratch` is for
 * decoding. */
status_t pack_check_image(const uint8_t *bytes, size_t n_bytes, enum pack_check check, struct image *scratch);

/* The union of several lists: each image once, in order of first mention. */
struct pack_plan {
    size_t n_images;
    const char **ids;   /* [N] point into the lists */
    int32_t *labels;    /* [N] */
    size_t n_classes;   /* largest label + 1 */
    char **class_names; /* [n_classes] owned */
    char *domain;       /* first folder that all ids share, or NULL; owned */
};

/* Labels that contradict each other between lists: STATUS_BAD_DATA with both places.
 * A class is named after the folder its images lie in (the last one of their paths), where all of them lie in
 * one of that name and no other class has it; otherwise after its number. */
status_t pack_plan_make(const struct image_list *lists, size_t n_lists, struct pack_plan *out);
void pack_plan_free(struct pack_plan *plan); /* accepts a zeroed struct */

struct pack_options {
    const char *root;   /* the folder that ids are relative to */
    const char *prefix; /* shard s is `prefix`-SSS.h5 */
    const char *domain;
    int64_t n_shards;
    int32_t raw_side; /* 0: files as they are; otherwise raw images of that side, resized straight */
    enum pack_check check;
    int n_threads;
};

/* What happened; zero-initialise, may add up several shards. */
struct pack_report {
    size_t n_packed, n_failed;
    uint64_t n_bytes; /* of packed images */
    char *failures;   /* one "id: reason" a line; owned, NULL when none */
    size_t failures_length, failures_capacity;
};

/* The file name of shard s (caller frees); NULL when out of memory. */
char *pack_shard_path(const struct pack_options *options, int64_t s);

/* Write shard s: images [s*N/n_shards, (s+1)*N/n_shards) of the plan without the unreadable ones, which go to
 * the report. A shard without any readable image is not written. Logs progress of the whole packing every few
 * seconds. Not collective; ranks take shards in turn. */
status_t pack_shard(const struct pack_plan *plan, const struct pack_options *options, int64_t s,
                    struct pack_report *report);

void pack_report_free(struct pack_report *report);

#endif
