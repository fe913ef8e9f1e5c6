/* Export of a net for inference elsewhere: ONNX, opset 17.
 *
 * Input "image" (N,3,H,W) fp32, N free: RGB scaled to [0,1], then normalised with ImageNet's mean and
 * standard deviation (both stand in the file's metadata). Output "logits" (N,K), or "features" (N,D) for a
 * net without classifier. Batch norm uses its running statistics; drop-path and dropout are left out. */
#ifndef MODELS_ONNX_H
#define MODELS_ONNX_H

#include "models/net.h"

/* Replace `path`. metadata: n_metadata pairs key, value, kept beside "model", "image", "mean" and "std".
 * Errors: STATUS_BAD_CONFIG where the file would pass 2 GB, the format's limit; STATUS_CANT_CREATE,
 * STATUS_IO. */
status_t onnx_export(struct net *net, const char *const *metadata, int32_t n_metadata, const char *path);

#endif
