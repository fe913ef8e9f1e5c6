#include "training/run.h"

#include "common/file.h"
#include "common/log.h"
#include "models/weights.h"
#include "training/trained.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *run_path(const struct run *run, const char *folder, const char *format, ...) {
    char *name = NULL, *path = NULL;
    va_list args;
    va_start(args, format);
    const int n = vasprintf(&name, format, args);
    va_end(args);
    if (n < 0) return NULL;
    if (asprintf(&path, "%s/%s%s%s", run->settings->run, folder, folder[0] ? "/" : "", name) < 0) path = NULL;
    free(name);
    return path;
}

/* The network, views and sizes of a peer, with what the data and the configuration say put in. */
static status_t describe_peer(const struct run *run, int32_t index, struct run_peer *p) {
    const struct peer_settings *s = &run->settings->peers[index];
    struct model_spec spec = s->model.spec;
    int32_t image = (int32_t)s->image;
    if (image == 0 && s->model.preset[0])
        TRY(model_spec_preset(s->model.preset, &(struct model_spec){0}, &image));
    CHECK(image > 0, STATUS_BAD_CONFIG, "peers.%s.image: the side of the images is needed", s->name);
    spec.n_classes = run->data.n_classes;
    spec.head_bias = s->head_bias;
    spec.init = s->init;
    spec.drop_path = (float)s->drop_path;
    if (!isnan(s->layer_scale)) spec.layer_scale = (float)s->layer_scale;
    TRY(model_spec_check(&spec));
    *p = (struct run_peer){.settings = s, .index = index, .group = p->group, .image = image, .spec = spec};
    p->view = view_spec_default(s->view == VIEW_CHOICE_PERSPECTIVE ? VIEW_PERSPECTIVE : VIEW_NONE, image);
    p->strong = view_spec_default(VIEW_STRONG, image);
    p->strong.n = (int32_t)run->settings->strong.n;
    p->strong.m = (int32_t)run->settings->strong.m;
    p->strong.cutout_size = (int32_t)run->settings->strong.cutout;
    TRY(view_spec_check(&p->view));
    return view_spec_check(&p->strong);
}

static status_t make_groups(struct run *run) {
    struct comm *groups[SETTINGS_MAX_PEERS] = {NULL};
    TRY(comm_split(run->world, run->n_peers, run->members, groups));
    for (int32_t p = 0; p < run->n_peers; p++) run->peers[p].group = groups[p];
    return STATUS_OK;
}

/* Rank 0 makes the folder and the files; the others learn whether that went well through the next collective.
 */
static status_t open_files(struct run *run) {
    if (!run->writes) return STATUS_OK;
    char *metrics = run_path(run, "", "metrics.jsonl"), *results = run_path(run, "", "results.json");
    status_t status = STATUS_OK;
    CHECK_TO(done, metrics && results, STATUS_NO_MEMORY, "out of memory for a path");
    TRY_TO(done, file_make_folders(run->settings->run));
    TRY_TO(done, metrics_open(metrics, true, &run->metrics));
    TRY_TO(done,
           metrics_also(run->metrics, &(struct metrics_outputs){.tensorboard = run->settings->log.tensorboard,
                                                                .prometheus = run->settings->log.prometheus,
                                                                .run = run->settings->run,
                                                                .n_ranks = comm_size(run->world)}));
    TRY_TO(done, results_open(results, &run->results));
done:
    free(metrics);
    free(results);
    return status;
}

static const char *class_name(const void *data, int32_t k) {
    return run_data_class_name(data, k);
}

status_t run_open(const struct run_options *o, struct run **out) {
    struct run *run = calloc(1, sizeof *run);
    CHECK(run, STATUS_NO_MEMORY, "out of memory for the run");
    run->settings = o->settings;
    run->world = o->world;
    run->n_peers = o->settings->n_peers;
    memcpy(run->members, o->members, (size_t)run->n_peers * sizeof *o->members);
    run->ops = o->ops;
    run->be = o->be;
    run->precision = o->precision;
    run->n_workers = o->n_workers;
    run->stop = o->stop;
    run->writes = comm_rank(o->world) == 0;
    status_t status;
    TRY_TO(fail, run_data_open(o->settings, run->writes, &run->data));
    settings_warn_thresholds(o->settings, run->data.n_classes);
    for (int32_t p = 0; p < run->n_peers; p++) TRY_TO(fail, describe_peer(run, p, &run->peers[p]));
    TRY_TO(fail, make_groups(run));
    TRY_TO(fail, open_files(run));
    results_classes(run->results, run->data.n_classes, class_name, &run->data);
    TRY_TO(fail, comm_barrier(run->world)); /* nobody trains for a run whose folder cannot be written */
    *out = run;
    return STATUS_OK;
fail:
    run_close(run);
    return status;
}

