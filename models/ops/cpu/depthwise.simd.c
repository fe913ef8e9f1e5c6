#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

int64_t SIMD_NAME(kernel_vector)(void) {
    return VL;
}

#define TILE_MAX 8 /* output pixels a tile: their sums stay in registers */

/* Fetch rows [first, first + n_rows) of an image into the second cache, in the order of memory. The vectors
 * of channels taken one after the other would each wait for every fourth or tenth cache line. */
static void prefetch_rows(const void *image, int64_t h, int64_t row_elem, int64_t first, int64_t n_rows,
                          enum dtype type, bool write) {
    int64_t begin = first > 0 ? first : 0, end = first + n_rows < h ? first + n_rows : h;
    const char *p = at(image, begin * row_elem, type), *stop = at(image, end * row_elem, type);
    if (stop - p > 512 * 1024) return; /* would not stay there */
    for (; p < stop; p += 64) {
        if (write)
            __builtin_prefetch(p, 1, 2);
        else
            __builtin_prefetch(p, 0, 2);
    }
}

/* Copy VL channels from c0 of rows [first_row, first_row + n_rows) x [-pad, -pad + n_columns) of an image,
 * spread apart by `insert`, into a dense fp32 buffer; zeros outside. This converts bf16 once and spares the
 * inner loops every test. */
INLINE void fill_padded_as(float *buffer, const void *image, int64_t h, int64_t w, int64_t c, int64_t c0,
                           int64_t first_row, int64_t n_rows, int64_t n_columns, int64_t pad, int64_t insert,
                           int64_t n, const enum dtype type) {
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t y = first_row + r;
        bool inside = y >= 0 && y % insert == 0 && y / insert < h;
        float *row = buffer + r * n_columns * VL;
        if (!inside) {
            if (y % insert == 0)
                memset(row, 0, (size_t)(n_columns * VL) * sizeof *row); /* others are never read */
            continue;
        }
        int64_t base = (y / insert) * w * c + c0;
        int64_t j = 0, x = 0;
        for (; j < n_columns && j < pad; j++) v_store(row + j * VL, v_zero());
        if (pad < 0) x = (-pad + insert - 1) / insert;
        if (insert == 1) {
            int64_t stop = n_columns - pad < w ? n_columns - pad : w;
            for (; x < stop; x++) v_store(row + (x + pad) * VL, load_part(image, base + x * c, n, type));
            for (j = stop + pad > j ? stop + pad : j; j < n_columns; j++) v_store(row + j * VL, v_zero());
        } else {
            for (; j < n_columns; j++) {
                int64_t at_x = j - pad;
                bool real = at_x % insert == 0 && at_x / insert < w;
                v_store(row + j * VL, real ? load_part(image, base + at_x / insert * c, n, type) : v_zero());
            }
        }
    }
}

static void fill_padded(float *buffer, const void *image, int64_t h, int64_t w, int64_t c, int64_t c0,
                        int64_t first_row, int64_t n_rows, int64_t n_columns, int64_t pad, int64_t insert,
                        enum dtype type) {
    int64_t n = c - c0;
#define FILL(n, type)                                                                                        \
    fill_padded_as(buffer, image, h, w, c, c0, first_row, n_rows, n_columns, pad, insert, n, type)
    if (n >= VL && type == DTYPE_F32)
        FILL(VL, DTYPE_F32);
    else if (n >= VL)
        FILL(VL, DTYPE_BF16);
    else
        FILL(n, type);
#undef FILL
}

/* `tile` neighbouring outputs of one row: every input vector is loaded once and used by all sums it belongs
 * to. Of the kernel's rows only every step_ky-th from first_ky meets input that is not zero. */
INLINE void tile_sums(const float *in, int64_t row_elem, const float *w, int first_ky, int step_ky,
                      const int k, const int stride, const int tile, vf bias, vf sum[TILE_MAX]) {
    for (int t = 0; t < tile; t++) sum[t] = bias;
    for (int ky = first_ky; ky < k; ky += step_ky) {
        const float *row = in + ky * row_elem, *weights = w + ky * k * VL;
#pragma GCC unroll 32
        for (int x = 0; x < (tile - 1) * stride + k; x++) {
            vf v = v_load(row + x * VL);
#pragma GCC unroll 8
            for (int t = 0; t < tile; t++) {
                int kx = x - t * stride;
                if (kx >= 0 && kx < k) sum[t] += v * v_load(weights + kx * VL);
            }
        }
    }
}

struct depthwise_item {
    int64_t image, c0, oy0, n_rows; /* output rows */
    int64_t row_elem;               /* of the padded buffer */
    float weight[15 * 15 * VL];     /* this vector's weights; k <= 15 is checked by the driver */
    vf bias;
    float *buffer;
};

