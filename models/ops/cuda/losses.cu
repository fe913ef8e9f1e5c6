/* Losses and confidences: a warp a row. Logits are few and the losses of a whole run hang on them, so the
 * exponentials are taken in double. Sums over rows: by block in be->partials, then in the order of the
 * blocks. */
#include "models/ops/cuda/device.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, COLUMNS = 32, ROWS = THREADS / COLUMNS };

static unsigned row_grid(const struct backend *be, int64_t n) {
    const unsigned blocks = grid_of(be, n, WARPS);
    return blocks < (unsigned)PARTIALS ? blocks : (unsigned)PARTIALS;
}

/* *sum += partials[0] + ... + partials[n-1] */
__global__ void __launch_bounds__(THREADS) add_partials_kernel(const double *partials, int n, double *sum) {
    SHARED(double, room, [32]);
    double total = 0;
    for (int i = threadIdx.x; i < n; i += THREADS) total += partials[i];
    total = block_sum(total, room);
    if (threadIdx.x == 0) *sum += total;
}

static status_t add_partials(struct backend *be, unsigned n, double *sum) {
    if (!sum) return STATUS_OK;
    LAUNCH(add_partials_kernel, 1, THREADS, 0, be->stream, be->partials, (int)n, sum);
    TRY_LAUNCH();
    return STATUS_OK;
}

/* log(sum over j of exp(factor * x_j)), by one warp; the same in every lane. */
__device__ __forceinline__ double row_log_sum_exp(const float *__restrict__ x, int64_t k, double factor) {
    float top = -INFINITY;
    double sum = 0;
    for (int64_t j = threadIdx.x % 32; j < k; j += 32) top = fmaxf(top, x[j]);
    top = warp_max(top);
    for (int64_t j = threadIdx.x % 32; j < k; j += 32) sum += exp(factor * ((double)x[j] - (double)top));
    return factor * (double)top + log(warp_sum(sum));
}

__device__ __forceinline__ void put(float *dlogits, bool accumulate, float value) {
    *dlogits = accumulate ? *dlogits + value : value;
}

__device__ __forceinline__ double scale_of(float scale, const float *scale_device) {
    return (double)scale * (scale_device ? (double)*scale_device : 1.0);
}

/* What a row of masked-out logits gives. */
__device__ __forceinline__ void masked_row(float *dlogits, int64_t k, bool accumulate) {
    if (!dlogits || accumulate) return;
    for (int64_t j = threadIdx.x % 32; j < k; j += 32) dlogits[j] = 0;
}

/* The loss of one row, in every lane. */
__device__ double cross_entropy_row(const struct cross_entropy &a, int64_t row, double scale) {
    const float *x = a.logits + row * a.k;
    float *dlogits = a.dlogits ? a.dlogits + row * a.k : nullptr;
    const double lse = row_log_sum_exp(x, a.k, 1), even = (double)a.smoothing / (double)a.k,
                 hit = 1.0 - (double)a.smoothing;
    const int64_t label = a.labels[row];
    double loss = 0;
    for (int64_t j = threadIdx.x % 32; j < a.k; j += 32) {
        const double log_p = (double)x[j] - lse, target = even + (j == label ? hit : 0.0);
        if (target != 0) loss -= target * log_p;
        if (dlogits) put(dlogits + j, a.dlogits_accumulate, (float)(scale * (exp(log_p) - target)));
    }
    return warp_sum(loss);
}

