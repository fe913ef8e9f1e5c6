/* plan: what was predicted, as one page. */
#include "launcher/plan.h"
#include "launcher/plan_memory.h"

#include "common/memory.h"
#include "training/report_style.h"
#include "training/report_svg.h"

#include <math.h>
#include <string.h>

/* ---- head
 * ---------------------------------------------------------------------------------------------------------
 */

static void put_tile(FILE *out, const char *label, const char *unit, double value) {
    const int digits = value >= 100 || value == floor(value) ? 0 : value >= 1 ? 1 : 3;
    fprintf(out, "<div class=tile><b>%.*f%s</b><span>", digits, value, unit);
    html_text(out, label);
    fputs("</span></div>\n", out);
}

static void put_tiles(const struct plan *plan, FILE *out) {
    const struct step_result *r = &plan->step;
    const bool cotrain = settings_has_stage(plan->settings, STAGE_COTRAIN);
    const double hours = plan->total_s / 3600;
    fputs("<div class=tiles>\n", out);
    if (cotrain) put_tile(out, "a step of co-training", "&nbsp;ms", 1e3 * r->step_s);
    if (cotrain) put_tile(out, "images/s of each peer", "", r->images / r->n_groups / r->step_s);
    if (hours >= 1)
        put_tile(out, "the whole run", "&nbsp;h", hours);
    else if (plan->total_s >= 60)
        put_tile(out, "the whole run", "&nbsp;min", plan->total_s / 60);
    else
        put_tile(out, "the whole run", "&nbsp;s", plan->total_s);
    put_tile(out, plan->world.n_devices ? "GPU-hours" : "core-hours", "", plan_unit_hours(plan));
    if (plan->n_curve > 1 && plan->bend < plan->n_curve - 1)
        put_tile(out, "ranks after which the curve bends", "", plan->curve[plan->bend].n_ranks);
    fputs("</div>\n", out);
}

static void put_head(const struct plan *plan, const char *config, FILE *out) {
    const struct plan_rates *r = plan->rates;
    const char *base = strrchr(config, '/') ? strrchr(config, '/') + 1 : config;
    fputs("<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
          "content=\"width=device-width,initial-scale=1\">\n<title>Plan of ",
          out);
    html_text(out, base);
    fputs("</title>\n<style>\n", out);
    fputs(report_style, out);
    fputs(".charts+.scroll{margin-top:1.2rem}.steps{margin:1rem 0;min-width:36rem}.steps "
          "text{font-size:12px}.part{fill:currentColor}.steps "
          ".end{fill:var(--soft)}ul.say{padding-left:1.1rem;max-width:52rem}ul.say li{margin:.3rem 0}\n",
          out);
    fputs("</style></head>\n<body>\n<header><h1>Plan of ", out);
    html_text(out, base);
    fprintf(out, "</h1>\n<p class=lead>%d ranks on %d %s%s. Rates: <b>", plan->world.n_ranks,
            plan->world.n_hosts, plan->world.n_hosts == 1 ? "host" : "hosts",
            plan->world.n_devices ? ", a GPU each" : "");
    html_text(out, r->kind);
    fputs("</b>, ", out);
    html_text(out, r->about[0] ? r->about : r->device);
    fputs("</p></header>\n", out);
}

/* ---- a step
 * ------------------------------------------------------------------------------------------------------- */

enum { BAR_LEFT = 120, BAR_WIDTH = 640, BAR_HEIGHT = 26, BAR_GAP = 14, N_PARTS = 5 };

static const char *const part_names[N_PARTS] = {"computes", "waits for labels", "waits for gradients",
                                                "waits for other sums", "waits for images"};
static const int part_colours[N_PARTS] = {0, 1, 2, 3, 6};

static void parts_of(const struct step_waits *w, double parts[N_PARTS]) {
    parts[0] = w->compute_s, parts[1] = w->exchange_s, parts[2] = w->reduce_s;
    parts[3] = w->sync_s + w->report_s, parts[4] = w->data_s;
}

