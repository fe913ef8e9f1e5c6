// CASES np=1,2,3,5
// LIMIT 240
// Every cotrain_*.h5 of $GOLDEN (default tests/golden): each step's logits, features, confidences, masks,
// terms, gradients, norms and updates, with the peers' batches shared out over any number of ranks and labels
// exchanged.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/golden_h5.h"
#include "tests/support/test.h"
#include "tests/support/trajectory.h"
#include "comm/exchange.h"
#include "models/weights.h"
#include "training/cotrain_step.h"

static struct comm *world;
static struct backend *be;

enum { N_PEERS = TRAJECTORY_N_PEERS };
static const char *const peer_names[N_PEERS] = {"C", "S"};

struct peer {
    struct comm *group;
    struct net *net;
    struct cotrain_peer step;
    struct trajectory_start start;
};

struct trajectory {
    hid_t file;
    char stem[512];
    struct peer peers[N_PEERS];
    struct trajectory_groups ranks;
    struct exchange_plan *plan;
    struct optimizer_settings optimizer;
    int64_t n_global[N_INPUTS];
    double weight_warmup[2], weight[LOSS_N_TERMS];
    int n_steps, n_warmup, side;
};

static void integers(hid_t at, const char *path, const char *name, int32_t *out, int32_t capacity,
                     int32_t *n) {
    *n = (int32_t)trajectory_numbers(at, path, name, NULL, 0);
    double values[16];
    assert_true(*n <= capacity && *n <= 16);
    trajectory_numbers(at, path, name, values, 16);
    for (int i = 0; i < *n; i++) out[i] = (int32_t)values[i];
}

static struct model_spec read_spec(const struct trajectory *t, const char *peer) {
    char path[64], family[32];
    int32_t n;
    snprintf(path, sizeof path, "network/%s", peer);
    golden_text(t->file, path, "family", family, sizeof family);
    const bool swin = strcmp(family, "swin") == 0;
    struct model_spec spec = model_spec_default(swin ? MODEL_SWIN : MODEL_CONVNEXT);
    spec.n_classes = (int32_t)golden_attribute(t->file, "/", "classes");
    spec.drop_path = 0;
    integers(t->file, path, "depths", spec.depths, MODEL_MAX_STAGES, &spec.n_stages);
    if (swin) {
        integers(t->file, path, "heads", spec.heads, MODEL_MAX_STAGES, &n);
        spec.patch = (int32_t)golden_attribute(t->file, path, "patch");
        spec.embed = (int32_t)golden_attribute(t->file, path, "embed");
        spec.window = (int32_t)golden_attribute(t->file, path, "window");
    } else {
        integers(t->file, path, "dims", spec.dims, MODEL_MAX_STAGES, &n);
        spec.stem = (int32_t)golden_attribute(t->file, path, "patch");
        spec.layer_scale = 1.0f;
    }
    return spec;
}

static void open_peers(struct trajectory *t) {
    for (int p = 0; p < N_PEERS; p++) {
        struct peer *peer = &t->peers[p];
        if (!peer->group) continue;
        const struct model_spec spec = read_spec(t, peer_names[p]);
        char path[600];
        snprintf(path, sizeof path, "%s_%s.safetensors", t->stem,
                 spec.family == MODEL_SWIN ? "swin" : "convnext");
        assert_ok(net_new(&ops_cpu, be, &spec, t->side, t->side, DTYPE_F32, &peer->net));
        assert_ok(weights_load(peer->net, path, WEIGHTS_HEAD_LOAD, NULL));
        trajectory_remember(peer->net, &peer->start);
    }
}

static void open_phase(struct trajectory *t, bool warmup) {
    const struct learner_options learner = {
        .optimizer = &t->optimizer, .bucket_bytes = 20000, .sharded = getenv("SHARD") != NULL};
    for (int p = 0; p < N_PEERS; p++) {
        struct peer *peer = &t->peers[p];
        if (!peer->group) continue;
        cotrain_peer_free(&peer->step);
        struct cotrain_peer_options o = {.warmup = warmup,
                                         .n_others = 1,
                                         .height = t->side,
                                         .width = t->side,
                                         .deep_coral = p == 1,
                                         .learner = &learner};
        memcpy(o.n_global, t->n_global, sizeof o.n_global);
        assert_ok(cotrain_peer_new(peer->net, peer->group, &o, &peer->step));
    }
}

