/* cudnn_cpu.cpp - convolutions of models/ops/cuda/cudnn_graph.h by plain loops on the stream: what surrounds cuDNN in
 * the backend (weights to bf16 and back, adding up, bias) is tested with it; cuDNN itself is asked without a device
 * by tests/cuda/cudnn_plans.c. */
extern "C" {
#include "models/ops/cuda/cudnn_graph.h"
}

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <vector>

extern "C" cudaError_t coc_submit(cudaStream_t stream, void *job, void (*run)(void *), void (*free)(void *));

struct cudnn {
    cudaStream_t stream;
};
struct cudnn_plan {
    conv_shape shape;
    size_t workspace;
};

namespace {
struct Job {
    cudnn_plan plan;
    const void *p[3]; /* x, w, y */
    void *workspace;
};

/* All three as floats; the pass's result starts at zero. */
void run(void *job) {
    const Job &j = *(const Job *)job;
    const conv_shape &s = j.plan.shape;
    const int64_t ho = (s.h + 2 * s.pad - s.k) / s.stride + 1, wo = (s.w + 2 * s.pad - s.k) / s.stride + 1;
    const int64_t per = s.depthwise ? 1 : s.cin;
    const size_t sizes[3] = {(size_t)(s.n * s.h * s.w * s.cin), (size_t)(s.cout * s.k * s.k * per),
                             (size_t)(s.n * ho * wo * s.cout)};
    const int out = s.pass == CONV_FORWARD ? 2 : s.pass == CONV_DX ? 0 : 1;
    std::vector<float> v[3];
    if (j.plan.workspace) memset(j.workspace, 0xff, j.plan.workspace);
    for (int i = 0; i < 3; i++) {
        v[i].resize(sizes[i]);
        for (size_t e = 0; e < sizes[i] && i != out; e++) v[i][e] = __bfloat162float(((const __nv_bfloat16 *)j.p[i])[e]);
    }
    for (int64_t at = 0; at < (int64_t)sizes[2]; at++) {
        const int64_t o = at % s.cout, pixel = at / s.cout, ox = pixel % wo, oy = pixel / wo % ho, n = pixel / wo / ho;
        for (int64_t tap = 0; tap < s.k * s.k; tap++) {
            const int64_t iy = oy * s.stride - s.pad + tap / s.k, ix = ox * s.stride - s.pad + tap % s.k;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
            for (int64_t c = 0; c < per; c++) {
                float &x = v[0][((n * s.h + iy) * s.w + ix) * s.cin + (s.depthwise ? o : c)],
                      &w = v[1][(o * s.k * s.k + tap) * per + c], &y = v[2][at];
                if (out == 2) y += x * w;
                else if (out == 0) x += y * w;
                else w += x * y;
            }
        }
    }
    for (size_t e = 0; e < sizes[out]; e++) ((__nv_bfloat16 *)j.p[out])[e] = __float2bfloat16_rn(v[out][e]);
}
} // namespace

extern "C" {
status_t cudnn_open(const char *, void *stream, const char *, struct cudnn **out) {
    *out = new cudnn{(cudaStream_t)stream};
    return STATUS_OK;
}
void cudnn_close(struct cudnn *lib) {
    delete lib;
}
size_t cudnn_version(const struct cudnn *) {
    return 0;
}
status_t cudnn_plans(struct cudnn *, const struct conv_shape *shape, size_t workspace_max, int n_max,
                     struct cudnn_plan **plans, int *n) {
    for (*n = 0; *n < 2 && *n < n_max && workspace_max >= 4096; ++*n) plans[*n] = new cudnn_plan{*shape, (size_t)4096 * *n};
    return STATUS_OK;
}
void cudnn_plan_free(struct cudnn *, struct cudnn_plan *plan) {
    delete plan;
}
size_t cudnn_plan_workspace(const struct cudnn_plan *plan) {
    return plan->workspace;
}
int64_t cudnn_plan_engine(const struct cudnn_plan *plan) {
    return (int64_t)(plan->workspace / 4096);
}
status_t cudnn_plan_run(struct cudnn *lib, const struct cudnn_plan *plan, const void *x, const void *w, const void *y,
                        void *workspace) {
    Job *job = new Job{*plan, {x, w, y}, workspace};
    return coc_submit(lib->stream, job, run, [](void *j) { delete (Job *)j; }) == cudaSuccess ? STATUS_OK : STATUS_INTERNAL;
}
}
