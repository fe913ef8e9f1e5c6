#include "launcher/watch_canvas.h"

#include "training/metrics.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- words
 * ---------------------------------------------------------------------------------------------------------------
 */

static void format_age(double seconds, char *out, size_t capacity) {
    if (!(seconds >= 0) || seconds > 1e9)
        snprintf(out, capacity, "?");
    else if (seconds < 10)
        snprintf(out, capacity, "%.1f s", seconds);
    else if (seconds < 90)
        snprintf(out, capacity, "%.0f s", seconds);
    else if (seconds < 5400)
        snprintf(out, capacity, "%.0f min", seconds / 60);
    else if (seconds < 172800)
        snprintf(out, capacity, "%.1f h", seconds / 3600);
    else
        snprintf(out, capacity, "%.1f days", seconds / 86400);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static bool is_stage_done(const struct watch_run *run, const char *stage) {
    size_t i;
    const json_t *name;
    json_array_foreach(json_object_get(run->data.results, "stages_done"), i, name) {
        if (json_is_string(name) && strcmp(json_string_value(name), stage) == 0) return true;
    }
    return false;
}

static bool is_finished(const struct watch_run *run) {
    for (int i = 0; i < run->settings.stages.n; i++)
        if (!is_stage_done(run, stage_name(run->settings.stages.items[i]))) return false;
    return true;
}

/* The stage at work: the first that is not done; the last one of a finished run. */
static const char *current_stage(const struct watch_run *run) {
    const struct stage_list *stages = &run->settings.stages;
    for (int i = 0; i < stages->n; i++)
        if (!is_stage_done(run, stage_name(stages->items[i]))) return stage_name(stages->items[i]);
    return stage_name(stages->items[stages->n - 1]);
}

/* ---- is it going on?
 * ---------------------------------------------------------------------------------------------------------------
 */

/* The process that wrote state.json is certainly gone: it ran here, and nobody has its number. */
static bool is_killed(const struct watch_run *run, double silent_s) {
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    return silent_s > 30 && run->state.pid > 1 && strcmp(host, run->state.host) == 0 &&
           kill((pid_t)run->state.pid, 0) != 0 && errno == ESRCH;
}

static void put_state(struct canvas *c, const struct watch_run *run) {
    const char *stage = watch_run_stage(run);
    const struct run_state *s = &run->state;
    const double last_s = stage ? watch_run_last_s(run, stage) : NAN,
                 silent_s = run->now_s - fmax(isnan(last_s) ? 0 : last_s, run->has_state ? s->started_s : 0),
                 step_s = stage ? watch_run_step_s(run, stage) : NAN,
                 patience_s = fmax(60, isnan(step_s) ? 0 : 20 * step_s);
    char silent[32], since[32];
    format_age(fmax(silent_s, 0), silent, sizeof silent);
    format_age(run->now_s - s->ended_s, since, sizeof since);
    if (is_finished(run)) {
        if (run->has_state && s->kind == RUN_FINISHED)
            canvas_line(c, STYLE_GOOD, "finished %s ago", since);
        else
            canvas_line(c, STYLE_GOOD, "finished");
    } else if (run->has_state && s->kind == RUN_STOPPED) {
        canvas_line(c, STYLE_WARN, "stopped %s ago: %s", since, s->message);
    } else if (run->has_state && s->kind == RUN_FAILED) {
        canvas_line(c, STYLE_BAD, "failed %s ago: %s", since, s->message);
    } else if (!run->has_state && !stage) {
        canvas_line(c, STYLE_WARN, "nothing has run here yet");
    } else if (run->has_state && is_killed(run, silent_s)) {
        canvas_line(c, STYLE_BAD, "gone: process %ld on %s is not there any more; last line %s ago", s->pid,
                    s->host, silent);
    } else if (silent_s > patience_s) {
        canvas_line(c, STYLE_WARN, "silent for %s: evaluating, waiting or gone", silent);
    } else if (run->has_state) {
        canvas_line(c, STYLE_GOOD, "running on %s, %d rank%s; last line %s ago", s->host, s->n_ranks,
                    s->n_ranks == 1 ? "" : "s", silent);
    } else {
        canvas_line(c, STYLE_GOOD, "running; last line %s ago", silent);
    }
}

static void put_stages(struct canvas *c, const struct watch_run *run) {
    char text[256];
    size_t n = 0;
    const char *now = current_stage(run);
    text[0] = '\0';
    for (int i = 0; i < run->settings.stages.n && n < sizeof text; i++) {
        const char *stage = stage_name(run->settings.stages.items[i]);
        const char *mark = is_stage_done(run, stage) ? "done" : strcmp(stage, now) == 0 ? "now" : "to come";
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s (%s)", i ? "  " : "", stage, mark);
    }
    canvas_line(c, STYLE_PLAIN, "stages  %s", text);
}

/* ---- progress and curves
 * ---------------------------------------------------------------------------------------------------------------
 */

static void put_progress(struct canvas *c, const struct watch_run *run, const char *stage) {
    const double n_steps = (double)watch_run_n_steps(run, stage), n_done = watch_run_n_done(run, stage),
                 step_s = watch_run_step_s(run, stage);
    char bar[4 * 64 + 1] = "", left[32] = "", step[48] = "";
    const bool warm = strcmp(stage, "cotrain") == 0 && isnan(run->data.cotrain_begins);
    if (!isnan(step_s)) {
        const bool ms = step_s < 0.1;
        snprintf(step, sizeof step, ms ? "  %.1f ms a step" : "  %.3g s a step", ms ? 1e3 * step_s : step_s);
        format_age(step_s * (n_steps - n_done), left, sizeof left);
    }
    canvas_bar(c->look, n_steps > 0 ? n_done / n_steps : 0, c->look->width < 120 ? c->look->width / 4 : 30,
               bar);
    canvas_line(c, STYLE_BOLD, "%s%s %.0f/%.0f  %.0f%%%s%s%s  %s", stage, warm ? ", warm-up" : "", n_done,
                n_steps, n_steps > 0 ? 100 * n_done / n_steps : 0,
                left[0] && n_done < n_steps ? "  ETA " : "", n_done < n_steps ? left : "", step, bar);
}

enum { LABEL_WIDTH = 22, VALUE_WIDTH = 12 };

static void put_curve(struct canvas *c, const char *label, const struct report_series *s, double factor,
                      const char *format) {
    char value[48] = "", spark[4 * 512 + 1];
    if (!s || s->n == 0) return;
    const double newest = s->value[s->n - 1];
    if (isnan(newest))
        snprintf(value, sizeof value, "none");
    else
        snprintf(value, sizeof value, format, factor * newest);
    const int room = c->look->width - LABEL_WIDTH - VALUE_WIDTH - 4;
    canvas_spark(c->look, s, room < 60 ? room : 60, spark);
    canvas_line(c, STYLE_PLAIN, "%-*.*s %*s  %s", LABEL_WIDTH, LABEL_WIDTH, label, VALUE_WIDTH, value, spark);
}

static void put_losses(struct canvas *c, const struct watch_run *run, const char *stage) {
    char label[96];
    for (size_t i = 0; i < run->data.n_series; i++) {
        const struct report_series *s = &run->data.series[i];
        if (strcmp(s->stage, stage) != 0 || strcmp(s->name, "loss") != 0) continue;
        snprintf(label, sizeof label, "loss %.80s", s->group);
        put_curve(c, label, s, 1, "%.4g");
    }
}

static void put_validation(struct canvas *c, const struct watch_run *run, const char *stage) {
    char label[96];
    for (size_t i = 0; i < run->data.n_series; i++) {
        const struct report_series *s = &run->data.series[i];
        if (strcmp(s->stage, stage) != 0 || strcmp(s->group, "validation") != 0) continue;
        snprintf(label, sizeof label, "validation %.80s", s->name);
        put_curve(c, label, s, 1, "%.2f %%");
    }
}

struct curve_row {
    const char *name, *label, *format;
    double factor;
};

static void put_rows(struct canvas *c, const struct watch_run *run, const char *stage,
                     const struct curve_row *rows, int n) {
    for (int i = 0; i < n; i++)
        put_curve(c, rows[i].label, report_data_find(&run->data, stage, "", rows[i].name), rows[i].factor,
                  rows[i].format);
}

static void put_curves(struct canvas *c, const struct watch_run *run, const char *stage) {
    static const struct curve_row rows[] = {{"images_per_s", "images/s", "%.4g", 1},
                                            {"steps_per_s", "inner steps/s", "%.4g", 1},
                                            {"kept_fraction", "labels kept", "%.1f %%", 100},
                                            {"agreement", "peers agree", "%.1f %%", 100}};
    put_losses(c, run, stage);
    put_validation(c, run, stage);
    put_rows(c, run, stage, rows, 4);
}

/* Means over the ranks; in a low terminal the table of the ranks is worth more. */
static void put_waits(struct canvas *c, const struct watch_run *run, const char *stage) {
    static const struct curve_row rows[] = {{"exchange_wait_ms", "wait for exchange", "%.3g ms", 1},
                                            {"reduce_wait_ms", "wait for gradients", "%.3g ms", 1},
                                            {"data_wait_ms", "wait for images", "%.3g ms", 1}};
    if (canvas_has_room(c, 9)) put_rows(c, run, stage, rows, 3);
}

/* ---- ranks, accuracies
 * ---------------------------------------------------------------------------------------------------------------
 */

static void put_accuracies(struct canvas *c, const struct watch_run *run) {
    static const char *const phases[] = {"supervised", "cotrained", "student"};
    for (int p = 0; p < 3; p++) {
        char text[512] = "";
        size_t n = 0;
        const char *model;
        json_t *of_model;
        json_object_foreach(json_object_get(run->data.results, phases[p]), model, of_model) {
            const double value = report_data_accuracy(&run->data, phases[p], model, "unlabelled");
            if (!isnan(value) && n < sizeof text)
                n += (size_t)snprintf(text + n, sizeof text - n, "  %.60s %.2f %%", model, value);
        }
        if (n > 0) canvas_line(c, STYLE_PLAIN, "accuracy, %-11s%s", phases[p], text);
    }
}

static void put_ranks(struct canvas *c, const struct watch_run *run, const char *stage) {
    enum { SHOWN = 64 };
    size_t order[SHOWN];
    const struct report_ranks *r = report_data_ranks(&run->data, stage);
    if (!r || r->n_records == 0 || !canvas_has_room(c, 2)) return;
    if (r->slowest >= 0)
        canvas_line(c, STYLE_PLAIN, "slowest rank %d (%s): %+.0f %% %s against the others", r->slowest,
                    r->ranks[r->slowest].host ? r->ranks[r->slowest].host : "?", 100 * r->excess,
                    r->slowest_by);
    if (!canvas_has_room(c, 3)) return;
    canvas_line(c, STYLE_SOFT,
                "rank host             serves             compute   images   labels     sums  ms a step");
    const size_t n = report_ranks_order(r, true, order, SHOWN);
    for (size_t i = 0; i < n; i++) {
        const struct report_rank *rank = &r->ranks[order[i]];
        const size_t n_left = r->n_ranks - i;
        if (n_left > 1 && !canvas_has_room(c, 2) && canvas_has_room(c, 1)) {
            canvas_line(c, STYLE_SOFT, "and %zu faster ranks", n_left);
            return;
        }
        canvas_line(c, STYLE_PLAIN, "%4zu %-16.16s %-16.16s %9.1f %8.1f %8.1f %8.1f", order[i],
                    rank->host ? rank->host : "", rank->peer ? rank->peer : "", rank->last[0], rank->last[1],
                    rank->last[2], rank->last[3]);
    }
    if (n < r->n_ranks) canvas_line(c, STYLE_SOFT, "and %zu faster ranks", r->n_ranks - n);
}

void watch_picture(FILE *out, const struct watch_run *run, const struct watch_look *look) {
    struct canvas c = canvas_begin(out, look);
    const char *stage = watch_run_stage(run), *now = current_stage(run);
    canvas_line(&c, STYLE_BOLD, "marrs_dist  %s%s%s", base_name(run->settings.run),
                run->settings.variant[0] ? "  " : "", run->settings.variant);
    put_state(&c, run);
    put_stages(&c, run);
    if (stage && strcmp(now, stage) != 0 && !is_finished(run))
        canvas_line(&c, STYLE_SOFT, "%s has no lines yet; below is %s", now, stage);
    if (stage) {
        put_progress(&c, run, stage);
        put_curves(&c, run, stage);
    }
    put_accuracies(&c, run);
    if (stage) put_waits(&c, run, stage);
    if (stage) put_ranks(&c, run, stage);
    if (run->data.n_damaged > 0)
        canvas_line(&c, STYLE_WARN, "%zu damaged line%s of metrics.jsonl left out", run->data.n_damaged,
                    run->data.n_damaged == 1 ? "" : "s");
    if (look->escapes) canvas_line(&c, STYLE_SOFT, "q leaves");
    canvas_end(&c);
}
