#include "launcher/plan_memory.h"

#include "common/pseudo_label.h"
#include "models/net.h"
#include "training/head.h"
#include "training/optimiser.h"

#include <math.h>

static const double mib = 1.0 / 1048576.0;

/* Rows of the rank with the most, of a global batch shared out over n ranks. */
static int64_t largest_share(int64_t batch, int n_ranks) {
    return (batch + n_ranks - 1) / n_ranks;
}

static status_t arena(const struct plan *plan, const struct plan_network *n, int64_t batch,
                      enum pass_mode mode, bool recompute, double *sum) {
    const struct pass_options options = {
        .batch = (int32_t)batch, .height = n->image, .width = n->image, .mode = mode, .recompute = recompute};
    size_t n_bytes = 0;
    if (batch > 0) TRY(model_arena_bytes(NULL, NULL, &n->spec, &options, plan->precision, &n_bytes));
    *sum += (double)n_bytes * mib;
    return STATUS_OK;
}

/* Master weights, the bf16 copy, the copy of the best; gradients; optimiser state. Passes of `first` and
 * `second` rows. */
static status_t find_training(const struct plan *plan, const struct plan_network *n,
                              const struct optimizer_settings *optimizer, double ema, int n_ranks,
                              int64_t first, int64_t second, struct plan_memory *m) {
    const double state = (double)optimiser_state_bytes(optimizer, (int64_t)n->n_params, ema) * mib;
    m->weights = (plan->precision == DTYPE_BF16 ? 10 : 8) * n->n_params * mib;
    m->gradients = 4 * n->n_params * mib;
    m->optimiser = state;
    m->optimiser_sharded = state / n_ranks;
    TRY(arena(plan, n, first, PASS_TRAIN, false, &m->activations));
    TRY(arena(plan, n, second, PASS_TRAIN, false, &m->activations));
    TRY(arena(plan, n, first, PASS_TRAIN, true, &m->recomputed));
    TRY(arena(plan, n, second, PASS_TRAIN, true, &m->recomputed));
    const bool sharded = plan->settings->comm.shard_optimizer,
               recompute = plan->settings->recompute == RECOMPUTE_BLOCKS;
    m->total = m->weights + m->gradients + (sharded ? m->optimiser_sharded : m->optimiser) +
               (recompute ? m->recomputed : m->activations);
    return STATUS_OK;
}

static status_t find_cotrain(const struct plan *plan, int peer, struct plan_memory *m) {
    const struct cotrain_settings *s = &plan->settings->cotrain;
    const int n = plan->world.placement.group_size[peer];
    const int64_t own = largest_share(s->batch.unlabelled, n);
    m->stage = "cotrain";
    return find_training(plan, &plan->networks[peer], &s->optimizer, s->ema, n, own,
                         own + largest_share(s->batch.source, n) + largest_share(s->batch.labelled, n), m);
}

static status_t find_distil(const struct plan *plan, struct plan_memory *m) {
    const struct distil_settings *s = &plan->settings->distil;
    const int n = plan->world.n_ranks;
    const int64_t labelled = largest_share(s->batch.source, n) + largest_share(s->batch.labelled, n),
                  unlabelled = largest_share(s->batch.unlabelled, n);
    const bool joint = s->batch_norm == BATCH_NORM_JOINT;
    m->stage = "distil";
    return find_training(plan, &plan->networks[PLAN_STUDENT], &s->optimizer, 0, n,
                         joint ? labelled + unlabelled : labelled, joint ? 0 : unlabelled, m);
}

static status_t find_features(const struct plan *plan, int peer, struct plan_memory *m) {
    const struct plan_network *n = &plan->networks[peer];
    m->stage = "features";
    m->weights = (plan->precision == DTYPE_BF16 ? 6 : 4) * n->n_params * mib;
    m->gradients = m->optimiser = m->optimiser_sharded = m->recomputed = NAN;
    TRY(arena(plan, n, plan->settings->features.batch, PASS_INFER, false, &m->activations));
    m->total = m->weights + m->activations;
    return STATUS_OK;
}

/* The most is needed while the rows read are copied to the classifier: both then exist. Later the classifier
 * with the unlabelled and validation rows, all labels, and at evaluations all peers' probabilities. */
