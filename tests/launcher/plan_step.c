/* The model of a step against cases worked out by hand: links, one rank, two groups and who waits, buckets
 * hidden or exposed, shared cores, images that come late; more ranks, a faster link and a smaller batch never
 * cost time. */
#include "tests/support/test.h"

#include "launcher/plan_step.h"

#include <math.h>
#include <string.h>

static const struct links ethernet = {.intra = {1e-3, 1e6}, .inter = {2e-3, 1e5}};

static void check_near(double value, double want, int line) {
    if (!(fabs(value - want) <= 1e-9 + 1e-6 * fabs(want)))
        fail_msg("line %d: %.9g, not %.9g", line, value, want);
}
#define assert_near(value, want) check_near(value, want, __LINE__)

/* A network of 1 ms an image forward and 2 ms backward. */
static struct step_group group(const char *name, int n_ranks, const int *ranks, double n_own, double n_rest) {
    struct step_group g = {.name = name,
                           .n_ranks = n_ranks,
                           .ranks = ranks,
                           .n_own = n_own,
                           .n_rest = n_rest,
                           .exchanges = true,
                           .n_micro = 1,
                           .update_s = 5e-3};
    g.rate.n_points = 1;
    g.rate.points[0] = (struct rate_point){1, 1e-3, 2e-3};
    return g;
}

static struct step_machine machine(int n_ranks, int n_nodes, const int *node, double cores) {
    return (struct step_machine){.n_ranks = n_ranks,
                                 .n_nodes = n_nodes,
                                 .node = node,
                                 .cores = cores,
                                 .threads = 1,
                                 .workers = 1,
                                 .busy = 1,
                                 .n_ahead = 2,
                                 .links = {.intra = {0, 1e18}, .inter = {0, 1e18}}};
}

static void links_by_hand(void **state) {
    (void)state;
    const struct group_shape pair = {2, 1, 2}, apart = {2, 2, 1}, four = {4, 2, 2}, many = {40, 10, 4},
                             one = {1, 1, 1};
    /* 2 ranks of a node: two phases of 5000 bytes each, 5 ms of copying and 1 ms of latency */
    struct link_cost c = links_all_reduce(&ethernet, &pair, 10000);
    assert_near(c.own_s, 10e-3);
    assert_near(c.wire_s, 2e-3);
    assert_near(c.intra_bytes, 10000);
    /* on two nodes: 5000 bytes each way in each phase at 1e5 B/s */
    c = links_all_reduce(&ethernet, &apart, 10000);
    assert_near(c.own_s, 0);
    assert_near(c.wire_s, 2 * (2e-3 + 50e-3));
    assert_near(c.latency_s, 4e-3);
    assert_near(c.inter_bytes, 10000);
    /* up to 4 KiB whole, in one phase */
    assert_near(links_all_reduce(&ethernet, &apart, 1000).wire_s, 2e-3 + 10e-3);
    /* 2 + 2 ranks: a part of 2500 bytes to each of 3 others; 2 ranks * 2 away * 2500 through the node's link
     */
    c = links_all_reduce(&ethernet, &four, 10000);
    assert_near(c.inter_bytes, 2 * 10000);
    assert_near(c.wire_s, 2 * (2e-3 + 100e-3));
    assert_near(c.intra_bytes, 2 * 2500);
    /* above 32 ranks a ring: 2 * 39 steps, 2 * 39 / 40 of the bytes */
    c = links_all_reduce(&ethernet, &many, 40000);
    assert_near(c.wire_s, 2 * 39 * 2e-3 + 78000 / 1e5);
    assert_near(links_all_reduce(&ethernet, &one, 1e9).wire_s, 0);
    /* GPUs: latency within the node and log2(10) rounded up of them between nodes; the slower link's bytes */
    struct links gpus = ethernet;
    gpus.gpu = true;
    assert_near(links_all_reduce(&gpus, &many, 40000).wire_s, 1e-3 + 4 * 2e-3 + 78000 / 1e5);
    assert_near(links_all_reduce(&gpus, &pair, 40000).wire_s, 1e-3 + 40000 / 1e6);
    assert_near(links_reduce_to_owners(&ethernet, &apart, 10000).wire_s, 2e-3 + 50e-3);
    assert_near(links_all_gather(&ethernet, &apart, 10000).wire_s, 2e-3 + 50e-3);
    /* ZeRO-1 sends as much as an all-reduce: half of it as gradients, half as parameters */
    assert_near(links_reduce_to_owners(&ethernet, &apart, 1e5).inter_bytes +
                    links_all_gather(&ethernet, &apart, 1e5).inter_bytes,
                links_all_reduce(&ethernet, &apart, 1e5).inter_bytes);
}

static void buckets_queue_for_the_link(void **state) {
    (void)state;
    const struct link_rate link = {1e-3, 1e6};
    const double bytes[] = {10e3, 20e3, 5e3}, begin_s[] = {0, 5e-3, 100e-3};
    assert_near(links_buckets_s(&link, bytes, begin_s, 2), 30e-3 + 2e-3); /* the second waits for the first */
    assert_near(links_buckets_s(&link, bytes, begin_s, 3), 105e-3 + 2e-3);
    assert_near(links_rate_of_buckets(1e-3, bytes, begin_s, 2, 32e-3), 1e6);
    assert_near(links_rate_of_buckets(1e-3, bytes, begin_s, 3, 107e-3), 1e6);
}

