/* RUN/state.json: whether the run is going on, for those who look at it from outside (marrs_dist watch). What
 * is trained never depends on it.
 *
 *   {"state":"running","host":"node1","pid":4711,"ranks":8,"started_ms":1795534914302}
 *   {"state":"stopped", ..., "ended_ms":..., "message":"stopped after step 120 of cotrain, ..."}
 *
 * A run that is killed leaves "running" behind. */
#ifndef LAUNCHER_RUN_STATE_H
#define LAUNCHER_RUN_STATE_H

#include "common/status.h"

#include <stdbool.h>

enum run_state_kind { RUN_RUNNING, RUN_FINISHED, RUN_STOPPED, RUN_FAILED };

struct run_state {
    enum run_state_kind kind;
    char host[64]; /* of rank 0 */
    long pid;
    int n_ranks;
    double started_s, ended_s; /* since 1970; ended_s 0: not ended */
    char message[512];         /* why it was stopped or failed */
};

/* This process, on this host, running from now on. */
struct run_state run_state_begin(const char *host, int n_ranks);

/* What the end of the stages makes of it: STATUS_OK, STATUS_STOPPED, or a failure, with this thread's
 * message. */
void run_state_end(struct run_state *state, status_t status);

/* Replace the file; a warning where that fails. This thread's message stays. Rank 0 only. */
void run_state_write(const char *run_folder, const struct run_state *state);

/* false: there is none, or it is damaged. */
bool run_state_read(const char *run_folder, struct run_state *out);

#endif
