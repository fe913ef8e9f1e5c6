#include "tests/support/tensor.h"

#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tensor tensor_new(const char *name, int32_t n_dims, const int64_t *shape) {
    struct tensor t = {.n_dims = n_dims, .n = 1};
    assert_true(n_dims <= TENSOR_MAX_DIMS);
    assert_true(strlen(name) < sizeof t.name);
    strcpy(t.name, name);
    for (int32_t i = 0; i < n_dims; i++) {
        t.shape[i] = shape[i];
        t.n *= shape[i];
    }
    t.v = calloc((size_t)t.n + 1, sizeof *t.v);
    assert_non_null(t.v);
    return t;
}

void tensor_free(struct tensor *tensor) {
    free(tensor->v);
    *tensor = (struct tensor){.n_dims = 0};
}

struct tensor tensor_read(hid_t at, const char *path) {
    struct golden_array array = golden_read(at, path, H5T_NATIVE_DOUBLE);
    const char *last = strrchr(path, '/');
    int64_t shape[TENSOR_MAX_DIMS];
    assert_true(array.n_axes <= TENSOR_MAX_DIMS);
    for (int i = 0; i < array.n_axes; i++) shape[i] = (int64_t)array.shape[i];
    struct tensor t = tensor_new(last ? last + 1 : path, array.n_axes, shape);
    memcpy(t.v, array.data, (size_t)t.n * sizeof *t.v);
    golden_free(&array);
    return t;
}

double tensor_error(const double *got, const double *want, int64_t n, double floor) {
    double difference = 0.0, top = floor;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs(got[i] - want[i]);
        if (!isfinite(d)) return (double)INFINITY;
        difference = fmax(difference, d);
        top = fmax(top, fabs(want[i]));
    }
    return difference == 0.0 ? 0.0 : difference / fmax(top, 1e-30);
}

int32_t golden_attributes(hid_t at, const char *path, const char *name, double *out, int32_t max) {
    if (H5Aexists_by_name(at, path, name, H5P_DEFAULT) <= 0) return 0;
    const hid_t attribute = H5Aopen_by_name(at, path, name, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t space = H5Aget_space(attribute);
    const int64_t n = (int64_t)H5Sget_simple_extent_npoints(space);
    double *all = calloc((size_t)n + 1, sizeof *all);
    assert_non_null(all);
    if (H5Aread(attribute, H5T_NATIVE_DOUBLE, all) < 0)
        fail_msg("attribute %s of %s is no number", name, path);
    for (int64_t i = 0; i < n && i < max; i++) out[i] = all[i];
    free(all);
    H5Sclose(space);
    H5Aclose(attribute);
    return (int32_t)n;
}