static void put_bars(const struct plan *plan, FILE *out) {
    const struct step_result *r = &plan->step;
    const int height = r->n_groups * (BAR_HEIGHT + BAR_GAP) + 4;
    fputs("<div class=legend>", out);
    for (int i = 0; i < N_PARTS; i++)
        fprintf(out, "<span><i class=\"key c%d\"></i>%s</span>", part_colours[i], part_names[i]);
    fprintf(out,
            "</div>\n<div class=scroll><svg class=steps viewBox=\"0 0 %d %d\" role=img aria-label=\"a step "
            "of each group\">",
            BAR_LEFT + BAR_WIDTH + 90, height);
    for (int g = 0; g < r->n_groups; g++) {
        const int y = g * (BAR_HEIGHT + BAR_GAP) + 2;
        double parts[N_PARTS], x = BAR_LEFT;
        parts_of(&r->groups[g], parts);
        fprintf(out, "<text x=%d y=%d text-anchor=end>", BAR_LEFT - 8, y + BAR_HEIGHT / 2 + 4);
        html_text(out, plan->networks[g].name);
        fputs("</text>", out);
        for (int i = 0; i < N_PARTS; i++) {
            const double width = r->step_s > 0 ? BAR_WIDTH * parts[i] / r->step_s : 0;
            if (width < 0.05) continue;
            fprintf(
                out,
                "<rect class=\"part c%d\" x=%.1f y=%d width=%.1f height=%d><title>%s: %.3f ms</title></rect>",
                part_colours[i], x, y, width, BAR_HEIGHT, part_names[i], 1e3 * parts[i]);
            x += width;
        }
        fprintf(out, "<text class=end x=%.1f y=%d>%.1f ms</text>", x + 6, y + BAR_HEIGHT / 2 + 4,
                1e3 * r->step_s);
    }
    fputs("</svg></div>\n", out);
}

static void put_step_table(const struct plan *plan, FILE *out) {
    const struct step_result *r = &plan->step;
    fputs("<div class=scroll><table><thead><tr><th>peer<th>ranks<th>its own step, ms<th>waits for labels, "
          "ms<th>for "
          "gradients, ms<th>for other sums, ms<th>for images, ms<th>gradients<th>buckets<th>a rank sends in "
          "its "
          "node<th>a node sends</thead><tbody>\n",
          out);
    for (int g = 0; g < r->n_groups; g++) {
        const struct step_waits *w = &r->groups[g];
        fputs("<tr><td>", out);
        html_text(out, plan->networks[g].name);
        fprintf(out, "<td>%d<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td>",
                plan->world.placement.group_size[g], 1e3 * w->alone_s, 1e3 * w->exchange_s, 1e3 * w->reduce_s,
                1e3 * (w->sync_s + w->report_s), 1e3 * w->data_s);
        plan_put_bytes(out, plan->networks[g].n_param_bytes);
        fprintf(out, "<td>%d<td>", plan->networks[g].n_buckets);
        plan_put_bytes(out, r->intra_bytes[g]);
        fputs("<td>", out);
        plan_put_bytes(out, r->inter_bytes[g]);
        fputs("\n", out);
    }
    fprintf(out,
            "</tbody></table></div>\n<p class=soft>%.4g TFLOP a step, %.4g TFLOP/s of all ranks. Labels: "
            "%.0f bytes "
            "a step, all ranks together.</p>\n",
            1e-12 * plan_step_flop(plan), 1e-12 * plan_step_flop(plan) / r->step_s, r->exchange_bytes);
}

static void put_step(const struct plan *plan, FILE *out) {
    fputs("<section id=step>\n<h2>A step of co-training</h2>\n", out);
    put_bars(plan, out);
    fputs("<ul class=say>\n", out);
    plan_say(plan, out, "<li>", "</li>\n");
    fputs("</ul>\n", out);
    put_step_table(plan, out);
    fputs("</section>\n", out);
}

