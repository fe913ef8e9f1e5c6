/* Batch normalisation. Rows are taken in blocks small enough for the first cache, and within a block one
 * vector of channels after the other, so that what belongs to the channels stays in registers. */
#include "models/ops/cpu/kernels.h"
#include "models/ops/cpu/vec.h"

#define RUN 16 /* rows summed in fp32 before they are added to the fp64 sums */

INLINE void add_to_double(double *sums, vf v, int64_t n) {
    if (n >= VL) {
        vd s;
        memcpy(&s, sums, sizeof s);
        s += __builtin_convertvector(v, vd);
        memcpy(sums, &s, sizeof s);
        return;
    }
    float t[VL];
    v_store(t, v);
    for (int64_t i = 0; i < n; i++) sums[i] += t[i];
}

/* sums * inverse_count in fp32. */
INLINE vf mean_of(const double *sums, double inverse_count, int64_t n) {
    if (n >= VL) {
        vd s;
        memcpy(&s, sums, sizeof s);
        return __builtin_convertvector(s * inverse_count, vf);
    }
    float t[VL] = {0};
    for (int64_t i = 0; i < n; i++) t[i] = (float)(sums[i] * inverse_count);
    return v_load(t);
}

/* What the kernels need of VL channels. */
struct channels {
    vf mean, rstd, factor, bias; /* factor = rstd * weight */
};

INLINE struct channels channels_at(const struct batchnorm *a, int64_t c) {
    int64_t n = a->c - c;
    struct channels k = {.mean = load_part(a->mean, c, n, DTYPE_F32),
                         .rstd = load_part(a->rstd, c, n, DTYPE_F32),
                         .bias = load_part(a->bias, c, n, DTYPE_F32)};
    k.factor = k.rstd * load_part(a->weight, c, n, DTYPE_F32);
    return k;
}

/* End of the block of rows that begins at `first`: RUN rows, within one image where a mask tells images
 * apart. */
INLINE int64_t block_end(const struct batchnorm *a, int64_t first, int64_t end, bool *keep) {
    int64_t stop = first + RUN < end ? first + RUN : end;
    *keep = true;
    if (!a->image_mask) return stop;
    int64_t image = first / a->hw, image_end = (image + 1) * a->hw;
    *keep = a->image_mask[image];
    return stop < image_end ? stop : image_end;
}

/* Loop over the vectors of channels: whole ones, then the rest, each compiled for itself. */
#define FOR_CHANNELS(a, body)                                                                                \
    do {                                                                                                     \
        int64_t c = 0;                                                                                       \
        for (; c + VL <= (a)->c; c += VL) body(VL);                                                          \
        if (c < (a)->c) body((a)->c - c);                                                                    \
    } while (0)

INLINE void sums_block(const struct batchnorm *a, double *sums, int64_t first, int64_t stop, int64_t c,
                       int64_t n, const enum dtype type) {
    vf s = v_zero(), q = v_zero();
    for (int64_t row = first; row < stop; row++) {
        vf x = load_part(a->x, row * a->c + c, n, type);
        s += x;
        q += x * x;
    }
    add_to_double(sums + c, s, n);
    add_to_double(sums + a->c + c, q, n);
}

INLINE void sums_as(const struct batchnorm *a, double *sums, int64_t begin, int64_t end,
                    const enum dtype type) {
    bool keep;
    for (int64_t first = begin, stop; first < end; first = stop) {
        stop = block_end(a, first, end, &keep);
        if (!keep) continue;
#define BODY(n) sums_block(a, sums, first, stop, c, n, type)
        FOR_CHANNELS(a, BODY);
#undef BODY
    }
}

void SIMD_NAME(kernel_batchnorm_sums)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct batchnorm_arguments *args = arguments;
    const struct batchnorm *a = args->a;
    bool goes_on = part_goes_on(&part);
    double *sums = args->partial + part * 2 * a->c;
    if (!goes_on) memset(sums, 0, 2 * (size_t)a->c * sizeof *sums);
    if (a->dtype == DTYPE_F32)
        sums_as(a, sums, begin, end, DTYPE_F32);
    else
        sums_as(a, sums, begin, end, DTYPE_BF16);
}

INLINE void apply_block(const struct batchnorm *a, void *y, int64_t first, int64_t stop, int64_t c, int64_t n,
                        const enum dtype type) {
    struct channels k = channels_at(a, c);
    for (int64_t row = first; row < stop; row++) {
        int64_t i = row * a->c + c;
        vf z = (load_part(a->x, i, n, type) - k.mean) * k.factor + k.bias;
        if (a->relu6) z = v_min(v_max(z, v_zero()), v_set(6.0f));
        if (a->residual) z += load_part(a->residual, i, n, type);
        store_part(y, i, z, n, type);
    }
}

