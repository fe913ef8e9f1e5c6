/* Matrix products by cuBLASLt. What cuBLASLt is asked for (descriptors, algorithm) is kept by shape, types,
 * leading dimensions, epilogue and alignment of the operands: its heuristic is asked once for each, in the
 * first step, and never again.
 *
 * With be->autotune the first eight algorithms are timed on the device when a shape is first met, and the
 * fastest is kept (that call waits, and allocates a result to throw away); without, the first is taken, the
 * same in every run. The log says which, at level debug. */
#ifndef MODELS_OPS_CUDA_GEMM_PLAN_H
#define MODELS_OPS_CUDA_GEMM_PLAN_H

#include "models/ops/cuda/backend.h"

/* D (m,n) = alpha op(A) op(B) + beta C + bias, all row-major, m n k > 0.
 * op(A) (m,k), op(B) (k,n); A is stored (k,m) where transpose_a, B is stored (n,k) where transpose_b.
 * A, B of type dtype; C and D (m,n), both with ldd, and bias (n) of type d_dtype: dtype, or DTYPE_F32 without
 * bias. c NULL: d itself; bias NULL: none. */
struct gemm_call {
    enum dtype dtype, d_dtype;
    bool transpose_a, transpose_b;
    int64_t m, n, k, lda, ldb, ldd;
    float alpha, beta;
    const void *a, *b, *c;
    void *d;
    const void *bias;
};

status_t gemm_planned(struct backend *be, const struct gemm_call *g);

/* How many products were planned (the heuristic asked) so far: stays the same from the second step on. */
int64_t gemm_plans_made(const struct backend *be);

/* Of products whose algorithms were timed, how many got another than the first; *n_raced: timed. */
int64_t gemm_plans_raced(const struct backend *be, int64_t *n_raced);

void gemm_plans_free(struct gemm_plans *plans); /* NULL is fine */

#endif
