/* Convolutions by cuDNN's graph API. The library is opened at run time, only where a plan is wanted of it;
 * programs built without its headers, and hosts without the library, do without.
 *
 * A plan is one convolution (forward, gradient of x, gradient of the weights) of one shape, made for a
 * device: the one of a handle, or one that is only described (JSON), with which plans are made, and so
 * checked, on hosts without a GPU.
 *
 * Tensors. x (N,H,W,Cin), y (N,Ho,Wo,Cout), weights (Cout,k,k,Cin), or (C,k,k) depthwise; all of type dtype,
 * gradients of the weights too. */
#ifndef MODELS_OPS_CUDA_CUDNN_GRAPH_H
#define MODELS_OPS_CUDA_CUDNN_GRAPH_H

#include "models/ops/ops.h"

enum conv_pass { CONV_FORWARD, CONV_DX, CONV_DW };

/* No holes: compared as bytes. */
struct conv_shape {
    enum conv_pass pass;
    enum dtype dtype;
    int32_t depthwise; /* 1: cin = cout = groups */
    int32_t k, stride, pad;
    int64_t n, h, w, cin, cout;
};

struct cudnn;      /* the library, opened, with a handle or the description of a device */
struct cudnn_plan; /* one convolution by one of cuDNN's engines */

/* Open the library `name` (a file name as dlopen takes it; also tried in $CUDNN_HOME/lib and lib64). stream:
 * of the device that plans will run on; device_json not NULL: no device, plans are made for the one
 * described. STATUS_MISSING says what is not there. */
status_t cudnn_open(const char *name, void *stream, const char *device_json, struct cudnn **out);
void cudnn_close(struct cudnn *lib); /* NULL is fine */
size_t cudnn_version(const struct cudnn *lib);

/* Up to n_max plans of different engines, as cuDNN's heuristic ranks them, deterministic ones only, that need
 * no more than workspace_max bytes. None: *n = 0, which is no failure. */
status_t cudnn_plans(struct cudnn *lib, const struct conv_shape *shape, size_t workspace_max, int n_max,
                     struct cudnn_plan **plans, int *n);
void cudnn_plan_free(struct cudnn *lib, struct cudnn_plan *plan); /* NULL is fine */
size_t cudnn_plan_workspace(const struct cudnn_plan *plan);
int64_t cudnn_plan_engine(const struct cudnn_plan *plan);

/* Enqueue: y or dx or dw "=" the convolution of the other two; x, w, y as the pass takes them. */
status_t cudnn_plan_run(struct cudnn *lib, const struct cudnn_plan *plan, const void *x, const void *w,
                        const void *y, void *workspace);

#endif
