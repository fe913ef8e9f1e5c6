/* plan --calibrate: the configuration's own training steps on this machine, alone and with all cores busy. */
#include "launcher/device.h"
#include "launcher/plan.h"
#include "launcher/plan_measure.h"
#include "launcher/topology.h"

#include "comm/comm.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "training/cotrain_step.h"
#include "training/distil_step.h"
#include "training/head.h"

#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { LEAST_RUNS = 5, MOST_RUNS = 60, ROUNDS = 3, MAX_NEIGHBOURS = 63 };

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double plan_median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, ascending);
    return 0.5 * (values[(n - 1) / 2] + values[n / 2]);
}

/* ---- a network that trains alone
 * ---------------------------------------------------------------------------------- */

/* A peer or the student on one rank, with a share of the batch. */
struct trainee {
    struct device device;
    const struct ops *ops; /* the device's, and the next */
    struct backend *be;
    struct comm *alone;
    struct net *net;
    bool student;
    struct cotrain_peer peer;
    struct distil_student distil;
    int64_t n_steps;
    double images;
};

/* Where everything is measured. */
struct where {
    enum device_choice device;
    struct device_options options; /* GPUs: the first */
};

static status_t open_device(const struct where *where, struct trainee *t) {
    TRY(device_open(where->device, &where->options, &t->device));
    t->ops = t->device.ops;
    t->be = t->device.be;
    return STATUS_OK;
}

static void trainee_close(struct trainee *t) {
    if (t->student)
        distil_student_free(&t->distil);
    else
        cotrain_peer_free(&t->peer);
    net_free(t->net);
    if (t->alone) comm_finish(&t->alone);
    device_close(&t->device);
    memset(t, 0, sizeof *t);
}

static int64_t part_of(int64_t n, int n_parts) {
    return (n + n_parts - 1) / n_parts;
}

