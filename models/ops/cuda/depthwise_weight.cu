/* Depthwise convolution: gradient of weights and bias.
 *
 * A thread adds up its two channels' K*K taps over its strips in registers, its block over its strips in shared
 * memory; slices (n_slices, K*K + 1, C) hold a sum a block, biases last, and a second pass adds the slices in a
 * fixed order. Here g.h, g.w are the sides of x, g.ho, g.wo those of dy; chunks are of rows of x (stride 1) or dy. */
#include "models/ops/cuda/depthwise.cuh"

enum { PLAIN_LANES = 8, PLAIN_THREADS = 32 * PLAIN_LANES };

/* Sums of the block's strips, added in the order of the strips. */
template <int K>
__device__ __forceinline__ void write_slice(float *__restrict__ slices, const float2 (&dw)[K][K], float2 db,
                                            const struct walk &g, struct walker t) {
    SHARED(float2, room, [K * K + 1][32]);
    const int column = threadIdx.x % g.tiles.width, slot = threadIdx.x / g.tiles.width;
    for (int s = 0; s < g.tiles.rows; s++) {
        if (s == slot) {
#pragma unroll
            for (int i = 0; i <= K * K; i++) {
                const float2 v = i < K * K ? dw[i / K % K][i % K] : db;
                const float2 old = s > 0 ? room[i][column] : make_float2(0.0f, 0.0f);
                room[i][column] = make_float2(old.x + v.x, old.y + v.y);
            }
        }
        __syncthreads();
    }
    if (t.channel >= g.c) return;
    float *slice = slices + (int64_t)(blockIdx.x / g.tiles.tiles) * (K * K + 1) * g.c + t.channel;
    for (int i = slot; i <= K * K && slot < g.tiles.rows; i += g.tiles.rows)
        *reinterpret_cast<float2 *>(slice + (int64_t)i * g.c) = room[i][column];
}

__device__ __forceinline__ struct walker weight_walker(const struct walk &g) {
    struct walker t;
    const int column = threadIdx.x % g.tiles.width, slot = threadIdx.x / g.tiles.width;
    t.channel = ((int)(blockIdx.x % g.tiles.tiles) * g.tiles.width + column) * 2;
    t.column = 0;
    t.active = slot < g.tiles.rows && t.channel < g.c;
    return t;
}

/* A strip of an image, and rows [begin, end) of it. */
__device__ __forceinline__ void item_of(const struct walk &g, int64_t item, int rows, int *column,
                                        int64_t *image, int *begin, int *end) {
    *column = (int)(item % g.strips) * STRIP;
    item /= g.strips;
    *begin = (int)(item % g.chunks) * g.chunk_rows;
    *end = min(*begin + g.chunk_rows, rows);
    *image = item / g.chunks;
}

/* Stride 1. The walk goes down rows of x, the last K rows of dy in registers: row iy of x meets rows iy+pad-ky. */
template <class T, int K>
__global__ void __launch_bounds__(WALK_THREADS, K > 3 ? 2 : 4)
    depthwise_weight_walk(float *__restrict__ slices, const T *__restrict__ x, const T *__restrict__ dy,
                          struct walk g) {
    constexpr int COLUMNS = STRIP + K - 1;
    const struct walker t = weight_walker(g);
    const int slot = threadIdx.x / g.tiles.width;
    const int64_t x_pitch = (int64_t)g.w * g.c, y_pitch = (int64_t)g.wo * g.c;
    const int64_t n_items = g.n * g.strips * g.chunks;
    float2 dw[K][K] = {}, db = make_float2(0.0f, 0.0f);
    for (int64_t item = (int64_t)(blockIdx.x / g.tiles.tiles) * g.tiles.rows + slot;
         item < n_items && t.active; item += (int64_t)(gridDim.x / g.tiles.tiles) * g.tiles.rows) {
        int column, begin, end;
        int64_t image;
        item_of(g, item, g.h, &column, &image, &begin, &end);
        const int from = column - g.pad;
        const int first = begin == 0 ? -g.pad : begin - (K - 1); /* rows of dy that the first row of x meets */
        const T *row = x + (image * g.h + first) * x_pitch + (int64_t)from * g.c + t.channel;
        const T *grad = dy + (image * g.ho + first + g.pad) * y_pitch + (int64_t)column * g.c + t.channel;
        float2 window[K][STRIP] = {};
        pair<T> next[COLUMNS] = {}, next_grad[STRIP];
        if (first >= begin) load_row(next, row, g.c, from, g.w);
        load_row(next_grad, grad, g.c, column, (unsigned)(first + g.pad) < (unsigned)g.ho ? g.wo : 0);
#pragma unroll 1
        for (int iy = first; iy < end; iy++) {
            float2 in[COLUMNS];
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) in[i] = unpack(next[i]);
#pragma unroll
            for (int p = 0; p < STRIP; p++) {
#pragma unroll
                for (int ky = K - 1; ky > 0; ky--) window[ky][p] = window[ky - 1][p];
                window[0][p] = unpack(next_grad[p]);
                if (iy < begin && begin > 0) continue; /* the chunk above counts this row */
                db.x += window[0][p].x;
                db.y += window[0][p].y;
            }
            row += x_pitch, grad += y_pitch;
            if (iy + 1 < end) {
                if (iy + 1 >= begin) load_row(next, row, g.c, from, g.w);
                load_row(next_grad, grad, g.c, column,
                         (unsigned)(iy + 1 + g.pad) < (unsigned)g.ho ? g.wo : 0);
            }
            if (iy < begin) continue;
#pragma unroll
            for (int ky = 0; ky < K; ky++)
#pragma unroll
                for (int p = 0; p < STRIP; p++)
#pragma unroll
                    for (int kx = 0; kx < K; kx++) fma2(&dw[ky][kx], window[ky][p], in[p + kx]);
        }
    }
    write_slice<K>(slices, dw, db, g, t);
}

