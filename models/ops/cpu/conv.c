/* Dense convolution as a matrix product with the weight (Cout, k*k*Cin) as it lies in memory. A 1x1 reads x
 * itself; otherwise the patches of some images are gathered first: for the stems and the 2x2/2 of these
 * networks, whose patches do not overlap or have three channels, that costs less than turning weights into
 * another layout in every step. */
#include "models/ops/bf16.h"
#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

#include <string.h>

#define BLOCK_BYTES (1024 * 1024) /* of patches at a time, one image at least */

struct patches {
    const struct conv *a;
    int64_t ho, wo, width; /* output map; elements of a patch */
    int64_t images;        /* a block */
    bool direct;           /* 1x1: the patches are x */
};

static struct patches patches_of(const struct conv *a) {
    struct patches p = {.a = a};
    p.ho = (a->h + 2 * a->pad - a->k) / a->stride + 1;
    p.wo = (a->w + 2 * a->pad - a->k) / a->stride + 1;
    p.width = (int64_t)a->k * a->k * a->cin;
    p.direct = a->k == 1 && a->stride == 1 && a->pad == 0;
    int64_t image_bytes = p.ho * p.wo * p.width * (int64_t)dtype_bytes(a->dtype);
    p.images = p.direct ? a->n : BLOCK_BYTES / (image_bytes > 0 ? image_bytes : 1);
    p.images = p.images < 1 ? 1 : p.images > a->n ? a->n : p.images;
    return p;
}

struct conv_scratch {
    void *patches; /* of the convolution's type */
    float *dpatches;
    float *sums; /* a row of Cout a thread */
};

static struct conv_scratch conv_scratch(const struct backend *be, const struct patches *p, bool train,
                                        struct carve *c) {
    struct conv_scratch s = {0};
    size_t n_elem = (size_t)(p->images * p->ho * p->wo * p->width);
    if (!p->direct) s.patches = carve(c, n_elem * dtype_bytes(p->a->dtype));
    if (!train) return s;
    if (!p->direct) s.dpatches = carve(c, n_elem * 4);
    s.sums = carve(c, (size_t)(be->n_threads * p->a->cout) * 4);
    return s;
}

size_t cpu_conv_scratch(struct backend *be, const struct conv *a, bool train) {
    struct carve c = {0};
    struct patches p = patches_of(a);
    conv_scratch(be, &p, train, &c);
    return c.used;
}

struct patch_arguments {
    const struct patches *p;
    int64_t first_image;
    void *patches;
    const float *dpatches;
    void *dx;
    bool accumulate;
};

/* Gather; items are output rows of the block. */
static void gather_rows(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct patch_arguments *g = arguments;
    const struct patches *p = g->p;
    const struct conv *a = p->a;
    size_t element = dtype_bytes(a->dtype), pixel = (size_t)a->cin * element;
    for (int64_t row = begin; row < end; row++) {
        int64_t image = g->first_image + row / p->ho, oy = row % p->ho;
        const char *x = offset_of(a->x, image * a->h * a->w * a->cin, a->dtype);
        for (int64_t ox = 0; ox < p->wo; ox++) {
            char *out = offset_mut(g->patches, (row * p->wo + ox) * p->width, a->dtype);
            int64_t x0 = ox * a->stride - a->pad, left = x0 < 0 ? -x0 : 0;
            int64_t right = x0 + a->k > a->w ? a->w - x0 : a->k; /* columns [left, right) are inside */
            left = left < a->k ? left : a->k;
            right = right > left ? right : left;
            for (int64_t ky = 0; ky < a->k; ky++, out += (size_t)a->k * pixel) {
                int64_t y = oy * a->stride - a->pad + ky;
                if (y < 0 || y >= a->h || right == left) {
                    memset(out, 0, (size_t)a->k * pixel);
                    continue;
                }
                memset(out, 0, (size_t)left * pixel);
                memcpy(out + (size_t)left * pixel, x + (size_t)(y * a->w + x0 + left) * pixel,
                       (size_t)(right - left) * pixel);
                memset(out + (size_t)right * pixel, 0, (size_t)(a->k - right) * pixel);
            }
        }
    }
}

#define CHUNK 64 /* channels summed at a time */

/* sum (n) = the patches' gradients at channels [c0, c0 + n) of input pixel (y, x) of a block's image. */
static void pixel_grad(const struct patches *p, const float *dpatches, int64_t image, int64_t y, int64_t x,
                       int64_t c0, int64_t n, float *sum) {
    const struct conv *a = p->a;
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t ky = (y + a->pad) % a->stride; ky < a->k && ky <= y + a->pad; ky += a->stride) {
        int64_t oy = (y + a->pad - ky) / a->stride;
        if (oy >= p->ho) continue;
        for (int64_t kx = (x + a->pad) % a->stride; kx < a->k && kx <= x + a->pad; kx += a->stride) {
            int64_t ox = (x + a->pad - kx) / a->stride;
            if (ox >= p->wo) continue;
            const float *from =
                dpatches + ((image * p->ho + oy) * p->wo + ox) * p->width + (ky * a->k + kx) * a->cin + c0;
            for (int64_t c = 0; c < n; c++) sum[c] += from[c];
        }
    }
}

