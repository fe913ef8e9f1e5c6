#include "models/ops/ops.h"

#include <string.h>

status_t host_mask_sum(struct backend *be, const uint8_t *mask, int64_t n, double *sum) {
    (void)be;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) kept += mask[i] != 0;
    sum[0] = (double)kept;
    return STATUS_OK;
}

status_t host_mean_scale(struct backend *be, float numerator, const double *denominator, float *out) {
    (void)be;
    out[0] = denominator[0] > 0 ? (float)(numerator / denominator[0]) : 0.0f;
    return STATUS_OK;
}

status_t host_pseudo_pack(struct backend *be, const int32_t *label, const float *confidence, int64_t n,
                          struct pseudo_label *out) {
    (void)be;
    for (int64_t i = 0; i < n; i++)
        out[i] = (struct pseudo_label){.label = label[i], .confidence = confidence[i]};
    return STATUS_OK;
}

status_t host_pseudo_unpack(struct backend *be, const struct pseudo_label *in, int64_t n, float threshold,
                            int32_t *label, uint8_t *mask) {
    (void)be;
    for (int64_t i = 0; i < n; i++) {
        label[i] = in[i].label;
        mask[i] = in[i].confidence > threshold;
    }
    return STATUS_OK;
}

status_t host_gather_rows(struct backend *be, void *dst, const void *src, size_t row_bytes, int64_t n,
                          const int32_t *host_index) {
    (void)be;
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)dst + (size_t)i * row_bytes, (const char *)src + (size_t)host_index[i] * row_bytes,
               row_bytes);
    return STATUS_OK;
}
