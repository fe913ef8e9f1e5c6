/* Stage `cotrain`: supervised warm-up, then co-training with the exchange at every step (METHOD.md 4). */
#include "comm/exchange.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "training/checkpoint.h"
#include "training/cotrain_keeper.h"
#include "training/cotrain_log.h"
#include "training/pixels.h"
#include "training/predict.h"
#include "training/rank_times.h"
#include "training/schedule.h"
#include "training/teachers.h"

#include <stdlib.h>

/* One peer of this rank. */
struct member {
    int32_t index; /* of the peer */
    struct run_peer *peer;
    struct net *net;
    struct cotrain_peer step;
    struct cotrain_keeper keeper;
    int64_t first_part; /* of its parts in a loader batch */
};

struct cotrain {
    struct run *run;
    const struct cotrain_settings *settings;
    struct member members[SETTINGS_MAX_PEERS];
    int32_t n_members;
    struct exchange_plan *plan;
    struct exchange_request *exchange;
    struct pixels pixels;
    bool warmup;
    int64_t n_steps; /* of warm-up and co-training together */
    struct progress progress;
    struct report_context context;
    struct step_report report, reduced; /* this rank's; under way or done */
    struct rank_times *times;
    struct comm_request *pending;
    int64_t pending_step; /* -1: none */
    double pending_tau;   /* its threshold: the next step's may be another */
    bool stop;
};

/* ---- loading ---- */

static int64_t n_global(const struct cotrain *c, enum step_input input) {
    const struct batch_settings *b = &c->settings->batch;
    return input == INPUT_SOURCE ? b->source : input == INPUT_LABELLED ? b->labelled : b->unlabelled;
}

static int32_t n_inputs(const struct cotrain *c) {
    return c->warmup ? 2 : N_INPUTS;
}

static void describe_parts(struct cotrain *c, struct loader_part *parts, int *n_parts) {
    *n_parts = 0;
    for (int32_t m = 0; m < c->n_members; m++) {
        struct member *member = &c->members[m];
        member->first_part = *n_parts;
        for (int32_t i = 0; i < n_inputs(c); i++)
            parts[(*n_parts)++] =
                (struct loader_part){.stream = i == INPUT_STRONG ? INPUT_UNLABELLED : i,
                                     .view = i == INPUT_STRONG ? member->peer->strong : member->peer->view,
                                     .peer = i == INPUT_STRONG ? 255 : (uint8_t)member->index,
                                     .view_id = i == INPUT_STRONG,
                                     .part = comm_rank(member->peer->group),
                                     .n_parts = comm_size(member->peer->group)};
    }
}

static status_t open_loader(struct cotrain *c, int64_t first_step, int64_t end_step) {
    const struct run_data *d = &c->run->data;
    const struct split *const splits[] = {&d->source, &d->labelled, &d->unlabelled};
    struct loader_stream streams[3];
    for (int i = 0; i < 3; i++)
        streams[i] = (struct loader_stream){.split = splits[i],
                                            .mode = SAMPLER_EPOCHS,
                                            .batch = (uint32_t)n_global(c, (enum step_input)i),
                                            .id = (uint8_t)i};
    struct loader_part parts[SETTINGS_MAX_PEERS * N_INPUTS];
    int n_parts;
    describe_parts(c, parts, &n_parts);
    return pixels_open(&c->pixels, c->run->ops, c->run->be, c->run->precision,
                       &(struct loader_config){.streams = streams,
                                               .n_streams = c->warmup ? 2 : 3,
                                               .parts = parts,
                                               .n_parts = n_parts,
                                               .seed = (uint64_t)c->run->settings->seed,
                                               .stage = STAGE_COTRAIN,
                                               .first_step = first_step * c->settings->accumulate,
                                               .end_step = end_step * c->settings->accumulate,
                                               .fixed_view_step = -1,
                                               .n_threads = c->run->n_workers,
                                               .n_ahead = (int)c->run->settings->data.read_ahead,
                                               .verify = c->run->settings->data.verify});
}

