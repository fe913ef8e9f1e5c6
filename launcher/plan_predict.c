/* plan: from rates and a placement to times of steps, stages and runs. */
#include "launcher/plan.h"

#include "common/memory.h"

#include <math.h>
#include <string.h>

/* ---- worlds
 * -------------------------------------------------------------------------------------------------------- */

status_t plan_world_make(const struct settings *settings, int n_hosts, int per_host, bool gpus,
                         const int *ranks, struct plan_world *out) {
    struct plan_world w = {.n_ranks = n_hosts * per_host, .n_hosts = n_hosts};
    struct placement_request q = {.n_ranks = w.n_ranks, .n_hosts = n_hosts};
    status_t status = STATUS_OK;
    w.host = memory_zeroed((size_t)w.n_ranks, sizeof *w.host);
    w.n_devices = gpus ? memory_zeroed((size_t)n_hosts, sizeof *w.n_devices) : NULL;
    CHECK_TO(fail, w.host && (!gpus || w.n_devices), STATUS_NO_MEMORY, "out of memory for the placement");
    for (int r = 0; r < w.n_ranks; r++) w.host[r] = r / per_host;
    for (int h = 0; gpus && h < n_hosts; h++) w.n_devices[h] = per_host;
    q.host = w.host;
    q.n_devices = w.n_devices;
    TRY_TO(fail, placement_peers(settings, &q));
    for (int p = 0; ranks && p < q.n_peers; p++) q.peers[p].n_ranks = ranks[p];
    TRY_TO(fail, placement_make(&q, &w.placement));
    *out = w;
    return STATUS_OK;
fail:
    plan_world_free(&w);
    return status;
}

void plan_world_free(struct plan_world *w) {
    placement_free(&w->placement);
    free(w->host);
    free(w->n_devices);
    memset(w, 0, sizeof *w);
}

/* ---- steps
 * ---------------------------------------------------------------------------------------------------------
 */

static struct step_machine machine_of(const struct plan *plan, const struct plan_world *w) {
    const struct plan_rates *r = plan->rates;
    const bool gpu = w->n_devices != NULL;
    return (struct step_machine){.n_ranks = w->n_ranks,
                                 .n_nodes = w->n_hosts,
                                 .node = w->host,
                                 .cores = gpu ? 0 : r->cores,
                                 .threads = r->threads,
                                 .workers = r->workers,
                                 .busy = r->busy,
                                 .n_ahead = (int)plan->settings->data.read_ahead,
                                 .links = {.intra = r->intra, .inter = r->inter, .gpu = gpu}};
}

static struct step_group group_of(const struct plan *plan, int network) {
    const struct plan_network *n = &plan->networks[network];
    return (struct step_group){.name = n->name,
                               .n_micro = 1,
                               .sharded = plan->settings->comm.shard_optimizer,
                               .n_param_bytes = n->n_param_bytes,
                               .n_buckets = n->n_buckets,
                               .bucket_bytes = n->bucket_bytes,
                               .bucket_done = n->bucket_done,
                               .n_norms = n->n_norms};
}

/* The labels' sum of kept source images; with Deep CORAL the column sums and the difference of covariances.
 */
static void add_sums(const struct plan *plan, int peer, struct step_group *g) {
    const double d = plan->networks[peer].n_features;
    g->sync_bytes[0] = 8;
    if (plan->settings->peers[peer].coral != CORAL_DEEP || plan->settings->cotrain.weight.coral == 0) return;
    g->sync_bytes[1] = 2 * (1 + d) * 8;
    g->sync_bytes[2] = d * d * 4;
}

static status_t peer_group(const struct plan *plan, const struct plan_world *w, int peer, bool warmup,
                           struct step_group *out) {
    const struct cotrain_settings *s = &plan->settings->cotrain;
    struct step_group g = group_of(plan, peer);
    TRY(plan_network_rate(plan, peer, &g.rate));
    g.n_ranks = w->placement.group_size[peer];
    g.ranks = w->placement.group[peer];
    g.n_rest = (double)(s->batch.source + s->batch.labelled);
    if (!warmup) {
        g.n_own = (double)s->batch.unlabelled;
        g.n_rest += (double)s->batch.unlabelled;
        add_sums(plan, peer, &g);
    }
    g.n_micro = (int)s->accumulate;
    g.update_s = g.rate.update_s / (g.sharded ? g.n_ranks : 1);
    *out = g;
    return STATUS_OK;
}

