#include "training/cotrain_loss.h"

#include "common/memory.h"

#include <string.h>

const char *loss_term_name(enum loss_term term) {
    static const char *const names[] = {"source", "labelled", "consistency", "cotraining", "coral"};
    return names[term];
}

const char *step_input_name(enum step_input input) {
    static const char *const names[] = {"source", "labelled", "unlabelled", "strong"};
    return names[input];
}

/* Hand out aligned pieces of one block; with base NULL only the total is counted. */
struct carver {
    char *base;
    size_t used;
};

static void *carve(struct carver *c, int64_t n, size_t element_bytes) {
    void *piece = c->base ? c->base + c->used : NULL;
    c->used += memory_round_up((size_t)n * element_bytes);
    return piece;
}

static void carve_buffers(struct cotrain_loss_buffers *b, struct carver *c) {
    const int64_t n_s = b->n[INPUT_SOURCE], n_u = b->n[INPUT_UNLABELLED];
    b->source_confidence = carve(c, n_s, sizeof(float));
    b->source_label = carve(c, n_s, sizeof(int32_t));
    b->source_mask = carve(c, n_s, 1);
    b->confidence = carve(c, n_u, sizeof(float));
    b->label = carve(c, n_u, sizeof(int32_t));
    b->mask = carve(c, n_u, 1);
    b->send = carve(c, n_u, sizeof(struct pseudo_label));
    for (int32_t q = 0; q < b->n_others; q++) b->receive[q] = carve(c, n_u, sizeof(struct pseudo_label));
    b->other_label = carve(c, n_u, sizeof(int32_t));
    b->other_mask = carve(c, n_u, 1);
    b->kept_source = carve(c, 1, sizeof(double));
    b->source_scale = carve(c, 1, sizeof(float));
    b->sums = carve(c, LOSS_N_TERMS, sizeof(double));
}

status_t cotrain_loss_buffers_new(const struct ops *ops, struct backend *be, const int64_t n[N_INPUTS],
                                  int32_t n_others, struct cotrain_loss_buffers *out) {
    struct cotrain_loss_buffers b = {.n_others = n_others};
    memcpy(b.n, n, sizeof b.n);
    b.receive = memory_zeroed((size_t)n_others, sizeof *b.receive);
    CHECK(b.receive, STATUS_NO_MEMORY, "out of memory for the loss");
    struct carver counter = {0};
    carve_buffers(&b, &counter);
    status_t status = ops->alloc(be, counter.used, &b.block);
    if (status == STATUS_OK) status = ops->fill_zero(be, b.block, counter.used);
    if (status != STATUS_OK) {
        cotrain_loss_buffers_free(ops, be, &b);
        return status;
    }
    carve_buffers(&b, &(struct carver){.base = b.block});
    *out = b;
    return STATUS_OK;
}

void cotrain_loss_buffers_free(const struct ops *ops, struct backend *be, struct cotrain_loss_buffers *b) {
    if (b->block) ops->release(be, b->block);
    free(b->receive);
    memset(b, 0, sizeof *b);
}

/* One term: the cross-entropy of `input` against `labels`; every row counts scale (times *scale_device). */
static status_t term(const struct cotrain_loss *loss, enum step_input input, int64_t n, const int32_t *labels,
                     const uint8_t *mask, float smoothing, float scale, const float *scale_device,
                     bool accumulate, double *sum) {
    return loss->ops->cross_entropy(loss->be, &(struct cross_entropy){.n = n,
                                                                      .k = loss->n_classes,
                                                                      .smoothing = smoothing,
                                                                      .logits = loss->logits[input],
                                                                      .labels = labels,
                                                                      .mask = mask,
                                                                      .scale = scale,
                                                                      .scale_device = scale_device,
                                                                      .dlogits = loss->dlogits[input],
                                                                      .dlogits_accumulate = accumulate,
                                                                      .loss_sum = sum});
}

static float share(float weight, int64_t n) {
    return n > 0 ? weight / (float)n : 0.0f;
}

static status_t labelled_term(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b) {
    return term(loss, INPUT_LABELLED, b->n[INPUT_LABELLED], loss->labels[1], NULL, loss->smoothing,
                share(loss->weight[LOSS_LABELLED], loss->n_global[INPUT_LABELLED]), NULL, false,
                &b->sums[LOSS_LABELLED]);
}