/* Any pixels; labels in turn. */
static status_t fill(struct trainee *t, void *input, int64_t n, int32_t side, enum dtype dtype) {
    const int64_t n_pixels = n * side * side;
    uint8_t *host = memory_zeroed((size_t)n_pixels, 3);
    void *pixels = NULL;
    status_t status = STATUS_OK;
    CHECK_TO(done, host, STATUS_NO_MEMORY, "out of memory for a batch");
    for (int64_t i = 0; i < 3 * n_pixels; i++) host[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
    TRY_TO(done, t->ops->alloc(t->be, (size_t)(3 * n_pixels) + 1, &pixels));
    TRY_TO(done, t->ops->copy_in(t->be, pixels, host, (size_t)(3 * n_pixels)));
    TRY_TO(done, t->ops->normalise(t->be, dtype, input, pixels, n_pixels));
    status = t->ops->synchronise(t->be);
done:
    if (pixels) t->ops->release(t->be, pixels);
    free(host);
    return status;
}

static int32_t *any_labels(int64_t n, int32_t k) {
    int32_t *labels = memory_zeroed((size_t)n, sizeof *labels);
    for (int64_t i = 0; labels && i < n; i++) labels[i] = (int32_t)(i * 7 % k);
    return labels;
}

static status_t open_peer(const struct plan *plan, int index, int n_parts, struct trainee *t) {
    const struct settings *s = plan->settings;
    const struct cotrain_settings *c = &s->cotrain;
    const struct plan_network *n = &plan->networks[index];
    const struct learner_options learner = {
        .optimizer = &c->optimizer, .ema = c->ema, .bucket_bytes = (size_t)(s->comm.bucket_mb * 1048576.0)};
    const struct cotrain_peer_options o = {
        .n_global = {part_of(c->batch.source, n_parts), part_of(c->batch.labelled, n_parts),
                     part_of(c->batch.unlabelled, n_parts), part_of(c->batch.unlabelled, n_parts)},
        .n_others = s->n_peers > 1 ? s->n_peers - 1 : 1,
        .height = n->image,
        .width = n->image,
        .recompute = s->recompute == RECOMPUTE_BLOCKS,
        .record = s->cuda.graph,
        .deep_coral = s->peers[index].coral == CORAL_DEEP && c->weight.coral != 0,
        .learner = &learner};
    TRY(cotrain_peer_new(t->net, t->alone, &o, &t->peer));
    for (int i = 0; i < N_INPUTS; i++) {
        t->images += (double)o.n_global[i];
        TRY(fill(t, cotrain_input(&t->peer, (enum step_input)i), o.n_global[i], n->image, plan->precision));
        if (i > INPUT_LABELLED) continue;
        int32_t *labels = any_labels(o.n_global[i], n->spec.n_classes);
        CHECK(labels, STATUS_NO_MEMORY, "out of memory for labels");
        const status_t status = cotrain_set_labels(&t->peer, (enum step_input)i, labels);
        free(labels);
        TRY(status);
    }
    return STATUS_OK;
}

static status_t open_student(const struct plan *plan, int n_parts, struct trainee *t) {
    const struct distil_settings *s = &plan->settings->distil;
    const struct plan_network *n = &plan->networks[PLAN_STUDENT];
    const struct learner_options learner = {
        .optimizer = &s->optimizer, .bucket_bytes = (size_t)(plan->settings->comm.bucket_mb * 1048576.0)};
    const struct distil_student_options o = {
        .joint = s->batch_norm == BATCH_NORM_JOINT,
        .n_global = {part_of(s->batch.source, n_parts), part_of(s->batch.labelled, n_parts),
                     part_of(s->batch.unlabelled, n_parts)},
        .height = n->image,
        .width = n->image,
        .recompute = plan->settings->recompute == RECOMPUTE_BLOCKS,
        .weight = {(float)s->weight_source, (float)s->weight_labelled, (float)s->weight_unlabelled},
        .learner = &learner};
    TRY(distil_student_new(t->net, t->alone, &o, &t->distil));
    for (int i = 0; i < DISTIL_N_INPUTS; i++) {
        const enum distil_input input = (enum distil_input)i;
        t->images += (double)o.n_global[i];
        TRY(fill(t, distil_input(&t->distil, input), o.n_global[i], n->image, plan->precision));
        int32_t *labels = any_labels(o.n_global[i], n->spec.n_classes);
        CHECK(labels, STATUS_NO_MEMORY, "out of memory for labels");
        const status_t status = distil_set_labels(&t->distil, input, labels, NULL);
        free(labels);
        TRY(status);
    }
    uint8_t *kept = memory_zeroed((size_t)o.n_global[DISTIL_UNLABELLED], 1);
    CHECK(kept, STATUS_NO_MEMORY, "out of memory for labels");
    memset(kept, 1, (size_t)o.n_global[DISTIL_UNLABELLED]);
    const status_t status = distil_set_kept(&t->distil, kept, NULL);
    free(kept);
    return status;
}

/* With 1 / n_parts of the batch. */
static status_t trainee_open(const struct plan *plan, int network, int n_parts, const struct where *where,
                             struct trainee *out) {
    const struct plan_network *n = &plan->networks[network];
    struct trainee t = {.student = network == PLAN_STUDENT};
    status_t status;
    TRY_TO(fail, open_device(where, &t));
    TRY_TO(fail, comm_start_alone(&t.alone));
    TRY_TO(fail, net_new(t.ops, t.be, &n->spec, n->image, n->image, plan->precision, &t.net));
    TRY_TO(fail, net_init(t.net, 1, (uint8_t)network));
    TRY_TO(fail, t.student ? open_student(plan, n_parts, &t) : open_peer(plan, network, n_parts, &t));
    *out = t;
    return STATUS_OK;
fail:
    trainee_close(&t);
    return status;
}

/* ---- its step
 * ------------------------------------------------------------------------------------------------------ */

struct step_times {
    double forward_s, backward_s, update_s;
};

static status_t peer_step(struct trainee *t, const struct plan *plan, struct step_times *out) {
    const struct weight_settings *w = &plan->settings->cotrain.weight;
    const struct cotrain_step step = {
        .weight = {(float)w->source, (float)w->labelled, (float)w->consistency, (float)w->cotraining,
                   (float)w->coral},
        .smoothing = (float)plan->settings->cotrain.smoothing,
        .tau = 0.1f,
        .tau_source = 0.1f,
        .rng = {.seed = 1, .stage = STAGE_COTRAIN, .step = (uint32_t)t->n_steps++}};
    const double begin_s = clock_now_s();
    TRY(cotrain_forward_own(&t->peer, &step));
    TRY(cotrain_forward_rest(&t->peer, &step));
    TRY(t->ops->synchronise(t->be));
    const double forward_s = clock_now_s();
    for (int32_t q = 0; q < t->peer.buffers.n_others; q++)
        TRY(t->ops->copy(t->be, t->peer.buffers.receive[q], t->peer.buffers.send,
                         (size_t)t->peer.buffers.n[INPUT_UNLABELLED] * sizeof(struct pseudo_label)));
    TRY(cotrain_backward(&t->peer, &step, true, true));
    TRY(t->ops->synchronise(t->be));
    const double backward_s = clock_now_s();
    struct optimiser_outcome outcome;
    TRY(cotrain_update(&t->peer, 1e-6, &outcome));
    struct cotrain_figures figures;
    TRY(cotrain_figures(&t->peer, &figures));
    *out = (struct step_times){forward_s - begin_s, backward_s - forward_s, clock_now_s() - backward_s};
    return STATUS_OK;
}

static status_t student_step(struct trainee *t, struct step_times *out) {
    struct optimiser_outcome outcome;
    double sums[DISTIL_N_INPUTS], kept;
    const double begin_s = clock_now_s();
    TRY(distil_forward_backward(
        &t->distil, (struct rng_key){.seed = 1, .stage = STAGE_DISTIL, .step = (uint32_t)t->n_steps++}));
    TRY(t->ops->synchronise(t->be));
    const double backward_s = clock_now_s();
    TRY(distil_update(&t->distil, 1e-6, &outcome));
    TRY(distil_figures(&t->distil, sums, &kept));
    const double both_s = backward_s - begin_s; /* one call does both: a third is forward */
    *out = (struct step_times){both_s / 3, both_s * 2 / 3, clock_now_s() - backward_s};
    return STATUS_OK;
}

static status_t trainee_step(struct trainee *t, const struct plan *plan, struct step_times *out) {
    return t->student ? student_step(t, out) : peer_step(t, plan, out);
}

/* Medians of many steps, the first left out. */
static status_t measure(struct trainee *t, const struct plan *plan, struct step_times *out) {
    double forward[MOST_RUNS], backward[MOST_RUNS], update[MOST_RUNS];
    struct step_times one;
    int n = 0;
    TRY(trainee_step(t, plan, &one));
    const double end_s = clock_now_s() + plan->measure_s;
    while (n < MOST_RUNS && (n < LEAST_RUNS || clock_now_s() < end_s)) {
        TRY(trainee_step(t, plan, &one));
        forward[n] = one.forward_s, backward[n] = one.backward_s, update[n] = one.update_s;
        n++;
    }
    *out = (struct step_times){plan_median(forward, n), plan_median(backward, n), plan_median(update, n)};
    return STATUS_OK;
}

/* ---- neighbours
 * ---------------------------------------------------------------------------------------------------- */

/* Other ranks of the node, as threads of this process: the same work on the other cores. */
struct neighbours {
    const struct plan *plan;
    const struct where *where;
    int network, n;
    atomic_bool stop;
    atomic_int n_ready, n_failed;
    pthread_t threads[MAX_NEIGHBOURS];
};

static void *neighbour(void *context) {
    struct neighbours *all = context;
    struct trainee t;
    struct step_times times;
    status_t status = trainee_open(all->plan, all->network, 2, all->where, &t);
    if (status == STATUS_OK) {
        status = trainee_step(&t, all->plan, &times);
        atomic_fetch_add(&all->n_ready, 1);
        while (status == STATUS_OK && !atomic_load(&all->stop)) status = trainee_step(&t, all->plan, &times);
        trainee_close(&t);
    } else {
        atomic_fetch_add(&all->n_ready, 1);
    }
    if (status != STATUS_OK) atomic_fetch_add(&all->n_failed, 1);
    return NULL;
}

static void neighbours_start(struct neighbours *all, int n) {
    while (all->n < n && pthread_create(&all->threads[all->n], NULL, neighbour, all) == 0) all->n++;
    const struct timespec moment = {.tv_nsec = 1000000};
    while (atomic_load(&all->n_ready) < all->n) nanosleep(&moment, NULL);
}

static void neighbours_stop(struct neighbours *all) {
    atomic_store(&all->stop, true);
    for (int i = 0; i < all->n; i++) pthread_join(all->threads[i], NULL);
}

/* Time of a step with n neighbours / alone. */
static status_t measure_busy(const struct plan *plan, int network, const struct where *where, int n,
                             double *out) {
    struct trainee t;
    double ratios[ROUNDS];
    TRY(trainee_open(plan, network, 1, where, &t));
    status_t status = STATUS_OK;
    for (int round = 0; round < ROUNDS; round++) {
        struct step_times alone, busy;
        struct neighbours all = {
            .plan = plan, .network = (network + 1) % plan->settings->n_peers, .where = where};
        TRY_TO(done, measure(&t, plan, &alone));
        neighbours_start(&all, n);
        status = measure(&t, plan, &busy);
        neighbours_stop(&all);
        if (status != STATUS_OK) goto done;
        CHECK_TO(done, all.n == n && atomic_load(&all.n_failed) == 0, STATUS_NO_MEMORY,
                 "plan --calibrate: %d copies of peer %s do not run at once (memory?)", n + 1,
                 plan->networks[network].name);
        ratios[round] = (busy.forward_s + busy.backward_s + busy.update_s) /
                        (alone.forward_s + alone.backward_s + alone.update_s);
    }
    *out = fmax(1, plan_median(ratios, ROUNDS));
done:
    trainee_close(&t);
    return status;
}

/* ---- rates of a network
 * -------------------------------------------------------------------------------------------- */

static status_t measure_predict(const struct plan *plan, int network, const struct where *where,
                                double *out) {
    const struct plan_network *n = &plan->networks[network];
    const struct pass_options o = {
        .batch = (int32_t)(plan->settings->evaluate.batch < 32 ? plan->settings->evaluate.batch : 32),
        .height = n->image,
        .width = n->image,
        .mode = PASS_INFER};
    const struct forward_options forward = {.update_statistics = false};
    struct trainee t = {.student = network == PLAN_STUDENT};
    struct pass *pass = NULL;
    double times[LEAST_RUNS];
    status_t status;
    TRY_TO(done, open_device(where, &t));
    TRY_TO(done, net_new(t.ops, t.be, &n->spec, n->image, n->image, plan->precision, &t.net));
    TRY_TO(done, net_init(t.net, 1, 0));
    TRY_TO(done, pass_new(t.net, &o, &pass));
    TRY_TO(done, fill(&t, pass_input(pass), o.batch, n->image, plan->precision));
    for (int i = -1; i < LEAST_RUNS; i++) {
        const double begin_s = clock_now_s();
        TRY_TO(done, pass_forward(pass, &forward));
        TRY_TO(done, t.ops->synchronise(t.be));
        if (i >= 0) times[i] = (clock_now_s() - begin_s) / o.batch;
    }
    *out = plan_median(times, LEAST_RUNS);
done:
    pass_free(pass);
    net_free(t.net);
    device_close(&t.device);
    return status;
}

/* Whole batch, a half and a quarter, in interleaved rounds. */
static status_t measure_network(const struct plan *plan, int network, const struct where *where,
                                struct network_rate *out) {
    static const int parts[] = {4, 2, 1};
    enum { N = ARRAY_LENGTH(parts) };
    const struct plan_network *n = &plan->networks[network];
    double forward[N][ROUNDS], backward[N][ROUNDS], update[N * ROUNDS], images[N] = {0};
    int n_updates = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < N; i++) {
            struct trainee t;
            struct step_times times;
            TRY(trainee_open(plan, network, parts[i], where, &t));
            const status_t status = measure(&t, plan, &times);
            images[i] = t.images;
            trainee_close(&t);
            TRY(status);
            forward[i][round] = times.forward_s, backward[i][round] = times.backward_s;
            update[n_updates++] = times.update_s;
        }
    *out = (struct network_rate){.macs = n->macs,
                                 .recompute = plan->settings->recompute == RECOMPUTE_BLOCKS,
                                 .update_s = plan_median(update, n_updates)};
    snprintf(out->name, sizeof out->name, "%s", n->name);
    for (int i = 0; i < N; i++) {
        if (out->n_points > 0 && images[i] <= out->points[out->n_points - 1].images) continue;
        out->points[out->n_points++] =
            (struct rate_point){images[i], plan_median(forward[i], ROUNDS), plan_median(backward[i], ROUNDS)};
    }
    return measure_predict(plan, network, where, &out->predict_s);
}

