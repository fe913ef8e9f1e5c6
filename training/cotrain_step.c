#include "training/cotrain_step.h"

#include "common/memory.h"

#include <string.h>

static const struct ops *ops_of(const struct cotrain_peer *p) {
    return net_ops(p->net);
}
static struct backend *backend_of(const struct cotrain_peer *p) {
    return net_backend(p->net);
}

int64_t cotrain_n_local(const struct cotrain_peer *p, enum step_input input) {
    return interval_length(p->rows[input]);
}

static int64_t n_rest(const struct cotrain_peer *p) {
    return cotrain_n_local(p, INPUT_SOURCE) + cotrain_n_local(p, INPUT_LABELLED) +
           cotrain_n_local(p, INPUT_STRONG);
}

/* First row of an input inside its pass. */
static int64_t first_row(const struct cotrain_peer *p, enum step_input input) {
    switch (input) {
    case INPUT_LABELLED:
        return cotrain_n_local(p, INPUT_SOURCE);
    case INPUT_STRONG:
        return cotrain_n_local(p, INPUT_SOURCE) + cotrain_n_local(p, INPUT_LABELLED);
    default:
        return 0;
    }
}

static struct pass *pass_of(const struct cotrain_peer *p, enum step_input input) {
    return input == INPUT_UNLABELLED ? p->own : p->rest;
}

void *cotrain_input(struct cotrain_peer *p, enum step_input input) {
    const bool half = net_shadow(p->net) != NULL;
    const size_t row_bytes =
        (size_t)p->options.height * (size_t)p->options.width * 3 * dtype_bytes(half ? DTYPE_BF16 : DTYPE_F32);
    return (char *)pass_input(pass_of(p, input)) + (size_t)first_row(p, input) * row_bytes;
}

status_t cotrain_set_labels(struct cotrain_peer *p, enum step_input input, const int32_t *host_labels) {
    const int64_t n = cotrain_n_local(p, input);
    if (n == 0) return STATUS_OK;
    return ops_of(p)->copy_in(backend_of(p), p->labels + first_row(p, input), host_labels,
                              (size_t)n * sizeof(int32_t));
}

static status_t make_passes(struct cotrain_peer *p) {
    struct pass_options o = {.batch = (int32_t)n_rest(p),
                             .height = p->options.height,
                             .width = p->options.width,
                             .mode = PASS_TRAIN,
                             .recompute = p->options.recompute,
                             .record = p->options.record};
    TRY(pass_new(p->net, &o, &p->rest));
    if (p->options.warmup) return STATUS_OK;
    o.batch = (int32_t)cotrain_n_local(p, INPUT_UNLABELLED);
    return pass_new(p->net, &o, &p->own);
}

static status_t make_host_memory(struct cotrain_peer *p) {
    const size_t n_u = (size_t)cotrain_n_local(p, INPUT_UNLABELLED);
    p->items = memory_zeroed((size_t)n_rest(p), sizeof *p->items);
    p->host_other = memory_zeroed(n_u, sizeof *p->host_other);
    p->host_label = memory_zeroed(n_u, sizeof *p->host_label);
    p->host_mask = memory_zeroed(n_u, sizeof *p->host_mask);
    CHECK(p->items && p->host_other && p->host_label && p->host_mask, STATUS_NO_MEMORY,
          "out of memory for a step's labels");
    return STATUS_OK;
}

static void connect_loss(struct cotrain_peer *p) {
    const int32_t k = net_spec(p->net)->n_classes;
    struct cotrain_loss *loss = &p->loss;
    *loss = (struct cotrain_loss){.ops = ops_of(p), .be = backend_of(p), .n_classes = k};
    memcpy(loss->n_global, p->options.n_global, sizeof loss->n_global);
    for (enum step_input i = 0; i < N_INPUTS; i++) {
        if (p->options.warmup && i >= INPUT_UNLABELLED) break;
        loss->logits[i] = pass_logits(pass_of(p, i)) + first_row(p, i) * k;
        loss->dlogits[i] = pass_dlogits(pass_of(p, i)) + first_row(p, i) * k;
    }
    loss->labels[0] = p->labels;
    loss->labels[1] = p->labels + first_row(p, INPUT_LABELLED);
    if (comm_size(p->group) > 1) {
        loss->reduce = group_sum_f64;
        loss->reduce_context = p->group;
    }
}

