/* Sizes of window attention's scratch memory, shared by its kernel and its driver. */
#ifndef MODELS_OPS_CPU_ATTENTION_H
#define MODELS_OPS_CPU_ATTENTION_H

#include "models/ops/ops.h"

/* Rows of L tokens and of d channels are padded to whole vectors. */
static inline int64_t round_to(int64_t n, int64_t vector) {
    return (n + vector - 1) / vector * vector;
}

enum { ATTENTION_ROWS = 4 }; /* rows of padded L: offsets, zones, maxima, sums */

/* A row of one head's table of position biases, 2 ww - 1, padded. */
static inline int64_t attention_table_row(const struct window_attention *a, int64_t vector) {
    return round_to(2 * (int64_t)a->ww - 1, vector);
}

/* The same for the kernel of bf16, in 32-bit words; see struct bf16_window. */
static inline int64_t attention_bf16_elem(int64_t l, int64_t lp, int64_t dp, bool backward) {
    int64_t pairs = (l + 1) / 2 * dp, pairs_l = (l + 1) / 2 * lp, turned = dp / 2 * lp;
    int64_t forward = ATTENTION_ROWS * lp + 4 * pairs + turned + l * lp + pairs_l + l * dp;
    return round_to(backward ? forward + 3 * pairs + turned + l * lp + 2 * pairs_l : forward, 16);
}

/* Floats that one part needs: rows, then matrices (L, padded d) and (padded d, padded L) and (L, padded L).
 */
static inline int64_t attention_buffer_elem(const struct window_attention *a, int64_t vector, bool backward) {
    int64_t l = (int64_t)a->wh * a->ww, lp = round_to(l, vector), dp = round_to(a->c / a->heads, vector);
    int64_t forward = ATTENTION_ROWS * lp + 3 * l * dp + dp * lp + l * lp;
    int64_t fp32 = round_to(backward ? forward + l * dp + dp * lp + l * lp : forward, 16);
    int64_t bf16 = a->dtype == DTYPE_BF16 ? attention_bf16_elem(l, lp, dp, backward) : 0;
    return fp32 > bf16 ? fp32 : bf16;
}

#endif
