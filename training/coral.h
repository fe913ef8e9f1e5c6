/* CORAL in closed form (Sun, Feng & Saenko, AAAI 2016; METHOD.md section 3): source features take on the
 * covariance of the target.
 *
 *   C_s = cov(X_s) + ridge I,  C_t = cov(X_t) + ridge I   (over n - 1; X_s: source and labelled target, X_t:
 * unlabelled) X_s' = (X_s - mean_s) C_s^(-1/2) C_t^(1/2);   unlabelled and validation rows: X - mean_t
 *
 * Square roots by eigendecomposition in double precision (LAPACK dsyevd). */
#ifndef TRAINING_CORAL_H
#define TRAINING_CORAL_H

#include "comm/comm.h"
#include "common/status.h"

#include <stdint.h>

struct coral_transform {
    int64_t d;
    double *mean_source, *mean_target; /* (d) */
    double *sqrt_source, *sqrt_target; /* (d,d) C_s^(1/2), C_t^(1/2), symmetric */
    double *matrix;                    /* (d,d) C_s^(-1/2) C_t^(1/2) */
};

/* From this rank's rows of both sides, fp32 (n,d). Sums run over the group; the decompositions are made by
 * its rank 0 and given to all. Collective over the group. At least two rows on each side. Owned by the
 * caller. */
status_t coral_fit(struct comm *group, double ridge, int64_t d, const float *source, int64_t n_source,
                   const float *target, int64_t n_target, struct coral_transform *out);
void coral_free(struct coral_transform *transform); /* accepts a zeroed struct */

/* x (n,d) = (x - mean_s) matrix, in place. */
status_t coral_apply_source(const struct coral_transform *transform, float *x, int64_t n);

/* x (n,d) = x - mean_t, in place. */
void coral_centre_target(const struct coral_transform *transform, float *x, int64_t n);

/* Every row divided by max(its L2 norm, 1e-12). */
void normalise_rows(float *x, int64_t n, int64_t d);

#endif
