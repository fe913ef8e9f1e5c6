#include "training/prometheus.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "training/metrics_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sample {
    char family[80]; /* without the prefix */
    char *own;       /* the label of its own, `,peer="convnext"`; "" */
    double value;
    size_t number; /* in the order they came: the order within a family */
};

struct prometheus {
    char *path, *run; /* run: as a label's value */
    int n_ranks;
    char stage[32];
    struct sample *samples;
    size_t n, capacity;
    double written_s; /* of the monotonic clock */
    bool failed;      /* no memory */
    bool warned;
};

/* A label's value: \, " and the end of a line are escaped. NULL when out of memory. */
static char *escape(const char *text) {
    char *out = malloc(2 * strlen(text) + 1), *p = out;
    for (; out && *text; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n') *p++ = '\\';
        *p++ = (char)(*text == '\n' ? 'n' : *text);
    }
    if (out) *p = '\0';
    return out;
}

status_t prometheus_open(const char *path, const char *run, int n_ranks, struct prometheus **out) {
    struct prometheus *p = calloc(1, sizeof *p);
    CHECK(p, STATUS_NO_MEMORY, "out of memory for %s", path);
    p->path = strdup(path);
    p->run = escape(run);
    p->n_ranks = n_ranks;
    p->written_s = -INFINITY;
    *out = p;
    if (p->path && p->run) return STATUS_OK;
    p->failed = true;
    prometheus_close(p);
    return FAIL(STATUS_NO_MEMORY, "out of memory for %s", path);
}

static void forget(struct prometheus *p) {
    for (size_t i = 0; i < p->n; i++) free(p->samples[i].own);
    p->n = 0;
}

/* ---- from a number of metrics.jsonl to a sample
 * ------------------------------------------------------------------- */

static bool ends_with(const char *name, size_t n, const char *end) {
    const size_t m = strlen(end);
    return n > m && memcmp(name + n - m, end, m) == 0;
}

/* The family's name, in base units; the factor to them. */
static double name_family(const struct metrics_value *v, char family[80]) {
    size_t n = strlen(v->name);
    if (strcmp(v->group, "validation") == 0) {
        strcpy(family, "validation_accuracy_ratio");
        return 0.01;
    }
    const bool is_ms = ends_with(v->name, n, "_ms"), is_rate = ends_with(v->name, n, "_per_s");
    if (is_ms) n -= strlen("ms");
    if (is_rate) n -= strlen("s");
    snprintf(family, 80, "%s%.*s%s", strcmp(v->group, "ranks") == 0 ? "rank_" : "", n < 50 ? (int)n : 50,
             v->name,
             is_ms     ? "seconds"
             : is_rate ? "second"
                       : "");
    for (char *p = family; *p; p++)
        if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') && !(*p >= '0' && *p <= '9')) *p = '_';
    return is_ms ? 1e-3 : 1;
}

/* `,rank="3"` or `,peer="convnext"` or nothing (caller frees); NULL when out of memory. */
static char *own_label(const struct metrics_value *v) {
    char *out = NULL;
    if (v->index >= 0) {
        if (asprintf(&out, ",rank=\"%lld\"", (long long)v->index) < 0) out = NULL;
        return out;
    }
    if (!v->group[0]) return strdup("");
    char *peer = escape(strcmp(v->group, "validation") == 0 ? v->name : v->group);
    if (!peer || asprintf(&out, ",peer=\"%s\"", peer) < 0) out = NULL;
    free(peer);
    return out;
}

static void take(void *context, const struct metrics_value *v) {
    struct prometheus *p = context;
    struct sample s = {.number = p->n};
    s.value = v->value * name_family(v, s.family);
    s.own = own_label(v);
    for (size_t i = 0; s.own && i < p->n; i++) {
        if (strcmp(p->samples[i].family, s.family) != 0 || strcmp(p->samples[i].own, s.own) != 0) continue;
        p->samples[i].value = s.value;
        free(s.own);
        return;
    }
    if (!s.own || !memory_grow(&p->samples, p->n, &p->capacity, sizeof *p->samples)) {
        p->failed = true;
        free(s.own);
        return;
    }
    p->samples[p->n++] = s;
}

static void take_own(struct prometheus *p, const char *name, double value) {
    take(p, &(struct metrics_value){.group = "", .name = name, .index = -1, .value = value});
}

/* ---- writing
 * --------------------------------------------------------------------------------------------------------------
 */

