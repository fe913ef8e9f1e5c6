#include "tests/support/golden_h5.h"

#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *golden_folder(void) {
    const char *folder = getenv("GOLDEN");
    return folder && *folder ? folder : "tests/golden";
}

bool golden_is_there(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", golden_folder(), name);
    return access(path, R_OK) == 0;
}

hid_t golden_open(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", golden_folder(), name);
    if (getenv("GOLDEN") && !golden_is_there(name)) {
        printf("no %s\n", path);
        exit(77);
    }
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) fail_msg("cannot open %s", path);
    return file;
}

struct golden_array golden_read(hid_t at, const char *path, hid_t type) {
    struct golden_array array = {0};
    const hid_t set = H5Dopen2(at, path, H5P_DEFAULT);
    if (set < 0) fail_msg("no data set %s", path);
    const hid_t space = H5Dget_space(set);
    array.n_axes = H5Sget_simple_extent_ndims(space);
    assert_in_range(array.n_axes, 0, 8);
    H5Sget_simple_extent_dims(space, array.shape, NULL);
    array.n = (size_t)H5Sget_simple_extent_npoints(space);
    array.data = calloc(array.n + 1, H5Tget_size(type));
    assert_non_null(array.data);
    assert_true(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.data) >= 0);
    H5Sclose(space);
    H5Dclose(set);
    return array;
}

void golden_free(struct golden_array *array) {
    free(array->data);
    *array = (struct golden_array){0};
}

bool golden_has(hid_t at, const char *path) {
    char part[1024];
    for (size_t i = 0; path[i]; i++) { /* H5Lexists wants every group on the way to exist */
        if (path[i] != '/' || i == 0) continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        if (H5Lexists(at, part, H5P_DEFAULT) <= 0) return false;
    }
    return H5Lexists(at, path, H5P_DEFAULT) > 0;
}

void golden_text(hid_t at, const char *path, const char *name, char *text, size_t n_bytes) {
    const hid_t attribute = H5Aopen_by_name(at, path, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0) fail_msg("no attribute %s of %s", name, path);
    const hid_t type = H5Aget_type(attribute);
    memset(text, 0, n_bytes);
    if (H5Tis_variable_str(type) > 0) {
        char *value = NULL;
        assert_true(H5Aread(attribute, type, &value) >= 0);
        snprintf(text, n_bytes, "%s", value);
        H5free_memory(value);
    } else {
        assert_true(H5Tget_size(type) < n_bytes);
        assert_true(H5Aread(attribute, type, text) >= 0);
    }
    H5Tclose(type);
    H5Aclose(attribute);
}

double golden_attribute(hid_t at, const char *path, const char *name) {
    const hid_t attribute = H5Aopen_by_name(at, path, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0) fail_msg("no attribute %s of %s", name, path);
    double value;
    assert_true(H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) >= 0);
    H5Aclose(attribute);
    return value;
}

/* Names are fetched one by one: a test that fails in visit() jumps away, which must not happen inside an HDF5
 * call. */
int golden_walk(hid_t at, const char *path, void (*visit)(hid_t group, const char *name, void *context),
                void *context) {
    if (!golden_has(at, path)) return 0;
    const hid_t group = H5Gopen2(at, path, H5P_DEFAULT);
    H5G_info_t info = {0};
    assert_true(group >= 0 && H5Gget_info(group, &info) >= 0);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char name[256];
        const ssize_t length =
            H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        assert_in_range(length, 1, sizeof name - 1);
        visit(group, name, context);
    }
    H5Gclose(group);
    return (int)info.nlinks;
}
