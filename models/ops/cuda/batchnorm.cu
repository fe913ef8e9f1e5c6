/* Batch normalisation. A block takes a tile of channels (8 a thread where the width allows, else 1), its rows of
 * threads take pixels in turn, so that what belongs to a channel stays in registers.
 *
 * Sums are in fp64, as the contract has it; bf16 values are first added in fp32, a few at a time: conversions to
 * fp64 are slow on every GPU, fp64 itself on most. */
#include "models/ops/cuda/maps.cuh"

enum {
    THREADS = 256,
    CHUNK = 8 /* bf16 values that are added in fp32 before the sum goes to fp64 */
};

/* The view of struct batchnorm that kernels take. */
struct norm {
    int64_t n, hw;
    int vectors, c;
    bool relu6;
    const float *weight, *bias, *mean, *rstd;
    const uint8_t *image_mask;
    struct channel_tiles tiles;
};

/* Constants of V channels, in registers. */
template <int V> struct channel_norm {
    float mean[V], rstd[V], weight[V], bias[V];
};

template <int V>
__device__ __forceinline__ void load_norm(struct channel_norm<V> *k, const struct norm &a, int vector) {
    load_vector(k->mean, a.mean + vector * V);
    load_vector(k->rstd, a.rstd + vector * V);
    load_vector(k->weight, a.weight + vector * V);
    load_vector(k->bias, a.bias + vector * V);
}

/* One function for forward and backward, so that both see the same side of ReLU6's corners. */
template <int V>
__device__ __forceinline__ float scaled(const struct channel_norm<V> &k, int j, float x, float *xhat) {
    *xhat = (x - k.mean[j]) * k.rstd[j];
    return fmaf(*xhat, k.weight[j], k.bias[j]);
}

/* dy behind ReLU6. */
template <int V>
__device__ __forceinline__ float passed(const struct channel_norm<V> &k, bool relu6, int j, float x, float dy,
                                        float *xhat) {
    const float v = scaled(k, j, x, xhat);
    return !relu6 || (v > 0.0f && v < 6.0f) ? dy : 0.0f;
}

/* Which channels and which row of pixels a thread has. */
struct place {
    int column, row, vector;
    bool active;
};

__device__ __forceinline__ struct place place_of(const struct norm &a, unsigned tile) {
    struct place p;
    p.column = threadIdx.x % a.tiles.width;
    p.row = threadIdx.x / a.tiles.width;
    p.vector = (int)tile * a.tiles.width + p.column;
    p.active = p.row < a.tiles.rows && p.vector < a.vectors;
    return p;
}

static struct norm norm_of(const struct batchnorm *a, int v) {
    struct norm k;
    k.n = a->n, k.hw = a->hw, k.c = (int)a->c, k.vectors = (int)(a->c / v);
    k.relu6 = a->relu6;
    k.weight = a->weight, k.bias = a->bias, k.mean = a->mean, k.rstd = a->rstd;
    k.image_mask = a->image_mask;
    k.tiles = tiles_of(k.vectors, THREADS);
    return k;
}

/* Do vectors of 8 channels fit width and addresses? */
static bool by_octets(const struct batchnorm *a, const void *p, const void *q) {
    return a->c % 8 == 0 && aligned(a->x, 16) && aligned(p, 16) && aligned(q, 16) &&
           aligned(a->residual, 16) && aligned(a->mean, 16) && aligned(a->rstd, 16) &&
           aligned(a->weight, 16) && aligned(a->bias, 16);
}

/* ---- sums ---- */

