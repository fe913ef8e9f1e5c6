#include "training/report_curves.h"

#include "training/report_svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINES = 24 };

/* Lines of one chart while they are found. */
struct finder {
    const struct report_data *data;
    const char *stage;
    double first_step, last_step; /* of the stage: all its charts have the same horizontal axis */
    struct svg_line lines[MAX_LINES];
    char labels[MAX_LINES][96];
    int n;
};

static void take(struct finder *f, const struct report_series *series, int colour, bool dashed,
                 const char *format, const char *label) {
    if (!series || f->n >= MAX_LINES) return;
    snprintf(f->labels[f->n], sizeof f->labels[f->n], format, label);
    f->lines[f->n] = (struct svg_line){
        .series = series, .label = f->labels[f->n], .colour = colour % SVG_N_COLOURS, .dashed = dashed};
    f->n++;
}

/* Peers (or the student): the groups that have a loss, in the order of the file. */
static int find_groups(const struct report_data *d, const char *stage, const char *groups[MAX_LINES]) {
    int n = 0;
    for (size_t i = 0; i < d->n_series && n < MAX_LINES; i++)
        if (strcmp(d->series[i].stage, stage) == 0 && d->series[i].group[0] &&
            strcmp(d->series[i].name, "loss") == 0)
            groups[n++] = d->series[i].group;
    return n;
}

static void find_steps(struct finder *f) {
    f->first_step = f->last_step = NAN;
    for (size_t i = 0; i < f->data->n_series; i++) {
        const struct report_series *s = &f->data->series[i];
        for (size_t j = 0; j < s->n && strcmp(s->stage, f->stage) == 0; j++) {
            f->first_step = fmin(f->first_step, s->step[j]);
            f->last_step = fmax(f->last_step, s->step[j]);
        }
    }
}

static struct svg_chart chart_of(const struct finder *f, const char *title, const char *unit) {
    const bool cotrain = strcmp(f->stage, "cotrain") == 0;
    return (struct svg_chart){.title = title,
                              .unit = unit,
                              .x_min = f->first_step,
                              .x_max = f->last_step,
                              .y_min = NAN,
                              .y_max = NAN,
                              .mark = cotrain ? f->data->cotrain_begins : NAN,
                              .mark_label = "co-training"};
}

static void draw(FILE *out, struct finder *f, const struct svg_chart *chart) {
    svg_line_chart(out, chart, f->lines, f->n);
    f->n = 0;
}

static void put_losses(FILE *out, struct finder *f, const char *group) {
    static const struct {
        const char *name, *label;
    } terms[] = {{"source", "source"},           {"labelled", "labelled target"},
                 {"consistency", "consistency"}, {"cotraining", "co-training"},
                 {"coral", "Deep CORAL"},        {"unlabelled", "unlabelled"}};
    char title[128];
    snprintf(title, sizeof title, "Loss of %.80s", group);
    for (int t = 0; t < (int)(sizeof terms / sizeof *terms); t++)
        take(f, report_data_find(f->data, f->stage, group, terms[t].name), t, false, "%s", terms[t].label);
    take(f, report_data_find(f->data, f->stage, group, "loss"), 7, false, "%s", "weighted sum");
    struct svg_chart chart = chart_of(f, title,
                                      strcmp(f->stage, "heads") == 0 ? "each term times its weight"
                                                                     : "each term before its weight");
    chart.may_be_log = true;
    draw(out, f, &chart);
}

/* The same number of every peer. */
static void put_of_groups(FILE *out, struct finder *f, const char *const *groups, int n_groups,
                          const char *name, struct svg_chart chart) {
    for (int g = 0; g < n_groups; g++)
        take(f, report_data_find(f->data, f->stage, groups[g], name), g, false, "%s", groups[g]);
    draw(out, f, &chart);
}

static void put_accuracy(FILE *out, struct finder *f) {
    int colour = 0;
    for (size_t i = 0; i < f->data->n_series; i++) {
        const struct report_series *s = &f->data->series[i];
        if (strcmp(s->stage, f->stage) == 0 && strcmp(s->group, "validation") == 0)
            take(f, s, colour++, false, "%s", s->name);
    }
    struct svg_chart chart = chart_of(f, "Validation accuracy", "%");
    chart.markers = true;
    draw(out, f, &chart);
}

