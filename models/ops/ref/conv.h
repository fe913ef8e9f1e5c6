/* Dense and depthwise convolution of ops_ref. The backward passes run over the same (output, tap) pairs as
 * the forward pass, into a table of doubles on the scratch. */
#include "models/ops/ref/storage.h"

#include <string.h>

static int64_t conv_side(int64_t side, int32_t k, int32_t stride, int32_t pad) {
    return (side + 2 * pad - k) / stride + 1;
}

/* Offset of the pixel that tap (i,j) of output (oy,ox) of image n reads, in pixels; -1 in the padding. */
static int64_t conv_pixel(int64_t n, int64_t h, int64_t w, int64_t oy, int64_t ox, int32_t i, int32_t j,
                          int32_t stride, int32_t pad) {
    const int64_t y = oy * stride - pad + i, x = ox * stride - pad + j;
    return y < 0 || y >= h || x < 0 || x >= w ? -1 : (n * h + y) * w + x;
}

static status_t ref_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch) {
    (void)be, (void)scratch;
    const int64_t ho = conv_side(a->h, a->k, a->stride, a->pad),
                  wo = conv_side(a->w, a->k, a->stride, a->pad);
    for (int64_t p = 0; p < a->n * ho * wo; p++) {
        for (int64_t o = 0; o < a->cout; o++) {
            double z = a->bias ? real_at(a->bias, o) : 0.0;
            for (int32_t tap = 0; tap < a->k * a->k; tap++) {
                const int64_t from = conv_pixel(p / (ho * wo), a->h, a->w, p / wo % ho, p % wo, tap / a->k,
                                                tap % a->k, a->stride, a->pad);
                for (int64_t c = 0; c < a->cin && from >= 0; c++)
                    z += load(a->dtype, a->x, from * a->cin + c) *
                         load(a->dtype, a->weight, (o * a->k * a->k + tap) * a->cin + c);
            }
            if (a->relu6) z = fmin(fmax(z, 0.0), 6.0);
            store(a->dtype, y, p * a->cout + o, z);
        }
    }
    return STATUS_OK;
}

/* doubles: dx (N,H,W,Cin), dweight, dbias */
static size_t ref_conv_scratch(struct backend *be, const struct conv *a, bool train) {
    (void)be;
    const int64_t n = a->n * a->h * a->w * a->cin + a->cout * a->k * a->k * a->cin + a->cout;
    return train ? sizeof(double) * (size_t)n : 0;
}

/* Add the sums on the scratch to the outputs. */
static void conv_write(enum dtype dtype, const struct conv_grad *g, const double *dx, int64_t n_x,
                       const double *dw, int64_t n_w, const double *db, int64_t n_b) {
    for (int64_t i = 0; i < n_x && g->dx; i++) store_or_add(dtype, g->dx, i, dx[i], g->dx_accumulate);
    for (int64_t i = 0; i < n_w && g->dweight; i++) add_real(g->dweight, i, dw[i]);
    for (int64_t i = 0; i < n_b && g->dbias; i++) add_real(g->dbias, i, db[i]);
}

static status_t ref_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                                  void *scratch) {
    const int64_t ho = conv_side(a->h, a->k, a->stride, a->pad),
                  wo = conv_side(a->w, a->k, a->stride, a->pad);
    const int64_t n_x = a->n * a->h * a->w * a->cin, n_w = a->cout * a->k * a->k * a->cin;
    double *dx = scratch, *dw = dx + n_x, *db = dw + n_w;
    memset(scratch, 0, ref_conv_scratch(be, a, true));
    for (int64_t p = 0; p < a->n * ho * wo; p++) {
        for (int64_t o = 0; o < a->cout; o++) {
            const double dy = load(a->dtype, g->dy, p * a->cout + o);
            db[o] += dy;
            for (int32_t tap = 0; tap < a->k * a->k; tap++) {
                const int64_t from = conv_pixel(p / (ho * wo), a->h, a->w, p / wo % ho, p % wo, tap / a->k,
                                                tap % a->k, a->stride, a->pad);
                for (int64_t c = 0; c < a->cin && from >= 0; c++) {
                    const int64_t w_at = (o * a->k * a->k + tap) * a->cin + c, x_at = from * a->cin + c;
                    dx[x_at] += dy * load(a->dtype, a->weight, w_at);
                    dw[w_at] += dy * load(a->dtype, a->x, x_at);
                }
            }
        }
    }
    conv_write(a->dtype, g, dx, n_x, dw, n_w, db, a->cout);
    return STATUS_OK;
}

static status_t ref_depthwise_forward(struct backend *be, const struct depthwise *a, void *y, void *scratch) {
    (void)be, (void)scratch;
    const int64_t ho = conv_side(a->h, a->k, a->stride, a->pad),
                  wo = conv_side(a->w, a->k, a->stride, a->pad);
    for (int64_t p = 0; p < a->n * ho * wo; p++) {
        for (int64_t c = 0; c < a->c; c++) {
            double z = a->bias ? real_at(a->bias, c) : 0.0;
            for (int32_t tap = 0; tap < a->k * a->k; tap++) {
                const int64_t from = conv_pixel(p / (ho * wo), a->h, a->w, p / wo % ho, p % wo, tap / a->k,
                                                tap % a->k, a->stride, a->pad);
                if (from >= 0)
                    z += load(a->dtype, a->x, from * a->c + c) * real_at(a->weight, tap * a->c + c);
            }
            if (a->relu6) z = fmin(fmax(z, 0.0), 6.0);
            store(a->dtype, y, p * a->c + c, z);
        }
    }
    return STATUS_OK;
}

/* doubles: dx (N,H,W,C), dweight, dbias */
static size_t ref_depthwise_scratch(struct backend *be, const struct depthwise *a, bool train) {
    (void)be;
    const int64_t n = a->n * a->h * a->w * a->c + (a->k * a->k + 1) * a->c;
    return train ? sizeof(double) * (size_t)n : 0;
}

static status_t ref_depthwise_backward(struct backend *be, const struct depthwise *a,
                                       const struct conv_grad *g, void *scratch) {
    const int64_t ho = conv_side(a->h, a->k, a->stride, a->pad),
                  wo = conv_side(a->w, a->k, a->stride, a->pad);
    const int64_t n_x = a->n * a->h * a->w * a->c, n_w = a->k * a->k * a->c;
    double *dx = scratch, *dw = dx + n_x, *db = dw + n_w;
    memset(scratch, 0, ref_depthwise_scratch(be, a, true));
    for (int64_t p = 0; p < a->n * ho * wo; p++) {
        for (int64_t c = 0; c < a->c; c++) {
            const double dy = load(a->dtype, g->dy, p * a->c + c);
            db[c] += dy;
            for (int32_t tap = 0; tap < a->k * a->k; tap++) {
                const int64_t from = conv_pixel(p / (ho * wo), a->h, a->w, p / wo % ho, p % wo, tap / a->k,
                                                tap % a->k, a->stride, a->pad);
                if (from < 0) continue;
                dx[from * a->c + c] += dy * real_at(a->weight, tap * a->c + c);
                dw[tap * a->c + c] += dy * load(a->dtype, a->x, from * a->c + c);
            }
        }
    }
    conv_write(a->dtype, g, dx, n_x, dw, n_w, db, a->c);
    return STATUS_OK;
}
