/* A loader's batches and the way of their pixels into the inputs of passes.
 *
 * Where the backend can upload (a GPU), the loader hands out bytes, which travel to the device while the step
 * before is computed and are normalised there; the values are the same. Elsewhere they come normalised and
 * are copied. */
#ifndef TRAINING_PIXELS_H
#define TRAINING_PIXELS_H

#include "data_shards/loader.h"
#include "models/ops/ops.h"

/* Zero-initialise. */
struct pixels {
    const struct ops *ops;
    struct backend *be;
    enum dtype precision;
    struct loader *loader;
    struct upload *upload; /* NULL: batches come normalised */
    int64_t n_taken;       /* batches taken from the loader, the one ahead too */
    struct loader_batch *ahead;
    size_t offset[UPLOAD_LANES][LOADER_MAX_PARTS]; /* of the parts in their lane */
};

/* Open the loader of this configuration, whose type is decided here. n_ahead of at least 2 is enough. */
status_t pixels_open(struct pixels *p, const struct ops *ops, struct backend *be, enum dtype precision,
                     const struct loader_config *config);
void pixels_close(struct pixels *p); /* leaves a zeroed struct; accepts one */

/* As loader_next(): the batch of the next step, NULL after the last; its pixels are under way. To be given
 * back by loader_release(), oldest first. */
status_t pixels_next(struct pixels *p, struct loader_batch **out);

/* Pixels of a part of the batch that pixels_next() gave last to the device, y (n,S,S,3) of the precision. All
 * parts of a batch before pixels_ahead() is called for the second time after it. */
status_t pixels_copy(struct pixels *p, const struct loader_batch *batch, int part, void *y);

/* Call once the work of a step was enqueued and before anything waits for it: the next batch is taken from
 * the loader, waiting for it, and set under way. Nothing where the backend does not upload. */
status_t pixels_ahead(struct pixels *p);

#endif
