#include "training/predict.h"

#include "common/memory.h"
#include "training/pixels.h"
#include "training/trained.h"

#include <math.h>
#include <string.h>

struct predictor {
    struct run *run;
    struct net *net;
    struct pass *pass;
    int32_t batch, image;
    float *probabilities;           /* (batch,K) backend memory */
    const struct frozen_head *head; /* NULL: the net's own classifier */
    float *features;                /* (batch,D) host memory, with a head */
};

status_t predictor_new(struct run *run, struct net *net, int32_t image, struct predictor **out) {
    struct predictor *p = calloc(1, sizeof *p);
    CHECK(p, STATUS_NO_MEMORY, "out of memory for a predictor");
    *p = (struct predictor){
        .run = run, .net = net, .batch = (int32_t)run->settings->evaluate.batch, .image = image};
    const struct pass_options o = {.batch = p->batch,
                                   .height = image,
                                   .width = image,
                                   .mode = PASS_INFER,
                                   .record = run->settings->cuda.graph};
    void *probabilities = NULL;
    status_t status = pass_new(net, &o, &p->pass);
    if (status == STATUS_OK)
        status = run->ops->alloc(run->be, (size_t)p->batch * (size_t)run->data.n_classes * sizeof(float),
                                 &probabilities);
    p->probabilities = probabilities;
    if (status != STATUS_OK) {
        predictor_free(p);
        return status;
    }
    *out = p;
    return STATUS_OK;
}

void predictor_free(struct predictor *p) {
    if (!p) return;
    if (p->probabilities) p->run->ops->release(p->run->be, p->probabilities);
    pass_free(p->pass);
    free(p->features);
    free(p);
}

status_t predictor_use_head(struct predictor *p, const struct frozen_head *head) {
    p->features = memory_zeroed((size_t)p->batch * (size_t)head->d, sizeof *p->features);
    CHECK(p->features, STATUS_NO_MEMORY, "out of memory for features");
    p->head = head;
    return STATUS_OK;
}

/* One loaded batch of n rows -> probabilities (n,K). The pass has a fixed batch: rows past n hold what was
 * there. */
static status_t infer(struct predictor *p, struct pixels *pixels, const struct loader_batch *batch,
                      float *probabilities) {
    const struct run *run = p->run;
    const struct loader_output *in = &batch->parts[0];
    const int64_t k = run->data.n_classes;
    TRY(pixels_copy(pixels, batch, 0, pass_input(p->pass)));
    TRY(pass_forward(p->pass, &(struct forward_options){0}));
    TRY(pixels_ahead(pixels));
    if (p->head) {
        TRY(run->ops->copy_out(run->be, p->features, pass_features(p->pass),
                               (size_t)(in->n * p->head->d) * sizeof(float)));
        frozen_head_apply(p->head, p->features, in->n, probabilities);
        return STATUS_OK;
    }
    TRY(run->ops->confidence(
        run->be, &(struct confidence){
                     .n = in->n, .k = k, .logits = pass_logits(p->pass), .probabilities = p->probabilities}));
    return run->ops->copy_out(run->be, probabilities, p->probabilities, (size_t)(in->n * k) * sizeof(float));
}

static status_t infer_rows(struct predictor *p, const struct split *split, struct interval rows,
                           const struct view_spec *view, float *probabilities) {
    if (interval_length(rows) == 0) return STATUS_OK;
    const struct run *run = p->run;
    const struct loader_stream stream = {.split = split,
                                         .mode = SAMPLER_IN_ORDER,
                                         .batch = (uint32_t)p->batch,
                                         .first_row = (size_t)rows.begin,
                                         .end_row = (size_t)rows.end};
    const struct loader_part part = {.stream = 0, .view = *view, .peer = 255, .part = 0, .n_parts = 1};
    const struct loader_config config = {.streams = &stream,
                                         .n_streams = 1,
                                         .parts = &part,
                                         .n_parts = 1,
                                         .seed = (uint64_t)run->settings->seed,
                                         .stage = STAGE_EVALUATE,
                                         .end_step = (interval_length(rows) + p->batch - 1) / p->batch,
                                         .n_threads = run->n_workers,
                                         .n_ahead = 2,
                                         .verify = run->settings->data.verify};
    struct pixels pixels;
    TRY(pixels_open(&pixels, run->ops, run->be, run->precision, &config));
    status_t status;
    for (int64_t done = 0;;) {
        struct loader_batch *batch;
        TRY_TO(out, pixels_next(&pixels, &batch));
        if (!batch) break;
        status = infer(p, &pixels, batch, probabilities + (rows.begin + done) * run->data.n_classes);
        done += batch->parts[0].n;
        loader_release(pixels.loader, batch);
        if (status != STATUS_OK) goto out;
        comm_poke(run->world);
    }
out:
    pixels_close(&pixels);
    return status;
}

status_t predictor_run(struct predictor *p, struct comm *group, const struct split *split,
                       const struct view_spec *view, float *probabilities) {
    const int n_ranks = comm_size(group);
    const int64_t k = p->run->data.n_classes;
    TRY(infer_rows(p, split, interval_part((int64_t)split->n, comm_rank(group), n_ranks), view,
                   probabilities));
    if (n_ranks == 1) return STATUS_OK;
    int64_t *offsets = memory_zeroed((size_t)n_ranks + 1, sizeof *offsets);
    CHECK(offsets, STATUS_NO_MEMORY, "out of memory for the predictions");
    for (int r = 0; r < n_ranks; r++) offsets[r + 1] = interval_part((int64_t)split->n, r, n_ranks).end * k;
    const status_t status = comm_all_gather(comm_host_side(group), probabilities, offsets, COMM_F32);
    free(offsets);
    return status;
}

int32_t argmax(const float *p, int32_t k) {
    int32_t best = 0;
    for (int32_t i = 1; i < k; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

double accuracy(const float *probabilities, const struct split *split, int32_t n_classes) {
    int64_t right = 0, counted = 0;
    for (size_t i = 0; i < split->n; i++) {
        if (split->label[i] < 0) continue;
        counted++;
        right += argmax(probabilities + (int64_t)i * n_classes, n_classes) == split->label[i];
    }
    return counted > 0 ? 100.0 * (double)right / (double)counted : NAN;
}

void count_confusion(const float *probabilities, const struct split *split, int32_t n_classes,
                     int64_t *confusion) {
    for (size_t i = 0; i < split->n; i++)
        if (split->label[i] >= 0 && split->label[i] < n_classes)
            confusion[split->label[i] * n_classes +
                      argmax(probabilities + (int64_t)i * n_classes, n_classes)]++;
}
