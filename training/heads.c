/* Stage `heads`: linear classifiers on frozen features, co-trained (METHOD.md section 2: what the paper
 * runs). */
#include "comm/exchange.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/store.h"
#include "models/safetensors.h"
#include "training/coral.h"
#include "training/features.h"
#include "training/heads_log.h"
#include "training/predict.h"
#include "training/rank_times.h"
#include "training/teachers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define HEADS_FORMAT "marrs-heads"

/* One peer of this rank. */
struct member {
    int32_t index;
    struct run_peer *peer;
    int64_t d;
    struct interval rows[HEAD_N_INPUTS];
    float *validation; /* (N_v local,d) as it is judged */
    struct interval validation_rows;
    float *unlabelled; /* (N_u local,d) as it is trained on: for the final predictions */
    float *mean;       /* (d) taken away from target rows; zeros without CORAL */
    double mean_norm;  /* of the target rows before normalisation */
    struct head *head;
    struct pseudo_label *own, *other;
    float *best; /* (K,d) */
    double best_accuracy;
    int64_t best_outer;
    double losses[HEAD_N_TERMS], kept; /* of the step shown */
};

struct heads {
    struct run *run;
    const struct heads_settings *settings;
    struct member members[SETTINGS_MAX_PEERS];
    int32_t n_members;
    struct exchange_plan *plan;
    struct progress progress;
    double exchange_wait_s;
    struct rank_times *times;
};

/* ---- features ---- */

static const struct split *split_of(const struct run *run, int input) {
    return input == HEAD_SOURCE     ? &run->data.source
           : input == HEAD_LABELLED ? &run->data.labelled
                                    : &run->data.unlabelled;
}

/* CORAL on this rank's rows: source and labelled move, target rows are centred. */
static status_t apply_coral(struct heads *h, struct member *m, float *x[HEAD_N_INPUTS]) {
    const int64_t n_s = interval_length(m->rows[HEAD_SOURCE]), n_t = interval_length(m->rows[HEAD_LABELLED]),
                  n_u = interval_length(m->rows[HEAD_UNLABELLED]), d = m->d;
    struct coral_transform t = {0};
    float *both = memory_zeroed((size_t)((n_s + n_t) * d), sizeof *both);
    CHECK(both, STATUS_NO_MEMORY, "out of memory for CORAL");
    memcpy(both, x[HEAD_SOURCE], (size_t)(n_s * d) * sizeof *both);
    memcpy(both + n_s * d, x[HEAD_LABELLED], (size_t)(n_t * d) * sizeof *both);
    status_t status;
    TRY_TO(done, coral_fit(m->peer->group, h->settings->coral.ridge, d, both, n_s + n_t, x[HEAD_UNLABELLED],
                           n_u, &t));
    TRY_TO(done, coral_apply_source(&t, both, n_s + n_t));
    memcpy(x[HEAD_SOURCE], both, (size_t)(n_s * d) * sizeof *both);
    memcpy(x[HEAD_LABELLED], both + n_s * d, (size_t)(n_t * d) * sizeof *both);
    coral_centre_target(&t, x[HEAD_UNLABELLED], n_u);
    coral_centre_target(&t, m->validation, interval_length(m->validation_rows));
    if (h->settings->coral.centre_strong) coral_centre_target(&t, x[HEAD_STRONG], n_u);
    for (int64_t j = 0; j < d; j++) m->mean[j] = (float)t.mean_target[j];
done:
    coral_free(&t);
    free(both);
    return status;
}

static status_t mean_norm(struct member *m, const float *x, int64_t n) {
    double sums[2] = {0, (double)n};
    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        for (int64_t j = 0; j < m->d; j++) square += (double)x[i * m->d + j] * (double)x[i * m->d + j];
        sums[0] += sqrt(square);
    }
    TRY(comm_all_reduce(comm_host_side(m->peer->group), sums, 2, COMM_F64, COMM_SUM));
    m->mean_norm = sums[1] > 0 ? sums[0] / sums[1] : 1;
    return STATUS_OK;
}

