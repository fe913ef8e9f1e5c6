/* Slots of ops_checked that live in checked_small.c; checked.c has the rest and the table. */
#ifndef MODELS_OPS_REF_CHECKED_SLOTS_H
#define MODELS_OPS_REF_CHECKED_SLOTS_H

#include "models/ops/ref/checked_call.h"

/* Check, call the inner table's slot, check again, return. */
#define FORWARD(be, call, slot_call)                                                                         \
    do {                                                                                                     \
        TRY(call_begin((be), &(call)));                                                                      \
        return call_end((be), &(call), (be)->inner->slot_call);                                              \
    } while (0)

status_t checked_add(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n_elem);
status_t checked_scale(struct backend *be, float *x, float factor, int64_t n_elem);
status_t checked_cast(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                      int64_t n_elem);
status_t checked_normalise(struct backend *be, enum dtype dtype, void *y, const uint8_t *x, int64_t n_pixels);
status_t checked_dropout(struct backend *be, float *y, const float *x, int64_t n, int64_t d, float rate,
                         struct rng_key key, const uint32_t *host_items);
status_t checked_cross_entropy(struct backend *be, const struct cross_entropy *a);
status_t checked_soft_cross_entropy(struct backend *be, const struct soft_cross_entropy *a);
status_t checked_confidence(struct backend *be, const struct confidence *a);
status_t checked_gemm(struct backend *be, const struct gemm *a);
status_t checked_column_sums(struct backend *be, const float *x, int64_t n, int64_t d, double *sums);
status_t checked_centre(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums,
                        float *y);
status_t checked_mask_sum(struct backend *be, const uint8_t *mask, int64_t n, double *sum);
status_t checked_gather_rows(struct backend *be, void *dst, const void *src, size_t row_bytes, int64_t n,
                             const int32_t *host_index);
status_t checked_mean_scale(struct backend *be, float numerator, const double *denominator, float *out);
status_t checked_pseudo_pack(struct backend *be, const int32_t *label, const float *confidence, int64_t n,
                             struct pseudo_label *out);
status_t checked_pseudo_unpack(struct backend *be, const struct pseudo_label *in, int64_t n, float threshold,
                               int32_t *label, uint8_t *mask);
status_t checked_sgd(struct backend *be, const struct optimiser_step *a);
status_t checked_adamw(struct backend *be, const struct optimiser_step *a);
status_t checked_square_sum(struct backend *be, const float *x, int64_t n_elem, double *sum);
status_t checked_clip_factor(struct backend *be, const double *sum, float clip, float *grad_scale,
                             int32_t *skip);

#endif
