#include "training/distil_step.h"

#include "common/memory.h"

#include <string.h>

static const struct ops *ops_of(const struct distil_student *s) {
    return net_ops(s->net);
}
static struct backend *backend_of(const struct distil_student *s) {
    return net_backend(s->net);
}
static int64_t n_classes(const struct distil_student *s) {
    return net_spec(s->net)->n_classes;
}

int64_t distil_n_local(const struct distil_student *s, enum distil_input input) {
    return interval_length(s->rows[input]);
}

static int64_t n_supervised(const struct distil_student *s) {
    return distil_n_local(s, DISTIL_SOURCE) + distil_n_local(s, DISTIL_LABELLED);
}

/* First row of an input among all local rows; within its pass. */
static int64_t first_row(const struct distil_student *s, enum distil_input input) {
    return input == DISTIL_SOURCE     ? 0
           : input == DISTIL_LABELLED ? distil_n_local(s, DISTIL_SOURCE)
                                      : n_supervised(s);
}

static struct pass *pass_of(const struct distil_student *s, enum distil_input input) {
    return input == DISTIL_UNLABELLED && s->second ? s->second : s->first;
}

static int64_t row_in_pass(const struct distil_student *s, enum distil_input input) {
    return pass_of(s, input) == s->second ? 0 : first_row(s, input);
}

void *distil_input(struct distil_student *s, enum distil_input input) {
    const enum dtype dtype = net_shadow(s->net) ? DTYPE_BF16 : DTYPE_F32;
    const size_t row_bytes = (size_t)s->options.height * (size_t)s->options.width * 3 * dtype_bytes(dtype);
    return (char *)pass_input(pass_of(s, input)) + (size_t)row_in_pass(s, input) * row_bytes;
}

const float *distil_logits(const struct distil_student *s, enum distil_input input) {
    return pass_logits(pass_of(s, input)) + row_in_pass(s, input) * n_classes(s);
}

static float *dlogits(const struct distil_student *s, enum distil_input input) {
    return pass_dlogits(pass_of(s, input)) + row_in_pass(s, input) * n_classes(s);
}

static status_t make_passes(struct distil_student *s) {
    const int64_t n_u = distil_n_local(s, DISTIL_UNLABELLED);
    struct pass_options o = {.batch = (int32_t)(n_supervised(s) + (s->options.joint ? n_u : 0)),
                             .height = s->options.height,
                             .width = s->options.width,
                             .mode = PASS_TRAIN,
                             .recompute = s->options.recompute,
                             .record = s->options.record};
    TRY(pass_new(s->net, &o, &s->first));
    if (s->options.joint) return STATUS_OK;
    o.batch = (int32_t)n_u;
    return pass_new(s->net, &o, &s->second);
}

static status_t make_memory(struct distil_student *s) {
    const size_t n_u = (size_t)distil_n_local(s, DISTIL_UNLABELLED), n = (size_t)n_supervised(s) + n_u;
    const size_t sizes[] = {
        memory_round_up(3 * sizeof(double)),
        memory_round_up(sizeof(double)),
        memory_round_up(sizeof(float)),
        memory_round_up(n * sizeof(int32_t)),
        memory_round_up(n_u),
        memory_round_up(s->options.temperature > 0 ? n_u * (size_t)n_classes(s) * sizeof(float) : 0)};
    size_t total = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) total += sizes[i];
    s->items = memory_zeroed(n, sizeof *s->items);
    CHECK(s->items, STATUS_NO_MEMORY, "out of memory for the student's batch");
    TRY(ops_of(s)->alloc(backend_of(s), total, &s->block));
    TRY(ops_of(s)->fill_zero(backend_of(s), s->block, total));
    char *p = s->block;
    s->sums = (double *)p, p += sizes[0];
    s->kept_sum = (double *)p, p += sizes[1];
    s->kept_scale = (float *)p, p += sizes[2];
    s->labels = (int32_t *)p, p += sizes[3];
    s->kept = (uint8_t *)p, p += sizes[4];
    s->teacher = s->options.temperature > 0 ? (float *)p : NULL;
    return STATUS_OK;
}

status_t distil_student_new(struct net *net, struct comm *group, const struct distil_student_options *options,
                            struct distil_student *out) {
    struct distil_student s = {.options = *options, .net = net, .group = group};
    for (enum distil_input i = 0; i < DISTIL_N_INPUTS; i++)
        s.rows[i] = interval_part(options->n_global[i], comm_rank(group), comm_size(group));
    status_t status;
    TRY_TO(fail, make_passes(&s));
    TRY_TO(fail, make_memory(&s));
    TRY_TO(fail, learner_new(net, group, options->learner, &s.learner));
    *out = s;
    return STATUS_OK;
fail:
    distil_student_free(&s);
    return status;
}

void distil_student_free(struct distil_student *s) {
    if (!s->net) return;
    learner_free(&s->learner);
    if (s->block) ops_of(s)->release(backend_of(s), s->block);
    free(s->items);
    pass_free(s->first);
    pass_free(s->second);
    memset(s, 0, sizeof *s);
}