status_t cotrain_peer_new(struct net *net, struct comm *group, const struct cotrain_peer_options *options,
                          struct cotrain_peer *out) {
    struct cotrain_peer p = {.options = *options, .net = net, .group = group};
    int64_t n[N_INPUTS];
    for (enum step_input i = 0; i < N_INPUTS; i++) {
        const int64_t n_global = options->warmup && i >= INPUT_UNLABELLED ? 0 : options->n_global[i];
        p.rows[i] = interval_part(n_global, comm_rank(group), comm_size(group));
        n[i] = interval_length(p.rows[i]);
    }
    const int64_t n_labels = n[INPUT_SOURCE] + n[INPUT_LABELLED];
    status_t status;
    TRY_TO(fail, make_host_memory(&p));
    TRY_TO(fail, make_passes(&p));
    TRY_TO(fail, learner_new(net, group, options->learner, &p.learner));
    TRY_TO(fail, cotrain_loss_buffers_new(ops_of(&p), backend_of(&p), n,
                                          options->warmup ? 0 : options->n_others, &p.buffers));
    void *labels;
    TRY_TO(fail, ops_of(&p)->alloc(backend_of(&p), (size_t)(n_labels + 1) * sizeof(int32_t), &labels));
    p.labels = labels;
    if (options->deep_coral && !options->warmup)
        TRY_TO(fail, deep_coral_buffers_new(ops_of(&p), backend_of(&p), n_labels, n[INPUT_UNLABELLED],
                                            net_n_features(net), &p.coral));
    connect_loss(&p);
    *out = p;
    return STATUS_OK;
fail:
    cotrain_peer_free(&p);
    return status;
}

void cotrain_peer_free(struct cotrain_peer *p) {
    if (!p->net) return;
    deep_coral_buffers_free(ops_of(p), backend_of(p), &p->coral);
    if (p->labels) ops_of(p)->release(backend_of(p), p->labels);
    cotrain_loss_buffers_free(ops_of(p), backend_of(p), &p->buffers);
    learner_free(&p->learner);
    pass_free(p->own);
    pass_free(p->rest);
    free(p->items);
    free(p->host_other);
    free(p->host_label);
    free(p->host_mask);
    memset(p, 0, sizeof *p);
}

static void use_step(struct cotrain_peer *p, const struct cotrain_step *step) {
    memcpy(p->loss.weight, step->weight, sizeof p->loss.weight);
    p->loss.smoothing = step->smoothing;
    p->loss.tau = step->tau;
    p->loss.tau_source = step->tau_source;
}

status_t cotrain_forward_own(struct cotrain_peer *p, const struct cotrain_step *step) {
    use_step(p, step);
    const struct forward_options o = {
        .update_statistics = true, .rng = step->rng, .host_items = step->host_items[INPUT_UNLABELLED]};
    TRY(pass_forward(p->own, &o));
    return cotrain_loss_label(&p->loss, &p->buffers);
}

status_t cotrain_forward_rest(struct cotrain_peer *p, const struct cotrain_step *step) {
    use_step(p, step);
    const bool given = step->host_items[INPUT_SOURCE] != NULL;
    for (enum step_input i = 0; given && i < N_INPUTS; i++)
        if (i != INPUT_UNLABELLED && cotrain_n_local(p, i) > 0)
            memcpy(p->items + first_row(p, i), step->host_items[i],
                   (size_t)cotrain_n_local(p, i) * sizeof *p->items);
    const struct forward_options o = {
        .update_statistics = true, .rng = step->rng, .host_items = given ? p->items : NULL};
    return pass_forward(p->rest, &o);
}

