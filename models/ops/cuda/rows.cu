/* Passes over matrices around the matrix products; see rows.h. Bound by memory: 16 bytes a thread and access
 * where the columns are a multiple of 8. */
#include "models/ops/cuda/rows.cuh"

#include "models/ops/cuda/rows.h"

enum { THREADS = 256 };

/* Row and first column of piece i of a matrix with `per_row` pieces a row; 32-bit division where it suffices.
 */
struct place {
    int64_t row;
    int column;
};
__device__ __forceinline__ place place_of(int64_t i, int per_row) {
    if (i <= 0xffffffff) {
        const unsigned row = (unsigned)i / (unsigned)per_row;
        return {row, (int)((unsigned)i - row * (unsigned)per_row)};
    }
    return {i / per_row, (int)(i % per_row)};
}

/* ---- epilogues ---- */

template <class T, int V>
__global__ void __launch_bounds__(THREADS) epilogue_kernel(row_epilogue a, int per_row) {
    const T *z = (const T *)a.z, *residual = (const T *)a.residual;
    const int64_t n = a.rows * per_row;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        const place at = place_of(i, per_row);
        const int column = at.column * V;
        const float factor = row_factor(a.row_scale, at.row, a.rows_per_image);
        float f[V], b[V];
        load_v(f, z + i * V);
        if (a.bias) {
            load_v(b, a.bias + column);
#pragma unroll
            for (int v = 0; v < V; v++) f[v] += b[v];
        }
        if (a.relu6) {
#pragma unroll
            for (int v = 0; v < V; v++) f[v] = f[v] < 0.0f ? 0.0f : f[v] > 6.0f ? 6.0f : f[v];
        }
        if (a.gamma) {
            load_v(b, a.gamma + column);
#pragma unroll
            for (int v = 0; v < V; v++) f[v] *= b[v];
        }
#pragma unroll
        for (int v = 0; v < V; v++) b[v] = 0.0f;
        if (a.residual) load_v(b, residual + i * V);
#pragma unroll
        for (int v = 0; v < V; v++) f[v] = b[v] + factor * f[v];
        store_v((T *)a.y + i * V, f);
    }
}

extern "C" status_t rows_epilogue(struct backend *be, const struct row_epilogue *a) {
    const int64_t n = a->rows * a->columns;
    if (n == 0) return STATUS_OK;
    CHECK(a->columns <= INT32_MAX, STATUS_INTERNAL, "GPU: a matrix of %lld columns", (long long)a->columns);
    const bool wide = a->columns % 8 == 0 && aligned16(a->z) && aligned16(a->residual) && aligned16(a->y) &&
                      aligned16(a->bias) && aligned16(a->gamma);
    const int per_row = (int)(wide ? a->columns / 8 : a->columns);
    FOR_DTYPE(
        a->dtype, T,
        if (wide)
            LAUNCH((epilogue_kernel<T, 8>), grid_of(be, n / 8, THREADS), THREADS, 0, be->stream, *a, per_row);
        else LAUNCH((epilogue_kernel<T, 1>), grid_of(be, n, THREADS), THREADS, 0, be->stream, *a, per_row));
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T>
__global__ void add_bias_kernel(T *y, int64_t ld, int64_t rows, int64_t columns, const T *__restrict__ bias) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < rows * columns;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t row = i / columns, column = i % columns;
        y[row * ld + column] = from_float<T>(to_float(y[row * ld + column]) + to_float(bias[column]));
    }
}

extern "C" status_t rows_add_bias(struct backend *be, enum dtype dtype, void *y, int64_t ld, int64_t rows,
                                  int64_t columns, const void *bias) {
    FOR_DTYPE(dtype, T,
              LAUNCH(add_bias_kernel<T>, grid_of(be, rows * columns, THREADS), THREADS, 0, be->stream, (T *)y,
                     ld, rows, columns, (const T *)bias));
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void scale_matrix_kernel(float *c, int64_t ld, int64_t rows, int64_t columns, float factor) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < rows * columns;
         i += (int64_t)gridDim.x * blockDim.x) {
        float *p = c + i / columns * ld + i % columns;
        *p = factor == 0.0f ? 0.0f : *p * factor;
    }
}

extern "C" status_t rows_scale(struct backend *be, float *c, int64_t ld, int64_t rows, int64_t columns,
                               float factor) {
    LAUNCH(scale_matrix_kernel, grid_of(be, rows * columns, THREADS), THREADS, 0, be->stream, c, ld, rows,
           columns, factor);
    TRY_LAUNCH();
    return STATUS_OK;
}

