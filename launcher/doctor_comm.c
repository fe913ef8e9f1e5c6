/* doctor: one all-reduce and one exchange between all ranks, timed, and every host's link to the first. */
#include "launcher/doctor.h"

#include "comm/exchange.h"
#include "common/clock.h"
#include "common/memory.h"

#include <stdlib.h>
#include <string.h>

enum { RUNS = 9, N_IMAGES = 64, LINK_BYTES = 1 << 20 };

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct work {
    struct comm *world;
    float *data;
    int64_t n; /* floats */
    struct exchange_plan *plan;
    struct pseudo_label *labels; /* [4 * N_IMAGES] */
};

static status_t reduce(struct work *w) {
    return comm_all_reduce(w->world, w->data, w->n, COMM_F32, COMM_SUM);
}

static status_t exchange(struct work *w) {
    const struct pseudo_label *send[2] = {w->labels, w->labels + N_IMAGES};
    struct pseudo_label *receive[4] = {NULL, w->labels + 2 * N_IMAGES, w->labels + 3 * N_IMAGES, NULL};
    struct exchange_request *request;
    TRY(exchange_begin(w->plan, send, receive, &request));
    return exchange_end(&request, NULL);
}

/* The slowest rank's median. Collective. */
static status_t median(struct work *w, status_t (*call)(struct work *), double *time_s) {
    double times[RUNS];
    TRY(call(w));
    for (int i = 0; i < RUNS; i++) {
        TRY(comm_barrier(w->world));
        const double begin_s = clock_now_s();
        TRY(call(w));
        times[i] = clock_now_s() - begin_s;
    }
    qsort(times, RUNS, sizeof *times, ascending);
    *time_s = times[RUNS / 2];
    return comm_all_reduce(w->world, time_s, 1, COMM_F64, COMM_MAX);
}

static status_t all_reduces(struct doctor *d, struct work *w) {
    const int n = comm_size(w->world);
    double small_s, large_s, sum = 0;
    for (int64_t i = 0; i < w->n; i++) w->data[i] = 1;
    TRY(reduce(w));
    for (int64_t i = 0; i < w->n; i++) sum += w->data[i];
    int64_t wrong = sum != (double)n * (double)w->n;
    TRY(comm_all_reduce(w->world, &wrong, 1, COMM_I64, COMM_SUM));
    memset(w->data, 0, (size_t)w->n * sizeof *w->data);
    TRY(median(w, reduce, &large_s));
    const int64_t n_large = w->n;
    w->n = 2;
    TRY(median(w, reduce, &small_s));
    w->n = n_large;
    const double bus_gb_s = 1e-9 * 4 * (double)n_large / large_s * 2 * (n - 1) / n;
    if (wrong)
        doctor_find(d, DOCTOR_ERROR,
                    "the network or its driver alters data: ask the site; try other OMPI_MCA_btl or UCX_TLS",
                    "all-reduce of %d ranks: the sum is wrong on %d", n, (int)wrong);
    else
        doctor_find(d, DOCTOR_OK, NULL,
                    "all-reduce of %d ranks: 8 B in %.1f us, 16 MiB in %.1f ms (busbw %.2f GB/s)", n,
                    1e6 * small_s, 1e3 * large_s, bus_gb_s);
    return STATUS_OK;
}

/* Two peers: the first half of the ranks (rounded up) and the rest. */
static status_t exchanges(struct doctor *d, struct work *w) {
    const int n = comm_size(w->world), half = (n + 1) / 2;
    double time_s;
    status_t status = STATUS_OK;
    int *ranks = memory_zeroed((size_t)n, sizeof *ranks);
    CHECK(ranks, STATUS_NO_MEMORY, "out of memory for %d ranks", n);
    for (int r = 0; r < n; r++) ranks[r] = r;
    const struct comm_membership peers[] = {{"a", ranks, half}, {"b", ranks + half, n - half}};
    TRY_TO(done, exchange_plan_new(w->world, 2, peers, N_IMAGES, &w->plan));
    TRY_TO(done, median(w, exchange, &time_s));
    if (time_s < 20e-3)
        doctor_find(d, DOCTOR_OK, NULL, "exchange of %d pseudo-labels between two groups: %.1f us", N_IMAGES,
                    1e6 * time_s);
    else
        doctor_find(
            d, DOCTOR_WARNING,
            "more ranks than cores that do not yield (OMPI_MCA_mpi_yield_when_idle=1), or a wrong interface "
            "(OMPI_MCA_btl_tcp_if_include)",
            "exchange of %d pseudo-labels takes %.1f ms; below 1 ms is usual", N_IMAGES, 1e3 * time_s);
done:
    free(ranks);
    return status;
}