/* A step of the frozen stage's classifier on rows as long as this configuration's. */
static status_t measure_head(const struct plan *plan, const struct where *where, double *flop_per_s) {
    enum { N_SOURCE = 2048, N_LABELLED = 128, N_ONE = 1 };
    const struct plan_network *n = &plan->networks[0];
    struct trainee t = {.n_steps = 0};
    struct head *head = NULL;
    float *rows = memory_zeroed((size_t)N_SOURCE * (size_t)n->n_features, sizeof *rows);
    int32_t *labels = any_labels(N_SOURCE, n->spec.n_classes);
    double times[LEAST_RUNS];
    status_t status = STATUS_OK;
    CHECK_TO(done, rows && labels, STATUS_NO_MEMORY, "out of memory for features");
    for (int64_t i = 0; i < N_SOURCE * (int64_t)n->n_features; i++) rows[i] = (float)(i % 97) * 1e-4f;
    TRY_TO(done, open_device(where, &t));
    TRY_TO(done, comm_start_alone(&t.alone));
    const struct head_options o = {.ops = t.ops,
                                   .be = t.be,
                                   .group = t.alone,
                                   .n_classes = n->spec.n_classes,
                                   .d = n->n_features,
                                   .precision = plan->precision,
                                   .n_local = {N_SOURCE, N_LABELLED, N_ONE, N_ONE},
                                   .n_global = {N_SOURCE, N_LABELLED, N_ONE, N_ONE},
                                   .rows = {rows, rows, rows, rows},
                                   .labels = {labels, labels},
                                   .lr = 1e-3,
                                   .momentum = 0.9,
                                   .nesterov = true};
    TRY_TO(done, head_new(&o, &head));
    TRY_TO(done, head_select_init(head, 0.4, 0.2));
    for (int i = -1; i < LEAST_RUNS; i++) {
        const double begin_s = clock_now_s();
        for (int k = 0; k < 5; k++) TRY_TO(done, head_step(head, NULL));
        TRY_TO(done, t.ops->synchronise(t.be));
        if (i >= 0) times[i] = (clock_now_s() - begin_s) / 5;
    }
    *flop_per_s =
        4.0 * (N_SOURCE + N_LABELLED) * n->n_features * n->spec.n_classes / plan_median(times, LEAST_RUNS);
done:
    head_free(head);
    if (t.alone) comm_finish(&t.alone);
    device_close(&t.device);
    free(rows);
    free(labels);
    return status;
}

