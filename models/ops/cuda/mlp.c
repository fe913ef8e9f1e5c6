/* The two-layer perceptron. The hidden rows are computed whole, in scratch: they go through memory once
 * between the two products.
 *
 * Backward, with r the row's drop-path factor, gs = gamma * w2 (a pass over the weights instead of one over
 * dy): dh = dy gs;  dpre = r dh gelu'(pre), h = r gelu(pre), db1 += sum dpre  (one pass); M = dy^T h (the
 * factors r are in h), s = sum r dy;  dw2 += gamma M, db2 += gamma s, dgamma as in ops.h; dw1 += dpre^T x; dx
 * = dpre w1. */
#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/linear.h"
#include "models/ops/cuda/rows.h"

struct mlp_room {
    void *bias;     /* b1 or b2 as bf16 */
    void *hidden;   /* (T,hidden): h forward; dh, then dpre backward */
    void *z;        /* forward: (T,C) second product where y must keep the residual */
    void *h;        /* backward: (T,hidden) */
    void *w2;       /* backward: (C,hidden) gamma * w2 */
    float *m, *sum; /* backward: (C,hidden), (C) */
};

static void mlp_forward_room(const struct mlp *a, struct pieces *p, struct mlp_room *room) {
    const size_t element = dtype_bytes(a->dtype);
    const int64_t longest = a->hidden > a->channels ? a->hidden : a->channels;
    room->bias = take(p, a->dtype == DTYPE_BF16 ? (size_t)longest * 2 : 0);
    room->hidden = take(p, (size_t)(a->rows * a->hidden) * element);
    room->z = take(p, (size_t)(a->rows * a->channels) * element);
}

static void mlp_backward_room(const struct mlp *a, struct pieces *p, struct mlp_room *room) {
    const size_t element = dtype_bytes(a->dtype);
    room->hidden = take(p, (size_t)(a->rows * a->hidden) * element);
    room->h = take(p, (size_t)(a->rows * a->hidden) * element);
    room->w2 = take(p, (size_t)(a->channels * a->hidden) * element);
    room->m = take(p, (size_t)(a->channels * a->hidden) * sizeof(float));
    room->sum = take(p, (size_t)a->channels * sizeof(float));
}

size_t cuda_mlp_scratch(struct backend *be, const struct mlp *a, bool train) {
    (void)be;
    struct mlp_room room;
    struct pieces forward = {.base = NULL}, backward = {.base = NULL};
    mlp_forward_room(a, &forward, &room);
    if (train) mlp_backward_room(a, &backward, &room);
    return forward.used > backward.used ? forward.used : backward.used;
}

static struct layer first_layer(const struct mlp *a) {
    return (struct layer){
        .dtype = a->dtype, .rows = a->rows, .in = a->channels, .out = a->hidden, .x = a->x, .w = a->w1};
}

static struct layer second_layer(const struct mlp *a, const void *h, const void *w2) {
    return (struct layer){
        .dtype = a->dtype, .rows = a->rows, .in = a->hidden, .out = a->channels, .x = h, .w = w2};
}

status_t cuda_mlp_forward(struct backend *be, const struct mlp *a, void *y, void *scratch) {
    struct pieces p = {.base = scratch};
    struct mlp_room room;
    const void *bias;
    if (a->rows == 0) return STATUS_OK;
    mlp_forward_room(a, &p, &room);
    const struct layer first = first_layer(a), second = second_layer(a, room.hidden, a->w2);
    void *pre = a->pre ? a->pre : room.hidden;
    TRY(layer_bias(be, a->dtype, a->b1, a->hidden, room.bias, &bias));
    TRY(layer_forward(be, &first, bias, NULL, pre));
    TRY(gelu_forward(be, a->dtype, room.hidden, pre, a->rows * a->hidden));
    if (!a->gamma && !a->row_scale) {
        TRY(layer_bias(be, a->dtype, a->b2, a->channels, room.bias, &bias));
        return layer_forward(be, &second, bias, a->residual, y);
    }
    void *z = a->residual == y ? room.z : y;
    TRY(layer_forward(be, &second, NULL, NULL, z));
    const struct row_epilogue epilogue = {.dtype = a->dtype,
                                          .rows = a->rows,
                                          .columns = a->channels,
                                          .rows_per_image = a->rows_per_image,
                                          .z = z,
                                          .residual = a->residual,
                                          .bias = a->b2,
                                          .gamma = a->gamma,
                                          .row_scale = a->row_scale,
                                          .y = y};
    return rows_epilogue(be, &epilogue);
}

