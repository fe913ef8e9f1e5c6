/* ops_checked: elementwise helpers, losses and optimisers. */
#include "models/ops/ref/checked_slots.h"

status_t checked_add(struct backend *be, enum dtype dtype, void *y, const void *x, int64_t n_elem) {
    struct call c = {.operation = "add"};
    call_operand(&c, ROLE_ADD, "y", operand_type(dtype), y, n_elem);
    call_operand(&c, ROLE_IN, "x", operand_type(dtype), x, n_elem);
    FORWARD(be, c, add(be->inner_be, dtype, y, x, n_elem));
}

status_t checked_scale(struct backend *be, float *x, float factor, int64_t n_elem) {
    struct call c = {.operation = "scale"};
    call_operand(&c, ROLE_ADD, "x", OPERAND_F32, x, n_elem);
    FORWARD(be, c, scale(be->inner_be, x, factor, n_elem));
}

status_t checked_cast(struct backend *be, enum dtype to, void *y, enum dtype from, const void *x,
                      int64_t n_elem) {
    struct call c = {.operation = "cast"};
    call_operand(&c, ROLE_OUT, "y", operand_type(to), y, n_elem);
    call_operand(&c, ROLE_IN, "x", operand_type(from), x, n_elem);
    FORWARD(be, c, cast(be->inner_be, to, y, from, x, n_elem));
}

status_t checked_normalise(struct backend *be, enum dtype dtype, void *y, const uint8_t *x,
                           int64_t n_pixels) {
    struct call c = {.operation = "normalise"};
    call_operand(&c, ROLE_OUT, "y", operand_type(dtype), y, 3 * n_pixels);
    call_operand(&c, ROLE_IN, "x", OPERAND_BYTES, x, 3 * n_pixels);
    FORWARD(be, c, normalise(be->inner_be, dtype, y, x, n_pixels));
}

status_t checked_dropout(struct backend *be, float *y, const float *x, int64_t n, int64_t d, float rate,
                         struct rng_key key, const uint32_t *host_items) {
    struct call c = {.operation = "dropout"};
    call_operand(&c, ROLE_OUT, "y", OPERAND_F32, y, n * d)->may_alias = true;
    call_operand(&c, ROLE_IN, "x", OPERAND_F32, x, n * d)->may_alias = true;
    FORWARD(be, c, dropout(be->inner_be, y, x, n, d, rate, key, host_items));
}

/* dlogits and loss_sum, which all losses have. */
static void loss_outputs(struct call *c, float *dlogits, bool accumulate, int64_t n, double *loss_sum) {
    call_optional(c, accumulate ? ROLE_ADD : ROLE_OUT, "dlogits", OPERAND_F32, dlogits, n);
    call_optional(c, ROLE_ADD, "loss_sum", OPERAND_F64, loss_sum, 1);
}

status_t checked_cross_entropy(struct backend *be, const struct cross_entropy *a) {
    struct call c = {.operation = "cross_entropy"};
    call_operand(&c, ROLE_IN, "logits", OPERAND_F32, a->logits, a->n * a->k);
    call_operand(&c, ROLE_IN, "labels", OPERAND_I32, a->labels, a->n);
    call_optional(&c, ROLE_IN, "mask", OPERAND_U8, a->mask, a->n);
    call_optional(&c, ROLE_IN, "scale_device", OPERAND_F32, a->scale_device, 1);
    call_optional(&c, ROLE_OUT, "rows", OPERAND_F32, a->rows, a->n);
    loss_outputs(&c, a->dlogits, a->dlogits_accumulate, a->n * a->k, a->loss_sum);
    FORWARD(be, c, cross_entropy(be->inner_be, a));
}

status_t checked_soft_cross_entropy(struct backend *be, const struct soft_cross_entropy *a) {
    struct call c = {.operation = "soft_cross_entropy"};
    call_operand(&c, ROLE_IN, "logits", OPERAND_F32, a->logits, a->n * a->k);
    call_operand(&c, ROLE_IN, "teacher", OPERAND_F32, a->teacher, a->n * a->k);
    call_optional(&c, ROLE_IN, "mask", OPERAND_U8, a->mask, a->n);
    loss_outputs(&c, a->dlogits, a->dlogits_accumulate, a->n * a->k, a->loss_sum);
    FORWARD(be, c, soft_cross_entropy(be->inner_be, a));
}

