/* The teachers of the distillation: the peers' class probabilities on the unlabelled target images, computed
 * once. */
#ifndef TRAINING_TEACHERS_H
#define TRAINING_TEACHERS_H

#include "training/run.h"

/* RUN/features/teachers.h5 (a store): <peer>/probabilities (N_u,K) fp32, in the order of the unlabelled list;
 * attribute list_hash: XXH3-64 of the list's images, so that a stale file is not taken for another list. */
struct teachers {
    int32_t n_peers, n_classes;
    size_t n;             /* rows of the unlabelled list */
    float *probabilities; /* (peers,N_u,K) */
    int32_t *label;       /* (N_u) of the first teacher */
    uint8_t *kept;        /* (N_u) teachers agree and all confidences are above tau (fp32, strictly) */
    float *soft; /* (N_u,K) mean of the teachers' probabilities at `temperature`; NULL: hard labels */
    uint32_t
        *row_of; /* image number - first image number of the target -> row of the list; UINT32_MAX: none */
    uint32_t first_index;
    size_t n_images;
};

/* Read the file where it fits this run, otherwise compute the probabilities with the peers' models
 * (RUN/models/<peer>.safetensors), each group its peer's, rows shared out over its ranks, and write it. The
 * same on every rank afterwards. Collective over the world. */
status_t teachers_open(struct run *run, double tau, double temperature, struct teachers *out);
void teachers_close(struct teachers *teachers); /* accepts a zeroed struct */

/* Write the file from probabilities (peers,N_u,K) that another stage has: rank 0. */
status_t teachers_save(struct run *run, const float *probabilities);

/* Remove the file: the peers have other weights now. Rank 0. */
void teachers_forget(const struct run *run);

/* The row of an image of the target domain. */
static inline uint32_t teachers_row(const struct teachers *t, uint32_t image) {
    return image >= t->first_index && image - t->first_index < t->n_images ? t->row_of[image - t->first_index]
                                                                           : UINT32_MAX;
}

#endif