status_t distil_set_labels(struct distil_student *s, enum distil_input input, const int32_t *labels,
                           const uint32_t *items) {
    const size_t n = (size_t)distil_n_local(s, input);
    if (n == 0) return STATUS_OK;
    if (items) memcpy(s->items + first_row(s, input), items, n * sizeof *items);
    return ops_of(s)->copy_in(backend_of(s), s->labels + first_row(s, input), labels, n * sizeof *labels);
}

status_t distil_set_kept(struct distil_student *s, const uint8_t *kept, const float *teacher) {
    const size_t n = (size_t)distil_n_local(s, DISTIL_UNLABELLED);
    if (n == 0) return STATUS_OK;
    if (s->teacher)
        TRY(ops_of(s)->copy_in(backend_of(s), s->teacher, teacher,
                               n * (size_t)n_classes(s) * sizeof *teacher));
    return ops_of(s)->copy_in(backend_of(s), s->kept, kept, n);
}

static status_t forward(struct distil_student *s, struct rng_key rng) {
    const bool alone = comm_size(s->group) == 1;
    struct forward_options o = {.update_statistics = true,
                                .reduce = alone ? NULL : group_sum_f64,
                                .reduce_context = s->group,
                                .rng = rng,
                                .host_items = s->items};
    TRY(pass_forward(s->first, &o));
    if (!s->second) return STATUS_OK;
    o.image_mask = s->kept;
    o.host_items = s->items + first_row(s, DISTIL_UNLABELLED);
    return pass_forward(s->second, &o);
}

static struct cross_entropy describe_term(const struct distil_student *s, enum distil_input input) {
    return (struct cross_entropy){.n = distil_n_local(s, input),
                                  .k = n_classes(s),
                                  .logits = distil_logits(s, input),
                                  .labels = s->labels + first_row(s, input),
                                  .dlogits = dlogits(s, input),
                                  .loss_sum = &s->sums[input]};
}

static status_t supervised_term(struct distil_student *s, enum distil_input input) {
    struct cross_entropy term = describe_term(s, input);
    const int64_t n = s->options.n_global[input];
    term.scale = n > 0 ? s->options.weight[input] / (float)n : 0;
    return ops_of(s)->cross_entropy(backend_of(s), &term);
}

static status_t kept_term(struct distil_student *s) {
    const struct ops *ops = ops_of(s);
    struct backend *be = backend_of(s);
    TRY(ops->mask_sum(be, s->kept, distil_n_local(s, DISTIL_UNLABELLED), s->kept_sum));
    if (comm_size(s->group) > 1) TRY(group_sum_f64(s->group, s->kept_sum, 1));
    TRY(ops->mean_scale(be, s->options.weight[DISTIL_UNLABELLED], s->kept_sum, s->kept_scale));
    struct cross_entropy term = describe_term(s, DISTIL_UNLABELLED);
    term.mask = s->kept;
    term.scale = 1;
    term.scale_device = s->kept_scale;
    if (!s->teacher) return ops->cross_entropy(be, &term);
    return ops->soft_cross_entropy(be, &(struct soft_cross_entropy){.n = term.n,
                                                                    .k = term.k,
                                                                    .temperature = s->options.temperature,
                                                                    .scale = 1,
                                                                    .scale_device = s->kept_scale,
                                                                    .logits = term.logits,
                                                                    .teacher = s->teacher,
                                                                    .mask = s->kept,
                                                                    .dlogits = term.dlogits,
                                                                    .loss_sum = term.loss_sum});
}

status_t distil_forward_backward(struct distil_student *s, struct rng_key rng) {
    TRY(forward(s, rng));
    TRY(ops_of(s)->fill_zero(backend_of(s), s->sums, DISTIL_N_INPUTS * sizeof(double)));
    TRY(supervised_term(s, DISTIL_SOURCE));
    TRY(supervised_term(s, DISTIL_LABELLED));
    TRY(kept_term(s));
    TRY(learner_begin(&s->learner));
    if (s->second) TRY(learner_backward(&s->learner, s->second, false));
    return learner_backward(&s->learner, s->first, true);
}

status_t distil_update(struct distil_student *s, double lr, struct optimiser_outcome *outcome) {
    return learner_update(&s->learner, lr, outcome);
}

status_t distil_figures(struct distil_student *s, double sums[DISTIL_N_INPUTS], double *kept) {
    TRY(ops_of(s)->copy_out(backend_of(s), sums, s->sums, DISTIL_N_INPUTS * sizeof(double)));
    *kept = 0;
    if (comm_rank(s->group) == 0) return ops_of(s)->copy_out(backend_of(s), kept, s->kept_sum, sizeof *kept);
    return STATUS_OK;
}

void distil_means(const struct distil_student *s, const double *sums, double kept,
                  double terms[DISTIL_N_INPUTS]) {
    const double n[] = {(double)s->options.n_global[DISTIL_SOURCE],
                        (double)s->options.n_global[DISTIL_LABELLED], kept};
    for (int i = 0; i < DISTIL_N_INPUTS; i++) terms[i] = n[i] > 0 ? sums[i] / n[i] : 0;
}