/* This rank's rows of a data set of the step into host memory or the pass. */
static void feed(struct trajectory *t, int p, int step, bool warmup) {
    struct cotrain_peer *peer = &t->peers[p].step;
    char path[128];
    for (enum step_input i = 0; i < (warmup ? INPUT_UNLABELLED : N_INPUTS); i++) {
        const size_t row = (size_t)t->side * (size_t)t->side * 3, first = (size_t)peer->rows[i].begin,
                     n = (size_t)cotrain_n_local(peer, i);
        snprintf(path, sizeof path, "step%d/%s/input/%s", step, peer_names[p], step_input_name(i));
        struct golden_array x = golden_read(t->file, path, H5T_NATIVE_FLOAT);
        assert_int_equal(x.shape[0], t->n_global[i]);
        assert_ok(ops_cpu.copy_in(be, cotrain_input(peer, i), (float *)x.data + first * row,
                                  n * row * sizeof(float)));
        golden_free(&x);
        if (i > INPUT_LABELLED) continue;
        snprintf(path, sizeof path, "step%d/labels/%s", step, step_input_name(i));
        struct golden_array y = golden_read(t->file, path, H5T_NATIVE_INT32);
        assert_ok(cotrain_set_labels(peer, i, (int32_t *)y.data + first));
        golden_free(&y);
    }
}

static void exchange(struct trajectory *t) {
    const struct pseudo_label *send[N_PEERS] = {NULL};
    struct pseudo_label *receive[N_PEERS * N_PEERS] = {NULL};
    for (int p = 0; p < N_PEERS; p++) {
        if (!t->peers[p].group) continue;
        send[p] = t->peers[p].step.buffers.send;
        receive[p * N_PEERS + (1 - p)] = t->peers[p].step.buffers.receive[0];
    }
    struct exchange_request *request;
    assert_ok(exchange_begin(t->plan, send, receive, &request));
    assert_ok(exchange_end(&request, NULL));
}

/* What the forward passes gave, before any update. */
static void check_forward(struct trajectory *t, int p, int step, bool warmup) {
    const struct cotrain_peer *peer = &t->peers[p].step;
    const int64_t k = net_spec(peer->net)->n_classes, d = net_n_features(peer->net);
    char path[128];
    for (enum step_input i = 0; i < (warmup ? INPUT_UNLABELLED : N_INPUTS); i++) {
        snprintf(path, sizeof path, "step%d/%s/logits/%s", step, peer_names[p], step_input_name(i));
        trajectory_check_rows(t->file, path, peer->loss.logits[i], peer->rows[i], k);
        snprintf(path, sizeof path, "step%d/%s/features/%s", step, peer_names[p], step_input_name(i));
        const struct pass *pass = i == INPUT_UNLABELLED ? peer->own : peer->rest;
        const int64_t first = (peer->loss.logits[i] - pass_logits((struct pass *)pass)) / k;
        trajectory_check_rows(t->file, path, pass_features((struct pass *)pass) + first * d, peer->rows[i],
                              d);
    }
}

static void check_selection(struct trajectory *t, int p, int step) {
    const struct cotrain_peer *peer = &t->peers[p].step;
    const struct cotrain_loss_buffers *b = &peer->buffers;
    const struct interval u = peer->rows[INPUT_UNLABELLED], s = peer->rows[INPUT_SOURCE];
    char path[128];
#define AT(name) (snprintf(path, sizeof path, "step%d/%s/%s", step, peer_names[p], name), path)
    trajectory_check_rows(t->file, AT("confidence/unlabelled"), b->confidence, u, 1);
    trajectory_check_rows(t->file, AT("confidence/source"), b->source_confidence, s, 1);
    trajectory_check_integers(t->file, AT("label/unlabelled"), b->label, NULL, u);
    trajectory_check_integers(t->file, AT("mask/unlabelled"), NULL, b->mask, u);
    trajectory_check_integers(t->file, AT("mask/source"), NULL, b->source_mask, s);
#undef AT
}

static void check_terms(struct trajectory *t, int p, int step, bool warmup, double gradient_norm) {
    struct cotrain_peer *peer = &t->peers[p].step;
    struct cotrain_figures f;
    double terms[LOSS_N_TERMS] = {0}, total = 0;
    char path[128];
    assert_ok(cotrain_figures(peer, &f));
    assert_ok(comm_all_reduce(peer->group, &f, (int64_t)(sizeof f / sizeof(double)), COMM_F64, COMM_SUM));
    cotrain_loss_means(&peer->loss, warmup, f.sums, f.kept_source, 1, terms);
    for (int i = 0; i < LOSS_N_TERMS; i++) {
        if (i > LOSS_LABELLED && warmup) terms[i] = 0;
        total += (double)peer->loss.weight[i] * terms[i];
    }
    snprintf(path, sizeof path, "step%d/%s/terms", step, peer_names[p]);
    trajectory_check_numbers(t->file, path, terms, LOSS_N_TERMS);
    snprintf(path, sizeof path, "step%d/%s/total", step, peer_names[p]);
    trajectory_check_numbers(t->file, path, &total, 1);
    snprintf(path, sizeof path, "step%d/%s/gradient_norm", step, peer_names[p]);
    trajectory_check_numbers(t->file, path, &gradient_norm, 1);
}

