#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

void SIMD_NAME(kernel_pool)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct pool_arguments *a = arguments;
    float inverse = a->hw > 0 ? 1.0f / (float)a->hw : 0.0f;
    for (int64_t image = begin; image < end; image++) {
        for (int64_t c = 0; c < a->c; c += VL) {
            int64_t n = a->c - c, first = image * a->hw * a->c + c;
            vf even = v_zero(), odd = v_zero();
            for (int64_t p = 0; p + 1 < a->hw; p += 2) {
                even += load_part(a->x, first + p * a->c, n, a->type);
                odd += load_part(a->x, first + (p + 1) * a->c, n, a->type);
            }
            if (a->hw % 2) even += load_part(a->x, first + (a->hw - 1) * a->c, n, a->type);
            store_part(a->y, image * a->c + c, (even + odd) * inverse, n, DTYPE_F32);
        }
    }
}

void SIMD_NAME(kernel_pool_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct pool_arguments *a = arguments;
    float inverse = a->hw > 0 ? 1.0f / (float)a->hw : 0.0f;
    for (int64_t image = begin; image < end; image++) {
        for (int64_t p = 0; p < a->hw; p++) {
            for (int64_t c = 0; c < a->c; c += VL) {
                int64_t n = a->c - c;
                vf g = load_part(a->dy, image * a->c + c, n, DTYPE_F32) * inverse;
                store_part(a->dx, (image * a->hw + p) * a->c + c, g, n, a->type);
            }
        }
    }
}