/* Any stride: row by row of dy. */
template <class T, int K, int STRIDE>
__global__ void __launch_bounds__(WALK_THREADS, sizeof(T) == 2 ? 4 : 3) // fp32 with 4 spills on sm_100
    depthwise_weight_strided(float *__restrict__ slices, const T *__restrict__ x, const T *__restrict__ dy,
                             struct walk g) {
    constexpr int COLUMNS = (STRIP - 1) * STRIDE + K;
    const struct walker t = weight_walker(g);
    const int slot = threadIdx.x / g.tiles.width;
    const int64_t n_items = g.n * g.strips * g.chunks;
    float2 dw[K][K] = {}, db = make_float2(0.0f, 0.0f);
    for (int64_t item = (int64_t)(blockIdx.x / g.tiles.tiles) * g.tiles.rows + slot;
         item < n_items && t.active; item += (int64_t)(gridDim.x / g.tiles.tiles) * g.tiles.rows) {
        int column, begin, end;
        int64_t image;
        item_of(g, item, g.ho, &column, &image, &begin, &end);
        const int from = column * STRIDE - g.pad;
        for (int oy = begin; oy < end; oy++) {
            pair<T> grad[STRIP], in[K][COLUMNS];
            load_row(grad, dy + ((image * g.ho + oy) * g.wo + column) * g.c + t.channel, g.c, column, g.wo);
#pragma unroll
            for (int ky = 0; ky < K; ky++) {
                const int iy = oy * STRIDE - g.pad + ky;
                load_row(in[ky], x + ((image * g.h + iy) * g.w + from) * g.c + t.channel, g.c, from,
                         (unsigned)iy < (unsigned)g.h ? g.w : 0);
            }
#pragma unroll
            for (int p = 0; p < STRIP; p++) {
                const float2 v = unpack(grad[p]);
                db.x += v.x;
                db.y += v.y;
#pragma unroll
                for (int i = 0; i < K * K; i++)
                    fma2(&dw[i / K][i % K], v, unpack(in[i / K][p * STRIDE + i % K]));
            }
        }
    }
    write_slice<K>(slices, dw, db, g, t);
}

/* Any shape: 32 channels and one tap (or the bias) a block, slices of output pixels along z. */
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
    depthwise_weight_plain(float *__restrict__ slices, const T *__restrict__ x, const T *__restrict__ dy,
                           struct depthwise a, int64_t ho, int64_t wo) {
    SHARED(float, room, [PLAIN_LANES][32]);
    const int column = threadIdx.x % 32, lane = threadIdx.x / 32, tap = blockIdx.y, taps = a.k * a.k;
    const int64_t c = (int64_t)blockIdx.x * 32 + column;
    float sum = 0;
    for (int64_t p = (int64_t)blockIdx.z * PLAIN_LANES + lane; p < a.n * ho * wo && c < a.c;
         p += (int64_t)gridDim.z * PLAIN_LANES) {
        const float v = to_float(dy[p * a.c + c]);
        if (tap == taps) {
            sum += v;
            continue;
        }
        const int64_t iy = p / wo % ho * a.stride - a.pad + tap / a.k, ix = p % wo * a.stride - a.pad + tap % a.k;
        if (iy < 0 || iy >= a.h || ix < 0 || ix >= a.w) continue;
        sum = fmaf(v, to_float(x[((p / wo / ho * a.h + iy) * a.w + ix) * a.c + c]), sum);
    }
    room[lane][column] = sum;
    __syncthreads();
    if (lane != 0 || c >= a.c) return;
    for (int l = 1; l < PLAIN_LANES; l++) sum += room[l][column];
    slices[((int64_t)blockIdx.z * (taps + 1) + tap) * a.c + c] = sum;
}