static status_t load_inputs(struct heads *h, struct member *m, float *x[HEAD_N_INPUTS]) {
    const struct run *run = h->run;
    const int rank = comm_rank(m->peer->group), n_ranks = comm_size(m->peer->group);
    for (int i = 0; i < HEAD_N_INPUTS; i++) {
        const struct split *split = split_of(run, i);
        m->rows[i] = interval_part((int64_t)split->n, rank, n_ranks);
        TRY(features_load(run, m->peer, split, i == HEAD_STRONG ? FEATURE_STRONG : FEATURE_OWN, m->rows[i],
                          m->d, &x[i]));
    }
    const struct split *validation = &run->data.validation;
    m->validation_rows = interval_part((int64_t)validation->n, rank, n_ranks);
    return features_load(run, m->peer, validation, FEATURE_OWN, m->validation_rows, m->d, &m->validation);
}

static status_t make_head(struct heads *h, struct member *m, float *x[HEAD_N_INPUTS]) {
    const struct run *run = h->run;
    const struct optimizer_settings *o = &h->settings->optimizer;
    const enum precision_choice choice = h->settings->precision;
    struct head_options options = {.ops = run->ops,
                                   .be = run->be,
                                   .group = m->peer->group,
                                   .n_classes = run->data.n_classes,
                                   .d = m->d,
                                   .precision = choice == PRECISION_AUTO   ? run->precision
                                                : choice == PRECISION_BF16 ? DTYPE_BF16
                                                                           : DTYPE_F32,
                                   .labels = {run->data.source.label + m->rows[HEAD_SOURCE].begin,
                                              run->data.labelled.label + m->rows[HEAD_LABELLED].begin},
                                   .lr = o->lr,
                                   .momentum = o->momentum,
                                   .weight_decay = o->weight_decay,
                                   .nesterov = o->nesterov};
    for (int i = 0; i < HEAD_N_INPUTS; i++) {
        options.rows[i] = x[i];
        options.n_local[i] = interval_length(m->rows[i]);
        options.n_global[i] = (int64_t)split_of(run, i)->n;
    }
    return head_new(&options, &m->head);
}

static status_t make_memory(struct heads *h, struct member *m) {
    const size_t n_w = (size_t)h->run->data.n_classes * (size_t)m->d, n_u = h->run->data.unlabelled.n;
    m->mean = memory_zeroed((size_t)m->d, sizeof *m->mean);
    m->best = memory_zeroed(n_w, sizeof *m->best);
    m->own = memory_zeroed(n_u, sizeof *m->own);
    m->other = memory_zeroed(n_u, sizeof *m->other);
    CHECK(m->mean && m->best && m->own && m->other, STATUS_NO_MEMORY, "out of memory for a classifier");
    return STATUS_OK;
}

static status_t open_member(struct heads *h, struct member *m) {
    float *x[HEAD_N_INPUTS] = {NULL};
    status_t status;
    TRY_TO(done, features_width(m->peer, &m->d));
    TRY_TO(done, make_memory(h, m));
    TRY_TO(done, load_inputs(h, m, x));
    if (m->peer->settings->coral != CORAL_NONE) TRY_TO(done, apply_coral(h, m, x));
    TRY_TO(done, mean_norm(m, x[HEAD_UNLABELLED], interval_length(m->rows[HEAD_UNLABELLED])));
    if (h->settings->normalise) {
        for (int i = 0; i < HEAD_N_INPUTS; i++) normalise_rows(x[i], interval_length(m->rows[i]), m->d);
        normalise_rows(m->validation, interval_length(m->validation_rows), m->d);
    }
    TRY_TO(done, make_head(h, m, x));
    m->unlabelled = x[HEAD_UNLABELLED];
    x[HEAD_UNLABELLED] = NULL;
done:
    for (int i = 0; i < HEAD_N_INPUTS; i++) free(x[i]);
    return status;
}

