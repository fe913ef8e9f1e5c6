/* One operation with its inputs and settings, run forward and backward on any table of operations.
 *
 * Names of operations, inputs, settings and outputs are those of the golden file ops.h5 (its README.md);
 * operations that have no case there follow the same manner: `dy` comes in, `y` and d<input> go out. Settings
 * of our own: start        what "+=" outputs hold before the call (default 0) accumulate   1: dx is "+=",
 * starting from `start` frozen       1: gradients of parameters are not asked for (NULL); 2: dx is not
 * Anything that goes wrong fails the running test. */
#ifndef TESTS_SUPPORT_OP_CASE_H
#define TESTS_SUPPORT_OP_CASE_H

#include "models/ops/ops.h"
#include "tests/support/tensor.h"

enum { CASE_MAX_TENSORS = 24, CASE_MAX_SETTINGS = 16, TABLE_MAX_OWNED = 64 };

/* A table with its backend, and the memory that running cases have taken. */
struct table {
    const char *label;
    const struct ops *ops;
    struct backend *be;
    bool in_double;           /* ops_ref_double: fp32 storage is double */
    void (*set_order)(int n); /* not NULL: work may be done in this many orders, which give the same bits */
    int n_orders;
    void *owned[TABLE_MAX_OWNED];
    int32_t n_owned;
};

/* Upload as `dtype`, or allocate and fill with a value; memory belongs to the table until table_release(). */
void *table_up(struct table *t, enum dtype dtype, const struct tensor *x); /* NULL gives NULL */
void *table_filled(struct table *t, enum dtype dtype, int64_t n, double value);
int32_t *table_up_i32(struct table *t, const struct tensor *x);
uint8_t *table_up_u8(struct table *t, const struct tensor *x);
void *table_bytes(struct table *t, size_t n_bytes);
struct tensor table_down(struct table *t, enum dtype dtype, const void *p, const char *name, int32_t n_dims,
                         const int64_t *shape);
void table_release(struct table *t);

/* The value that bf16 keeps. */
double round_to_bf16(double x);

struct setting {
    char name[32];
    int32_t n;
    double v[4];
};

struct op_case {
    char operation[TENSOR_MAX_NAME], name[TENSOR_MAX_NAME];
    struct tensor in[CASE_MAX_TENSORS]; /* of a golden case: all its data sets, so the expected outputs too */
    bool used[CASE_MAX_TENSORS];        /* was in[i] read by the run? */
    int32_t n_in;
    struct setting settings[CASE_MAX_SETTINGS];
    int32_t n_settings;
    struct tensor out[CASE_MAX_TENSORS];
    int32_t n_out;
};

struct op_case *case_new(const char *operation, const char *name);
void case_free(struct op_case *c);

/* A golden case: every data set and every numeric attribute of file/operation/name. */
struct op_case *case_read(hid_t file, const char *operation, const char *name);

struct tensor *case_add(struct op_case *c, const char *name, int32_t n_dims, const int64_t *shape);
void case_set(struct op_case *c, const char *name, double value);
void case_set2(struct op_case *c, const char *name, double first, double second);
double case_setting(const struct op_case *c, const char *name, double otherwise);
double case_setting_at(const struct op_case *c, const char *name, int32_t index, double otherwise);
struct tensor *case_find(struct op_case *c, const char *name); /* an input, marks it used; NULL: none */
struct tensor *case_need(struct op_case *c, const char *name); /* the same, fails the test without it */
const struct tensor *case_output(const struct op_case *c, const char *name); /* NULL: none */

/* Run it, in every order of the table; earlier outputs are dropped. Fails the test for an operation that it
 * does not know, and where two orders give different bits. */
void case_run(struct table *t, enum dtype dtype, struct op_case *c);

/* Run it once more: fails the test where an output has other bits than before. */
void case_run_again(struct table *t, enum dtype dtype, struct op_case *c);

#endif
