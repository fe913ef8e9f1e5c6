/* Optimiser steps in one pass over the flat buffer, and the sum of squares that clips gradients.
 *
 * A block takes a chunk of CHUNK elements; it looks up the segment of the first and walks on from there, so
 * that the settings of tensors cost next to nothing. Four neighbours of one segment are one 16-byte access
 * each of parameters, gradients and states where all of them are aligned alike. */
#include "models/ops/cuda/device.cuh"

#include <cmath>

enum { THREADS = 256, CHUNK = 8 * 4 * THREADS, SQUARE_THREADS = 512, SQUARE_BLOCKS = PARTIALS / 2 };

/* A step as the kernels see it: struct optimiser_step with what the host worked out. */
struct step {
    const struct optimiser_segment *segments; /* on the device */
    int n_segments;
    int64_t begin, end;
    float lr, momentum;
    bool nesterov, first_step;
    float beta2, rest1, rest2, eps, correction1, correction2; /* AdamW; rest = 1 - beta */
    float *params;
    const float *grads;
    float *state1, *state2;
    bf16 *shadow;
    float *ema;
    float ema_decay;
    const float *grad_scale;
    const int32_t *skip;
};

/* The rules: one parameter p with gradient g (scaled), states v1 and v2, settings of its segment. */
struct sgd_rule {
    float lr, decay, momentum;
    bool nesterov, first;
    __device__ sgd_rule(const struct step &s, const struct optimiser_segment &segment)
        : lr(s.lr * segment.lr_scale), decay(segment.weight_decay), momentum(s.momentum),
          nesterov(s.nesterov), first(s.first_step) {}
    __device__ __forceinline__ float operator()(float p, float g, float &v1, float &) const {
        g += decay * p;
        v1 = first ? g : momentum * v1 + g;
        return p - lr * (nesterov ? g + momentum * v1 : v1);
    }
    static const bool two_states = false;
};

struct adamw_rule {
    float shrink, rate, rest1, beta2, rest2, correction2, eps;
    __device__ adamw_rule(const struct step &s, const struct optimiser_segment &segment)
        : rest1(s.rest1), beta2(s.beta2), rest2(s.rest2), correction2(s.correction2), eps(s.eps) {
        const float lr = s.lr * segment.lr_scale;
        shrink = (float)(1.0 - (double)lr * (double)segment.weight_decay);
        rate = lr * s.correction1;
    }
    __device__ __forceinline__ float operator()(float p, float g, float &v1, float &v2) const {
        v1 += (g - v1) * rest1;
        v2 = v2 * beta2 + g * g * rest2;
        return p * shrink - v1 * rate / (sqrtf(v2) * correction2 + eps);
    }
    static const bool two_states = true;
};

