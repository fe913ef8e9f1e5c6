/* Deep CORAL (Sun & Saenko, ECCV 2016 workshops; METHOD.md section 4): the distance of the covariances of
 * source and target features, L = || cov(f_s) - cov(f_t) ||_F^2 / (4 d^2),   cov over n - 1, with means and
 * covariances over the rows of the whole group. With X centred by the group's mean and G = cov(f_s) -
 * cov(f_t):   dL/df_s = X_s G / (d^2 (n_s - 1)),   dL/df_t = -X_t G / (d^2 (n_t - 1)) (G is symmetric; the
 * mean's own gradient vanishes because the columns of X add up to 0). */
#ifndef TRAINING_DEEP_CORAL_H
#define TRAINING_DEEP_CORAL_H

#include "models/net.h"

/* Sum n floats of backend memory over the group, in place; the fp32 sibling of reduce_fn. */
typedef status_t (*reduce_f32_fn)(void *context, float *values, int64_t n);

/* Working memory for up to n_source + n_target rows of d features; backend memory. */
struct deep_coral_buffers {
    double *sums;               /* (2 (1 + d)): counts and column sums of both sides */
    float *x_source, *x_target; /* centred rows */
    float *difference;          /* (d,d) */
    double *square;             /* (2) "=": || difference ||^2 and its number of non-finite entries */
    int64_t n_source, n_target, d;
    void *block;
};

status_t deep_coral_buffers_new(const struct ops *ops, struct backend *be, int64_t n_source, int64_t n_target,
                                int64_t d, struct deep_coral_buffers *out);
void deep_coral_buffers_free(const struct ops *ops, struct backend *be, struct deep_coral_buffers *buffers);

struct deep_coral {
    const struct ops *ops;
    struct backend *be;
    const float *source, *target; /* (n_source,d), (n_target,d) of this rank */
    float *dsource, *dtarget;     /* the same: += weight * dL/df */
    int64_t n_source_global, n_target_global;
    float weight;     /* lambda_coral */
    reduce_fn reduce; /* over the group; NULL: alone */
    reduce_f32_fn reduce_f32;
    void *reduce_context;
};

/* Collective over the group: two reductions (2 (1 + d) doubles; d^2 floats). With fewer than two rows on
 * either side the loss is 0. b->square[0] holds || G ||^2 afterwards: L = square / (4 d^2). */
status_t deep_coral(const struct deep_coral *a, struct deep_coral_buffers *b);

#endif
