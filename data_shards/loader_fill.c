#include "data_shards/loader_fill.h"

#include "common/interval.h"
#include "common/memory.h"

#include <string.h>

static size_t element_bytes(const struct loader_plan *plan) {
    static const size_t n_bytes[] = {[LOADER_F32] = 4, [LOADER_BF16] = 2, [LOADER_U8] = 1};
    return n_bytes[plan->config.type];
}

static status_t check(const struct loader_config *c) {
    CHECK(c->n_streams > 0 && c->n_streams <= LOADER_MAX_STREAMS && c->n_parts > 0 &&
              c->n_parts <= LOADER_MAX_PARTS,
          STATUS_BAD_CONFIG, "a loader has 1 to %d streams and 1 to %d parts", LOADER_MAX_STREAMS,
          LOADER_MAX_PARTS);
    CHECK(c->n_threads >= 1 && c->n_threads <= 1024, STATUS_BAD_CONFIG, "%d loader threads: give 1 to 1024",
          c->n_threads);
    CHECK(c->n_ahead >= 2 && c->n_ahead <= 1024, STATUS_BAD_CONFIG, "%d batches in memory: give 2 to 1024",
          c->n_ahead);
    CHECK(c->first_step >= 0 && (c->end_step == -1 || c->end_step >= c->first_step), STATUS_BAD_CONFIG,
          "a loader from step %lld to %lld", (long long)c->first_step, (long long)c->end_step);
    for (int i = 0; i < c->n_parts; i++) {
        const struct loader_part *p = &c->parts[i];
        CHECK(p->stream >= 0 && p->stream < c->n_streams, STATUS_BAD_CONFIG,
              "loader part %d: there is no stream %d", i, p->stream);
        CHECK(p->part == -1 || (p->n_parts > 0 && p->part >= 0 && p->part < p->n_parts), STATUS_BAD_CONFIG,
              "loader part %d: share %lld of %lld", i, (long long)p->part, (long long)p->n_parts);
        TRY(view_spec_check(&p->view));
    }
    return STATUS_OK;
}

/* Whether two parts show the same pixels of an image: the same view, which is not random or drawn for both
 * alike. */
static bool same_pixels(const struct loader_part *a, const struct loader_part *b) {
    const struct view_spec *v = &a->view, *w = &b->view;
    if (a->stream != b->stream || v->kind != w->kind || v->size != w->size) return false;
    if (v->kind == VIEW_NONE || v->kind == VIEW_PERSPECTIVE) return true;
    if (v->kind == VIEW_STUDENT_EVAL) return v->resize_side == w->resize_side;
    if (a->view_id != b->view_id) return false;
    if (v->kind == VIEW_STRONG) return v->n == w->n && v->m == w->m && v->cutout_size == w->cutout_size;
    return a->peer == b->peer && v->resize_side == w->resize_side && v->flip == w->flip;
}

status_t loader_plan_init(struct loader_plan *plan, const struct loader_config *config) {
    TRY(check(config));
    *plan = (struct loader_plan){.config = *config};
    memcpy(plan->streams, config->streams, (size_t)config->n_streams * sizeof *plan->streams);
    memcpy(plan->parts, config->parts, (size_t)config->n_parts * sizeof *plan->parts);
    plan->config.streams = plan->streams;
    plan->config.parts = plan->parts;
    for (int i = 0; i < config->n_parts; i++) {
        plan->same_as[i] = -1;
        for (int k = 0; k < i && plan->same_as[i] == -1; k++)
            if (same_pixels(&plan->parts[k], &plan->parts[i])) plan->same_as[i] = k;
    }
    for (int s = 0; s < config->n_streams; s++) {
        struct loader_stream *stream = &plan->streams[s];
        const struct split *split = stream->split;
        if (stream->mode != SAMPLER_IN_ORDER || stream->end_row == 0)
            stream->first_row = 0, stream->end_row = split->n;
        status_t status = stream->first_row <= stream->end_row && stream->end_row <= split->n
                              ? STATUS_OK
                              : FAIL(STATUS_INTERNAL, "rows %zu to %zu of %s, which has %zu",
                                     stream->first_row, stream->end_row, split->name, split->n);
        if (status == STATUS_OK)
            status = sampler_init(&plan->samplers[s], stream->mode, split->name,
                                  (uint32_t)(stream->end_row - stream->first_row), stream->batch,
                                  config->seed, config->stage, stream->id);
        if (status != STATUS_OK) {
            loader_plan_free(plan);
            return status;
        }
    }
    return STATUS_OK;
}

