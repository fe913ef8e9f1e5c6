/* Layer norm. Rows of a multiple of 8 channels are held in registers, read once with 16-byte accesses: a warp a row
 * forward, one to eight warps a row backward. Any other width takes the plain kernels at the end of each part. */
#include "models/ops/cuda/maps.cuh"

enum {
    WARP_CHANNELS = 256, /* 32 lanes of 8 channels */
    FORWARD_THREADS = 128,
    BACKWARD_THREADS = 256,
    BACKWARD_WARPS = BACKWARD_THREADS / 32,
    FORWARD_MOST = 12 * WARP_CHANNELS,
    BACKWARD_MOST = 2 * BACKWARD_WARPS * WARP_CHANNELS
};

/* ---- forward ---- */

template <class T, int NV>
__global__ void __launch_bounds__(FORWARD_THREADS, NV <= 4 ? 8 : NV <= 8 ? 4 : 2)
    layernorm_rows(T *y, float *__restrict__ mean, float *__restrict__ rstd, const T *x,
                   const float *__restrict__ weight, const float *__restrict__ bias, int64_t rows, int c,
                   float eps) {
    const int64_t row = (int64_t)blockIdx.x * (FORWARD_THREADS / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) return; /* whole warps leave together */
    float v[NV][8], sum = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < NV; i++) {
        const int at = (i * 32 + lane) * 8;
        if (at < c) load8(v[i], x + row * c + at);
#pragma unroll
        for (int j = 0; j < 8; j++) sum += v[i][j] = at < c ? v[i][j] : 0.0f;
    }
    const float mu = warp_sum(sum) / (float)c;
#pragma unroll
    for (int i = 0; i < NV; i++) {
        const bool inside = (i * 32 + lane) * 8 < c;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            v[i][j] -= mu;
            if (inside) squares += v[i][j] * v[i][j];
        }
    }
    const float rs = 1.0f / sqrtf(warp_sum(squares) / (float)c + eps);
    if (lane == 0 && mean) mean[row] = mu;
    if (lane == 0 && rstd) rstd[row] = rs;
#pragma unroll
    for (int i = 0; i < NV; i++) {
        const int at = (i * 32 + lane) * 8;
        float w[8], b[8];
        if (at >= c) continue;
        load8(w, weight + at);
        load8(b, bias + at);
#pragma unroll
        for (int j = 0; j < 8; j++) v[i][j] = v[i][j] * rs * w[j] + b[j];
        store8(y + row * c + at, v[i]);
    }
}

template <class T>
__global__ void __launch_bounds__(FORWARD_THREADS)
    layernorm_plain(T *y, float *__restrict__ mean, float *__restrict__ rstd, const T *x,
                    const float *__restrict__ weight, const float *__restrict__ bias, int64_t rows, int64_t c,
                    float eps) {
    const int64_t row = (int64_t)blockIdx.x * (FORWARD_THREADS / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) return;
    float sum = 0, squares = 0;
    for (int64_t i = lane; i < c; i += 32) sum += to_float(x[row * c + i]);
    const float mu = warp_sum(sum) / (float)c;
    for (int64_t i = lane; i < c; i += 32) {
        const float d = to_float(x[row * c + i]) - mu;
        squares += d * d;
    }
    const float rs = 1.0f / sqrtf(warp_sum(squares) / (float)c + eps);
    if (lane == 0 && mean) mean[row] = mu;
    if (lane == 0 && rstd) rstd[row] = rs;
    for (int64_t i = lane; i < c; i += 32)
        y[row * c + i] = from_float<T>((to_float(x[row * c + i]) - mu) * rs * weight[i] + bias[i]);
}