static status_t copy_batch(struct cotrain *c, struct member *member, const struct loader_batch *batch) {
    for (int32_t i = 0; i < n_inputs(c); i++) {
        const struct loader_output *in = &batch->parts[member->first_part + i];
        if (in->n == 0) continue;
        TRY(pixels_copy(&c->pixels, batch, (int)member->first_part + i,
                        cotrain_input(&member->step, (enum step_input)i)));
        if (i <= INPUT_LABELLED) TRY(cotrain_set_labels(&member->step, (enum step_input)i, in->labels));
    }
    return STATUS_OK;
}

/* ---- one step ---- */

static double rate(const struct cotrain *c, int64_t step) {
    const struct cotrain_settings *s = c->settings;
    return c->warmup ? schedule_rate(&s->warmup.schedule, s->warmup.lr, step, s->warmup.steps)
                     : schedule_rate(&s->schedule, s->optimizer.lr, step - s->warmup.steps, s->steps);
}

static struct cotrain_step describe_step(const struct cotrain *c, const struct member *member, int64_t step,
                                         const struct loader_batch *batch) {
    const struct cotrain_settings *s = c->settings;
    const int64_t warm = s->warmup.steps;
    const float share = 1.0f / (float)s->accumulate;
    struct cotrain_step out = {.smoothing = (float)s->smoothing,
                               .tau = c->warmup ? 0 : (float)settings_tau(&s->tau, step - warm, s->steps),
                               .tau_source = (float)s->tau_source,
                               .rng = {.seed = (uint64_t)c->run->settings->seed,
                                       .stage = STAGE_COTRAIN,
                                       .peer = (uint8_t)member->index,
                                       .step = (uint32_t)batch->step}};
    for (int t = 0; t < LOSS_N_TERMS; t++) out.weight[t] = (float)c->context.weight[t] * share;
    for (int32_t i = 0; i < n_inputs(c); i++) out.host_items[i] = batch->parts[member->first_part + i].images;
    return out;
}

static status_t begin_exchange(struct cotrain *c) {
    const int32_t n_peers = c->run->n_peers;
    const struct pseudo_label *send[SETTINGS_MAX_PEERS] = {NULL};
    struct pseudo_label *receive[SETTINGS_MAX_PEERS * SETTINGS_MAX_PEERS] = {NULL};
    if (c->settings->exchange.labels == LABELS_OWN || n_peers == 1) return STATUS_OK;
    for (int32_t m = 0; m < c->n_members; m++) {
        const struct member *member = &c->members[m];
        send[member->index] = member->step.buffers.send;
        int32_t slot = 0;
        for (int32_t q = 0; q < n_peers; q++)
            if (q != member->index)
                receive[member->index * n_peers + q] = member->step.buffers.receive[slot++];
    }
    return exchange_begin(c->plan, send, receive, &c->exchange);
}

static status_t end_exchange(struct cotrain *c, int64_t *n_bytes) {
    if (c->exchange) {
        struct exchange_stats stats;
        TRY(exchange_end(&c->exchange, &stats));
        *n_bytes += stats.n_bytes_sent;
        return STATUS_OK;
    }
    for (int32_t m = 0; m < c->n_members; m++) { /* the ablation: a peer takes its own labels */
        struct cotrain_loss_buffers *b = &c->members[m].step.buffers;
        const size_t n_bytes_own = (size_t)b->n[INPUT_UNLABELLED] * sizeof(struct pseudo_label);
        for (int32_t q = 0; q < b->n_others; q++)
            TRY(c->run->ops->copy(c->run->be, b->receive[q], b->send, n_bytes_own));
    }
    return STATUS_OK;
}

struct step_times {
    double data_s, start_s;
    double waited_s, exchange_waited_s, reduce_waited_s[SETTINGS_MAX_PEERS]; /* before the step */
    int64_t exchange_bytes;
};

