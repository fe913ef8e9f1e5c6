#include "launcher/plan_memory.h"

#include "common/interval.h"
#include "models/net.h"
#include "training/optimiser.h"

#define MIB(n_bytes) ((double)(n_bytes) / 1048576.0)

/* Rows of the rank with the most, of a global batch shared out over n ranks. */
static int32_t largest_share(int64_t batch, int n_ranks) {
    return (int32_t)((batch + n_ranks - 1) / n_ranks);
}

struct peer_plan {
    const struct settings *settings;
    const struct peer_settings *peer;
    struct model_spec spec;
    int32_t image;
    int n_ranks;
    enum dtype precision;
    int64_t n_params;
};

static status_t arena(const struct peer_plan *p, int32_t batch, enum pass_mode mode, bool recompute,
                      size_t *sum) {
    const struct pass_options options = {
        .batch = batch, .height = p->image, .width = p->image, .mode = mode, .recompute = recompute};
    size_t n_bytes = 0;
    if (batch > 0) TRY(model_arena_bytes(NULL, NULL, &p->spec, &options, p->precision, &n_bytes));
    *sum += n_bytes;
    return STATUS_OK;
}

static status_t describe(const struct settings *settings, const struct placement *placement, int index,
                         struct peer_plan *out) {
    const struct peer_settings *peer = &settings->peers[index];
    struct peer_plan p = {.settings = settings,
                          .peer = peer,
                          .spec = peer->model.spec,
                          .image = (int32_t)peer->image,
                          .n_ranks = placement->group_size[index],
                          .precision = settings->precision == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_F32};
    struct model_spec preset;
    struct model_cost cost;
    if (p.image == 0 && peer->model.preset[0]) TRY(model_spec_preset(peer->model.preset, &preset, &p.image));
    TRY(model_cost(&p.spec, 1, p.image, p.image, p.precision, &cost));
    p.n_params = cost.n_params;
    *out = p;
    return STATUS_OK;
}

/* Master weights, the bf16 copy, the copy of the best; gradients; optimiser state, a share of it with ZeRO-1.
 */
static status_t print_cotrain(const struct peer_plan *p, FILE *out) {
    const struct cotrain_settings *s = &p->settings->cotrain;
    const double n = (double)p->n_params, copies = p->precision == DTYPE_BF16 ? 10 : 8;
    const size_t state = optimiser_state_bytes(&s->optimizer, p->n_params, s->ema);
    const double share = p->settings->comm.shard_optimizer ? (double)p->n_ranks : 1;
    const int32_t own = largest_share(s->batch.unlabelled, p->n_ranks),
                  rest = own + largest_share(s->batch.source, p->n_ranks) +
                         largest_share(s->batch.labelled, p->n_ranks);
    size_t kept = 0, recomputed = 0;
    TRY(arena(p, own, PASS_TRAIN, false, &kept));
    TRY(arena(p, rest, PASS_TRAIN, false, &kept));
    TRY(arena(p, own, PASS_TRAIN, true, &recomputed));
    TRY(arena(p, rest, PASS_TRAIN, true, &recomputed));
    const bool recompute = p->settings->recompute == RECOMPUTE_BLOCKS;
    const double total = MIB(copies * n + 4 * n + (double)state / share) + MIB(recompute ? recomputed : kept);
    fprintf(out, "%-16s %-9s %9.1f %9.1f %9.1f %11.1f %11.1f %9.1f\n", p->peer->name, "cotrain",
            MIB(copies * n), MIB(4 * n), MIB((double)state / share), MIB(kept), MIB(recomputed), total);
    return STATUS_OK;
}

static status_t print_features(const struct peer_plan *p, FILE *out) {
    const double weights = MIB((p->precision == DTYPE_BF16 ? 6 : 4) * (double)p->n_params);
    size_t activations = 0;
    TRY(arena(p, (int32_t)p->settings->features.batch, PASS_INFER, false, &activations));
    fprintf(out, "%-16s %-9s %9.1f %9s %9s %11.1f %11s %9.1f\n", p->peer->name, "features", weights, "-", "-",
            MIB(activations), "-", weights + MIB(activations));
    return STATUS_OK;
}

status_t plan_memory_print(const struct settings *settings, const struct placement *placement, FILE *out) {
    fprintf(out, "\nMiB a rank (largest share of the batch; without scratch of single operations, images and "
                 "libraries)\n");
    fprintf(out, "%-16s %-9s %9s %9s %9s %11s %11s %9s\n", "peer", "stage", "weights", "gradients",
            "optimiser", "activations", "recomputed", "total");
    for (int i = 0; i < placement->n_peers; i++) {
        struct peer_plan p;
        TRY(describe(settings, placement, i, &p));
        if (settings_has_stage(settings, STAGE_FEATURES)) TRY(print_features(&p, out));
        if (settings_has_stage(settings, STAGE_COTRAIN)) TRY(print_cotrain(&p, out));
    }
    return STATUS_OK;
}