static status_t student_group(const struct plan *plan, const struct plan_world *w, int *ranks,
                              struct step_group *out) {
    const struct batch_settings *b = &plan->settings->distil.batch;
    struct step_group g = group_of(plan, PLAN_STUDENT);
    TRY(plan_network_rate(plan, PLAN_STUDENT, &g.rate));
    for (int r = 0; r < w->n_ranks; r++) ranks[r] = r;
    g.n_ranks = w->n_ranks;
    g.ranks = ranks;
    g.n_rest = (double)(b->source + b->labelled + b->unlabelled);
    if (plan->settings->distil.batch_norm == BATCH_NORM_PAPER) g.n_norms *= 2;
    g.sync_bytes[0] = 8;
    g.update_s = g.rate.update_s / (g.sharded ? g.n_ranks : 1);
    *out = g;
    return STATUS_OK;
}

status_t plan_predict_step(const struct plan *plan, const struct plan_world *w, enum plan_phase phase,
                           struct step_result *out) {
    const struct step_machine machine = machine_of(plan, w);
    struct step_group groups[SETTINGS_MAX_PEERS];
    if (phase == PLAN_DISTIL) {
        int *ranks = memory_zeroed((size_t)w->n_ranks, sizeof *ranks);
        CHECK(ranks, STATUS_NO_MEMORY, "out of memory for the plan of a step");
        status_t status = student_group(plan, w, ranks, &groups[0]);
        if (status == STATUS_OK) status = step_predict(&machine, groups, 1, out);
        free(ranks);
        return status;
    }
    for (int p = 0; p < plan->settings->n_peers; p++)
        TRY(peer_group(plan, w, p, phase == PLAN_WARMUP, &groups[p]));
    const bool own_labels = plan->settings->cotrain.exchange.labels == LABELS_OWN;
    for (int p = 0; p < plan->settings->n_peers; p++)
        groups[p].exchanges = !own_labels && phase == PLAN_COTRAIN;
    return step_predict(&machine, groups, plan->settings->n_peers, out);
}

double plan_step_flop(const struct plan *plan) {
    const struct cotrain_settings *s = &plan->settings->cotrain;
    const double images =
        (double)(s->accumulate * (s->batch.source + s->batch.labelled + 2 * s->batch.unlabelled));
    double flop = 0;
    for (int p = 0; p < plan->settings->n_peers; p++) {
        const struct plan_network *n = &plan->networks[p];
        flop += 2 * n->macs * images *
                (1 + 2 * n->trained_share + (plan->settings->recompute == RECOMPUTE_BLOCKS ? 1 : 0));
    }
    return flop;
}

/* ---- stages
 * -------------------------------------------------------------------------------------------------------- */

/* How much slower a rank is because its node has more threads than cores. */
static double crowding(const struct plan *plan) {
    const struct plan_world *w = &plan->world;
    if (w->n_devices || plan->rates->cores <= 0) return 1;
    const double most = ceil((double)w->n_ranks / w->n_hosts);
    return fmax(1, most * plan->rates->threads / plan->rates->cores);
}

/* Every image forward once, by each peer's group at the same time (one after the other on shared ranks). */
static status_t forward_all(const struct plan *plan, double n_images, double *time_s) {
    double most = 0, sum = 0;
    for (int p = 0; p < plan->settings->n_peers; p++) {
        struct network_rate rate;
        TRY(plan_network_rate(plan, p, &rate));
        const double one = ceil(n_images / plan->world.placement.group_size[p]) * rate.predict_s;
        most = fmax(most, one), sum += one;
    }
    *time_s = (plan->world.n_ranks < plan->settings->n_peers ? sum : most) * crowding(plan);
    return STATUS_OK;
}

static void add_stage(struct plan *plan, const char *name, double n_steps, double step_s, double time_s) {
    plan->stages[plan->n_stages++] = (struct plan_stage){name, n_steps, step_s, time_s};
    plan->total_s += time_s;
}

