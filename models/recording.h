/* Runs of a pass's steps that the backend records once and replays (struct ops' record_begin; a CUDA graph).
 *
 * The first time in each direction every step is carried out as usual, so that libraries have chosen what
 * they will run; the second time runs are recorded; from then on they are replayed. Steps whose arguments
 * change from call to call (dropout's random numbers, batch norm that reduces over a group) are always
 * carried out and part the runs. Backward is parted, too, wherever another eighth of the gradients is final,
 * so that their reduction can start. Internal to models/. */
#ifndef MODELS_RECORDING_H
#define MODELS_RECORDING_H

#include "models/program.h"

struct pass;

struct segment {
    int32_t begin, end; /* steps */
    bool fixed;         /* may be recorded */
    void *recording;    /* of the backend; NULL: none yet */
};

struct recordings {
    struct segment *segments; /* NULL: nothing is recorded */
    int32_t n, n_forward;
    int64_t n_forwards, n_backwards; /* calls since the recordings were dropped */
    /* What the recorded arguments hold besides the pass: */
    bool update_statistics;
    const uint8_t *image_mask;
};

/* Part the pass's steps; nothing where the backend cannot record. STATUS_NO_MEMORY. */
status_t recordings_build(struct pass *pass);
void recordings_free(struct pass *pass);

/* Before the steps of a forward: drops what was recorded with other arguments. */
void recordings_begin_forward(struct pass *pass);

status_t recordings_run(struct pass *pass, struct segment *segment);

#endif