static const char *help_of(const char *family) {
    static const struct {
        const char *family, *help;
    } known[] = {
        {"running", "1 while the run is going on, 0 once it has ended in order"},
        {"step", "newest step of the stage, from 0"},
        {"last_record_timestamp_seconds", "when the newest record was written, seconds since 1970"},
        {"loss", "weighted sum of the loss terms of a peer"},
        {"source", "loss term of the labelled source images"},
        {"labelled", "loss term of the labelled target images"},
        {"consistency", "loss term of the strong view with own pseudo-labels"},
        {"cotraining", "loss term of the own view with the other peer's pseudo-labels"},
        {"coral", "Deep CORAL loss"},
        {"unlabelled", "loss term of the student on the unlabelled images that the teachers agree on"},
        {"gradient_norm", "global norm of the gradient before clipping; NaN: the step was skipped"},
        {"lr", "learning rate"},
        {"tau", "confidence threshold of pseudo-labels"},
        {"kept_fraction", "share of the unlabelled images whose pseudo-label is above the threshold"},
        {"kept_source_fraction", "share of the source images that count"},
        {"agreement", "share of the unlabelled images on which the peers agree"},
        {"agreement_kept", "the same among those that both peers keep"},
        {"validation_accuracy_ratio", "accuracy on the labelled target images kept for validation, 0 to 1"},
        {"step_seconds", "duration of a step"},
        {"busy_seconds", "mean over a peer's ranks of the part of a step that was no wait"},
        {"images_per_second", "images of all views trained on by a peer"},
        {"exchange_wait_seconds", "wait for the other peer's pseudo-labels in a step"},
        {"exchange_bytes", "pseudo-labels sent in a step by all ranks"},
        {"reduce_wait_seconds", "wait for the sum of the gradients in a step"},
        {"data_wait_seconds", "wait for images in a step"},
        {"rank_compute_seconds", "of a rank: part of a step that was no wait"},
        {"rank_data_seconds", "of a rank: wait for images in a step"},
        {"rank_exchange_seconds", "of a rank: wait for pseudo-labels in a step"},
        {"rank_reduce_seconds", "of a rank: wait for sums over ranks in a step"},
        {"slowest_rank", "rank that the others wait for"},
        {"slowest_excess", "how much longer it takes than the mean of the others: 0.4 is 40 % longer"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].family, family) == 0) return known[i].help;
    return "as in the run's metrics.jsonl";
}

static int by_family(const void *a, const void *b) {
    const struct sample *x = a, *y = b;
    const int order = strcmp(x->family, y->family);
    return order ? order : (x->number > y->number) - (x->number < y->number);
}

static void put_value(FILE *out, double value) {
    if (isnan(value))
        fputs("NaN\n", out);
    else if (isinf(value))
        fputs(value > 0 ? "+Inf\n" : "-Inf\n", out);
    else
        fprintf(out, "%.15g\n", value);
}

static status_t write_file(struct prometheus *p) {
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    CHECK(out, STATUS_NO_MEMORY, "out of memory for %s", p->path);
    qsort(p->samples, p->n, sizeof *p->samples, by_family);
    for (size_t i = 0; i < p->n; i++) {
        const struct sample *s = &p->samples[i];
        if (i == 0 || strcmp(s->family, s[-1].family) != 0)
            fprintf(out, "# HELP marrs_dist_%s %s\n# TYPE marrs_dist_%s gauge\n", s->family,
                    help_of(s->family), s->family);
        fprintf(out, "marrs_dist_%s{run=\"%s\",stage=\"%s\",ranks=\"%d\"%s} ", s->family, p->run, p->stage,
                p->n_ranks, s->own);
        put_value(out, s->value);
    }
    status_t status = fclose(out) == 0 ? file_write_atomic(p->path, text, n_bytes)
                                       : FAIL(STATUS_NO_MEMORY, "out of memory for %s", p->path);
    free(text);
    return status;
}

static void write_or_warn(struct prometheus *p) {
    p->written_s = clock_now_s();
    if (write_file(p) == STATUS_OK || p->warned) return;
    p->warned = true;
    log_global(LOG_WARNING, "log.prometheus: %s", status_message());
}

status_t prometheus_add(struct prometheus *p, json_t *record) {
    const char *stage = json_string_value(json_object_get(record, "stage"));
    if (stage && strcmp(stage, p->stage) != 0) {
        forget(p); /* another stage has other numbers */
        snprintf(p->stage, sizeof p->stage, "%s", stage);
    }
    take_own(p, "running", 1);
    take_own(p, "step", json_number_value(json_object_get(record, "step")));
    take_own(p, "last_record_timestamp_seconds", metrics_time_s(record));
    metrics_visit(record, take, p);
    CHECK(!p->failed, STATUS_NO_MEMORY, "out of memory for %s", p->path);
    if (clock_now_s() - p->written_s >= PROMETHEUS_EVERY_S) write_or_warn(p);
    return STATUS_OK;
}

void prometheus_close(struct prometheus *p) {
    if (!p) return;
    if (!p->failed && p->n > 0) {
        take_own(p, "running", 0);
        if (!p->failed) write_or_warn(p);
    }
    forget(p);
    free(p->samples);
    free(p->path);
    free(p->run);
    free(p);
}
