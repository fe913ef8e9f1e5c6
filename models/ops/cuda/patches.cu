/* See patches.h. A thread moves V neighbouring elements: eight channels of a tap by 16-byte accesses, or one
 * element where the channels are no multiple of 8 (stems: neighbouring threads still read neighbouring
 * elements, since the taps of a row lie side by side in the image too). */
#include "models/ops/cuda/rows.cuh"

#include "models/ops/cuda/patches.h"

enum { THREADS = 256 };

/* Block x: pieces of a row of the matrix; y: output pixels. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    gather_kernel(patches p, const T *__restrict__ x, T *__restrict__ matrix, int64_t n_pixels) {
    const int per_row = (int)(p.ld / V), row_taps = (int)(p.k * p.cin);
    for (int64_t pixel = blockIdx.x * (int64_t)blockDim.y + threadIdx.y; pixel < n_pixels;
         pixel += (int64_t)gridDim.x * blockDim.y) {
        const int64_t line = pixel / p.wo, image = line / p.ho;
        const int64_t ox = pixel - line * p.wo, oy = line - image * p.ho;
        const T *from = x + image * p.h * p.w * p.cin;
        for (int i = threadIdx.x; i < per_row; i += blockDim.x) {
            const int at = i * V, tap_row = at / row_taps, in_row = at - tap_row * row_taps;
            const int tap_column = in_row / (int)p.cin, c = in_row - tap_column * (int)p.cin;
            const int64_t iy = oy * p.stride - p.pad + tap_row, ix = ox * p.stride - p.pad + tap_column;
            float f[V] = {};
            if (tap_row < p.k && iy >= 0 && iy < p.h && ix >= 0 && ix < p.w)
                load_v(f, from + (iy * p.w + ix) * p.cin + c);
            store_v(matrix + pixel * p.ld + at, f);
        }
    }
}

static dim3 block_of(int64_t per_row) {
    unsigned x = 32;
    while (x < THREADS && x < per_row) x *= 2;
    while (x > 8 && x / 2 >= per_row) x /= 2;
    return dim3(x, THREADS / x);
}

extern "C" status_t patches_gather(struct backend *be, const struct patches *p, const void *x, void *matrix) {
    const int64_t n_pixels = p->n * p->ho * p->wo;
    if (n_pixels == 0) return STATUS_OK;
    const bool wide = p->cin % 8 == 0 && p->ld % 8 == 0 && aligned16(x) && aligned16(matrix);
    const dim3 block = block_of(wide ? p->ld / 8 : p->ld);
    const unsigned grid = grid_of(be, n_pixels, (int)block.y);
    FOR_DTYPE(p->dtype, T,
              if (wide) LAUNCH((gather_kernel<T, 8>), grid, block, 0, be->stream, *p, (const T *)x,
                               (T *)matrix, n_pixels);
              else LAUNCH((gather_kernel<T, 1>), grid, block, 0, be->stream, *p, (const T *)x, (T *)matrix,
                          n_pixels));
    TRY_LAUNCH();
    return STATUS_OK;
}

/* The places of pixel (y,x): taps i with y + pad - i = stride * oy for an output row oy, likewise columns. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    scatter_kernel(patches p, const T *__restrict__ matrix, T *__restrict__ x, bool accumulate,
                   int64_t n_pixels) {
    const int per_pixel = (int)(p.cin / V);
    for (int64_t pixel = blockIdx.x * (int64_t)blockDim.y + threadIdx.y; pixel < n_pixels;
         pixel += (int64_t)gridDim.x * blockDim.y) {
        const int64_t line = pixel / p.w, image = line / p.h;
        const int px = (int)(pixel - line * p.w) + p.pad, py = (int)(line - image * p.h) + p.pad;
        for (int i = threadIdx.x; i < per_pixel; i += blockDim.x) {
            float sum[V] = {};
            for (int tap_row = py % p.stride; tap_row < p.k && tap_row <= py; tap_row += p.stride) {
                const int64_t oy = (py - tap_row) / p.stride;
                if (oy >= p.ho) continue;
                for (int tap = px % p.stride; tap < p.k && tap <= px; tap += p.stride) {
                    const int64_t ox = (px - tap) / p.stride;
                    if (ox >= p.wo) continue;
                    float f[V];
                    load_v(f, matrix + ((image * p.ho + oy) * p.wo + ox) * p.ld +
                                  (tap_row * p.k + tap) * p.cin + i * V);
#pragma unroll
                    for (int v = 0; v < V; v++) sum[v] += f[v];
                }
            }
            T *to = x + pixel * p.cin + i * V;
            if (accumulate) {
                float old[V];
                load_v(old, to);
#pragma unroll
                for (int v = 0; v < V; v++) sum[v] += old[v];
            }
            store_v(to, sum);
        }
    }
}

extern "C" status_t patches_scatter(struct backend *be, const struct patches *p, const void *matrix, void *x,
                                    bool accumulate) {
    const int64_t n_pixels = p->n * p->h * p->w;
    if (n_pixels == 0) return STATUS_OK;
    const bool wide = p->cin % 8 == 0 && p->ld % 8 == 0 && aligned16(x) && aligned16(matrix);
    const dim3 block = block_of(wide ? p->cin / 8 : p->cin);
    const unsigned grid = grid_of(be, n_pixels, (int)block.y);
    FOR_DTYPE(p->dtype, T,
              if (wide) LAUNCH((scatter_kernel<T, 8>), grid, block, 0, be->stream, *p, (const T *)matrix,
                               (T *)x, accumulate, n_pixels);
              else LAUNCH((scatter_kernel<T, 1>), grid, block, 0, be->stream, *p, (const T *)matrix, (T *)x,
                          accumulate, n_pixels));
    TRY_LAUNCH();
    return STATUS_OK;
}

/* ---- rows of weights that are no multiple of 8 ---- */

