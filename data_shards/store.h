/* Stores: named tensors in one HDF5 file, written once, each with checksums.
 *
 * Checkpoints, feature files and image shards (shard.h) are stores. A store is an HDF5 file of the default
 * (oldest) format bounds with contiguous, little-endian datasets and attributes of the root group: h5py and
 * h5dump read it.
 *
 * Checksums: each dataset carries the attribute `xxh3` (uint64, one XXH3-64 for each `xxh3_block_bytes`
 * bytes), and the bytes of the file outside the datasets (names, shapes, attributes) are covered by a *seal*
 * behind the end of the HDF5 data (seal.h). A store made by another program may lack both; then what is there
 * is checked.
 *
 * Reading asks HDF5 only for names, shapes and file offsets, at opening; data is read with pread() and no
 * lock. Every length and offset from the file is checked before use. */
#ifndef DATA_SHARDS_STORE_H
#define DATA_SHARDS_STORE_H

#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_MAX_DIMS 8

/* bf16 is stored as uint16 with the attribute dtype = "bfloat16". */
enum store_type { STORE_F32, STORE_F64, STORE_BF16, STORE_I32, STORE_I64, STORE_U8, STORE_U32, STORE_U64 };

size_t store_type_bytes(enum store_type type);
const char *store_type_name(enum store_type type); /* "f32", "bf16", ... Static storage. */

struct store_tensor {
    const char *name; /* owned by the reader; groups separated by '/', no leading '/' */
    enum store_type type;
    int n_dims; /* 0: a scalar, 1 element */
    uint64_t shape[STORE_MAX_DIMS];
    uint64_t n_elem, n_bytes;
    uint64_t file_offset; /* of the first byte; [file_offset, + n_bytes) lies inside the file */
};

/* ---- writing: one thread, to a temporary file that replaces `path` at commit --------------------------- */
struct store_writer;

/* `format` becomes the attribute `format` ("marrs-checkpoint"), `version` the attribute `version`. */
status_t store_writer_open(const char *path, const char *format, int64_t version, struct store_writer **out);

/* Attributes of the whole file; a name must not be set twice. Text is UTF-8, may be empty, at most 60000
 * bytes. */
status_t store_writer_set_text(struct store_writer *writer, const char *name, const char *text);
status_t store_writer_set_integer(struct store_writer *writer, const char *name, int64_t value);
status_t store_writer_set_number(struct store_writer *writer, const char *name, double value);

/* A whole tensor at once. `data` may be NULL when the tensor has no elements. Missing groups are made. */
status_t store_writer_put(struct store_writer *writer, const char *name, enum store_type type, int n_dims,
                          const uint64_t *shape, const void *data);

/* The same piece by piece, for tensors that do not fit memory: begin, then append all of its bytes in order
 * before the next begin, put or commit. */
status_t store_writer_begin(struct store_writer *writer, const char *name, enum store_type type, int n_dims,
                            const uint64_t *shape);
status_t store_writer_append(struct store_writer *writer, const void *data, size_t n_bytes);

/* Room for a tensor whose bytes the caller writes itself with store_writer_write_at(), in any order and from
 * any thread. Gets no `xxh3` attribute: the caller keeps its own checksums (image shards: one for each
 * image). */
status_t store_writer_reserve(struct store_writer *writer, const char *name, enum store_type type, int n_dims,
                              const uint64_t *shape, uint64_t *file_offset_out);

/* Thread-safe. */
status_t store_writer_write_at(struct store_writer *writer, uint64_t file_offset, const void *data,
                               size_t n_bytes);

/* Write checksums and seal, sync, rename over `path`. Frees the writer in every case; on failure the old file
 * at `path` stays. */
status_t store_writer_commit(struct store_writer *writer);

/* Give up: remove the temporary file and free. Accepts NULL. */
void store_writer_abandon(struct store_writer *writer);

/* ---- reading: after opening, all functions are thread-safe --------------------------------------------- */
struct store_reader;

/* STATUS_MISSING: no such file. STATUS_BAD_DATA: not HDF5, damaged, or holding what a store cannot hold. */
status_t store_reader_open(const char *path, struct store_reader **out);
void store_reader_close(struct store_reader *reader); /* accepts NULL */

const char *store_reader_path(const struct store_reader *reader);
const char *store_reader_format(const struct store_reader *reader); /* "" where the file says none */
int store_reader_fd(const struct store_reader *reader);             /* for pread(); owned by the reader */
bool store_reader_sealed(const struct store_reader *reader);

size_t store_reader_n_tensors(const struct store_reader *reader);
const struct store_tensor *store_reader_tensor(const struct store_reader *reader,
                                               size_t i); /* sorted by name */
const struct store_tensor *store_reader_find(const struct store_reader *reader,
                                             const char *name); /* NULL: absent */

/* The tensor `name`, which must exist with this type and shape (an extent of 0 in `shape`: any length; n_dims
 * -1: any shape). STATUS_BAD_DATA names file, tensor, what is there and what was expected. */
status_t store_reader_require(const struct store_reader *reader, const char *name, enum store_type type,
                              int n_dims, const uint64_t *shape, const struct store_tensor **out);

/* Attributes of the file: NULL or false where absent or of another kind. An integer is also readable as
 * number. */
const char *store_reader_text(const struct store_reader *reader, const char *name); /* owned by the reader */
bool store_reader_integer(const struct store_reader *reader, const char *name, int64_t *out);
bool store_reader_number(const struct store_reader *reader, const char *name, double *out);
size_t store_reader_n_attributes(const struct store_reader *reader);
/* Name of attribute i; its value printed into `value` (truncated to capacity). */
const char *store_reader_attribute(const struct store_reader *reader, size_t i, char *value, size_t capacity);

/* Rows [first_row, first_row + n_rows) of the first axis into dst (n_rows * bytes of a row), verified against
 * the checksums. Reads and hashes whole checksum blocks (1 MiB, more for tensors over 4 GiB), so ask for many
 * rows. */
status_t store_reader_read_rows(const struct store_reader *reader, const struct store_tensor *tensor,
                                uint64_t first_row, uint64_t n_rows, void *dst);

/* All of a tensor into dst (tensor->n_bytes), verified. */
status_t store_reader_read(const struct store_reader *reader, const struct store_tensor *tensor, void *dst);

/* Read the tensor once and compare its checksums; needs no memory for the whole of it. *verified_out (may be
 * NULL): false where the tensor has no checksums. */
status_t store_reader_verify(const struct store_reader *reader, const struct store_tensor *tensor,
                             bool *verified_out);

#endif