__global__ void __launch_bounds__(THREADS) cross_entropy_kernel(struct cross_entropy a, double *partials) {
    SHARED(double, room, [32]);
    const int lane = threadIdx.x % 32;
    const double scale = scale_of(a.scale, a.scale_device);
    double total = 0;
    for (int64_t row = blockIdx.x * (int64_t)WARPS + threadIdx.x / 32; row < a.n;
         row += (int64_t)gridDim.x * WARPS) {
        const bool kept = !a.mask || a.mask[row];
        double loss = 0;
        if (kept)
            loss = cross_entropy_row(a, row, scale);
        else
            masked_row(a.dlogits ? a.dlogits + row * a.k : nullptr, a.k, a.dlogits_accumulate);
        if (a.rows && lane == 0) a.rows[row] = (float)loss;
        total += loss;
    }
    total = block_sum(lane == 0 ? total : 0.0, room);
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

extern "C" status_t cuda_cross_entropy(struct backend *be, const struct cross_entropy *a) {
    if (a->n == 0) return STATUS_OK;
    const unsigned grid = row_grid(be, a->n);
    LAUNCH(cross_entropy_kernel, grid, THREADS, 0, be->stream, *a, be->partials);
    TRY_LAUNCH();
    return add_partials(be, grid, a->loss_sum);
}

__device__ double soft_cross_entropy_row(const struct soft_cross_entropy &a, int64_t row, double scale) {
    const float *x = a.logits + row * a.k, *teacher = a.teacher + row * a.k;
    float *dlogits = a.dlogits ? a.dlogits + row * a.k : nullptr;
    const double t = (double)a.temperature, lse = row_log_sum_exp(x, a.k, 1.0 / t);
    double loss = 0, mass = 0;
    for (int64_t j = threadIdx.x % 32; j < a.k; j += 32) {
        const double q = (double)teacher[j];
        if (q > 0) loss += q * (log(q) - ((double)x[j] / t - lse));
        mass += q;
    }
    mass = warp_sum(mass);
    for (int64_t j = threadIdx.x % 32; j < a.k && dlogits; j += 32)
        put(dlogits + j, a.dlogits_accumulate,
            (float)(scale * t * (mass * exp((double)x[j] / t - lse) - (double)teacher[j])));
    return t * t * warp_sum(loss);
}

__global__ void __launch_bounds__(THREADS)
    soft_cross_entropy_kernel(struct soft_cross_entropy a, double *partials) {
    SHARED(double, room, [32]);
    const double scale = scale_of(a.scale, a.scale_device);
    double total = 0;
    for (int64_t row = blockIdx.x * (int64_t)WARPS + threadIdx.x / 32; row < a.n;
         row += (int64_t)gridDim.x * WARPS) {
        if (!a.mask || a.mask[row])
            total += soft_cross_entropy_row(a, row, scale);
        else
            masked_row(a.dlogits ? a.dlogits + row * a.k : nullptr, a.k, a.dlogits_accumulate);
    }
    total = block_sum(threadIdx.x % 32 == 0 ? total : 0.0, room);
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

extern "C" status_t cuda_soft_cross_entropy(struct backend *be, const struct soft_cross_entropy *a) {
    if (a->n == 0) return STATUS_OK;
    const unsigned grid = row_grid(be, a->n);
    LAUNCH(soft_cross_entropy_kernel, grid, THREADS, 0, be->stream, *a, be->partials);
    TRY_LAUNCH();
    return add_partials(be, grid, a->loss_sum);
}

/* Index of the largest of a row's logits, the lowest where several are; NaN never wins. */
__device__ __forceinline__ int row_best(const float *__restrict__ x, int64_t k) {
    float top = -INFINITY;
    int best = 0x7fffffff;
    for (int64_t j = threadIdx.x % 32; j < k; j += 32)
        if (x[j] > top || (x[j] == top && j < best)) top = x[j], best = (int)j;
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        const float other = __shfl_xor_sync(0xffffffffu, top, o);
        const int at = __shfl_xor_sync(0xffffffffu, best, o);
        if (other > top || (other == top && at < best)) top = other, best = at;
    }
    return best < k ? best : 0;
}

__global__ void __launch_bounds__(THREADS) confidence_kernel(struct confidence a) {
    const int lane = threadIdx.x % 32;
    for (int64_t row = blockIdx.x * (int64_t)WARPS + threadIdx.x / 32; row < a.n;
         row += (int64_t)gridDim.x * WARPS) {
        const float *x = a.logits + row * a.k;
        const int best = row_best(x, a.k);
        const double lse = row_log_sum_exp(x, a.k, 1);
        if (lane == 0) {
            const float confidence = (float)exp((double)x[best] - lse);
            if (a.confidence) a.confidence[row] = confidence;
            if (a.label) a.label[row] = best;
            if (a.mask) a.mask[row] = confidence > a.threshold;
        }
        for (int64_t j = lane; j < a.k && a.probabilities; j += 32)
            a.probabilities[row * a.k + j] = (float)exp((double)x[j] - lse);
    }
}

extern "C" status_t cuda_confidence(struct backend *be, const struct confidence *a) {
    if (a->n == 0) return STATUS_OK;
    LAUNCH(confidence_kernel, grid_of(be, a->n, WARPS), THREADS, 0, be->stream, *a);
    TRY_LAUNCH();
    return STATUS_OK;
}

/* ---- the halves of a covariance ---- */

/* A block 32 columns: ROWS rows at a time. */
__global__ void __launch_bounds__(THREADS)
    column_sums_kernel(const float *__restrict__ x, int64_t n, int64_t d, double *__restrict__ sums) {
    SHARED(double, part, [ROWS][COLUMNS]);
    const int column = threadIdx.x % COLUMNS, first = threadIdx.x / COLUMNS;
    const int64_t j = blockIdx.x * (int64_t)COLUMNS + column;
    double sum = 0;
    for (int64_t i = first; i < n && j < d; i += ROWS) sum += (double)x[i * d + j];
    part[first][column] = sum;
    __syncthreads();
    if (blockIdx.x == 0 && threadIdx.x == 0) sums[0] = (double)n;
    if (first > 0 || j >= d) return;
    for (int i = 1; i < ROWS; i++) sum += part[i][column];
    sums[1 + j] = sum;
}

extern "C" status_t cuda_column_sums(struct backend *be, const float *x, int64_t n, int64_t d, double *sums) {
    const unsigned grid = d > 0 ? (unsigned)((d + COLUMNS - 1) / COLUMNS) : 1;
    LAUNCH(column_sums_kernel, grid, THREADS, 0, be->stream, x, n, d, sums);
    TRY_LAUNCH();
    return STATUS_OK;
}

__global__ void centre_kernel(const float *x, int64_t n, int64_t d, const double *__restrict__ sums,
                              float *y) {
    const double count = sums[0];
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n * d;
         i += (int64_t)gridDim.x * blockDim.x)
        y[i] = (float)((double)x[i] - (count > 0 ? sums[1 + i % d] / count : 0.0));
}

extern "C" status_t cuda_centre(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums,
                                float *y) {
    if (n * d == 0) return STATUS_OK;
    LAUNCH(centre_kernel, grid_of(be, n * d, THREADS), THREADS, 0, be->stream, x, n, d, sums, y);
    TRY_LAUNCH();
    return STATUS_OK;
}
