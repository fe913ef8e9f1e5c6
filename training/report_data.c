#include "training/report_data.h"

#include "common/file.h"
#include "common/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SERIES = 4096 }; /* a file with more is not one of a run */

void report_data_free(struct report_data *d) {
    for (size_t i = 0; i < d->n_series; i++) {
        free(d->series[i].stage);
        free(d->series[i].group);
        free(d->series[i].name);
        free(d->series[i].step);
        free(d->series[i].value);
    }
    free(d->series);
    for (int i = 0; i < d->n_ranks_stages; i++) report_ranks_free(&d->ranks[i]);
    free(d->placement);
    free(d->config);
    json_decref(d->results);
    memset(d, 0, sizeof *d);
}

const struct report_series *report_data_find(const struct report_data *d, const char *stage,
                                             const char *group, const char *name) {
    for (size_t i = 0; i < d->n_series; i++) {
        const struct report_series *s = &d->series[i];
        if (strcmp(s->name, name) == 0 && strcmp(s->group, group) == 0 && strcmp(s->stage, stage) == 0)
            return s;
    }
    return NULL;
}

bool report_data_has_stage(const struct report_data *d, const char *stage) {
    for (size_t i = 0; i < d->n_series; i++)
        if (strcmp(d->series[i].stage, stage) == 0) return true;
    return false;
}

static struct report_series *series_at(struct report_data *d, const char *stage, const char *group,
                                       const char *name) {
    const struct report_series *known = report_data_find(d, stage, group, name);
    if (known) return &d->series[known - d->series];
    if (d->n_series >= MAX_SERIES || !memory_grow(&d->series, d->n_series, &d->capacity, sizeof *d->series))
        return NULL;
    struct report_series s = {.stage = strdup(stage), .group = strdup(group), .name = strdup(name)};
    if (!s.stage || !s.group || !s.name) {
        free(s.stage);
        free(s.group);
        free(s.name);
        return NULL;
    }
    d->series[d->n_series] = s;
    return &d->series[d->n_series++];
}

/* Values beyond what a chart can show count as missing. */
static void add_value(struct report_data *d, const char *stage, const char *group, const char *name,
                      double step, const json_t *value) {
    if (!json_is_number(value) && !json_is_null(value)) return;
    struct report_series *s = series_at(d, stage, group, name);
    if (!s || !memory_grow(&s->step, s->n, &s->capacity_step, sizeof *s->step) ||
        !memory_grow(&s->value, s->n, &s->capacity_value, sizeof *s->value))
        return;
    const double v = json_is_number(value) ? json_number_value(value) : NAN;
    s->step[s->n] = step;
    s->value[s->n++] = fabs(v) < 1e30 ? v : NAN;
}

const struct report_ranks *report_data_ranks(const struct report_data *d, const char *stage) {
    for (int i = 0; i < d->n_ranks_stages; i++)
        if (strcmp(d->ranks[i].stage, stage) == 0) return &d->ranks[i];
    return NULL;
}

static void add_ranks(struct report_data *d, const char *stage, const json_t *record) {
    if (!json_is_object(json_object_get(record, "ranks"))) return;
    const struct report_ranks *known = report_data_ranks(d, stage);
    if (!known && (d->n_ranks_stages == REPORT_MAX_STAGES || strlen(stage) >= sizeof known->stage)) return;
    struct report_ranks *ranks = known ? &d->ranks[known - d->ranks] : &d->ranks[d->n_ranks_stages++];
    if (!known) snprintf(ranks->stage, sizeof ranks->stage, "%s", stage);
    report_ranks_add(ranks, record);
}

