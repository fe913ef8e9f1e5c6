#include "launcher/watch.h"

#include "common/file.h"
#include "launcher/run_session.h"
#include "training/metrics_value.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

status_t watch_run_open(const char *folder, struct watch_run *out) {
    struct watch_run run = {.folder = folder, .data.cotrain_begins = NAN};
    status_t status;
    TRY_TO(fail, run_session_settings(folder, &run.settings));
    run.metrics_path = file_join(folder, "metrics.jsonl");
    CHECK_TO(fail, run.metrics_path, STATUS_NO_MEMORY, "out of memory for a path");
    TRY_TO(fail, watch_run_look(&run));
    *out = run;
    return STATUS_OK;
fail:
    watch_run_close(&run);
    return status;
}

void watch_run_close(struct watch_run *run) {
    settings_free(&run->settings);
    report_data_free(&run->data);
    free(run->metrics_path);
    memset(run, 0, sizeof *run);
}

/* Is the file still the one whose beginning was read? */
static bool continues(const struct watch_run *run, int fd, const struct stat *about) {
    char now[WATCH_TAIL];
    if (about->st_ino != run->inode || (uint64_t)about->st_size < run->offset) return false;
    return pread(fd, now, run->n_tail, (off_t)(run->offset - run->n_tail)) == (ssize_t)run->n_tail &&
           memcmp(now, run->tail, run->n_tail) == 0;
}

static void begin_anew(struct watch_run *run) {
    json_t *results = json_incref(run->data.results);
    report_data_free(&run->data);
    run->data = (struct report_data){.cotrain_begins = NAN, .results = results};
    run->offset = 0;
    run->n_tail = 0;
}

/* Whole lines; what stands behind the last one is still being written. */
static void take_lines(struct watch_run *run, const char *text, size_t n) {
    size_t begin = 0;
    for (const char *end; (end = memchr(text + begin, '\n', n - begin)) != NULL;) {
        const size_t length = (size_t)(end - text) - begin;
        if (length > 0 && !report_data_add_line(&run->data, text + begin, length)) run->data.n_damaged++;
        begin += length + 1;
    }
    if (begin == 0) return;
    run->n_tail = begin < WATCH_TAIL ? begin : WATCH_TAIL;
    memcpy(run->tail, text + begin - run->n_tail, run->n_tail);
    run->offset += begin;
}

static status_t look_at_metrics(struct watch_run *run) {
    const int fd = open(run->metrics_path, O_RDONLY | O_CLOEXEC);
    run->wrote_s = NAN;
    if (fd < 0 && errno == ENOENT) {
        begin_anew(run);
        return STATUS_OK;
    }
    CHECK(fd >= 0, STATUS_IO, "cannot open %s: %s", run->metrics_path, strerror(errno));
    struct stat about;
    char *text = NULL;
    status_t status = STATUS_OK;
    CHECK_TO(done, fstat(fd, &about) == 0, STATUS_IO, "cannot read %s: %s", run->metrics_path,
             strerror(errno));
    if (!continues(run, fd, &about)) begin_anew(run);
    run->inode = about.st_ino;
    run->wrote_s = (double)about.st_mtim.tv_sec + 1e-9 * (double)about.st_mtim.tv_nsec;
    const size_t n = (size_t)about.st_size - run->offset;
    if (n == 0) goto done;
    text = malloc(n);
    CHECK_TO(done, text, STATUS_NO_MEMORY, "out of memory for %zu bytes of %s", n, run->metrics_path);
    const ssize_t got = pread(fd, text, n, (off_t)run->offset); /* less where it was cut since */
    CHECK_TO(done, got >= 0, STATUS_IO, "cannot read %s: %s", run->metrics_path, strerror(errno));
    take_lines(run, text, (size_t)got);
done:
    free(text);
    close(fd);
    return status;
}

/* Replaced as a whole by the run: it is the old one, the new one, or not there. */
static void look_at_results(struct watch_run *run) {
    char *path = file_join(run->folder, "results.json");
    json_t *results = path ? json_load_file(path, 0, NULL) : NULL;
    free(path);
    json_decref(run->data.results);
    run->data.results = json_is_object(results) ? results : NULL;
    if (!run->data.results) json_decref(results);
}

status_t watch_run_look(struct watch_run *run) {
    run->now_s = metrics_now_s();
    TRY(look_at_metrics(run));
    look_at_results(run);
    run->has_state = run_state_read(run->folder, &run->state);
    return STATUS_OK;
}

static const struct report_series *times_of(const struct watch_run *run, const char *stage) {
    const struct report_series *times = report_data_find(&run->data, stage, "", "time_ms");
    return times && times->n > 0 ? times : NULL;
}

double watch_run_last_s(const struct watch_run *run, const char *stage) {
    const struct report_series *times = times_of(run, stage);
    return times ? 1e-3 * times->value[times->n - 1] : run->wrote_s; /* records of older versions: no time */
}

double watch_run_n_done(const struct watch_run *run, const char *stage) {
    double n_done = 0;
    for (size_t i = 0; i < run->data.n_series; i++) {
        const struct report_series *s = &run->data.series[i];
        if (strcmp(s->stage, stage) == 0 && s->n > 0) n_done = fmax(n_done, s->step[s->n - 1] + 1);
    }
    return n_done;
}

/* The series of a file are in the order of their first records, and a run's stages follow one another. */
const char *watch_run_stage(const struct watch_run *run) {
    return run->data.n_series > 0 ? run->data.series[run->data.n_series - 1].stage : NULL;
}

int64_t watch_run_n_steps(const struct watch_run *run, const char *stage) {
    const struct settings *s = &run->settings;
    if (strcmp(stage, "cotrain") == 0) return s->cotrain.warmup.steps + s->cotrain.steps;
    if (strcmp(stage, "distil") == 0) return s->distil.steps;
    if (strcmp(stage, "heads") == 0) return s->heads.outer;
    return 0;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double watch_run_step_s(const struct watch_run *run, const char *stage) {
    enum { NEWEST = 200 };
    const struct report_series *t = times_of(run, stage);
    double each[NEWEST], all_s = 0, n_steps = 0;
    int n = 0;
    for (size_t i = t && t->n > NEWEST ? t->n - NEWEST : 1; t && i < t->n; i++)
        if (t->step[i] > t->step[i - 1])
            each[n++] = 1e-3 * (t->value[i] - t->value[i - 1]) / (t->step[i] - t->step[i - 1]);
    if (n == 0) return NAN;
    qsort(each, (size_t)n, sizeof *each, ascending);
    const double pause_s = 20 * each[n / 2] + 1; /* evaluations count, the time between two starts does not */
    for (int i = 0; i < n && each[i] < pause_s; i++) {
        all_s += each[i];
        n_steps++;
    }
    return n_steps > 0 && all_s >= 0 ? all_s / n_steps : NAN;
}
