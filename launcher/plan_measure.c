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

enum { N_MESSAGES = 15, SMALL_BYTES = 8, MOST_BYTES = 64 << 20, MOST_BUCKETS = 64 };

/* ---- images
 * -------------------------------------------------------------------------------------------------------- */

static struct view_spec view_of(const struct plan *plan, int peer, bool strong) {
    const struct settings *s = plan->settings;
    struct view_spec v = view_spec_default(strong                                           ? VIEW_STRONG
                                           : s->peers[peer].view == VIEW_CHOICE_PERSPECTIVE ? VIEW_PERSPECTIVE
                                                                                            : VIEW_NONE,
                                           plan->networks[peer].image);
    if (strong)
        v.n = (int32_t)s->strong.n, v.m = (int32_t)s->strong.m, v.cutout_size = (int32_t)s->strong.cutout;
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

static status_t measure_loader(const struct plan *plan, int peer, const struct run_data *data,
                               double *data_s) {
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
 * ---------------------------------------------------------------------------------------------------------
 */

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

/* Buckets handed over as backward would hand them over. */
struct bucket_test {
    struct comm *pair;
    const struct plan_network *network;
    float *data;
    int n;
    double n_bytes, begin_s[MOST_BUCKETS]; /* after the first may come */
    double lead_s;                         /* nothing is sent before: forward */
};

/* The peer with most gradients. */
static const struct plan_network *largest_network(const struct plan *plan) {
    const struct plan_network *most = &plan->networks[0];
    for (int p = 1; p < plan->settings->n_peers; p++)
        if (plan->networks[p].n_param_bytes > most->n_param_bytes) most = &plan->networks[p];
    return most;
}

/* As a rank that computes: MPI gets a chance now and then. */
static void wait_until(struct comm *comm, double end_s) {
    for (double next_s = 0, now_s; (now_s = clock_now_s()) < end_s;)
        if (now_s >= next_s) {
            comm_poke(comm);
            next_s = now_s + 0.2e-3;
        }
}

/* Median of the time to the last sum. Collective over the pair. */
static status_t time_buckets(struct bucket_test *t, double *time_s) {
    struct comm_request *requests[MOST_BUCKETS] = {NULL};
    double times[N_MESSAGES];
    for (int i = -2; i < N_MESSAGES; i++) {
        float *next = t->data;
        wait_until(t->pair, clock_now_s() + t->lead_s);
        const double begin_s = clock_now_s();
        for (int b = 0; b < t->n; b++) {
            const int64_t n_elem = (int64_t)t->network->bucket_bytes[b] / 4;
            wait_until(t->pair, begin_s + t->begin_s[b]);
            TRY(comm_all_reduce_begin(t->pair, next, n_elem, COMM_F32, COMM_SUM, &requests[b]));
            next += n_elem;
        }
        for (int b = 0; b < t->n; b++) TRY(comm_wait(&requests[b]));
        if (i >= 0) times[i] = clock_now_s() - begin_s;
    }
    *time_s = plan_median(times, N_MESSAGES);
    return comm_all_reduce(t->pair, time_s, 1, COMM_F64, COMM_MAX);
}

/* Where the link is slower than backward, how full it is when the next bucket comes counts: hand the buckets
 * over at the times of a rank with half of the batch. Rank 0 of the pair knows the network's rates. */
static status_t pace_buckets(const struct plan *plan, const struct plan_rates *rates, struct bucket_test *t) {
    const struct batch_settings *b = &plan->settings->cotrain.batch;
    const struct network_rate *rate = rates_find(rates, t->network->name);
    const double own = 0.5 * (double)b->unlabelled, rest = own + 0.5 * (double)(b->source + b->labelled);
    double times[2] = {0, 0}; /* of backward of the pass that hands over, and before it */
    if (rate) {
        times[0] = rate_backward_s(rate, own + rest) * rest / (own + rest);
        times[1] = rate_forward_s(rate, own + rest) + rate_backward_s(rate, own + rest) * own / (own + rest);
    }
    TRY(comm_broadcast(t->pair, 0, times, 2, COMM_F64));
    for (int i = 0; i < t->n; i++) t->begin_s[i] = times[0] * t->network->bucket_done[i];
    t->lead_s = times[1];
    return STATUS_OK;
}

static status_t measure_buckets(const struct plan *plan, const struct plan_rates *rates, double latency_s,
                                struct bucket_test *t, double *bytes_per_s) {
    double time_s;
    TRY(time_buckets(t, &time_s)); /* all at once */
    *bytes_per_s = t->n_bytes / fmax(time_s - 2 * latency_s, 0.05 * time_s);
    TRY(pace_buckets(plan, rates, t));
    if (time_s < t->begin_s[t->n - 1] || t->n == 1) return STATUS_OK;
    TRY(time_buckets(t, &time_s));
    *bytes_per_s = links_rate_of_buckets(latency_s, t->network->bucket_bytes, t->begin_s, t->n, time_s);
    return STATUS_OK;
}

/* Between two ranks: 8 bytes go in one phase (a latency); buckets of B bytes in two of B / 2 each. */
static status_t measure_link(const struct plan *plan, const struct plan_rates *rates, struct comm *pair,
                             struct link_rate *out) {
    struct bucket_test t = {.pair = pair, .network = largest_network(plan)};
    double latency_s, bytes_per_s = 0;
    while (t.n < t.network->n_buckets && t.n < MOST_BUCKETS && (t.n == 0 || t.n_bytes < MOST_BYTES))
        t.n_bytes += t.network->bucket_bytes[t.n++];
    t.data = memory_aligned((size_t)t.n_bytes + SMALL_BYTES);
    CHECK(t.data, STATUS_NO_MEMORY, "no memory for messages of %.0f bytes", t.n_bytes);
    memset(t.data, 0, (size_t)t.n_bytes + SMALL_BYTES);
    status_t status = time_all_reduce(pair, t.data, SMALL_BYTES / 4, &latency_s);
    if (status == STATUS_OK) status = measure_buckets(plan, rates, latency_s, &t, &bytes_per_s);
    if (status != STATUS_OK) return status; /* MPI may still use the data */
    free(t.data);
    *out = (struct link_rate){.latency_s = latency_s, .bytes_per_s = bytes_per_s};
    return STATUS_OK;
}

/* Rank 0 and the first other rank that lies on its node (or not). */
static status_t measure_pair(const struct plan *plan, const struct plan_rates *rates, struct comm *world,
                             bool same_node, struct link_rate *out, bool *known) {
    int other = 1;
    while (other < comm_size(world) && (comm_node(world, other) == comm_node(world, 0)) != same_node) other++;
    if (other == comm_size(world)) return STATUS_OK; /* what is known already stays */
    *known = true;
    const int ranks[] = {0, other};
    const struct comm_membership membership = {.name = "pair", .ranks = ranks, .n_ranks = 2};
    struct comm *pair = NULL;
    TRY(comm_split(world, 1, &membership, &pair));
    if (pair) {
        const status_t status = measure_link(plan, rates, pair, out);
        comm_free(&pair);
        TRY(status);
    }
    return comm_barrier(world);
}

status_t plan_measure_links(const struct plan *plan, struct comm *world, struct plan_rates *rates) {
    TRY(comm_barrier(world));
    TRY(measure_pair(plan, rates, world, true, &rates->intra, &rates->intra_known));
    return measure_pair(plan, rates, world, false, &rates->inter, &rates->inter_known);
}
