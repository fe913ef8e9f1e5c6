#include "training/head.h"

#include "common/memory.h"
#include "models/ops/bf16.h"

#include <math.h>
#include <string.h>

/* A run of rows of A with one scale and smoothing. */
struct piece {
    int64_t first, n;
    float scale, smoothing;
};

struct head {
    struct head_options o;
    void *rows[HEAD_N_INPUTS]; /* (n_local,d) of precision */
    int32_t *labels[2];        /* host copies */
    float *w, *v, *g;          /* (K,d) fp32 */
    void *w_low;               /* (K,d) bf16 copy of w; NULL in fp32 */
    void *a;                   /* (n_a,d) of precision */
    int64_t n_a, capacity;
    float *z, *dz;     /* (capacity,K) */
    void *dz_low;      /* bf16 copy of dz */
    int32_t *a_labels; /* (capacity) backend */
    float *confidence; /* (most rows of an input) backend */
    int32_t *label;
    float *probabilities; /* (most rows,K) backend */
    double *sums;         /* (HEAD_N_TERMS) backend */
    struct piece pieces[HEAD_N_TERMS];
    float *source_confidence; /* (n_s) host */
    uint8_t *source_mask;     /* (n_s) host */
    double kept_source;
    int32_t *index, *host_labels; /* (capacity) host */
    int64_t n_steps;              /* since the momentum was fresh */
    struct optimiser_segment segment;
};

static size_t row_bytes(const struct head_options *o) {
    return (size_t)o->d * dtype_bytes(o->precision);
}

static int64_t most_rows(const struct head_options *o) {
    int64_t most = 1;
    for (int i = 0; i < HEAD_N_INPUTS; i++) most = o->n_local[i] > most ? o->n_local[i] : most;
    return most;
}

static int64_t all_rows(const struct head_options *o) {
    int64_t n = 2; /* at least: a row of fp32 where rows are bf16 (head_predict) */
    for (int i = 0; i < HEAD_N_INPUTS; i++) n += o->n_local[i];
    return n;
}

size_t head_n_bytes(const struct head_options *o) {
    const size_t n = (size_t)all_rows(o), k = (size_t)o->n_classes, w = k * (size_t)o->d;
    return 2 * n * row_bytes(o) + w * 12 + (o->precision == DTYPE_BF16 ? 2 * w + 2 * n * k : 0) + n * k * 8 +
           n * 4 + (size_t)most_rows(o) * (8 + 4 * k);
}

static status_t allocate(struct head *h) {
    const struct head_options *o = &h->o;
    const size_t n = (size_t)all_rows(o), k = (size_t)o->n_classes, w = k * (size_t)o->d,
                 most = (size_t)most_rows(o);
    const bool low = o->precision == DTYPE_BF16;
    const struct {
        void *slot;
        size_t n_bytes;
    } parts[] = {{&h->w, w * 4},
                 {&h->v, w * 4},
                 {&h->g, w * 4},
                 {&h->w_low, low ? w * 2 : 0},
                 {&h->a, n * row_bytes(o)},
                 {&h->z, n * k * 4},
                 {&h->dz, n * k * 4},
                 {&h->dz_low, low ? n * k * 2 : 0},
                 {&h->a_labels, n * 4},
                 {&h->confidence, most * 4},
                 {&h->label, most * 4},
                 {&h->probabilities, most * k * 4},
                 {&h->sums, HEAD_N_TERMS * sizeof(double)}};
    for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
        void *p = NULL;
        if (parts[i].n_bytes > 0) TRY(o->ops->alloc(o->be, parts[i].n_bytes, &p));
        memcpy(parts[i].slot, &p, sizeof p);
    }
    h->index = memory_zeroed(n, sizeof *h->index);
    h->host_labels = memory_zeroed(n, sizeof *h->host_labels);
    h->source_confidence = memory_zeroed((size_t)o->n_local[HEAD_SOURCE], sizeof(float));
    h->source_mask = memory_zeroed((size_t)o->n_local[HEAD_SOURCE], 1);
    CHECK(h->index && h->host_labels && h->source_confidence && h->source_mask, STATUS_NO_MEMORY,
          "out of memory for a classifier's rows");
    h->capacity = (int64_t)n;
    return STATUS_OK;
}

