/* Several shards as one collection of images, and splits: lists resolved against it.
 *
 * Images are numbered over all shards in the order given: image index = index of the first + row.
 * `first_index` lets a second collection (the target domain's) go on where another one ends, so that an index
 * names one image of the run and random views of different images never share their draws. */
#ifndef DATA_SHARDS_SHARD_SET_H
#define DATA_SHARDS_SHARD_SET_H

#include "common/status.h"
#include "data_shards/image.h"
#include "data_shards/list.h"
#include "data_shards/shard.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shard_set;

/* Open the shards that the patterns name (glob(7), each sorted by name; a pattern with a folder is relative
 * to `folder`, which may be NULL). STATUS_MISSING: a pattern that names no file. STATUS_BAD_DATA: a damaged
 * shard, a file named twice, an id in two places, class tables that contradict each other. Not collective. */
status_t shard_set_open(const char *folder, const char *const *patterns, size_t n_patterns,
                        uint32_t first_index, struct shard_set **out);
void shard_set_close(struct shard_set *set); /* accepts NULL; no split or loader may use it any more */

size_t shard_set_n_shards(const struct shard_set *set);
const struct shard *shard_set_shard(const struct shard_set *set, size_t i);
uint32_t shard_set_first_index(const struct shard_set *set);
size_t shard_set_n_images(const struct shard_set *set);
size_t shard_set_n_classes(const struct shard_set *set); /* the largest of the shards' */
const char *shard_set_class_name(const struct shard_set *set, size_t k);

/* The shard and row of image `index` (first_index <= index < first_index + n_images). */
const struct shard *shard_set_locate(const struct shard_set *set, uint32_t index, size_t *row_out);
const char *shard_set_id(const struct shard_set *set, uint32_t index);

/* The index of the image with this id; false where there is none. */
bool shard_set_find(const struct shard_set *set, const char *id, uint32_t *index_out);

/* Keep decoded images in memory from now on, up to `limit_bytes` (0: none). Call before any loader uses the
 * set. What does not fit is decoded each time. */
status_t shard_set_cache(struct shard_set *set, size_t limit_bytes);

/* Scratch memory of shard_set_image(). One thread at a time. Zero-initialise; release with
 * image_source_free(). */
struct image_source {
    struct shard_buffer bytes;
    struct image decoded, from_cache;
};

/* The pixels of image `index`: from the cache or read, verified (where `verify`) and decoded. *out is
 * borrowed: valid until the next call with the same `source`, and as long as the set. Thread-safe with
 * different `source`s. STATUS_BAD_DATA names shard, row and id. */
status_t shard_set_image(const struct shard_set *set, uint32_t index, bool verify,
                         struct image_source *source, const struct image **out);
void image_source_free(struct image_source *source);

/* ---- splits -------------------------------------------------------------------------------------------- */
struct split {
    const struct shard_set *set; /* borrowed */
    char *name;                  /* of the list, for messages */
    size_t n;
    uint32_t *index;   /* [n] in list order */
    int32_t *label;    /* [n] of the list; where that says -1, of the shard */
    int32_t n_classes; /* of the set */
};

/* Find the images of a list. STATUS_BAD_DATA: images that no shard has (the first with FILE:LINE, and how
 * many), a label that contradicts the shard's or lies outside the class table. */
status_t split_resolve(const struct shard_set *set, const struct image_list *list, struct split *out);

/* All images of the set in order, with the shards' labels. */
status_t split_all(const struct shard_set *set, struct split *out);

/* The rows of `split` whose image is not in `without`, in order: accuracy on the unlabelled list without
 * validation images (METHOD section 7). May be empty. */
status_t split_without(const struct split *split, const struct split *without, struct split *out);

void split_free(struct split *split); /* accepts a zeroed struct */

#endif