template <class T> static void launch_forward(struct backend *be, const struct layernorm *a, T *y) {
    const T *x = (const T *)a->x;
    const int64_t c = a->channels;
    const unsigned grid = (unsigned)((a->rows + FORWARD_THREADS / 32 - 1) / (FORWARD_THREADS / 32));
    const bool fast = c % 8 == 0 && c <= FORWARD_MOST && aligned(x, 16) && aligned(y, 16) &&
                      aligned(a->weight, 16) && aligned(a->bias, 16);
#define ROWS(NV)                                                                                             \
    LAUNCH((layernorm_rows<T, NV>), grid, FORWARD_THREADS, 0, be->stream, y, a->mean, a->rstd, x, a->weight,   \
           a->bias, a->rows, (int)c, a->eps)
    if (!fast)
        LAUNCH(layernorm_plain<T>, grid, FORWARD_THREADS, 0, be->stream, y, a->mean, a->rstd, x, a->weight,
               a->bias, a->rows, c, a->eps);
    else if (c <= 1 * WARP_CHANNELS) ROWS(1);
    else if (c <= 2 * WARP_CHANNELS) ROWS(2);
    else if (c <= 4 * WARP_CHANNELS) ROWS(4);
    else if (c <= 6 * WARP_CHANNELS) ROWS(6);
    else if (c <= 8 * WARP_CHANNELS) ROWS(8);
    else ROWS(12);
#undef ROWS
}

extern "C" status_t cuda_layernorm_forward(struct backend *be, const struct layernorm *a, void *y) {
    if (a->rows == 0 || a->channels == 0) return STATUS_OK;
    FOR_DTYPE(a->dtype, T, launch_forward<T>(be, a, (T *)y));
    TRY_LAUNCH();
    return STATUS_OK;
}

/* ---- backward: dx, and per block the sums over its rows for dweight and dbias ---- */

/* Eight channels as they lie in memory. */
template <class T> struct octet;
template <> struct octet<float> {
    float4 a, b;
};
template <> struct octet<bf16> {
    uint4 a;
};
template <class T> __device__ __forceinline__ void unpack8(float (&f)[8], const octet<T> &o) {
    load8(f, reinterpret_cast<const T *>(&o));
}
template <class T> __device__ __forceinline__ octet<T> load_octet(const T *p) {
    return *reinterpret_cast<const octet<T> *>(p);
}

/* Sums over the rows that a block's groups of warps took: out[channel], channel < c. `mine` lies at the thread's
 * channels; `room` holds BACKWARD_WARPS * NV * WARP_CHANNELS floats. */
template <int NV, int W>
__device__ __forceinline__ void sum_groups(float *__restrict__ out, const float (&mine)[NV][8], float *room,
                                           int c) {
    constexpr int GROUPS = BACKWARD_WARPS / W, WIDTH = W * NV * WARP_CHANNELS;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    __syncthreads(); /* the room may still be read */
#pragma unroll
    for (int i = 0; i < NV; i++) store8(room + ((warp * NV + i) * 32 + lane) * 8, mine[i]);
    __syncthreads();
    for (int p = threadIdx.x; p < WIDTH && p < c; p += BACKWARD_THREADS) {
        float sum = 0;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) sum += room[g * WIDTH + p];
        out[p] = sum;
    }
}

/* W warps share a row, each lane of them NV times 8 channels; the grid walks over the rows. slices (gridDim,2,C):
 * sums of dy*xhat and of dy. */