void run_close(struct run *run) {
    if (!run) return;
    metrics_close(run->metrics);
    results_close(run->results);
    for (int32_t p = 0; p < run->n_peers; p++) comm_free(&run->peers[p].group);
    run_data_close(&run->data);
    free(run);
}

status_t run_should_stop(struct run *run, bool *stop) {
    return comm_any(run->world, run->stop && *run->stop, stop);
}

/* After stage heads, end-to-end training begins with the classifier it found. */
static status_t start_from_head(const struct run *run, const struct run_peer *peer, struct net *net) {
    struct frozen_head head;
    char *path = run_path(run, "models", "%s.head.safetensors", peer->settings->name);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    status_t status = frozen_head_read(path, &head);
    free(path);
    TRY(status);
    status = frozen_head_install(&head, net);
    frozen_head_free(&head);
    return status;
}

status_t run_new_peer_net(struct run *run, const struct run_peer *peer, struct net **out) {
    struct net *net;
    TRY(net_new(run->ops, run->be, &peer->spec, peer->image, peer->image, run->precision, &net));
    status_t status;
    TRY_TO(fail, net_init(net, (uint64_t)run->settings->seed, (uint8_t)peer->index));
    if (peer->settings->weights[0]) {
        struct weights_report report;
        TRY_TO(fail, weights_load(net, peer->settings->weights, WEIGHTS_HEAD_IF_FITS, &report));
        if (!report.head_loaded)
            TRY_TO(fail, net_init_head(net, (uint64_t)run->settings->seed, (uint8_t)peer->index));
    }
    if (settings_has_stage(run->settings, STAGE_HEADS)) TRY_TO(fail, start_from_head(run, peer, net));
    const int32_t first_trained = run_first_trained_layer(peer, net);
    if (first_trained > 0) TRY_TO(fail, net_freeze_below(net, first_trained));
    *out = net;
    return STATUS_OK;
fail:
    net_free(net);
    return status;
}

status_t run_new_backbone(const struct run *run, const struct run_peer *peer, enum dtype precision,
                          struct net **out) {
    struct model_spec spec = peer->spec;
    struct net *net;
    spec.n_classes = 0;
    TRY(net_new(run->ops, run->be, &spec, peer->image, peer->image, precision, &net));
    status_t status = net_init(net, (uint64_t)run->settings->seed, (uint8_t)peer->index);
    if (status == STATUS_OK && peer->settings->weights[0])
        status = weights_load(net, peer->settings->weights, WEIGHTS_HEAD_SKIP, NULL);
    if (status != STATUS_OK) {
        net_free(net);
        return status;
    }
    *out = net;
    return STATUS_OK;
}

int run_parameter_stage(const char *name) {
    int stage = -1;
    if (sscanf(name, "stages.%d", &stage) == 1 || sscanf(name, "layers.%d", &stage) == 1 ||
        sscanf(name, "features.%d", &stage) == 1)
        return stage;
    return -1;
}

int32_t run_first_trained_layer(const struct run_peer *peer, const struct net *net) {
    if (peer->settings->freeze == 0) return 0;
    int32_t first = INT32_MAX;
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        const bool trained = param->is_head || run_parameter_stage(param->name) >= peer->settings->freeze;
        if (trained && !param->is_buffer && param->layer < first) first = param->layer;
    }
    return first;
}

/* What rank 0's results.json says, known to all. */
static status_t stage_is_done(struct run *run, enum stage stage, bool *done) {
    int32_t flag = run->writes && results_is_stage_done(run->results, stage_name(stage));
    TRY(comm_broadcast(comm_host_side(run->world), 0, &flag, 1, COMM_I32));
    *done = flag != 0;
    return STATUS_OK;
}

status_t run_stages(struct run *run) {
    static status_t (*const stages[])(struct run *) = {[STAGE_FEATURES] = stage_features,
                                                       [STAGE_HEADS] = stage_heads,
                                                       [STAGE_COTRAIN] = stage_cotrain,
                                                       [STAGE_DISTIL] = stage_distil};
    const struct stage_list *list = &run->settings->stages;
    for (int32_t i = 0; i < list->n; i++) {
        bool done;
        CHECK(stages[list->items[i]], STATUS_BAD_CONFIG, "stages: this build has no stage %s",
              stage_name(list->items[i]));
        TRY(stage_is_done(run, list->items[i], &done));
        if (done) {
            log_global(LOG_INFO, "stage %s is done already", stage_name(list->items[i]));
            continue;
        }
        comm_set_step(run->world, stage_name(list->items[i]), 0);
        TRY(stages[list->items[i]](run));
        results_stage_done(run->results, stage_name(list->items[i]));
        TRY(results_save(run->results));
    }
    return STATUS_OK;
}