/* fp32 host rows into backend memory of the head's precision. */
static status_t copy_rows(struct head *h, void *dst, const float *rows, int64_t n) {
    const struct head_options *o = &h->o;
    const size_t n_elem = (size_t)(n * o->d);
    if (o->precision == DTYPE_F32) return o->ops->copy_in(o->be, dst, rows, n_elem * sizeof *rows);
    uint16_t *low = memory_zeroed(n_elem, sizeof *low);
    CHECK(low, STATUS_NO_MEMORY, "out of memory for bf16 features");
    for (size_t i = 0; i < n_elem; i++) low[i] = bf16_from_f32(rows[i]);
    const status_t status = o->ops->copy_in(o->be, dst, low, n_elem * sizeof *low);
    free(low);
    return status;
}

static status_t keep_inputs(struct head *h) {
    const struct head_options *o = &h->o;
    for (int i = 0; i < HEAD_N_INPUTS; i++) {
        TRY(o->ops->alloc(o->be, (size_t)(o->n_local[i] + 1) * row_bytes(o), &h->rows[i]));
        TRY(copy_rows(h, h->rows[i], o->rows[i], o->n_local[i]));
    }
    for (int i = 0; i < 2; i++) {
        const size_t n = (size_t)o->n_local[i];
        h->labels[i] = memory_zeroed(n, sizeof(int32_t));
        CHECK(h->labels[i], STATUS_NO_MEMORY, "out of memory for labels");
        if (n > 0) memcpy(h->labels[i], o->labels[i], n * sizeof(int32_t));
    }
    return STATUS_OK;
}

status_t head_new(const struct head_options *options, struct head **out) {
    struct head *h = memory_zeroed(1, sizeof *h);
    CHECK(h, STATUS_NO_MEMORY, "out of memory for a classifier");
    h->o = *options;
    h->segment = (struct optimiser_segment){.offset = 0,
                                            .n_elem = options->n_classes * options->d,
                                            .lr_scale = 1,
                                            .weight_decay = (float)options->weight_decay};
    status_t status = allocate(h);
    if (status == STATUS_OK) status = keep_inputs(h);
    if (status != STATUS_OK) {
        head_free(h);
        return status;
    }
    *out = h;
    return STATUS_OK;
}

void head_free(struct head *h) {
    if (!h) return;
    const struct head_options *o = &h->o;
    void *const blocks[] = {h->w,    h->v,       h->g,        h->w_low,      h->a,      h->z,
                            h->dz,   h->dz_low,  h->a_labels, h->confidence, h->label,  h->probabilities,
                            h->sums, h->rows[0], h->rows[1],  h->rows[2],    h->rows[3]};
    for (size_t i = 0; i < ARRAY_LENGTH(blocks); i++)
        if (blocks[i]) o->ops->release(o->be, blocks[i]);
    free(h->labels[0]);
    free(h->labels[1]);
    free(h->index);
    free(h->host_labels);
    free(h->source_confidence);
    free(h->source_mask);
    free(h);
}

/* ---- weights
 * ------------------------------------------------------------------------------------------------- */

static size_t weights_bytes(const struct head *h) {
    return (size_t)h->segment.n_elem * sizeof(float);
}

static status_t refresh(struct head *h) {
    const struct head_options *o = &h->o;
    return h->w_low ? o->ops->cast(o->be, DTYPE_BF16, h->w_low, DTYPE_F32, h->w, h->segment.n_elem)
                    : STATUS_OK;
}

status_t head_set_weights(struct head *h, const float *weights) {
    h->n_steps = 0;
    TRY(h->o.ops->copy_in(h->o.be, h->w, weights, weights_bytes(h)));
    return refresh(h);
}

status_t head_get_weights(struct head *h, float *weights) {
    return h->o.ops->copy_out(h->o.be, weights, h->w, weights_bytes(h));
}

status_t head_get_state(struct head *h, float *momentum, int64_t *n_steps) {
    *n_steps = h->n_steps;
    return h->o.ops->copy_out(h->o.be, momentum, h->v, weights_bytes(h));
}