/* ---- sums over rows ---- */

__global__ void column_finish_kernel(const float *__restrict__ partial, int n_strips, int64_t columns,
                                     float *__restrict__ out, bool accumulate) {
    const int64_t column = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (column >= columns) return;
    double sum = accumulate ? out[column] : 0.0;
    for (int i = 0; i < n_strips; i++) sum += partial[i * columns + column];
    out[column] = (float)sum;
}

status_t column_finish(struct backend *be, const float *partial, int64_t n_strips, int64_t columns,
                       float *out, bool accumulate) {
    LAUNCH(column_finish_kernel, (unsigned)((columns + 63) / 64), 64, 0, be->stream, partial, (int)n_strips,
           columns, out, accumulate);
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T, int V>
__global__ void __launch_bounds__(32 * SUM_WARPS)
    sum_kernel(row_sums a, int64_t first, int64_t columns, int64_t per_strip, float *partial) {
    const int64_t column = (blockIdx.x * 32 + threadIdx.x) * (int64_t)V, begin = blockIdx.y * per_strip,
                  end = begin + per_strip < a.rows ? begin + per_strip : a.rows;
    float sum[V] = {};
    if (column < columns) {
        for (int64_t row = begin + threadIdx.y; row < end; row += SUM_WARPS) {
            const float factor = row_factor(a.row_scale, row, a.rows_per_image);
            const int64_t at = row * a.columns + first + column;
            float f[V];
            load_v(f, (const T *)a.x + at);
#pragma unroll
            for (int v = 0; v < V; v++) sum[v] += f[v] *= factor;
            if (a.scaled) store_v((T *)a.scaled + at, f);
        }
    }
    store_strip(partial, columns, sum);
}

/* Columns [first, first + columns) of the matrix. */
static status_t sum_columns(struct backend *be, const struct row_sums *a, int64_t first, int64_t columns) {
    const bool wide = a->columns % 8 == 0 && aligned16(a->x) && aligned16(a->scaled);
    const strips s = strips_of(a->rows, columns, wide ? 8 : 1);
    const dim3 grid(s.blocks, (unsigned)s.n), block(32, SUM_WARPS);
    float *partial = (float *)be->partials;
    FOR_DTYPE(
        a->dtype, T,
        if (wide) LAUNCH((sum_kernel<T, 8>), grid, block, 0, be->stream, *a, first, columns, s.rows, partial);
        else LAUNCH((sum_kernel<T, 1>), grid, block, 0, be->stream, *a, first, columns, s.rows, partial));
    TRY_LAUNCH();
    return a->sum ? column_finish(be, partial, s.n, columns, a->sum + first, a->accumulate) : STATUS_OK;
}

extern "C" status_t rows_sum(struct backend *be, const struct row_sums *a) {
    for (int64_t first = 0; first < a->columns; first += PARTIALS) {
        const int64_t left = a->columns - first;
        TRY(sum_columns(be, a, first, left < PARTIALS ? left : (int64_t)PARTIALS));
    }
    return STATUS_OK;
}

/* ---- layer scale ---- */

template <class T> __global__ void __launch_bounds__(THREADS) layer_scale_kernel(layer_scale_grad a) {
    SHARED(float, room, [32]);
    const int64_t c = blockIdx.x;
    const float gamma = a.gamma[c];
    float dot = 0.0f;
    if (a.dw2 || a.dgamma) {
        const T *w2 = (const T *)a.w2 + c * a.hidden;
        const float *m = a.m + c * a.hidden;
        for (int64_t j = threadIdx.x; j < a.hidden; j += THREADS) {
            if (a.dgamma) dot += to_float(w2[j]) * m[j];
            if (a.dw2) a.dw2[c * a.hidden + j] += gamma * m[j];
        }
    }
    dot = block_sum(dot, room);
    if (threadIdx.x != 0) return;
    if (a.dgamma) a.dgamma[c] += dot + (a.b2 ? a.b2[c] * a.s[c] : 0.0f);
    if (a.db2) a.db2[c] += gamma * a.s[c];
}

extern "C" status_t layer_scale_backward(struct backend *be, const struct layer_scale_grad *a) {
    FOR_DTYPE(a->dtype, T, LAUNCH(layer_scale_kernel<T>, (unsigned)a->channels, THREADS, 0, be->stream, *a));
    TRY_LAUNCH();
    return STATUS_OK;
}