INLINE void apply_as(const struct batchnorm *a, void *y, int64_t begin, int64_t end, const enum dtype type) {
    for (int64_t first = begin; first < end; first += RUN) {
        int64_t stop = first + RUN < end ? first + RUN : end;
#define BODY(n) apply_block(a, y, first, stop, c, n, type)
        FOR_CHANNELS(a, BODY);
#undef BODY
    }
}

void SIMD_NAME(kernel_batchnorm_apply)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct batchnorm_arguments *args = arguments;
    if (args->a->dtype == DTYPE_F32)
        apply_as(args->a, args->out, begin, end, DTYPE_F32);
    else
        apply_as(args->a, args->out, begin, end, DTYPE_BF16);
}

/* The gradient that passed ReLU6. */
INLINE vf passed(const struct batchnorm *a, const struct channels *k, vf centred, vf g) {
    return a->relu6 ? v_between(centred * k->factor + k->bias, 0.0f, 6.0f, g) : g;
}

INLINE void grad_sums_block(const struct batchnorm *a, const void *dy, double *sums, int64_t first,
                            int64_t stop, int64_t c, int64_t n, const enum dtype type) {
    struct channels k = channels_at(a, c);
    vf s = v_zero(), q = v_zero();
    for (int64_t row = first; row < stop; row++) {
        int64_t i = row * a->c + c;
        vf centred = load_part(a->x, i, n, type) - k.mean;
        vf g = passed(a, &k, centred, load_part(dy, i, n, type));
        s += g;
        q += g * centred;
    }
    add_to_double(sums + c, s, n);
    add_to_double(sums + a->c + c, q * k.rstd, n);
}

INLINE void grad_sums_as(const struct batchnorm *a, const void *dy, double *sums, int64_t begin, int64_t end,
                         const enum dtype type) {
    bool keep;
    for (int64_t first = begin, stop; first < end; first = stop) {
        stop = block_end(a, first, end, &keep);
        if (!keep) continue;
#define BODY(n) grad_sums_block(a, dy, sums, first, stop, c, n, type)
        FOR_CHANNELS(a, BODY);
#undef BODY
    }
}

void SIMD_NAME(kernel_batchnorm_grad_sums)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    const struct batchnorm_arguments *args = arguments;
    const struct batchnorm *a = args->a;
    bool goes_on = part_goes_on(&part);
    double *sums = args->partial + part * 2 * a->c;
    if (!goes_on) memset(sums, 0, 2 * (size_t)a->c * sizeof *sums);
    if (a->dtype == DTYPE_F32)
        grad_sums_as(a, args->dy, sums, begin, end, DTYPE_F32);
    else
        grad_sums_as(a, args->dy, sums, begin, end, DTYPE_BF16);
}

/* dx = factor (g - mean g - xhat mean(g xhat)) */
INLINE void grad_apply_block(const struct batchnorm_arguments *args, int64_t first, int64_t stop, bool keep,
                             int64_t c, int64_t n, const enum dtype type) {
    const struct batchnorm *a = args->a;
    struct channels k = channels_at(a, c);
    vf mean_g = v_zero(), slope = v_zero();
    if (args->grad_sums) {
        mean_g = mean_of(args->grad_sums + c, args->inverse_count, n);
        slope = mean_of(args->grad_sums + a->c + c, args->inverse_count, n) * k.rstd;
    }
    for (int64_t row = first; row < stop; row++) {
        int64_t i = row * a->c + c;
        vf centred = load_part(a->x, i, n, type) - k.mean;
        vf g = passed(a, &k, centred, load_part(args->dy, i, n, type));
        vf dx = k.factor * (g - mean_g - centred * slope);
        store_part(args->out, i, keep ? dx : v_zero(), n, type);
    }
}

INLINE void grad_apply_as(const struct batchnorm_arguments *args, int64_t begin, int64_t end,
                          const enum dtype type) {
    bool keep;
    for (int64_t first = begin, stop; first < end; first = stop) {
        stop = block_end(args->a, first, end, &keep);
#define BODY(n) grad_apply_block(args, first, stop, keep, c, n, type)
        FOR_CHANNELS(args->a, BODY);
#undef BODY
    }
}

void SIMD_NAME(kernel_batchnorm_grad_apply)(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct batchnorm_arguments *args = arguments;
    if (args->a->dtype == DTYPE_F32)
        grad_apply_as(args, begin, end, DTYPE_F32);
    else
        grad_apply_as(args, begin, end, DTYPE_BF16);
}