/* ---- all of it
 * ----------------------------------------------------------------------------------------------------- */

static void describe_cpu(char *text, size_t n_text) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(text, n_text, "CPU");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(text, n_text, "%.90s", strchr(line, ':') + 2);
            break;
        }
    if (file) fclose(file);
    text[strcspn(text, "\n\"\\")] = '\0';
}

static status_t describe_machine(enum device_choice device, struct plan_rates *r) {
    char what[128], date[16] = "";
    const time_t now = time(NULL);
    struct tm when;
    if (gmtime_r(&now, &when)) strftime(date, sizeof date, "%Y-%m-%d", &when);
    if (device == DEVICE_CPU) {
        describe_cpu(what, sizeof what);
        snprintf(r->about, sizeof r->about, "%.90s, %.0f cores, %.0f thread%s a rank, %s", what, r->cores,
                 r->threads, r->threads > 1 ? "s" : "", date);
        return STATUS_OK;
    }
    const struct cuda_plugin *plugin;
    TRY(cuda_plugin_open(device == DEVICE_CUDA_EMULATED, &plugin));
    TRY(plugin->describe(0, what, sizeof what));
    what[strcspn(what, "\"\\")] = '\0';
    snprintf(r->about, sizeof r->about, "%s, %s", what, date);
    snprintf(r->device, sizeof r->device, "%.*s", (int)strcspn(what, ","), what);
    return STATUS_OK;
}