status_t head_set_state(struct head *h, const float *momentum, int64_t n_steps) {
    h->n_steps = n_steps;
    return h->o.ops->copy_in(h->o.be, h->v, momentum, weights_bytes(h));
}

/* ---- selection
 * ----------------------------------------------------------------------------------------------- */

/* Append the rows index[first .. first + n) of an input to A as one piece. */
static status_t append(struct head *h, enum head_term term, enum head_input input, int64_t n, double scale,
                       double smoothing) {
    const struct head_options *o = &h->o;
    h->pieces[term] =
        (struct piece){.first = h->n_a, .n = n, .scale = (float)scale, .smoothing = (float)smoothing};
    if (n > 0)
        TRY(o->ops->gather_rows(o->be, (char *)h->a + (size_t)h->n_a * row_bytes(o), h->rows[input],
                                row_bytes(o), n, h->index + h->n_a));
    h->n_a += n;
    return STATUS_OK;
}

static status_t finish_selection(struct head *h) {
    const struct head_options *o = &h->o;
    return h->n_a > 0 ? o->ops->copy_in(o->be, h->a_labels, h->host_labels, (size_t)h->n_a * sizeof(int32_t))
                      : STATUS_OK;
}

/* All rows of source or labelled (mask NULL), or those whose mask is set. */
static int64_t take_true_labels(struct head *h, enum head_input input, const uint8_t *mask) {
    int64_t n = 0;
    for (int64_t i = 0; i < h->o.n_local[input]; i++) {
        if (mask && !mask[i]) continue;
        h->index[h->n_a + n] = (int32_t)i;
        h->host_labels[h->n_a + n++] = h->labels[input][i];
    }
    return n;
}

static int64_t take_pseudo_labels(struct head *h, const struct pseudo_label *from, double tau) {
    int64_t n = 0;
    for (int64_t i = 0; from && i < h->o.n_local[HEAD_UNLABELLED]; i++) {
        if (!(from[i].confidence > (float)tau) || from[i].label < 0) continue;
        h->index[h->n_a + n] = (int32_t)i;
        h->host_labels[h->n_a + n++] = from[i].label;
    }
    return n;
}

static double share(double weight, double n) {
    return n > 0 ? weight / n : 0;
}

status_t head_select_init(struct head *h, double weight_source, double weight_labelled) {
    memset(h->pieces, 0, sizeof h->pieces);
    h->n_a = 0;
    const double n_s = (double)h->o.n_global[HEAD_SOURCE], n_t = (double)h->o.n_global[HEAD_LABELLED];
    TRY(append(h, HEAD_TERM_SOURCE, HEAD_SOURCE, take_true_labels(h, HEAD_SOURCE, NULL),
               share(weight_source, n_s), 0));
    TRY(append(h, HEAD_TERM_LABELLED, HEAD_LABELLED, take_true_labels(h, HEAD_LABELLED, NULL),
               share(weight_labelled, n_t), 0));
    return finish_selection(h);
}

status_t head_select(struct head *h, const struct head_selection *s) {
    memset(h->pieces, 0, sizeof h->pieces);
    h->n_a = 0;
    const double n_t = (double)h->o.n_global[HEAD_LABELLED], n_u = (double)h->o.n_global[HEAD_UNLABELLED];
    TRY(append(h, HEAD_TERM_SOURCE, HEAD_SOURCE, take_true_labels(h, HEAD_SOURCE, h->source_mask),
               share(s->weight[HEAD_TERM_SOURCE], h->kept_source), s->smoothing));
    TRY(append(h, HEAD_TERM_LABELLED, HEAD_LABELLED, take_true_labels(h, HEAD_LABELLED, NULL),
               share(s->weight[HEAD_TERM_LABELLED], n_t), s->smoothing));
    TRY(append(h, HEAD_TERM_CONSISTENCY, HEAD_STRONG, take_pseudo_labels(h, s->own, s->tau),
               share(s->weight[HEAD_TERM_CONSISTENCY], n_u), 0));
    TRY(append(h, HEAD_TERM_COTRAINING, HEAD_UNLABELLED, take_pseudo_labels(h, s->other, s->tau),
               share(s->weight[HEAD_TERM_COTRAINING], n_u), 0));
    return finish_selection(h);
}