status_t cotrain_loss_warmup(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b) {
    TRY(loss->ops->fill_zero(loss->be, b->sums, LOSS_N_TERMS * sizeof(double)));
    TRY(term(loss, INPUT_SOURCE, b->n[INPUT_SOURCE], loss->labels[0], NULL, loss->smoothing,
             share(loss->weight[LOSS_SOURCE], loss->n_global[INPUT_SOURCE]), NULL, false,
             &b->sums[LOSS_SOURCE]));
    return labelled_term(loss, b);
}

status_t cotrain_loss_label(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b) {
    const int64_t n = b->n[INPUT_UNLABELLED];
    TRY(loss->ops->confidence(loss->be, &(struct confidence){.n = n,
                                                             .k = loss->n_classes,
                                                             .logits = loss->logits[INPUT_UNLABELLED],
                                                             .threshold = loss->tau,
                                                             .confidence = b->confidence,
                                                             .label = b->label,
                                                             .mask = b->mask}));
    return loss->ops->pseudo_pack(loss->be, b->label, b->confidence, n, b->send);
}

/* The source term needs the group's count of kept rows before any gradient can be scaled. */
static status_t source_term(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b) {
    const int64_t n = b->n[INPUT_SOURCE];
    TRY(loss->ops->confidence(loss->be, &(struct confidence){.n = n,
                                                             .k = loss->n_classes,
                                                             .logits = loss->logits[INPUT_SOURCE],
                                                             .threshold = loss->tau_source,
                                                             .confidence = b->source_confidence,
                                                             .label = b->source_label,
                                                             .mask = b->source_mask}));
    TRY(loss->ops->mask_sum(loss->be, b->source_mask, n, b->kept_source));
    if (loss->reduce) TRY(loss->reduce(loss->reduce_context, b->kept_source, 1));
    TRY(loss->ops->mean_scale(loss->be, loss->weight[LOSS_SOURCE], b->kept_source, b->source_scale));
    return term(loss, INPUT_SOURCE, n, loss->labels[0], b->source_mask, loss->smoothing, 1.0f,
                b->source_scale, false, &b->sums[LOSS_SOURCE]);
}

status_t cotrain_loss_terms(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b) {
    const int64_t n = b->n[INPUT_UNLABELLED], n_global = loss->n_global[INPUT_UNLABELLED];
    TRY(loss->ops->fill_zero(loss->be, b->sums, LOSS_N_TERMS * sizeof(double)));
    TRY(source_term(loss, b));
    TRY(labelled_term(loss, b));
    TRY(term(loss, INPUT_STRONG, n, b->label, b->mask, 0.0f, share(loss->weight[LOSS_CONSISTENCY], n_global),
             NULL, false, &b->sums[LOSS_CONSISTENCY]));
    const int32_t n_others = b->n_others;
    if (n_others == 0) /* no other peer: no co-training term */
        return loss->ops->fill_zero(loss->be, loss->dlogits[INPUT_UNLABELLED],
                                    (size_t)n * (size_t)loss->n_classes * sizeof(float));
    for (int32_t q = 0; q < n_others; q++) {
        TRY(loss->ops->pseudo_unpack(loss->be, b->receive[q], n, loss->tau, b->other_label, b->other_mask));
        TRY(term(loss, INPUT_UNLABELLED, n, b->other_label, b->other_mask, 0.0f,
                 share(loss->weight[LOSS_COTRAINING], n_global * n_others), NULL, q > 0,
                 &b->sums[LOSS_COTRAINING]));
    }
    return STATUS_OK;
}

static double mean(double sum, double n) {
    return n > 0 ? sum / n : 0;
}

void cotrain_loss_means(const struct cotrain_loss *loss, bool warmup, const double *sums, double kept_source,
                        int32_t n_others, double terms[LOSS_N_TERMS]) {
    const double n_u = (double)loss->n_global[INPUT_UNLABELLED];
    terms[LOSS_SOURCE] = mean(sums[LOSS_SOURCE], warmup ? (double)loss->n_global[INPUT_SOURCE] : kept_source);
    terms[LOSS_LABELLED] = mean(sums[LOSS_LABELLED], (double)loss->n_global[INPUT_LABELLED]);
    terms[LOSS_CONSISTENCY] = mean(sums[LOSS_CONSISTENCY], n_u);
    terms[LOSS_COTRAINING] = mean(sums[LOSS_COTRAINING], n_u * n_others);
    terms[LOSS_CORAL] = sums[LOSS_CORAL];
}
