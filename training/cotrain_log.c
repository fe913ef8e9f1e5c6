#include "training/cotrain_log.h"

#include <math.h>
#include <stdio.h>

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

static void report_terms(const struct report_context *c, const char *name, const struct peer_report *r,
                         double *total) {
    double terms[LOSS_N_TERMS];
    const int32_t n_others = c->run->n_peers > 1 ? c->run->n_peers - 1 : 1;
    cotrain_loss_means(c->loss, c->warmup, r->figures.sums, r->figures.kept_source, n_others, terms);
    *total = 0;
    for (enum loss_term t = 0; t < (c->warmup ? LOSS_CONSISTENCY : LOSS_N_TERMS); t++) {
        *total += c->weight[t] * terms[t];
        metrics_number_in(c->run->metrics, name, loss_term_name(t), terms[t]);
    }
    metrics_number_in(c->run->metrics, name, "loss", *total);
    metrics_number_in(c->run->metrics, name, "gradient_norm", r->skipped > 0 ? NAN : r->gradient_norm);
    metrics_number_in(c->run->metrics, name, "lr", r->lr);
    if (r->skipped > 0) metrics_number_in(c->run->metrics, name, "skipped", r->skipped);
}

static void report_selection(const struct report_context *c, const char *name, const struct peer_report *r) {
    const double n_u = (double)c->loss->n_global[INPUT_UNLABELLED],
                 n_s = (double)c->loss->n_global[INPUT_SOURCE];
    metrics_number_in(c->run->metrics, name, "kept_fraction", ratio(r->figures.kept, n_u));
    metrics_number_in(c->run->metrics, name, "kept_source_fraction", ratio(r->figures.kept_source, n_s));
}

/* Mean over the peer's ranks of the part of a step that was no wait: groups differ where the split of ranks
 * is bad. */
static double busy_ms(const struct peer_report *r, double n_ranks) {
    return 1e3 * fmax(0, r->step_s - r->waited_s - r->data_wait_s) / n_ranks;
}

status_t report_step(const struct report_context *c, int64_t step, const struct step_report *report,
                     char *text, size_t capacity) {
    struct run *run = c->run;
    double step_s = 0, exchange_s = 0, reduce_s = 0, data_s = 0, kept = 0, bytes = 0;
    size_t used = 0;
    metrics_begin(run->metrics, "cotrain", step);
    metrics_text(run->metrics, "phase", c->warmup ? "warmup" : "cotrain");
    text[0] = '\0';
    for (int32_t p = 0; p < run->n_peers; p++) {
        const struct peer_report *r = &report->peers[p];
        const char *name = run->peers[p].settings->name;
        const double n_ranks = run->members[p].n_ranks;
        double total;
        report_terms(c, name, r, &total);
        if (!c->warmup) report_selection(c, name, r);
        step_s = fmax(step_s, r->step_s / n_ranks);
        metrics_number_in(run->metrics, name, "busy_ms", busy_ms(r, n_ranks));
        exchange_s = fmax(exchange_s, r->exchange_wait_s / n_ranks);
        reduce_s = fmax(reduce_s, r->reduce_wait_s / n_ranks);
        data_s = fmax(data_s, r->data_wait_s / n_ranks);
        kept += ratio(r->figures.kept, (double)c->loss->n_global[INPUT_UNLABELLED]) / run->n_peers;
        bytes += r->exchange_bytes;
        if (used < capacity) used += (size_t)snprintf(text + used, capacity - used, "%s %.3f  ", name, total);
    }
    const struct cotrain_figures *first = &report->peers[0].figures;
    const double agreement = ratio(first->agree, (double)c->loss->n_global[INPUT_UNLABELLED]),
                 images_per_s = ratio((double)c->images, step_s);
    if (!c->warmup) {
        metrics_number(run->metrics, "tau", c->tau);
        metrics_number(run->metrics, "kept_fraction", kept);
        metrics_number(run->metrics, "agreement", agreement);
        metrics_number(run->metrics, "agreement_kept", ratio(first->agree_kept, first->both_kept));
        metrics_number(run->metrics, "exchange_wait_ms", 1e3 * exchange_s);
        metrics_integer(run->metrics, "exchange_bytes", (int64_t)bytes);
        if (used < capacity)
            used += (size_t)snprintf(text + used, capacity - used, "kept %.0f%%  agree %.0f%%  ", 100 * kept,
                                     100 * agreement);
    }
    rank_times_put(c->times);
    metrics_number(run->metrics, "reduce_wait_ms", 1e3 * reduce_s);
    metrics_number(run->metrics, "data_wait_ms", 1e3 * data_s);
    metrics_number(run->metrics, "step_ms", 1e3 * step_s);
    metrics_number(run->metrics, "images_per_s", images_per_s);
    if (used < capacity)
        snprintf(text + used, capacity - used, "%.0f images/s  exchange %.2f ms%s%s", images_per_s,
                 1e3 * exchange_s, rank_times_text(c->times)[0] ? "  " : "", rank_times_text(c->times));
    return metrics_end(run->metrics);
}
