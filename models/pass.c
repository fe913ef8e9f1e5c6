/* Passes over a net: see net.h. */
#include "models/net_internal.h"

#include "common/clock.h"
#include "common/memory.h"

#include <string.h>

static const char *const KIND_NAMES[NODE_KINDS] = {
    [NODE_CONV] = "conv",
    [NODE_DEPTHWISE] = "depthwise",
    [NODE_LAYERNORM] = "layernorm",
    [NODE_LINEAR] = "linear",
    [NODE_MLP] = "mlp",
    [NODE_WINDOW_ATTENTION] = "window_attention",
    [NODE_PATCH_MERGE] = "patch_merge",
    [NODE_BATCHNORM] = "batchnorm",
    [NODE_AVERAGE_POOL] = "average_pool",
    [NODE_DROPOUT] = "dropout",
};

static status_t check_options(const struct pass_options *o) {
    CHECK(o->batch >= 0 && o->height > 0 && o->width > 0, STATUS_BAD_CONFIG,
          "a pass over %d images of %d x %d makes no sense", o->batch, o->height, o->width);
    CHECK(o->mode == PASS_TRAIN || !o->input_grad, STATUS_BAD_CONFIG,
          "an inference pass has no input gradient");
    return STATUS_OK;
}

status_t pass_new(struct net *net, const struct pass_options *options, struct pass **out) {
    TRY(check_options(options));
    struct pass *pass = memory_zeroed(1, sizeof *pass);
    CHECK(pass, STATUS_NO_MEMORY, "out of memory for a pass");
    pass->net = net;
    pass->options = *options;
    const bool train = options->mode == PASS_TRAIN;
    status_t status;
    TRY_TO(failed,
           graph_build(&pass->graph, &net->spec, &net->table, options->batch, options->height, options->width,
                       net->precision, train ? net->first_trained_layer : INT32_MAX, options->input_grad));
    TRY_TO(failed, program_build(&pass->program, &pass->graph, options, net->ops, net->be));
    const size_t n_images = (size_t)options->batch;
    pass->host_drop_path = memory_zeroed((size_t)pass->graph.n_drop_paths * n_images + 1, sizeof(float));
    pass->host_items = memory_zeroed(n_images + 1, sizeof *pass->host_items);
    CHECK_TO(failed, pass->host_drop_path && pass->host_items, STATUS_NO_MEMORY, "out of memory for a pass");
    void *arena = NULL;
    TRY_TO(failed, net->ops->alloc(net->be, size_max(pass->program.n_bytes, TENSOR_ALIGNMENT), &arena));
    pass->arena = arena;
    if (train) TRY_TO(failed, net_need_grads(net));
    TRY_TO(failed, recordings_build(pass));
    net->has_pass = true;
    *out = pass;
    return STATUS_OK;

failed:
    pass_free(pass);
    return status;
}

void pass_free(struct pass *pass) {
    if (!pass) return;
    recordings_free(pass);
    if (pass->arena) pass->net->ops->release(pass->net->be, pass->arena);
    program_free(&pass->program);
    graph_free(&pass->graph);
    free(pass->host_drop_path);
    free(pass->host_items);
    free(pass);
}

size_t pass_arena_bytes(const struct pass *pass) {
    return pass->program.n_bytes;
}

static void *first_of(struct pass *pass, int32_t value) {
    return value == NONE ? NULL : pass_tensor(pass, pass->program.places[value].first);
}

void *pass_input(struct pass *pass) {
    return first_of(pass, pass->graph.input);
}
float *pass_features(struct pass *pass) {
    return first_of(pass, pass->graph.features);
}
float *pass_logits(struct pass *pass) {
    return first_of(pass, pass->graph.logits);
}
float *pass_dlogits(struct pass *pass) {
    return pass_tensor(pass, pass->program.dlogits);
}
float *pass_dfeatures(struct pass *pass) {
    return pass_tensor(pass, pass->program.dfeatures);
}
void *pass_input_grad(struct pass *pass) {
    return pass_tensor(pass, pass->program.dinput);
}

const void *pass_activation(struct pass *pass, const char *name, enum dtype *dtype, int64_t *n_elem) {
    for (int32_t i = 0; i < pass->graph.n_values; i++) {
        const struct value *v = &pass->graph.values[i];
        if (strcmp(v->name, name) != 0) continue;
        *dtype = v->dtype;
        *n_elem = value_elem(v);
        return first_of(pass, i);
    }
    return NULL;
}

/* ---- running ---- */

/* Take the time of a step into the totals of its kind. */
static status_t profiled_step(struct pass *pass, const struct step *step) {
    TRY(pass->net->ops->synchronise(pass->net->be));
    const double start_s = clock_now_s();
    TRY(run_step(pass, step));
    TRY(pass->net->ops->synchronise(pass->net->be));
    const int kinds = NODE_KINDS + 1; /* the last one: add */
    const int kind = step->kind == STEP_ADD ? NODE_KINDS : (int)pass->graph.nodes[step->node].kind;
    struct profile_row *row = &pass->profile[(step->kind <= STEP_FOLDED ? 0 : kinds) + kind];
    row->n_calls++;
    row->time_s += clock_now_s() - start_s;
    row->flop += step->flop;
    row->n_bytes += step->n_bytes;
    return STATUS_OK;
}

