#include "training/report_html.h"

#include "common/file.h"
#include "common/memory.h"
#include "training/report_curves.h"
#include "training/report_data.h"
#include "training/report_samples.h"
#include "training/report_style.h"
#include "training/report_svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---- facts ----------------------------------------------------------------------------------- */
static void put_fact(FILE *out, const char *name, const char *value) {
    fputs("<tr><th scope=row>", out);
    html_text(out, name);
    fputs("</th><td>", out);
    html_text(out, value);
    fputs("</td></tr>\n", out);
}

static void put_peer_facts(FILE *out, const struct settings *s) {
    static const char *const families[] = {"own shape (convnext)", "own shape (swin)",
                                           "own shape (mobilenetv2)"};
    static const char *const corals[] = {"no CORAL", "Deep CORAL", "closed-form CORAL"};
    char text[512], name[96];
    for (int p = 0; p < s->n_peers; p++) {
        const struct peer_settings *peer = &s->peers[p];
        snprintf(name, sizeof name, "peer %.64s", peer->name);
        snprintf(text, sizeof text, "%.200s, %lld px, %s view, %s",
                 peer->model.preset[0] ? peer->model.preset : families[peer->model.family],
                 (long long)peer->image, peer->view == VIEW_CHOICE_PERSPECTIVE ? "perspective" : "straight",
                 corals[peer->coral]);
        put_fact(out, name, text);
    }
}

static void put_facts(FILE *out, const struct settings *s, const char *version, const struct report_data *d) {
    static const char *const precisions[] = {"auto", "fp32", "bf16"};
    char text[512] = "";
    size_t n = 0;
    fputs("<section id=facts>\n<h2>Run</h2>\n<div class=scroll><table class=facts>\n", out);
    put_fact(out, "directory", s->run);
    put_fact(out, "source", base_name(s->data.source.list));
    snprintf(text, sizeof text, "%.200s, %.200s", base_name(s->data.target.labelled),
             base_name(s->data.target.unlabelled));
    put_fact(out, "target", text);
    for (int i = 0; i < s->stages.n && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", i ? ", " : "",
                              stage_name(s->stages.items[i]));
    put_fact(out, "stages", text);
    put_peer_facts(out, s);
    snprintf(text, sizeof text, "%lld", (long long)s->seed);
    put_fact(out, "seed", text);
    put_fact(out, "precision", precisions[s->precision]);
    snprintf(text, sizeof text, "marrs_dist %.100s", version);
    put_fact(out, "page by", text);
    fputs("</table></div>\n", out);
    if (d->placement) {
        fputs("<details><summary>Placement of the last start</summary><pre>", out);
        html_text(out, d->placement);
        fputs("</pre></details>\n", out);
    }
    fputs("</section>\n", out);
}

/* ---- accuracies ------------------------------------------------------------------------------ */
static void put_tile(FILE *out, double value, const char *format, const char *label) {
    if (isnan(value)) return;
    fputs("<div class=tile><b>", out);
    fprintf(out, format, value);
    fputs("</b><span>", out);
    html_text(out, label);
    fputs("</span></div>\n", out);
}

/* The answer of all peers together; with one peer, its own. */
static const char *ensemble_name(const struct settings *s) {
    return s->n_peers > 1 ? "ensemble" : s->peers[0].name;
}

static void put_tiles(FILE *out, const struct settings *s, const struct report_data *d) {
    const char *all = ensemble_name(s);
    const double before = report_data_accuracy(d, "supervised", all, "unlabelled"),
                 after = report_data_accuracy(d, "cotrained", all, "unlabelled");
    fputs("<div class=tiles>\n", out);
    put_tile(out, report_data_accuracy(d, "student", "student", "unlabelled"), "%.2f&nbsp;%%", "student");
    put_tile(out, after, "%.2f&nbsp;%%", s->n_peers > 1 ? "ensemble of the peers" : "co-trained");
    put_tile(out, before, "%.2f&nbsp;%%", "supervised only");
    put_tile(out, after - before, "%+.2f", "points gained by co-training");
    put_tile(out, report_series_median(report_data_find(d, "cotrain", "", "images_per_s")), "%.0f",
             "images/s in co-training (median)");
    fputs("</div>\n", out);
}

static const char *const splits[] = {"validation", "unlabelled", "unlabelled_without_validation"};

/* Without validation images among the unlabelled ones there is no third column. */
static void put_row(FILE *out, const struct report_data *d, const char *phase, const char *model, bool sum,
                    int n_splits) {
    bool any = false;
    for (int i = 0; i < n_splits; i++) any |= !isnan(report_data_accuracy(d, phase, model, splits[i]));
    if (!any) return;
    fprintf(out, "<tr%s><th scope=row>", sum ? " class=sum" : "");
    html_text(out, model);
    fputs("</th>", out);
    for (int i = 0; i < n_splits; i++) {
        const double value = report_data_accuracy(d, phase, model, splits[i]);
        if (isnan(value))
            fputs("<td>\xe2\x80\x93</td>", out);
        else
            fprintf(out, "<td>%.2f</td>", value);
    }
    const double gain = report_data_accuracy(d, phase, model, "unlabelled") -
                        report_data_accuracy(d, "supervised", model, "unlabelled");
    if (strcmp(phase, "supervised") == 0 || isnan(gain))
        fputs("<td></td></tr>\n", out);
    else
        fprintf(out, "<td>%+.2f</td></tr>\n", gain);
}

