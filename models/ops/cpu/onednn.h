/* oneDNN behind one thin interface: matrix products and convolutions. Hides the difference between the C APIs
 * of oneDNN 2.x and 3.x; nothing else includes <dnnl.h>.
 *
 * A primitive is made at the first call with its shape and types and kept; later calls only set pointers. Not
 * thread-safe: one caller at a time. */
#ifndef MODELS_OPS_CPU_ONEDNN_H
#define MODELS_OPS_CPU_ONEDNN_H

#include "models/ops/ops.h"

struct onednn;

/* Owned by the caller until onednn_close(). The number of OpenMP threads must not change afterwards. */
status_t onednn_open(int32_t n_threads, struct onednn **out);
void onednn_close(struct onednn *o); /* NULL is fine */

enum matmul_activation { MATMUL_NONE, MATMUL_GELU, MATMUL_RELU6 };

/* C (m,n) = act(alpha * op(A) op(B) + bias) * column_scale + residual + beta * C, row-major with leading
 * dimensions. A and B have `type`, C and residual c_type; alpha other than 1 excludes a bias. NULL: absent.
 */
struct matmul {
    enum dtype type, c_type;
    bool transpose_a, transpose_b;
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const void *a, *b;
    void *c;
    const float *bias; /* (n) */
    enum matmul_activation activation;
    const float *column_scale; /* (n) */
    const void *residual;      /* (m,n), leading dimension ldc, not C itself (that is beta) */
};

status_t onednn_matmul(struct onednn *o, const struct matmul *a);

/* Primitives made so far, and the name of the first among them that runs oneDNN's reference code ("ref:any"),
 * which is a hundred times slower than its kernels; NULL: none. For tests. */
int64_t onednn_n_primitives(const struct onednn *o);
const char *onednn_reference_primitive(const struct onednn *o);

/* "2.6.3" */
const char *onednn_version_text(void);

#endif