bool report_data_add_line(struct report_data *d, const char *line, size_t n_bytes) {
    json_t *record = json_loadb(line, n_bytes, 0, NULL), *value, *inner;
    const char *stage = json_string_value(json_object_get(record, "stage")), *name, *inner_name;
    const json_t *step_value = json_object_get(record, "step");
    const double step = json_number_value(step_value);
    if (!stage || !json_is_number(step_value) || !(fabs(step) < 1e15)) {
        json_decref(record);
        return false;
    }
    const char *phase = json_string_value(json_object_get(record, "phase"));
    if (phase && strcmp(stage, "cotrain") == 0 && strcmp(phase, "cotrain") == 0 && isnan(d->cotrain_begins))
        d->cotrain_begins = step;
    json_object_foreach(record, name, value) {
        if (strcmp(name, "step") == 0) continue;
        if (json_is_object(value)) json_object_foreach(value, inner_name, inner) {
                add_value(d, stage, name, inner_name, step, inner);
            }
        else
            add_value(d, stage, "", name, step, value);
    }
    add_ranks(d, stage, record);
    d->n_records++;
    json_decref(record);
    return true;
}

/* A file of the run as text; *text NULL where it is missing. Too large or unreadable counts as missing. */
static status_t read_part(struct report_data *d, const char *run, const char *name, size_t max_bytes,
                          char **text, size_t *n_bytes) {
    *text = NULL;
    *n_bytes = 0;
    char *path = file_join(run, name);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    struct stat about;
    status_t status = STATUS_OK;
    if (stat(path, &about) == 0 && S_ISREG(about.st_mode)) {
        if (about.st_mtime > d->written) d->written = about.st_mtime;
        status = file_read_all(path, max_bytes, text, n_bytes);
    }
    free(path);
    return status;
}

static status_t read_metrics(struct report_data *d, const char *run) {
    char *text;
    size_t n;
    TRY(read_part(d, run, "metrics.jsonl", (size_t)1 << 31, &text, &n));
    for (size_t begin = 0; begin < n;) {
        const char *end = memchr(text + begin, '\n', n - begin);
        const size_t length = end ? (size_t)(end - (text + begin)) : n - begin;
        if (length > 0 && !report_data_add_line(d, text + begin, length)) d->n_damaged++;
        begin += length + 1;
    }
    free(text);
    return STATUS_OK;
}

status_t report_data_read(const char *run, struct report_data *out) {
    struct report_data d = {.cotrain_begins = NAN};
    char *text = NULL;
    size_t n;
    status_t status;
    TRY_TO(fail, read_metrics(&d, run));
    TRY_TO(fail, read_part(&d, run, "results.json", 1 << 28, &text, &n));
    if (text) d.results = json_loadb(text, n, 0, NULL);
    if (d.results && !json_is_object(d.results)) {
        json_decref(d.results);
        d.results = NULL;
    }
    free(text);
    const long long written = d.written;
    TRY_TO(fail, read_part(&d, run, "placement.txt", 1 << 24, &d.placement, &n));
    TRY_TO(fail, read_part(&d, run, "config.yaml", 1 << 24, &d.config, &n));
    d.written = written;
    CHECK_TO(fail, d.n_records > 0 || d.results, STATUS_MISSING,
             "%s has neither metrics.jsonl nor results.json to report on: nothing has run there yet", run);
    *out = d;
    return STATUS_OK;
fail:
    report_data_free(&d);
    return status;
}

static int compare_numbers(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double report_series_median(const struct report_series *s) {
    double *finite = s ? memory_zeroed(s->n, sizeof *finite) : NULL, median = NAN;
    size_t n = 0;
    for (size_t i = 0; finite && i < s->n; i++)
        if (isfinite(s->value[i])) finite[n++] = s->value[i];
    if (n > 0) {
        qsort(finite, n, sizeof *finite, compare_numbers);
        median = n % 2 ? finite[n / 2] : 0.5 * (finite[n / 2 - 1] + finite[n / 2]);
    }
    free(finite);
    return median;
}

double report_data_accuracy(const struct report_data *d, const char *phase, const char *model,
                            const char *split) {
    const json_t *value = json_object_get(json_object_get(json_object_get(d->results, phase), model), split);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *report_data_class(const struct report_data *d, size_t k, char buffer[24]) {
    const char *name = json_string_value(json_array_get(json_object_get(d->results, "classes"), k));
    if (name && name[0]) return name;
    snprintf(buffer, 24, "%zu", k);
    return buffer;
}