static void put_accuracies(FILE *out, const struct settings *s, const struct report_data *d) {
    static const struct {
        const char *phase, *title;
    } phases[] = {{"supervised", "Supervised only"}, {"cotrained", "Co-trained"}, {"student", "Distilled"}};
    const int n_splits = isnan(report_data_accuracy(d, "supervised", ensemble_name(s), splits[2])) &&
                                 isnan(report_data_accuracy(d, "cotrained", ensemble_name(s), splits[2])) &&
                                 isnan(report_data_accuracy(d, "student", "student", splits[2]))
                             ? 2
                             : 3;
    fputs("<section id=accuracy>\n<h2>Accuracy <small>on target images, %</small></h2>\n<div "
          "class=scroll><table>\n<thead><tr><th></th>"
          "<th scope=col>validation</th><th scope=col>unlabelled</th>",
          out);
    if (n_splits == 3) fputs("<th scope=col>unlabelled without<br>validation images</th>", out);
    fputs("<th scope=col>gain, unlabelled</th></tr></thead>\n<tbody>\n", out);
    for (int i = 0; i < 3; i++) {
        if (!json_is_object(json_object_get(d->results, phases[i].phase))) continue;
        fprintf(out, "<tr class=group><th colspan=%d scope=rowgroup>%s</th></tr>\n", n_splits + 2,
                phases[i].title);
        for (int p = 0; p < s->n_peers; p++)
            put_row(out, d, phases[i].phase, s->peers[p].name, false, n_splits);
        put_row(out, d, phases[i].phase, "ensemble", true, n_splits);
        put_row(out, d, phases[i].phase, "student", true, n_splits);
    }
    fputs("</tbody></table></div>\n</section>\n", out);
}

/* ---- confusion ------------------------------------------------------------------------------- */

/* (K,K) from results.json (caller frees), NULL where there is none or it is no square of counts. */
static int64_t *read_confusion(const struct report_data *d, const char *model, size_t *k) {
    const json_t *rows =
        json_object_get(json_object_get(json_object_get(d->results, "detail"), model), "confusion");
    *k = json_array_size(rows);
    if (*k == 0 || *k > 2000) return NULL;
    int64_t *counts = memory_zeroed(*k * *k, sizeof *counts);
    for (size_t i = 0; counts && i < *k; i++) {
        const json_t *row = json_array_get(rows, i);
        if (json_array_size(row) != *k) goto bad;
        for (size_t j = 0; j < *k; j++) {
            const json_t *count = json_array_get(row, j);
            if (!json_is_integer(count) || json_integer_value(count) < 0 ||
                json_integer_value(count) > (int64_t)1 << 40)
                goto bad;
            counts[i * *k + j] = json_integer_value(count);
        }
    }
    return counts;
bad:
    free(counts);
    return NULL;
}

static double class_accuracy(const struct report_data *d, const char *model, size_t k) {
    const json_t *value = json_array_get(
        json_object_get(json_object_get(json_object_get(d->results, "detail"), model), "per_class"), k);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void put_bar(FILE *out, double value, int colour) {
    if (isnan(value))
        fprintf(out, "<span class=\"bar c%d\"><span></span><b>\xe2\x80\x93</b></span>", colour);
    else
        fprintf(out, "<span class=\"bar c%d\"><i style=\"width:%.1f%%\"></i><b>%.1f</b></span>", colour,
                fmin(fmax(value, 0), 100), value);
}

static void put_classes(FILE *out, const struct report_data *d, const char *const *models,
                        const char *const *labels, int n, size_t k) {
    char buffer[24];
    fputs("<h3>Accuracy by class <small>%</small></h3>\n<div class=legend>", out);
    for (int m = 0; m < n; m++) fprintf(out, "<span><i class=\"key c%d\"></i>%s</span>", m, labels[m]);
    fputs("</div>\n<ul class=classes>\n", out);
    for (size_t i = 0; i < k; i++) {
        fputs("<li><span class=name>", out);
        html_text(out, report_data_class(d, i, buffer));
        fputs("</span><span>", out);
        for (int m = 0; m < n; m++) put_bar(out, class_accuracy(d, models[m], i), m);
        fputs("</span></li>\n", out);
    }
    fputs("</ul>\n", out);
}

static void put_confusion(FILE *out, const struct settings *s, const struct report_data *d) {
    const char *const models[] = {ensemble_name(s), "student"}, *const labels[] = {"peers together",
                                                                                   "student"};
    static const char *const titles[] = {"Peers together", "Student"};
    const char *there[2], *there_labels[2];
    int n = 0;
    size_t k = 0, k_any = 0;
    for (int m = 0; m < 2; m++) {
        int64_t *counts = read_confusion(d, models[m], &k);
        if (!counts) continue;
        if (n == 0)
            fprintf(out,
                    "<section id=confusion>\n<h2>Classes <small>unlabelled target images</small></h2>\n"
                    "<div class=\"charts%s\">\n",
                    k > 20 ? " wide" : "");
        svg_heat_map(out, titles[m], d, k, counts);
        there[n] = models[m];
        there_labels[n++] = labels[m];
        k_any = k;
        free(counts);
    }
    if (n == 0) return;
    fputs("</div>\n", out);
    put_classes(out, d, there, there_labels, n, k_any);
    fputs("</section>\n", out);
}

/* ---- the page -------------------------------------------------------------------------------- */
static void put_head(FILE *out, const struct settings *s, const struct report_data *d) {
    char date[64] = "";
    struct tm when;
    const time_t written = (time_t)d->written;
    if (d->written > 0 && gmtime_r(&written, &when)) strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &when);
    fputs("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
          "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n<title>",
          out);
    html_text(out, base_name(s->run));
    fprintf(out, " \xe2\x80\x93 marrs_dist</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>",
            report_style);
    html_text(out, base_name(s->run));
    fputs("</h1>\n<p class=lead>Semi-supervised domain adaptation: peers co-trained, then distilled into one "
          "student",
          out);
    if (date[0]) fprintf(out, " \xc2\xb7 last record %s", date);
    fputs("</p>\n</header>\n", out);
}

