/* Batches ahead of need: worker threads read, decode, view and normalise (or leave that to a GPU); the
 * consumer takes them in step order.
 *
 * A loader serves *streams* (a split sampled in some way: source, labelled, unlabelled) through *parts* (one
 * view of one stream for one peer: own view, strong view). An image that several parts of its stream want is
 * decoded once. Each part has its own interval of the global batch: rank i of n loads positions
 * interval_part(batch, i, n).
 *
 * Batches depend on (seed, stage, step) and the configuration alone, not on ranks, threads or time. */
#ifndef DATA_SHARDS_LOADER_H
#define DATA_SHARDS_LOADER_H

#include "common/status.h"
#include "data_shards/sampler.h"
#include "data_shards/shard_set.h"
#include "data_shards/view.h"

#include <stdbool.h>
#include <stdint.h>

enum { LOADER_MAX_STREAMS = 8, LOADER_MAX_PARTS = 32 };

struct loader_stream {
    const struct split *split; /* borrowed as long as the loader */
    enum sampler_mode mode;
    uint32_t batch; /* global */
    uint8_t id;     /* tells streams of a stage apart when shuffling */
    /* SAMPLER_IN_ORDER only: rows [first_row, end_row) of the split are the items; both 0: all rows. */
    size_t first_row, end_row;
};

struct loader_part {
    int stream; /* index into streams */
    struct view_spec view;
    uint8_t peer;          /* of the draws; 255: shared by all peers */
    uint8_t view_id;       /* tells several random views of one kind apart */
    int64_t part, n_parts; /* this rank's share of the batch; part -1: nothing here (n = 0 in every batch) */
};

enum loader_type {
    LOADER_F32,
    LOADER_BF16,
    LOADER_U8 /* as the views leave them: whoever takes them normalises, as normalise_f32() does */
};

struct loader_config {
    const struct loader_stream *streams;
    int n_streams;
    const struct loader_part *parts;
    int n_parts;
    uint64_t seed;
    uint8_t stage;
    int64_t first_step, end_step; /* end_step -1: endless */
    /* The step that random views are drawn for: the batch's own, or, for views that are drawn once for all,
     * always this one; -1: the batch's own. In-order streams should fix it: their batches are an accident of
     * sizes. */
    int64_t fixed_view_step;
    enum loader_type type;
    int n_threads; /* >= 1; the caller's default: cores of this rank - 1, at least 1 */
    int n_ahead;   /* batches in memory, >= 2: one in use and the others being filled */
    bool verify;   /* compare each image with its checksum */
};

struct loader_output {
    void *pixels;     /* (n,S,S,3) float or bfloat16, normalised, or bytes */
    int32_t *labels;  /* (n) */
    uint32_t *images; /* (n) image indices of the shard_set */
    int64_t n;
    int64_t first;    /* position of the first in the global batch */
    int64_t n_global; /* size of the global batch */
    int32_t size;     /* S */
};

struct loader_batch {
    int64_t step;
    double wait_s; /* how long loader_next() waited for it */
    int n_parts;
    struct loader_output *parts; /* in the order of the configuration */
};

struct loader_statistics {
    int64_t n_batches, n_images; /* handed out; decoded or taken from the cache */
    double wait_s;               /* of all loader_next() calls */
    double busy_s;               /* of all workers together */
};

struct loader;

/* Bytes of pixels that one batch brings at most, all parts together, in the configuration's type. */
size_t loader_batch_bytes(const struct loader_config *config);

/* Check the configuration, allocate everything and start the threads. STATUS_BAD_CONFIG, STATUS_NO_MEMORY.
 * The arrays of the configuration are copied; the splits must stay. */
status_t loader_open(const struct loader_config *config, struct loader **out);

/* The next batch, waiting for it; *batch_out NULL after the last step. The batch is owned by the loader and
 * valid until loader_release(); at most n_ahead - 1 may be held while another one is asked for. An image that
 * cannot be read or decoded fails the whole batch: the status and message name it (the first by position,
 * whatever the threads did), no batch is held, and the next call goes on with the step after it. */
status_t loader_next(struct loader *loader, struct loader_batch **batch_out);

/* Give a batch back, oldest first. Accepts NULL. */
void loader_release(struct loader *loader, struct loader_batch *batch);

struct loader_statistics loader_statistics(struct loader *loader); /* thread-safe */

/* Stop the threads at once, wait for them and free all. At any time; accepts NULL. */
void loader_close(struct loader *loader);

#endif
