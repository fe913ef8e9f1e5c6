#include "training/trained.h"

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "models/safetensors.h"
#include "models/weights.h"
#include "training/student.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- heads
 * ----------------------------------------------------------------------------------------------------- */

status_t frozen_head_read(const char *path, struct frozen_head *out) {
    struct safetensors *file = NULL;
    struct frozen_head h = {0};
    status_t status;
    TRY(safetensors_open(path, &file));
    const struct safetensor *weight = safetensors_find(file, "weight");
    CHECK_TO(fail, weight && weight->n_dims == 2 && weight->n_elem > 0, STATUS_BAD_DATA,
             "%s has no weight (K,d)", path);
    h.n_classes = weight->shape[0];
    h.d = weight->shape[1];
    h.weight = memory_zeroed((size_t)weight->n_elem, sizeof *h.weight);
    h.mean = memory_zeroed((size_t)h.d, sizeof *h.mean);
    CHECK_TO(fail, h.weight && h.mean, STATUS_NO_MEMORY, "out of memory for %s", path);
    TRY_TO(fail, safetensors_get_f32(file, "weight", 2, weight->shape, weight->n_elem, h.weight));
    TRY_TO(fail, safetensors_get_f32(file, "mean", 1, &h.d, h.d, h.mean));
    const char *normalise = safetensors_metadata(file, "normalise"),
               *norm = safetensors_metadata(file, "mean_norm");
    h.normalise = normalise && strcmp(normalise, "l2") == 0;
    h.mean_norm = norm ? strtod(norm, NULL) : 1;
    if (!(h.mean_norm > 0)) h.mean_norm = 1;
    safetensors_close(file);
    *out = h;
    return STATUS_OK;
fail:
    safetensors_close(file);
    frozen_head_free(&h);
    return status;
}

void frozen_head_free(struct frozen_head *h) {
    free(h->mean);
    free(h->weight);
    memset(h, 0, sizeof *h);
}

static void softmax(float *row, int64_t k) {
    float largest = row[0];
    double sum = 0;
    for (int64_t j = 1; j < k; j++) largest = fmaxf(largest, row[j]);
    for (int64_t j = 0; j < k; j++) sum += exp((double)(row[j] - largest));
    for (int64_t j = 0; j < k; j++) row[j] = (float)(exp((double)(row[j] - largest)) / sum);
}

void frozen_head_apply(const struct frozen_head *h, const float *features, int64_t n, float *probabilities) {
    for (int64_t i = 0; i < n; i++) {
        const float *x = features + i * h->d;
        float *row = probabilities + i * h->n_classes;
        double square = 0;
        for (int64_t j = 0; j < h->d; j++)
            square += (double)(x[j] - h->mean[j]) * (double)(x[j] - h->mean[j]);
        const double scale = h->normalise ? 1 / fmax(sqrt(square), 1e-12) : 1;
        for (int64_t k = 0; k < h->n_classes; k++) {
            double dot = 0;
            for (int64_t j = 0; j < h->d; j++)
                dot += (double)h->weight[k * h->d + j] * (double)(x[j] - h->mean[j]);
            row[k] = (float)(dot * scale);
        }
        softmax(row, h->n_classes);
    }
}

status_t frozen_head_install(const struct frozen_head *h, struct net *net) {
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        if (!param->is_head || param->is_buffer) continue;
        const bool matrix = param->n_dims >= 2;
        CHECK(param->n_elem == (matrix ? h->n_classes * h->d : h->n_classes), STATUS_BAD_DATA,
              "the head of stage heads does not fit the network's %s", param->name);
        float *host = memory_zeroed((size_t)param->n_elem, sizeof *host);
        CHECK(host, STATUS_NO_MEMORY, "out of memory for a classifier");
        for (int64_t k = 0; k < h->n_classes; k++)
            for (int64_t j = 0; j < h->d; j++) {
                const double w = (double)h->weight[k * h->d + j] / h->mean_norm;
                if (matrix)
                    host[k * h->d + j] = (float)w;
                else
                    host[k] -= (float)(w * (double)h->mean[j]);
            }
        const status_t status = net_set(net, i, net_params(net), host);
        free(host);
        TRY(status);
    }
    return net_refresh_shadow(net);
}

/* ---- models
 * ---------------------------------------------------------------------------------------------------- */

struct trained {
    struct run *run;
    struct net *net;
    struct predictor *predictor;
    struct frozen_head head;
    struct view_spec view;
};

/* A whole net from `path`. */
static status_t open_net(struct trained *t, const struct model_spec *spec, int32_t side, const char *path) {
    TRY(net_new(t->run->ops, t->run->be, spec, side, side, t->run->precision, &t->net));
    TRY(weights_load(t->net, path, WEIGHTS_HEAD_LOAD, NULL));
    return predictor_new(t->run, t->net, side, &t->predictor);
}