/* Adds values in fp32 for bf16, and now and then what came together to fp64. */
template <class T, int V> struct wide_sums {
    float part[2][V];
    double sum[2][V];
    int n;
};
template <int V> __device__ __forceinline__ void flush(struct wide_sums<bf16, V> *s) {
#pragma unroll
    for (int j = 0; j < V; j++) {
        s->sum[0][j] += (double)s->part[0][j];
        s->sum[1][j] += (double)s->part[1][j];
        s->part[0][j] = s->part[1][j] = 0;
    }
}
template <int V> __device__ __forceinline__ void flush(struct wide_sums<float, V> *s) {
    (void)s;
}
template <int V>
__device__ __forceinline__ void add_product(struct wide_sums<float, V> *s, int j, float a, float b) {
    s->sum[0][j] += (double)a;
    s->sum[1][j] = fma((double)a, (double)b, s->sum[1][j]);
}
template <int V>
__device__ __forceinline__ void add_product(struct wide_sums<bf16, V> *s, int j, float a, float b) {
    s->part[0][j] += a;
    s->part[1][j] += a * b;
}

/* slices (gridDim.y,2,C) fp64: per channel sum a and sum a*b over the pixels of a slice, where a = b = x
 * (GRADIENT false) or a = g, b = xhat. */
template <class T, int V, bool GRADIENT>
__global__ void __launch_bounds__(THREADS)
    batchnorm_sums_kernel(double *__restrict__ slices, const T *__restrict__ x, const T *__restrict__ dy,
                          struct norm a) {
    SHARED(double, room, [THREADS]);
    const struct place at = place_of(a, blockIdx.x);
    struct channel_norm<V> k;
    struct wide_sums<T, V> s = {};
    if (GRADIENT && at.active) load_norm(&k, a, at.vector);
    const int64_t n_pixels = a.n * a.hw, step = (int64_t)gridDim.y * a.tiles.rows;
    for (int64_t p = (int64_t)blockIdx.y * a.tiles.rows + at.row; p < n_pixels && at.active; p += step) {
        float v[V], g[V];
        if (a.image_mask && !a.image_mask[p / a.hw]) continue;
        load_vector(v, x + (p * a.vectors + at.vector) * V);
        if (GRADIENT) load_vector(g, dy + (p * a.vectors + at.vector) * V);
#pragma unroll
        for (int j = 0; j < V; j++) {
            float xhat;
            if (GRADIENT) {
                const float gj = passed(k, a.relu6, j, v[j], g[j], &xhat);
                add_product(&s, j, gj, xhat);
            } else
                add_product(&s, j, v[j], v[j]);
        }
        if (++s.n % CHUNK == 0) flush(&s);
    }
    flush(&s);
    double *slice = slices + (int64_t)blockIdx.y * 2 * a.c + (int64_t)at.vector * V;
#pragma unroll
    for (int which = 0; which < 2; which++) {
#pragma unroll
        for (int j = 0; j < V; j++) { /* one channel of a vector at a time: little shared memory */
            double sum = s.sum[which][j];
            room[threadIdx.x] = sum;
            __syncthreads();
            if (at.row == 0 && at.active) {
                for (int r = 1; r < a.tiles.rows; r++) sum += room[r * a.tiles.width + at.column];
                slice[which * a.c + j] = sum;
            }
            __syncthreads();
        }
    }
}

/* sums[i] = the slices' sum, i < n; eight lanes a column, added in order. */
__global__ void __launch_bounds__(THREADS)
    sum_slices_kernel(double *__restrict__ sums, const double *__restrict__ slices, int64_t n_slices,
                      int64_t n) {
    SHARED(double, room, [8][32]);
    const int column = threadIdx.x % 32, lane = threadIdx.x / 32;
    const int64_t i = (int64_t)blockIdx.x * 32 + column;
    double sum = 0;
    for (int64_t s = lane; s < n_slices && i < n; s += 8) sum += slices[s * n + i];
    room[lane][column] = sum;
    __syncthreads();
    if (lane != 0 || i >= n) return;
#pragma unroll
    for (int l = 1; l < 8; l++) sum += room[l][column];
    sums[i] = sum;
}

