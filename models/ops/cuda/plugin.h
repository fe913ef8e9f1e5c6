/* What the backend's plugin opens and closes. */
#ifndef MODELS_OPS_CUDA_PLUGIN_H
#define MODELS_OPS_CUDA_PLUGIN_H

#include "models/ops/ops.h"

extern const struct ops ops_cuda;

/* Owned by the caller until cuda_backend_close(). The calling thread uses this device from now on. autotune:
 * what can be computed in several ways is timed when it is first met, and the fastest kept; otherwise the
 * choice is the same in every run. */
status_t cuda_backend_open(int device, bool autotune, struct backend **out);
void cuda_backend_close(struct backend *be); /* NULL is fine */

#endif
