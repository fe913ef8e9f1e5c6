/* marrs_dist bench scale: one configuration at several numbers of ranks, each a start of its own. */
#include "launcher/arguments.h"
#include "launcher/bench.h"
#include "launcher/config.h"
#include "launcher/scale.h"

#include "common/file.h"
#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { MAX_POINTS = 32, MAX_OVERRIDES = 64, MAX_OWN = 10 };

struct scale_bench {
    const char *config, *launcher, *csv, *svg;
    char *default_config;
    char *folder; /* of the runs */
    int64_t n_steps, ranks_per_node;
    bool weak;
    int n_points;
    struct scale_point points[MAX_POINTS];
    char *overrides[MAX_OVERRIDES]; /* key=value of the command line, borrowed */
    int n_overrides;
    struct batch_settings batch; /* of the configuration */
    char program[PATH_MAX];
};

/* ---- options
 * ------------------------------------------------------------------------------------------------------ */

static status_t parse_ranks(const char *text, struct scale_bench *b) {
    b->n_points = 0;
    for (const char *p = text; *p;) {
        char *end;
        const long n = strtol(p, &end, 10);
        CHECK(end != p && n >= 1 && n <= 65536 && (*end == ',' || *end == '\0') && b->n_points < MAX_POINTS,
              STATUS_USAGE, "bench scale: --ranks takes numbers like 1,2,4, not \"%s\"", text);
        b->points[b->n_points++].n_ranks = (int)n;
        p = end + (*end == ',');
    }
    CHECK(b->n_points > 0, STATUS_USAGE, "bench scale: --ranks is empty");
    return STATUS_OK;
}

static status_t parse(int argc, char **argv, struct scale_bench *b) {
    const char *ranks = "1,2", *out = NULL, *words[MAX_OVERRIDES];
    const struct argument table[] = {
        {.name = "--ranks", .text = &ranks},
        {.name = "--weak", .flag = &b->weak},
        {.name = "--steps", .number = &b->n_steps, .minimum = 2, .maximum = 1000000},
        {.name = "--launcher", .text = &b->launcher},
        {.name = "--ranks-per-node", .number = &b->ranks_per_node, .minimum = 1, .maximum = 65536},
        {.name = "--csv", .text = &b->csv},
        {.name = "--svg", .text = &b->svg},
        {.name = "--out", .text = &out},
        {.name = NULL}};
    int n_words = 0;
    TRY(arguments_parse(argc, argv, table, words, MAX_OVERRIDES, &n_words));
    for (int i = 0; i < n_words; i++) {
        if (strchr(words[i], '=')) {
            b->overrides[b->n_overrides++] = (char *)(uintptr_t)words[i];
        } else {
            CHECK(!b->config, STATUS_USAGE, "bench scale: two configurations, %s and %s", b->config,
                  words[i]);
            b->config = words[i];
        }
    }
    if (out) {
        b->folder = strdup(out);
        CHECK(b->folder, STATUS_NO_MEMORY, "out of memory for a path");
    }
    return parse_ranks(ranks, b);
}

/* Faults of the configuration are told here, once; what weak scaling multiplies is read. */
static status_t read_config(struct scale_bench *b) {
    struct settings settings = {.run = NULL};
    const struct config_overrides overrides = {
        .n_arguments = b->n_overrides, .arguments = b->overrides, .environment = environ};
    if (!b->config) {
        TRY(config_default_path(&b->default_config));
        b->config = b->default_config;
    }
    TRY(config_read(b->config, &overrides, &settings));
    b->batch = settings.cotrain.batch;
    settings_free(&settings);
    return STATUS_OK;
}

static status_t make_folder(struct scale_bench *b) {
    if (b->folder) {
        char *first = file_join(b->folder, "scale.csv");
        const bool used = !first || file_exists(first);
        free(first);
        CHECK(!used, STATUS_CANT_CREATE,
              "bench scale: %s holds another measurement; name another folder (--out)", b->folder);
        return file_make_folders(b->folder);
    }
    b->folder = strdup("runs/scale-XXXXXX");
    CHECK(b->folder, STATUS_NO_MEMORY, "out of memory for a path");
    TRY(file_make_folders("runs"));
    CHECK(mkdtemp(b->folder), STATUS_CANT_CREATE, "cannot make %s: %s", b->folder, strerror(errno));
    return STATUS_OK;
}

