/* Elementwise helpers of ops_ref. */
#include "models/ops/ref/storage.h"

static status_t ref_add(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n_elem) {
    (void)be;
    for (int64_t i = 0; i < n_elem; i++) store(dtype, y, i, load(dtype, y, i) + load(dtype, x, i));
    return STATUS_OK;
}

static status_t ref_scale(struct backend *be, float *x, float factor, int64_t n_elem) {
    (void)be;
    for (int64_t i = 0; i < n_elem; i++) set_real(x, i, real_at(x, i) * (double)factor);
    return STATUS_OK;
}

static status_t ref_cast(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                         int64_t n_elem) {
    (void)be;
    for (int64_t i = 0; i < n_elem; i++) store(to, y, i, load(from, x, i));
    return STATUS_OK;
}

static status_t ref_normalise(struct backend *be, enum dtype dtype, void *y, const uint8_t *x,
                              int64_t n_pixels) {
    (void)be;
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    for (int64_t i = 0; i < 3 * n_pixels; i++) store(dtype, y, i, (x[i] / 255.0 - mean[i % 3]) / std[i % 3]);
    return STATUS_OK;
}

static status_t ref_dropout(struct backend *be, float *y, const float *x, int64_t n, int64_t d, float rate,
                            struct rng_key key, const uint32_t *host_items) {
    (void)be;
    for (int64_t i = 0; i < n; i++) {
        key.item = host_items ? host_items[i] : (uint32_t)i;
        struct rng rng = rng_start(key);
        for (int64_t j = 0; j < d; j++) {
            const bool kept = rng_float(&rng) >= rate;
            set_real(y, i * d + j, kept ? real_at(x, i * d + j) / (1.0 - (double)rate) : 0.0);
        }
    }
    return STATUS_OK;
}
