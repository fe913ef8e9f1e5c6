#include "training/metrics.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "training/metrics_value.h"
#include "training/prometheus.h"
#include "training/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct metrics {
    int fd;
    int64_t position;
    char *path;
    json_t *record;
    bool failed; /* a field of this record could not be added */
    bool wants_events;
    struct tensorboard *events;    /* NULL: none, or not begun yet */
    struct prometheus *prometheus; /* NULL: none */
};

status_t metrics_open(const char *path, bool writes, struct metrics **out) {
    if (!writes) {
        *out = NULL;
        return STATUS_OK;
    }
    struct metrics *m = calloc(1, sizeof *m);
    CHECK(m, STATUS_NO_MEMORY, "out of memory for %s", path);
    status_t status = STATUS_OK;
    m->fd = -1;
    m->path = strdup(path);
    CHECK_TO(fail, m->path, STATUS_NO_MEMORY, "out of memory for %s", path);
    m->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    CHECK_TO(fail, m->fd >= 0, STATUS_CANT_CREATE, "cannot open %s: %s", path, strerror(errno));
    TRY_TO(fail, metrics_cut(m, "", 0)); /* no stage has that name: keeps all whole lines */
    *out = m;
    return STATUS_OK;
fail:
    metrics_close(m);
    return status;
}

void metrics_close(struct metrics *m) {
    if (!m) return;
    json_decref(m->record);
    tensorboard_close(m->events);
    prometheus_close(m->prometheus);
    if (m->fd >= 0) close(m->fd);
    free(m->path);
    free(m);
}

status_t metrics_also(struct metrics *m, const struct metrics_outputs *outputs) {
    if (!m) return STATUS_OK;
    m->wants_events = outputs->tensorboard;
    if (!outputs->prometheus || !outputs->prometheus[0]) return STATUS_OK;
    return prometheus_open(outputs->prometheus, outputs->run, outputs->n_ranks, &m->prometheus);
}

/* Is this line a record of `stage` at or behind first_step? */
static bool is_behind(const char *line, size_t n, const char *stage, int64_t first_step) {
    json_t *record = json_loadb(line, n, 0, NULL);
    const char *name = json_string_value(json_object_get(record, "stage"));
    const bool behind =
        name && strcmp(name, stage) == 0 && json_integer_value(json_object_get(record, "step")) >= first_step;
    json_decref(record);
    return behind;
}

status_t metrics_cut(struct metrics *m, const char *stage, int64_t first_step) {
    if (!m) return STATUS_OK;
    char *bytes;
    size_t n, keep = 0;
    TRY(file_read_all(m->path, SIZE_MAX / 4, &bytes, &n));
    while (keep < n) {
        const char *end = memchr(bytes + keep, '\n', n - keep);
        if (!end || is_behind(bytes + keep, (size_t)(end - bytes) - keep, stage, first_step)) break;
        keep = (size_t)(end - bytes) + 1;
    }
    free(bytes);
    CHECK(ftruncate(m->fd, (off_t)keep) == 0, STATUS_IO, "cannot cut %s: %s", m->path, strerror(errno));
    if ((int64_t)keep < m->position) { /* the next event file begins with what is left */
        tensorboard_close(m->events);
        m->events = NULL;
    }
    m->position = (int64_t)keep;
    return STATUS_OK;
}

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

void metrics_begin(struct metrics *m, const char *stage, int64_t step) {
    if (!m) return;
    json_decref(m->record);
    m->record = json_object();
    const json_int_t time_ms = (json_int_t)(1e3 * metrics_now_s());
    m->failed = json_object_set_new(m->record, "stage", json_string(stage)) != 0 ||
                json_object_set_new(m->record, "step", json_integer(step)) != 0 ||
                json_object_set_new(m->record, "time_ms", json_integer(time_ms)) != 0;
}

void metrics_number(struct metrics *m, const char *name, double value) {
    if (m) m->failed |= json_object_set_new(m->record, name, number(value)) != 0;
}

void metrics_integer(struct metrics *m, const char *name, int64_t value) {
    if (m) m->failed |= json_object_set_new(m->record, name, json_integer(value)) != 0;
}

void metrics_text(struct metrics *m, const char *name, const char *value) {
    if (m) m->failed |= json_object_set_new(m->record, name, json_string(value)) != 0;
}

/* The object of that name in the record, made where missing; NULL when out of memory. */
static json_t *object_of(struct metrics *m, const char *group) {
    json_t *object = json_object_get(m->record, group);
    if (object) return object;
    object = json_object();
    if (json_object_set_new(m->record, group, object) == 0) return object;
    m->failed = true;
    return NULL;
}

void metrics_number_in(struct metrics *m, const char *group, const char *name, double value) {
    if (m) m->failed |= json_object_set_new(object_of(m, group), name, number(value)) != 0;
}

/* Takes `item` over. */
static void append_to(struct metrics *m, const char *group, const char *name, json_t *item) {
    json_t *object = object_of(m, group), *array = json_object_get(object, name);
    if (!array) {
        array = json_array();
        if (json_object_set_new(object, name, array) != 0) array = NULL;
    }
    m->failed |= json_array_append_new(array, item) != 0;
}