static void one_rank_serves_both(void **state) {
    (void)state;
    const int node[] = {0}, ranks[] = {0};
    const struct step_machine m = machine(1, 1, node, 1);
    const struct step_group groups[] = {group("a", 1, ranks, 10, 20), group("b", 1, ranks, 10, 20)};
    struct step_result r;
    assert_ok(step_predict(&m, groups, 2, &r));
    assert_near(r.step_s, 2 * (30 * 3e-3 + 5e-3));
    assert_near(r.images, 60);
    assert_near(r.exchange_bytes, 0);
    assert_near(r.groups[0].exchange_s, 0);
}

/* The lighter group waits for the heavier one, and the step is the heavier one's. */
static void lighter_group_waits(void **state) {
    (void)state;
    const int node[] = {0, 0}, first[] = {0}, second[] = {1};
    const struct step_machine m = machine(2, 1, node, 2);
    struct step_group groups[] = {group("a", 1, first, 10, 20), group("b", 1, second, 10, 20)};
    groups[1].rate.points[0] = (struct rate_point){1, 2e-3, 3e-3};
    struct step_result r;
    assert_ok(step_predict(&m, groups, 2, &r));
    assert_near(r.step_s, 30 * 5e-3 + 5e-3);
    assert_near(r.groups[0].alone_s, 95e-3);
    assert_near(r.groups[1].alone_s, 155e-3);
    assert_near(r.groups[0].exchange_s, 60e-3);
    assert_near(r.groups[1].exchange_s, 0);
    assert_near(r.groups[0].compute_s, 95e-3);
    assert_near(r.exchange_bytes, 2 * 10 * 8);
}

/* Even groups hide a message behind the rest's forward (20 ms) and no more. */
static void exchange_hidden_then_exposed(void **state) {
    (void)state;
    const int node[] = {0, 1}, first[] = {0}, second[] = {1};
    struct step_machine m = machine(2, 2, node, 1);
    const struct step_group groups[] = {group("a", 1, first, 10, 20), group("b", 1, second, 10, 20)};
    struct step_result r;
    m.links.inter.latency_s = 19e-3;
    assert_ok(step_predict(&m, groups, 2, &r));
    assert_near(r.step_s, 95e-3);
    assert_near(r.groups[0].exchange_s, 0);
    m.links.inter.latency_s = 27e-3;
    assert_ok(step_predict(&m, groups, 2, &r));
    assert_near(r.step_s, 102e-3);
    assert_near(r.groups[0].exchange_s, 7e-3);
}

/* Backward of 15 rows on a rank: 30 ms, no own pass. The first bucket (half the backward done) needs 10 ms on
 * the wire and is hidden; of the last (40 ms) all is exposed. */
static void buckets_hidden_and_exposed(void **state) {
    (void)state;
    const int node[] = {0, 1}, ranks[] = {0, 1};
    const double bytes[] = {10000, 40000}, done[] = {0.5, 1};
    struct step_machine m = machine(2, 2, node, 1);
    struct step_group g = group("a", 2, ranks, 0, 30);
    struct step_result r;
    g.n_buckets = 2, g.bucket_bytes = bytes, g.bucket_done = done;
    m.links.inter = (struct link_rate){0, 1e6};
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 15 * 3e-3 + 40e-3 + 5e-3);
    assert_near(r.groups[0].reduce_s, 40e-3);
    assert_near(r.inter_bytes[0], 50000);
    /* ten times slower, the second waits for the first: 100 + 400 ms from the middle of backward on */
    m.links.inter.bytes_per_s = 1e5;
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 15e-3 + 15e-3 + 500e-3 + 5e-3);
    /* sharded: half as much in backward, the parameters after the update */
    g.sharded = true, g.n_param_bytes = 50000;
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 15e-3 + 15e-3 + 250e-3 + 5e-3 + 250e-3);
}

/* Within a node of CPUs the ranks themselves copy: nothing of that is hidden. */
static void copying_is_work(void **state) {
    (void)state;
    const int node[] = {0, 0}, ranks[] = {0, 1};
    const double bytes[] = {10000}, done[] = {0.1};
    struct step_machine m = machine(2, 1, node, 2);
    struct step_group g = group("a", 2, ranks, 0, 30);
    struct step_result r;
    g.n_buckets = 1, g.bucket_bytes = bytes, g.bucket_done = done;
    m.links.intra.bytes_per_s = 1e6;
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 45e-3 + 10e-3 + 5e-3);
    m.links.gpu = true; /* a GPU's copies run beside its kernels */
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 45e-3 + 5e-3);
}

static void shared_cores(void **state) {
    (void)state;
    const int node[] = {0, 0, 0, 0}, ranks[] = {0, 1, 2, 3};
    struct step_machine m = machine(4, 1, node, 2);
    struct step_group g = group("a", 4, ranks, 0, 40);
    struct step_result r;
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 2 * (10 * 3e-3 + 5e-3));
    m.cores = 4;
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 35e-3);
    m.busy = 1.2; /* all four at work: each slower by a fifth */
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 1.2 * 35e-3);
}

