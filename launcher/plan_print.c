/* plan: what was predicted, as text. */
#include "launcher/plan.h"

#include "common/memory.h"

#include <math.h>
#include <string.h>

/* ---- numbers with units
 * -------------------------------------------------------------------------------------------- */

void plan_put_bytes(FILE *out, double n_bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    while (n_bytes >= 1024 && i < 4) n_bytes /= 1024, i++;
    fprintf(out, i == 0 ? "%.0f %s" : "%.1f %s", n_bytes, units[i]);
}

void plan_put_time(FILE *out, double time_s) {
    if (time_s < 1e-3)
        fprintf(out, "%.0f us", 1e6 * time_s);
    else if (time_s < 1)
        fprintf(out, "%.1f ms", 1e3 * time_s);
    else if (time_s < 120)
        fprintf(out, "%.1f s", time_s);
    else if (time_s < 7200)
        fprintf(out, "%.1f min", time_s / 60);
    else
        fprintf(out, "%.1f h", time_s / 3600);
}

/* ---- why
 * ----------------------------------------------------------------------------------------------------------
 */

static int slowest_group(const struct step_result *r) {
    int slowest = 0;
    for (int g = 1; g < r->n_groups; g++)
        if (r->groups[g].alone_s > r->groups[slowest].alone_s) slowest = g;
    return slowest;
}

static void say_exchange(const struct plan *plan, FILE *out) {
    const struct step_result *r = &plan->step;
    const int slow = slowest_group(r);
    double most = 0;
    int waits = 0;
    for (int g = 0; g < r->n_groups; g++)
        if (r->groups[g].exchange_s > most) most = r->groups[g].exchange_s, waits = g;
    if (plan->world.n_ranks == 1 || r->n_groups == 1) {
        fputs("Nothing is exchanged between ranks.", out);
    } else if (most < 0.01 * r->step_s) {
        fputs("The exchange of pseudo-labels (", out);
        plan_put_bytes(out, r->exchange_bytes);
        fputs(" a step) is hidden behind the forward passes; the groups are even.", out);
    } else if (waits != slow) {
        fprintf(out, "Group %s waits ", plan->networks[waits].name);
        plan_put_time(out, most);
        fprintf(out, " a step (%.0f %%) for the labels of group %s, which needs ", 100 * most / r->step_s,
                plan->networks[slow].name);
        plan_put_time(out, r->groups[slow].alone_s);
        fputs(" for its own step where it needs ", out);
        plan_put_time(out, r->groups[waits].alone_s);
        fputs(": an imbalance of the groups, not of the network.", out);
    } else {
        fprintf(out, "The exchange is exposed: group %s waits ", plan->networks[waits].name);
        plan_put_time(out, most);
        fputs(" a step for labels; a message takes ", out);
        plan_put_time(out, r->exchange_latency_s);
        fputs(".", out);
    }
}

static void say_reduce(const struct plan *plan, FILE *out) {
    const struct step_result *r = &plan->step;
    bool any = false;
    for (int g = 0; g < r->n_groups; g++) any |= plan->world.placement.group_size[g] > 1;
    if (!any) {
        fputs("Every peer has one rank: no gradients are summed.", out);
        return;
    }
    for (int g = 0; g < r->n_groups; g++) {
        const struct step_waits *w = &r->groups[g];
        if (plan->world.placement.group_size[g] == 1) continue;
        const double exposed = w->reduce_s + w->sync_s;
        fprintf(out, "%sGradients of %s (", any ? "" : " ", plan->networks[g].name);
        plan_put_bytes(out, plan->networks[g].n_param_bytes);
        fprintf(out, " in %d buckets): ", plan->networks[g].n_buckets);
        if (exposed < 0.01 * r->step_s) {
            fputs("their sum is hidden behind backward.", out);
        } else {
            plan_put_time(out, exposed);
            fprintf(out, " a step (%.0f %%) of their sum are exposed.", 100 * exposed / r->step_s);
        }
        any = false;
    }
}

