/* marrs_dist [train]: every stage of a configuration that is not done yet. */
#include "launcher/cmd_train.h"
#include "launcher/run_session.h"
#include "launcher/run_state.h"

#include "common/log.h"
#include "training/report_html.h"
#include "training/run.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static volatile sig_atomic_t stop_wanted;

/* The first signal asks for a clean stop at the end of the step, the second ends the process at once. */
static void on_signal(int number) {
    stop_wanted = 1;
    signal(number, SIG_DFL);
}

static void catch_signals(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigaction(numbers[i], &action, NULL);
    }
}

struct train_options {
    const char *config;
    struct config_overrides overrides;
};

/* key=value arguments are moved to the front of argv. */
static status_t parse(int argc, char **argv, struct train_options *o) {
    static const char *const known[] = {"--help", NULL};
    int n_kept = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) return command_unknown_option("train", argv[i], known);
        if (!o->config && !strchr(argv[i], '=')) {
            o->config = argv[i];
            continue;
        }
        CHECK(strchr(argv[i], '='), STATUS_USAGE,
              "train: %s is neither key=value nor the only configuration file", argv[i]);
        argv[n_kept++] = argv[i];
    }
    o->overrides =
        (struct config_overrides){.n_arguments = n_kept, .arguments = argv, .environment = environ};
    return STATUS_OK;
}

static status_t train(struct launch_context *context, const struct settings *settings) {
    struct run_session session;
    TRY(run_session_open(context, settings,
                         &(struct run_session_options){.prepare_folder = true, .stop = &stop_wanted},
                         &session));
    catch_signals();
    struct run_state state = run_state_begin(context->host, context->n_ranks);
    if (session.run->writes) run_state_write(settings->run, &state);
    status_t status = run_stages(session.run);
    run_state_end(&state, status);
    if (session.run->writes) run_state_write(settings->run, &state);
    if (status == STATUS_OK) status = run_session_print_results(&session, stdout);
    const bool report = status == STATUS_OK && settings->log.report && session.run->writes;
    status = run_session_close(&session, status);
    if (report && report_write_page(settings, MARRS_VERSION) != STATUS_OK)
        log_global(LOG_WARNING, "no report.html: %s", status_message());
    return status;
}

status_t train_configuration(struct launch_context *context, const char *config,
                             const struct config_overrides *overrides) {
    struct settings settings = {.run = NULL};
    TRY(config_read(config, overrides, &settings));
    log_set_level((log_level_t)settings.log.level);
    const status_t status = train(context, &settings);
    settings_free(&settings);
    return status;
}

status_t cmd_train(struct launch_context *context, int argc, char **argv) {
    struct train_options options = {.config = NULL};
    char *default_path = NULL;
    TRY(parse(argc, argv, &options));
    if (!options.config) {
        TRY(config_default_path(&default_path));
        options.config = default_path;
    }
    const status_t status = train_configuration(context, options.config, &options.overrides);
    free(default_path);
    return status;
}
