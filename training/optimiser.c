#include "training/optimiser.h"
#include "common/memory.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_STATES = 3 };

struct optimiser {
    struct net *net; /* borrowed */
    struct optimizer_settings settings;
    struct interval part;
    float ema_decay; /* 0: no average */
    struct optimiser_segment *segments;
    int32_t n_segments;
    float *states[MAX_STATES]; /* backend memory, part's length: momentum | m, v; then the average */
    int32_t n_moments, n_states;
    double *sum;       /* backend (2): sum of squares, count of elements that are not finite */
    float *grad_scale; /* backend (1) */
    int32_t *skip;     /* backend (1) */
    bool pending;      /* a step whose outcome has not been read */
    int64_t n_steps, n_skipped_in_a_row;
};

struct optimiser_segment optimiser_group(const struct optimizer_settings *settings,
                                         const struct net_param *param, int32_t last_layer) {
    const bool decayed = !settings->no_decay_norms || (param->n_dims > 1 && !param->is_table);
    double scale = settings->layer_decay > 0 ? pow(settings->layer_decay, last_layer - param->layer) : 1;
    if (!param->is_head) scale *= settings->backbone_scale;
    return (struct optimiser_segment){.offset = param->offset,
                                      .n_elem = param->n_elem,
                                      .lr_scale = (float)scale,
                                      .weight_decay = decayed ? (float)settings->weight_decay : 0};
}

/* One segment a trained parameter. Frozen ones are in none: weight decay must not move them. */
static status_t make_segments(struct optimiser *optimiser) {
    const struct net *net = optimiser->net;
    const int32_t n = net_n_params(net), first = net_first_trained_layer(net);
    optimiser->segments = memory_zeroed((size_t)n + 1, sizeof *optimiser->segments);
    CHECK(optimiser->segments, STATUS_NO_MEMORY, "no memory for the optimiser's %d segments", n);
    int32_t last_layer = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct net_param *param = net_param(net, i);
        if (param->layer > last_layer) last_layer = param->layer;
    }
    for (int32_t i = 0; i < n; i++) {
        const struct net_param *param = net_param(net, i);
        if (param->is_buffer || param->layer < first) continue;
        optimiser->segments[optimiser->n_segments++] =
            optimiser_group(&optimiser->settings, param, last_layer);
    }
    return STATUS_OK;
}

static status_t make_buffers(struct optimiser *optimiser) {
    const struct ops *ops = net_ops(optimiser->net);
    struct backend *be = net_backend(optimiser->net);
    const size_t n_bytes = (size_t)interval_length(optimiser->part) * sizeof(float);
    for (int32_t i = 0; i < optimiser->n_states; i++)
        TRY(ops->alloc(be, n_bytes, (void **)&optimiser->states[i]));
    TRY(ops->alloc(be, 2 * sizeof *optimiser->sum, (void **)&optimiser->sum));
    TRY(ops->alloc(be, sizeof *optimiser->grad_scale, (void **)&optimiser->grad_scale));
    return ops->alloc(be, sizeof *optimiser->skip, (void **)&optimiser->skip);
}

status_t optimiser_new(struct net *net, const struct optimizer_settings *settings, struct interval part,
                       double ema, struct optimiser **out) {
    CHECK(part.begin >= 0 && part.begin <= part.end && part.end <= net_n_elem(net), STATUS_INTERNAL,
          "part [%lld, %lld) of a buffer of %lld parameters", (long long)part.begin, (long long)part.end,
          (long long)net_n_elem(net));
    struct optimiser *optimiser = memory_zeroed(1, sizeof *optimiser);
    CHECK(optimiser, STATUS_NO_MEMORY, "no memory for an optimiser");
    optimiser->net = net;
    optimiser->settings = *settings;
    optimiser->part = part;
    optimiser->ema_decay = (float)ema;
    optimiser->n_moments = settings->name == OPTIMIZER_ADAMW ? 2 : 1;
    optimiser->n_states = optimiser->n_moments + (ema > 0 ? 1 : 0);
    status_t status;
    TRY_TO(fail, make_segments(optimiser));
    TRY_TO(fail, make_buffers(optimiser));
    TRY_TO(fail, optimiser_reset(optimiser));
    *out = optimiser;
    return STATUS_OK;
fail:
    optimiser_free(optimiser);
    return status;
}

void optimiser_free(struct optimiser *optimiser) {
    if (!optimiser) return;
    const struct ops *ops = net_ops(optimiser->net);
    struct backend *be = net_backend(optimiser->net);
    void *const buffers[] = {optimiser->states[0], optimiser->states[1],  optimiser->states[2],
                             optimiser->sum,       optimiser->grad_scale, optimiser->skip};
    for (size_t i = 0; i < ARRAY_LENGTH(buffers); i++)
        if (buffers[i]) ops->release(be, buffers[i]);
    free(optimiser->segments);
    free(optimiser);
}

size_t optimiser_state_bytes(const struct optimizer_settings *settings, int64_t n_elem, double ema) {
    const size_t n_states = (settings->name == OPTIMIZER_ADAMW ? 2 : 1) + (ema > 0 ? 1 : 0);
    return n_states * (size_t)n_elem * sizeof(float);
}