template <class T, int NV, int W>
__global__ void __launch_bounds__(BACKWARD_THREADS, 2)
    layernorm_backward_rows(T *dx, bool accumulate, float *__restrict__ slices, const T *__restrict__ x,
                            const T *dy, const float *__restrict__ weight, const float *__restrict__ mean,
                            const float *__restrict__ rstd, int64_t rows, int c) {
    constexpr int GROUPS = BACKWARD_WARPS / W;
    SHARED(float, room, [BACKWARD_WARPS * NV * WARP_CHANNELS]);
    SHARED(float2, row_sums, [2][BACKWARD_WARPS]);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / W;
    const int first = (warp % W * NV * 32 + lane) * 8; /* channels first + i * 256 + (0..7) */
    float w[NV][8] = {}, dw[NV][8] = {}, db[NV][8] = {};
#pragma unroll
    for (int i = 0; i < NV; i++)
        if (first + i * WARP_CHANNELS < c) load8(w[i], weight + first + i * WARP_CHANNELS);
    int turn = 0;
    for (int64_t base = (int64_t)blockIdx.x * GROUPS; base < rows; base += (int64_t)gridDim.x * GROUPS) {
        const int64_t row = base + group;
        const bool inside = row < rows;
        const float mu = inside ? mean[row] : 0.0f, rs = inside ? rstd[row] : 0.0f;
        octet<T> xs[NV] = {}, gs[NV] = {}; /* zeros add nothing */
        float sum_g = 0, sum_gx = 0;
#pragma unroll
        for (int i = 0; i < NV; i++) {
            const int at = first + i * WARP_CHANNELS;
            if (!inside || at >= c) continue;
            xs[i] = load_octet(x + row * c + at);
            gs[i] = load_octet(dy + row * c + at);
        }
#pragma unroll
        for (int i = 0; i < NV; i++) {
            float xv[8], gv[8];
            unpack8(xv, xs[i]);
            unpack8(gv, gs[i]);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float xhat = (xv[j] - mu) * rs;
                sum_g += gv[j] * w[i][j];
                sum_gx += gv[j] * w[i][j] * xhat;
                dw[i][j] += gv[j] * xhat;
                db[i][j] += gv[j];
            }
        }
        if (!dx) continue; /* the same in all threads */
        sum_g = warp_sum(sum_g);
        sum_gx = warp_sum(sum_gx);
        if (W > 1) { /* the two halves of row_sums in turn: one barrier a row is enough */
            if (lane == 0) row_sums[turn][warp] = make_float2(sum_g, sum_gx);
            __syncthreads();
            sum_g = sum_gx = 0;
#pragma unroll
            for (int p = 0; p < W; p++) {
                sum_g += row_sums[turn][group * W + p].x;
                sum_gx += row_sums[turn][group * W + p].y;
            }
            turn ^= 1;
        }
        sum_g /= (float)c;
        sum_gx /= (float)c;
#pragma unroll
        for (int i = 0; i < NV; i++) {
            const int at = first + i * WARP_CHANNELS;
            float xv[8], gv[8];
            if (!inside || at >= c) continue;
            unpack8(xv, xs[i]);
            unpack8(gv, gs[i]);
#pragma unroll
            for (int j = 0; j < 8; j++)
                gv[j] = rs * (gv[j] * w[i][j] - sum_g - (xv[j] - mu) * rs * sum_gx);
            if (accumulate) {
                load8(xv, dx + row * c + at);
#pragma unroll
                for (int j = 0; j < 8; j++) gv[j] += xv[j];
            }
            store8(dx + row * c + at, gv);
        }
    }
    if (!slices) return;
    float *slice = slices + (int64_t)blockIdx.x * 2 * c;
    sum_groups<NV, W>(slice, dw, room, c);
    sum_groups<NV, W>(slice + c, db, room, c);
}

/* Any width: a block a row. */
template <class T>
__global__ void __launch_bounds__(BACKWARD_THREADS)
    layernorm_backward_plain(T *dx, bool accumulate, const T *__restrict__ x, const T *dy,
                             const float *__restrict__ weight, const float *__restrict__ mean,
                             const float *__restrict__ rstd, int64_t c) {
    SHARED(float, room, [32]);
    const int64_t row = blockIdx.x;
    const float mu = mean[row], rs = rstd[row];
    float sum_g = 0, sum_gx = 0;
    for (int64_t i = threadIdx.x; i < c; i += BACKWARD_THREADS) {
        const float g = to_float(dy[row * c + i]) * weight[i];
        sum_g += g;
        sum_gx += g * (to_float(x[row * c + i]) - mu) * rs;
    }
    sum_g = block_sum(sum_g, room) / (float)c;
    sum_gx = block_sum(sum_gx, room) / (float)c;
    for (int64_t i = threadIdx.x; i < c; i += BACKWARD_THREADS) {
        const int64_t at = row * c + i;
        const float xhat = (to_float(x[at]) - mu) * rs;
        const float v = rs * (to_float(dy[at]) * weight[i] - sum_g - xhat * sum_gx);
        dx[at] = from_float<T>(accumulate ? to_float(dx[at]) + v : v);
    }
}

