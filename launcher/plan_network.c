/* plan: what the configuration's networks and lists are, without memory of a backend. */
#include "launcher/plan.h"

#include "comm/buckets.h"
#include "common/file.h"
#include "common/memory.h"
#include "data_shards/list.h"
#include "training/run.h"

#include <math.h>
#include <string.h>

/* ---- data
 * ----------------------------------------------------------------------------------------------------------
 */

static status_t read_list(const char *path, int64_t *n, int32_t *n_classes, bool *known) {
    struct image_list list;
    if (!path[0] || !file_exists(path)) {
        *known = false;
        return STATUS_OK;
    }
    TRY(list_read(path, &list));
    *n = (int64_t)list.n_entries;
    for (size_t i = 0; i < list.n_entries; i++)
        if (list.entries[i].label >= *n_classes) *n_classes = list.entries[i].label + 1;
    list_free(&list);
    return STATUS_OK;
}

status_t plan_data_read(const struct settings *s, struct plan_data *out) {
    struct plan_data d = {.known = true};
    TRY(read_list(s->data.source.list, &d.source, &d.n_classes, &d.known));
    TRY(read_list(s->data.target.labelled, &d.labelled, &d.n_classes, &d.known));
    TRY(read_list(s->data.target.unlabelled, &d.unlabelled, &d.n_classes, &d.known));
    TRY(read_list(s->data.target.validation, &d.validation, &d.n_classes, &d.known));
    *out = d.known && d.n_classes > 0 ? d : (struct plan_data){.known = false};
    return STATUS_OK;
}

/* ---- networks
 * ------------------------------------------------------------------------------------------------------ */

static int32_t first_trained_layer(const struct model_parameter *items, int32_t n, int64_t freeze) {
    int32_t first = freeze > 0 ? INT32_MAX : 0;
    for (int32_t i = 0; i < n && freeze > 0; i++) {
        const bool trained = items[i].is_head || run_parameter_stage(items[i].name) >= freeze;
        if (trained && !items[i].is_buffer && items[i].layer < first) first = items[i].layer;
    }
    return first;
}

/* The buckets that training/learner.c makes: last parameter first. */
static status_t find_buckets(const struct model_parameter *items, int32_t n, int32_t first_layer,
                             double bucket_mb, struct plan_network *out) {
    struct bucket_segment *segments = memory_zeroed((size_t)n, sizeof *segments);
    struct interval *ranges = memory_zeroed((size_t)n, sizeof *ranges);
    int *bucket_of = memory_zeroed((size_t)n, sizeof *bucket_of), n_segments = 0;
    double *done = memory_zeroed((size_t)n, sizeof *done);
    out->bucket_bytes = memory_zeroed((size_t)n, sizeof *out->bucket_bytes);
    out->bucket_done = memory_zeroed((size_t)n, sizeof *out->bucket_done);
    status_t status = STATUS_OK;
    CHECK_TO(end, segments && ranges && bucket_of && done && out->bucket_bytes && out->bucket_done,
             STATUS_NO_MEMORY, "out of memory for the plan of a network");
    for (int32_t i = n - 1; i >= 0; i--) {
        if (items[i].is_buffer || items[i].layer < first_layer) continue;
        done[n_segments] = items[i].backward_done;
        out->trained_share = fmax(out->trained_share, items[i].backward_done);
        segments[n_segments++] =
            (struct bucket_segment){.offset = items[i].offset, .n_elem = items[i].n_elem};
    }
    out->n_buckets = buckets_cut(segments, n_segments, (size_t)(bucket_mb * 1048576.0), bucket_of, ranges);
    for (int i = 0; i < n_segments; i++)
        out->bucket_done[bucket_of[i]] = fmax(out->bucket_done[bucket_of[i]], done[i] / out->trained_share);
    for (int b = 0; b < out->n_buckets; b++) {
        out->bucket_bytes[b] = 4.0 * (double)interval_length(ranges[b]);
        out->n_param_bytes += out->bucket_bytes[b];
        if (b > 0) out->bucket_done[b] = fmax(out->bucket_done[b], out->bucket_done[b - 1]);
    }
end:
    free(segments);
    free(ranges);
    free(bucket_of);
    free(done);
    return status;
}

static status_t describe(const struct plan *plan, int64_t freeze, struct plan_network *out) {
    struct model_parameter *items;
    struct model_cost cost;
    int32_t n;
    const int32_t k = out->spec.n_classes;
    TRY(model_cost(&out->spec, 1, out->image, out->image, DTYPE_F32, &cost));
    out->macs = (double)cost.macs;
    out->n_params = (double)cost.n_params;
    TRY(model_parameters(&out->spec, out->image, out->image, &items, &n));
    for (int32_t i = 0; i < n; i++) {
        const int32_t d = items[i].is_head && !items[i].is_buffer ? (int32_t)(items[i].n_elem / k) : 0;
        if (d > out->n_features) out->n_features = d;
        out->n_norms += items[i].is_buffer;
    }
    out->n_norms /= 2; /* mean and variance */
    const status_t status =
        find_buckets(items, n, first_trained_layer(items, n, freeze), plan->settings->comm.bucket_mb, out);
    free(items);
    return status;
}