/* ---- other machines
 * ----------------------------------------------------------------------------------------------- */

/* Charts of the report draw report_series; these borrow their numbers. */
static struct report_series series_of(double *x, double *y, int n) {
    return (struct report_series){.n = (size_t)n, .step = x, .value = y};
}

static void put_curve_charts(const struct plan *plan, FILE *out) {
    double x[PLAN_MAX_CURVE], rate[PLAN_MAX_CURVE], ideal[PLAN_MAX_CURVE], parts[3][PLAN_MAX_CURVE];
    int n = 0;
    char mark[64];
    /* far behind the bend everything is flat, and what lies before it would be squeezed */
    while (n < plan->n_curve && (n < 3 || plan->curve[n].n_ranks <= 8 * plan->curve[plan->bend].n_ranks)) n++;
    for (int i = 0; i < n; i++) {
        const struct plan_point *p = &plan->curve[i];
        x[i] = p->n_ranks;
        rate[i] = p->step.images / p->step.n_groups / p->step.step_s;
        ideal[i] = rate[0] * p->n_ranks / plan->curve[0].n_ranks;
        double most[3] = {0};
        for (int g = 0; g < p->step.n_groups; g++) {
            const struct step_waits *w = &p->step.groups[g];
            most[0] = fmax(most[0], 1e3 * w->compute_s);
            most[1] = fmax(most[1], 1e3 * w->exchange_s);
            most[2] = fmax(most[2], 1e3 * (w->reduce_s + w->sync_s + w->report_s));
        }
        for (int k = 0; k < 3; k++) parts[k][i] = most[k];
    }
    snprintf(mark, sizeof mark, "bends after %d", plan->curve[plan->bend].n_ranks);
    const struct report_series made = series_of(x, rate, n), line = series_of(x, ideal, n);
    const struct report_series part[3] = {series_of(x, parts[0], n), series_of(x, parts[1], n),
                                          series_of(x, parts[2], n)};
    struct svg_chart chart = {.title = "Speed over ranks",
                              .unit = "images/s of each peer",
                              .markers = true,
                              .x_min = NAN,
                              .x_max = NAN,
                              .y_min = 0,
                              .y_max = 1.6 * rate[n - 1] > ideal[n - 1] ? NAN : 1.6 * rate[n - 1],
                              .mark = plan->bend < n - 1 ? x[plan->bend] : NAN,
                              .mark_label = mark};
    for (int i = 0; i < n; i++) chart.y_max = fmax(chart.y_max, 1.2 * rate[i]);
    svg_line_chart(out, &chart,
                   (const struct svg_line[]){{&made, "predicted", 0, false}, {&line, "ideal", 7, true}}, 2);
    chart.title = "Where a step's time goes", chart.unit = "ms, of the group with most", chart.y_max = NAN;
    svg_line_chart(out, &chart,
                   (const struct svg_line[]){{&part[0], "computes", 0, false},
                                             {&part[1], "waits for labels", 1, false},
                                             {&part[2], "waits for sums", 2, false}},
                   3);
}

static void put_split_chart(const struct plan *plan, FILE *out) {
    double x[PLAN_MAX_SPLITS], y[PLAN_MAX_SPLITS], most = 0, least = INFINITY;
    char title[160], mark[64];
    for (int i = 0; i < plan->n_splits; i++) {
        x[i] = plan->splits[i].first, y[i] = 1e3 * plan->splits[i].step_s;
        most = fmax(most, y[i]), least = fmin(least, y[i]);
    }
    const struct report_series s = series_of(x, y, plan->n_splits);
    const int best = plan->splits[plan->best_split].first;
    snprintf(title, sizeof title, "Ranks of %.64s, of %d", plan->networks[0].name, plan->world.n_ranks);
    snprintf(mark, sizeof mark, "best: %d : %d", best, plan->world.n_ranks - best);
    const struct svg_chart chart = {.title = title,
                                    .unit = "ms a step",
                                    .markers = true,
                                    .x_min = NAN,
                                    .x_max = NAN,
                                    .y_min = 0,
                                    .y_max = fmin(most, 5 * least),
                                    .mark = best,
                                    .mark_label = mark};
    svg_line_chart(out, &chart, (const struct svg_line[]){{&s, "predicted", 0, false}}, 1);
}

