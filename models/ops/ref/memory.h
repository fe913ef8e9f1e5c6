/* Memory slots of ops_ref and ops_ref_double: the host's memory. */
#ifndef MODELS_OPS_REF_MEMORY_H
#define MODELS_OPS_REF_MEMORY_H

#include "models/ops/ops.h"

status_t ref_alloc(struct backend *be, size_t n_bytes, void **out);
void ref_release(struct backend *be, void *p);
status_t ref_copy(struct backend *be, void *dst, const void *src, size_t n_bytes);
status_t ref_fill_zero(struct backend *be, void *dst, size_t n_bytes);
status_t ref_synchronise(struct backend *be);

#endif
