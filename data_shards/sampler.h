/* Which images form the global batch of a step: a pure function of (seed, stage, stream, step), so that any
 * number of ranks, any interval and any resumed run see the same batches and there is no state to save. */
#ifndef DATA_SHARDS_SAMPLER_H
#define DATA_SHARDS_SAMPLER_H

#include "common/status.h"

#include <stdbool.h>
#include <stdint.h>

enum sampler_mode {
    SAMPLER_EPOCHS, /* one endless row of epochs, each a permutation: a batch may span two of them. Small sets
                       are repeated as needed */
    SAMPLER_DROP_LAST, /* shuffle, drop the last partial batch, start again (METHOD section 5); a set smaller
                          than the batch gives batches of its own size */
    SAMPLER_IN_ORDER,  /* step s: items [s * batch, (s+1) * batch), the last one partial, empty behind it */
};

struct sampler {
    enum sampler_mode mode;
    uint32_t n_items;
    uint32_t batch; /* of all ranks together; <= n_items for SAMPLER_DROP_LAST */
    uint64_t seed;
    uint8_t stage, stream; /* stream: tells the samplers of one stage apart */
    uint32_t *order;       /* [n_items] of `epoch`, owned; made when needed */
    uint32_t epoch;
    bool has_order;
};

/* STATUS_BAD_CONFIG for an empty set or batch; `name` is the set's, for that message. */
status_t sampler_init(struct sampler *sampler, enum sampler_mode mode, const char *name, uint32_t n_items,
                      uint32_t batch, uint64_t seed, uint8_t stage, uint8_t stream);
void sampler_free(struct sampler *sampler); /* accepts a zeroed struct */

/* Size of the global batch of `step`. */
uint32_t sampler_batch(const struct sampler *sampler, int64_t step);

/* Items (numbers below n_items) at positions [begin, end) of the global batch of `step`. One thread at a
 * time: the order of the last epoch is kept. */
status_t sampler_items(struct sampler *sampler, int64_t step, int64_t begin, int64_t end,
                       uint32_t *items_out);

#endif