INLINE void store_outputs(const struct depthwise_arguments *a, int64_t first, const vf *sum, int64_t n_pixels,
                          int64_t n) {
    for (int64_t t = 0; t < n_pixels; t++) {
        int64_t i = first + t * a->c;
        vf v = sum[t];
        if (a->relu6) v = v_min(v_max(v, v_zero()), v_set(6.0f));
        if (a->accumulate) v += load_part(a->out, i, n, a->type);
        store_part(a->out, i, v, n, a->type);
    }
}

INLINE void depthwise_rows(const struct depthwise_arguments *a, const struct depthwise_item *item,
                           const int k, const int stride, const int tile) {
    int64_t n = a->c - item->c0;
    for (int64_t r = 0; r < item->n_rows; r++) {
        /* Spread input: row oy + ky - pad holds pixels where it is a multiple of `insert`. */
        int64_t off = (item->oy0 + r) * stride - a->pad;
        int first_ky = (int)((a->insert - off % a->insert) % a->insert);
        int64_t out_row = (item->image * a->oh + item->oy0 + r) * a->ow;
        for (int64_t x = 0; x < a->ow; x += tile) {
            vf sum[TILE_MAX];
            const float *in = item->buffer + r * stride * item->row_elem + x * stride * VL;
            tile_sums(in, item->row_elem, item->weight, first_ky, a->insert, k, stride, tile, item->bias,
                      sum);
            int64_t n_pixels = a->ow - x < tile ? a->ow - x : tile;
            store_outputs(a, (out_row + x) * a->c + item->c0, sum, n_pixels, n);
        }
    }
}

/* Outputs a tile: the one of 8, 7, 6 that leaves least over. */
static int tile_width(int64_t ow) {
    return ow % 8 == 0 ? 8 : ow % 7 == 0 ? 7 : ow % 6 == 0 ? 6 : 8;
}

static void depthwise_dispatch(const struct depthwise_arguments *a, const struct depthwise_item *item) {
    int tile = tile_width(a->ow);
#define CASE(K, S, T)                                                                                        \
    if (a->k == (K) && a->stride == (S) && tile == (T)) {                                                    \
        depthwise_rows(a, item, K, S, T);                                                                    \
        return;                                                                                              \
    }
    CASE(7, 1, 8)
    CASE(7, 1, 7)
    CASE(7, 1, 6)
    CASE(3, 1, 8)
    CASE(3, 1, 7)
    CASE(3, 1, 6)
    CASE(3, 2, 8)
    CASE(3, 2, 7)
    CASE(3, 2, 6)
#undef CASE
    depthwise_rows(a, item, a->k, a->stride, 1);
}

void SIMD_NAME(kernel_depthwise)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct depthwise_arguments *a = arguments;
    struct depthwise_item item;
    int64_t n_vectors = (a->c + VL - 1) / VL, padded_width = a->ow + TILE_MAX - 1;
    part_goes_on(&part);
    item.buffer = a->buffer + part * a->buffer_elem;
    for (int64_t i = begin; i < end; i++) {
        int64_t band = i / n_vectors % a->n_bands;
        item.image = i / n_vectors / a->n_bands;
        item.c0 = i % n_vectors * VL;
        item.oy0 = band * a->band;
        item.n_rows = a->oh - item.oy0 < a->band ? a->oh - item.oy0 : a->band;
        int64_t n = a->c - item.c0, n_columns = (padded_width - 1) * a->stride + a->k;
        item.row_elem = n_columns * VL;
        item.bias = a->bias ? load_part(a->bias, item.c0, n, DTYPE_F32) : v_zero();
        for (int64_t t = 0; t < a->k * a->k; t++) {
            int64_t source = a->flip ? a->k * a->k - 1 - t : t;
            v_store(item.weight + t * VL, load_part(a->weight, source * a->c + item.c0, n, DTYPE_F32));
        }
        const void *image = at(a->in, item.image * a->ih * a->iw * a->c, a->type);
        int64_t first_row = item.oy0 * a->stride - a->pad, n_rows = (item.n_rows - 1) * a->stride + a->k;
        if (item.c0 == 0 || i == begin) {
            const void *out = at(a->out, item.image * a->oh * a->ow * a->c, a->type);
            prefetch_rows(image, a->ih, a->iw * a->c, first_row / a->insert, n_rows / a->insert, a->type,
                          false);
            prefetch_rows(out, a->oh, a->ow * a->c, item.oy0, item.n_rows, a->type, true);
        }
        fill_padded(item.buffer, image, a->ih, a->iw, a->c, item.c0, first_row, n_rows, n_columns, a->pad,
                    a->insert, a->type);
        depthwise_dispatch(a, &item);
    }
}

/* ---- weight gradient ---- */

/* sum[ky][kx] += x row * dy row, for one row of dy and all rows of the kernel; k sums in registers at a time.
 */
