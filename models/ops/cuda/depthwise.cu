/* Depthwise convolution: forward and data gradient. */
#include "models/ops/cuda/depthwise.cuh"

enum { PLAIN_THREADS = 256 };

/* Which channels, strip, image and rows a thread has; chunks of rows are [*begin, *end) of what is written. */
__device__ __forceinline__ struct walker start_walk(const struct walk &g, int *begin, int *end,
                                                    int64_t *image) {
    struct walker t;
    const int pair_of_tile = threadIdx.x % g.tiles.width, slot = threadIdx.x / g.tiles.width;
    const int groups = (g.strips + g.tiles.rows - 1) / g.tiles.rows;
    unsigned b = blockIdx.x;
    const int tile = (int)(b % g.tiles.tiles);
    b /= g.tiles.tiles;
    const int strip = (int)(b % groups) * g.tiles.rows + slot;
    b /= groups;
    *begin = (int)(b % g.chunks) * g.chunk_rows;
    *end = min(*begin + g.chunk_rows, g.ho);
    *image = b / g.chunks;
    t.channel = (tile * g.tiles.width + pair_of_tile) * 2;
    t.column = strip * STRIP;
    t.active = slot < g.tiles.rows && strip < g.strips && t.channel < g.c;
    return t;
}

/* One row of a strip. */
template <class T>
__device__ __forceinline__ void store_strip(T *row, const float2 (&v)[STRIP], int column, const struct walk &g) {
#pragma unroll
    for (int p = 0; p < STRIP; p++) {
        float2 f = v[p];
        T *to = row + (int64_t)p * g.c;
        if (column + p >= g.wo) continue;
        if (g.relu6) {
            f.x = fminf(fmaxf(f.x, 0.0f), 6.0f);
            f.y = fminf(fmaxf(f.y, 0.0f), 6.0f);
        }
        if (g.accumulate) {
            const float2 old = unpack(load_pair(to));
            f.x += old.x;
            f.y += old.y;
        }
        store_pair(to, f);
    }
}

/* The row `in` of the input adds to K rows of the output: done[] is the row that it completes, sums[s] wait for
 * more rows. INSIDE false: the row is one of the padding's zeros. */
template <bool INSIDE, int K>
__device__ __forceinline__ void add_row(float2 (&done)[STRIP], float2 (&sums)[K - 1][STRIP],
                                        const float2 (&in)[STRIP + K - 1], const float2 (&weight)[K][K],
                                        float2 bias) {
#pragma unroll
    for (int s = 0; s < K; s++) {
        float2 v[STRIP];
#pragma unroll
        for (int p = 0; p < STRIP; p++) v[p] = s < K - 1 ? sums[s < K - 1 ? s : 0][p] : bias;
#pragma unroll
        for (int kx = 0; kx < K && INSIDE; kx++)
#pragma unroll
            for (int p = 0; p < STRIP; p++) fma2(&v[p], in[p + kx], weight[K - 1 - s][kx]);
#pragma unroll
        for (int p = 0; p < STRIP; p++) (s == 0 ? done : sums[s > 0 ? s - 1 : 0])[p] = v[p];
    }
}

/* Stride 1; y may be read (accumulate). flip: taps in reverse, which makes it the data gradient. */
template <class T, int K>
__global__ void __launch_bounds__(WALK_THREADS, K > 3 ? 2 : 5)
    depthwise_walk(T *y, const T *__restrict__ x, const float *__restrict__ weight,
                   const float *__restrict__ bias, struct walk g) {
    int begin, end;
    int64_t image;
    const struct walker t = start_walk(g, &begin, &end, &image);
    if (!t.active) return;
    float2 w[K][K], sums[K - 1][STRIP];
#pragma unroll
    for (int i = 0; i < K * K; i++)
        w[i / K][i % K] = *reinterpret_cast<const float2 *>(
            weight + (int64_t)(g.flip ? K * K - 1 - i : i) * g.c + t.channel);
    const float2 b = bias ? *reinterpret_cast<const float2 *>(bias + t.channel) : make_float2(0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < (K - 1) * STRIP; i++) sums[i / STRIP][i % STRIP] = b;
    const int first = max(begin - g.pad, 0), last = end - 1 - g.pad + K - 1, from = t.column - g.pad;
    const int64_t pitch = (int64_t)g.w * g.c;
    const T *row = x + (image * g.h + first) * pitch + (int64_t)from * g.c + t.channel;
    T *out = y + ((image * g.ho + first + g.pad - (K - 1)) * g.wo + t.column) * g.c + t.channel;
    pair<T> next[STRIP + K - 1];
    load_row(next, row, g.c, from, first < g.h ? g.w : 0);
#pragma unroll 1
    for (int iy = first; iy <= last; iy++) {
        float2 in[STRIP + K - 1], done[STRIP];
#pragma unroll
        for (int i = 0; i < STRIP + K - 1; i++) in[i] = unpack(next[i]);
        row += pitch;
        if (iy + 1 < g.h) load_row(next, row, g.c, from, g.w);
        if (iy < g.h) add_row<true, K>(done, sums, in, w, b);
        else add_row<false, K>(done, sums, in, w, b);
        if (iy + g.pad - (K - 1) >= begin) store_strip(out, done, t.column, g);
        out += (int64_t)g.wo * g.c;
    }
}

