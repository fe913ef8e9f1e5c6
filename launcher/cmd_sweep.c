/* marrs_dist sweep FILE: one configuration over several axes. */
#include "launcher/cmd_train.h"
#include "launcher/sweep.h"

#include "comm/comm.h"
#include "common/file.h"
#include "common/log.h"
#include "training/results.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum sweep_action { SWEEP_ALL, SWEEP_LIST, SWEEP_COUNT, SWEEP_RUN, SWEEP_PRINT };

struct sweep_options {
    const char *file;
    enum sweep_action action;
    int index;
    int n_more; /* key=value, moved to the front of argv */
    char **more;
};

static status_t parse_index(const char *option, const char *value, int *out) {
    char *end = NULL;
    errno = 0;
    const long index = value ? strtol(value, &end, 10) : -1;
    CHECK(value && end != value && *end == '\0' && errno == 0 && index >= 0 && index < SWEEP_MAX_RUNS,
          STATUS_USAGE, "sweep: %s needs the number of a run, counted from 0", option);
    *out = (int)index;
    return STATUS_OK;
}

static status_t parse(int argc, char **argv, struct sweep_options *o) {
    static const char *const known[] = {"--help", "--list", "--count", "--run", "--print", NULL};
    static const enum sweep_action actions[] = {SWEEP_ALL, SWEEP_LIST, SWEEP_COUNT, SWEEP_RUN, SWEEP_PRINT};
    *o = (struct sweep_options){.more = argv};
    for (int i = 1; i < argc; i++) {
        char *word = argv[i];
        if (word[0] == '-') {
            int k = 1;
            while (known[k] && strcmp(known[k], word) != 0) k++;
            if (!known[k]) return command_unknown_option("sweep", word, known);
            CHECK(o->action == SWEEP_ALL, STATUS_USAGE,
                  "sweep: give one of --list, --count, --run and --print");
            o->action = actions[k];
            if (o->action == SWEEP_RUN || o->action == SWEEP_PRINT) {
                const char *value = i + 1 < argc ? argv[++i] : NULL;
                TRY(parse_index(word, value, &o->index));
            }
        } else if (strchr(word, '=')) {
            CHECK(strncmp(word, "run=", 4) != 0, STATUS_USAGE,
                  "sweep: the directories are what the file's `runs` says");
            o->more[o->n_more++] = word;
        } else {
            CHECK(!o->file, STATUS_USAGE, "sweep: %s is neither key=value nor the only file", word);
            o->file = word;
        }
    }
    CHECK(o->file, STATUS_USAGE,
          "sweep: give the sweep's file (marrs_dist sweep configs/sweeps/digits.yaml --list)");
    return STATUS_OK;
}

/* The arguments of a run with those of the command line behind them (caller frees the list only). */
static status_t all_arguments(const struct sweep *s, int index, const struct sweep_options *o,
                              struct config_overrides *out) {
    const struct sweep_run *run = &s->runs[index];
    char **list = calloc((size_t)(run->n_arguments + o->n_more + 1), sizeof *list);
    CHECK(list, STATUS_NO_MEMORY, "out of memory for the sweep");
    memcpy(list, run->arguments, (size_t)run->n_arguments * sizeof *list);
    memcpy(list + run->n_arguments, o->more, (size_t)o->n_more * sizeof *list);
    *out = (struct config_overrides){
        .n_arguments = run->n_arguments + o->n_more, .arguments = list, .environment = environ};
    return STATUS_OK;
}

/* Has every stage of this run been done? */
static status_t is_done(const struct sweep *s, const struct config_overrides *overrides, bool *done) {
    struct settings settings = {.run = NULL};
    struct results *results = NULL;
    TRY(config_read(s->base, overrides, &settings));
    status_t status = STATUS_OK;
    char *path = file_join(settings.run, "results.json");
    CHECK_TO(end, path, STATUS_NO_MEMORY, "out of memory for a path");
    *done = file_exists(path);
    if (!*done) goto end;
    TRY_TO(end, results_open(path, &results));
    for (int i = 0; i < settings.stages.n; i++)
        *done &= results_is_stage_done(results, stage_name(settings.stages.items[i]));
end:
    results_close(results);
    free(path);
    settings_free(&settings);
    return status;
}

static status_t run_one(struct launch_context *context, const struct sweep *s, int index,
                        const struct sweep_options *o, bool skip_done) {
    struct config_overrides overrides;
    TRY(all_arguments(s, index, o, &overrides));
    bool done = false, any = false;
    status_t status = STATUS_OK;
    if (skip_done) TRY_TO(end, is_done(s, &overrides, &done));
    TRY_TO(end, comm_any(context->world, done && context->rank == 0, &any)); /* rank 0's view holds */
    log_global(LOG_INFO, "sweep: run %d of %d, %s%s", index, s->n_runs, s->runs[index].arguments[0] + 4,
               any ? ": done already" : "");
    if (!any) status = train_configuration(context, s->base, &overrides);
end:
    free((char **)overrides.arguments);
    if (status != STATUS_OK) status_context(status, "run %d of %s", index, o->file);
    return status;
}

static status_t print_one(const struct sweep *s, const struct sweep_options *o) {
    struct config_overrides overrides;
    struct settings settings = {.run = NULL};
    TRY(all_arguments(s, o->index, o, &overrides));
    status_t status = config_read(s->base, &overrides, &settings);
    free((char **)overrides.arguments);
    if (status == STATUS_OK) status = config_write(&settings, stdout);
    settings_free(&settings);
    return status;
}

static status_t act(struct launch_context *context, const struct sweep *s, const struct sweep_options *o) {
    const bool speaks = context->rank == 0;
    CHECK((o->action != SWEEP_RUN && o->action != SWEEP_PRINT) || o->index < s->n_runs, STATUS_USAGE,
          "sweep: there is no run %d: %s has %d, counted from 0", o->index, o->file, s->n_runs);
    switch (o->action) {
    case SWEEP_LIST:
        for (int i = 0; speaks && i < s->n_runs; i++) sweep_print_command(s, i, o->n_more, o->more, stdout);
        return STATUS_OK;
    case SWEEP_COUNT:
        if (speaks) printf("%d\n", s->n_runs);
        return STATUS_OK;
    case SWEEP_PRINT:
        return speaks ? print_one(s, o) : STATUS_OK;
    case SWEEP_RUN:
        return run_one(context, s, o->index, o, false);
    case SWEEP_ALL:
        for (int i = 0; i < s->n_runs; i++) TRY(run_one(context, s, i, o, true));
        return STATUS_OK;
    }
    return FAIL(STATUS_INTERNAL, "sweep: no such action");
}

status_t cmd_sweep(struct launch_context *context, int argc, char **argv) {
    struct sweep_options options;
    struct sweep sweep;
    TRY(parse(argc, argv, &options));
    TRY(sweep_read(options.file, &sweep));
    const status_t status = act(context, &sweep, &options);
    sweep_free(&sweep);
    return status;
}