/* Forward and backward of one micro-batch for all peers of this rank. */
static status_t micro_step(struct cotrain *c, int64_t step, int64_t micro, struct step_times *times) {
    struct loader_batch *batch;
    struct cotrain_step steps[SETTINGS_MAX_PEERS];
    TRY(pixels_next(&c->pixels, &batch));
    CHECK(batch, STATUS_INTERNAL, "the loader ended at step %lld", (long long)step);
    times->data_s += batch->wait_s;
    status_t status = STATUS_OK;
    for (int32_t m = 0; m < c->n_members; m++) {
        steps[m] = describe_step(c, &c->members[m], step, batch);
        TRY_TO(done, copy_batch(c, &c->members[m], batch));
        if (!c->warmup) TRY_TO(done, cotrain_forward_own(&c->members[m].step, &steps[m]));
    }
    if (!c->warmup) TRY_TO(done, begin_exchange(c));
    for (int32_t m = 0; m < c->n_members; m++) {
        TRY_TO(done, cotrain_forward_rest(&c->members[m].step, &steps[m]));
        comm_poke(c->run->world);
    }
    if (!c->warmup) TRY_TO(done, end_exchange(c, &times->exchange_bytes));
    for (int32_t m = 0; m < c->n_members; m++)
        TRY_TO(done, cotrain_backward(&c->members[m].step, &steps[m], micro == 0,
                                      micro == c->settings->accumulate - 1));
    status = pixels_ahead(&c->pixels);
done:
    loader_release(c->pixels.loader, batch);
    return status;
}

static status_t update(struct cotrain *c, struct member *member, int64_t step,
                       const struct step_times *times) {
    const double lr = rate(c, step);
    struct optimiser_outcome outcome;
    TRY(cotrain_update(&member->step, lr, &outcome));
    struct peer_report *r = &c->report.peers[member->index];
    *r = (struct peer_report){.reduce_bytes = (double)member->step.learner.stats.n_bytes,
                              .data_wait_s = times->data_s,
                              .exchange_bytes = (double)times->exchange_bytes / c->n_members};
    TRY(cotrain_figures(&member->step, &r->figures));
    if (comm_rank(member->peer->group) == 0) {
        r->gradient_norm = outcome.gradient_norm;
        r->lr = lr;
        r->skipped = outcome.skipped;
    }
    if (outcome.skipped && comm_rank(member->peer->group) == 0)
        log_local(LOG_WARNING, "step %lld: the gradient of peer %s is not finite, the step is skipped",
                  (long long)step, member->peer->settings->name);
    CHECK(outcome.n_skipped_in_a_row <= c->settings->max_skipped, STATUS_DIVERGED,
          "peer %s: %lld steps in a row had gradients with NaN or Inf (up to step %lld); a lower learning "
          "rate or a longer ramp may help, fp32 tells whether bf16 is the cause",
          member->peer->settings->name, (long long)outcome.n_skipped_in_a_row, (long long)step);
    return STATUS_OK;
}

/* ---- figures of the step before ---- */

static status_t finish_report(struct cotrain *c) {
    if (c->pending_step < 0) return STATUS_OK;
    TRY(comm_wait(&c->pending));
    TRY(rank_times_end(c->times));
    char text[512];
    const int64_t step = c->pending_step;
    const bool last = step + 1 == c->n_steps;
    c->pending_step = -1;
    c->stop = c->stop || c->reduced.stop > 0;
    if (!c->run->writes) return STATUS_OK;
    if ((step + 1) % c->run->settings->log.metrics_every == 0 || last || progress_due(&c->progress, last)) {
        c->context.tau = c->pending_tau;
        TRY(report_step(&c->context, step, &c->reduced, text, sizeof text));
        if (progress_due(&c->progress, last))
            progress_show(&c->progress, c->warmup ? "warm-up" : "co-training", step + 1, c->n_steps, text);
    }
    return STATUS_OK;
}

/* At the end of a step its waits are over on a device, too: its figures have been copied. */
static void mark_waits(struct cotrain *c, struct step_times *times) {
    times->waited_s = comm_waited_s(c->run->world, COMM_FOR_ANYTHING);
    times->exchange_waited_s = comm_waited_s(c->run->world, COMM_FOR_EXCHANGE);
    for (int32_t m = 0; m < c->n_members; m++)
        times->reduce_waited_s[m] = comm_waited_s(c->members[m].peer->group, COMM_FOR_GRADIENTS);
}

