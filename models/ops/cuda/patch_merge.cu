/* Patch merging: a copy from four neighbours to one token and back, in the widest units that channels allow. */
#include "models/ops/cuda/device.cuh"

enum { THREADS = 256 };

struct merge_shape {
    int64_t n;
    int h, w, units; /* units of U a token of x has */
};

/* Element (n, row, column) of the map, with the token and quarter it lies in. Threads run over the gathered tensor
 * (both ways): those of the padding write zeros forward and nothing backward. */
template <class U, bool FORWARD>
__global__ void __launch_bounds__(THREADS)
    patch_merge_kernel(U *__restrict__ out, const U *__restrict__ in, struct merge_shape s) {
    const int ho = (s.h + 1) / 2, wo = (s.w + 1) / 2;
    const int64_t total = s.n * ho * wo * 4 * s.units;
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < total;
         i += (int64_t)gridDim.x * THREADS) {
        const int unit = (int)(i % s.units), part = (int)(i / s.units % 4);
        const int64_t token = i / s.units / 4;
        const int row = (int)(token / wo % ho) * 2 + part % 2, column = (int)(token % wo) * 2 + part / 2;
        const bool inside = row < s.h && column < s.w;
        const int64_t at = ((token / wo / ho * s.h + row) * s.w + column) * s.units + unit;
        if (FORWARD) out[i] = inside ? in[at] : U{};
        else if (inside) out[at] = in[i];
    }
}

template <class U, bool FORWARD>
static void launch_merge(struct backend *be, const struct patch_merge *a, void *out, const void *in) {
    const struct merge_shape s = {a->n, (int)a->h, (int)a->w,
                                  (int)(a->c * (int64_t)dtype_bytes(a->dtype) / (int64_t)sizeof(U))};
    const int64_t total = s.n * ((s.h + 1) / 2) * ((s.w + 1) / 2) * 4 * s.units;
    LAUNCH((patch_merge_kernel<U, FORWARD>), grid_of(be, total, THREADS), THREADS, 0, be->stream, (U *)out,
           (const U *)in, s);
}

template <bool FORWARD>
static status_t patch_merge(struct backend *be, const struct patch_merge *a, void *out, const void *in) {
    const int64_t n_bytes = a->c * (int64_t)dtype_bytes(a->dtype);
    const uintptr_t both = (uintptr_t)out | (uintptr_t)in;
    if (a->n * a->h * a->w * a->c == 0) return STATUS_OK;
    if (n_bytes % 16 == 0 && both % 16 == 0) launch_merge<uint4, FORWARD>(be, a, out, in);
    else if (n_bytes % 4 == 0 && both % 4 == 0) launch_merge<uint32_t, FORWARD>(be, a, out, in);
    else launch_merge<uint16_t, FORWARD>(be, a, out, in);
    TRY_LAUNCH();
    return STATUS_OK;
}

extern "C" status_t cuda_patch_merge_forward(struct backend *be, const struct patch_merge *a, const void *x,
                                             void *y) {
    return patch_merge<true>(be, a, y, x);
}

extern "C" status_t cuda_patch_merge_backward(struct backend *be, const struct patch_merge *a,
                                              const void *dy, void *dx) {
    return patch_merge<false>(be, a, dx, dy);
}
