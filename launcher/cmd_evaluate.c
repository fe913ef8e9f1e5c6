/* marrs_dist evaluate RUN: the models of a run on the target's lists. */
#include "launcher/commands.h"
#include "launcher/run_session.h"
#include "training/trained.h"

#include <string.h>

status_t cmd_evaluate(struct launch_context *context, int argc, char **argv) {
    static const char *const known[] = {"--help", NULL};
    struct settings settings = {.run = NULL};
    struct run_session session;
    if (argc == 2 && argv[1][0] == '-') return command_unknown_option("evaluate", argv[1], known);
    CHECK(argc == 2, STATUS_USAGE, "evaluate: give one run's directory (marrs_dist evaluate RUN)");
    TRY(run_session_settings(argv[1], &settings));
    status_t status = run_session_open(context, &settings, &(struct run_session_options){0}, &session);
    if (status == STATUS_OK) {
        status = trained_evaluate(session.run);
        if (status == STATUS_OK) status = run_session_print_results(&session, stdout);
        status = run_session_close(&session, status);
    }
    settings_free(&settings);
    return status;
}
