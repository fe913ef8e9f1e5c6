#include "training/report_ranks.h"

#include "common/memory.h"
#include "training/report_svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[REPORT_N_TIMES] = {"compute_ms", "data_ms", "exchange_ms", "reduce_ms"};

void report_ranks_free(struct report_ranks *r) {
    for (size_t i = 0; i < r->n_ranks; i++) {
        free(r->ranks[i].host);
        free(r->ranks[i].peer);
    }
    free(r->ranks);
    r->ranks = NULL;
    r->n_ranks = r->n_records = 0;
}

/* The ranks of a record whose four lists are whole and equally long; 0: none. */
static size_t count_ranks(const json_t *object) {
    const size_t n = json_array_size(json_object_get(object, names[0]));
    if (n > REPORT_MAX_RANKS) return 0;
    for (int t = 0; t < REPORT_N_TIMES; t++) {
        const json_t *list = json_object_get(object, names[t]);
        if (json_array_size(list) != n) return 0;
        for (size_t i = 0; i < n; i++) {
            const double ms = json_number_value(json_array_get(list, i));
            if (!json_is_number(json_array_get(list, i)) || !(ms >= 0 && ms < 1e12)) return 0;
        }
    }
    return n;
}

static bool start(struct report_ranks *r, size_t n) {
    report_ranks_free(r);
    r->ranks = memory_zeroed(n, sizeof *r->ranks);
    r->n_ranks = r->ranks ? n : 0;
    return r->ranks != NULL;
}

static void take_text(char **out, const json_t *list, size_t i) {
    const char *text = json_string_value(json_array_get(list, i));
    if (!text) return;
    free(*out);
    *out = strdup(text);
}

static void take_slowest(struct report_ranks *r, const json_t *record) {
    const json_t *rank = json_object_get(record, "slowest_rank");
    const char *by = json_string_value(json_object_get(record, "slowest_by"));
    const json_int_t n = json_integer_value(rank);
    r->slowest = -1;
    if (!json_is_integer(rank) || n < 0 || n >= (json_int_t)r->n_ranks) return;
    r->slowest = (int)n;
    r->excess = json_number_value(json_object_get(record, "slowest_excess"));
    snprintf(r->slowest_by, sizeof r->slowest_by, "%s", by ? by : "");
    r->ranks[n].n_slowest++;
}

bool report_ranks_add(struct report_ranks *r, const json_t *record) {
    const json_t *object = json_object_get(record, "ranks");
    const size_t n = count_ranks(object);
    if (n == 0) return true;
    if (n != r->n_ranks && !start(r, n)) return false;
    for (size_t i = 0; i < n; i++) {
        struct report_rank *rank = &r->ranks[i];
        for (int t = 0; t < REPORT_N_TIMES; t++) {
            rank->last[t] = json_number_value(json_array_get(json_object_get(object, names[t]), i));
            rank->sum[t] += rank->last[t];
        }
        take_text(&rank->host, json_object_get(object, "host"), i);
        take_text(&rank->peer, json_object_get(object, "peer"), i);
    }
    r->n_records++;
    take_slowest(r, record);
    return true;
}

double report_rank_own_ms(const double times[REPORT_N_TIMES]) {
    return times[0] + times[1];
}

size_t report_ranks_order(const struct report_ranks *r, bool newest, size_t *order, size_t capacity) {
    size_t n = 0;
    for (size_t i = 0; i < r->n_ranks; i++) { /* insertion into the few that are shown */
        const struct report_rank *rank = &r->ranks[i];
        const double own = report_rank_own_ms(newest ? rank->last : rank->sum);
        size_t at = n;
        while (at > 0) {
            const struct report_rank *before = &r->ranks[order[at - 1]];
            if (report_rank_own_ms(newest ? before->last : before->sum) >= own) break;
            at--;
        }
        if (at >= capacity) continue;
        if (n < capacity) n++;
        memmove(order + at + 1, order + at, (n - 1 - at) * sizeof *order);
        order[at] = i;
    }
    return n;
}

static void put_text(FILE *out, const char *text) {
    fputs("<td class=left>", out);
    html_text(out, text ? text : "");
    fputs("</td>", out);
}

/* The four parts side by side; `full` ms are the whole width. */
static void put_bar(FILE *out, const struct report_rank *rank, double n_records, double full) {
    double x = 0;
    fputs("<td class=split><svg viewBox=\"0 0 200 10\" preserveAspectRatio=none aria-hidden=true>", out);
    for (int t = 0; t < REPORT_N_TIMES; t++) {
        const double width = 200 * rank->sum[t] / n_records / full;
        if (width > 0.05)
            fprintf(out, "<rect class=c%d x=%.1f width=%.1f y=0 height=10 fill=currentColor />", t, x, width);
        x += width;
    }
    fputs("</svg></td>", out);
}

static void put_row(FILE *out, const struct report_ranks *r, size_t i, double full) {
    const struct report_rank *rank = &r->ranks[i];
    const double n = (double)r->n_records;
    fprintf(out, "<tr><th scope=row>%zu</th>", i);
    put_text(out, rank->host);
    put_text(out, rank->peer);
    for (int t = 0; t < REPORT_N_TIMES; t++) fprintf(out, "<td>%.1f</td>", rank->sum[t] / n);
    if (r->n_ranks > 1) fprintf(out, "<td>%.0f&nbsp;%%</td>", 100 * (double)rank->n_slowest / n);
    put_bar(out, rank, n, full);
    fputs("</tr>\n", out);
}

void report_put_ranks(FILE *out, const struct report_ranks *r) {
    enum { SHOWN = 16 };
    static const char *const titles[REPORT_N_TIMES] = {"compute", "wait for images", "wait for pseudo-labels",
                                                       "wait for sums"};
    size_t order[SHOWN];
    if (!r || r->n_records == 0) return;
    const size_t n = report_ranks_order(r, false, order, SHOWN);
    double full = 1e-9;
    for (size_t i = 0; i < r->n_ranks; i++) {
        double whole = 0;
        for (int t = 0; t < REPORT_N_TIMES; t++) whole += r->ranks[i].sum[t] / (double)r->n_records;
        full = fmax(full, whole);
    }
    fprintf(out,
            "<h3>Ranks <small>ms of a step, mean of %zu records; the first holds the others up "
            "most</small></h3>\n<div class=scroll><table class=ranks>\n<thead><tr><th scope=col>rank</th>"
            "<th scope=col class=left>host</th><th scope=col class=left>serves</th>",
            r->n_records);
    for (int t = 0; t < REPORT_N_TIMES; t++)
        fprintf(out, "<th scope=col><i class=\"key c%d\"></i>%s</th>", t, titles[t]);
    fprintf(out, "%s<th></th></tr></thead>\n<tbody>\n", r->n_ranks > 1 ? "<th scope=col>slowest</th>" : "");
    for (size_t i = 0; i < n; i++) put_row(out, r, order[i], full);
    fputs("</tbody></table></div>\n", out);
    if (r->n_ranks > n) fprintf(out, "<p class=soft>%zu faster ranks left out.</p>\n", r->n_ranks - n);
}