static status_t add_deep_coral(struct cotrain_peer *p, const struct cotrain_step *step) {
    if (!p->options.deep_coral) return STATUS_OK;
    const bool alone = comm_size(p->group) == 1;
    return deep_coral(
        &(struct deep_coral){.ops = ops_of(p),
                             .be = backend_of(p),
                             .source = pass_features(p->rest), /* source and labelled rows lie first */
                             .target = pass_features(p->own),
                             .dsource = pass_dfeatures(p->rest),
                             .dtarget = pass_dfeatures(p->own),
                             .n_source_global =
                                 p->options.n_global[INPUT_SOURCE] + p->options.n_global[INPUT_LABELLED],
                             .n_target_global = p->options.n_global[INPUT_UNLABELLED],
                             .weight = step->weight[LOSS_CORAL],
                             .reduce = alone ? NULL : group_sum_f64,
                             .reduce_f32 = alone ? NULL : group_sum_f32,
                             .reduce_context = p->group},
        &p->coral);
}

status_t cotrain_backward(struct cotrain_peer *p, const struct cotrain_step *step, bool first, bool last) {
    if (p->options.warmup) {
        TRY(cotrain_loss_warmup(&p->loss, &p->buffers));
    } else {
        TRY(cotrain_loss_terms(&p->loss, &p->buffers));
        TRY(add_deep_coral(p, step));
    }
    if (first) TRY(learner_begin(&p->learner));
    if (p->own) TRY(learner_backward(&p->learner, p->own, false));
    return learner_backward(&p->learner, p->rest, last);
}

status_t cotrain_update(struct cotrain_peer *p, double lr, struct optimiser_outcome *outcome) {
    return learner_update(&p->learner, lr, outcome);
}

static void count_agreement(const int32_t *label, const uint8_t *mask, const struct pseudo_label *other,
                            float tau, int64_t n, struct cotrain_figures *f) {
    for (int64_t i = 0; i < n; i++) {
        const bool same = label[i] == other[i].label, other_kept = other[i].confidence > tau;
        f->agree += same;
        f->kept_other += other_kept;
        f->both_kept += mask[i] && other_kept;
        f->agree_kept += mask[i] && other_kept && same;
    }
}

status_t cotrain_figures(struct cotrain_peer *p, struct cotrain_figures *out) {
    const struct ops *ops = ops_of(p);
    struct backend *be = backend_of(p);
    struct cotrain_loss_buffers *b = &p->buffers;
    struct cotrain_figures f = {0};
    TRY(ops->copy_out(be, f.sums, b->sums, sizeof f.sums));
    const int64_t n = b->n[INPUT_UNLABELLED];
    if (!p->options.warmup && comm_rank(p->group) == 0) {
        double square[2] = {0, 0};
        TRY(ops->copy_out(be, &f.kept_source, b->kept_source, sizeof f.kept_source));
        if (p->coral.block) TRY(ops->copy_out(be, square, p->coral.square, sizeof square));
        const double d = (double)net_n_features(p->net);
        f.sums[LOSS_CORAL] = square[0] / (4 * d * d);
    }
    if (!p->options.warmup && n > 0) {
        TRY(ops->copy_out(be, p->host_label, b->label, (size_t)n * sizeof *p->host_label));
        TRY(ops->copy_out(be, p->host_mask, b->mask, (size_t)n));
        for (int64_t i = 0; i < n; i++) f.kept += p->host_mask[i];
        for (int32_t q = 0; q < b->n_others; q++) {
            TRY(ops->copy_out(be, p->host_other, b->receive[q], (size_t)n * sizeof *p->host_other));
            count_agreement(p->host_label, p->host_mask, p->host_other, p->loss.tau, n, &f);
        }
    }
    *out = f;
    return STATUS_OK;
}
