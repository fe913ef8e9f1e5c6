/* plan --calibrate: reading of images, and the links between ranks. */
#include "launcher/plan_measure.h"

#include "comm/comm.h"
#include "common/clock.h"
#include "common/memory.h"
#include "data_shards/loader.h"
#include "training/cotrain_loss.h"
#include "training/run_data.h"

#include <math.h>
#include <string.h>

enum { N_MESSAGES = 15, SMALL_BYTES = 8, LEAST_BYTES = 64 << 10, MOST_BYTES = 64 << 20 };

/* ---- images
 * -------------------------------------------------------------------------------------------------------- */

static struct view_spec view_of(const struct plan *plan, int peer, bool strong) {
    const struct settings *s = plan->settings;
    struct view_spec v = view_spec_default(strong ? VIEW_STRONG
                                           : s->peers[peer].view == VIEW_CHOICE_PERSPECTIVE ? VIEW_PERSPECTIVE
                                                                                            : VIEW_NONE,
                                           plan->networks[peer].image);
    if (strong) v.n = (int32_t)s->strong.n, v.m = (int32_t)s->strong.m, v.cutout_size = (int32_t)s->strong.cutout;
    return v;
}

static status_t read_batches(struct loader *loader, double *data_s) {
    double busy_s[N_MESSAGES], last_s = 0;
    for (int i = -2; i < N_MESSAGES; i++) { /* the first fill the caches */
        struct loader_batch *batch;
        double n_images = 0;
        TRY(loader_next(loader, &batch));
        CHECK(batch, STATUS_INTERNAL, "the loader ended");
        for (int p = 0; p < batch->n_parts; p++) n_images += (double)batch->parts[p].n;
        loader_release(loader, batch);
        const double now_s = loader_statistics(loader).busy_s;
        if (i >= 0) busy_s[i] = (now_s - last_s) / n_images;
        last_s = now_s;
    }
    *data_s = plan_median(busy_s, N_MESSAGES);
    return STATUS_OK;
}

static status_t measure_loader(const struct plan *plan, int peer, const struct run_data *data, double *data_s) {
    const struct settings *s = plan->settings;
    const struct batch_settings *b = &s->cotrain.batch;
    const struct split *const splits[] = {&data->source, &data->labelled, &data->unlabelled};
    const int64_t n[] = {b->source, b->labelled, b->unlabelled};
    struct loader_stream streams[3];
    struct loader_part parts[N_INPUTS];
    for (int i = 0; i < 3; i++)
        streams[i] = (struct loader_stream){
            .split = splits[i], .mode = SAMPLER_EPOCHS, .batch = (uint32_t)n[i], .id = (uint8_t)i};
    for (int i = 0; i < N_INPUTS; i++)
        parts[i] = (struct loader_part){.stream = i == INPUT_STRONG ? INPUT_UNLABELLED : i,
                                        .view = view_of(plan, peer, i == INPUT_STRONG),
                                        .peer = i == INPUT_STRONG ? 255 : (uint8_t)peer,
                                        .view_id = i == INPUT_STRONG,
                                        .n_parts = 1};
    const struct loader_config config = {.streams = streams,
                                         .n_streams = 3,
                                         .parts = parts,
                                         .n_parts = N_INPUTS,
                                         .seed = (uint64_t)s->seed,
                                         .stage = STAGE_COTRAIN,
                                         .end_step = -1,
                                         .fixed_view_step = -1,
                                         .type = plan->precision == DTYPE_BF16 ? LOADER_BF16 : LOADER_F32,
                                         .n_threads = 1,
                                         .n_ahead = 2,
                                         .verify = s->data.verify};
    struct loader *loader;
    TRY(loader_open(&config, &loader));
    const status_t status = read_batches(loader, data_s);
    loader_close(loader);
    return status;
}

status_t plan_measure_data(const struct plan *plan, int peer, double *data_s) {
    struct run_data data;
    TRY(run_data_open(plan->settings, false, &data));
    const status_t status = measure_loader(plan, peer, &data, data_s);
    run_data_close(&data);
    return status;
}

/* ---- links
 * --------------------------------------------------------------------------------------------------------- */

/* Seconds of one all-reduce among many, one behind the other. Collective over the group. */
static status_t time_all_reduce(struct comm *group, float *data, int64_t n_elem, double *time_s) {
    double times[N_MESSAGES];
    for (int i = -1; i < N_MESSAGES; i++) {
        const int n_inner = n_elem * 4 <= SMALL_BYTES ? 20 : 2;
        const double begin_s = clock_now_s();
        for (int k = 0; k < n_inner; k++) TRY(comm_all_reduce(group, data, n_elem, COMM_F32, COMM_SUM));
        if (i >= 0) times[i] = (clock_now_s() - begin_s) / n_inner;
    }
    *time_s = plan_median(times, N_MESSAGES);
    return comm_all_reduce(group, time_s, 1, COMM_F64, COMM_MAX);
}

static double largest_bucket(const struct plan *plan) {
    double most = LEAST_BYTES;
    for (int p = 0; p < plan->settings->n_peers; p++)
        for (int b = 0; b < plan->networks[p].n_buckets; b++) most = fmax(most, plan->networks[p].bucket_bytes[b]);
    return fmin(most, MOST_BYTES);
}

/* Between two ranks: 8 bytes go in one phase (a latency), B bytes in two of B / 2 each. */
static status_t measure_link(const struct plan *plan, struct comm *pair, struct link_rate *out) {
    const int64_t n_elem = (int64_t)largest_bucket(plan) / 4;
    float *data = memory_aligned((size_t)n_elem * sizeof *data);
    double small_s, large_s;
    CHECK(data, STATUS_NO_MEMORY, "no memory for messages of %lld bytes", (long long)n_elem * 4);
    memset(data, 0, (size_t)n_elem * sizeof *data);
    status_t status = time_all_reduce(pair, data, 2, &small_s);
    if (status == STATUS_OK) status = time_all_reduce(pair, data, n_elem, &large_s);
    if (status != STATUS_OK) return status; /* MPI may still use the data */
    free(data);
    *out = (struct link_rate){.latency_s = small_s,
                              .bytes_per_s = (double)n_elem * 4 / fmax(large_s - 2 * small_s, 0.05 * large_s)};
    return STATUS_OK;
}

/* Rank 0 and the first other rank that lies on its node (or not). */
static status_t measure_pair(const struct plan *plan, struct comm *world, bool same_node, struct link_rate *out,
                             bool *known) {
    int other = 1;
    while (other < comm_size(world) && (comm_node(world, other) == comm_node(world, 0)) != same_node) other++;
    *known = other < comm_size(world);
    if (!*known) return STATUS_OK;
    const int ranks[] = {0, other};
    const struct comm_membership membership = {.name = "pair", .ranks = ranks, .n_ranks = 2};
    struct comm *pair = NULL;
    TRY(comm_split(world, 1, &membership, &pair));
    if (pair) {
        const status_t status = measure_link(plan, pair, out);
        comm_free(&pair);
        TRY(status);
    }
    return comm_barrier(world);
}

status_t plan_measure_links(const struct plan *plan, struct comm *world, struct plan_rates *rates) {
    TRY(comm_barrier(world));
    TRY(measure_pair(plan, world, true, &rates->intra, &rates->intra_known));
    return measure_pair(plan, world, false, &rates->inter, &rates->inter_known);
}