static void put_missing(FILE *out, const struct settings *s, const struct report_data *d) {
    size_t n = 0;
    for (int i = 0; i < s->stages.n; i++) {
        const char *name = stage_name(s->stages.items[i]);
        if (s->stages.items[i] == STAGE_FEATURES || report_data_has_stage(d, name)) continue;
        fprintf(out, "%s%s", n++ == 0 ? "<p class=soft>Not run yet: " : ", ", name);
    }
    if (n > 0) fputs(". Their sections appear once they have.</p>\n", out);
    if (d->n_damaged > 0)
        fprintf(out, "<p class=soft>%zu damaged line%s of metrics.jsonl left out.</p>\n", d->n_damaged,
                d->n_damaged == 1 ? "" : "s");
    if (!d->results) fputs("<p class=soft>There is no readable results.json: no accuracies yet.</p>\n", out);
}

static void put_samples(FILE *out, const struct settings *s, const struct report_data *d) {
    fputs("<section id=samples>\n<h2>Pseudo-labels <small>unlabelled target images with the answers of the "
          "peers</small></h2>\n",
          out);
    if (report_samples_write(out, s->run, s, d) != STATUS_OK) {
        fputs("<p class=soft>Left out: ", out);
        html_text(out, status_message());
        fputs("</p>\n", out);
    }
    fputs("</section>\n", out);
}

void report_put_page(FILE *out, const struct settings *s, const char *version, const struct report_data *d) {
    static const struct {
        const char *stage, *title;
    } stages[] = {
        {"heads", "Heads on frozen features"}, {"cotrain", "Co-training"}, {"distil", "Distillation"}};
    put_head(out, s, d);
    put_tiles(out, s, d);
    put_missing(out, s, d);
    fputs("<div class=pair>\n", out);
    if (d->results) put_accuracies(out, s, d);
    put_facts(out, s, version, d);
    fputs("</div>\n", out);
    for (int i = 0; i < 3; i++)
        if (report_data_has_stage(d, stages[i].stage))
            report_put_curves(out, d, stages[i].stage, stages[i].title);
    report_put_skipped(out, d);
    put_confusion(out, s, d);
    put_samples(out, s, d);
    if (d->config) {
        fputs("<section id=configuration>\n<h2>Configuration</h2>\n<details><summary>config.yaml in "
              "force</summary><pre>",
              out);
        html_text(out, d->config);
        fputs("</pre></details>\n</section>\n", out);
    }
    fputs("<footer>Curves with more points than fit show the mean of each column of steps; the band is its "
          "smallest and "
          "largest value. The number in a legend is the last shown.</footer>\n</body>\n</html>\n",
          out);
}

status_t report_write_page(const struct settings *settings, const char *version) {
    struct report_data data = {0};
    char *path = NULL, *text = NULL;
    size_t n_bytes = 0;
    status_t status;
    TRY(report_data_read(settings->run, &data));
    FILE *out = open_memstream(&text, &n_bytes);
    CHECK_TO(done, out, STATUS_NO_MEMORY, "out of memory for the report");
    report_put_page(out, settings, version, &data);
    const bool failed = ferror(out) != 0;
    CHECK_TO(done, fclose(out) == 0 && !failed, STATUS_NO_MEMORY, "out of memory for the report");
    path = file_join(settings->run, "report.html");
    CHECK_TO(done, path, STATUS_NO_MEMORY, "out of memory for a path");
    status = file_write_atomic(path, text, n_bytes);
done:
    free(path);
    free(text);
    report_data_free(&data);
    return status;
}
