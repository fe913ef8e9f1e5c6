#include "training/rank_times.h"

#include "common/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"compute_ms", "data_ms", "exchange_ms", "reduce_ms"};

struct rank_times {
    const struct run *run;
    bool of_peers;
    double sums[RANK_N_TIMES]; /* s, since the last gathering */
    int64_t n_steps;
    double sent[RANK_N_TIMES]; /* ms a step; under way */
    double *gathered;          /* rank 0: (n_ranks,RANK_N_TIMES) */
    int64_t *offsets;          /* [n_ranks + 1] */
    struct comm_request *pending;
    bool under_way; /* MPI may use `sent` and `gathered` */
    bool ready;     /* gathered, and not yet in a record */
    bool described; /* which host and peer each rank has stands in a record of this stage */
    char text[128];
};

const char *rank_time_name(enum rank_time time) {
    return names[time];
}

status_t rank_times_new(const struct run *run, bool of_peers, struct rank_times **out) {
    struct rank_times *t = memory_zeroed(1, sizeof *t);
    CHECK(t, STATUS_NO_MEMORY, "out of memory for the ranks' times");
    const size_t n = (size_t)comm_size(run->world);
    t->run = run;
    t->of_peers = of_peers;
    t->gathered = memory_zeroed(run->writes ? n * RANK_N_TIMES : 1, sizeof *t->gathered);
    t->offsets = memory_zeroed(n + 1, sizeof *t->offsets);
    if (!t->gathered || !t->offsets) {
        rank_times_free(t);
        return FAIL(STATUS_NO_MEMORY, "out of memory for the ranks' times");
    }
    for (size_t r = 0; r <= n; r++) t->offsets[r] = (int64_t)r * RANK_N_TIMES;
    *out = t;
    return STATUS_OK;
}

void rank_times_free(struct rank_times *t) {
    if (!t || t->under_way) return; /* after a failure MPI may still write: lives until the process ends */
    free(t->gathered);
    free(t->offsets);
    free(t);
}

void rank_times_add(struct rank_times *t, const struct rank_step *s) {
    const double reduce_s = fmax(0, s->waited_s - s->exchange_s);
    t->sums[RANK_DATA] += s->data_s;
    t->sums[RANK_EXCHANGE] += s->exchange_s;
    t->sums[RANK_REDUCE] += reduce_s;
    t->sums[RANK_COMPUTE] += fmax(0, s->step_s - s->data_s - s->exchange_s - reduce_s);
    t->n_steps += s->n_steps;
}

bool rank_times_due(const struct rank_times *t, int64_t n_done, bool last) {
    const struct log_settings *log = &t->run->settings->log;
    if (log->ranks_every == 0) return false;
    return last || (n_done % log->metrics_every == 0 && n_done / log->metrics_every % log->ranks_every == 0);
}

status_t rank_times_begin(struct rank_times *t) {
    for (int i = 0; i < RANK_N_TIMES; i++) {
        t->sent[i] = t->n_steps > 0 ? 1e3 * t->sums[i] / (double)t->n_steps : 0;
        t->sums[i] = 0;
    }
    t->n_steps = 0;
    t->under_way = true;
    return comm_gather_begin(comm_host_side(t->run->world), 0, t->sent, t->run->writes ? t->gathered : NULL,
                             t->offsets, COMM_F64, &t->pending);
}

/* What keeps the others waiting is what a rank does before it comes to them: computing, and waiting for its
 * images. */
static double own_ms(const double *times) {
    return times[RANK_COMPUTE] + times[RANK_DATA];
}

struct slowest {
    int rank;
    double excess;    /* above the mean of the others, as a share of it */
    const char *what; /* which part of its time is further above */
};

static struct slowest find_slowest(const struct rank_times *t, int n_ranks) {
    double sums[RANK_N_TIMES] = {0};
    int slowest = 0;
    for (int r = 0; r < n_ranks; r++) {
        const double *times = t->gathered + r * RANK_N_TIMES;
        for (int i = 0; i < RANK_N_TIMES; i++) sums[i] += times[i];
        if (own_ms(times) > own_ms(t->gathered + slowest * RANK_N_TIMES)) slowest = r;
    }
    const double *its = t->gathered + slowest * RANK_N_TIMES, n_others = n_ranks - 1;
    const double compute = (sums[RANK_COMPUTE] - its[RANK_COMPUTE]) / n_others,
                 data = (sums[RANK_DATA] - its[RANK_DATA]) / n_others;
    return (struct slowest){.rank = slowest,
                            .excess = own_ms(its) / fmax(compute + data, 1e-6) - 1,
                            .what = its[RANK_DATA] - data > its[RANK_COMPUTE] - compute ? "data" : "compute"};
}

status_t rank_times_end(struct rank_times *t) {
    if (!t->under_way) return STATUS_OK;
    TRY(comm_wait(&t->pending));
    t->under_way = false;
    if (!t->run->writes) return STATUS_OK;
    t->ready = true;
    t->text[0] = '\0';
    const int n_ranks = comm_size(t->run->world);
    if (n_ranks == 1) return STATUS_OK;
    const struct slowest s = find_slowest(t, n_ranks);
    if (s.excess >= 0.05)
        snprintf(t->text, sizeof t->text, "slowest rank %d (%.60s) +%.0f%% %s", s.rank,
                 comm_hostname(t->run->world, s.rank), 100 * fmin(s.excess, 99), s.what);
    return STATUS_OK;
}

/* The peers that a rank serves: "convnext", or "convnext+swin". */
static void name_peers(const struct rank_times *t, int rank, char *out, size_t capacity) {
    size_t used = 0;
    out[0] = '\0';
    if (!t->of_peers) snprintf(out, capacity, "student");
    for (int32_t p = 0; t->of_peers && p < t->run->n_peers; p++)
        for (int i = 0; i < t->run->members[p].n_ranks; i++)
            if (t->run->members[p].ranks[i] == rank && used < capacity)
                used += (size_t)snprintf(out + used, capacity - used, "%s%s", used ? "+" : "",
                                         t->run->peers[p].settings->name);
}

static void put_description(struct rank_times *t, int n_ranks) {
    char peers[512];
    for (int r = 0; r < n_ranks; r++) {
        metrics_text_of(t->run->metrics, "ranks", "host", comm_hostname(t->run->world, r));
        name_peers(t, r, peers, sizeof peers);
        metrics_text_of(t->run->metrics, "ranks", "peer", peers);
    }
    t->described = true;
}

void rank_times_put(struct rank_times *t) {
    if (!t->ready) return;
    struct metrics *m = t->run->metrics;
    const int n_ranks = comm_size(t->run->world);
    t->ready = false;
    if (n_ranks > 1) {
        const struct slowest s = find_slowest(t, n_ranks);
        metrics_integer(m, "slowest_rank", s.rank);
        metrics_text(m, "slowest_host", comm_hostname(t->run->world, s.rank));
        metrics_text(m, "slowest_by", s.what);
        metrics_number(m, "slowest_excess", s.excess);
    }
    for (int i = 0; i < RANK_N_TIMES; i++)
        for (int r = 0; r < n_ranks; r++)
            metrics_number_of(m, "ranks", names[i],
                              round(1e3 * t->gathered[r * RANK_N_TIMES + i]) / 1e3); /* us are enough */
    if (!t->described) put_description(t, n_ranks);
}

const char *rank_times_text(const struct rank_times *t) {
    return t->text;
}