/* dx (+)= sums of the patches' gradients; items are input rows of the block. */
static void spread_rows(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct patch_arguments *g = arguments;
    const struct conv *a = g->p->a;
    float sum[CHUNK];
    for (int64_t i = begin * a->w; i < end * a->w; i++) { /* pixels */
        for (int64_t c0 = 0; c0 < a->cin; c0 += CHUNK) {
            int64_t n = a->cin - c0 < CHUNK ? a->cin - c0 : CHUNK,
                    out = (g->first_image * a->h * a->w + i) * a->cin + c0;
            pixel_grad(g->p, g->dpatches, i / a->w / a->h, i / a->w % a->h, i % a->w, c0, n, sum);
            if (a->dtype == DTYPE_F32) {
                float *dx = (float *)g->dx + out;
                for (int64_t c = 0; c < n; c++) dx[c] = g->accumulate ? dx[c] + sum[c] : sum[c];
            } else {
                uint16_t *dx = (uint16_t *)g->dx + out;
                for (int64_t c = 0; c < n; c++)
                    dx[c] = bf16_from_f32(g->accumulate ? bf16_to_f32(dx[c]) + sum[c] : sum[c]);
            }
        }
    }
}

/* The patches of images [first, first + n). */
static const void *gather(struct backend *be, const struct patches *p, const struct conv_scratch *s,
                          int64_t first, int64_t n) {
    if (p->direct) return p->a->x;
    struct patch_arguments g = {.p = p, .first_image = first, .patches = s->patches};
    parallel_for(be, n * p->ho, 0.3 * (double)(p->wo * p->width), gather_rows, &g);
    return s->patches;
}

status_t cpu_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch) {
    struct patches p = patches_of(a);
    struct carve c = {.base = scratch};
    struct conv_scratch s = conv_scratch(be, &p, false, &c);
    for (int64_t image = 0; image < a->n; image += p.images) {
        int64_t n = a->n - image < p.images ? a->n - image : p.images;
        struct matmul m = {.type = a->dtype,
                           .c_type = a->dtype,
                           .transpose_b = true,
                           .m = n * p.ho * p.wo,
                           .n = a->cout,
                           .k = p.width,
                           .lda = p.width,
                           .ldb = p.width,
                           .ldc = a->cout,
                           .alpha = 1,
                           .a = gather(be, &p, &s, image, n),
                           .b = a->weight,
                           .bias = a->bias,
                           .c = offset_mut(y, image * p.ho * p.wo * a->cout, a->dtype),
                           .activation = a->relu6 ? MATMUL_RELU6 : MATMUL_NONE};
        TRY(cpu_matmul(be, &m));
    }
    return STATUS_OK;
}

static status_t input_grad(struct backend *be, const struct patches *p, const struct conv_grad *g,
                           const struct conv_scratch *s, int64_t image, int64_t n, const void *dy) {
    const struct conv *a = p->a;
    struct matmul m = {.type = a->dtype,
                       .c_type = DTYPE_F32,
                       .m = n * p->ho * p->wo,
                       .n = p->width,
                       .k = a->cout,
                       .lda = a->cout,
                       .ldb = p->width,
                       .ldc = p->width,
                       .alpha = 1,
                       .a = dy,
                       .b = a->weight,
                       .c = s->dpatches};
    if (p->direct) {
        m.c_type = a->dtype;
        m.c = g->dx;
        m.beta = g->dx_accumulate ? 1.0f : 0.0f;
    }
    TRY(cpu_matmul(be, &m));
    if (p->direct) return STATUS_OK;
    struct patch_arguments k = {
        .p = p, .first_image = image, .dpatches = s->dpatches, .dx = g->dx, .accumulate = g->dx_accumulate};
    parallel_for(be, n * a->h, (double)(a->w * a->cin), spread_rows, &k);
    return STATUS_OK;
}

status_t cpu_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                           void *scratch) {
    struct patches p = patches_of(a);
    struct carve c = {.base = scratch};
    struct conv_scratch s = conv_scratch(be, &p, true, &c);
    int64_t rows = a->n * p.ho * p.wo;
    if (g->dbias && rows > 0) {
        struct scale_rows_arguments k = {
            .type = a->dtype, .n = a->cout, .rows_per_image = 1, .dy = g->dy, .partial = s.sums};
        double cost = 0.2 * (double)a->cout;
        parallel_for(be, rows, cost, SIMD_PICK(kernel_scale_rows), &k);
        add_partials(g->dbias, s.sums, parallel_parts(be, rows, cost), a->cout, a->cout, NULL);
    }
    for (int64_t image = 0; image < a->n; image += p.images) {
        int64_t n = a->n - image < p.images ? a->n - image : p.images;
        const void *dy = offset_of(g->dy, image * p.ho * p.wo * a->cout, a->dtype);
        if (g->dweight) {
            struct matmul m = {.type = a->dtype,
                               .c_type = DTYPE_F32,
                               .transpose_a = true,
                               .m = a->cout,
                               .n = p.width,
                               .k = n * p.ho * p.wo,
                               .lda = a->cout,
                               .ldb = p.width,
                               .ldc = p.width,
                               .alpha = 1,
                               .beta = 1,
                               .a = dy,
                               .b = gather(be, &p, &s, image, n),
                               .c = g->dweight};
            TRY(cpu_matmul(be, &m));
        }
        if (g->dx) TRY(input_grad(be, &p, g, &s, image, n, dy));
    }
    return STATUS_OK;
}
