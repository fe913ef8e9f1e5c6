/* Host tensors of doubles with names: what the tests of operations compute with. Values of golden files fit
 * exactly, whether float32, int32 or uint8. Anything that goes wrong fails the running test. */
#ifndef TESTS_SUPPORT_TENSOR_H
#define TESTS_SUPPORT_TENSOR_H

#include "tests/support/golden_h5.h"

enum { TENSOR_MAX_DIMS = 6, TENSOR_MAX_NAME = 96 };

struct tensor {
    char name[TENSOR_MAX_NAME];
    int32_t n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
    int64_t n; /* product of the shape */
    double *v; /* owned */
};

/* Zeroed tensor of this shape. */
struct tensor tensor_new(const char *name, int32_t n_dims, const int64_t *shape);
void tensor_free(struct tensor *tensor);

/* The data set at `path`, named like the last part of it. */
struct tensor tensor_read(hid_t at, const char *path);

/* max|got - want| / max(max|want|, floor); infinite where the difference is not finite, 0 where there is
 * none. */
double tensor_error(const double *got, const double *want, int64_t n, double floor);

/* Up to `max` values of an attribute of the object at `path`; returns how many it has, 0 where it is not
 * there. */
int32_t golden_attributes(hid_t at, const char *path, const char *name, double *out, int32_t max);

#endif
