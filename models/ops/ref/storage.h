/* Reading and writing the two storage types. The file that includes the loops defines `real`: float, or
 * double for ops_ref_double. The loops themselves compute in double. */
#ifndef MODELS_OPS_REF_STORAGE_H
#define MODELS_OPS_REF_STORAGE_H

#include "models/ops/bf16.h"
#include "models/ops/ops.h"

#include <math.h>

static inline double load(enum dtype dtype, const void *p, int64_t i) {
    return dtype == DTYPE_F32 ? (double)((const real *)p)[i] : (double)bf16_to_f32(((const uint16_t *)p)[i]);
}

static inline void store(enum dtype dtype, void *p, int64_t i, double value) {
    if (dtype == DTYPE_F32)
        ((real *)p)[i] = (real)value;
    else
        ((uint16_t *)p)[i] = bf16_from_f32((float)value);
}

/* "=" or "+=" */
static inline void store_or_add(enum dtype dtype, void *p, int64_t i, double value, bool accumulate) {
    store(dtype, p, i, accumulate ? load(dtype, p, i) + value : value);
}

static inline double real_at(const float *p, int64_t i) {
    return (double)((const real *)(const void *)p)[i];
}
static inline void set_real(float *p, int64_t i, double value) {
    ((real *)(void *)p)[i] = (real)value;
}
static inline void add_real(float *p, int64_t i, double value) {
    set_real(p, i, real_at(p, i) + value);
}

/* Drop-path's factor of a row: row_scale[row / rows_per_image], 1 without drop-path. */
static inline double row_factor(const float *row_scale, int64_t row, int64_t rows_per_image) {
    return row_scale ? real_at(row_scale, row / rows_per_image) : 1.0;
}

#endif
