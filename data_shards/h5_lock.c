#include "data_shards/h5_lock.h"

#include <hdf5.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void h5_lock(void) {
    pthread_mutex_lock(&mutex);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5Eclear2(H5E_DEFAULT);
}

void h5_unlock(void) {
    pthread_mutex_unlock(&mutex);
}

/* Upward walk: the first record is the innermost, the cause. */
static herr_t first_record(unsigned n, const H5E_error2_t *error, void *text) {
    if (n == 0) *(const char **)text = error->desc;
    return 0;
}

status_t h5_fail(status_t status, const char *path, const char *fmt, ...) {
    char words[256];
    va_list arguments;
    va_start(arguments, fmt);
    vsnprintf(words, sizeof words, fmt, arguments);
    va_end(arguments);
    const char *reason = NULL;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_record, (void *)&reason);
    FAIL(status, "%s: %s%s%s", path, words, reason ? ": " : "", reason ? reason : "");
    H5Eclear2(H5E_DEFAULT);
    return status;
}