void metrics_number_of(struct metrics *m, const char *group, const char *name, double value) {
    if (m) append_to(m, group, name, number(value));
}

void metrics_text_of(struct metrics *m, const char *group, const char *name, const char *value) {
    if (m) append_to(m, group, name, json_string(value));
}

/* A new event file, with all that the run has so far. */
static status_t begin_events(struct metrics *m) {
    char *bytes = NULL, *folder = strdup(m->path), *slash = folder ? strrchr(folder, '/') : NULL;
    size_t n = 0;
    status_t status = STATUS_OK;
    CHECK_TO(done, folder, STATUS_NO_MEMORY, "out of memory for a path");
    if (slash) *slash = '\0';
    TRY_TO(done, tensorboard_open(slash ? folder : ".", &m->events));
    TRY_TO(done, file_read_all(m->path, SIZE_MAX / 4, &bytes, &n));
    for (size_t begin = 0; status == STATUS_OK && begin < n;) {
        const char *end = memchr(bytes + begin, '\n', n - begin);
        const size_t length = end ? (size_t)(end - bytes) - begin : n - begin;
        json_t *record = json_loadb(bytes + begin, length, 0, NULL);
        if (record) status = tensorboard_add(m->events, record); /* a damaged line is left out */
        json_decref(record);
        begin += length + 1;
    }
done:
    free(bytes);
    free(folder);
    return status;
}

/* What shows the record elsewhere. A run is not ended for it: one warning, then it goes on without. */
static void put_elsewhere(struct metrics *m) {
    status_t status = STATUS_OK;
    if (m->wants_events) {
        if (!m->events) status = begin_events(m);
        if (status == STATUS_OK) status = tensorboard_add(m->events, m->record);
    }
    if (status != STATUS_OK) {
        log_global(LOG_WARNING, "log.tensorboard: %s; the run goes on without event files", status_message());
        m->wants_events = false;
        tensorboard_close(m->events);
        m->events = NULL;
    }
    if (m->prometheus && prometheus_add(m->prometheus, m->record) != STATUS_OK)
        log_global(LOG_WARNING, "log.prometheus: %s", status_message());
}

status_t metrics_end(struct metrics *m) {
    if (!m) return STATUS_OK;
    char *text = m->failed ? NULL : json_dumps(m->record, JSON_COMPACT | JSON_REAL_PRECISION(9));
    status_t status = STATUS_OK;
    CHECK_TO(done, text, STATUS_NO_MEMORY, "out of memory for a record of %s", m->path);
    put_elsewhere(m); /* before the line is in the file: a new event file begins with what is there */
    const size_t n = strlen(text);
    text[n] = '\n'; /* in place of the NUL: file_pwrite_all() takes a length */
    TRY_TO(done, file_pwrite_all(m->fd, text, n + 1, (uint64_t)m->position, m->path));
    m->position += (int64_t)n + 1;
done:
    free(text);
    json_decref(m->record);
    m->record = NULL;
    return status;
}

struct progress progress_start(double every_s, int64_t first_step, bool writes) {
    const bool terminal = isatty(STDERR_FILENO) != 0;
    const double now = clock_now_s();
    return (struct progress){.every_s = every_s > 0 ? every_s : (terminal ? 1.0 : 60.0),
                             .last_s = now,
                             .start_s = now,
                             .first_step = first_step,
                             .writes = writes && log_get_level() >= LOG_INFO,
                             .terminal = terminal};
}

bool progress_due(const struct progress *p, bool last) {
    return p->writes && (last || clock_now_s() - p->last_s >= p->every_s);
}

static void format_duration(double seconds, char *out, size_t capacity) {
    if (!(seconds >= 0) || seconds > 1e8)
        snprintf(out, capacity, "?");
    else if (seconds < 90)
        snprintf(out, capacity, "%.0f s", seconds);
    else if (seconds < 5400)
        snprintf(out, capacity, "%.0f min", seconds / 60);
    else
        snprintf(out, capacity, "%.1f h", seconds / 3600);
}

void progress_show(struct progress *p, const char *stage, int64_t step, int64_t n_steps, const char *text) {
    if (!p->writes) return;
    const double now = clock_now_s(), done = (double)(step - p->first_step);
    char left[32];
    format_duration(done > 0 ? (now - p->start_s) / done * (double)(n_steps - step) : -1, left, sizeof left);
    p->last_s = now;
    if (p->terminal) {
        fprintf(stderr, "\r\033[K%s %lld/%lld  %s  ETA %s", stage, (long long)step, (long long)n_steps, text,
                left);
        fflush(stderr);
        p->drawn = true;
    } else {
        log_global(LOG_INFO, "%s %lld/%lld  %s  ETA %s", stage, (long long)step, (long long)n_steps, text,
                   left);
    }
}

void progress_clear(struct progress *p) {
    if (!p->drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
}