/* ---- computing
 * ----------------------------------------------------------------------------------------------- */

/* z (n,K) = x W^T; x of `dtype`, with W rounded to it */
static status_t logits(struct head *h, enum dtype dtype, const void *x, int64_t n, float *z) {
    const struct head_options *o = &h->o;
    if (n == 0) return STATUS_OK;
    return o->ops->gemm(o->be, &(struct gemm){.dtype = dtype,
                                              .transpose_b = true,
                                              .m = n,
                                              .n = o->n_classes,
                                              .k = o->d,
                                              .lda = o->d,
                                              .ldb = o->d,
                                              .ldc = o->n_classes,
                                              .alpha = 1,
                                              .a = x,
                                              .b = dtype == DTYPE_F32 ? (void *)h->w : h->w_low,
                                              .c = z});
}

status_t head_label(struct head *h, double tau_source, struct pseudo_label *own) {
    const struct head_options *o = &h->o;
    const int64_t n_u = o->n_local[HEAD_UNLABELLED], n_s = o->n_local[HEAD_SOURCE];
    struct confidence c = {
        .n = n_u, .k = o->n_classes, .logits = h->z, .confidence = h->confidence, .label = h->label};
    TRY(logits(h, o->precision, h->rows[HEAD_UNLABELLED], n_u, h->z));
    TRY(o->ops->confidence(o->be, &c));
    float *confidence = memory_zeroed((size_t)n_u, sizeof *confidence);
    int32_t *label = memory_zeroed((size_t)n_u, sizeof *label);
    status_t status = STATUS_OK;
    CHECK_TO(done, confidence && label, STATUS_NO_MEMORY, "out of memory for pseudo-labels");
    TRY_TO(done, o->ops->copy_out(o->be, confidence, h->confidence, (size_t)n_u * sizeof *confidence));
    TRY_TO(done, o->ops->copy_out(o->be, label, h->label, (size_t)n_u * sizeof *label));
    for (int64_t i = 0; i < n_u; i++)
        own[i] = (struct pseudo_label){.label = label[i], .confidence = confidence[i]};
    c.n = n_s;
    TRY_TO(done, logits(h, o->precision, h->rows[HEAD_SOURCE], n_s, h->z));
    TRY_TO(done, o->ops->confidence(o->be, &c));
    TRY_TO(done, o->ops->copy_out(o->be, h->source_confidence, h->confidence, (size_t)n_s * sizeof(float)));
    h->kept_source = 0;
    for (int64_t i = 0; i < n_s; i++) {
        h->source_mask[i] = h->source_confidence[i] > (float)tau_source;
        h->kept_source += h->source_mask[i];
    }
    if (comm_size(o->group) > 1)
        status = comm_all_reduce(comm_host_side(o->group), &h->kept_source, 1, COMM_F64, COMM_SUM);
done:
    free(confidence);
    free(label);
    return status;
}

static status_t piece_loss(struct head *h, int term, bool wanted) {
    const struct head_options *o = &h->o;
    const struct piece *p = &h->pieces[term];
    if (p->n == 0) return STATUS_OK;
    const int64_t at = p->first * o->n_classes;
    return o->ops->cross_entropy(o->be, &(struct cross_entropy){.n = p->n,
                                                                .k = o->n_classes,
                                                                .smoothing = p->smoothing,
                                                                .logits = h->z + at,
                                                                .labels = h->a_labels + p->first,
                                                                .scale = p->scale,
                                                                .dlogits = h->dz + at,
                                                                .loss_sum = wanted ? &h->sums[term] : NULL});
}

