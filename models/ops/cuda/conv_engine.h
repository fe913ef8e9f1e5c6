/* Convolutions by whichever is faster, our kernels or cuDNN.
 *
 * The slots below surround cuda_conv_* and cuda_depthwise_* (ours). When a graph asks for their scratch, each
 * shape and pass is decided once and the decision logged, at level debug:
 *   - ours in fp32, without cuDNN, or where cuDNN has no deterministic engine for the shape;
 *   - the faster with be->autotune: both are timed then and there, surroundings (weights to bf16 and back,
 * bias, adding up) included, on memory allocated for the purpose; otherwise ours;
 *   - as told by MARRS_CONV_ENGINE=ours or cudnn, for tests and measurements.
 * Steps only look the decision up. */
#ifndef MODELS_OPS_CUDA_CONV_ENGINE_H
#define MODELS_OPS_CUDA_CONV_ENGINE_H

#include "models/ops/cuda/backend.h"

size_t raced_conv_scratch(struct backend *be, const struct conv *a, bool train);
status_t raced_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch);
status_t raced_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                             void *scratch);
size_t raced_depthwise_scratch(struct backend *be, const struct depthwise *a, bool train);
status_t raced_depthwise_forward(struct backend *be, const struct depthwise *a, void *y, void *scratch);
status_t raced_depthwise_backward(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                                  void *scratch);

/* How many decisions fell on cuDNN; *n_decided: all. */
int64_t conv_engines_raced(const struct backend *be, int64_t *n_decided);

void conv_engines_close(struct conv_engines *engines); /* NULL is fine */

#endif
