/* The seal of a store: a checksum over every byte of the HDF5 file that lies outside the datasets.
 *
 * It is appended behind the end of the HDF5 data, where HDF5 does not look, and verified before HDF5 is asked
 * to read the file at all: the library does not stand up to damaged headers. HDF5 cuts the seal off when it
 * changes the file, so an edited store is an unsealed one, not a damaged one.
 *
 *     [HDF5 data] n_extents | n_extents x {offset, n_bytes} | hash of the rest | seal offset | hash of the
 * seal | magic
 *
 * All fields are little-endian uint64, the magic 8 characters. The extents (ascending, disjoint) are the
 * datasets, which have checksums of their own. */
#ifndef DATA_SHARDS_SEAL_H
#define DATA_SHARDS_SEAL_H

#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seal_extent {
    uint64_t offset, n_bytes;
};

/* Append the seal to the finished file. `extents` is sorted in place; empty ones are dropped. */
status_t seal_append(int fd, const char *path, struct seal_extent *extents, size_t n_extents);

/* *sealed_out: whether there is a seal. STATUS_BAD_DATA where it does not fit the file. */
status_t seal_check(int fd, const char *path, bool *sealed_out);

#endif
