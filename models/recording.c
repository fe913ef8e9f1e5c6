#include "models/recording.h"

#include "common/memory.h"
#include "models/net_internal.h"

#include <stdlib.h>

enum { BACKWARD_PARTS = 8 };

static bool is_fixed(const struct pass *pass, const struct step *step) {
    const struct node *node = &pass->graph.nodes[step->node];
    if (step->kind == STEP_ADD || step->kind == STEP_FOLDED) return true;
    if (node->kind == NODE_DROPOUT) return pass->options.mode != PASS_TRAIN || node->rate <= 0;
    return node->kind != NODE_BATCHNORM || pass->options.mode != PASS_TRAIN ||
           pass->options.frozen_statistics;
}

/* Elements of the gradients that are final after each step of backward. */
static int64_t final_elements(const struct pass *pass, int32_t step) {
    int64_t n = 0;
    for (int32_t i = 0; i < pass->net->table.n; i++)
        if (pass->program.final_step[i] == step) n += pass->net->table.items[i].n_elem;
    return n;
}

status_t recordings_build(struct pass *pass) {
    struct recordings *r = &pass->recordings;
    const struct program *p = &pass->program;
    const int64_t part = net_n_elem(pass->net) / BACKWARD_PARTS;
    int64_t n_final = 0;
    if (!pass->options.record || !pass->net->ops->record_begin || pass->options.batch == 0) return STATUS_OK;
    r->segments = memory_zeroed((size_t)p->n_steps, sizeof *r->segments);
    CHECK(r->segments, STATUS_NO_MEMORY, "out of memory for the steps of a pass");
    bool part_here = true; /* a segment begins with this step */
    for (int32_t s = 0; s < p->n_steps; s++) {
        const bool fixed = is_fixed(pass, &p->steps[s]);
        if (s == p->n_forward) {
            r->n_forward = r->n;
            part_here = true;
        }
        if (part_here || fixed != r->segments[r->n - 1].fixed)
            r->segments[r->n++] = (struct segment){.begin = s, .fixed = fixed};
        r->segments[r->n - 1].end = s + 1;
        if (s >= p->n_forward) n_final += final_elements(pass, s);
        part_here = s >= p->n_forward && n_final >= part;
        if (part_here) n_final = 0;
    }
    if (p->n_steps == p->n_forward) r->n_forward = r->n;
    return STATUS_OK;
}

static void drop(struct pass *pass) {
    struct recordings *r = &pass->recordings;
    for (int32_t i = 0; i < r->n; i++) {
        if (r->segments[i].recording) pass->net->ops->record_free(pass->net->be, r->segments[i].recording);
        r->segments[i].recording = NULL;
    }
    r->n_forwards = r->n_backwards = 0;
}

void recordings_free(struct pass *pass) {
    drop(pass);
    free(pass->recordings.segments);
    pass->recordings = (struct recordings){0};
}

void recordings_begin_forward(struct pass *pass) {
    struct recordings *r = &pass->recordings;
    if (r->update_statistics != pass->forward.update_statistics || r->image_mask != pass->forward.image_mask)
        drop(pass);
    r->update_statistics = pass->forward.update_statistics;
    r->image_mask = pass->forward.image_mask;
}

static status_t run_steps(struct pass *pass, const struct segment *segment) {
    for (int32_t s = segment->begin; s < segment->end; s++) TRY(run_step(pass, &pass->program.steps[s]));
    return STATUS_OK;
}

/* The recording is ended even where a step failed: the stream must not stay in that state. */
static status_t record(struct pass *pass, struct segment *segment) {
    const struct ops *ops = pass->net->ops;
    void *recording = NULL;
    TRY(ops->record_begin(pass->net->be));
    const status_t status = run_steps(pass, segment), ended = ops->record_end(pass->net->be, &recording);
    if (status != STATUS_OK && recording) ops->record_free(pass->net->be, recording);
    TRY(status);
    TRY(ended);
    segment->recording = recording;
    return STATUS_OK;
}

status_t recordings_run(struct pass *pass, struct segment *segment) {
    const struct recordings *r = &pass->recordings;
    const bool forward = segment < r->segments + r->n_forward;
    if (!segment->fixed || (forward ? r->n_forwards : r->n_backwards) == 0) return run_steps(pass, segment);
    if (!segment->recording) TRY(record(pass, segment));
    return pass->net->ops->replay(pass->net->be, segment->recording);
}