static status_t open_frozen(struct trained *t, const struct run_peer *peer, const char *path) {
    TRY(frozen_head_read(path, &t->head));
    CHECK(t->head.n_classes == t->run->data.n_classes, STATUS_BAD_DATA,
          "%s is for %lld classes, the shards name %d", path, (long long)t->head.n_classes,
          t->run->data.n_classes);
    TRY(run_new_backbone(t->run, peer, t->run->precision, &t->net));
    CHECK(net_n_features(t->net) == t->head.d, STATUS_BAD_DATA,
          "%s is for %lld features, the backbone has %d", path, (long long)t->head.d, net_n_features(t->net));
    TRY(predictor_new(t->run, t->net, peer->image, &t->predictor));
    return predictor_use_head(t->predictor, &t->head);
}

static status_t open_peer(struct trained *t, const struct run_peer *peer) {
    const char *name = peer->settings->name;
    char *whole = run_path(t->run, "models", "%s.safetensors", name),
         *head = run_path(t->run, "models", "%s.head.safetensors", name);
    status_t status = STATUS_OK;
    CHECK_TO(done, whole && head, STATUS_NO_MEMORY, "out of memory for a path");
    t->view = peer->view;
    if (file_exists(whole))
        status = open_net(t, &peer->spec, peer->image, whole);
    else if (file_exists(head))
        status = open_frozen(t, peer, head);
    else
        status = FAIL(STATUS_MISSING,
                      "peer %s has no model yet: neither %s nor %s; stages cotrain and heads make them", name,
                      whole, head);
done:
    free(whole);
    free(head);
    return status;
}

static status_t open_student(struct trained *t) {
    struct student_shape shape;
    char *path = run_path(t->run, "models", "student.safetensors");
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    status_t status = student_describe(t->run, &shape);
    t->view = shape.eval_view;
    if (status == STATUS_OK && !file_exists(path))
        status = FAIL(STATUS_MISSING, "there is no student yet (%s); stage distil makes it", path);
    if (status == STATUS_OK) status = open_net(t, &shape.spec, shape.eval_view.size, path);
    free(path);
    return status;
}

status_t trained_open(struct run *run, int32_t peer, struct trained **out) {
    struct trained *t = memory_zeroed(1, sizeof *t);
    CHECK(t, STATUS_NO_MEMORY, "out of memory for a model");
    t->run = run;
    const status_t status = peer == TRAINED_STUDENT ? open_student(t) : open_peer(t, &run->peers[peer]);
    if (status != STATUS_OK) {
        trained_close(t);
        return status;
    }
    *out = t;
    return STATUS_OK;
}

void trained_close(struct trained *t) {
    if (!t) return;
    predictor_free(t->predictor);
    net_free(t->net);
    frozen_head_free(&t->head);
    free(t);
}

status_t trained_predict(struct trained *t, struct comm *group, const struct split *split,
                         float *probabilities) {
    return predictor_run(t->predictor, group, split, &t->view, probabilities);
}

/* ---- evaluation
 * ------------------------------------------------------------------------------------------------- */

static bool has_model(const struct run *run, int32_t peer) {
    char *whole = peer == TRAINED_STUDENT
                      ? run_path(run, "models", "student.safetensors")
                      : run_path(run, "models", "%s.safetensors", run->peers[peer].settings->name);
    char *head = peer == TRAINED_STUDENT
                     ? NULL
                     : run_path(run, "models", "%s.head.safetensors", run->peers[peer].settings->name);
    const bool has = (whole && file_exists(whole)) || (head && file_exists(head));
    free(whole);
    free(head);
    return has;
}

/* One model on one list, by all ranks of the world. */
static status_t predict_list(struct run *run, int32_t peer, const struct split *split, float *probabilities) {
    struct trained *t;
    TRY(trained_open(run, peer, &t));
    const status_t status = trained_predict(t, run->world, split, probabilities);
    trained_close(t);
    return status;
}

static status_t evaluate_list(struct run *run, const struct split *split, bool peers, bool student) {
    const size_t n_elem = split->n * (size_t)run->data.n_classes;
    float *all = memory_zeroed((size_t)(run->n_peers + 1) * n_elem, sizeof *all),
          *last = all + (size_t)run->n_peers * n_elem;
    CHECK(all, STATUS_NO_MEMORY, "out of memory for predictions");
    status_t status = STATUS_OK;
    for (int32_t p = 0; peers && p < run->n_peers; p++)
        TRY_TO(done, predict_list(run, p, split, all + (size_t)p * n_elem));
    if (student) TRY_TO(done, predict_list(run, TRAINED_STUDENT, split, last));
    if (run->writes && peers) TRY_TO(done, note_probabilities(run, split, "cotrained", all));
    if (run->writes && student) status = note_model_probabilities(run, split, "student", "student", last);
done:
    free(all);
    return status;
}

status_t trained_evaluate(struct run *run) {
    int32_t have[2] = {1, 0}; /* all peers; the student: as rank 0 sees the folder */
    for (int32_t p = 0; p < run->n_peers; p++) have[0] = have[0] && has_model(run, p);
    have[1] = has_model(run, TRAINED_STUDENT);
    TRY(comm_broadcast(comm_host_side(run->world), 0, have, 2, COMM_I32));
    CHECK(have[0] || have[1], STATUS_MISSING,
          "%s/models has neither the peers nor a student: run the stages first", run->settings->run);
    TRY(evaluate_list(run, &run->data.validation, have[0], have[1]));
    TRY(evaluate_list(run, &run->data.unlabelled, have[0], have[1]));
    return results_save(run->results);
}