void loader_plan_free(struct loader_plan *plan) {
    for (int s = 0; s < LOADER_MAX_STREAMS; s++) sampler_free(&plan->samplers[s]);
}

/* Rows that a part needs at most: shares differ by one. */
static size_t rows_at_most(const struct loader_plan *plan, const struct loader_part *p) {
    return p->part == -1 ? 0 : plan->samplers[p->stream].batch / (size_t)p->n_parts + 1;
}

size_t loader_batch_bytes(const struct loader_config *c) {
    const struct loader_plan plan = {.config = *c};
    size_t n_bytes = 0;
    for (int i = 0; i < c->n_parts; i++) {
        const struct loader_part *p = &c->parts[i];
        const size_t side = (size_t)p->view.size,
                     rows = p->part == -1 ? 0 : c->streams[p->stream].batch / (size_t)p->n_parts + 1;
        n_bytes += rows * 3 * side * side * element_bytes(&plan);
    }
    return n_bytes;
}

status_t loader_slot_init(const struct loader_plan *plan, struct loader_slot *slot) {
    const struct loader_config *c = &plan->config;
    *slot = (struct loader_slot){.batch = {.n_parts = c->n_parts}};
    slot->batch.parts = slot->parts;
    for (int i = 0; i < c->n_parts; i++) {
        const struct loader_part *p = &c->parts[i];
        struct loader_output *out = &slot->parts[i];
        const size_t rows = rows_at_most(plan, p), side = (size_t)p->view.size;
        size_t n_bytes;
        CHECK(size_mul(rows, 3 * side * side * element_bytes(plan), &n_bytes), STATUS_BAD_CONFIG,
              "a batch of %zu images of %zux%zu pixels is too large", rows, side, side);
        out->size = p->view.size;
        out->pixels = memory_aligned(n_bytes);
        out->labels = memory_zeroed(rows, sizeof *out->labels);
        out->images = memory_zeroed(rows, sizeof *out->images);
        CHECK(out->pixels && out->labels && out->images, STATUS_NO_MEMORY,
              "out of memory for a batch of %zu images of %zux%zu pixels; lower data.read_ahead or the batch",
              rows, side, side);
    }
    for (int s = 0; s < c->n_streams; s++) {
        slot->streams[s].items = memory_zeroed(plan->samplers[s].batch, sizeof(uint32_t));
        CHECK(slot->streams[s].items, STATUS_NO_MEMORY, "out of memory for a batch");
    }
    return STATUS_OK;
}

void loader_slot_free(struct loader_slot *slot) {
    for (int i = 0; i < LOADER_MAX_PARTS; i++) {
        free(slot->parts[i].pixels);
        free(slot->parts[i].labels);
        free(slot->parts[i].images);
    }
    for (int s = 0; s < LOADER_MAX_STREAMS; s++) free(slot->streams[s].items);
    *slot = (struct loader_slot){0};
}

status_t loader_slot_plan(struct loader_plan *plan, struct loader_slot *slot, int64_t step) {
    const struct loader_config *c = &plan->config;
    slot->batch.step = step;
    slot->n_jobs = 0;
    for (int s = 0; s < c->n_streams; s++)
        slot->streams[s].begin = slot->streams[s].end = 0,
        slot->streams[s].n_global = sampler_batch(&plan->samplers[s], step);
    for (int i = 0; i < c->n_parts; i++) {
        const struct loader_part *p = &c->parts[i];
        struct loader_output *out = &slot->parts[i];
        out->n_global = slot->streams[p->stream].n_global;
        const struct interval mine =
            p->part == -1 ? (struct interval){0, 0} : interval_part(out->n_global, p->part, p->n_parts);
        out->first = mine.begin;
        out->n = interval_length(mine);
        if (out->n == 0) continue;
        int64_t *begin = &slot->streams[p->stream].begin, *end = &slot->streams[p->stream].end;
        if (*begin == *end) *begin = mine.begin, *end = mine.end;
        if (mine.begin < *begin) *begin = mine.begin;
        if (mine.end > *end) *end = mine.end;
    }
    for (int s = 0; s < c->n_streams; s++) {
        TRY(sampler_items(&plan->samplers[s], step, slot->streams[s].begin, slot->streams[s].end,
                          slot->streams[s].items));
        slot->n_jobs += slot->streams[s].end - slot->streams[s].begin;
    }
    return STATUS_OK;
}