static void put_curve(const struct plan *plan, FILE *out) {
    if (plan->n_curve < 2 && plan->n_splits == 0) return;
    fprintf(out,
            "<section id=scaling>\n<h2>%s on other numbers of hosts and ranks</h2>\n<div class=charts>\n",
            settings_has_stage(plan->settings, STAGE_COTRAIN) ? "Co-training" : "Distillation");
    if (plan->n_curve > 1) put_curve_charts(plan, out);
    if (plan->n_splits > 1) put_split_chart(plan, out);
    fputs("</div>\n<div class=scroll><table><thead><tr><th>hosts<th>ranks<th>groups<th>ms a "
          "step<th>images/s<th>speed-up<th>efficiency</thead><tbody>\n",
          out);
    for (int i = 0; i < plan->n_curve; i++) {
        const struct plan_point *p = &plan->curve[i];
        fprintf(out, "<tr%s><td>%d<td>%d<td>", p->n_ranks == plan->world.n_ranks ? " class=sum" : "",
                p->n_hosts, p->n_ranks);
        for (int g = 0; g < plan->settings->n_peers; g++)
            fprintf(out, "%s%d", g ? " : " : "", p->group_size[g]);
        fprintf(out, "<td>%.2f<td>%.1f<td>%.2f<td>%.1f&nbsp;%%\n", 1e3 * p->step.step_s,
                p->step.images / p->step.n_groups / p->step.step_s, p->speed_up, 100 * p->efficiency);
    }
    fputs("</tbody></table></div>\n</section>\n", out);
}

/* ---- the run, memory, placement
 * ----------------------------------------------------------------------------------- */

static void put_run(const struct plan *plan, FILE *out) {
    fputs(
        "<section id=run>\n<h2>The run</h2>\n<div class=scroll><table><thead><tr><th>stage<th>steps<th>ms a "
        "step<th>time</thead><tbody>\n",
        out);
    for (int i = 0; i < plan->n_stages; i++) {
        const struct plan_stage *s = &plan->stages[i];
        fputs("<tr><td>", out);
        html_text(out, s->name);
        fprintf(out, "<td>%.0f<td>", s->n_steps);
        if (s->step_s > 0) fprintf(out, "%.3f", 1e3 * s->step_s);
        fputs("<td>", out);
        plan_put_time(out, s->time_s);
        fputs("\n", out);
    }
    fputs("<tr class=sum><td>all<td><td><td>", out);
    plan_put_time(out, plan->total_s);
    fprintf(out, "\n</tbody></table></div>\n<p class=soft>%.2f %s-hours.%s</p>\n</section>\n",
            plan_unit_hours(plan), plan->world.n_devices ? "GPU" : "core",
            plan->data.known ? "" : " Without features, heads and evaluations: the lists are not there.");
}

static void put_mib(double value, FILE *out) {
    if (isnan(value))
        fputs("<td>&ndash;", out);
    else
        fprintf(out, "<td>%.1f", value);
}

