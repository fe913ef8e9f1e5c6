/* How long something takes on the device, to choose between ways of computing the same. */
#ifndef MODELS_OPS_CUDA_TIMING_H
#define MODELS_OPS_CUDA_TIMING_H

#include "models/ops/cuda/backend.h"

/* Median time of five runs of enqueue(be, context) behind one that warms up; waits for the device. */
status_t device_time(struct backend *be, status_t (*enqueue)(struct backend *be, void *context),
                     void *context, float *time_ms);

#endif
