/* Shared by the h5_*.c files: the lock around HDF5, and its error texts as status messages. */
#ifndef DATA_SHARDS_H5_LOCK_H
#define DATA_SHARDS_H5_LOCK_H

#include "common/status.h"

/* Also switches off HDF5's own printing of errors for this thread. */
void h5_lock(void);
void h5_unlock(void);

/* "path: words: HDF5's innermost reason". The lock is held. */
status_t h5_fail(status_t status, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