/* ---- one run
 * ------------------------------------------------------------------------------------------------------ */

/* The launcher's words with {n} and {nodes} put in, behind it "$@" for the shell (caller frees). */
static char *launcher_command(const struct scale_bench *b, int n_ranks) {
    char *text = NULL;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    if (!out) return NULL;
    const int64_t per_node = b->ranks_per_node > 0 ? b->ranks_per_node : n_ranks;
    fputs("exec ", out);
    for (const char *p = b->launcher; *p;) {
        if (strncmp(p, "{n}", 3) == 0) {
            fprintf(out, "%d", n_ranks);
            p += 3;
        } else if (strncmp(p, "{nodes}", 7) == 0) {
            fprintf(out, "%" PRId64, (n_ranks + per_node - 1) / per_node);
            p += 7;
        } else {
            fputc(*p++, out);
        }
    }
    fputs(" \"$@\"", out);
    return fclose(out) == 0 ? text : (free(text), NULL);
}

/* What a measured run has on top of the configuration; own[MAX_OWN][PATH_MAX]. Their number. */
static int own_overrides(const struct scale_bench *b, int n_ranks, const char *run, char (*own)[PATH_MAX]) {
    int n = 0;
    snprintf(own[n++], PATH_MAX, "run=%s", run);
    snprintf(own[n++], PATH_MAX, "stages=[cotrain]");
    snprintf(own[n++], PATH_MAX, "cotrain.steps=%" PRId64, b->n_steps);
    snprintf(own[n++], PATH_MAX, "cotrain.warmup.steps=0");
    snprintf(own[n++], PATH_MAX, "cotrain.evaluate_every=%" PRId64, b->n_steps + 1);
    snprintf(own[n++], PATH_MAX, "checkpoint.every=0");
    snprintf(own[n++], PATH_MAX, "log.metrics_every=1");
    if (b->weak) {
        const int64_t first = b->points[0].n_ranks;
        snprintf(own[n++], PATH_MAX, "cotrain.batch.source=%" PRId64,
                 (b->batch.source * n_ranks + first - 1) / first);
        snprintf(own[n++], PATH_MAX, "cotrain.batch.labelled=%" PRId64,
                 (b->batch.labelled * n_ranks + first - 1) / first);
        snprintf(own[n++], PATH_MAX, "cotrain.batch.unlabelled=%" PRId64,
                 (b->batch.unlabelled * n_ranks + first - 1) / first);
    }
    return n;
}

/* The last line of a log that says something, for a message. */
static void last_line(const char *path, char *out, size_t n_bytes) {
    char line[400];
    FILE *file = fopen(path, "r");
    out[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strstr(line, "error: ") || out[0] == '\0') snprintf(out, n_bytes, "%s", line);
    }
    if (file) fclose(file);
}

