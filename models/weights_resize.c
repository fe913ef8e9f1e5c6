/* Position tables and patch embeddings for another input size. */
#include "common/memory.h"
#include "models/weights_names.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Offsets -r .. r of the old table placed on the new one's scale: 0, +-1, +-(1+q), +-(1+q+q^2), ... with the
 * ratio q in (1.01, 1.5) at which the last comes to new_radius. at[2*radius + 1]. */
static void spread_offsets(int64_t radius, int64_t new_radius, double *at) {
    double left = 1.01, right = 1.5, q = left;
    while (right - left > 1e-6) {
        q = (left + right) / 2;
        if ((1 - pow(q, (double)radius)) / (1 - q) > (double)new_radius)
            right = q;
        else
            left = q;
    }
    at[radius] = 0;
    double reach = 1, power = 1;
    for (int64_t i = 1; i <= radius; i++) {
        at[radius + i] = reach;
        at[radius - i] = -reach;
        reach += power *= q;
    }
}

/* For every new offset: the old one below it and the weight of the one above. */
static void interpolation(const double *at, int64_t n_old, int64_t new_radius, int64_t *below,
                          double *weight) {
    for (int64_t i = 0; i <= 2 * new_radius; i++) {
        const double x = (double)(i - new_radius);
        int64_t j = 0;
        while (j + 2 < n_old && at[j + 1] <= x) j++;
        below[i] = j;
        weight[i] = n_old < 2 ? 0 : (x - at[j]) / (at[j + 1] - at[j]);
        weight[i] = fmin(1, fmax(0, weight[i]));
    }
}

status_t weights_resize_table(const float *table, int64_t old_rows, int64_t heads, int64_t wh, int64_t ww,
                              float *out) {
    const int64_t n_old = (int64_t)lround(sqrt((double)old_rows)), n_h = 2 * wh - 1, n_w = 2 * ww - 1;
    CHECK(n_old * n_old == old_rows && n_old % 2 == 1, STATUS_BAD_DATA,
          "a relative position table of %lld rows belongs to no square window", (long long)old_rows);
    const int64_t n = n_h > n_w ? n_h : n_w;
    double *work = memory_zeroed((size_t)(n_old + 2 * n), sizeof *work);
    int64_t *below = memory_zeroed((size_t)(2 * n), sizeof *below);
    if (!work || !below) free(work), free(below);
    CHECK(work && below, STATUS_NO_MEMORY, "no memory to resize a position table");
    double *at = work, *weight_h = work + n_old, *weight_w = weight_h + n;
    int64_t *below_h = below, *below_w = below + n;
    spread_offsets(n_old / 2, wh - 1, at);
    interpolation(at, n_old, wh - 1, below_h, weight_h);
    spread_offsets(n_old / 2, ww - 1, at);
    interpolation(at, n_old, ww - 1, below_w, weight_w);
    const int64_t step = n_old > 1 ? heads : 0; /* to the neighbour along a row */
    for (int64_t i = 0; i < n_h; i++)
        for (int64_t j = 0; j < n_w; j++)
            for (int64_t head = 0; head < heads; head++) {
                const float *p = table + (below_h[i] * n_old + below_w[j]) * heads + head,
                            *q = p + n_old * step;
                const double u = weight_h[i], v = weight_w[j];
                out[(i * n_w + j) * heads + head] =
                    (float)((1 - u) * ((1 - v) * p[0] + v * p[step]) + u * ((1 - v) * q[0] + v * q[step]));
            }
    free(work);
    free(below);
    return STATUS_OK;
}

static double cubic(double x) { /* Keys' kernel with a = -1/2 */
    x = fabs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* Antialiased bicubic resizing of n_old samples to n_new as a matrix (n_new, n_old). */
static void resize_matrix(int64_t n_old, int64_t n_new, double *matrix) {
    const double scale = (double)n_old / (double)n_new, stretch = fmax(scale, 1), support = 2 * stretch;
    memset(matrix, 0, sizeof *matrix * (size_t)(n_old * n_new));
    for (int64_t i = 0; i < n_new; i++) {
        const double centre = ((double)i + 0.5) * scale;
        const int64_t first = (int64_t)fmax(0, centre - support + 0.5);
        const int64_t last = (int64_t)fmin((double)n_old, centre + support + 0.5);
        double sum = 0;
        for (int64_t j = first; j < last; j++) sum += cubic(((double)j - centre + 0.5) / stretch);
        for (int64_t j = first; j < last; j++)
            matrix[i * n_old + j] = cubic(((double)j - centre + 0.5) / stretch) / sum;
    }
}

/* pinv (n_old, n_new) of the resize matrix, by its singular values. */
static status_t resize_pinv(int64_t n_old, int64_t n_new, double *pinv) {
    const lapack_int m = (lapack_int)n_new, n = (lapack_int)n_old, k = m < n ? m : n;
    double *work = memory_zeroed((size_t)(m * n + k + m * k + k * n), sizeof *work);
    CHECK(work, STATUS_NO_MEMORY, "no memory to resize a patch embedding");
    double *a = work, *s = a + m * n, *u = s + k, *vt = u + m * k;
    resize_matrix(n_old, n_new, a);
    const lapack_int info = LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', m, n, a, n, s, u, k, vt, n);
    for (lapack_int i = 0; i < n && !info; i++)
        for (lapack_int j = 0; j < m; j++) {
            double sum = 0;
            for (lapack_int l = 0; l < k; l++)
                if (s[l] > 1e-6 * s[0]) sum += vt[l * n + i] * u[j * k + l] / s[l];
            pinv[i * m + j] = sum;
        }
    free(work);
    CHECK(info == 0, STATUS_INTERNAL, "singular values of a resize matrix: LAPACK says %d", (int)info);
    return STATUS_OK;
}

status_t weights_resize_patch(const float *kernels, int64_t n, int64_t old_h, int64_t old_w, int64_t new_h,
                              int64_t new_w, float *out) {
    double *work = memory_zeroed((size_t)(old_h * new_h + old_w * new_w + new_h * old_w), sizeof *work);
    CHECK(work, STATUS_NO_MEMORY, "no memory to resize a patch embedding");
    double *down = work, *across = down + old_h * new_h, *half = across + old_w * new_w;
    status_t status;
    TRY_TO(end, resize_pinv(old_h, new_h, down));
    TRY_TO(end, resize_pinv(old_w, new_w, across));
    for (int64_t k = 0; k < n; k++, kernels += old_h * old_w, out += new_h * new_w) {
        memset(half, 0, sizeof *half * (size_t)(new_h * old_w));
        for (int64_t y = 0; y < old_h; y++)
            for (int64_t i = 0; i < new_h; i++)
                for (int64_t x = 0; x < old_w; x++)
                    half[i * old_w + x] += down[y * new_h + i] * kernels[y * old_w + x];
        for (int64_t i = 0; i < new_h; i++)
            for (int64_t j = 0; j < new_w; j++) {
                double sum = 0;
                for (int64_t x = 0; x < old_w; x++) sum += half[i * old_w + x] * across[x * new_w + j];
                out[i * new_w + j] = (float)sum;
            }
    }
end:
    free(work);
    return status;
}
