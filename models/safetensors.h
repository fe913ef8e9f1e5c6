/* Safetensors files: named tensors behind a JSON header, read through mmap and written as a stream.
 *
 *   uint64 n (little-endian) · n bytes of JSON · data
 *   JSON: {"__metadata__": {string: string}, NAME: {"dtype": "F32", "shape": [..], "data_offsets": [begin,
 * end]}, ...}
 *
 * Offsets count from the start of the data. As the format's reference demands, the tensors cover the data
 * without overlap or hole, no key occurs twice, and the header has at most 100 MB. A reader accepts nothing
 * else: every number is checked before it is used. Errors (STATUS_BAD_DATA) name the file and the tensor.
 *
 * Not collective. */
#ifndef MODELS_SAFETENSORS_H
#define MODELS_SAFETENSORS_H

#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*   name  bytes an element; widest first: the order in which a file holds them */
/* clang-format off */
#define TENSOR_TYPES(X) \
    X(U64, 8) \
    X(I64, 8) \
    X(F64, 8) \
    X(F32, 4) \
    X(U32, 4) \
    X(I32, 4) \
    X(BF16, 2) \
    X(F16, 2) \
    X(U16, 2) \
    X(I16, 2) \
    X(I8, 1) \
    X(U8, 1) \
    X(BOOL, 1)
/* clang-format on */

enum tensor_type {
#define X(name, n_bytes) TENSOR_##name,
    TENSOR_TYPES(X)
#undef X
};

enum { TENSOR_MAX_DIMS = 8 };

const char *tensor_type_name(enum tensor_type type); /* "F32"; static storage */
size_t tensor_type_bytes(enum tensor_type type);

/* One tensor of an open file. `bytes` points into the file's mapping and need not be aligned. */
struct safetensor {
    const char *name;
    enum tensor_type type;
    int32_t n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
    int64_t n_elem;
    size_t n_bytes;
    const void *bytes;
};

struct safetensors;

/* Open and check a file. Owned by the caller until safetensors_close(). STATUS_MISSING: no such file;
 * STATUS_BAD_DATA: not a whole, regular safetensors file. */
status_t safetensors_open(const char *path, struct safetensors **out);

/* The same for n_bytes in memory, which are borrowed and must outlive *out; `name` is for messages. */
status_t safetensors_open_memory(const void *bytes, size_t n_bytes, const char *name,
                                 struct safetensors **out);
void safetensors_close(struct safetensors *file); /* NULL is fine */

const char *safetensors_path(const struct safetensors *file);
int32_t safetensors_count(const struct safetensors *file);
const struct safetensor *safetensors_at(const struct safetensors *file,
                                        int32_t index); /* in the order of the data */
const struct safetensor *safetensors_find(const struct safetensors *file, const char *name); /* NULL: none */
const char *safetensors_metadata(const struct safetensors *file, const char *key);           /* NULL: none */

/* Walk the metadata: key and value number `index`; false past the last. */
bool safetensors_metadata_at(const struct safetensors *file, int32_t index, const char **key,
                             const char **value);

/* The elements as fp32 (n_elem). Any type; rounds to nearest where fp32 is narrower. */
status_t safetensor_read_f32(const struct safetensors *file, const struct safetensor *tensor, float *out);

/* The elements as int32 (n_elem). Integer types and BOOL; a value outside int32 is STATUS_BAD_DATA. */
status_t safetensor_read_i32(const struct safetensors *file, const struct safetensor *tensor, int32_t *out);

/* Find `name`, check that it has exactly this shape, and read it: for readers that know what must be there.
 * shape[n_dims]; n_dims -1 accepts any shape of n_elem elements. */
status_t safetensors_get_f32(const struct safetensors *file, const char *name, int32_t n_dims,
                             const int64_t *shape, int64_t n_elem, float *out);

/* XXH3-64 of names, types, shapes and bytes of all tensors in the order of their names: equal for equal
 * contents, whatever the order in the file and the metadata. */
uint64_t safetensors_hash(const struct safetensors *file);

/* ---- writing ---- */

struct safetensors_entry {
    const char *name; /* copied */
    enum tensor_type type;
    int32_t n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
};

struct safetensors_writer;

/* Begin replacing `path`. The tensors are laid out as the Python package does (widest type first, then by
 * name; data aligned to 8). metadata: n_metadata pairs key, value (NULL where 0). Repeated names:
 * STATUS_INTERNAL. Pair with commit or abandon. */
status_t safetensors_create(const char *path, const struct safetensors_entry *entries, int32_t n_entries,
                            const char *const *metadata, int32_t n_metadata, struct safetensors_writer **out);

/* Write the bytes of entries[index]; in any order, each exactly once; n_bytes must fit its shape. */
status_t safetensors_put(struct safetensors_writer *writer, int32_t index, const void *bytes, size_t n_bytes);

/* All entries were put: sync, rename, free. On failure the old file stays and the writer is freed too. */
status_t safetensors_commit(struct safetensors_writer *writer);
void safetensors_abandon(struct safetensors_writer *writer); /* NULL is fine */

#endif
