#include "data_shards/sampler.h"

#include "common/memory.h"
#include "common/rng.h"

status_t sampler_init(struct sampler *s, enum sampler_mode mode, const char *name, uint32_t n_items,
                      uint32_t batch, uint64_t seed, uint8_t stage, uint8_t stream) {
    CHECK(n_items > 0, STATUS_BAD_CONFIG, "%s has no images to draw batches from", name);
    CHECK(batch > 0, STATUS_BAD_CONFIG, "the batch of %s is empty", name);
    if (mode == SAMPLER_DROP_LAST && batch > n_items) batch = n_items;
    *s = (struct sampler){
        .mode = mode, .n_items = n_items, .batch = batch, .seed = seed, .stage = stage, .stream = stream};
    return STATUS_OK;
}

void sampler_free(struct sampler *s) {
    free(s->order);
    *s = (struct sampler){0};
}

uint32_t sampler_batch(const struct sampler *s, int64_t step) {
    if (s->mode != SAMPLER_IN_ORDER) return s->batch;
    const int64_t first = step * (int64_t)s->batch;
    if (first >= s->n_items) return 0;
    return s->n_items - first < s->batch ? (uint32_t)(s->n_items - first) : s->batch;
}

/* Fisher-Yates under the key of this epoch. */
static status_t shuffle(struct sampler *s, uint32_t epoch) {
    if (s->has_order && s->epoch == epoch) return STATUS_OK;
    if (!s->order) s->order = memory_zeroed(s->n_items, sizeof *s->order);
    CHECK(s->order, STATUS_NO_MEMORY, "out of memory for the order of %u images", s->n_items);
    struct rng rng = rng_start((struct rng_key){.seed = s->seed,
                                                .stage = s->stage,
                                                .peer = 255,
                                                .purpose = RNG_SHUFFLE,
                                                .sub = s->stream,
                                                .step = epoch});
    for (uint32_t i = 0; i < s->n_items; i++) s->order[i] = i;
    for (uint32_t i = s->n_items - 1; i > 0; i--) {
        const uint32_t j = rng_below(&rng, i + 1), swapped = s->order[i];
        s->order[i] = s->order[j];
        s->order[j] = swapped;
    }
    s->epoch = epoch;
    s->has_order = true;
    return STATUS_OK;
}

status_t sampler_items(struct sampler *s, int64_t step, int64_t begin, int64_t end, uint32_t *items_out) {
    CHECK(step >= 0 && begin >= 0 && end <= sampler_batch(s, step), STATUS_INTERNAL,
          "positions %lld to %lld of a batch of %u", (long long)begin, (long long)end,
          sampler_batch(s, step));
    if (s->mode == SAMPLER_IN_ORDER) {
        for (int64_t p = begin; p < end; p++) items_out[p - begin] = (uint32_t)(step * (int64_t)s->batch + p);
        return STATUS_OK;
    }
    /* Items that an epoch hands out: all, or all whole batches. */
    const int64_t usable = s->mode == SAMPLER_EPOCHS ? s->n_items : s->n_items / s->batch * s->batch;
    for (int64_t p = begin; p < end; p++) {
        const int64_t at = step * (int64_t)s->batch + p;
        TRY(shuffle(s, (uint32_t)(at / usable)));
        items_out[p - begin] = s->order[at % usable];
    }
    return STATUS_OK;
}