/* Rank 0 and rank r of another host send each other 1 MiB; one host after the other. */
static status_t one_link(struct work *w, int r, double *gb_s) {
    double best_s = 1e9;
    const int rank = comm_rank(w->world);
    for (int i = 0; i < 12; i++) {
        TRY(comm_barrier(w->world));
        if (rank != 0 && rank != r) continue;
        struct comm_request *request;
        const int other = rank == 0 ? r : 0;
        const struct comm_transfer send = {other, w->data, LINK_BYTES};
        const struct comm_transfer receive = {other, (char *)w->data + LINK_BYTES, LINK_BYTES};
        const double begin_s = clock_now_s();
        TRY(comm_transfer_begin(w->world, &send, 1, &receive, 1, &request));
        TRY(comm_wait(&request));
        const double time_s = clock_now_s() - begin_s;
        if (time_s < best_s) best_s = time_s;
    }
    *gb_s = 1e-9 * LINK_BYTES / best_s;
    return STATUS_OK;
}

static status_t links(struct doctor *d, struct work *w) {
    double slowest = 1e9, fastest = 0;
    int slow_rank = -1;
    for (int r = 1, node = 0; r < comm_size(w->world); r++) {
        double gb_s;
        if (comm_node(w->world, r) <= node) continue;
        node = comm_node(w->world, r);
        TRY(one_link(w, r, &gb_s));
        TRY(comm_broadcast(w->world, 0, &gb_s, 1, COMM_F64)); /* all ranks decide alike */
        if (gb_s < slowest) slowest = gb_s, slow_rank = r;
        if (gb_s > fastest) fastest = gb_s;
    }
    if (slow_rank < 0) return STATUS_OK;
    for (int i = 0; i < 4 && fastest > 4 * slowest; i++) { /* a busy moment is no slow link */
        double gb_s;
        TRY(one_link(w, slow_rank, &gb_s));
        TRY(comm_broadcast(w->world, 0, &gb_s, 1, COMM_F64));
        if (gb_s > slowest) slowest = gb_s;
    }
    if (fastest > 4 * slowest)
        doctor_find(d, DOCTOR_WARNING, "leave this host out (srun --exclude), and tell the site",
                    "link %s - %s: %.3f GB/s each way, the fastest host has %.3f", comm_hostname(w->world, 0),
                    comm_hostname(w->world, slow_rank), slowest, fastest);
    else
        doctor_find(d, DOCTOR_OK, NULL,
                    "links of %s to the other hosts: %.3f to %.3f GB/s each way (slowest: %s)",
                    comm_hostname(w->world, 0), slowest, fastest, comm_hostname(w->world, slow_rank));
    return STATUS_OK;
}

status_t doctor_communicate(struct doctor *d) {
    struct work w = {.world = d->world, .n = (int64_t)4 << 20};
    status_t status = STATUS_OK;
    doctor_topic(d, "communication");
    if (comm_size(d->world) == 1) {
        doctor_note(d, "one rank: start under mpirun or srun as your runs will be, to try the network");
        return STATUS_OK;
    }
    w.data = memory_aligned((size_t)w.n * sizeof *w.data);
    w.labels = memory_zeroed(4 * N_IMAGES, sizeof *w.labels);
    CHECK_TO(done, w.data && w.labels, STATUS_NO_MEMORY, "doctor: no memory for messages of 16 MiB");
    TRY_TO(done, all_reduces(d, &w));
    TRY_TO(done, exchanges(d, &w));
    TRY_TO(done, links(d, &w));
done:
    exchange_plan_free(&w.plan);
    if (status == STATUS_OK) { /* else MPI may still use them */
        free(w.data);
        free(w.labels);
    }
    return status;
}
