/* A reader of the oldest HDF5 file format, for files that carry no seal.
 *
 * The HDF5 library crashes on damaged headers, and headers of the oldest format (superblock 0 and 1) have no
 * checksums of their own. Files of that format by other programs are therefore read here, with every address
 * and length checked. What is understood: groups, contiguous datasets of plain numbers, attributes of one
 * number or text, all that a store can hold. Newer formats have checksums, and are left to the library. */
#ifndef DATA_SHARDS_H5_PLAIN_H
#define DATA_SHARDS_H5_PLAIN_H

#include "data_shards/h5.h"

/* Whether the file begins as one of the oldest format. */
bool h5_plain_recognises(int fd);

/* As h5_catalogue_read(). STATUS_BAD_DATA for damage and for features that are not understood. */
status_t h5_plain_read(int fd, const char *path, uint64_t file_bytes, struct h5_catalogue *out);

/* ---- shared by the h5_plain*.c files ------------------------------------------------------------------- */
struct h5_plain {
    int fd;
    const char *path;
    uint64_t file_bytes;
    int64_t n_steps_left; /* structures that may still be visited: cycles end */
    struct h5_catalogue *catalogue;
};

/* n_bytes at `address`, which must lie inside the file. */
status_t h5_plain_get(struct h5_plain *p, uint64_t address, size_t n_bytes, void *out);

/* "path: damaged or not understood: what (at address)". */
status_t h5_plain_fault(const struct h5_plain *p, const char *what, uint64_t address);

uint64_t h5_plain_number(const uint8_t *bytes, int n_bytes); /* little-endian */

/* A message of an object header: its body. */
struct h5_message {
    uint16_t type;
    uint8_t flags;
    const uint8_t *body;
    size_t n_bytes;
};

/* Call visit(context, message) for each message of the object header at `address`. */
status_t h5_plain_messages(struct h5_plain *p, uint64_t address,
                           status_t (*visit)(struct h5_plain *p, const struct h5_message *message,
                                             void *context),
                           void *context);

/* Messages of a dataset, as far as they were seen. */
struct h5_plain_object {
    struct h5_tensor tensor;
    bool has_space, has_type, has_layout, known_type, contiguous, is_group;
    uint64_t address;    /* of the data */
    uint64_t tree, heap; /* of a group */
    bool is_root;        /* attributes go to the catalogue */
};

/* One message into the object. */
status_t h5_plain_take(struct h5_plain *p, const struct h5_message *message, void *object);

#endif
