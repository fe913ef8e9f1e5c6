/* GELU, erf form (Hendrycks & Gimpel 2016): gelu(x) = x Phi(x), gelu'(x) = Phi(x) + x phi(x). cuBLASLt's
 * epilogue is the tanh form, which differs by up to 4e-4. */
#include "models/ops/cuda/rows.cuh"

#include "models/ops/cuda/rows.h"

enum { THREADS = 256 };

/* Phi(x) = (1 + erf(x / sqrt 2)) / 2 */
__device__ __forceinline__ float normal_cdf(float x) {
    return 0.5f + 0.5f * erff(x * 0.70710678118654752f);
}
__device__ __forceinline__ float normal_density(float x) {
    return 0.39894228040143268f * expf(-0.5f * x * x);
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS) gelu_kernel(T *h, const T *pre, int64_t n) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        float f[V];
        load_v(f, pre + i * V);
#pragma unroll
        for (int v = 0; v < V; v++) f[v] *= normal_cdf(f[v]);
        store_v(h + i * V, f);
    }
}

extern "C" status_t gelu_forward(struct backend *be, enum dtype dtype, void *h, const void *pre, int64_t n) {
    if (n == 0) return STATUS_OK;
    const bool wide = n % 8 == 0 && aligned16(h) && aligned16(pre);
    FOR_DTYPE(dtype, T,
              if (wide) LAUNCH((gelu_kernel<T, 8>), grid_of(be, n / 8, THREADS), THREADS, 0, be->stream,
                               (T *)h, (const T *)pre, n / 8);
              else LAUNCH((gelu_kernel<T, 1>), grid_of(be, n, THREADS), THREADS, 0, be->stream, (T *)h,
                          (const T *)pre, n));
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T, int V>
__global__ void __launch_bounds__(32 * SUM_WARPS)
    gelu_grad_kernel(gelu_grad a, int64_t first, int64_t columns, int64_t per_strip, float *partial) {
    const int64_t column = (blockIdx.x * 32 + threadIdx.x) * (int64_t)V, begin = blockIdx.y * per_strip,
                  end = begin + per_strip < a.rows ? begin + per_strip : a.rows;
    float sum[V] = {};
    if (column < columns) {
        for (int64_t row = begin + threadIdx.y; row < end; row += SUM_WARPS) {
            const float factor = row_factor(a.row_scale, row, a.rows_per_image);
            const int64_t at = row * a.columns + first + column;
            float x[V], d[V];
            load_v(x, (const T *)a.pre + at);
            load_v(d, (const T *)a.dh + at);
#pragma unroll
            for (int v = 0; v < V; v++) {
                const float cdf = normal_cdf(x[v]);
                d[v] *= factor * (cdf + x[v] * normal_density(x[v]));
                x[v] *= factor * cdf;
                sum[v] += d[v];
            }
            store_v((T *)a.dpre + at, d);
            if (a.h) store_v((T *)a.h + at, x);
        }
    }
    store_strip(partial, columns, sum);
}

static status_t gelu_columns(struct backend *be, const struct gelu_grad *a, int64_t first, int64_t columns) {
    const bool wide =
        a->columns % 8 == 0 && aligned16(a->pre) && aligned16(a->dh) && aligned16(a->dpre) && aligned16(a->h);
    const strips s = strips_of(a->rows, columns, wide ? 8 : 1);
    const dim3 grid(s.blocks, (unsigned)s.n), block(32, SUM_WARPS);
    float *partial = (float *)be->partials;
    FOR_DTYPE(a->dtype, T,
              if (wide) LAUNCH((gelu_grad_kernel<T, 8>), grid, block, 0, be->stream, *a, first, columns,
                               s.rows, partial);
              else LAUNCH((gelu_grad_kernel<T, 1>), grid, block, 0, be->stream, *a, first, columns, s.rows,
                          partial));
    TRY_LAUNCH();
    return a->db ? column_finish(be, partial, s.n, columns, a->db + first, true) : STATUS_OK;
}

extern "C" status_t gelu_backward(struct backend *be, const struct gelu_grad *a) {
    for (int64_t first = 0; first < a->columns; first += PARTIALS) {
        const int64_t left = a->columns - first;
        TRY(gelu_columns(be, a, first, left < PARTIALS ? left : (int64_t)PARTIALS));
    }
    return STATUS_OK;
}