status_t checked_confidence(struct backend *be, const struct confidence *a) {
    struct call c = {.operation = "confidence"};
    call_operand(&c, ROLE_IN, "logits", OPERAND_F32, a->logits, a->n * a->k);
    call_optional(&c, ROLE_OUT, "confidence", OPERAND_F32, a->confidence, a->n);
    call_optional(&c, ROLE_OUT, "probabilities", OPERAND_F32, a->probabilities, a->n * a->k);
    call_optional(&c, ROLE_OUT, "label", OPERAND_I32, a->label, a->n);
    call_optional(&c, ROLE_OUT, "mask", OPERAND_U8, a->mask, a->n);
    FORWARD(be, c, confidence(be->inner_be, a));
}

static int64_t matrix_elements(int64_t rows, int64_t columns, int64_t stride) {
    return rows > 0 && columns > 0 ? (rows - 1) * stride + columns : 0;
}

status_t checked_gemm(struct backend *be, const struct gemm *a) {
    struct call c = {.operation = "gemm"};
    const enum operand_type type = operand_type(a->dtype);
    const int64_t n_a =
        a->transpose_a ? matrix_elements(a->k, a->m, a->lda) : matrix_elements(a->m, a->k, a->lda);
    const int64_t n_b =
        a->transpose_b ? matrix_elements(a->n, a->k, a->ldb) : matrix_elements(a->k, a->n, a->ldb);
    /* With gaps between its rows C cannot be filled whole. */
    const bool fills_all = a->beta == 0.0f && a->ldc == a->n;
    call_operand(&c, ROLE_IN, "a", type, a->a, n_a);
    call_operand(&c, ROLE_IN, "b", type, a->b, n_b);
    call_operand(&c, fills_all ? ROLE_OUT : ROLE_ADD, "c", OPERAND_F32, a->c,
                 matrix_elements(a->m, a->n, a->ldc));
    FORWARD(be, c, gemm(be->inner_be, a));
}

status_t checked_column_sums(struct backend *be, const float *x, int64_t n, int64_t d, double *sums) {
    struct call c = {.operation = "column_sums"};
    call_operand(&c, ROLE_IN, "x", OPERAND_F32, x, n * d);
    call_operand(&c, ROLE_OUT, "sums", OPERAND_F64, sums, 1 + d);
    FORWARD(be, c, column_sums(be->inner_be, x, n, d, sums));
}

status_t checked_centre(struct backend *be, const float *x, int64_t n, int64_t d, const double *sums,
                        float *y) {
    struct call c = {.operation = "centre"};
    call_operand(&c, ROLE_IN, "x", OPERAND_F32, x, n * d)->may_alias = true;
    call_operand(&c, ROLE_IN, "sums", OPERAND_F64, sums, 1 + d);
    call_operand(&c, ROLE_OUT, "y", OPERAND_F32, y, n * d)->may_alias = true;
    FORWARD(be, c, centre(be->inner_be, x, n, d, sums, y));
}

status_t checked_mask_sum(struct backend *be, const uint8_t *mask, int64_t n, double *sum) {
    struct call c = {.operation = "mask_sum"};
    call_operand(&c, ROLE_IN, "mask", OPERAND_U8, mask, n);
    call_operand(&c, ROLE_OUT, "sum", OPERAND_F64, sum, 1);
    FORWARD(be, c, mask_sum(be->inner_be, mask, n, sum));
}

status_t checked_gather_rows(struct backend *be, void *dst, const void *src, size_t row_bytes, int64_t n,
                             const int32_t *host_index) {
    struct call c = {.operation = "gather_rows"};
    int64_t n_src = 0;
    for (int64_t i = 0; i < n; i++) n_src = host_index[i] >= n_src ? host_index[i] + 1 : n_src;
    call_operand(&c, ROLE_IN, "src", OPERAND_BYTES, src, n_src * (int64_t)row_bytes);
    call_operand(&c, ROLE_OUT, "dst", OPERAND_BYTES, dst, n * (int64_t)row_bytes);
    FORWARD(be, c, gather_rows(be->inner_be, dst, src, row_bytes, n, host_index));
}

status_t checked_mean_scale(struct backend *be, float numerator, const double *denominator, float *out) {
    struct call c = {.operation = "mean_scale"};
    call_operand(&c, ROLE_IN, "denominator", OPERAND_F64, denominator, 1);
    call_operand(&c, ROLE_OUT, "out", OPERAND_F32, out, 1);
    FORWARD(be, c, mean_scale(be->inner_be, numerator, denominator, out));
}

