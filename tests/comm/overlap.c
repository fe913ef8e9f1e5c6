// Gradient buckets hide behind backward on a slow cable: with a poke each 0.2 ms the exposed wait is under 20
// % of the reduction; without any MPI call it is most of it, which shows that the cable is the bottleneck.
// Two hosts in network namespaces with 200 Mbit/s between them; skipped where these cannot be made.
// LIMIT 90
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/cluster.h"
#include "tests/support/test.h"
#include "comm/buckets.h"
#include "comm/exchange.h"
#include "common/clock.h"
#include "common/memory.h"

/* ---- as a rank
 * --------------------------------------------------------------------------------------------- */

enum { N_SEGMENTS = 64, SEGMENT = 32768, N_ELEM = N_SEGMENTS * SEGMENT }; /* 8 MiB, buckets of 512 KiB */

/* Stands for computing: no MPI call but a poke each 0.2 ms. It sleeps, to leave the two cores to the cable's
 * relay. */
static void compute(double time_s, struct buckets *poked) {
    const double begin_s = clock_now_s();
    if (!poked) {
        usleep((useconds_t)(time_s * 1e6));
        return;
    }
    while (clock_now_s() < begin_s + time_s) {
        usleep(200);
        buckets_poke(poked);
    }
}

/* One backward pass of compute_s; the segments become final evenly over it, or all at its begin where not
 * poked. */
static status_t step(struct comm *world, struct buckets *buckets, float *gradients, double compute_s,
                     bool poked, double *wait_s) {
    for (int i = 0; i < N_ELEM; i++) gradients[i] = (float)(i % 1000 + comm_rank(world));
    TRY(comm_barrier(world));
    TRY(buckets_begin_step(buckets));
    for (int s = 0; s < N_SEGMENTS; s++) {
        if (poked) compute(compute_s / N_SEGMENTS, buckets);
        TRY(buckets_ready(buckets, s));
    }
    if (!poked) compute(compute_s, NULL);
    const double waited_s = comm_waited_s(world, COMM_FOR_GRADIENTS);
    TRY(buckets_wait(buckets, NULL));
    *wait_s = comm_waited_s(world, COMM_FOR_GRADIENTS) - waited_s;
    for (int i = 0; i < N_ELEM; i += 997) {
        const struct interval shard = buckets_shard(buckets);
        CHECK(i < shard.begin || i >= shard.end || gradients[i] == (float)(i % 1000 * 2 + 1), STATUS_INTERNAL,
              "element %d is %g", i, (double)gradients[i]);
    }
    return STATUS_OK;
}

/* The best of a few steps, over both ranks: other work on the machine only ever adds to the times. */
static status_t best_step(struct comm *world, struct buckets *buckets, float *gradients, double compute_s,
                          bool poked, int n_tries, double enough_s, double *wait_s) {
    *wait_s = 1e9;
    for (int i = 0; i<n_tries && * wait_s> enough_s; i++) {
        double this_s;
        TRY(step(world, buckets, gradients, compute_s, poked, &this_s));
        TRY(comm_all_reduce(world, &this_s, 1, COMM_F64, COMM_MAX));
        if (this_s < *wait_s) *wait_s = this_s;
    }
    return STATUS_OK;
}

static status_t measure(struct comm *world, bool sharded) {
    struct bucket_segment segments[N_SEGMENTS];
    struct buckets *buckets;
    double reduction_s, deaf_s, poked_s;
    float *gradients = memory_aligned(N_ELEM * sizeof *gradients);
    for (int s = 0; s < N_SEGMENTS; s++)
        segments[s] =
            (struct bucket_segment){.offset = (int64_t)(N_SEGMENTS - 1 - s) * SEGMENT, .n_elem = SEGMENT};
    TRY(buckets_new(world, gradients, N_ELEM, segments, N_SEGMENTS, 512 << 10, sharded, &buckets));
    TRY(best_step(world, buckets, gradients, 0, false, 3, 0, &reduction_s));
    /* Between two ranks a sharded sum goes all one way in each half of the pass: half the cable. */
    const double compute_s = (sharded ? 3 : 1.5) * reduction_s;
    TRY(best_step(world, buckets, gradients, compute_s, false, 2, 0, &deaf_s));
    TRY(best_step(world, buckets, gradients, compute_s, true, 12, 0.15 * reduction_s, &poked_s));
    if (comm_rank(world) == 0)
        printf("RESULT %s reduction %.1f ms, wait without pokes %.1f ms, with %.1f ms\n",
               sharded ? "sharded" : "whole", 1e3 * reduction_s, 1e3 * deaf_s, 1e3 * poked_s);
    buckets_free(&buckets);
    free(gradients);
    return STATUS_OK;
}

static int as_rank(int argc, char **argv) {
    struct comm *world;
    if (comm_start(&argc, &argv, &world) != STATUS_OK) return 1;
    comm_set_deadline(world, 20);
    status_t status = measure(world, false);
    if (status == STATUS_OK) status = measure(world, true);
    if (status == STATUS_OK) status = comm_finish(&world);
    if (status == STATUS_OK) return 0;
    printf("%s\n", status_message());
    comm_abort(1);
}

/* ---- as the test
 * ------------------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    char words[1024], kind[16];
    double reduction, deaf, poked;
    int n_results = 0, bad = 0;
    if (argc > 1) return as_rank(argc, argv);
    if (!cluster_up("mov")) return 77;
    if (cluster("mov", "slow h2 rate=200")) {
        printf("no slow cable: %s\n", cluster_output);
        cluster("mov", "down");
        return 77;
    }
    snprintf(words, sizeof words, "%s -np 2 %s rank", cluster_mpirun(), argv[0]);
    const int code = cluster("mov", words);
    static char result[sizeof cluster_output];
    memcpy(result, cluster_output, sizeof result);
    cluster("mov", "down");
    for (const char *at = result; (at = strstr(at, "RESULT ")); at++, n_results++)
        if (sscanf(at, "RESULT %15s reduction %lf ms, wait without pokes %lf ms, with %lf ms", kind,
                   &reduction, &deaf, &poked) != 4 ||
            reduction < 100 || deaf < 0.5 * reduction || poked > 0.2 * reduction)
            bad = 1;
    if (code || bad || n_results != 2 || getenv("SHOW")) printf("exit code %d\n%s", code, result);
    return code || bad || n_results != 2;
}
