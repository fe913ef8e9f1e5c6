/* marrs_dist report RUN...: one HTML page for each run's directory, or with --table one table over all of
 * them. */
#include "launcher/commands.h"
#include "launcher/run_session.h"

#include "common/log.h"
#include "training/report_html.h"
#include "training/report_table.h"

#include <stdio.h>
#include <string.h>

struct report_options {
    bool table;
    enum report_table_format format;
    const char *split, *model;
};

/* The value of an option that is one of `words` (NULL-terminated); its index. */
static status_t choose(const char *option, const char *value, const char *const *words, int *index) {
    for (int i = 0; value && words[i]; i++)
        if (strcmp(value, words[i]) == 0) {
            *index = i;
            return STATUS_OK;
        }
    char all[128] = "";
    for (int i = 0; words[i]; i++) {
        if (i > 0) strncat(all, ", ", sizeof all - strlen(all) - 1);
        strncat(all, words[i], sizeof all - strlen(all) - 1);
    }
    return FAIL(STATUS_USAGE, "report: %s needs one of %s", option, all);
}

/* Runs are moved to the front of argv; returns through *n_runs how many. */
static status_t parse(int argc, char **argv, struct report_options *o, int *n_runs) {
    static const char *const known[] = {"--help", "--table", "--format", "--split", "--model", NULL};
    static const char *const formats[] = {"text", "csv", "latex", NULL};
    static const char *const splits[] = {"unlabelled", "unlabelled_without_validation", "validation", NULL};
    int index = 0;
    *n_runs = 0;
    *o = (struct report_options){.split = splits[0]};
    bool table_option = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word[0] != '-') {
            argv[(*n_runs)++] = argv[i];
            continue;
        }
        if (strcmp(word, "--table") == 0) {
            o->table = true;
            continue;
        }
        table_option = true;
        const char *value = i + 1 < argc ? argv[++i] : NULL;
        if (strcmp(word, "--format") == 0) {
            TRY(choose(word, value, formats, &index));
            o->format = (enum report_table_format)index;
        } else if (strcmp(word, "--split") == 0) {
            TRY(choose(word, value, splits, &index));
            o->split = splits[index];
        } else if (strcmp(word, "--model") == 0) {
            CHECK(value, STATUS_USAGE,
                  "report: --model needs a name: supervised, ensemble, student or a peer's");
            o->model = value;
        } else
            return command_unknown_option("report", word, known);
    }
    CHECK(*n_runs > 0, STATUS_USAGE, "report: give a run's directory (marrs_dist report RUN)");
    CHECK(o->table || !table_option, STATUS_USAGE, "report: --format, --split and --model go with --table");
    for (int i = 0; i < *n_runs; i++)
        CHECK(argv[i][0], STATUS_USAGE, "report: an empty name is no directory");
    return STATUS_OK;
}

static status_t report_page(const char *run) {
    struct settings settings = {.run = NULL};
    TRY(run_session_settings(run, &settings));
    const status_t status = report_write_page(&settings, MARRS_VERSION);
    settings_free(&settings);
    if (status == STATUS_OK) printf("%s%sreport.html\n", run, run[strlen(run) - 1] == '/' ? "" : "/");
    return status;
}

static status_t report_many(int n_runs, char **runs, const struct report_options *o) {
    struct report_table *table;
    int n_added = 0;
    status_t status = STATUS_OK;
    TRY(report_table_new(o->split, o->model, &table));
    for (int i = 0; i < n_runs; i++) {
        struct settings settings = {.run = NULL};
        bool added = false;
        TRY_TO(done, run_session_settings(runs[i], &settings));
        status = report_table_add(table, &settings, &added);
        settings_free(&settings);
        if (status != STATUS_OK) goto done;
        if (!added) log_global(LOG_WARNING, "%s has no such results yet and is left out", runs[i]);
        n_added += added;
    }
    CHECK_TO(done, n_added > 0, STATUS_MISSING, "none of the %d runs has %s results%s%s", n_runs, o->split,
             o->model ? " of " : "", o->model ? o->model : "");
    status = report_table_write(table, o->format, stdout);
done:
    report_table_free(table);
    return status;
}

status_t cmd_report(struct launch_context *context, int argc, char **argv) {
    struct report_options options;
    int n_runs;
    TRY(parse(argc, argv, &options, &n_runs));
    if (context->rank > 0) return STATUS_OK;
    if (options.table) return report_many(n_runs, argv, &options);
    for (int i = 0; i < n_runs; i++) TRY(report_page(argv[i]));
    return STATUS_OK;
}