/* The classifier starts uniform in +-1/sqrt(d). */
static status_t draw_weights(struct heads *h, struct member *m) {
    const int64_t n = h->run->data.n_classes * m->d;
    float *w = memory_zeroed((size_t)n, sizeof *w);
    CHECK(w, STATUS_NO_MEMORY, "out of memory for a classifier");
    struct rng rng = rng_start((struct rng_key){.seed = (uint64_t)h->run->settings->seed,
                                                .stage = STAGE_HEADS,
                                                .peer = (uint8_t)m->index,
                                                .purpose = RNG_INIT});
    const float bound = 1.0f / sqrtf((float)m->d);
    for (int64_t i = 0; i < n; i++) w[i] = bound * (2 * rng_float(&rng) - 1);
    const status_t status = head_set_weights(m->head, w);
    free(w);
    return status;
}

/* ---- predictions ---- */

/* (n_global,K) on every rank of the group, from each rank's rows. */
static status_t predict_all(struct heads *h, struct member *m, const float *rows, struct interval mine,
                            int64_t n_global, float *probabilities) {
    const int64_t k = h->run->data.n_classes;
    const int n_ranks = comm_size(m->peer->group);
    TRY(head_predict(m->head, rows, interval_length(mine), probabilities + mine.begin * k));
    if (n_ranks == 1) return STATUS_OK;
    int64_t *offsets = memory_zeroed((size_t)n_ranks + 1, sizeof *offsets);
    CHECK(offsets, STATUS_NO_MEMORY, "out of memory for predictions");
    for (int r = 0; r < n_ranks; r++) offsets[r + 1] = interval_part(n_global, r, n_ranks).end * k;
    const status_t status = comm_all_gather(comm_host_side(m->peer->group), probabilities, offsets, COMM_F32);
    free(offsets);
    return status;
}

static status_t member_accuracy(struct heads *h, struct member *m, double *per_cent) {
    const struct split *v = &h->run->data.validation;
    float *probabilities = memory_zeroed(v->n * (size_t)h->run->data.n_classes, sizeof *probabilities);
    CHECK(probabilities, STATUS_NO_MEMORY, "out of memory for predictions");
    const status_t status =
        predict_all(h, m, m->validation, m->validation_rows, (int64_t)v->n, probabilities);
    *per_cent = accuracy(probabilities, v, h->run->data.n_classes);
    free(probabilities);
    return status;
}

/* All peers' probabilities on one list, on every rank of the world: (peers,n,K). */
static status_t predict_peers(struct heads *h, bool unlabelled, float *all, size_t n) {
    const size_t n_elem = n * (size_t)h->run->data.n_classes;
    for (int32_t i = 0; i < h->n_members; i++) {
        struct member *m = &h->members[i];
        TRY(predict_all(h, m, unlabelled ? m->unlabelled : m->validation,
                        unlabelled ? m->rows[HEAD_UNLABELLED] : m->validation_rows, (int64_t)n,
                        all + (size_t)m->index * n_elem));
    }
    for (int32_t p = 0; p < h->run->n_peers; p++)
        TRY(comm_broadcast(comm_host_side(h->run->world), h->run->members[p].ranks[0],
                           all + (size_t)p * n_elem, (int64_t)n_elem, COMM_F32));
    return STATUS_OK;
}

static status_t evaluate_list(struct heads *h, const char *phase, bool unlabelled, bool teach) {
    struct run *run = h->run;
    const struct split *split = unlabelled ? &run->data.unlabelled : &run->data.validation;
    const size_t n_elem = split->n * (size_t)run->data.n_classes;
    float *all = memory_zeroed((size_t)run->n_peers * n_elem, sizeof *all);
    CHECK(all, STATUS_NO_MEMORY, "out of memory for predictions");
    status_t status = predict_peers(h, unlabelled, all, split->n);
    if (status == STATUS_OK && run->writes) status = note_probabilities(run, split, phase, all);
    if (status == STATUS_OK && run->writes && teach && unlabelled) status = teachers_save(run, all);
    free(all);
    return status;
}

static status_t evaluate(struct heads *h, const char *phase, bool teach) {
    progress_clear(&h->progress);
    TRY(evaluate_list(h, phase, false, false));
    TRY(evaluate_list(h, phase, true, teach));
    TRY(results_save(h->run->results));
    for (int32_t p = 0; h->run->writes && p < h->run->n_peers; p++) {
        const char *name = h->run->peers[p].settings->name;
        log_global(LOG_INFO, "%s: %s has %.2f %% on validation, %.2f %% on unlabelled target images", phase,
                   name, results_get_accuracy(h->run->results, phase, name, "validation"),
                   results_get_accuracy(h->run->results, phase, name, "unlabelled"));
    }
    return STATUS_OK;
}