static void say_bend(const struct plan *plan, FILE *out) {
    if (plan->n_curve < 2) return;
    const struct plan_point *last = &plan->curve[plan->n_curve - 1], *bend = &plan->curve[plan->bend];
    if (plan->bend == plan->n_curve - 1) {
        fprintf(out, "No bend up to %d ranks: efficiency %.0f %% there.", last->n_ranks,
                100 * last->efficiency);
        return;
    }
    const struct plan_point *next = &plan->curve[plan->bend + 1];
    double waits[4] = {0};
    static const char *const names[] = {"waits for the other group", "exposed sums of gradients",
                                        "waits for images", "shares of the batch too small for it"};
    for (int g = 0; g < next->step.n_groups; g++) {
        const struct step_waits *w = &next->step.groups[g];
        waits[0] += w->exchange_s, waits[1] += w->reduce_s + w->sync_s + w->report_s, waits[2] += w->data_s;
    }
    waits[3] = 0.2 * next->step.step_s * next->step.n_groups;
    int why = 0;
    for (int i = 1; i < 4; i++)
        if (waits[i] > waits[why]) why = i;
    fprintf(
        out,
        "The curve bends after %d ranks (%d hosts): %d ranks are only %.2f times as fast; the cause is %s.",
        bend->n_ranks, bend->n_hosts, next->n_ranks, next->speed_up / bend->speed_up, names[why]);
}

static void say_split(const struct plan *plan, FILE *out) {
    if (plan->n_splits == 0) return;
    const struct plan_split *best = &plan->splits[plan->best_split];
    const int n = plan->world.n_ranks, now = plan->world.placement.group_size[0];
    if (best->first == now)
        fprintf(out, "%d : %d is the best split of the ranks between the peers.", now, n - now);
    else {
        fprintf(out, "A split of %d : %d would take ", best->first, n - best->first);
        plan_put_time(out, best->step_s);
        fprintf(out, " a step, this one of %d : %d takes ", now, n - now);
        plan_put_time(out, plan->step.step_s);
        fprintf(out, " (peers.0.ranks=%d peers.1.ranks=%d).", best->first, n - best->first);
    }
}

void plan_say(const struct plan *plan, FILE *out, const char *line_begin, const char *line_end) {
    static void (*const all[])(const struct plan *, FILE *) = {say_exchange, say_reduce, say_split, say_bend};
    const bool cotrain = settings_has_stage(plan->settings, STAGE_COTRAIN);
    for (size_t i = cotrain ? 0 : 3; i < ARRAY_LENGTH(all); i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *one = open_memstream(&text, &n);
        if (!one) return;
        all[i](plan, one);
        fclose(one);
        if (n > 0) fprintf(out, "%s%s%s", line_begin, text, line_end);
        free(text);
    }
}

/* ---- tables
 * -------------------------------------------------------------------------------------------------------- */

static void print_step(const struct plan *plan, FILE *out) {
    const struct step_result *r = &plan->step;
    fprintf(out, "\nA step of co-training: %.2f ms, %.1f images/s, %.4g TFLOP (%.4g TFLOP/s)\n",
            1e3 * r->step_s, r->images / r->n_groups / r->step_s, 1e-12 * plan_step_flop(plan),
            1e-12 * plan_step_flop(plan) / r->step_s);
    fprintf(out, "%-16s %6s %12s %12s %12s %12s %12s %14s %14s\n", "ms a step", "ranks", "computes", "labels",
            "gradients", "other sums", "images", "a rank sends", "a node sends");
    for (int g = 0; g < r->n_groups; g++) {
        const struct step_waits *w = &r->groups[g];
        fprintf(out, "%-16s %6d %12.3f %12.3f %12.3f %12.3f %12.3f ", plan->networks[g].name,
                plan->world.placement.group_size[g], 1e3 * w->compute_s, 1e3 * w->exchange_s,
                1e3 * w->reduce_s, 1e3 * (w->sync_s + w->report_s), 1e3 * w->data_s);
        fprintf(out, "%10.2f MiB %10.2f MiB\n", r->intra_bytes[g] / 1048576, r->inter_bytes[g] / 1048576);
    }
    fprintf(
        out,
        "(labels ... images: waits. Sent: within the node, and by the fullest node to others, without the "
        "%.0f bytes of labels.)\n",
        r->exchange_bytes);
}

