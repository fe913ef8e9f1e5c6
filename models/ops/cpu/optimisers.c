#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

#include <math.h>

static void step(struct backend *be, const struct optimiser_step *a, part_fn kernel) {
    if (a->skip && *a->skip) return;
    struct optimiser_arguments k = {a, a->grad_scale ? *a->grad_scale : 1.0f};
    parallel_for(be, a->end - a->begin, 0.6, kernel, &k);
}

status_t cpu_sgd(struct backend *be, const struct optimiser_step *a) {
    step(be, a, SIMD_PICK(kernel_sgd));
    return STATUS_OK;
}

status_t cpu_adamw(struct backend *be, const struct optimiser_step *a) {
    step(be, a, SIMD_PICK(kernel_adamw));
    return STATUS_OK;
}

#define N_PIECES 256 /* fixed, so that the sum does not depend on the number of threads */

status_t cpu_square_sum(struct backend *be, const float *x, int64_t n_elem, double *sum) {
    double sums[2 * N_PIECES];
    struct square_sum_arguments k = {x, n_elem, (n_elem + N_PIECES - 1) / N_PIECES, sums};
    parallel_for(be, N_PIECES, 0.15 * (double)k.piece, SIMD_PICK(kernel_square_sum), &k);
    sum[0] = sum[1] = 0;
    for (int i = 0; i < N_PIECES; i++) {
        sum[0] += sums[2 * i];
        sum[1] += sums[2 * i + 1];
    }
    return STATUS_OK;
}

status_t cpu_clip_factor(struct backend *be, const double *sum, float clip, float *grad_scale,
                         int32_t *skip) {
    (void)be;
    double norm = sqrt(sum[0]), factor = clip > 0 ? (double)clip / (norm + 1e-6) : 1;
    *grad_scale = factor < 1 ? (float)factor : 1.0f;
    *skip = sum[1] > 0 || !isfinite(sum[0]);
    return STATUS_OK;
}