/* Any stride: each row of the output by itself. */
template <class T, int K, int STRIDE>
__global__ void __launch_bounds__(WALK_THREADS, 4)
    depthwise_strided(T *__restrict__ y, const T *__restrict__ x, const float *__restrict__ weight,
                      const float *__restrict__ bias, struct walk g) {
    constexpr int COLUMNS = (STRIP - 1) * STRIDE + K;
    int begin, end;
    int64_t image;
    const struct walker t = start_walk(g, &begin, &end, &image);
    if (!t.active) return;
    float2 w[K][K];
#pragma unroll
    for (int i = 0; i < K * K; i++)
        w[i / K][i % K] = *reinterpret_cast<const float2 *>(weight + (int64_t)i * g.c + t.channel);
    const float2 b = bias ? *reinterpret_cast<const float2 *>(bias + t.channel) : make_float2(0.0f, 0.0f);
    const int from = t.column * STRIDE - g.pad;
    for (int oy = begin; oy < end; oy++) {
        float2 v[STRIP];
        pair<T> in[K][COLUMNS];
#pragma unroll
        for (int ky = 0; ky < K; ky++) {
            const int iy = oy * STRIDE - g.pad + ky;
            load_row(in[ky], x + ((image * g.h + iy) * g.w + from) * g.c + t.channel, g.c, from,
                     (unsigned)iy < (unsigned)g.h ? g.w : 0);
        }
#pragma unroll
        for (int p = 0; p < STRIP; p++) v[p] = b;
#pragma unroll
        for (int i = 0; i < K * K; i++)
#pragma unroll
            for (int p = 0; p < STRIP; p++)
                fma2(&v[p], unpack(in[i / K][p * STRIDE + i % K]), w[i / K][i % K]);
        store_strip(y + ((image * g.ho + oy) * g.wo + t.column) * g.c + t.channel, v, t.column, g);
    }
}

/* Data gradient of 3x3, stride 2, padding 1. A thread walks down pairs of rows of dx (`ho`, `wo`) and takes
 * STRIP columns; row 2q needs row q of dy, row 2q+1 rows q and q+1, columns alike. */
template <class T>
__global__ void __launch_bounds__(WALK_THREADS, 4)
    depthwise_stride2_grad(T *dx, const T *__restrict__ dy, const float *__restrict__ weight, struct walk g) {
    constexpr int HALF = STRIP / 2;
    int begin, end;
    int64_t image;
    const struct walker t = start_walk(g, &begin, &end, &image); /* begin is even */
    if (!t.active) return;
    float2 w[3][3];
#pragma unroll
    for (int i = 0; i < 9; i++)
        w[i / 3][i % 3] = *reinterpret_cast<const float2 *>(weight + (int64_t)i * g.c + t.channel);
    const int from = t.column / 2;
    const int64_t pitch = (int64_t)g.w * g.c;
    const T *row = dy + (image * g.h + begin / 2) * pitch + (int64_t)from * g.c + t.channel;
    pair<T> upper[HALF + 1], lower[HALF + 1];
    load_row(upper, row, g.c, from, begin / 2 < g.h ? g.w : 0);
    for (int iy = begin; iy < end; iy += 2) {
        float2 even[STRIP] = {}, odd[STRIP] = {};
        row += pitch;
        load_row(lower, row, g.c, from, iy / 2 + 1 < g.h ? g.w : 0);
#pragma unroll
        for (int i = 0; i < HALF; i++) {
            const float2 a = unpack(upper[i]), b = unpack(upper[i + 1]);
            const float2 c = unpack(lower[i]), d = unpack(lower[i + 1]);
            fma2(&even[2 * i], a, w[1][1]);
            fma2(&even[2 * i + 1], a, w[1][2]);
            fma2(&even[2 * i + 1], b, w[1][0]);
            fma2(&odd[2 * i], a, w[2][1]);
            fma2(&odd[2 * i], c, w[0][1]);
            fma2(&odd[2 * i + 1], a, w[2][2]);
            fma2(&odd[2 * i + 1], b, w[2][0]);
            fma2(&odd[2 * i + 1], c, w[0][2]);
            fma2(&odd[2 * i + 1], d, w[0][0]);
        }
        T *out = dx + ((image * g.ho + iy) * g.wo + t.column) * g.c + t.channel;
        store_strip(out, even, t.column, g);
        if (iy + 1 < g.ho) store_strip(out + (int64_t)g.wo * g.c, odd, t.column, g);
#pragma unroll
        for (int i = 0; i <= HALF; i++) upper[i] = lower[i];
    }
}

