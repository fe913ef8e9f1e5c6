#include "training/learner.h"

#include "common/memory.h"

#include <string.h>

/* In the order of the device's work: the host waits only where memory is the host's. */
static status_t group_sum(struct comm *group, void *values, int64_t n, enum comm_type type) {
    struct comm_request *request;
    TRY(comm_all_reduce_begin(group, values, n, type, COMM_SUM, &request));
    return comm_wait_device(&request);
}

status_t group_sum_f64(void *group, double *values, int64_t n) {
    return group_sum(group, values, n, COMM_F64);
}

status_t group_sum_f32(void *group, float *values, int64_t n) {
    return group_sum(group, values, n, COMM_F32);
}

/* Backward finishes the last parameter first: that is the order of the segments. */
static int make_segments(const struct net *net, int32_t first_trained_layer, struct bucket_segment *segments,
                         int32_t *segment_of) {
    int n_segments = 0;
    for (int32_t i = net_n_params(net) - 1; i >= 0; i--) {
        const struct net_param *param = net_param(net, i);
        segment_of[i] = -1;
        if (param->is_buffer || param->layer < first_trained_layer) continue;
        segments[n_segments] = (struct bucket_segment){.offset = param->offset, .n_elem = param->n_elem};
        segment_of[i] = n_segments++;
    }
    return n_segments;
}

status_t learner_new(struct net *net, struct comm *group, const struct learner_options *options,
                     struct learner *out) {
    struct learner l = {.net = net, .group = group, .sharded = options->sharded && comm_size(group) > 1};
    const size_t n_params = (size_t)net_n_params(net);
    struct bucket_segment *segments = memory_zeroed(n_params, sizeof *segments);
    l.segment_of = memory_zeroed(n_params, sizeof *l.segment_of);
    status_t status = STATUS_OK;
    CHECK_TO(fail, segments && l.segment_of, STATUS_NO_MEMORY, "out of memory for the gradient buckets");
    const int n_segments = make_segments(net, options->first_trained_layer, segments, l.segment_of);
    TRY_TO(fail, buckets_new(group, net_grads(net), net_n_elem(net), segments, n_segments,
                             options->bucket_bytes, l.sharded, &l.buckets));
    TRY_TO(fail,
           optimiser_new(net, options->optimizer, buckets_shard(l.buckets), options->ema, &l.optimiser));
    free(segments);
    *out = l;
    return STATUS_OK;
fail:
    free(segments);
    learner_free(&l);
    return status;
}

void learner_free(struct learner *l) {
    optimiser_free(l->optimiser);
    buckets_free(&l->buckets);
    free(l->segment_of);
    memset(l, 0, sizeof *l);
}

status_t learner_begin(struct learner *l) {
    return net_ops(l->net)->fill_zero(net_backend(l->net), net_grads(l->net),
                                      (size_t)net_n_elem(l->net) * sizeof(float));
}

static status_t gradient_is_final(void *context, int32_t index) {
    struct learner *l = context;
    return l->segment_of[index] < 0 ? STATUS_OK : buckets_ready(l->buckets, l->segment_of[index]);
}

status_t learner_backward(struct learner *l, struct pass *pass, bool last) {
    if (!last) return pass_backward(pass, NULL, NULL);
    TRY(buckets_begin_step(l->buckets));
    const struct ops *ops = net_ops(l->net);
    const bool pokes = ops->set_poke && comm_size(l->group) > 1;
    if (pokes) ops->set_poke(net_backend(l->net), buckets_poke, l->buckets);
    const status_t status = pass_backward(pass, gradient_is_final, l);
    if (pokes) ops->set_poke(net_backend(l->net), NULL, NULL);
    return status;
}

status_t learner_update(struct learner *l, double lr, struct optimiser_outcome *outcome) {
    TRY(buckets_wait(l->buckets, &l->stats));
    TRY(optimiser_step(l->optimiser, lr, l->sharded ? group_sum_f64 : NULL, l->group));
    TRY(optimiser_outcome(l->optimiser, outcome));
    if (!l->sharded) return STATUS_OK;
    TRY(buckets_gather_parameters(l->buckets, net_params(l->net)));
    return net_refresh_shadow(l->net);
}

status_t learner_gather_state(struct learner *l, int32_t index, float *full) {
    const struct interval part = buckets_shard(l->buckets);
    TRY(net_ops(l->net)->copy(net_backend(l->net), full + part.begin, optimiser_state(l->optimiser, index),
                              (size_t)interval_length(part) * sizeof(float)));
    return l->sharded ? buckets_gather_parameters(l->buckets, full) : STATUS_OK;
}

status_t learner_scatter_state(struct learner *l, int32_t index, const float *full) {
    const struct interval part = buckets_shard(l->buckets);
    return net_ops(l->net)->copy(net_backend(l->net), optimiser_state(l->optimiser, index), full + part.begin,
                                 (size_t)interval_length(part) * sizeof(float));
}
