/* The images of a run: two domains, and the lists of the method as splits of them. */
#ifndef TRAINING_RUN_DATA_H
#define TRAINING_RUN_DATA_H

#include "data_shards/shard_set.h"
#include "training/settings.h"

#include <stdbool.h>

/* Image numbers count on from the source domain to the target domain. */
struct run_data {
    struct shard_set *source_set, *target_set;
    struct split source, labelled, unlabelled, validation;
    struct split unlabelled_only; /* unlabelled without validation images */
    bool overlap;                 /* validation images lie inside the unlabelled list */
    int32_t n_classes;
};

/* Open shards and lists and resolve them; `report`: log overlaps between lists (rank 0). The image cache of
 * data.cache_mb is shared by both domains in proportion. Errors name the file, list line or image. */
status_t run_data_open(const struct settings *settings, bool report, struct run_data *out);
void run_data_close(struct run_data *data); /* accepts a zeroed struct */

const char *run_data_class_name(const struct run_data *data, int32_t k);

#endif