/* ---- any shape: a thread an element ---- */

template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
    depthwise_plain(T *__restrict__ y, const T *__restrict__ x, struct depthwise a, int64_t ho, int64_t wo) {
    for (int64_t i = blockIdx.x * (int64_t)PLAIN_THREADS + threadIdx.x; i < a.n * ho * wo * a.c;
         i += (int64_t)gridDim.x * PLAIN_THREADS) {
        const int64_t c = i % a.c, pixel = i / a.c, ox = pixel % wo, oy = pixel / wo % ho, n = pixel / wo / ho;
        float sum = a.bias ? a.bias[c] : 0.0f;
        for (int ky = 0; ky < a.k; ky++)
            for (int kx = 0; kx < a.k; kx++) {
                const int64_t iy = oy * a.stride - a.pad + ky, ix = ox * a.stride - a.pad + kx;
                if (iy < 0 || iy >= a.h || ix < 0 || ix >= a.w) continue;
                sum = fmaf(to_float(x[((n * a.h + iy) * a.w + ix) * a.c + c]),
                           a.weight[(int64_t)(ky * a.k + kx) * a.c + c], sum);
            }
        y[i] = from_float<T>(a.relu6 ? fminf(fmaxf(sum, 0.0f), 6.0f) : sum);
    }
}

template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 5) // else it spills on sm_120
    depthwise_plain_grad(T *dx, bool accumulate, const T *__restrict__ dy, struct depthwise a, int64_t ho,
                         int64_t wo) {
    for (int64_t i = blockIdx.x * (int64_t)PLAIN_THREADS + threadIdx.x; i < a.n * a.h * a.w * a.c;
         i += (int64_t)gridDim.x * PLAIN_THREADS) {
        const int64_t c = i % a.c, pixel = i / a.c, ix = pixel % a.w, iy = pixel / a.w % a.h;
        const int64_t n = pixel / a.w / a.h;
        float sum = 0;
        for (int ky = 0; ky < a.k; ky++)
            for (int kx = 0; kx < a.k; kx++) {
                const int64_t sy = iy + a.pad - ky, sx = ix + a.pad - kx; /* stride times the output's place */
                if (sy < 0 || sx < 0 || sy % a.stride != 0 || sx % a.stride != 0) continue;
                const int64_t oy = sy / a.stride, ox = sx / a.stride;
                if (oy >= ho || ox >= wo) continue;
                sum = fmaf(to_float(dy[((n * ho + oy) * wo + ox) * a.c + c]),
                           a.weight[(int64_t)(ky * a.k + kx) * a.c + c], sum);
            }
        dx[i] = from_float<T>(accumulate ? to_float(dx[i]) + sum : sum);
    }
}

/* ---- slots ---- */

/* How to walk over a map that is written, in full height unless that leaves the device without enough threads
 * (a chunk of rows begins with K-1 rows that it only reads). */
static struct walk walk_of(const struct backend *be, const struct depthwise *a, int64_t h, int64_t w,
                           int64_t ho, int64_t wo) {
    struct walk g = {};
    const int least = a->k > 3 ? 24 : 8;
    g.n = a->n, g.h = (int)h, g.w = (int)w, g.ho = (int)ho, g.wo = (int)wo;
    g.c = (int)a->c, g.pad = a->pad;
    g.strips = (g.wo + STRIP - 1) / STRIP;
    g.tiles = tiles_of((a->c + 1) / 2, WALK_THREADS);
    const int64_t threads = a->n * g.strips * ((a->c + 1) / 2);
    const int64_t wanted = (int64_t)be->n_sms * (a->k > 3 ? 512 : 2048);
    int64_t chunks = (wanted + threads - 1) / threads, most = ho / least;
    if (chunks > most) chunks = most;
    if (chunks < 1) chunks = 1;
    g.chunk_rows = (int)((ho + chunks - 1) / chunks + 1) / 2 * 2; /* even: see depthwise_stride2_grad */
    g.chunks = (g.ho + g.chunk_rows - 1) / g.chunk_rows;
    return g;
}

