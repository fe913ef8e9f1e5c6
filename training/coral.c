#include "training/coral.h"

#include "common/memory.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

static double *new_doubles(int64_t n) {
    return memory_zeroed((size_t)n, sizeof(double));
}

static status_t sum_over(struct comm *group, double *values, int64_t n) {
    return comm_size(group) > 1 ? comm_all_reduce(comm_host_side(group), values, n, COMM_F64, COMM_SUM)
                                : STATUS_OK;
}

/* mean (d) over the group's rows; *n_all their number. */
static status_t group_mean(struct comm *group, const float *x, int64_t n, int64_t d, double *mean,
                           double *n_all) {
    double *sums = new_doubles(d + 1);
    CHECK(sums, STATUS_NO_MEMORY, "out of memory for CORAL");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) sums[j] += (double)x[i * d + j];
    sums[d] = (double)n;
    const status_t status = sum_over(group, sums, d + 1);
    *n_all = sums[d];
    for (int64_t j = 0; j < d; j++) mean[j] = sums[j] / (*n_all > 0 ? *n_all : 1);
    free(sums);
    TRY(status);
    CHECK(*n_all >= 2, STATUS_BAD_DATA, "CORAL needs at least two images on each side, got %.0f", *n_all);
    return STATUS_OK;
}

enum { BLOCK_ROWS = 256 }; /* rows turned into doubles at a time */

/* c (d,d) = cov(x) + ridge I over the group's rows. */
static status_t covariance(struct comm *group, const float *x, int64_t n, int64_t d, const double *mean,
                           double n_all, double ridge, double *c) {
    double *rows = new_doubles(BLOCK_ROWS * d);
    CHECK(rows, STATUS_NO_MEMORY, "out of memory for CORAL");
    memset(c, 0, (size_t)(d * d) * sizeof *c);
    for (int64_t first = 0; first < n; first += BLOCK_ROWS) {
        const int64_t m = n - first < BLOCK_ROWS ? n - first : BLOCK_ROWS;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < d; j++) rows[i * d + j] = (double)x[(first + i) * d + j] - mean[j];
        cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (int)d, (int)m, 1.0, rows, (int)d, 1.0, c, (int)d);
        comm_poke(group);
    }
    free(rows);
    TRY(sum_over(group, c, d * d));
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = i; j < d; j++) {
            c[i * d + j] = c[i * d + j] / (n_all - 1) + (i == j ? ridge : 0);
            c[j * d + i] = c[i * d + j];
        }
    return STATUS_OK;
}

/* root (d,d) = c^power for power 1/2 or -1/2, from eigenvectors (columns of v) and eigenvalues. */
static void power_of(const double *v, const double *eigenvalues, int64_t d, double power, double *scaled,
                     double *root) {
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < d; j++)
            scaled[i * d + j] = v[i * d + j] * pow(fmax(eigenvalues[j], 1e-300), power);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)d, (int)d, (int)d, 1.0, scaled, (int)d, v,
                (int)d, 0.0, root, (int)d);
}

/* Eigenvectors replace c. */
static status_t decompose(double *c, int64_t d, double *eigenvalues) {
    const int info = LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'U', (int)d, c, (int)d, eigenvalues);
    CHECK(info == 0, STATUS_INTERNAL,
          "CORAL: the eigendecomposition of a %lld x %lld covariance failed (dsyevd: %d)", (long long)d,
          (long long)d, info);
    CHECK(eigenvalues[0] > 0, STATUS_BAD_DATA,
          "CORAL: a covariance is not positive definite (smallest eigenvalue %g); raise heads.coral.ridge",
          eigenvalues[0]);
    return STATUS_OK;
}

/* On the group's rank 0: the roots and the matrix from the covariances, which are overwritten. */
static status_t make_roots(struct coral_transform *t, double *c_source, double *c_target) {
    const int64_t d = t->d;
    double *scaled = new_doubles(d * d), *inverse = new_doubles(d * d), *eigenvalues = new_doubles(d);
    status_t status = STATUS_OK;
    CHECK_TO(done, scaled && inverse && eigenvalues, STATUS_NO_MEMORY,
             "out of memory for CORAL of %lld features", (long long)d);
    TRY_TO(done, decompose(c_source, d, eigenvalues));
    power_of(c_source, eigenvalues, d, 0.5, scaled, t->sqrt_source);
    power_of(c_source, eigenvalues, d, -0.5, scaled, inverse);
    TRY_TO(done, decompose(c_target, d, eigenvalues));
    power_of(c_target, eigenvalues, d, 0.5, scaled, t->sqrt_target);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)d, (int)d, (int)d, 1.0, inverse, (int)d,
                t->sqrt_target, (int)d, 0.0, t->matrix, (int)d);