static void put_selection(FILE *out, struct finder *f, const char *const *groups, int n_groups) {
    int n_kept = 0;
    for (int g = 0; g < n_groups; g++) {
        const struct report_series *kept = report_data_find(f->data, f->stage, groups[g], "kept_fraction");
        take(f, kept, g, false, "kept by %s", groups[g]);
        n_kept += kept != NULL;
    }
    if (n_kept == 0)
        take(f, report_data_find(f->data, f->stage, "", "kept_fraction"), 0, false, "%s", "kept");
    take(f, report_data_find(f->data, f->stage, "", "agreement"), 2, false, "%s", "agreement");
    take(f, report_data_find(f->data, f->stage, "", "agreement_kept"), 3, false, "%s",
         "agreement where both keep");
    take(f, report_data_find(f->data, f->stage, "", "tau"), 7, true, "%s", "threshold");
    struct svg_chart chart = chart_of(f, "Pseudo-labels kept, agreement", "share of the images");
    chart.y_min = 0;
    chart.y_max = 1.02;
    chart.mark_label = ""; /* the curves begin there */
    draw(out, f, &chart);
}

static void put_speed(FILE *out, struct finder *f) {
    struct svg_chart chart = chart_of(f, "Throughput", "images/s");
    take(f, report_data_find(f->data, f->stage, "", "images_per_s"), 0, false, "%s", "images/s");
    if (f->n == 0) {
        take(f, report_data_find(f->data, f->stage, "", "steps_per_s"), 0, false, "%s", "steps/s");
        chart.unit = "inner steps/s";
    }
    chart.y_min = 0;
    draw(out, f, &chart);
    take(f, report_data_find(f->data, f->stage, "", "exchange_wait_ms"), 0, false, "%s", "exchange");
    take(f, report_data_find(f->data, f->stage, "", "reduce_wait_ms"), 1, false, "%s", "gradient reduction");
    take(f, report_data_find(f->data, f->stage, "", "data_wait_ms"), 2, false, "%s", "data");
    chart = chart_of(f, "Waits of a step", "ms");
    chart.may_be_log = true;
    draw(out, f, &chart);
}

void report_put_curves(FILE *out, const struct report_data *d, const char *stage, const char *title) {
    struct finder *f = calloc(1, sizeof *f);
    const char *groups[MAX_LINES];
    if (!f) return;
    f->data = d;
    f->stage = stage;
    find_steps(f);
    const int n_groups = find_groups(d, stage, groups);
    fprintf(out, "<section id=%s>\n<h2>%s</h2>\n<div class=charts>\n", stage, title);
    put_accuracy(out, f);
    put_selection(out, f, groups, n_groups);
    for (int g = 0; g < n_groups; g++) put_losses(out, f, groups[g]);
    struct svg_chart norm = chart_of(f, "Gradient norm", "before clipping");
    norm.may_be_log = true;
    put_of_groups(out, f, groups, n_groups, "gradient_norm", norm);
    put_of_groups(out, f, groups, n_groups, "lr", chart_of(f, "Learning rate", ""));
    put_speed(out, f);
    fputs("</div>\n", out);
    report_put_ranks(out, report_data_ranks(d, stage));
    fputs("</section>\n", out);
    free(f);
}

static void put_skipped_of(FILE *out, const struct report_series *s) {
    size_t n = 0, n_shown = 0;
    for (size_t i = 0; i < s->n; i++) n += s->value[i] > 0;
    fputs("<li>", out);
    html_text(out, s->stage);
    fputs(", ", out);
    html_text(out, s->group);
    fprintf(out, ": %zu step%s, at ", n, n == 1 ? "" : "s");
    for (size_t i = 0; i < s->n && n_shown < 20; i++)
        if (s->value[i] > 0) fprintf(out, "%s%.0f", n_shown++ ? ", " : "", s->step[i]);
    fprintf(out, "%s</li>\n", n > n_shown ? ", ..." : "");
}

void report_put_skipped(FILE *out, const struct report_data *d) {
    bool any = false;
    for (size_t i = 0; i < d->n_series; i++) {
        const struct report_series *s = &d->series[i];
        if (strcmp(s->name, "skipped") != 0 || !(report_series_median(s) > 0)) continue;
        if (!any)
            fputs("<section id=skipped>\n<h2>Skipped steps</h2>\n<p>The loss or a gradient was NaN or "
                  "infinite; the weights "
                  "stayed as they were.</p>\n<ul>\n",
                  out);
        any = true;
        put_skipped_of(out, s);
    }
    if (any) fputs("</ul>\n</section>\n", out);
}