static status_t begin_report(struct cotrain *c, int64_t step, const struct step_times *times) {
    struct step_times now;
    mark_waits(c, &now);
    const struct rank_step own = {.n_steps = 1,
                                  .step_s = clock_now_s() - times->start_s,
                                  .data_s = times->data_s,
                                  .exchange_s = now.exchange_waited_s - times->exchange_waited_s,
                                  .waited_s = now.waited_s - times->waited_s};
    for (int32_t m = 0; m < c->n_members; m++) {
        struct peer_report *r = &c->report.peers[c->members[m].index];
        r->step_s = own.step_s;
        r->waited_s = own.waited_s;
        r->exchange_wait_s = own.exchange_s;
        r->reduce_wait_s = now.reduce_waited_s[m] - times->reduce_waited_s[m];
    }
    rank_times_add(c->times, &own);
    const bool last = step + 1 == (c->warmup ? c->settings->warmup.steps : c->n_steps);
    if (rank_times_due(c->times, step + 1, last)) TRY(rank_times_begin(c->times));
    c->report.stop = c->run->stop && *c->run->stop;
    c->reduced = c->report;
    c->pending_step = step;
    c->pending_tau =
        c->warmup ? 0 : settings_tau(&c->settings->tau, step - c->settings->warmup.steps, c->settings->steps);
    return comm_all_reduce_begin(comm_host_side(c->run->world), &c->reduced,
                                 (int64_t)(sizeof c->reduced / sizeof(double)), COMM_F64, COMM_SUM,
                                 &c->pending);
}

static status_t one_step(struct cotrain *c, int64_t step) {
    struct step_times times = {.start_s = clock_now_s()};
    mark_waits(c, &times);
    comm_set_step(c->run->world, c->warmup ? "warm-up" : "cotrain", step);
    for (int64_t micro = 0; micro < c->settings->accumulate; micro++) TRY(micro_step(c, step, micro, &times));
    for (int32_t m = 0; m < c->n_members; m++) TRY(update(c, &c->members[m], step, &times));
    TRY(finish_report(c));
    return begin_report(c, step, &times);
}

/* ---- evaluation and selection ---- */

static status_t validate(struct cotrain *c, int64_t step) {
    double accuracies[SETTINGS_MAX_PEERS] = {0};
    for (int32_t m = 0; m < c->n_members; m++) {
        struct member *member = &c->members[m];
        double per_cent;
        TRY(cotrain_keeper_judge(&member->keeper, &member->step.learner, c->settings->select == SELECT_LAST,
                                 step, &per_cent));
        if (comm_rank(member->peer->group) == 0) accuracies[member->index] = per_cent;
    }
    TRY(comm_all_reduce(comm_host_side(c->run->world), accuracies, c->run->n_peers, COMM_F64, COMM_SUM));
    metrics_begin(c->run->metrics, "cotrain", step);
    metrics_text(c->run->metrics, "phase", "validation");
    for (int32_t p = 0; p < c->run->n_peers; p++)
        metrics_number_in(c->run->metrics, "validation", c->run->peers[p].settings->name, accuracies[p]);
    return metrics_end(c->run->metrics);
}

static status_t evaluate(struct cotrain *c, const char *phase) {
    struct predictor *predictors[SETTINGS_MAX_PEERS] = {NULL};
    for (int32_t m = 0; m < c->n_members; m++)
        predictors[c->members[m].index] = c->members[m].keeper.predictor;
    progress_clear(&c->progress);
    TRY(evaluate_peers(c->run, predictors, phase));
    TRY(results_save(c->run->results));
    if (c->run->writes) log_peer_accuracies(c->run, phase);
    return STATUS_OK;
}

/* ---- checkpoints ---- */

static void describe_checkpoints(struct cotrain *c, struct checkpoint *out) {
    for (int32_t p = 0; p < c->run->n_peers; p++)
        out[p] = (struct checkpoint){.name = c->run->peers[p].settings->name};
    for (int32_t m = 0; m < c->n_members; m++) {
        struct member *member = &c->members[m];
        struct checkpoint *o = &out[member->index];
        o->group = member->peer->group;
        o->net = member->net;
        o->learner = &member->step.learner;
        o->best = &member->keeper.best;
        o->best_step = member->keeper.best_step;
        o->best_accuracy = member->keeper.best_accuracy;
    }
}

static status_t save(struct cotrain *c, int64_t n_done, bool *written) {
    struct checkpoint checkpoints[SETTINGS_MAX_PEERS];
    TRY(finish_report(c)); /* the metrics up to here belong to this checkpoint */
    describe_checkpoints(c, checkpoints);
    return checkpoint_write(c->run, STAGE_COTRAIN, n_done, checkpoints, c->run->n_peers, written);
}