/* Full-batch steps: logits and gradient of W, every row kept (the most there can be). */
static status_t add_heads(struct plan *plan) {
    const struct heads_settings *s = &plan->settings->heads;
    const struct plan_data *d = &plan->data;
    const struct step_machine m = machine_of(plan, &plan->world);
    const double supervised = (double)(d->source + d->labelled), all = supervised + 2 * (double)d->unlabelled;
    double step_s = 0, initial_s = 0;
    for (int p = 0; p < plan->settings->n_peers; p++) {
        const struct plan_network *n = &plan->networks[p];
        const double w = (double)n->n_features * d->n_classes;
        const int size = plan->world.placement.group_size[p];
        const struct step_group group = {.n_ranks = size, .ranks = plan->world.placement.group[p]};
        struct group_shape shape;
        TRY(step_shape(&m, &group, &shape));
        const struct link_cost reduce = links_all_reduce(&m.links, &shape, 4 * w);
        const double scale = crowding(plan) / size / plan->rates->head_flop_per_s;
        step_s = fmax(step_s, 4 * all * w * scale + reduce.own_s + reduce.wire_s);
        initial_s = fmax(initial_s, 4 * supervised * w * scale + reduce.own_s + reduce.wire_s);
    }
    const double n_steps = (double)(s->outer * s->inner);
    add_stage(plan, "heads, initial", (double)s->init.steps, initial_s, (double)s->init.steps * initial_s);
    add_stage(plan, "heads", n_steps, step_s, n_steps * step_s);
    return STATUS_OK;
}

static status_t add_cotrain(struct plan *plan) {
    const struct cotrain_settings *s = &plan->settings->cotrain;
    const struct plan_data *d = &plan->data;
    double once_s = 0, all_s = 0;
    TRY(plan_predict_step(plan, &plan->world, PLAN_COTRAIN, &plan->step));
    if (s->warmup.steps > 0) {
        TRY(plan_predict_step(plan, &plan->world, PLAN_WARMUP, &plan->warmup));
        add_stage(plan, "warm-up", (double)s->warmup.steps, plan->warmup.step_s,
                  (double)s->warmup.steps * plan->warmup.step_s);
    }
    add_stage(plan, "co-training", (double)s->steps, plan->step.step_s, (double)s->steps * plan->step.step_s);
    TRY(forward_all(plan, (double)d->validation, &once_s));
    TRY(forward_all(plan, (double)(d->validation + d->unlabelled), &all_s));
    const double n = s->evaluate_every > 0 ? floor((double)s->steps / (double)s->evaluate_every) : 1;
    if (d->known) add_stage(plan, "its evaluations", n + 2, 0, n * once_s + 2 * all_s);
    return STATUS_OK;
}

static status_t add_distil(struct plan *plan) {
    const struct distil_settings *s = &plan->settings->distil;
    const struct plan_data *d = &plan->data;
    struct network_rate rate;
    TRY(plan_predict_step(plan, &plan->world, PLAN_DISTIL, &plan->distil));
    TRY(plan_network_rate(plan, PLAN_STUDENT, &rate));
    add_stage(plan, "distillation", (double)s->steps, plan->distil.step_s,
              (double)s->steps * plan->distil.step_s);
    const double n = s->evaluate_every > 0 ? floor((double)s->steps / (double)s->evaluate_every) : 1;
    const double images = (n + 1) * (double)d->validation + (double)d->unlabelled;
    if (d->known)
        add_stage(plan, "its evaluations", n + 2, 0,
                  ceil(images / plan->world.n_ranks) * rate.predict_s * crowding(plan));
    return STATUS_OK;
}

static status_t add_stages(struct plan *plan) {
    const struct plan_data *d = &plan->data;
    const struct settings *s = plan->settings;
    if (settings_has_stage(s, STAGE_FEATURES) && d->known) {
        double time_s;
        const double images = (double)(d->source + 2 * (d->labelled + d->unlabelled));
        TRY(forward_all(plan, images, &time_s));
        add_stage(plan, "features", images, 0, time_s);
    }
    if (settings_has_stage(s, STAGE_HEADS) && d->known) TRY(add_heads(plan));
    if (settings_has_stage(s, STAGE_COTRAIN)) TRY(add_cotrain(plan));
    if (settings_has_stage(s, STAGE_DISTIL)) TRY(add_distil(plan));
    return STATUS_OK;
}