/* ---- training ---- */

static status_t train_init(struct heads *h) {
    for (int32_t i = 0; i < h->n_members; i++) {
        struct member *m = &h->members[i];
        TRY(draw_weights(h, m));
        TRY(head_select_init(m->head, h->settings->init.source, h->settings->init.labelled));
        for (int64_t step = 0; step < h->settings->init.steps; step++) TRY(head_step(m->head, NULL));
        float *w = m->best; /* momentum is fresh when co-training begins */
        TRY(head_get_weights(m->head, w));
        TRY(head_set_weights(m->head, w));
    }
    return STATUS_OK;
}

/* Labels and masks of all peers of this rank, exchanged, and the rows that count. */
static status_t select_rows(struct heads *h, double tau) {
    const int32_t n_peers = h->run->n_peers;
    const struct pseudo_label *send[SETTINGS_MAX_PEERS] = {NULL};
    struct pseudo_label *receive[SETTINGS_MAX_PEERS * SETTINGS_MAX_PEERS] = {NULL};
    for (int32_t i = 0; i < h->n_members; i++) {
        struct member *m = &h->members[i];
        TRY(head_label(m->head, h->settings->tau_source, m->own));
        send[m->index] = m->own;
        for (int32_t q = 0; q < n_peers; q++)
            if (q != m->index) receive[m->index * n_peers + q] = m->other;
    }
    const bool own = h->settings->exchange.labels == LABELS_OWN || n_peers == 1;
    if (!own) {
        struct exchange_request *request;
        TRY(exchange_begin(h->plan, send, receive, &request));
        TRY(exchange_end(&request, NULL));
    }
    for (int32_t i = 0; i < h->n_members; i++) {
        struct member *m = &h->members[i];
        const struct weight_settings *w = &h->settings->weight;
        TRY(head_select(m->head, &(struct head_selection){
                                     .weight = {w->source, w->labelled, w->consistency, w->cotraining},
                                     .smoothing = h->settings->smoothing,
                                     .tau = tau,
                                     .own = m->own,
                                     .other = own ? m->own : m->other}));
        m->kept = 0;
        for (int64_t r = 0; r < interval_length(m->rows[HEAD_UNLABELLED]); r++)
            m->kept += m->own[r].confidence > (float)tau;
    }
    return STATUS_OK;
}

static status_t report(struct heads *h, int64_t outer, double tau, double seconds, bool *stop) {
    struct run *run = h->run;
    struct outer_report r = {.stop = run->stop && *run->stop, .exchange_wait_s = h->exchange_wait_s};
    for (int32_t i = 0; i < h->n_members; i++) {
        const struct member *m = &h->members[i];
        r.peers[m->index].kept = m->kept;
        if (comm_rank(m->peer->group) == 0) memcpy(r.peers[m->index].losses, m->losses, sizeof m->losses);
    }
    const bool last = outer + 1 == h->settings->outer;
    if (rank_times_due(h->times, outer + 1, last)) TRY(rank_times_begin(h->times));
    TRY(comm_all_reduce(comm_host_side(run->world), &r, (int64_t)(sizeof r / sizeof(double)), COMM_F64,
                        COMM_SUM));
    TRY(rank_times_end(h->times));
    *stop = r.stop > 0;
    if (!run->writes) return STATUS_OK;
    char text[320];
    TRY(report_outer(&(struct outer_context){.run = run,
                                             .times = h->times,
                                             .tau = tau,
                                             .steps_per_s = (double)h->settings->inner / fmax(seconds, 1e-9)},
                     outer, &r, text, sizeof text));
    if (progress_due(&h->progress, last))
        progress_show(&h->progress, "heads", outer + 1, h->settings->outer, text);
    return STATUS_OK;
}

