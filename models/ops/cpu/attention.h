/* Sizes of window attention's scratch memory, shared by its kernel and its driver. */
#ifndef MODELS_OPS_CPU_ATTENTION_H
#define MODELS_OPS_CPU_ATTENTION_H

#include "models/ops/ops.h"

/* Rows of L tokens and of d channels are padded to whole vectors. */
static inline int64_t round_to(int64_t n, int64_t vector) { return (n + vector - 1) / vector * vector; }

/* Floats that one part needs: offsets (L), then matrices (L, padded d) and (d, padded L) and (L, padded L). */
static inline int64_t attention_buffer_elem(const struct window_attention *a, int64_t vector, bool backward) {
    int64_t l = (int64_t)a->wh * a->ww, d = a->c / a->heads;
    int64_t lp = round_to(l, vector), dp = round_to(d, vector);
    int64_t forward = 2 * round_to(l, vector) + 3 * l * dp + d * lp + l * lp;
    return round_to(backward ? forward + 4 * l * dp + d * lp + 3 * l * lp : forward, 16);
}

#endif