/* ---- other machines
 * ------------------------------------------------------------------------------------------------ */

static status_t add_point(struct plan *plan, int n_hosts, int per_host) {
    struct plan_world w;
    struct plan_point *point = &plan->curve[plan->n_curve];
    const bool gpus = plan->world.n_devices != NULL;
    const enum plan_phase phase =
        settings_has_stage(plan->settings, STAGE_COTRAIN) ? PLAN_COTRAIN : PLAN_DISTIL;
    TRY(plan_world_make(plan->settings, n_hosts, per_host, gpus, (int[SETTINGS_MAX_PEERS]){0}, &w));
    *point = (struct plan_point){.n_hosts = n_hosts, .n_ranks = w.n_ranks};
    memcpy(point->group_size, w.placement.group_size, sizeof point->group_size);
    const status_t status = plan_predict_step(plan, &w, phase, &point->step);
    plan_world_free(&w);
    TRY(status);
    plan->n_curve++;
    point->speed_up = plan->curve[0].step.step_s / point->step.step_s;
    point->efficiency = point->speed_up * plan->curve[0].n_ranks / point->n_ranks;
    return STATUS_OK;
}

/* Where twice the hosts give less than 1.5 times the speed. */
static void find_bend(struct plan *plan) {
    plan->bend = plan->n_curve - 1;
    for (int i = 0; i + 1 < plan->n_curve; i++) {
        const struct plan_point *a = &plan->curve[i], *b = &plan->curve[i + 1];
        const double doublings = log2((double)b->n_ranks / a->n_ranks);
        if (b->speed_up / a->speed_up >= pow(1.5, doublings)) continue;
        plan->bend = i;
        return;
    }
}

/* Splits of the world's ranks between two peers, around the one in force. */
static status_t add_splits(struct plan *plan, int per_host) {
    const int n = plan->world.n_ranks, now = plan->world.placement.group_size[0];
    if (plan->settings->n_peers != 2 || n < 3 || !settings_has_stage(plan->settings, STAGE_COTRAIN))
        return STATUS_OK;
    const int step = n > PLAN_MAX_SPLITS ? (n + PLAN_MAX_SPLITS - 1) / PLAN_MAX_SPLITS : 1;
    for (int first = (now - 1) % step + 1; first < n && plan->n_splits < PLAN_MAX_SPLITS; first += step) {
        struct plan_world w;
        struct step_result result;
        TRY(plan_world_make(plan->settings, plan->world.n_hosts, per_host, plan->world.n_devices != NULL,
                            (int[SETTINGS_MAX_PEERS]){first, n - first}, &w));
        const status_t status = plan_predict_step(plan, &w, PLAN_COTRAIN, &result);
        plan_world_free(&w);
        TRY(status);
        plan->splits[plan->n_splits++] = (struct plan_split){first, result.step_s};
        const struct plan_split *best = &plan->splits[plan->best_split];
        /* as good as the one in force is no reason to change */
        if (result.step_s < best->step_s * (first == now ? 1.0001 : 0.9999))
            plan->best_split = plan->n_splits - 1;
    }
    return STATUS_OK;
}

status_t plan_predict(struct plan *plan, const int *counts, int n_counts) {
    const int per_host = plan->world.n_ranks / plan->world.n_hosts;
    TRY(add_stages(plan));
    const bool even = per_host * plan->world.n_hosts == plan->world.n_ranks;
    if (!settings_has_stage(plan->settings, STAGE_COTRAIN) &&
        !settings_has_stage(plan->settings, STAGE_DISTIL))
        return STATUS_OK;
    for (int i = 0; i < n_counts && plan->n_curve < PLAN_MAX_CURVE && even; i++)
        TRY(add_point(plan, counts[i], per_host));
    find_bend(plan);
    return even ? add_splits(plan, per_host) : STATUS_OK;
}
