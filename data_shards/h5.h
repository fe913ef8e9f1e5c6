/* The few HDF5 calls of the project: describing datasets and attributes. Data never passes through HDF5.
 * Internal to data_shards/. All calls are serialised by one lock, which builds of HDF5 without threads need.
 */
#ifndef DATA_SHARDS_H5_H
#define DATA_SHARDS_H5_H

#include "data_shards/store.h"

#include <hdf5.h>

/* Attribute that names the hash of each block, and the bytes of a block. */
#define H5_HASH_ATTRIBUTE  "xxh3"
#define H5_BLOCK_ATTRIBUTE "xxh3_block_bytes"

/* New file, older format bounds, no locks. */
status_t h5_create(const char *path, hid_t *file_out);

/* Contiguous dataset with its room allocated at once and never filled; groups in `name` are made. */
status_t h5_create_dataset(hid_t file, const char *path, const struct store_tensor *tensor,
                           uint64_t *offset_out);

/* The block hashes of a finished dataset. */
status_t h5_write_hashes(hid_t file, const char *path, const char *name, const uint64_t *hashes,
                         size_t n_hashes, uint64_t block_bytes);

status_t h5_write_text(hid_t file, const char *path, const char *name, const char *text);
status_t h5_write_integer(hid_t file, const char *path, const char *name, int64_t value);
status_t h5_write_number(hid_t file, const char *path, const char *name, double value);

/* After a failure the file is closed too, and useless. */
status_t h5_close(hid_t file, const char *path);
/* Close a file that is not wanted: nothing more is written to it. */
void h5_abandon(hid_t file);

/* What a file holds. Everything is owned by the catalogue. */
struct h5_tensor {
    struct store_tensor tensor;
    uint64_t *hashes; /* NULL: none */
    size_t n_hashes;
    uint64_t block_bytes;
};
struct h5_attribute {
    char *name;
    enum { H5_TEXT, H5_INTEGER, H5_NUMBER } kind;
    char *text;
    int64_t integer;
    double number;
};
struct h5_catalogue {
    struct h5_tensor *tensors;
    size_t n_tensors, tensor_capacity;
    struct h5_attribute *attributes;
    size_t n_attributes, attribute_capacity;
};

/* Read names, types, shapes, offsets, hashes and the root's attributes; shapes and offsets are checked
 * against `file_bytes`. On failure nothing is left to free. */
status_t h5_catalogue_read(const char *path, uint64_t file_bytes, struct h5_catalogue *out);
void h5_catalogue_free(struct h5_catalogue *catalogue);

#endif