static void print_curve(const struct plan *plan, FILE *out) {
    fprintf(out, "\nScaling of %s\n",
            settings_has_stage(plan->settings, STAGE_COTRAIN) ? "co-training" : "distillation");
    fprintf(out, "%6s %6s %-12s %12s %12s %9s %11s\n", "hosts", "ranks", "groups", "ms a step", "images/s",
            "speed-up", "efficiency");
    for (int i = 0; i < plan->n_curve; i++) {
        const struct plan_point *p = &plan->curve[i];
        char groups[48] = "";
        for (int g = 0, n = 0; g < plan->settings->n_peers && n < 40; g++)
            n += snprintf(groups + n, sizeof groups - (size_t)n, "%s%d", g ? ":" : "", p->group_size[g]);
        fprintf(out, "%6d %6d %-12s %12.3f %12.1f %9.2f %10.1f%%\n", p->n_hosts, p->n_ranks, groups,
                1e3 * p->step.step_s, p->step.images / p->step.n_groups / p->step.step_s, p->speed_up,
                100 * p->efficiency);
    }
}

double plan_unit_hours(const struct plan *plan) {
    const double units =
        plan->world.n_devices ? plan->world.n_ranks : plan->world.n_hosts * plan->rates->cores;
    return units * plan->total_s / 3600;
}

static void print_run(const struct plan *plan, FILE *out) {
    const bool gpu = plan->world.n_devices != NULL;
    fprintf(out, "\n%-16s %12s %14s %12s\n", "stage", "steps", "ms a step", "time");
    for (int i = 0; i < plan->n_stages; i++) {
        const struct plan_stage *s = &plan->stages[i];
        char step[24] = "-";
        if (s->step_s > 0) snprintf(step, sizeof step, "%.3f", 1e3 * s->step_s);
        fprintf(out, "%-16s %12.0f %14s ", s->name, s->n_steps, step);
        plan_put_time(out, s->time_s);
        fputc('\n', out);
    }
    fprintf(out, "%-16s %12s %14s ", "all", "", "");
    plan_put_time(out, plan->total_s);
    fprintf(out, ", %.3g %s-hours\n", plan_unit_hours(plan), gpu ? "GPU" : "core");
    if (!plan->data.known)
        fputs("(without features, heads and evaluations: the lists are not there; --images and --classes "
              "tell their "
              "sizes)\n",
              out);
}

static void print_link(const char *name, const struct link_rate *link, bool known, FILE *out) {
    fprintf(out, "%s %.1f us + bytes / %.3g GB/s%s", name, 1e6 * link->latency_s, 1e-9 * link->bytes_per_s,
            known ? "" : " (assumed)");
}

void plan_print(const struct plan *plan, FILE *out) {
    const struct plan_rates *r = plan->rates;
    fprintf(out, "\nRates: %s, %s\n", r->kind, r->about[0] ? r->about : r->device);
    print_link("Links: within a node", &r->intra, r->intra_known, out);
    print_link("; between nodes", &r->inter, r->inter_known, out);
    fputc('\n', out);
    if (settings_has_stage(plan->settings, STAGE_COTRAIN)) print_step(plan, out);
    fputc('\n', out);
    plan_say(plan, out, "", "\n");
    if (plan->n_curve > 0) print_curve(plan, out);
    print_run(plan, out);
}