status_t optimiser_reset(struct optimiser *optimiser) {
    const struct ops *ops = net_ops(optimiser->net);
    struct backend *be = net_backend(optimiser->net);
    const size_t n_bytes = (size_t)interval_length(optimiser->part) * sizeof(float);
    for (int32_t i = 0; i < optimiser->n_moments; i++) TRY(ops->fill_zero(be, optimiser->states[i], n_bytes));
    if (optimiser->ema_decay > 0)
        TRY(ops->copy(be, optimiser_ema(optimiser), net_params(optimiser->net) + optimiser->part.begin,
                      n_bytes));
    optimiser->pending = false;
    optimiser->n_steps = optimiser->n_skipped_in_a_row = 0;
    return STATUS_OK;
}

static status_t apply(struct optimiser *optimiser, double lr) {
    const struct optimizer_settings *settings = &optimiser->settings;
    struct net *net = optimiser->net;
    struct optimiser_step step = {
        .segments = optimiser->segments,
        .n_segments = optimiser->n_segments,
        .begin = optimiser->part.begin,
        .end = optimiser->part.end,
        .lr = (float)lr,
        .t = optimiser->n_steps + 1,
        .params = net_params(net),
        .grads = net_grads(net),
        .state1 = optimiser->states[0],
        .shadow = net_shadow(net),
        .ema = optimiser_ema(optimiser),
        .ema_decay = optimiser->ema_decay,
        .grad_scale = optimiser->grad_scale,
        .skip = optimiser->skip,
    };
    if (settings->name == OPTIMIZER_SGD) {
        step.momentum = (float)settings->momentum;
        step.nesterov = settings->nesterov;
        step.first_step = optimiser->n_steps == 0;
        return net_ops(net)->sgd(net_backend(net), &step);
    }
    step.beta1 = settings->betas.items[0];
    step.beta2 = settings->betas.items[1];
    step.eps = settings->eps;
    step.state2 = optimiser->states[1];
    return net_ops(net)->adamw(net_backend(net), &step);
}

status_t optimiser_step(struct optimiser *optimiser, double lr, reduce_fn reduce, void *reduce_context) {
    struct optimiser_outcome earlier;
    if (optimiser->pending)
        TRY(optimiser_outcome(optimiser, &earlier)); /* its skip decides this step's number */
    const struct ops *ops = net_ops(optimiser->net);
    struct backend *be = net_backend(optimiser->net);
    const float *grads = net_grads(optimiser->net);
    CHECK(grads, STATUS_INTERNAL, "an optimiser step before any training pass exists");
    TRY(ops->square_sum(be, grads + optimiser->part.begin, interval_length(optimiser->part), optimiser->sum));
    if (reduce) TRY(reduce(reduce_context, optimiser->sum, 2));
    TRY(ops->clip_factor(be, optimiser->sum, (float)optimiser->settings.clip, optimiser->grad_scale,
                         optimiser->skip));
    TRY(apply(optimiser, lr));
    optimiser->pending = true;
    return STATUS_OK;
}

status_t optimiser_outcome(struct optimiser *optimiser, struct optimiser_outcome *out) {
    const struct ops *ops = net_ops(optimiser->net);
    struct backend *be = net_backend(optimiser->net);
    double sum[2];
    int32_t skip;
    CHECK(optimiser->pending, STATUS_INTERNAL, "the outcome of an optimiser step that was not made");
    TRY(ops->copy_out(be, sum, optimiser->sum, sizeof sum));
    TRY(ops->copy_out(be, &skip, optimiser->skip, sizeof skip));
    optimiser->pending = false;
    optimiser->n_steps += skip == 0;
    optimiser->n_skipped_in_a_row = skip ? optimiser->n_skipped_in_a_row + 1 : 0;
    const double norm = sqrt(sum[0]);
    *out = (struct optimiser_outcome){.gradient_norm = skip && isfinite(norm) ? NAN : norm,
                                      .skipped = skip != 0,
                                      .n_steps = optimiser->n_steps,
                                      .n_skipped_in_a_row = optimiser->n_skipped_in_a_row};
    return STATUS_OK;
}

float *optimiser_ema(struct optimiser *optimiser) {
    return optimiser->ema_decay > 0 ? optimiser->states[optimiser->n_moments] : NULL;
}

int32_t optimiser_n_states(const struct optimiser *optimiser) {
    return optimiser->n_states;
}

const char *optimiser_state_name(const struct optimiser *optimiser, int32_t index) {
    if (index == optimiser->n_moments) return "ema";
    if (optimiser->settings.name == OPTIMIZER_SGD) return "momentum";
    return index == 0 ? "m" : "v";
}

float *optimiser_state(struct optimiser *optimiser, int32_t index) {
    return optimiser->states[index];
}

int64_t optimiser_n_steps(const struct optimiser *optimiser) {
    return optimiser->n_steps;
}

void optimiser_set_n_steps(struct optimiser *optimiser, int64_t n_steps, int64_t n_skipped_in_a_row) {
    optimiser->pending = false;
    optimiser->n_steps = n_steps;
    optimiser->n_skipped_in_a_row = n_skipped_in_a_row;
}