/* slots: ranks of this size that share the machine's cores; GPUs: 1. */
static status_t measure_here(const struct plan *plan, const struct where *where, int slots,
                             struct plan_rates *r) {
    const struct settings *s = plan->settings;
    double busy = 0;
    for (int p = 0; p < s->n_peers; p++) {
        struct network_rate *rate = &r->networks[r->n_networks++];
        log_global(LOG_INFO, "measuring peer %s", s->peers[p].name);
        TRY(measure_network(plan, p, where, rate));
        if (plan_measure_data(plan, p, &rate->data_s) != STATUS_OK)
            log_global(LOG_WARNING, "reading and decoding is not measured, plans take it as hidden: %s",
                       status_message());
        double one = 1;
        if (slots > 1)
            TRY(measure_busy(plan, p, where, slots - 1 < MAX_NEIGHBOURS ? slots - 1 : MAX_NEIGHBOURS, &one));
        busy += one / s->n_peers;
    }
    r->busy = busy;
    if (settings_has_stage(s, STAGE_DISTIL)) {
        log_global(LOG_INFO, "measuring the student");
        TRY(measure_network(plan, PLAN_STUDENT, where, &r->networks[r->n_networks++]));
    }
    return settings_has_stage(s, STAGE_HEADS) ? measure_head(plan, where, &r->head_flop_per_s) : STATUS_OK;
}

status_t plan_calibrate(const struct plan *plan, enum device_choice device, struct comm *world,
                        struct plan_rates *out) {
    struct topology topology;
    struct plan_rates r = {.kind = "measured", .device = "cpu", .busy = 1, .head_flop_per_s = 5e9};
    const struct where where = {
        .device = device,
        .options = {.n_threads = omp_get_max_threads(), .autotune = plan->settings->cuda.autotune}};
    const bool gpu = device != DEVICE_CPU;
    TRY(topology_find(&topology));
    r.threads = where.options.n_threads;
    if (!gpu) r.cores = topology.n_host_cores > topology.n_cores ? topology.n_host_cores : topology.n_cores;
    r.workers = plan->settings->data.workers > 0 ? (double)plan->settings->data.workers
                : r.threads > 2                  ? r.threads - 1
                                                 : 1;
    if (!world || comm_rank(world) == 0) {
        TRY(describe_machine(device, &r));
        TRY(measure_here(plan, &where, gpu ? 1 : (int)(r.cores / r.threads), &r));
    }
    if (world && !gpu) TRY(plan_measure_links(plan, world, &r)); /* what is measured there is the host's */
    *out = r;
    return STATUS_OK;
}