static status_t outer_iteration(struct heads *h, int64_t outer, double tau) {
    const int64_t n_inner = h->settings->inner, every = h->settings->exchange.every;
    for (int64_t inner = 0; inner < n_inner; inner++) {
        comm_set_step(h->run->world, "heads", outer * n_inner + inner);
        if (inner % every == 0) TRY(select_rows(h, tau));
        for (int32_t i = 0; i < h->n_members; i++) {
            struct member *m = &h->members[i];
            TRY(head_step(m->head, inner == 0 ? m->losses : NULL));
        }
    }
    return STATUS_OK;
}

static status_t validate(struct heads *h, int64_t outer) {
    double accuracies[SETTINGS_MAX_PEERS] = {0};
    for (int32_t i = 0; i < h->n_members; i++) {
        struct member *m = &h->members[i];
        double per_cent;
        TRY(member_accuracy(h, m, &per_cent));
        if (m->best_outer < 0 || !(per_cent < m->best_accuracy)) { /* ties: the later */
            m->best_outer = outer;
            m->best_accuracy = per_cent;
            TRY(head_get_weights(m->head, m->best));
        }
        if (comm_rank(m->peer->group) == 0) accuracies[m->index] = per_cent;
    }
    TRY(comm_all_reduce(comm_host_side(h->run->world), accuracies, h->run->n_peers, COMM_F64, COMM_SUM));
    metrics_begin(h->run->metrics, "heads", outer);
    metrics_text(h->run->metrics, "phase", "validation");
    for (int32_t p = 0; p < h->run->n_peers; p++)
        metrics_number_in(h->run->metrics, "validation", h->run->peers[p].settings->name, accuracies[p]);
    return metrics_end(h->run->metrics);
}

/* ---- checkpoints: small, so one file a peer, replaced at each ---- */

static char *checkpoint_path(const struct heads *h, const struct member *m) {
    return run_path(h->run, "checkpoints", "heads-%s.h5", m->peer->settings->name);
}

static status_t save_member(struct heads *h, struct member *m, int64_t n_done) {
    if (comm_rank(m->peer->group) != 0) return STATUS_OK;
    const uint64_t shape[] = {(uint64_t)h->run->data.n_classes, (uint64_t)m->d};
    const size_t n = (size_t)(shape[0] * shape[1]);
    float *w = memory_zeroed(2 * n, sizeof *w), *v = w ? w + n : NULL;
    char *path = checkpoint_path(h, m);
    struct store_writer *writer = NULL;
    int64_t n_steps;
    status_t status = STATUS_OK;
    CHECK_TO(done, w && path, STATUS_NO_MEMORY, "out of memory for a checkpoint");
    TRY_TO(done, head_get_weights(m->head, w));
    TRY_TO(done, head_get_state(m->head, v, &n_steps));
    TRY_TO(done, store_writer_open(path, HEADS_FORMAT, 1, &writer));
    status = store_writer_set_integer(writer, "outer", n_done);
    if (status == STATUS_OK) status = store_writer_set_integer(writer, "n_steps", n_steps);
    if (status == STATUS_OK) status = store_writer_set_integer(writer, "best_outer", m->best_outer);
    if (status == STATUS_OK) status = store_writer_set_number(writer, "best_accuracy", m->best_accuracy);
    if (status == STATUS_OK) status = store_writer_put(writer, "weight", STORE_F32, 2, shape, w);
    if (status == STATUS_OK) status = store_writer_put(writer, "momentum", STORE_F32, 2, shape, v);
    if (status == STATUS_OK) status = store_writer_put(writer, "best", STORE_F32, 2, shape, m->best);
    if (status == STATUS_OK)
        status = store_writer_commit(writer);
    else
        store_writer_abandon(writer);
done:
    free(w);
    free(path);
    return status;
}

static status_t save(struct heads *h, int64_t n_done) {
    for (int32_t i = 0; i < h->n_members; i++) TRY(save_member(h, &h->members[i], n_done));
    return STATUS_OK;
}

static status_t read_tensor(const struct store_reader *reader, const char *name, const uint64_t *shape,
                            float *out) {
    const struct store_tensor *tensor;
    TRY(store_reader_require(reader, name, STORE_F32, 2, shape, &tensor));
    return store_reader_read(reader, tensor, out);
}