/* sums[0]: pixels of the images that take part. One block. */
__global__ void __launch_bounds__(THREADS)
    count_pixels_kernel(double *sums, const uint8_t *image_mask, int64_t n, int64_t hw) {
    SHARED(double, room, [32]);
    double count = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) count += !image_mask || image_mask[i] ? 1.0 : 0.0;
    count = block_sum(count, room);
    if (threadIdx.x == 0) sums[0] = count * (double)hw;
}

/* Slices of pixels: about SLICED_BLOCKS blocks in all, whatever the width. */
static int64_t n_slices_of(const struct batchnorm *a) {
    const struct channel_tiles t = tiles_of(a->c % 8 == 0 ? a->c / 8 : a->c, THREADS);
    const int64_t most = (a->n * a->hw + t.rows - 1) / t.rows, wanted = 2 * SLICED_BLOCKS / t.tiles;
    const int64_t n = wanted < most ? wanted : most;
    return n < 1 ? 1 : n;
}

/* For both passes, and for vectors of one channel too (they make more tiles, so fewer slices). */
extern "C" size_t cuda_batchnorm_scratch(struct backend *be, const struct batchnorm *a, bool train) {
    (void)be;
    return train && a->c > 0 ? sizeof(double) * 2 * (size_t)a->c * (size_t)n_slices_of(a) : 0;
}

template <bool GRADIENT>
static status_t sums_over_pixels(struct backend *be, const struct batchnorm *a, const void *dy, double *sums,
                                 double *slices) {
    const int64_t n_slices = n_slices_of(a);
    FOR_DTYPE(a->dtype, T, {
        if (by_octets(a, dy, NULL)) {
            const struct norm k = norm_of(a, 8);
            LAUNCH((batchnorm_sums_kernel<T, 8, GRADIENT>), dim3((unsigned)k.tiles.tiles, (unsigned)n_slices),
                   THREADS, 0, be->stream, slices, (const T *)a->x, (const T *)dy, k);
        } else {
            const struct norm k = norm_of(a, 1);
            LAUNCH((batchnorm_sums_kernel<T, 1, GRADIENT>), dim3((unsigned)k.tiles.tiles, (unsigned)n_slices),
                   THREADS, 0, be->stream, slices, (const T *)a->x, (const T *)dy, k);
        }
    });
    TRY_LAUNCH();
    LAUNCH(sum_slices_kernel, (unsigned)((2 * a->c + 31) / 32), THREADS, 0, be->stream, sums, slices,
           n_slices, 2 * a->c);
    TRY_LAUNCH();
    return STATUS_OK;
}

extern "C" status_t cuda_batchnorm_sums(struct backend *be, const struct batchnorm *a, double *sums,
                                        void *scratch) {
    LAUNCH(count_pixels_kernel, 1, THREADS, 0, be->stream, sums, a->image_mask, a->n, a->hw);
    TRY_LAUNCH();
    if (a->c == 0) return STATUS_OK;
    return sums_over_pixels<false>(be, a, NULL, sums + 1, (double *)scratch);
}

extern "C" status_t cuda_batchnorm_grad_sums(struct backend *be, const struct batchnorm *a, const void *dy,
                                             double *sums, void *scratch) {
    if (a->c == 0) return STATUS_OK;
    return sums_over_pixels<true>(be, a, dy, sums, (double *)scratch);
}

/* ---- statistics ---- */

__global__ void __launch_bounds__(THREADS)
    batchnorm_finish_kernel(struct batchnorm a, const double *__restrict__ sums) {
    const int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= a.c) return;
    const double eps = (double)a.eps, momentum = (double)a.momentum;
    if (!sums) {
        a.mean[c] = a.running_mean[c];
        a.rstd[c] = (float)(1.0 / sqrt((double)a.running_var[c] + eps));
        return;
    }
    const double count = sums[0];
    if (count == 0.0) {
        a.mean[c] = 0.0f;
        a.rstd[c] = 1.0f;
        return;
    }
    const double mean = sums[1 + c] / count;
    const double var = fmax(sums[1 + a.c + c] / count - mean * mean, 0.0);
    a.mean[c] = (float)mean;
    a.rstd[c] = (float)(1.0 / sqrt(var + eps));
    if (!a.running_mean) return;
    const double unbiased = var * count / fmax(count - 1.0, 1.0);
    a.running_mean[c] = (float)((1.0 - momentum) * (double)a.running_mean[c] + momentum * mean);
    a.running_var[c] = (float)((1.0 - momentum) * (double)a.running_var[c] + momentum * unbiased);
}