static void run_step(struct trajectory *t, int step) {
    const bool warmup = step < t->n_warmup;
    char path[64];
    snprintf(path, sizeof path, "step%d", step);
    struct cotrain_step s = {.smoothing = (float)golden_attribute(t->file, "/", "smoothing"),
                             .tau = (float)golden_attribute(t->file, path, "tau"),
                             .tau_source = (float)golden_attribute(t->file, "/", "tau_source")};
    for (int i = 0; i < LOSS_N_TERMS; i++)
        s.weight[i] = (float)(warmup ? (i < 2 ? t->weight_warmup[i] : 0) : t->weight[i]);
    if (golden_attribute(t->file, path, "fresh_optimiser") > 0) open_phase(t, warmup);
    for (int p = 0; p < N_PEERS; p++) {
        if (!t->peers[p].group) continue;
        feed(t, p, step, warmup);
        if (!warmup) assert_ok(cotrain_forward_own(&t->peers[p].step, &s));
    }
    if (!warmup) exchange(t);
    for (int p = 0; p < N_PEERS; p++) {
        if (!t->peers[p].group) continue;
        struct peer *peer = &t->peers[p];
        struct optimiser_outcome outcome;
        assert_ok(cotrain_forward_rest(&peer->step, &s));
        check_forward(t, p, step, warmup);
        if (p == 0)
            for (int i = LOSS_CORAL; i < LOSS_N_TERMS; i++) s.weight[i] = 0;
        else if (!warmup)
            s.weight[LOSS_CORAL] = (float)t->weight[LOSS_CORAL];
        peer->step.loss.weight[LOSS_CORAL] = s.weight[LOSS_CORAL];
        assert_ok(cotrain_backward(&peer->step, &s, true, true));
        if (!warmup) check_selection(t, p, step);
        assert_ok(cotrain_update(&peer->step, golden_attribute(t->file, path, "lr"), &outcome));
        check_terms(t, p, step, warmup, outcome.gradient_norm);
        snprintf(path, sizeof path, "step%d/%s/gradient", step, peer_names[p]);
        if (!peer->step.learner.sharded) trajectory_check_gradient(t->file, path, peer->net);
        snprintf(path, sizeof path, "step%d/%s/parameters_after", step, peer_names[p]);
        trajectory_check_parameters(t->file, path, peer->net, &peer->start);
        snprintf(path, sizeof path, "step%d", step);
    }
}

static void run_file(const char *name) {
    struct trajectory t = {.file = golden_open(name)};
    double batch[3], betas[2] = {0.9, 0.999};
    snprintf(t.stem, sizeof t.stem, "%s/%.*s", golden_folder(), (int)(strlen(name) - 3), name);
    trajectory_numbers(t.file, "/", "batch", batch, 3);
    trajectory_numbers(t.file, "/", "weight", t.weight, LOSS_N_TERMS);
    trajectory_numbers(t.file, "/", "weight_warmup", t.weight_warmup, 2);
    for (int i = 0; i < N_INPUTS; i++) t.n_global[i] = (int64_t)batch[i < 3 ? i : 2];
    t.n_steps = (int)golden_attribute(t.file, "/", "steps");
    t.n_warmup = (int)golden_attribute(t.file, "/", "warmup");
    t.side = (int)golden_attribute(t.file, "/", "side");
    t.optimizer = (struct optimizer_settings){.name = OPTIMIZER_ADAMW,
                                              .betas = {2, {betas[0], betas[1]}},
                                              .eps = 1e-8,
                                              .weight_decay = golden_attribute(t.file, "/", "weight_decay"),
                                              .no_decay_norms = true,
                                              .layer_decay = 1,
                                              .backbone_scale = 1,
                                              .clip = golden_attribute(t.file, "/", "clip")};
    trajectory_share_ranks(world, peer_names, &t.ranks);
    for (int p = 0; p < N_PEERS; p++) t.peers[p].group = t.ranks.groups[p];
    open_peers(&t);
    assert_ok(exchange_plan_new(world, N_PEERS, t.ranks.members, t.n_global[INPUT_UNLABELLED], &t.plan));
    for (int step = 0; step < t.n_steps; step++) run_step(&t, step);
    exchange_plan_free(&t.plan);
    for (int p = 0; p < N_PEERS; p++) {
        cotrain_peer_free(&t.peers[p].step);
        net_free(t.peers[p].net);
        trajectory_forget(&t.peers[p].start);
        comm_free(&t.peers[p].group);
    }
    H5Fclose(t.file);
}

int main(int argc, char **argv) {
    return trajectory_main(argc, argv, &world, &be, "cotrain_*.h5", run_file);
}