static status_t load(struct cotrain *c, int64_t n_done) {
    struct checkpoint checkpoints[SETTINGS_MAX_PEERS];
    describe_checkpoints(c, checkpoints);
    TRY(checkpoint_load(c->run, STAGE_COTRAIN, n_done, checkpoints, c->run->n_peers));
    for (int32_t m = 0; m < c->n_members; m++) {
        struct member *member = &c->members[m];
        member->keeper.best_step = checkpoints[member->index].best_step;
        member->keeper.best_accuracy = checkpoints[member->index].best_accuracy;
        if (n_done == c->settings->warmup.steps) TRY(optimiser_reset(member->step.learner.optimiser));
    }
    log_global(LOG_INFO, "going on from the checkpoint of step %lld", (long long)n_done);
    return STATUS_OK;
}

/* ---- phases ---- */

static void close_phase(struct cotrain *c) {
    pixels_close(&c->pixels);
    exchange_plan_free(&c->plan);
    for (int32_t m = 0; m < c->n_members; m++) cotrain_peer_free(&c->members[m].step);
}

static status_t open_member(struct cotrain *c, struct member *member) {
    const struct settings *s = c->run->settings;
    const struct learner_options learner = {.optimizer = &c->settings->optimizer,
                                            .ema = c->settings->ema,
                                            .bucket_bytes = (size_t)(s->comm.bucket_mb * 1048576.0),
                                            .sharded = s->comm.shard_optimizer,
                                            .first_trained_layer =
                                                run_first_trained_layer(member->peer, member->net)};
    struct cotrain_peer_options o = {.warmup = c->warmup,
                                     .n_others = c->run->n_peers > 1 ? c->run->n_peers - 1 : 1,
                                     .height = member->peer->image,
                                     .width = member->peer->image,
                                     .recompute = s->recompute == RECOMPUTE_BLOCKS,
                                     .record = s->cuda.graph,
                                     .deep_coral = member->peer->settings->coral == CORAL_DEEP &&
                                                   c->settings->weight.coral != 0,
                                     .learner = &learner};
    for (int32_t i = 0; i < N_INPUTS; i++) o.n_global[i] = n_global(c, (enum step_input)i);
    if (c->settings->exchange.labels == LABELS_OWN) o.n_others = 1;
    TRY(cotrain_peer_new(member->net, member->peer->group, &o, &member->step));
    const size_t arena =
        pass_arena_bytes(member->step.rest) + (member->step.own ? pass_arena_bytes(member->step.own) : 0);
    log_global(LOG_INFO, "%s, %s: %.1f MiB of weights and gradients, %.1f MiB of activations on this rank",
               c->warmup ? "warm-up" : "co-training", member->peer->settings->name,
               (double)net_n_bytes(member->net, true) / 1048576, (double)arena / 1048576);
    return STATUS_OK;
}

static status_t open_phase(struct cotrain *c, bool warmup, int64_t first_step) {
    const struct cotrain_settings *s = c->settings;
    c->warmup = warmup;
    for (int32_t m = 0; m < c->n_members; m++) TRY(open_member(c, &c->members[m]));
    if (!warmup)
        TRY(exchange_plan_new(c->run->world, c->run->n_peers, c->run->members, s->batch.unlabelled,
                              &c->plan));
    c->context = (struct report_context){
        .run = c->run, .times = c->times, .loss = &c->members[0].step.loss, .warmup = warmup};
    const double weights[] = {s->weight.source, s->weight.labelled, s->weight.consistency,
                              s->weight.cotraining, s->weight.coral};
    for (int t = 0; t < LOSS_N_TERMS; t++) c->context.weight[t] = warmup ? 0 : weights[t];
    if (warmup) {
        c->context.weight[LOSS_SOURCE] = s->warmup.source;
        c->context.weight[LOSS_LABELLED] = s->warmup.labelled;
    }
    c->context.images =
        s->accumulate * (s->batch.source + s->batch.labelled + (warmup ? 0 : 2 * s->batch.unlabelled));
    return open_loader(c, first_step, warmup ? s->warmup.steps : c->n_steps);
}