static unsigned blocks_of(int64_t n) {
    return (unsigned)((n + THREADS - 1) / THREADS);
}

extern "C" status_t cuda_batchnorm_finish(struct backend *be, const struct batchnorm *a, const double *sums) {
    if (a->c == 0) return STATUS_OK;
    LAUNCH(batchnorm_finish_kernel, blocks_of(a->c), THREADS, 0, be->stream, *a, sums);
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void __launch_bounds__(THREADS) batchnorm_fold_kernel(struct batchnorm_fold a) {
    const int64_t n = a.c * a.taps;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (n > a.c ? n : a.c);
         i += (int64_t)gridDim.x * THREADS) {
        if (i < n) {
            const int64_t c = a.channels_last ? i % a.c : i / a.taps;
            const float s = a.weight[c] / sqrtf(a.running_var[c] + a.eps);
            if (a.dtype == DTYPE_F32) ((float *)a.w_folded)[i] = s * a.w[i];
            else ((bf16 *)a.w_folded)[i] = from_float<bf16>(s * a.w[i]);
        }
        if (i < a.c)
            a.bias_folded[i] =
                a.bias[i] - a.weight[i] / sqrtf(a.running_var[i] + a.eps) * a.running_mean[i];
    }
}

extern "C" status_t cuda_batchnorm_fold(struct backend *be, const struct batchnorm_fold *a) {
    if (a->c == 0) return STATUS_OK;
    LAUNCH(batchnorm_fold_kernel, grid_of(be, a->c * (a->taps > 1 ? a->taps : 1), THREADS), THREADS, 0,
           be->stream, *a);
    TRY_LAUNCH();
    return STATUS_OK;
}

/* ---- application ---- */

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    batchnorm_apply_kernel(T *y, const T *x, const T *residual, struct norm a) {
    const struct place at = place_of(a, blockIdx.x % a.tiles.tiles);
    struct channel_norm<V> k;
    if (!at.active) return;
    load_norm(&k, a, at.vector);
    const int64_t first = (int64_t)(blockIdx.x / a.tiles.tiles) * a.tiles.rows + at.row;
    const int64_t step = (int64_t)(gridDim.x / a.tiles.tiles) * a.tiles.rows;
    for (int64_t p = first; p < a.n * a.hw; p += step) {
        const int64_t i = (p * a.vectors + at.vector) * V;
        float v[V], r[V];
        load_vector(v, x + i);
        if (residual) load_vector(r, residual + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            float xhat;
            v[j] = scaled(k, j, v[j], &xhat);
            if (a.relu6) v[j] = fminf(fmaxf(v[j], 0.0f), 6.0f);
            if (residual) v[j] += r[j];
        }
        store_vector(y + i, v);
    }
}

/* Blocks for a walk over all pixels: a multiple of the tiles. */
static unsigned pixel_blocks(const struct backend *be, const struct norm *k) {
    const int64_t most = (k->n * k->hw + k->tiles.rows - 1) / k->tiles.rows;
    const int64_t wanted = ((int64_t)be->n_sms * 8 + k->tiles.tiles - 1) / k->tiles.tiles;
    return (unsigned)((wanted < most ? wanted : most) * k->tiles.tiles);
}

template <class T, int V> static void launch_apply(struct backend *be, const struct batchnorm *a, T *y) {
    const struct norm k = norm_of(a, V);
    LAUNCH((batchnorm_apply_kernel<T, V>), pixel_blocks(be, &k), THREADS, 0, be->stream, y, (const T *)a->x,
           (const T *)a->residual, k);
}