template <class T>
__global__ void pad_rows_kernel(const T *__restrict__ x, int64_t rows, int64_t columns, int64_t ld,
                                T *__restrict__ y) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < rows * ld;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t row = i / ld, column = i - row * ld;
        y[i] = column < columns ? x[row * columns + column] : from_float<T>(0.0f);
    }
}

extern "C" status_t patches_pad_rows(struct backend *be, enum dtype dtype, const void *x, int64_t rows,
                                     int64_t columns, int64_t ld, void *y) {
    FOR_DTYPE(dtype, T,
              LAUNCH(pad_rows_kernel<T>, grid_of(be, rows * ld, THREADS), THREADS, 0, be->stream,
                     (const T *)x, rows, columns, ld, (T *)y));
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T>
__global__ void add_rows_kernel(const T *__restrict__ x, int64_t rows, int64_t columns, int64_t ld,
                                float *__restrict__ y) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < rows * columns;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t row = i / columns;
        y[i] += to_float(x[row * ld + (i - row * columns)]);
    }
}

extern "C" status_t patches_add_rows(struct backend *be, enum dtype dtype, const void *x, int64_t rows,
                                     int64_t columns, int64_t ld, float *y) {
    FOR_DTYPE(dtype, T,
              LAUNCH(add_rows_kernel<T>, grid_of(be, rows * columns, THREADS), THREADS, 0, be->stream,
                     (const T *)x, rows, columns, ld, y));
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void taps_last_kernel(const float *__restrict__ x, int taps, int64_t channels,
                                 bf16 *__restrict__ y) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < taps * channels) y[i] = from_float<bf16>(x[i % taps * channels + i / taps]);
}

__global__ void add_taps_last_kernel(const bf16 *__restrict__ x, int taps, int64_t channels,
                                     float *__restrict__ y) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < taps * channels) y[i] += to_float(x[i % channels * taps + i / channels]);
}

extern "C" status_t patches_taps_last(struct backend *be, const float *x, int64_t taps, int64_t channels,
                                      void *y) {
    LAUNCH(taps_last_kernel, (unsigned)((taps * channels + THREADS - 1) / THREADS), THREADS, 0, be->stream, x,
           (int)taps, channels, (bf16 *)y);
    TRY_LAUNCH();
    return STATUS_OK;
}

extern "C" status_t patches_add_taps_last(struct backend *be, const void *x, int64_t taps, int64_t channels,
                                          float *y) {
    LAUNCH(add_taps_last_kernel, (unsigned)((taps * channels + THREADS - 1) / THREADS), THREADS, 0,
           be->stream, (const bf16 *)x, (int)taps, channels, y);
    TRY_LAUNCH();
    return STATUS_OK;
}
