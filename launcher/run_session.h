/* A run opened by a command: placement, backend and the stages' view of it. */
#ifndef LAUNCHER_RUN_SESSION_H
#define LAUNCHER_RUN_SESSION_H

#include "launcher/commands.h"
#include "launcher/device.h"
#include "launcher/placement.h"
#include "training/run.h"

#include <signal.h>
#include <stdio.h>

struct run_session {
    struct launch_context *context;
    struct placement placement;
    struct device device;
    struct run *run;
    struct comm_membership members[SETTINGS_MAX_PEERS];
};

struct run_session_options {
    bool prepare_folder;         /* make or compare RUN/config.yaml, and print the placement */
    volatile sig_atomic_t *stop; /* NULL: none */
};

/* Place the peers, open the backend the configuration asks for, open the run. Collective over context->world;
 * settings are borrowed until the session is closed. STATUS_MISSING where a device is asked for that is not
 * there. */
status_t run_session_open(struct launch_context *context, const struct settings *settings,
                          const struct run_session_options *options, struct run_session *out);
/* With the status that the command comes to; returns it, or that of the closing itself. In order (STATUS_OK
 * or STATUS_STOPPED, on all ranks alike): collective over context->world. Else waits for nobody. */
status_t run_session_close(struct run_session *session, status_t status);

/* The final table, on rank 0. */
status_t run_session_print_results(const struct run_session *session, FILE *out);

/* The settings of the finished or running RUN directory (its config.yaml), with `run` set to that directory.
 */
status_t run_session_settings(const char *run_folder, struct settings *out);

#endif