static unsigned walk_blocks(const struct walk *g) {
    return (unsigned)(g->n * g->chunks * ((g->strips + g->tiles.rows - 1) / g->tiles.rows) * g->tiles.tiles);
}

template <class T>
static void launch_forward(struct backend *be, const struct depthwise *a, T *y, int64_t ho, int64_t wo) {
    const T *x = (const T *)a->x;
    const bool pairs = by_pairs(a, x, y) && a->pad < a->k;
    struct walk g = walk_of(be, a, a->h, a->w, ho, wo);
    const unsigned grid = walk_blocks(&g);
    g.relu6 = a->relu6;
    if (pairs && a->k == 7 && a->stride == 1)
        LAUNCH((depthwise_walk<T, 7>), grid, WALK_THREADS, 0, be->stream, y, x, a->weight, a->bias, g);
    else if (pairs && a->k == 3 && a->stride == 1)
        LAUNCH((depthwise_walk<T, 3>), grid, WALK_THREADS, 0, be->stream, y, x, a->weight, a->bias, g);
    else if (pairs && a->k == 3 && a->stride == 2)
        LAUNCH((depthwise_strided<T, 3, 2>), grid, WALK_THREADS, 0, be->stream, y, x, a->weight, a->bias, g);
    else
        LAUNCH(depthwise_plain<T>, grid_of(be, a->n * ho * wo * a->c, PLAIN_THREADS), PLAIN_THREADS, 0,
               be->stream, y, x, *a, ho, wo);
}

extern "C" status_t cuda_depthwise_forward(struct backend *be, const struct depthwise *a, void *y,
                                           void *scratch) {
    (void)scratch;
    const int64_t ho = depthwise_side(a->h, a), wo = depthwise_side(a->w, a);
    if (a->n * ho * wo * a->c == 0) return STATUS_OK;
    FOR_DTYPE(a->dtype, T, launch_forward<T>(be, a, (T *)y, ho, wo));
    TRY_LAUNCH();
    return STATUS_OK;
}

template <class T>
static void launch_data_grad(struct backend *be, const struct depthwise *a, const struct conv_grad *grad,
                             int64_t ho, int64_t wo) {
    const float *const no_bias = NULL;
    T *dx = (T *)grad->dx;
    const T *dy = (const T *)grad->dy;
    const bool pairs = by_pairs(a, dx, dy) && a->pad < a->k;
    struct walk g = walk_of(be, a, ho, wo, a->h, a->w);
    const unsigned grid = walk_blocks(&g);
    g.accumulate = grad->dx_accumulate;
    g.flip = true;
    g.pad = a->k - 1 - a->pad;
    if (pairs && a->k == 7 && a->stride == 1)
        LAUNCH((depthwise_walk<T, 7>), grid, WALK_THREADS, 0, be->stream, dx, dy, a->weight, no_bias, g);
    else if (pairs && a->k == 3 && a->stride == 1)
        LAUNCH((depthwise_walk<T, 3>), grid, WALK_THREADS, 0, be->stream, dx, dy, a->weight, no_bias, g);
    else if (pairs && a->k == 3 && a->stride == 2 && a->pad == 1)
        LAUNCH(depthwise_stride2_grad<T>, grid, WALK_THREADS, 0, be->stream, dx, dy, a->weight, g);
    else
        LAUNCH(depthwise_plain_grad<T>, grid_of(be, a->n * a->h * a->w * a->c, PLAIN_THREADS), PLAIN_THREADS,
               0, be->stream, dx, grad->dx_accumulate, dy, *a, ho, wo);
}

extern "C" size_t cuda_depthwise_scratch(struct backend *be, const struct depthwise *a, bool train) {
    (void)be;
    return train ? depthwise_weight_scratch(a) : 0;
}

extern "C" status_t cuda_depthwise_backward(struct backend *be, const struct depthwise *a,
                                            const struct conv_grad *g, void *scratch) {
    const int64_t ho = depthwise_side(a->h, a), wo = depthwise_side(a->w, a);
    if (a->n * ho * wo * a->c == 0) {
        if (g->dx && !g->dx_accumulate)
            return cuda_fill_zero(be, g->dx, (size_t)(a->n * a->h * a->w * a->c) * dtype_bytes(a->dtype));
        return STATUS_OK;
    }
    if (g->dweight || g->dbias) TRY(depthwise_weight_grad(be, a, g, scratch));
    if (!g->dx) return STATUS_OK;
    FOR_DTYPE(a->dtype, T, launch_data_grad<T>(be, a, g, ho, wo));
    TRY_LAUNCH();
    return STATUS_OK;
}
