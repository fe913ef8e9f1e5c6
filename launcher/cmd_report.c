/* marrs_dist report RUN...: one HTML page for each run's directory. */
#include "launcher/commands.h"
#include "launcher/run_session.h"
#include "training/report_html.h"

#include <stdio.h>
#include <string.h>

static status_t report_page(const char *run) {
    struct settings settings = {.run = NULL};
    TRY(run_session_settings(run, &settings));
    const status_t status = report_write_page(&settings, MARRS_VERSION);
    settings_free(&settings);
    if (status == STATUS_OK) printf("%s%sreport.html\n", run, run[strlen(run) - 1] == '/' ? "" : "/");
    return status;
}

status_t cmd_report(struct launch_context *context, int argc, char **argv) {
    static const char *const known[] = {"--help", NULL};
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '-') return command_unknown_option("report", argv[i], known);
    CHECK(argc >= 2, STATUS_USAGE, "report: give a run's directory (marrs_dist report RUN)");
    if (context->rank > 0) return STATUS_OK;
    for (int i = 1; i < argc; i++) {
        CHECK(argv[i][0], STATUS_USAGE, "report: an empty name is no directory");
        TRY(report_page(argv[i]));
    }
    return STATUS_OK;
}
