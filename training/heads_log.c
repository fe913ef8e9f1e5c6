#include "training/heads_log.h"

#include <math.h>
#include <stdio.h>

status_t report_outer(const struct outer_context *c, int64_t outer, const struct outer_report *r, char *text,
                      size_t capacity) {
    static const char *const terms[] = {"source", "labelled", "consistency", "cotraining"};
    struct run *run = c->run;
    size_t used = 0;
    double kept_all = 0;
    metrics_begin(run->metrics, "heads", outer);
    text[0] = '\0';
    for (int32_t p = 0; p < run->n_peers; p++) {
        const char *name = run->peers[p].settings->name;
        double total = 0;
        for (int t = 0; t < HEAD_N_TERMS; t++) {
            total += r->peers[p].losses[t];
            metrics_number_in(run->metrics, name, terms[t], r->peers[p].losses[t]);
        }
        const double kept = r->peers[p].kept / fmax(1, (double)run->data.unlabelled.n);
        kept_all += kept / run->n_peers;
        metrics_number_in(run->metrics, name, "loss", total);
        metrics_number_in(run->metrics, name, "kept_fraction", kept);
        if (used < capacity)
            used += (size_t)snprintf(text + used, capacity - used, "%s %.3f kept %.0f%%  ", name, total,
                                     100 * kept);
    }
    metrics_number(run->metrics, "tau", c->tau);
    metrics_number(run->metrics, "kept_fraction", kept_all);
    metrics_number(run->metrics, "steps_per_s", c->steps_per_s);
    rank_times_put(c->times);
    metrics_number(run->metrics, "exchange_wait_ms", 1e3 * r->exchange_wait_s / comm_size(run->world));
    if (used < capacity)
        snprintf(text + used, capacity - used, "%.0f steps/s%s%s", c->steps_per_s,
                 rank_times_text(c->times)[0] ? "  " : "", rank_times_text(c->times));
    return metrics_end(run->metrics);
}