INLINE void grad_row(const float *x, int64_t row_elem, const float *dy, int64_t ow, float *sums, const int k,
                     const int stride) {
    for (int ky = 0; ky < k; ky++) {
        vf sum[7];
#pragma GCC unroll 7
        for (int kx = 0; kx < k; kx++) sum[kx] = v_load(sums + (ky * k + kx) * VL);
        const float *row = x + ky * row_elem;
        for (int64_t ox = 0; ox < ow; ox++) {
            vf d = v_load(dy + ox * VL);
#pragma GCC unroll 7
            for (int kx = 0; kx < k; kx++) sum[kx] += d * v_load(row + (ox * stride + kx) * VL);
        }
#pragma GCC unroll 7
        for (int kx = 0; kx < k; kx++) v_store(sums + (ky * k + kx) * VL, sum[kx]);
    }
}

static void grad_row_any(const float *x, int64_t row_elem, const float *dy, int64_t ow, float *sums, int k,
                         int stride) {
    for (int t = 0; t < k * k; t++) {
        vf sum = v_load(sums + t * VL);
        const float *row = x + t / k * row_elem + t % k * VL;
        for (int64_t ox = 0; ox < ow; ox++) sum += v_load(dy + ox * VL) * v_load(row + ox * stride * VL);
        v_store(sums + t * VL, sum);
    }
}

static void grad_band(const struct depthwise_grad_arguments *a, const float *x, int64_t row_elem,
                      const float *dy, int64_t n_rows, float *sums) {
    vf bias = v_load(sums + a->k * a->k * VL);
    for (int64_t r = 0; r < n_rows; r++) {
        const float *x_row = x + r * a->stride * row_elem, *dy_row = dy + r * a->ow * VL;
        if (a->k == 7 && a->stride == 1)
            grad_row(x_row, row_elem, dy_row, a->ow, sums, 7, 1);
        else if (a->k == 3 && a->stride == 1)
            grad_row(x_row, row_elem, dy_row, a->ow, sums, 3, 1);
        else if (a->k == 3 && a->stride == 2)
            grad_row(x_row, row_elem, dy_row, a->ow, sums, 3, 2);
        else
            grad_row_any(x_row, row_elem, dy_row, a->ow, sums, a->k, a->stride);
        for (int64_t ox = 0; ox < a->ow; ox++) bias += v_load(dy_row + ox * VL);
    }
    v_store(sums + a->k * a->k * VL, bias);
}

void SIMD_NAME(kernel_depthwise_grad)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct depthwise_grad_arguments *a = arguments;
    bool goes_on = part_goes_on(&part);
    float *partial = a->partial + part * a->partial_elem, *x_buffer = a->buffer + part * a->buffer_elem;
    int64_t n_columns = (a->ow - 1) * a->stride + a->k, n_tap = a->k * a->k + 1;
    float *dy_buffer = x_buffer + ((a->band - 1) * a->stride + a->k) * n_columns * VL;
    float sums[(15 * 15 + 1) * VL];
    int64_t n_vectors = (a->c + VL - 1) / VL;
    if (!goes_on) memset(partial, 0, (size_t)a->partial_elem * sizeof *partial);
    for (int64_t i = begin; i < end; i++) {
        int64_t band = i / n_vectors % a->n_bands, image = i / n_vectors / a->n_bands;
        int64_t c0 = i % n_vectors * VL, n = a->c - c0, oy0 = band * a->band;
        int64_t n_rows = a->oh - oy0 < a->band ? a->oh - oy0 : a->band;
        int64_t first_row = oy0 * a->stride - a->pad, x_rows = (n_rows - 1) * a->stride + a->k;
        const void *x = at(a->x, image * a->h * a->w * a->c, a->type);
        const void *dy = at(a->dy, image * a->oh * a->ow * a->c, a->type);
        if (c0 == 0 || i == begin) {
            prefetch_rows(x, a->h, a->w * a->c, first_row, x_rows, a->type, false);
            prefetch_rows(dy, a->oh, a->ow * a->c, oy0, n_rows, a->type, false);
        }
        fill_padded(x_buffer, x, a->h, a->w, a->c, c0, first_row, x_rows, n_columns, a->pad, 1, a->type);
        fill_padded(dy_buffer, dy, a->oh, a->ow, a->c, c0, oy0, n_rows, a->ow, 0, 1, a->type);
        for (int64_t t = 0; t < n_tap; t++)
            v_store(sums + t * VL, load_part(partial, t * a->c + c0, n, DTYPE_F32));
        grad_band(a, x_buffer, n_columns * VL, dy_buffer, n_rows, sums);
        for (int64_t t = 0; t < n_tap; t++)
            store_part(partial, t * a->c + c0, v_load(sums + t * VL), n, DTYPE_F32);
    }
}