/* Every rank of the group reads the file (weights of a linear classifier). *n_done -1: none, or damaged. */
static status_t load_member(struct heads *h, struct member *m, int64_t *n_done) {
    const uint64_t shape[] = {(uint64_t)h->run->data.n_classes, (uint64_t)m->d};
    const size_t n = (size_t)(shape[0] * shape[1]);
    float *w = memory_zeroed(2 * n, sizeof *w), *v = w ? w + n : NULL;
    char *path = checkpoint_path(h, m);
    struct store_reader *reader = NULL;
    int64_t outer = -1, n_steps = 0;
    status_t status = STATUS_OK;
    *n_done = -1;
    CHECK_TO(done, w && path, STATUS_NO_MEMORY, "out of memory for a checkpoint");
    if (!file_exists(path)) goto done;
    status = store_reader_open(path, &reader);
    if (status == STATUS_OK) status = read_tensor(reader, "weight", shape, w);
    if (status == STATUS_OK) status = read_tensor(reader, "momentum", shape, v);
    if (status == STATUS_OK) status = read_tensor(reader, "best", shape, m->best);
    if (status == STATUS_OK && !(store_reader_integer(reader, "outer", &outer) &&
                                 store_reader_integer(reader, "n_steps", &n_steps) &&
                                 store_reader_integer(reader, "best_outer", &m->best_outer) &&
                                 store_reader_number(reader, "best_accuracy", &m->best_accuracy)))
        status = FAIL(STATUS_BAD_DATA, "%s lacks its numbers", path);
    if (status == STATUS_OK) {
        TRY_TO(done, head_set_weights(m->head, w));
        TRY_TO(done, head_set_state(m->head, v, n_steps));
        *n_done = outer;
    } else {
        log_local(LOG_WARNING, "the checkpoint of the heads cannot be used, starting anew: %s",
                  status_message());
        status = STATUS_OK;
    }
done:
    store_reader_close(reader);
    free(w);
    free(path);
    return status;
}

/* The outer iterations done by all peers; 0 with *fresh where co-training has to begin with initial training.
 */
static status_t resume(struct heads *h, int64_t *n_done, bool *fresh) {
    int64_t least = INT64_MAX, most = -1;
    for (int32_t i = 0; i < h->n_members; i++) {
        int64_t done;
        TRY(load_member(h, &h->members[i], &done));
        least = done < least ? done : least;
        most = done > most ? done : most;
    }
    int64_t bounds[2] = {-least, most};
    TRY(comm_all_reduce(comm_host_side(h->run->world), bounds, 2, COMM_I64, COMM_MAX));
    *fresh = bounds[1] < 0 || -bounds[0] != bounds[1]; /* files of different moments cannot go on together */
    *n_done = *fresh ? 0 : bounds[1];
    for (int32_t i = 0; *fresh && i < h->n_members; i++) h->members[i].best_outer = -1;
    if (!*fresh)
        log_global(LOG_INFO, "going on from the checkpoint of outer iteration %lld", (long long)*n_done);
    return STATUS_OK;
}

/* ---- results ---- */

/* RUN/models/<peer>.head.safetensors: weight (K,d) for features (x - mean) / |x - mean|, and mean (d). */
static status_t save_head(struct heads *h, const struct member *m) {
    char *path = run_path(h->run, "models", "%s.head.safetensors", m->peer->settings->name);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    char norm[32];
    snprintf(norm, sizeof norm, "%.9g", m->mean_norm);
    const char *const metadata[] = {"normalise", h->settings->normalise ? "l2" : "none", "mean_norm", norm};
    const int64_t k = h->run->data.n_classes;
    const struct safetensors_entry entries[] = {
        {.name = "mean", .type = TENSOR_F32, .n_dims = 1, .shape = {m->d}},
        {.name = "weight", .type = TENSOR_F32, .n_dims = 2, .shape = {k, m->d}}};
    struct safetensors_writer *writer = NULL;
    status_t status;
    TRY_TO(fail, safetensors_create(path, entries, 2, metadata, 2, &writer));
    TRY_TO(fail, safetensors_put(writer, 0, m->mean, (size_t)m->d * sizeof(float)));
    TRY_TO(fail, safetensors_put(writer, 1, m->best, (size_t)(k * m->d) * sizeof(float)));
    status = safetensors_commit(writer);
    free(path);
    return status;
fail:
    safetensors_abandon(writer);
    free(path);
    return status;
}

