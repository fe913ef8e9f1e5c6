/* What one batch consists of and how an image gets into it: the loader without its threads. Internal. */
#ifndef DATA_SHARDS_LOADER_FILL_H
#define DATA_SHARDS_LOADER_FILL_H

#include "data_shards/loader.h"

/* The configuration, copied and completed, and the samplers' state. */
struct loader_plan {
    struct loader_config config; /* `streams` and `parts` point to the arrays below */
    struct loader_stream streams[LOADER_MAX_STREAMS];
    struct loader_part parts[LOADER_MAX_PARTS];
    struct sampler samplers[LOADER_MAX_STREAMS]; /* of the one thread that plans */
    int same_as[LOADER_MAX_PARTS]; /* an earlier part of the same pixels (one strong view for several peers),
                                      or -1 */
};

/* A batch and which images it is made of: job j is one image of one stream, for all parts that want it. */
struct loader_slot {
    struct loader_batch batch;
    struct loader_output parts[LOADER_MAX_PARTS];
    struct {
        int64_t begin, end; /* positions of the global batch that some part here wants */
        int64_t n_global;
        uint32_t *items; /* [end - begin] */
    } streams[LOADER_MAX_STREAMS];
    int64_t n_jobs;
};

/* Scratch memory of one worker. Zero-initialise. */
struct loader_scratch {
    struct image_source source;
    struct view_workspace views;
    struct image plain, view; /* the `none` view, kept for the strong one; any other view */
};

/* Check and copy. On failure nothing is left to free. */
status_t loader_plan_init(struct loader_plan *plan, const struct loader_config *config);
void loader_plan_free(struct loader_plan *plan);

/* Buffers for the largest batch. On failure loader_slot_free() cleans up. */
status_t loader_slot_init(const struct loader_plan *plan, struct loader_slot *slot);
void loader_slot_free(struct loader_slot *slot);

/* Decide what the batch of `step` holds: items, intervals, n_jobs. One thread at a time. */
status_t loader_slot_plan(struct loader_plan *plan, struct loader_slot *slot, int64_t step);

/* Make all views of job j. Thread-safe for different jobs. */
status_t loader_slot_fill(const struct loader_plan *plan, struct loader_slot *slot, int64_t job,
                          struct loader_scratch *scratch);

void loader_scratch_free(struct loader_scratch *scratch);

#endif