/* ... and its sums over rows: 32 channels a block, slices of rows along y. */
template <class T>
__global__ void __launch_bounds__(BACKWARD_THREADS)
    layernorm_sums_plain(float *__restrict__ slices, const T *__restrict__ x, const T *__restrict__ dy,
                         const float *__restrict__ mean, const float *__restrict__ rstd, int64_t rows,
                         int64_t c) {
    SHARED(float2, room, [BACKWARD_WARPS][32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t i = (int64_t)blockIdx.x * 32 + lane;
    float dw = 0, db = 0;
    for (int64_t t = (int64_t)blockIdx.y * BACKWARD_WARPS + warp; t < rows && i < c;
         t += (int64_t)gridDim.y * BACKWARD_WARPS) {
        const float g = to_float(dy[t * c + i]);
        dw += g * (to_float(x[t * c + i]) - mean[t]) * rstd[t];
        db += g;
    }
    room[warp][lane] = make_float2(dw, db);
    __syncthreads();
    if (warp != 0 || i >= c) return;
    for (int k = 1; k < BACKWARD_WARPS; k++) {
        dw += room[k][lane].x;
        db += room[k][lane].y;
    }
    slices[(int64_t)blockIdx.y * 2 * c + i] = dw;
    slices[(int64_t)blockIdx.y * 2 * c + c + i] = db;
}

/* Warps a row of the fast kernel. */
static int backward_warps(int64_t c) {
    return c <= 2 * WARP_CHANNELS ? 1 : c <= 4 * WARP_CHANNELS ? 2 : c <= 8 * WARP_CHANNELS ? 4 : 8;
}

/* Blocks, each with sums of its own: no more than there are groups of rows. */
static int64_t backward_slices(const struct layernorm *a) {
    const int64_t at_once = BACKWARD_WARPS / backward_warps(a->channels);
    const int64_t most = (a->rows + at_once - 1) / at_once;
    return most < SLICED_BLOCKS ? most : (int64_t)SLICED_BLOCKS;
}

extern "C" size_t cuda_layernorm_scratch(struct backend *be, const struct layernorm *a, bool train) {
    (void)be;
    return train ? sizeof(float) * 2 * (size_t)a->channels * (size_t)backward_slices(a) : 0;
}

template <class T>
static void launch_backward(struct backend *be, const struct layernorm *a, const struct layernorm_grad *g,
                            float *slices, int64_t n_slices) {
    const T *x = (const T *)a->x, *dy = (const T *)g->dy;
    T *dx = (T *)g->dx;
    const int64_t c = a->channels;
    const bool fast = c % 8 == 0 && c <= BACKWARD_MOST && aligned(x, 16) && aligned(dy, 16) &&
                      aligned(dx, 16) && aligned(a->weight, 16);
#define ROWS(NV, W)                                                                                          \
    LAUNCH((layernorm_backward_rows<T, NV, W>), (unsigned)n_slices, BACKWARD_THREADS, 0, be->stream, dx,       \
           g->dx_accumulate, slices, x, dy, a->weight, a->mean, a->rstd, a->rows, (int)c)
    if (fast && c <= WARP_CHANNELS) ROWS(1, 1);
    else if (fast && backward_warps(c) == 1) ROWS(2, 1);
    else if (fast && backward_warps(c) == 2) ROWS(2, 2);
    else if (fast && backward_warps(c) == 4) ROWS(2, 4);
    else if (fast) ROWS(2, 8);
#undef ROWS
    if (!fast && slices) /* before dx, which may lie where dy lies */
        LAUNCH(layernorm_sums_plain<T>, dim3((unsigned)((c + 31) / 32), (unsigned)n_slices), BACKWARD_THREADS,
               0, be->stream, slices, x, dy, a->mean, a->rstd, a->rows, c);
    if (!fast && dx)
        LAUNCH(layernorm_backward_plain<T>, (unsigned)a->rows, BACKWARD_THREADS, 0, be->stream, dx,
               g->dx_accumulate, x, dy, a->weight, a->mean, a->rstd, c);
}

extern "C" status_t cuda_layernorm_backward(struct backend *be, const struct layernorm *a,
                                            const struct layernorm_grad *g, void *scratch) {
    const int64_t c = a->channels;
    float *slices = g->dweight || g->dbias ? (float *)scratch : NULL;
    if (a->rows == 0 || c == 0 || (!slices && !g->dx)) return STATUS_OK;
    const int64_t n_slices = backward_slices(a);
    FOR_DTYPE(a->dtype, T, launch_backward<T>(be, a, g, slices, n_slices));
    TRY_LAUNCH();
    if (g->dweight) TRY(add_slices(be, g->dweight, slices, n_slices, 2 * c, c));
    if (g->dbias) TRY(add_slices(be, g->dbias, slices + c, n_slices, 2 * c, c));
    return STATUS_OK;
}