static bool validation_due(const struct cotrain *c, int64_t n_done) {
    const int64_t n = n_done - c->settings->warmup.steps;
    return n_done == c->n_steps || (c->settings->evaluate_every > 0 && n % c->settings->evaluate_every == 0);
}

static status_t run_steps(struct cotrain *c, int64_t first_step, int64_t end_step) {
    const int64_t every = c->run->settings->checkpoint.every;
    for (int64_t step = first_step; step < end_step; step++) {
        const int64_t n_done = step + 1;
        bool written = true;
        TRY(one_step(c, step));
        if (!c->warmup && validation_due(c, n_done)) {
            TRY(finish_report(c));
            TRY(validate(c, step));
        }
        if (c->stop || (every > 0 && n_done % every == 0 && n_done < c->n_steps))
            TRY(save(c, n_done, &written));
        if (c->stop) {
            progress_clear(&c->progress);
            CHECK(written, STATUS_IO, "stopped after step %lld of cotrain, without a checkpoint of it",
                  (long long)n_done);
            return FAIL(STATUS_STOPPED,
                        "stopped after step %lld of cotrain, with a checkpoint; run again to go on",
                        (long long)n_done);
        }
    }
    return finish_report(c);
}

static status_t open_members(struct cotrain *c) {
    for (int32_t p = 0; p < c->run->n_peers; p++) {
        if (!c->run->peers[p].group) continue;
        struct member *member = &c->members[c->n_members++];
        *member = (struct member){.index = p, .peer = &c->run->peers[p]};
        TRY(run_new_peer_net(c->run, member->peer, &member->net));
        TRY(cotrain_keeper_new(c->run, member->peer, member->net, c->settings->ema > 0, &member->keeper));
    }
    return STATUS_OK;
}

static void close_members(struct cotrain *c) {
    for (int32_t m = 0; m < c->n_members; m++) {
        cotrain_keeper_free(&c->members[m].keeper);
        net_free(c->members[m].net);
    }
}

static status_t run_phases(struct cotrain *c) {
    const int64_t warm = c->settings->warmup.steps;
    struct checkpoint names[SETTINGS_MAX_PEERS];
    int64_t n_done;
    describe_checkpoints(c, names);
    TRY(checkpoint_find(c->run, STAGE_COTRAIN, names, c->run->n_peers, &n_done));
    TRY(metrics_cut(c->run->metrics, "cotrain", n_done));
    c->progress = progress_start(c->run->settings->log.every_s, n_done, c->run->writes);
    bool loaded = n_done == 0;
    if (n_done < warm) {
        TRY(open_phase(c, true, n_done));
        if (!loaded) TRY(load(c, n_done));
        loaded = true;
        TRY(run_steps(c, n_done, warm));
        close_phase(c);
        n_done = warm;
    }
    TRY(open_phase(c, false, n_done));
    if (!loaded) TRY(load(c, n_done));
    if (n_done == warm) {
        TRY(evaluate(c, "supervised"));
        if (c->run->writes) warn_of_hopeless_peers(c->run);
    }
    TRY(run_steps(c, n_done, c->n_steps));
    for (int32_t m = 0; m < c->n_members; m++) TRY(cotrain_keeper_save(&c->members[m].keeper));
    if (c->run->writes) teachers_forget(c->run);
    return evaluate(c, "cotrained");
}

status_t stage_cotrain(struct run *run) {
    struct cotrain *c = memory_zeroed(1, sizeof *c);
    CHECK(c, STATUS_NO_MEMORY, "out of memory for co-training");
    c->run = run;
    c->settings = &run->settings->cotrain;
    c->n_steps = c->settings->warmup.steps + c->settings->steps;
    c->pending_step = -1;
    status_t status = rank_times_new(run, true, &c->times);
    if (status == STATUS_OK) status = open_members(c);
    if (status == STATUS_OK) status = run_phases(c);
    progress_clear(&c->progress);
    loader_close(c->pixels.loader);
    c->pixels.loader = NULL;
    /* After a failure transfers may be under way, into these buffers: they live until the process ends. */
    if (status != STATUS_OK && status != STATUS_STOPPED && comm_size(run->world) > 1) return status;
    close_phase(c);
    close_members(c);
    rank_times_free(c->times);
    free(c);
    return status;
}