static status_t side_of(const struct model_settings *model, int64_t given, int32_t otherwise, int32_t *out) {
    struct model_spec preset;
    *out = given > 0 ? (int32_t)given : otherwise;
    return given == 0 && model->preset[0] ? model_spec_preset(model->preset, &preset, out) : STATUS_OK;
}

status_t plan_new(const struct settings *settings, const struct plan_data *data,
                  const struct plan_rates *rates, bool gpus, struct plan *out) {
    struct plan plan = {.settings = settings, .rates = rates, .data = *data};
    status_t status = STATUS_OK;
    const int32_t k = data->known ? data->n_classes : 100;
    plan.precision = settings->precision == PRECISION_BF16 || (gpus && settings->precision == PRECISION_AUTO)
                         ? DTYPE_BF16
                         : DTYPE_F32;
    for (int p = 0; p < settings->n_peers; p++) {
        const struct peer_settings *peer = &settings->peers[p];
        struct plan_network *n = &plan.networks[p];
        *n = (struct plan_network){.name = peer->name, .spec = peer->model.spec};
        n->spec.n_classes = k > 1 ? k : 2;
        n->spec.head_bias = peer->head_bias;
        if (!isnan(peer->layer_scale)) n->spec.layer_scale = (float)peer->layer_scale;
        TRY_TO(fail, side_of(&peer->model, peer->image, 0, &n->image));
        TRY_TO(fail, describe(&plan, peer->freeze, n));
    }
    struct plan_network *student = &plan.networks[PLAN_STUDENT];
    *student = (struct plan_network){.name = "student", .spec = settings->distil.student.model.spec};
    student->spec.n_classes = k > 1 ? k : 2;
    student->spec.head_bias = true;
    if (settings_has_stage(settings, STAGE_DISTIL)) {
        TRY_TO(fail, side_of(&settings->distil.student.model, settings->distil.student.image, 224,
                             &student->image));
        TRY_TO(fail, describe(&plan, 0, student));
    }
    *out = plan;
    return STATUS_OK;
fail:
    plan_free(&plan);
    return status;
}

void plan_free(struct plan *plan) {
    for (int i = 0; i <= SETTINGS_MAX_PEERS; i++) {
        free(plan->networks[i].bucket_bytes);
        free(plan->networks[i].bucket_done);
    }
    plan_world_free(&plan->world);
    memset(plan, 0, sizeof *plan);
}

/* ---- rates
 * -------------------------------------------------------------------------------------------------------- */

static double update_bytes(const struct optimizer_settings *o, double ema) {
    /* gradient, weights and states read, weights, states and the bf16 copy written */
    return (o->name == OPTIMIZER_ADAMW ? 28 : 20) + (ema > 0 ? 8 : 0);
}

/* From a device's FLOP/s: 2 FLOP a multiply-accumulate, backward twice forward. */
static status_t rate_of_device(const struct plan *plan, const struct plan_network *n,
                               const struct optimizer_settings *optimizer, double ema,
                               struct network_rate *out) {
    const double flop_per_s = plan->rates->flop_per_s[n->spec.family];
    CHECK(flop_per_s > 0, STATUS_BAD_CONFIG,
          "the rates have no network \"%s\": measure them with this configuration (plan --calibrate), or add "
          "it",
          n->name);
    const double forward_s = 2 * n->macs / flop_per_s;
    const bool recompute = plan->settings->recompute == RECOMPUTE_BLOCKS;
    *out = (struct network_rate){
        .macs = n->macs,
        .recompute = recompute,
        .update_s = n->n_params * update_bytes(optimizer, ema) / plan->rates->memory_bytes_per_s,
        .predict_s = forward_s,
        .n_points = 1,
        .points = {{1, forward_s, forward_s * (2 * n->trained_share + (recompute ? 1 : 0))}}};
    snprintf(out->name, sizeof out->name, "%s", n->name);
    return STATUS_OK;
}

status_t plan_network_rate(const struct plan *plan, int network, struct network_rate *out) {
    const struct plan_network *n = &plan->networks[network];
    const struct network_rate *known = rates_find(plan->rates, n->name);
    const struct settings *s = plan->settings;
    if (!known)
        return network == PLAN_STUDENT ? rate_of_device(plan, n, &s->distil.optimizer, 0, out)
                                       : rate_of_device(plan, n, &s->cotrain.optimizer, s->cotrain.ema, out);
    CHECK(
        known->macs <= 0 || fabs(known->macs - n->macs) <= 0.02 * n->macs, STATUS_BAD_CONFIG,
        "the rates of \"%s\" are of another network: %.4g multiply-accumulates an image there, %.4g in this "
        "configuration; measure again (plan --calibrate)",
        n->name, known->macs, n->macs);
    *out = *known;
    const bool recompute = s->recompute == RECOMPUTE_BLOCKS;
    for (int i = 0; i < out->n_points && recompute != known->recompute; i++)
        out->points[i].backward_s += (recompute ? 1 : -1) * out->points[i].forward_s;
    if (out->predict_s <= 0) out->predict_s = rate_forward_s(out, 1);
    return STATUS_OK;
}