static struct walk weight_walk(const struct depthwise *a) {
    struct walk g = {};
    const int rows = a->k > 3 ? 24 : 16;
    g.n = a->n, g.h = (int)a->h, g.w = (int)a->w;
    g.ho = (int)depthwise_side(a->h, a), g.wo = (int)depthwise_side(a->w, a);
    g.c = (int)a->c, g.pad = a->pad;
    g.strips = (g.wo + STRIP - 1) / STRIP;
    g.tiles = tiles_of((a->c + 1) / 2, WALK_THREADS);
    const int cut = a->stride == 1 ? g.h : g.ho;
    g.chunks = (cut + rows - 1) / rows;
    g.chunk_rows = (cut + g.chunks - 1) / g.chunks;
    g.chunks = (cut + g.chunk_rows - 1) / g.chunk_rows;
    return g;
}

/* As many blocks as are resident at once, two (7x7) or four a multiprocessor. */
static int64_t n_slices_of(const struct depthwise *a, const struct walk *g) {
    const int64_t most = (g->n * g->strips * g->chunks + g->tiles.rows - 1) / g->tiles.rows;
    const int64_t wanted = (a->k > 3 ? SLICED_BLOCKS : 2 * SLICED_BLOCKS) / g->tiles.tiles;
    const int64_t n = wanted < most ? wanted : most;
    return n < 1 ? 1 : n;
}

size_t depthwise_weight_scratch(const struct depthwise *a) {
    if (a->n * a->h * a->w * a->c == 0) return 0;
    const struct walk g = weight_walk(a);
    return sizeof(float) * (size_t)(a->k * a->k + 1) * (size_t)a->c * (size_t)n_slices_of(a, &g);
}

template <class T>
static void launch_weight(struct backend *be, const struct depthwise *a, const T *dy, float *slices,
                          const struct walk *g, int64_t n_slices) {
    const T *x = (const T *)a->x;
    const bool pairs = by_pairs(a, x, dy) && aligned(slices, 8) && a->pad < a->k;
    const unsigned grid = (unsigned)(n_slices * g->tiles.tiles);
    if (pairs && a->k == 7 && a->stride == 1)
        LAUNCH((depthwise_weight_walk<T, 7>), grid, WALK_THREADS, 0, be->stream, slices, x, dy, *g);
    else if (pairs && a->k == 3 && a->stride == 1)
        LAUNCH((depthwise_weight_walk<T, 3>), grid, WALK_THREADS, 0, be->stream, slices, x, dy, *g);
    else if (pairs && a->k == 3 && a->stride == 2)
        LAUNCH((depthwise_weight_strided<T, 3, 2>), grid, WALK_THREADS, 0, be->stream, slices, x, dy, *g);
    else
        LAUNCH(depthwise_weight_plain<T>,
               dim3((unsigned)((a->c + 31) / 32), (unsigned)(a->k * a->k + 1), (unsigned)n_slices),
               PLAIN_THREADS, 0, be->stream, slices, x, dy, *a, g->ho, g->wo);
}

status_t depthwise_weight_grad(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                               void *scratch) {
    const struct walk walk = weight_walk(a);
    const int64_t n_slices = n_slices_of(a, &walk), taps = a->k * a->k * a->c;
    float *slices = (float *)scratch;
    FOR_DTYPE(a->dtype, T, launch_weight<T>(be, a, (const T *)g->dy, slices, &walk, n_slices));
    TRY_LAUNCH();
    if (g->dweight) TRY(add_slices(be, g->dweight, slices, n_slices, taps + a->c, taps));
    if (g->dbias) TRY(add_slices(be, g->dbias, slices + taps, n_slices, taps + a->c, a->c));
    return STATUS_OK;
}