done:
    free(scaled);
    free(inverse);
    free(eigenvalues);
    return status;
}

static status_t fit(struct comm *group, double ridge, const float *source, int64_t n_source,
                    const float *target, int64_t n_target, struct coral_transform *t, double *c_source,
                    double *c_target) {
    const int64_t d = t->d;
    double n_s, n_t;
    TRY(group_mean(group, source, n_source, d, t->mean_source, &n_s));
    TRY(group_mean(group, target, n_target, d, t->mean_target, &n_t));
    TRY(covariance(group, source, n_source, d, t->mean_source, n_s, ridge, c_source));
    TRY(covariance(group, target, n_target, d, t->mean_target, n_t, ridge, c_target));
    if (comm_rank(group) == 0) TRY(make_roots(t, c_source, c_target));
    double *const shared[] = {t->sqrt_source, t->sqrt_target, t->matrix};
    for (int i = 0; i < 3; i++) TRY(comm_broadcast(comm_host_side(group), 0, shared[i], d * d, COMM_F64));
    return STATUS_OK;
}

status_t coral_fit(struct comm *group, double ridge, int64_t d, const float *source, int64_t n_source,
                   const float *target, int64_t n_target, struct coral_transform *out) {
    struct coral_transform t = {.d = d};
    double *c_source = new_doubles(d * d), *c_target = new_doubles(d * d);
    status_t status = STATUS_OK;
    t.mean_source = new_doubles(d);
    t.mean_target = new_doubles(d);
    t.sqrt_source = new_doubles(d * d);
    t.sqrt_target = new_doubles(d * d);
    t.matrix = new_doubles(d * d);
    CHECK_TO(done,
             c_source && c_target && t.mean_source && t.mean_target && t.sqrt_source && t.sqrt_target &&
                 t.matrix,
             STATUS_NO_MEMORY, "out of memory for CORAL of %lld features", (long long)d);
    status = fit(group, ridge, source, n_source, target, n_target, &t, c_source, c_target);
done:
    free(c_source);
    free(c_target);
    if (status == STATUS_OK)
        *out = t;
    else
        coral_free(&t);
    return status;
}

void coral_free(struct coral_transform *t) {
    free(t->mean_source);
    free(t->mean_target);
    free(t->sqrt_source);
    free(t->sqrt_target);
    free(t->matrix);
    memset(t, 0, sizeof *t);
}

status_t coral_apply_source(const struct coral_transform *t, float *x, int64_t n) {
    const int64_t d = t->d;
    double *rows = new_doubles(BLOCK_ROWS * d), *moved = new_doubles(BLOCK_ROWS * d);
    status_t status = STATUS_OK;
    CHECK_TO(done, rows && moved, STATUS_NO_MEMORY, "out of memory for CORAL");
    for (int64_t first = 0; first < n; first += BLOCK_ROWS) {
        const int64_t m = n - first < BLOCK_ROWS ? n - first : BLOCK_ROWS;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < d; j++)
                rows[i * d + j] = (double)x[(first + i) * d + j] - t->mean_source[j];
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)d, (int)d, 1.0, rows, (int)d,
                    t->matrix, (int)d, 0.0, moved, (int)d);
        for (int64_t i = 0; i < m * d; i++) x[first * d + i] = (float)moved[i];
    }
done:
    free(rows);
    free(moved);
    return status;
}

void coral_centre_target(const struct coral_transform *t, float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < t->d; j++)
            x[i * t->d + j] = (float)((double)x[i * t->d + j] - t->mean_target[j]);
}

void normalise_rows(float *x, int64_t n, int64_t d) {
    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        for (int64_t j = 0; j < d; j++) square += (double)x[i * d + j] * (double)x[i * d + j];
        const double scale = 1 / fmax(sqrt(square), 1e-12);
        for (int64_t j = 0; j < d; j++) x[i * d + j] = (float)((double)x[i * d + j] * scale);
    }
}