/* Three ranks' work on two cores: the two light ones on their own would take 35 ms, but the waiting rank
 * gives its core away, so the step is the work of all over the cores. */
static void waiting_gives_the_core_away(void **state) {
    (void)state;
    const int node[] = {0, 0, 0}, first[] = {0, 1}, second[] = {2};
    const struct step_machine m = machine(3, 1, node, 1);
    const struct step_group groups[] = {group("a", 2, first, 10, 10), group("b", 1, second, 10, 10)};
    struct step_result r;
    assert_ok(step_predict(&m, groups, 2, &r));
    assert_near(r.step_s, 2 * 35e-3 + 65e-3);
}

static void images_come_late(void **state) {
    (void)state;
    const int node[] = {0}, ranks[] = {0};
    struct step_machine m = machine(1, 1, node, 2);
    struct step_group g = group("a", 1, ranks, 0, 10);
    struct step_result r;
    g.rate.data_s = 3e-3; /* 30 ms for a step of 35 ms, on the other core */
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 35e-3);
    assert_near(r.groups[0].data_s, 0);
    g.rate.data_s = 5e-3;
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 50e-3);
    assert_near(r.groups[0].data_s, 15e-3);
    m.workers = 2; /* and a core each for them and the step */
    m.cores = 3;
    assert_ok(step_predict(&m, &g, 1, &r));
    assert_near(r.step_s, 35e-3);
}

static void micro_batches(void **state) {
    (void)state;
    const int node[] = {0, 1}, first[] = {0}, second[] = {1};
    const struct step_machine m = machine(2, 2, node, 1);
    struct step_group groups[] = {group("a", 1, first, 10, 20), group("b", 1, second, 10, 20)};
    struct step_result r;
    groups[0].n_micro = groups[1].n_micro = 3;
    assert_ok(step_predict(&m, groups, 2, &r));
    assert_near(r.step_s, 3 * 90e-3 + 5e-3);
    assert_near(r.images, 180);
    assert_near(r.exchange_bytes, 3 * 160);
}

static double with(int n_ranks, double link, double n_rest) {
    int node[256], ranks[256];
    for (int i = 0; i < 256; i++) node[i] = i / 4, ranks[i] = i;
    const double bytes[] = {1e5, 1e5}, done[] = {0.4, 1};
    struct step_machine m = machine(n_ranks, (n_ranks + 3) / 4, node, 4);
    struct step_group g = group("a", n_ranks, ranks, n_rest / 2, n_rest / 2);
    struct step_result r;
    g.n_buckets = 2, g.bucket_bytes = bytes, g.bucket_done = done;
    m.links.inter = (struct link_rate){1e-5, link};
    assert_ok(step_predict(&m, &g, 1, &r));
    return r.step_s;
}

static void monotone(void **state) {
    (void)state;
    for (int n = 1; n <= 128; n *= 2) {
        assert_true(with(2 * n, 1e12, 512) < with(n, 1e12, 512));
        for (double link = 1e5; link < 1e9; link *= 10)
            assert_true(with(n, 10 * link, 512) <= with(n, link, 512));
        for (double rest = 256; rest < 4096; rest *= 2)
            assert_true(with(n, 1e8, 2 * rest) > with(n, 1e8, rest));
    }
    /* above 64 ranks one stands for each group: no jump */
    assert_true(fabs(with(64, 1e9, 4096) / with(68, 1e9, 4096) - 68.0 / 64) < 0.15);
}

static void rates_between_points(void **state) {
    (void)state;
    struct network_rate r = {.n_points = 2, .points = {{10, 12e-3, 20e-3}, {20, 22e-3, 40e-3}}};
    assert_near(rate_forward_s(&r, 10), 12e-3);
    assert_near(rate_forward_s(&r, 15), 17e-3);
    assert_near(rate_forward_s(&r, 30), 32e-3);
    assert_near(rate_forward_s(&r, 5), 7e-3); /* a fixed part of 2 ms is seen */
    assert_near(rate_backward_s(&r, 5), 10e-3);
    assert_near(rate_forward_s(&r, 0), 0);
    r.points[1].forward_s = 11e-3; /* noise: time does not fall with work */
    assert_true(rate_forward_s(&r, 100) >= 11e-3);
    assert_true(rate_forward_s(&r, 1) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_by_hand),
        cmocka_unit_test(buckets_queue_for_the_link),
        cmocka_unit_test(one_rank_serves_both),
        cmocka_unit_test(lighter_group_waits),
        cmocka_unit_test(exchange_hidden_then_exposed),
        cmocka_unit_test(buckets_hidden_and_exposed),
        cmocka_unit_test(copying_is_work),
        cmocka_unit_test(shared_cores),
        cmocka_unit_test(waiting_gives_the_core_away),
        cmocka_unit_test(images_come_late),
        cmocka_unit_test(micro_batches),
        cmocka_unit_test(monotone),
        cmocka_unit_test(rates_between_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