/* The last segment that begins at or before element i; 0 if none does. */
__device__ __forceinline__ int segment_of(const struct step &s, int64_t i) {
    int low = 0, high = s.n_segments - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (s.segments[middle].offset <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Element i, which no other thread has; nothing where it lies between segments. */
template <class Rule>
__device__ void update_one(const struct step &s, int64_t i, int segment, float grad_scale) {
    while (segment + 1 < s.n_segments && s.segments[segment + 1].offset <= i) segment++;
    const struct optimiser_segment &of = s.segments[segment];
    if (i < of.offset || i >= of.offset + of.n_elem) return;
    const int64_t j = i - s.begin;
    float v1 = s.state1[j], v2 = Rule::two_states ? s.state2[j] : 0.0f;
    const float p = Rule(s, of)(s.params[i], s.grads[i] * grad_scale, v1, v2);
    s.params[i] = p;
    s.state1[j] = v1;
    if (Rule::two_states) s.state2[j] = v2;
    if (s.shadow) s.shadow[i] = __float2bfloat16_rn(p);
    if (s.ema) s.ema[j] = s.ema[j] * s.ema_decay + p * (1.0f - s.ema_decay);
}

__device__ __forceinline__ void load4(float (&f)[4], const float *p) {
    const float4 v = *reinterpret_cast<const float4 *>(p);
    f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
}
__device__ __forceinline__ void store4(float *p, const float (&f)[4]) {
    *reinterpret_cast<float4 *>(p) = make_float4(f[0], f[1], f[2], f[3]);
}

/* Elements i..i+3, all of one segment. */
template <class Rule>
__device__ __forceinline__ void update_four(const struct step &s, int64_t i,
                                            const struct optimiser_segment &of, float grad_scale) {
    const int64_t j = i - s.begin;
    const Rule rule(s, of);
    float p[4], g[4], v1[4], v2[4] = {0, 0, 0, 0}, e[4];
    load4(p, s.params + i);
    load4(g, s.grads + i);
    load4(v1, s.state1 + j);
    if (Rule::two_states) load4(v2, s.state2 + j);
#pragma unroll
    for (int k = 0; k < 4; k++) p[k] = rule(p[k], g[k] * grad_scale, v1[k], v2[k]);
    store4(s.params + i, p);
    store4(s.state1 + j, v1);
    if (Rule::two_states) store4(s.state2 + j, v2);
    if (s.shadow) *reinterpret_cast<uint2 *>(s.shadow + i) = make_uint2(pack2(p[0], p[1]), pack2(p[2], p[3]));
    if (!s.ema) return;
    load4(e, s.ema + j);
#pragma unroll
    for (int k = 0; k < 4; k++) e[k] = e[k] * s.ema_decay + p[k] * (1.0f - s.ema_decay);
    store4(s.ema + j, e);
}

/* Chunks of the part's elements; `aligned`: element begin and all buffers are, by four. */
template <class Rule> __global__ void __launch_bounds__(THREADS) step_kernel(struct step s, bool aligned) {
    if (s.skip && *s.skip) return;
    const float grad_scale = s.grad_scale ? *s.grad_scale : 1.0f;
    for (int64_t chunk = s.begin + blockIdx.x * (int64_t)CHUNK; chunk < s.end;
         chunk += (int64_t)gridDim.x * CHUNK) {
        const int64_t last = chunk + CHUNK < s.end ? chunk + CHUNK : s.end;
        int segment = segment_of(s, chunk);
        for (int64_t i = chunk + 4 * threadIdx.x; i < last; i += 4 * THREADS) {
            while (segment + 1 < s.n_segments && s.segments[segment + 1].offset <= i) segment++;
            const struct optimiser_segment &of = s.segments[segment];
            if (aligned && i >= of.offset && i + 4 <= of.offset + of.n_elem && i + 4 <= last) {
                update_four<Rule>(s, i, of, grad_scale);
                continue;
            }
            for (int64_t k = i; k < i + 4 && k < last; k++) update_one<Rule>(s, k, segment, grad_scale);
        }
    }
}

static bool is_aligned(const void *p, size_t n_bytes) {
    return (size_t)p % n_bytes == 0;
}

template <class Rule>
static status_t step(struct backend *be, const struct optimiser_step *a, struct step s) {
    if (a->begin >= a->end || a->n_segments == 0) return STATUS_OK;
    void *segments;
    TRY(small_array(be, a->segments, (size_t)a->n_segments * sizeof *a->segments, &segments));
    s.segments = (const struct optimiser_segment *)segments;
    s.n_segments = a->n_segments;
    s.begin = a->begin, s.end = a->end;
    s.lr = a->lr;
    s.params = a->params, s.grads = a->grads;
    s.state1 = a->state1, s.state2 = a->state2;
    s.shadow = (bf16 *)a->shadow;
    s.ema = a->ema, s.ema_decay = a->ema_decay;
    s.grad_scale = a->grad_scale, s.skip = a->skip;
    const bool aligned = a->begin % 4 == 0 && is_aligned(a->params, 16) && is_aligned(a->grads, 16) &&
                         is_aligned(a->state1, 16) && (!Rule::two_states || is_aligned(a->state2, 16)) &&
                         is_aligned(a->shadow, 8) && is_aligned(a->ema, 16);
    LAUNCH(step_kernel<Rule>, grid_of(be, a->end - a->begin, CHUNK), THREADS, 0, be->stream, s, aligned);
    TRY_LAUNCH();
    return STATUS_OK;
}

extern "C" status_t cuda_sgd(struct backend *be, const struct optimiser_step *a) {
    struct step s = {};
    s.momentum = a->momentum;
    s.nesterov = a->nesterov, s.first_step = a->first_step;
    return step<sgd_rule>(be, a, s);
}

extern "C" status_t cuda_adamw(struct backend *be, const struct optimiser_step *a) {
    struct step s = {};
    s.beta2 = (float)a->beta2;
    s.rest1 = (float)(1.0 - a->beta1), s.rest2 = (float)(1.0 - a->beta2);
    s.eps = (float)a->eps;
    s.correction1 = (float)(1.0 / (1.0 - std::pow(a->beta1, (double)a->t)));
    s.correction2 = (float)(1.0 / std::sqrt(1.0 - std::pow(a->beta2, (double)a->t)));
    return step<adamw_rule>(be, a, s);
}

/* ---- norm and finiteness ---- */

__device__ __forceinline__ void take(float x, double &sum, long long &bad) {
    sum += (double)x * (double)x;
    bad += (__float_as_uint(x) & 0x7f800000u) == 0x7f800000u;
}

/* partials[b], partials[gridDim + b] = the block's sum of squares and count of NaN and infinities */
__global__ void __launch_bounds__(SQUARE_THREADS)
    square_sum_kernel(const float *__restrict__ x, int64_t n, bool aligned, double *__restrict__ partials) {
    SHARED(double, room, [32]);
    SHARED(long long, count_room, [32]);
    const int64_t stride = (int64_t)gridDim.x * SQUARE_THREADS,
                  me = blockIdx.x * (int64_t)SQUARE_THREADS + threadIdx.x;
    const int64_t n_four = aligned ? n / 4 : 0;
    double sum = 0;
    long long bad = 0;
    for (int64_t i = me; i < n_four; i += stride) {
        const float4 v = reinterpret_cast<const float4 *>(x)[i];
        take(v.x, sum, bad), take(v.y, sum, bad), take(v.z, sum, bad), take(v.w, sum, bad);
    }
    for (int64_t i = 4 * n_four + me; i < n; i += stride) take(x[i], sum, bad);
    sum = block_sum(sum, room);
    bad = block_sum(bad, count_room);
    if (threadIdx.x > 0) return;
    partials[blockIdx.x] = sum;
    partials[gridDim.x + blockIdx.x] = (double)bad;
}

/* sum[b] = partials[b * n] + ... + partials[b * n + n-1] of block b */
__global__ void __launch_bounds__(THREADS)
    finish_kernel(const double *__restrict__ partials, int n, double *__restrict__ sum) {
    SHARED(double, room, [32]);
    double total = 0;
    for (int i = threadIdx.x; i < n; i += THREADS) total += partials[(int64_t)blockIdx.x * n + i];
    total = block_sum(total, room);
    if (threadIdx.x == 0) sum[blockIdx.x] = total;
}

extern "C" status_t cuda_square_sum(struct backend *be, const float *x, int64_t n_elem, double *sum) {
    unsigned grid = grid_of(be, n_elem, 4 * SQUARE_THREADS);
    if (grid > SQUARE_BLOCKS) grid = SQUARE_BLOCKS;
    LAUNCH(square_sum_kernel, grid, SQUARE_THREADS, 0, be->stream, x, n_elem, is_aligned(x, 16),
           be->partials);
    TRY_LAUNCH();
    LAUNCH(finish_kernel, 2, THREADS, 0, be->stream, be->partials, (int)grid, sum);
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void clip_factor_kernel(const double *sum, float clip, float *grad_scale, int32_t *skip) {
    const double factor = clip > 0 ? (double)clip / (sqrt(sum[0]) + 1e-6) : 1.0;
    *grad_scale = factor < 1 ? (float)factor : 1.0f;
    *skip = sum[1] > 0 || !isfinite(sum[0]);
}

extern "C" status_t cuda_clip_factor(struct backend *be, const double *sum, float clip, float *grad_scale,
                                     int32_t *skip) {
    LAUNCH(clip_factor_kernel, 1, 1, 0, be->stream, sum, clip, grad_scale, skip);
    TRY_LAUNCH();
    return STATUS_OK;
}
