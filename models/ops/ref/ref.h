/* The table of operations as plain loops: every sum in double, one loop an index, nothing clever. What the
 * other backends are tested against; used by tests only. One thread; results are there when a call returns.
 */
#ifndef MODELS_OPS_REF_REF_H
#define MODELS_OPS_REF_REF_H

#include "models/ops/ops.h"

extern const struct ops ops_ref;

/* The same loops with double wherever ops.h says fp32 (DTYPE_F32, float *): finite differences need it.
 * Pointers of type float * in the structures are read and written as double. bf16 stays bf16. */
extern const struct ops ops_ref_double;

/* Owned by the caller until ref_backend_close() (NULL is fine). Serves both tables. */
status_t ref_backend_open(struct backend **out);
void ref_backend_close(struct backend *be);

#endif