static status_t do_step(struct pass *pass, const struct step *step) {
    return pass->profiling ? profiled_step(pass, step) : run_step(pass, step);
}

static bool is_recorded(const struct pass *pass) {
    return pass->recordings.segments && !pass->profiling;
}

/* Drop-path (Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016): per image and branch the factor
 * is 0 with probability `rate`, else 1/(1 - rate). */
static status_t draw_drop_paths(struct pass *pass) {
    const struct graph *g = &pass->graph;
    if (pass->program.drop_path == NONE || g->batch == 0) return STATUS_OK;
    struct rng_key key = pass->forward.rng;
    key.purpose = RNG_DROP_PATH;
    for (int32_t row = 0; row < g->n_drop_paths; row++) {
        key.sub = (uint8_t)row;
        const float rate = g->drop_path_rates[row];
        for (int32_t n = 0; n < g->batch; n++) {
            key.item = pass->host_items[n];
            struct rng rng = rng_start(key);
            rng.block = (uint32_t)row >> 8; /* `sub` counts to 255 */
            pass->host_drop_path[row * g->batch + n] = rng_float(&rng) < rate ? 0 : 1 / (1 - rate);
        }
    }
    return pass->net->ops->copy_in(pass->net->be, pass_tensor(pass, pass->program.drop_path),
                                   pass->host_drop_path,
                                   sizeof(float) * (size_t)g->n_drop_paths * (size_t)g->batch);
}

status_t pass_forward(struct pass *pass, const struct forward_options *options) {
    pass->forward = *options;
    for (int32_t n = 0; n < pass->graph.batch; n++)
        pass->host_items[n] = options->host_items ? options->host_items[n] : (uint32_t)n;
    pass->forward.host_items = pass->host_items;
    TRY(draw_drop_paths(pass));
    if (is_recorded(pass)) {
        recordings_begin_forward(pass);
        for (int32_t i = 0; i < pass->recordings.n_forward; i++)
            TRY(recordings_run(pass, &pass->recordings.segments[i]));
        pass->recordings.n_forwards++;
    } else {
        for (int32_t s = 0; s < pass->program.n_forward; s++) TRY(do_step(pass, &pass->program.steps[s]));
    }
    if (pass->program.dfeatures == NONE) return STATUS_OK;
    return pass->net->ops->fill_zero(pass->net->be, pass_dfeatures(pass),
                                     pass->program.tensors[pass->program.dfeatures].n_bytes);
}

/* Report parameters from *next downwards whose gradient is final after step s. Those no step touches (a
 * classifier whose logits nobody used) are final at once. */
static status_t report_ready(const struct pass *pass, int32_t s, int32_t *next, grad_ready_fn ready,
                             void *context) {
    for (; *next >= 0; --*next) {
        const struct net_param *p = &pass->net->table.items[*next];
        if (p->is_buffer || p->layer < pass->graph.first_trained_layer) continue;
        if (pass->program.final_step[*next] > s) break;
        TRY(ready(context, *next));
    }
    return STATUS_OK;
}

static status_t recorded_backward(struct pass *pass, int32_t *next, grad_ready_fn ready, void *context) {
    struct recordings *r = &pass->recordings;
    for (int32_t i = r->n_forward; i < r->n; i++) {
        TRY(recordings_run(pass, &r->segments[i]));
        if (ready) TRY(report_ready(pass, r->segments[i].end - 1, next, ready, context));
    }
    r->n_backwards++;
    return STATUS_OK;
}

status_t pass_backward(struct pass *pass, grad_ready_fn ready, void *context) {
    const struct program *p = &pass->program;
    CHECK(pass->options.mode == PASS_TRAIN, STATUS_INTERNAL, "backward of an inference pass");
    int32_t next = pass->net->table.n - 1;
    if (is_recorded(pass)) TRY(recorded_backward(pass, &next, ready, context));
    for (int32_t s = is_recorded(pass) ? p->n_steps : p->n_forward; s < p->n_steps; s++) {
        TRY(do_step(pass, &p->steps[s]));
        if (ready) TRY(report_ready(pass, s, &next, ready, context));
    }
    return ready ? report_ready(pass, p->n_steps, &next, ready, context) : STATUS_OK;
}

/* ---- profile ---- */

void pass_enable_profile(struct pass *pass, bool on) {
    pass->profiling = on;
    memset(pass->profile, 0, sizeof pass->profile);
    const int kinds = NODE_KINDS + 1;
    for (int i = 0; i < 2 * kinds; i++) {
        pass->profile[i].kind = i % kinds < NODE_KINDS ? KIND_NAMES[i % kinds] : "add";
        pass->profile[i].backward = i >= kinds;
    }
}

int32_t pass_profile(const struct pass *pass, struct profile_row rows[PROFILE_MAX_ROWS]) {
    int32_t n = 0;
    for (int i = 0; i < 2 * (NODE_KINDS + 1) && n < PROFILE_MAX_ROWS; i++)
        if (pass->profile[i].n_calls > 0) rows[n++] = pass->profile[i];
    return n;
}