/* *w2 = gamma * w2, or w2 itself without layer scale. */
static status_t scaled_w2(struct backend *be, const struct mlp *a, void *room, const void **w2) {
    *w2 = a->w2;
    if (!a->gamma) return STATUS_OK;
    *w2 = room;
    const struct row_epilogue scale = {.dtype = a->dtype,
                                       .rows = a->channels,
                                       .columns = a->hidden,
                                       .rows_per_image = 1,
                                       .z = a->w2,
                                       .row_scale = a->gamma,
                                       .y = room};
    return rows_epilogue(be, &scale);
}

/* Gradients of w2, b2 and gamma. */
static status_t second_layer_backward(struct backend *be, const struct mlp *a, const struct mlp_grad *g,
                                      const struct mlp_room *room) {
    const struct layer second = second_layer(a, room->h, a->w2);
    const bool scaled = a->gamma != NULL;
    if (g->db2 || (scaled && g->dgamma)) {
        const struct row_sums sums = {.dtype = a->dtype,
                                      .rows = a->rows,
                                      .columns = a->channels,
                                      .rows_per_image = a->rows_per_image,
                                      .x = g->dy,
                                      .row_scale = a->row_scale,
                                      .sum = scaled ? room->sum : g->db2,
                                      .accumulate = !scaled};
        TRY(rows_sum(be, &sums));
    }
    if (!scaled) return g->dw2 ? layer_dw(be, &second, g->dy, g->dw2, true) : STATUS_OK;
    if (g->dw2 || g->dgamma) TRY(layer_dw(be, &second, g->dy, room->m, false));
    const struct layer_scale_grad scale = {.dtype = a->dtype,
                                           .channels = a->channels,
                                           .hidden = a->hidden,
                                           .m = room->m,
                                           .s = room->sum,
                                           .gamma = a->gamma,
                                           .b2 = a->b2,
                                           .w2 = a->w2,
                                           .dw2 = g->dw2,
                                           .db2 = g->db2,
                                           .dgamma = g->dgamma};
    return layer_scale_backward(be, &scale);
}

status_t cuda_mlp_backward(struct backend *be, const struct mlp *a, const struct mlp_grad *g, void *scratch) {
    struct pieces p = {.base = scratch};
    struct mlp_room room;
    const void *w2;
    if (a->rows == 0) return STATUS_OK;
    mlp_backward_room(a, &p, &room);
    TRY(scaled_w2(be, a, room.w2, &w2));
    const struct layer first = first_layer(a), second = second_layer(a, NULL, w2);
    TRY(layer_dx(be, &second, g->dy, room.hidden, false));
    const struct gelu_grad gelu = {.dtype = a->dtype,
                                   .rows = a->rows,
                                   .columns = a->hidden,
                                   .rows_per_image = a->rows_per_image,
                                   .pre = a->pre,
                                   .dh = room.hidden,
                                   .row_scale = a->row_scale,
                                   .dpre = room.hidden,
                                   .h = g->dw2 || (a->gamma && g->dgamma) ? room.h : NULL,
                                   .db = g->db1};
    TRY(gelu_backward(be, &gelu));
    if (g->dw1) TRY(layer_dw(be, &first, room.hidden, g->dw1, true));
    TRY(second_layer_backward(be, a, g, &room));
    if (g->dx) TRY(layer_dx(be, &first, room.hidden, g->dx, g->dx_accumulate));
    return STATUS_OK;
}
