#include "training/metrics.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"

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
    if (m->fd >= 0) close(m->fd);
    free(m->path);
    free(m);
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
    m->failed = json_object_set_new(m->record, "stage", json_string(stage)) != 0 ||
                json_object_set_new(m->record, "step", json_integer(step)) != 0;
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

void metrics_number_in(struct metrics *m, const char *group, const char *name, double value) {
    if (!m) return;
    json_t *object = json_object_get(m->record, group);
    if (!object) {
        object = json_object();
        if (json_object_set_new(m->record, group, object) != 0) {
            m->failed = true;
            return;
        }
    }
    m->failed |= json_object_set_new(object, name, number(value)) != 0;
}

status_t metrics_end(struct metrics *m) {
    if (!m) return STATUS_OK;
    char *text = m->failed ? NULL : json_dumps(m->record, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(m->record);
    m->record = NULL;
    CHECK(text, STATUS_NO_MEMORY, "out of memory for a record of %s", m->path);
    const size_t n = strlen(text);
    text[n] = '\n'; /* in place of the NUL: file_pwrite_all() takes a length */
    const status_t status = file_pwrite_all(m->fd, text, n + 1, (uint64_t)m->position, m->path);
    free(text);
    if (status == STATUS_OK) m->position += (int64_t)n + 1;
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