extern "C" status_t cuda_batchnorm_apply(struct backend *be, const struct batchnorm *a, void *y) {
    if (a->n * a->hw * a->c == 0) return STATUS_OK;
    FOR_DTYPE(a->dtype, T, {
        if (by_octets(a, y, NULL)) launch_apply<T, 8>(be, a, (T *)y);
        else launch_apply<T, 1>(be, a, (T *)y);
    });
    TRY_LAUNCH();
    return STATUS_OK;
}

/* sums, grad_sums NULL: statistics are constants. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    batchnorm_grad_apply_kernel(T *dx, const T *__restrict__ x, const T *dy, const double *__restrict__ sums,
                                const double *__restrict__ grad_sums, struct norm a) {
    const struct place at = place_of(a, blockIdx.x % a.tiles.tiles);
    struct channel_norm<V> k;
    float mean_g[V], mean_gx[V];
    if (!at.active) return;
    load_norm(&k, a, at.vector);
#pragma unroll
    for (int j = 0; j < V; j++) {
        const int c = at.vector * V + j;
        mean_g[j] = grad_sums ? (float)(grad_sums[c] / sums[0]) : 0.0f;
        mean_gx[j] = grad_sums ? (float)(grad_sums[a.c + c] / sums[0]) : 0.0f;
    }
    const int64_t first = (int64_t)(blockIdx.x / a.tiles.tiles) * a.tiles.rows + at.row;
    const int64_t step = (int64_t)(gridDim.x / a.tiles.tiles) * a.tiles.rows;
    for (int64_t p = first; p < a.n * a.hw; p += step) {
        const int64_t i = (p * a.vectors + at.vector) * V;
        float v[V] = {}, g[V];
        if (!a.image_mask || a.image_mask[p / a.hw]) {
            load_vector(v, x + i);
            load_vector(g, dy + i);
#pragma unroll
            for (int j = 0; j < V; j++) {
                float xhat;
                const float gj = passed(k, a.relu6, j, v[j], g[j], &xhat);
                v[j] = k.weight[j] * k.rstd[j] * (gj - mean_g[j] - xhat * mean_gx[j]);
            }
        }
        store_vector(dx + i, v);
    }
}

__global__ void __launch_bounds__(THREADS)
    add_local_sums_kernel(float *dweight, float *dbias, const double *__restrict__ local_sums, int64_t c) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= c) return;
    if (dbias) dbias[i] += (float)local_sums[i];
    if (dweight) dweight[i] += (float)local_sums[c + i];
}

template <class T, int V>
static void launch_grad_apply(struct backend *be, const struct batchnorm *a, const struct batchnorm_grad *g) {
    const struct norm k = norm_of(a, V);
    LAUNCH((batchnorm_grad_apply_kernel<T, V>), pixel_blocks(be, &k), THREADS, 0, be->stream, (T *)g->dx,
           (const T *)a->x, (const T *)g->dy, g->sums, g->grad_sums, k);
}

extern "C" status_t cuda_batchnorm_grad_apply(struct backend *be, const struct batchnorm *a,
                                              const struct batchnorm_grad *g) {
    if (a->c == 0) return STATUS_OK;
    if (g->dx && a->n * a->hw > 0)
        FOR_DTYPE(a->dtype, T, {
            if (by_octets(a, g->dx, g->dy)) launch_grad_apply<T, 8>(be, a, g);
            else launch_grad_apply<T, 1>(be, a, g);
        });
    TRY_LAUNCH();
    if (g->dweight || g->dbias) {
        LAUNCH(add_local_sums_kernel, blocks_of(a->c), THREADS, 0, be->stream, g->dweight, g->dbias,
               g->local_sums, a->c);
        TRY_LAUNCH();
    }
    return STATUS_OK;
}