static status_t put_memory(const struct plan *plan, FILE *out) {
    struct plan_memory rows[PLAN_MAX_MEMORY];
    int n;
    TRY(plan_memory_find(plan, rows, &n));
    fputs("<section id=memory>\n<h2>Memory of a rank</h2>\n<div class=scroll><table><thead><tr><th>peer, "
          "stage<th>weights<th>gradients<th>optimiser<th>with ZeRO-1<th>activations<th>recomputed<th>as "
          "configured</thead><tbody>\n",
          out);
    for (int i = 0; i < n; i++) {
        const struct plan_memory *m = &rows[i];
        fputs("<tr><td>", out);
        html_text(out, m->peer);
        fprintf(out, ", %s", m->stage);
        const double values[] = {m->weights,     m->gradients,  m->optimiser, m->optimiser_sharded,
                                 m->activations, m->recomputed, m->total};
        for (size_t k = 0; k < ARRAY_LENGTH(values); k++) put_mib(values[k], out);
        fputs("\n", out);
    }
    fputs("</tbody></table></div>\n<p class=soft>MiB of the rank with the largest share of the batch, "
          "without scratch "
          "of single operations, images and libraries.</p>\n</section>\n",
          out);
    return STATUS_OK;
}

static void put_placement(const struct plan *plan, FILE *out) {
    const struct plan_world *w = &plan->world;
    fputs("<section id=placement>\n<h2>Placement</h2>\n<div class=scroll><table><thead><tr><th>host", out);
    for (int p = 0; p < plan->settings->n_peers; p++) {
        fputs("<th>ranks of ", out);
        html_text(out, plan->networks[p].name);
    }
    fputs("</thead><tbody>\n", out);
    for (int h = 0; h < w->n_hosts; h++) {
        fprintf(out, "<tr><td>node%d", h);
        for (int p = 0; p < plan->settings->n_peers; p++) {
            int n = 0;
            for (int i = 0; i < w->placement.group_size[p]; i++) n += w->host[w->placement.group[p][i]] == h;
            fprintf(out, "<td>%d", n);
        }
        fputs("\n", out);
    }
    fputs("</tbody></table></div>\n</section>\n", out);
}

static void put_link(const char *name, const struct link_rate *link, bool known, FILE *out) {
    fprintf(out, "<tr><th scope=row>%s<td>%.1f &micro;s + bytes / %.3g GB/s%s\n", name, 1e6 * link->latency_s,
            1e-9 * link->bytes_per_s, known ? "" : " (assumed)");
}

static status_t put_rates(const struct plan *plan, FILE *out) {
    const struct plan_rates *r = plan->rates;
    fputs("<section id=rates>\n<h2>What this rests on</h2>\n<div class=scroll><table class=facts>\n", out);
    fputs("<tr><th scope=row>rates<td>", out);
    html_text(out, r->kind);
    fputs("; ", out);
    html_text(out, r->about);
    put_link("a rank within a node", &r->intra, r->intra_known, out);
    put_link("a node to others", &r->inter, r->inter_known, out);
    for (int p = 0; p < plan->settings->n_peers; p++) {
        struct network_rate rate;
        TRY(plan_network_rate(plan, p, &rate));
        const double images = rate.points[rate.n_points - 1].images;
        fputs("<tr><th scope=row>", out);
        html_text(out, rate.name);
        fprintf(out,
                "<td>%.4g images/s in training, %.4g in inference, %.3f ms an update, %.4g GMAC an image\n",
                images / (rate_forward_s(&rate, images) + rate_backward_s(&rate, images)), 1 / rate.predict_s,
                1e3 * rate.update_s, 1e-9 * plan->networks[p].macs);
    }
    fputs("</table></div>\n</section>\n", out);
    return STATUS_OK;
}

status_t plan_print_html(const struct plan *plan, const char *config, const char *version, FILE *out) {
    put_head(plan, config, out);
    put_tiles(plan, out);
    if (settings_has_stage(plan->settings, STAGE_COTRAIN)) put_step(plan, out);
    put_curve(plan, out);
    put_run(plan, out);
    TRY(put_memory(plan, out));
    put_placement(plan, out);
    TRY(put_rates(plan, out));
    fputs("<footer>marrs_dist ", out);
    html_text(out, version);
    fputs(", plan: a prediction, not a measurement.</footer>\n</body></html>\n", out);
    return STATUS_OK;
}
