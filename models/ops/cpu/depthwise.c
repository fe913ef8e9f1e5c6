#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

#define LARGEST_KERNEL 15          /* the kernels keep a vector's weights on the stack */
#define BUFFER_BYTES   (96 * 1024) /* padded input of a band of rows, one vector of channels */
#define BAND_BYTES                                                                                           \
    (512 * 1024)        /* input and output of a band, all channels: what the hardware fetches ahead of one  \
                           vector of channels is still in the second cache when the next one is taken */
#define EXTRA_COLUMNS 7 /* the forward kernel computes whole tiles */

static int64_t out_size(int64_t n, const struct depthwise *a) {
    return (n + 2 * a->pad - a->k) / a->stride + 1;
}

static int64_t imin(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t imax(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Output rows a band of a map of `in_row` and `out_row` bytes a row, `columns` vectors a row in the padded
 * buffer. */
static int64_t band_rows(int64_t oh, int64_t columns, int64_t k, int64_t stride, int64_t in_row,
                         int64_t out_row) {
    int64_t buffer_rows = BUFFER_BYTES / (columns * SIMD_PICK(kernel_vector)() * 4);
    int64_t rows = (BAND_BYTES - (k - stride) * in_row) / (stride * in_row + out_row);
    rows = imax(imin(rows, (buffer_rows - k) / stride + 1), k > 3 ? 4 : 2);
    if (rows >= oh) return imax(oh, 1);
    int64_t n_bands = (oh + rows - 1) / rows;
    return (oh + n_bands - 1) / n_bands;
}

/* Geometry of the forward pass, or of the data gradient as a correlation of the spread dy with the kernel
 * turned. */
static struct depthwise_arguments geometry(const struct depthwise *a, bool data_gradient) {
    struct depthwise_arguments k = {.type = a->dtype, .n = a->n, .c = a->c, .k = a->k, .weight = a->weight};
    int64_t ho = out_size(a->h, a), wo = out_size(a->w, a);
    k.ih = data_gradient ? ho : a->h;
    k.iw = data_gradient ? wo : a->w;
    k.oh = data_gradient ? a->h : ho;
    k.ow = data_gradient ? a->w : wo;
    k.stride = data_gradient ? 1 : a->stride;
    k.insert = data_gradient ? a->stride : 1;
    k.pad = data_gradient ? a->k - 1 - a->pad : a->pad;
    k.flip = data_gradient;
    int64_t columns = (k.ow + EXTRA_COLUMNS - 1) * k.stride + k.k;
    int64_t pixel = a->c * (int64_t)dtype_bytes(a->dtype);
    k.band = band_rows(k.oh, columns, k.k, k.stride, k.iw * pixel / k.insert, k.ow * pixel);
    k.n_bands = (k.oh + k.band - 1) / k.band;
    k.buffer_elem = ((k.band - 1) * k.stride + k.k) * columns * SIMD_PICK(kernel_vector)();
    return k;
}

static struct depthwise_grad_arguments grad_geometry(const struct depthwise *a) {
    struct depthwise_grad_arguments k = {.type = a->dtype,
                                         .n = a->n,
                                         .h = a->h,
                                         .w = a->w,
                                         .c = a->c,
                                         .k = a->k,
                                         .stride = a->stride,
                                         .pad = a->pad,
                                         .x = a->x};
    k.oh = out_size(a->h, a);
    k.ow = out_size(a->w, a);
    int64_t columns = (k.ow - 1) * k.stride + k.k;
    int64_t pixel = a->c * (int64_t)dtype_bytes(a->dtype);
    k.band = band_rows(k.oh, columns, k.k, k.stride, a->w * pixel, k.ow * pixel);
    k.n_bands = (k.oh + k.band - 1) / k.band;
    int64_t pixels = ((k.band - 1) * k.stride + k.k) * columns + k.band * k.ow;
    k.buffer_elem = pixels * SIMD_PICK(kernel_vector)();
    k.partial_elem = ((int64_t)a->k * a->k + 1) * a->c;
    return k;
}

/* Nanoseconds of an item, about: the taps, and the pixels fetched for each result (a cache line each). */
static double item_cost(int64_t rows, int64_t columns, int64_t k, int64_t stride) {
    return (double)(rows * columns) * (0.5 * (double)(k * k) + 12 * (double)(stride * stride));
}

size_t cpu_depthwise_scratch(struct backend *be, const struct depthwise *a, bool train) {
    struct depthwise_arguments forward = geometry(a, false);
    int64_t n_elem = forward.buffer_elem;
    if (train) {
        struct depthwise_arguments data = geometry(a, true);
        struct depthwise_grad_arguments weight = grad_geometry(a);
        n_elem = imax(n_elem, imax(data.buffer_elem, weight.buffer_elem + weight.partial_elem));
    }
    return (size_t)(n_elem * be->n_threads) * 4;
}

static void correlate(struct backend *be, struct depthwise_arguments *k, void *scratch) {
    int64_t vector = SIMD_PICK(kernel_vector)();
    k->buffer = scratch;
    parallel_for(be, k->n * k->n_bands * ((k->c + vector - 1) / vector),
                 item_cost(k->band, k->ow, k->k, k->stride), SIMD_PICK(kernel_depthwise), k);
}

status_t cpu_depthwise_forward(struct backend *be, const struct depthwise *a, void *y, void *scratch) {
    CHECK(a->k >= 1 && a->k <= LARGEST_KERNEL, STATUS_INTERNAL,
          "depthwise kernels of %d x %d are not supported", (int)a->k, (int)a->k);
    struct depthwise_arguments k = geometry(a, false);
    k.in = a->x;
    k.bias = a->bias;
    k.relu6 = a->relu6;
    k.out = y;
    correlate(be, &k, scratch);
    return STATUS_OK;
}

status_t cpu_depthwise_backward(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                                void *scratch) {
    if (g->dweight || g->dbias) {
        struct depthwise_grad_arguments k = grad_geometry(a);
        int64_t vector = SIMD_PICK(kernel_vector)(), taps = (int64_t)a->k * a->k * a->c;
        int64_t n_items = a->n * k.n_bands * ((a->c + vector - 1) / vector);
        double cost = item_cost(k.band, k.ow, k.k, k.stride);
        k.dy = g->dy;
        k.partial = scratch;
        k.buffer = k.partial + k.partial_elem * be->n_threads;
        parallel_for(be, n_items, cost, SIMD_PICK(kernel_depthwise_grad), &k);
        int32_t n_parts = parallel_parts(be, n_items, cost);
        if (g->dweight) add_partials(g->dweight, k.partial, n_parts, k.partial_elem, taps, NULL);
        if (g->dbias) add_partials(g->dbias, k.partial + taps, n_parts, k.partial_elem, a->c, NULL);
    }
    if (!g->dx) return STATUS_OK;
    struct depthwise_arguments k = geometry(a, true);
    k.in = g->dy;
    k.out = g->dx;
    k.accumulate = g->dx_accumulate;
    correlate(be, &k, scratch);
    return STATUS_OK;
}