/* One image of a stream, while its views are made. */
struct job {
    int stream;
    int64_t position;
    uint32_t index;
    int32_t label;
    const struct image *image;
    int32_t plain_size; /* S of scratch->plain, 0: none yet */
};

static bool wants(const struct loader_plan *plan, const struct loader_slot *slot, int i,
                  const struct job *job) {
    const struct loader_output *out = &slot->parts[i];
    return plan->parts[i].stream == job->stream && job->position >= out->first &&
           job->position < out->first + out->n;
}

static status_t fill_part(const struct loader_plan *plan, struct loader_slot *slot, int i, struct job *job,
                          struct loader_scratch *scratch) {
    const struct loader_part *p = &plan->parts[i];
    struct loader_output *out = &slot->parts[i];
    const int64_t row = job->position - out->first, view_step = plan->config.fixed_view_step;
    const size_t row_bytes = 3 * (size_t)p->view.size * (size_t)p->view.size * element_bytes(plan);
    uint8_t *pixels = (uint8_t *)out->pixels + (size_t)row * row_bytes;
    out->labels[row] = job->label;
    out->images[row] = job->index;
    const int same = plan->same_as[i];
    if (same >= 0 && wants(plan, slot, same, job)) {
        const struct loader_output *made_already = &slot->parts[same];
        const size_t from = (size_t)(job->position - made_already->first) * row_bytes;
        memcpy(pixels, (const uint8_t *)made_already->pixels + from, row_bytes);
        return STATUS_OK;
    }
    const struct view_key key = {.seed = plan->config.seed,
                                 .stage = plan->config.stage,
                                 .peer = p->peer,
                                 .view = p->view_id,
                                 .step = (uint32_t)(view_step >= 0 ? view_step : slot->batch.step),
                                 .image = job->index};
    struct image *made = p->view.kind == VIEW_NONE ? &scratch->plain : &scratch->view;
    const bool from_plain = p->view.kind == VIEW_STRONG && job->plain_size == p->view.size;
    TRY(view_apply(&scratch->views, &p->view, &key, from_plain ? &scratch->plain : job->image, made));
    if (p->view.kind == VIEW_NONE) job->plain_size = p->view.size;
    if (plan->config.type == LOADER_U8)
        memcpy(pixels, made->data, row_bytes);
    else if (plan->config.type == LOADER_BF16)
        normalise_bf16(made, (uint16_t *)(void *)pixels);
    else
        normalise_f32(made, (float *)(void *)pixels);
    return STATUS_OK;
}

status_t loader_slot_fill(const struct loader_plan *plan, struct loader_slot *slot, int64_t number,
                          struct loader_scratch *scratch) {
    struct job job = {.stream = 0};
    while (number >= slot->streams[job.stream].end - slot->streams[job.stream].begin) {
        number -= slot->streams[job.stream].end - slot->streams[job.stream].begin;
        job.stream++;
    }
    const struct loader_stream *stream = &plan->streams[job.stream];
    const size_t row = stream->first_row + slot->streams[job.stream].items[number];
    job.position = slot->streams[job.stream].begin + number;
    job.index = stream->split->index[row];
    job.label = stream->split->label[row];
    TRY(shard_set_image(stream->split->set, job.index, plan->config.verify, &scratch->source, &job.image));
    /* The strong view last: it begins with the `none` view, which another part may have made. */
    for (int strong = 0; strong < 2; strong++)
        for (int i = 0; i < plan->config.n_parts; i++)
            if ((plan->parts[i].view.kind == VIEW_STRONG) == strong && wants(plan, slot, i, &job))
                TRY(fill_part(plan, slot, i, &job, scratch));
    return STATUS_OK;
}

void loader_scratch_free(struct loader_scratch *scratch) {
    image_source_free(&scratch->source);
    view_workspace_free(&scratch->views);
    image_free(&scratch->plain);
    image_free(&scratch->view);
}