static void find_heads(const struct plan *plan, int peer, struct plan_memory *m) {
    const struct plan_data *data = &plan->data;
    const int n = plan->world.placement.group_size[peer];
    const int64_t d = plan->networks[peer].n_features, k = data->n_classes;
    const enum precision_choice choice = plan->settings->heads.precision;
    struct head_options o = {.n_classes = (int32_t)k,
                             .d = d,
                             .precision = choice == PRECISION_AUTO   ? plan->precision
                                          : choice == PRECISION_BF16 ? DTYPE_BF16
                                                                     : DTYPE_F32,
                             .n_local = {largest_share(data->source, n), largest_share(data->labelled, n),
                                         largest_share(data->unlabelled, n),
                                         largest_share(data->unlabelled, n)}};
    double rows = 0;
    for (int i = 0; i < HEAD_N_INPUTS; i++) rows += (double)o.n_local[i];
    const double row = 4.0 * (double)d, validation = (double)largest_share(data->validation, n) * row,
                 labels = 2.0 * (double)data->unlabelled * sizeof(struct pseudo_label),
                 answers = 4.0 * plan->settings->n_peers * (double)data->unlabelled * (double)k,
                 classifier = (double)head_n_bytes(&o);
    const double loading = rows * row + validation + classifier,
                 training = (double)o.n_local[HEAD_UNLABELLED] * row + validation + classifier + answers;
    m->stage = "heads";
    m->weights = 4.0 * (double)(k * d) * mib;
    m->gradients = m->weights;
    m->optimiser = m->optimiser_sharded = m->weights;
    m->recomputed = NAN;
    m->total = (fmax(loading, training) + labels) * mib;
    m->activations = m->total - 3 * m->weights;
}

status_t plan_memory_find(const struct plan *plan, struct plan_memory *rows, int *n_rows) {
    const struct settings *s = plan->settings;
    int n = 0;
    for (int p = 0; p < s->n_peers; p++) {
        const struct plan_memory empty = {.peer = plan->networks[p].name};
        if (settings_has_stage(s, STAGE_FEATURES)) {
            rows[n] = empty;
            TRY(find_features(plan, p, &rows[n++]));
        }
        if (settings_has_stage(s, STAGE_HEADS) && plan->data.known) {
            rows[n] = empty;
            find_heads(plan, p, &rows[n++]);
        }
        if (settings_has_stage(s, STAGE_COTRAIN)) {
            rows[n] = empty;
            TRY(find_cotrain(plan, p, &rows[n++]));
        }
    }
    if (settings_has_stage(s, STAGE_DISTIL)) {
        rows[n] = (struct plan_memory){.peer = "student"};
        TRY(find_distil(plan, &rows[n++]));
    }
    *n_rows = n;
    return STATUS_OK;
}

static void print_mib(double value, int width, FILE *out) {
    if (isnan(value))
        fprintf(out, " %*s", width, "-");
    else
        fprintf(out, " %*.1f", width, value);
}

status_t plan_memory_print(const struct plan *plan, FILE *out) {
    struct plan_memory rows[PLAN_MAX_MEMORY];
    int n = 0;
    TRY(plan_memory_find(plan, rows, &n));
    fprintf(out,
            "\nMiB a rank, %s (largest share of the batch; without scratch of single operations, images and "
            "libraries)\n",
            plan->precision == DTYPE_BF16 ? "bf16" : "fp32");
    fprintf(out, "%-16s %-9s %9s %9s %9s %9s %11s %11s %9s\n", "peer", "stage", "weights", "gradients",
            "optimiser", "ZeRO-1", "activations", "recomputed", "total");
    for (int i = 0; i < n; i++) {
        const struct plan_memory *m = &rows[i];
        fprintf(out, "%-16s %-9s", m->peer, m->stage);
        print_mib(m->weights, 9, out);
        print_mib(m->gradients, 9, out);
        print_mib(m->optimiser, 9, out);
        print_mib(m->optimiser_sharded, 9, out);
        print_mib(m->activations, 11, out);
        print_mib(m->recomputed, 11, out);
        print_mib(m->total, 9, out);
        fputc('\n', out);
    }
    if (settings_has_stage(plan->settings, STAGE_HEADS) && !plan->data.known)
        fprintf(out,
                "(heads: the lists are not there; --images SOURCE,LABELLED,UNLABELLED,VALIDATION --classes K "
                "tell their sizes)\n");
    return STATUS_OK;
}
