/* Image shards: one store (store.h) with N encoded or raw images, their labels, ids and the class names.
 *
 *     image/data   u8  [total]  the bytes of all images, one after the other
 *     image/offset u64 [N+1]    image i is data[offset[i] .. offset[i+1])
 *     image/hash   u64 [N]      XXH3-64 of those bytes
 *     label        i32 [N]      class, -1 unknown
 *     id/data, id/offset        relative paths as the lists write them, without NUL
 *     class/data, class/offset  class names in label order
 *
 * Attributes: format "marrs-shard", version 1, domain, encoding "encoded" (files as they were) or "raw"
 * (uint8 H,W,C of one size: integers height, width, channels). */
#ifndef DATA_SHARDS_SHARD_H
#define DATA_SHARDS_SHARD_H

#include "common/status.h"
#include "data_shards/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARD_FORMAT  "marrs-shard"
#define SHARD_VERSION 1

/* ---- writing ------------------------------------------------------------------------------------------- */
struct shard_description { /* all borrowed until shard_writer_open() returns */
    const char *domain;
    size_t n_images, n_classes;
    const char *const *ids;         /* [N] */
    const int32_t *labels;          /* [N] -1 .. n_classes-1 */
    const uint64_t *n_bytes;        /* [N] of each image; ignored for raw */
    const char *const *class_names; /* [n_classes] */
    int32_t raw_height, raw_width;  /* 0: encoded; otherwise raw RGB */
};

struct shard_writer;

status_t shard_writer_open(const char *path, const struct shard_description *description,
                           struct shard_writer **out);

/* The bytes of image i, exactly as many as described. Thread-safe for different i. */
status_t shard_writer_put(struct shard_writer *writer, size_t i, const void *bytes);

/* All images must have been put. Frees in every case; on failure nothing appears at `path`. */
status_t shard_writer_commit(struct shard_writer *writer);
void shard_writer_abandon(struct shard_writer *writer); /* accepts NULL */

/* ---- reading: after opening, thread-safe --------------------------------------------------------------- */
struct shard;

/* Opens and checks everything but the images themselves: offsets ascending and inside, labels inside the
 * class table, all lengths consistent, checksums of all tables. STATUS_BAD_DATA names file, dataset and row.
 */
status_t shard_open(const char *path, struct shard **out);
void shard_close(struct shard *shard); /* accepts NULL */

const char *shard_path(const struct shard *shard);
const char *shard_domain(const struct shard *shard);
bool shard_is_raw(const struct shard *shard);
size_t shard_n_images(const struct shard *shard);
size_t shard_n_classes(const struct shard *shard);
const char *shard_class_name(const struct shard *shard, size_t k);
const char *shard_id(const struct shard *shard, size_t i);
int32_t shard_label(const struct shard *shard, size_t i);
uint64_t shard_image_bytes(const struct shard *shard, size_t i);
uint64_t shard_image_hash(const struct shard *shard, size_t i); /* as the shard has it, not computed */

/* A byte buffer that grows and is used again. Zero-initialise; release `data` with free(). */
struct shard_buffer {
    uint8_t *data;
    size_t n_bytes, capacity;
};

/* Read the bytes of image i; `verify`: compare with image/hash. The error names shard, row and id. */
status_t shard_read(const struct shard *shard, size_t i, bool verify, struct shard_buffer *out);

/* Pixels from bytes that shard_read() gave: decodes, or takes raw ones as they are. */
status_t shard_decode(const struct shard *shard, size_t i, const struct shard_buffer *bytes,
                      struct image *out);

#endif
