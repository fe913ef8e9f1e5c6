/* Dense convolutions as matrix products over patches. A 1x1 convolution is a linear layer over its pixels;
 * else the patches are gathered into scratch, whose rows are padded with zeros to a multiple of 8 (as are the
 * weights then: a 3x3 stem over 3 channels has rows of 27), so that every product is aligned for tensor
 * cores. */
#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/linear.h"
#include "models/ops/cuda/patches.h"
#include "models/ops/cuda/rows.h"

struct conv_room {
    void *bias;   /* bf16 */
    void *matrix; /* patches, or their gradients: (N*Ho*Wo,ld) */
    void *weight; /* (Cout,ld) where rows are padded */
    float *dw;    /* (Cout,ld) likewise */
};

static int64_t columns_of(const struct conv *a) {
    return (int64_t)a->k * a->k * a->cin;
}

static struct patches patches_of(const struct conv *a) {
    return (struct patches){.dtype = a->dtype,
                            .n = a->n,
                            .h = a->h,
                            .w = a->w,
                            .cin = a->cin,
                            .ho = (a->h + 2 * a->pad - a->k) / a->stride + 1,
                            .wo = (a->w + 2 * a->pad - a->k) / a->stride + 1,
                            .k = a->k,
                            .stride = a->stride,
                            .pad = a->pad,
                            .ld = (columns_of(a) + 7) / 8 * 8};
}

/* The image is the matrix of patches already. */
static bool is_pointwise(const struct conv *a) {
    return a->k == 1 && a->stride == 1 && a->pad == 0;
}

static size_t conv_room(const struct conv *a, const struct patches *p, bool train, void *scratch,
                        struct conv_room *room) {
    struct pieces pieces = {.base = scratch};
    const size_t element = dtype_bytes(a->dtype), weights = (size_t)(a->cout * p->ld);
    *room = (struct conv_room){.bias = take(&pieces, a->dtype == DTYPE_BF16 ? (size_t)a->cout * 2 : 0)};
    if (is_pointwise(a)) return pieces.used;
    const bool padded = p->ld != columns_of(a);
    room->matrix = take(&pieces, (size_t)(p->n * p->ho * p->wo * p->ld) * element);
    room->weight = take(&pieces, padded ? weights * element : 0);
    room->dw = take(&pieces, padded && train ? weights * sizeof(float) : 0);
    return pieces.used;
}

size_t cuda_conv_scratch(struct backend *be, const struct conv *a, bool train) {
    (void)be;
    const struct patches p = patches_of(a);
    struct conv_room room;
    return conv_room(a, &p, train, NULL, &room);
}

/* The convolution as a linear layer: its rows of patches (not gathered yet) and weights padded like them. */
static status_t as_layer(struct backend *be, const struct conv *a, const struct patches *p,
                         const struct conv_room *room, bool weights, struct layer *out) {
    *out = (struct layer){
        .dtype = a->dtype, .rows = p->n * p->ho * p->wo, .in = columns_of(a), .out = a->cout, .w = a->weight};
    out->x = is_pointwise(a) ? a->x : room->matrix;
    if (is_pointwise(a)) return STATUS_OK;
    if (p->ld != out->in && weights) {
        TRY(patches_pad_rows(be, a->dtype, a->weight, a->cout, out->in, p->ld, room->weight));
        out->w = room->weight;
    }
    out->in = p->ld;
    return STATUS_OK;
}

status_t cuda_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch) {
    const struct patches p = patches_of(a);
    struct conv_room room;
    struct layer layer;
    const void *bias = NULL;
    if (a->n == 0) return STATUS_OK;
    conv_room(a, &p, false, scratch, &room);
    TRY(as_layer(be, a, &p, &room, true, &layer));
    if (!is_pointwise(a)) TRY(patches_gather(be, &p, a->x, room.matrix));
    if (!a->relu6) TRY(layer_bias(be, a->dtype, a->bias, a->cout, room.bias, &bias));
    TRY(layer_forward(be, &layer, bias, NULL, y));
    if (!a->relu6) return STATUS_OK;
    const struct row_epilogue epilogue = {.dtype = a->dtype,
                                          .rows = layer.rows,
                                          .columns = a->cout,
                                          .rows_per_image = 1,
                                          .z = y,
                                          .bias = a->bias,
                                          .relu6 = true,
                                          .y = y};
    return rows_epilogue(be, &epilogue);
}

static status_t weight_gradient(struct backend *be, const struct conv *a, const struct patches *p,
                                const struct conv_room *room, const struct layer *layer, const void *dy,
                                float *dw) {
    if (is_pointwise(a)) return layer_dw(be, layer, dy, dw, true);
    TRY(patches_gather(be, p, a->x, room->matrix));
    if (p->ld == columns_of(a)) return layer_dw(be, layer, dy, dw, true);
    TRY(layer_dw(be, layer, dy, room->dw, false));
    return patches_add_rows(be, DTYPE_F32, room->dw, a->cout, columns_of(a), p->ld, dw);
}

status_t cuda_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                            void *scratch) {
    const struct patches p = patches_of(a);
    struct conv_room room;
    struct layer layer;
    if (a->n == 0) return STATUS_OK;
    conv_room(a, &p, true, scratch, &room);
    TRY(as_layer(be, a, &p, &room, g->dx != NULL, &layer));
    if (g->dbias) {
        const struct row_sums sums = {.dtype = a->dtype,
                                      .rows = layer.rows,
                                      .columns = a->cout,
                                      .rows_per_image = 1,
                                      .x = g->dy,
                                      .sum = g->dbias,
                                      .accumulate = true};
        TRY(rows_sum(be, &sums));
    }
    if (g->dweight) TRY(weight_gradient(be, a, &p, &room, &layer, g->dy, g->dweight));
    if (!g->dx) return STATUS_OK;
    if (is_pointwise(a)) return layer_dx(be, &layer, g->dy, g->dx, g->dx_accumulate);
    TRY(layer_dx(be, &layer, g->dy, room.matrix, false));
    return patches_scatter(be, &p, room.matrix, g->dx, g->dx_accumulate);
}