status_t checked_pseudo_pack(struct backend *be, const int32_t *label, const float *confidence, int64_t n,
                             struct pseudo_label *out) {
    struct call c = {.operation = "pseudo_pack"};
    call_operand(&c, ROLE_IN, "label", OPERAND_I32, label, n);
    call_operand(&c, ROLE_IN, "confidence", OPERAND_F32, confidence, n);
    call_operand(&c, ROLE_OUT, "out", OPERAND_BYTES, out, n * (int64_t)sizeof *out);
    FORWARD(be, c, pseudo_pack(be->inner_be, label, confidence, n, out));
}

status_t checked_pseudo_unpack(struct backend *be, const struct pseudo_label *in, int64_t n, float threshold,
                               int32_t *label, uint8_t *mask) {
    struct call c = {.operation = "pseudo_unpack"};
    call_operand(&c, ROLE_IN, "in", OPERAND_BYTES, in, n * (int64_t)sizeof *in);
    call_operand(&c, ROLE_OUT, "label", OPERAND_I32, label, n);
    call_operand(&c, ROLE_OUT, "mask", OPERAND_U8, mask, n);
    FORWARD(be, c, pseudo_unpack(be->inner_be, in, n, threshold, label, mask));
}

/* Gaps between segments stay as they are, hence "+=" for all that is written. */
static void optimiser_operands(struct call *c, const struct optimiser_step *a, bool two_states) {
    const int64_t n = a->end - a->begin;
    call_operand(c, ROLE_ADD, "params", OPERAND_F32, a->params + a->begin, n);
    call_operand(c, ROLE_IN, "grads", OPERAND_F32, a->grads + a->begin, n);
    /* The first step of SGD does not read its state. */
    call_operand(c, two_states || !a->first_step ? ROLE_ADD : ROLE_OUT, "state1", OPERAND_F32, a->state1, n);
    if (two_states) call_operand(c, ROLE_ADD, "state2", OPERAND_F32, a->state2, n);
    if (a->shadow) call_operand(c, ROLE_ADD, "shadow", OPERAND_BF16, a->shadow + a->begin, n);
    call_optional(c, ROLE_ADD, "ema", OPERAND_F32, a->ema, n);
    call_optional(c, ROLE_IN, "grad_scale", OPERAND_F32, a->grad_scale, 1);
    call_optional(c, ROLE_IN, "skip", OPERAND_I32, a->skip, 1);
}

/* Do the segments cover [begin, end), and is the step certain? Then a first step of SGD writes all of its
 * state. */
static bool writes_all_state(const struct optimiser_step *a) {
    int64_t covered = 0;
    for (int32_t i = 0; i < a->n_segments; i++) {
        const struct optimiser_segment *s = &a->segments[i];
        const int64_t begin = s->offset > a->begin ? s->offset : a->begin;
        const int64_t end = s->offset + s->n_elem < a->end ? s->offset + s->n_elem : a->end;
        if (end > begin) covered += end - begin;
    }
    return !a->skip && covered == a->end - a->begin;
}

status_t checked_sgd(struct backend *be, const struct optimiser_step *a) {
    struct call c = {.operation = "sgd"};
    optimiser_operands(&c, a, false);
    for (int32_t i = 0; i < c.n; i++)
        if (c.operands[i].role == ROLE_OUT && !writes_all_state(a)) c.operands[i].role = ROLE_ADD;
    FORWARD(be, c, sgd(be->inner_be, a));
}

status_t checked_adamw(struct backend *be, const struct optimiser_step *a) {
    struct call c = {.operation = "adamw"};
    optimiser_operands(&c, a, true);
    FORWARD(be, c, adamw(be->inner_be, a));
}

status_t checked_square_sum(struct backend *be, const float *x, int64_t n_elem, double *sum) {
    struct call c = {.operation = "square_sum"};
    call_operand(&c, ROLE_IN, "x", OPERAND_F32, x, n_elem);
    call_operand(&c, ROLE_OUT, "sum", OPERAND_F64, sum, 2);
    FORWARD(be, c, square_sum(be->inner_be, x, n_elem, sum));
}

status_t checked_clip_factor(struct backend *be, const double *sum, float clip, float *grad_scale,
                             int32_t *skip) {
    struct call c = {.operation = "clip_factor"};
    call_operand(&c, ROLE_IN, "sum", OPERAND_F64, sum, 2);
    call_operand(&c, ROLE_OUT, "grad_scale", OPERAND_F32, grad_scale, 1);
    call_operand(&c, ROLE_OUT, "skip", OPERAND_I32, skip, 1);
    FORWARD(be, c, clip_factor(be->inner_be, sum, clip, grad_scale, skip));
}