static status_t run_outer(struct heads *h, int64_t first) {
    const struct heads_settings *s = h->settings;
    for (int64_t outer = first; outer < s->outer; outer++) {
        struct comm *host = comm_host_side(h->run->world);
        const double start_s = clock_now_s(), waited_s = comm_waited_s(host, COMM_FOR_ANYTHING),
                     exchange_s = comm_waited_s(host, COMM_FOR_EXCHANGE);
        const double tau = settings_tau(&s->tau, outer, s->outer);
        bool stop;
        TRY(outer_iteration(h, outer, tau));
        const double seconds = clock_now_s() - start_s;
        h->exchange_wait_s = comm_waited_s(host, COMM_FOR_EXCHANGE) - exchange_s;
        rank_times_add(h->times,
                       &(struct rank_step){.n_steps = s->inner,
                                           .step_s = seconds,
                                           .exchange_s = h->exchange_wait_s,
                                           .waited_s = comm_waited_s(host, COMM_FOR_ANYTHING) - waited_s});
        TRY(report(h, outer, tau, seconds, &stop));
        if (outer > 0 && s->evaluate_every > 0 && outer % s->evaluate_every == 0) TRY(validate(h, outer));
        TRY(save(h, outer + 1));
        if (stop) {
            progress_clear(&h->progress);
            return FAIL(
                STATUS_STOPPED,
                "stopped after outer iteration %lld of the heads, with a checkpoint; run again to go on",
                (long long)outer);
        }
    }
    return STATUS_OK;
}

static status_t open_all(struct heads *h) {
    struct run *run = h->run;
    for (int32_t p = 0; p < run->n_peers; p++) {
        if (!run->peers[p].group) continue;
        struct member *m = &h->members[h->n_members++];
        *m = (struct member){.index = p, .peer = &run->peers[p], .best_outer = -1};
        TRY(open_member(h, m));
    }
    CHECK(run->n_peers <= 2, STATUS_BAD_CONFIG,
          "stage heads: the method's frozen stage has two peers, not %d", run->n_peers);
    return exchange_plan_new(comm_host_side(run->world), run->n_peers, run->members,
                             (int64_t)run->data.unlabelled.n, &h->plan); /* labels lie on the host here */
}

static status_t finish(struct heads *h) {
    for (int32_t i = 0; i < h->n_members; i++) {
        struct member *m = &h->members[i];
        if (m->best_outer < 0) TRY(head_get_weights(m->head, m->best)); /* never validated: the last */
        TRY(head_set_weights(m->head, m->best));
        if (comm_rank(m->peer->group) == 0) TRY(save_head(h, m));
    }
    return evaluate(h, "cotrained", true);
}

static status_t run_all(struct heads *h) {
    int64_t first;
    bool fresh;
    TRY(open_all(h));
    TRY(resume(h, &first, &fresh));
    TRY(metrics_cut(h->run->metrics, "heads", first));
    h->progress = progress_start(h->run->settings->log.every_s, first, h->run->writes);
    if (fresh) {
        TRY(train_init(h));
        TRY(evaluate(h, "supervised", false));
    }
    TRY(run_outer(h, first));
    return finish(h);
}

status_t stage_heads(struct run *run) {
    struct heads *h = memory_zeroed(1, sizeof *h);
    CHECK(h, STATUS_NO_MEMORY, "out of memory for the heads");
    h->run = run;
    h->settings = &run->settings->heads;
    status_t status = rank_times_new(run, true, &h->times);
    if (status == STATUS_OK) status = run_all(h);
    progress_clear(&h->progress);
    rank_times_free(h->times);
    exchange_plan_free(&h->plan);
    for (int32_t i = 0; i < h->n_members; i++) {
        struct member *m = &h->members[i];
        head_free(m->head);
        free(m->validation);
        free(m->unlabelled);
        free(m->mean);
        free(m->own);
        free(m->other);
        free(m->best);
    }
    free(h);
    return status;
}