/* dW (K,d) = dZ^T A */
static status_t gradient(struct head *h) {
    const struct head_options *o = &h->o;
    if (h->n_a == 0) return o->ops->fill_zero(o->be, h->g, weights_bytes(h));
    if (h->dz_low) TRY(o->ops->cast(o->be, DTYPE_BF16, h->dz_low, DTYPE_F32, h->dz, h->n_a * o->n_classes));
    return o->ops->gemm(o->be, &(struct gemm){.dtype = o->precision,
                                              .transpose_a = true,
                                              .m = o->n_classes,
                                              .n = o->d,
                                              .k = h->n_a,
                                              .lda = o->n_classes,
                                              .ldb = o->d,
                                              .ldc = o->d,
                                              .alpha = 1,
                                              .a = h->dz_low ? h->dz_low : h->dz,
                                              .b = h->a,
                                              .c = h->g});
}

static status_t update(struct head *h) {
    const struct head_options *o = &h->o;
    TRY(o->ops->sgd(o->be, &(struct optimiser_step){.segments = &h->segment,
                                                    .n_segments = 1,
                                                    .begin = 0,
                                                    .end = h->segment.n_elem,
                                                    .lr = (float)o->lr,
                                                    .momentum = (float)o->momentum,
                                                    .nesterov = o->nesterov,
                                                    .first_step = h->n_steps == 0,
                                                    .params = h->w,
                                                    .grads = h->g,
                                                    .state1 = h->v,
                                                    .shadow = h->w_low}));
    h->n_steps++;
    return STATUS_OK;
}

static status_t collect_losses(struct head *h, double *losses) {
    const struct head_options *o = &h->o;
    TRY(o->ops->copy_out(o->be, losses, h->sums, HEAD_N_TERMS * sizeof *losses));
    for (int t = 0; t < HEAD_N_TERMS; t++) losses[t] *= (double)h->pieces[t].scale;
    return comm_size(o->group) > 1
               ? comm_all_reduce(comm_host_side(o->group), losses, HEAD_N_TERMS, COMM_F64, COMM_SUM)
               : STATUS_OK;
}

status_t head_step(struct head *h, double *losses) {
    const struct head_options *o = &h->o;
    struct comm_request *request = NULL;
    TRY(logits(h, o->precision, h->a, h->n_a, h->z));
    if (losses) TRY(o->ops->fill_zero(o->be, h->sums, HEAD_N_TERMS * sizeof *h->sums));
    for (int t = 0; t < HEAD_N_TERMS; t++) TRY(piece_loss(h, t, losses != NULL));
    TRY(gradient(h));
    if (comm_size(o->group) > 1)
        TRY(comm_all_reduce_begin(o->group, h->g, h->segment.n_elem, COMM_F32, COMM_SUM, &request));
    if (losses) TRY(collect_losses(h, losses));
    TRY(comm_wait_device(&request));
    return update(h);
}

/* In fp32 whatever the precision of training: once, it costs nothing, and weights and features keep their
 * bits. */
status_t head_predict(struct head *h, const float *rows, int64_t n, float *probabilities) {
    const struct head_options *o = &h->o;
    const size_t n_bytes = (size_t)o->d * sizeof *rows;
    /* A is free between selections: use it for the rows */
    const int64_t fit = (int64_t)((size_t)h->capacity * row_bytes(o) / n_bytes),
                  most = most_rows(o) < fit ? most_rows(o) : fit;
    for (int64_t first = 0; first < n; first += most) {
        const int64_t m = n - first < most ? n - first : most;
        TRY(o->ops->copy_in(o->be, h->a, rows + first * o->d, (size_t)m * n_bytes));
        TRY(logits(h, DTYPE_F32, h->a, m, h->z));
        TRY(o->ops->confidence(
            o->be, &(struct confidence){
                       .n = m, .k = o->n_classes, .logits = h->z, .probabilities = h->probabilities}));
        TRY(o->ops->copy_out(o->be, probabilities + first * o->n_classes, h->probabilities,
                             (size_t)(m * o->n_classes) * sizeof *probabilities));
    }
    h->n_a = 0;
    return STATUS_OK;
}

const float *head_source_confidence(const struct head *h) {
    return h->source_confidence;
}
const uint8_t *head_source_mask(const struct head *h) {
    return h->source_mask;
}
double head_kept_source(const struct head *h) {
    return h->kept_source;
}
