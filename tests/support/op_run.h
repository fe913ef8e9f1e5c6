/* How each operation of a case is run: the helpers that op_run_*.c share. */
#ifndef TESTS_SUPPORT_OP_RUN_H
#define TESTS_SUPPORT_OP_RUN_H

#include "tests/support/op_case.h"
#include "tests/support/test.h"

struct op_run {
    struct table *t;
    enum dtype dtype;
    struct op_case *c;
};

struct op_runner {
    const char *operation;
    void (*run)(struct op_run *r);
};

extern const struct op_runner op_runners[];
extern const int32_t n_op_runners;

/* An input uploaded as the run's type, as fp32, int32 or uint8; NULL where the case has none. */
const void *run_in(struct op_run *r, const char *name);
const float *run_in_f32(struct op_run *r, const char *name);
const int32_t *run_in_i32(struct op_run *r, const char *name);
const uint8_t *run_in_u8(struct op_run *r, const char *name);

/* Room for the gradient of an input ("+="), filled with the setting `start`; NULL where the case lacks the
 * input or is frozen. run_dx() is of the run's type and knows `accumulate`. */
float *run_grad(struct op_run *r, const char *input);
void *run_dx(struct op_run *r, const char *input);

/* Keep `p` as an output; shape and name of d<input> come from the input. NULL: nothing. */
void run_out(struct op_run *r, enum dtype dtype, const void *p, const char *name, int32_t n_dims,
             const int64_t *shape);
void run_out_grad(struct op_run *r, enum dtype dtype, const void *p, const char *input);
/* Keep one number. */
void run_out_number(struct op_run *r, const char *name, double value);

bool run_accumulates(const struct op_run *r);

/* Memory that X_scratch asks for. */
#define SCRATCH(r, slot, a, train)                                                                           \
    table_bytes((r)->t, (r)->t->ops->slot ? (r)->t->ops->slot((r)->t->be, (a), (train)) : 0)

/* The runners. */
void run_linear(struct op_run *r);
void run_mlp(struct op_run *r);
void run_gelu(struct op_run *r);
void run_relu6(struct op_run *r);
void run_layernorm(struct op_run *r);
void run_conv2d(struct op_run *r);
void run_batchnorm(struct op_run *r);
void run_global_average_pool(struct op_run *r);
void run_patch_merge(struct op_run *r);
void run_window_attention_core(struct op_run *r);
void run_window_attention(struct op_run *r);
void run_cross_entropy(struct op_run *r);
void run_soft_cross_entropy(struct op_run *r);
void run_confidence(struct op_run *r);
void run_deep_coral(struct op_run *r);
void run_gemm(struct op_run *r);
void run_dropout(struct op_run *r);
void run_batchnorm_fold(struct op_run *r);

#endif
