/* Reading golden HDF5 files: whole data sets, and walking over what a group holds. Each failure ends the
 * test. */
#ifndef TESTS_SUPPORT_GOLDEN_H5_H
#define TESTS_SUPPORT_GOLDEN_H5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct golden_array {
    int n_axes;
    hsize_t shape[8];
    size_t n;   /* elements */
    void *data; /* owned; release with golden_free() */
};

/* $GOLDEN, or tests/golden where that is not set. Static storage. */
const char *golden_folder(void);

/* Opens `name` in golden_folder(). Where GOLDEN is set and holds no such file, the test is skipped (exit 77).
 */
hid_t golden_open(const char *name);

/* Does golden_folder() hold `name`? For a test program with other tests besides. */
bool golden_is_there(const char *name);

/* The data set at `path`, converted to `type` (H5T_NATIVE_UINT8, ...). */
struct golden_array golden_read(hid_t at, const char *path, hid_t type);
void golden_free(struct golden_array *array);

bool golden_has(hid_t at, const char *path);

/* A string attribute of the object at `path` into text; a number as double. */
void golden_text(hid_t at, const char *path, const char *name, char *text, size_t n_bytes);
double golden_attribute(hid_t at, const char *path, const char *name);

/* Calls visit(group, name, context) for every member of the group at `path`, in the order of names; the group
 * is open during the call. Returns their number; 0 where there is no such group. */
int golden_walk(hid_t at, const char *path, void (*visit)(hid_t group, const char *name, void *context),
                void *context);

#endif