static status_t start_and_wait(char **argv, const char *log_path) {
    char last[400];
    posix_spawn_file_actions_t actions;
    pid_t child;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    const int refused = posix_spawn(&child, "/bin/sh", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    CHECK(refused == 0, STATUS_INTERNAL, "cannot start /bin/sh: %s", strerror(refused));
    int state;
    pid_t ended;
    do ended = waitpid(child, &state, 0);
    while (ended < 0 && errno == EINTR);
    CHECK(ended == child, STATUS_INTERNAL, "cannot wait for %s: %s", argv[2], strerror(errno));
    const int code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    if (code == 0) return STATUS_OK;
    last_line(log_path, last, sizeof last);
    return FAIL(STATUS_DIVERGED, "bench scale: '%s' ended with %d (%s): %s", argv[2], code, log_path, last);
}

static status_t measure(struct scale_bench *b, struct scale_point *point) {
    char own[MAX_OWN][PATH_MAX], run[PATH_MAX], log_path[PATH_MAX];
    char *argv[MAX_OVERRIDES + MAX_OWN + 8], *command = launcher_command(b, point->n_ranks);
    status_t status = STATUS_OK;
    int n = 0;
    CHECK(command, STATUS_NO_MEMORY, "out of memory for a command");
    snprintf(run, sizeof run, "%s/ranks-%d", b->folder, point->n_ranks);
    snprintf(log_path, sizeof log_path, "%s/ranks-%d.log", b->folder, point->n_ranks);
    argv[n++] = (char *)(uintptr_t) "sh";
    argv[n++] = (char *)(uintptr_t) "-c";
    argv[n++] = command;
    argv[n++] = (char *)(uintptr_t) "sh";
    argv[n++] = b->program;
    argv[n++] = (char *)(uintptr_t)b->config;
    for (int i = 0; i < b->n_overrides; i++) argv[n++] = b->overrides[i];
    const int n_own = own_overrides(b, point->n_ranks, run, own);
    for (int i = 0; i < n_own; i++) argv[n++] = own[i];
    argv[n] = NULL;
    TRY_TO(done, start_and_wait(argv, log_path));
    TRY_TO(done, scale_read(run, b->n_steps / 5 > 0 ? b->n_steps / 5 : 1, point));
done:
    free(command);
    return status;
}

/* ---- all of them
 * -------------------------------------------------------------------------------------------------- */

/* `path`, or `name` in the folder of the runs. */
static status_t write_file(const struct scale_bench *b, const char *path, const char *name, bool picture) {
    char title[256], *text = NULL, *own = path ? strdup(path) : file_join(b->folder, name);
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    status_t status = STATUS_OK;
    CHECK_TO(done, out && own, STATUS_NO_MEMORY, "out of memory for %s", name);
    snprintf(title, sizeof title, "%s scaling: %s", b->weak ? "weak" : "strong", b->config);
    if (picture)
        scale_print_svg(b->points, b->n_points, title, out);
    else
        scale_print_csv(b->points, b->n_points, out);
    CHECK_TO(done, fflush(out) == 0, STATUS_NO_MEMORY, "out of memory for %s", name);
    status = file_write_atomic(own, text, n_bytes);
done:
    if (out) fclose(out);
    free(text);
    free(own);
    return status;
}

static status_t run_all(struct scale_bench *b) {
    const ssize_t n = readlink("/proc/self/exe", b->program, sizeof b->program - 1);
    CHECK(n > 0, STATUS_INTERNAL, "cannot find this program's own file: %s", strerror(errno));
    b->program[n] = '\0';
    TRY(read_config(b));
    TRY(make_folder(b));
    for (int i = 0; i < b->n_points; i++) {
        TRY(measure(b, &b->points[i]));
        fprintf(stderr, "%d ranks: %.1f images/s\n", b->points[i].n_ranks, b->points[i].images_per_s);
    }
    scale_compare(b->points, b->n_points);
    printf("%s scaling of %s, %" PRId64 " steps counted, medians\n", b->weak ? "weak" : "strong", b->config,
           b->points[0].n_steps);
    scale_print_table(b->points, b->n_points, stdout);
    TRY(write_file(b, b->csv, "scale.csv", false));
    TRY(write_file(b, b->svg, "scale.svg", true));
    printf("runs, table and picture: %s\n", b->folder);
    return STATUS_OK;
}

status_t cmd_bench_scale(struct launch_context *context, int argc, char **argv) {
    struct scale_bench b = {.n_steps = 20, .launcher = "mpirun -np {n}"};
    CHECK(!context->world, STATUS_USAGE,
          "bench scale starts mpirun itself: start it alone (hosts: --launcher 'mpirun --hostfile FILE -np "
          "{n}')");
    status_t status = parse(argc, argv, &b);
    if (status == STATUS_OK) status = run_all(&b);
    free(b.default_config);
    free(b.folder);
    return status;
}
