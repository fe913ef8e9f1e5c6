// Placement of peers on ranks: the documented 5 : 3, properties over many random machines, refusals with
// reasons.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "common/memory.h"
#include "common/rng.h"
#include "launcher/placement.h"

enum { MOST_RANKS = 4096 };

/* n_hosts equal hosts of per_host ranks, ranks numbered host by host. */
static struct placement_request machine(int n_hosts, int per_host, int *host) {
    for (int r = 0; r < n_hosts * per_host; r++) host[r] = r / per_host;
    return (struct placement_request){.n_ranks = n_hosts * per_host, .n_hosts = n_hosts, .host = host};
}

static void add_peer(struct placement_request *q, const char *name, double cost, int n_ranks) {
    q->peers[q->n_peers++] = (struct placement_peer){.name = name, .cost = cost, .n_ranks = n_ranks};
}

/* On how many hosts a group lies. */
static int n_hosts_of(const struct placement_request *q, const struct placement *p, int peer) {
    int n = 0, last = -1;
    char *seen = memory_zeroed((size_t)q->n_hosts, 1);
    for (int i = 0; i < p->group_size[peer]; i++) {
        last = q->host[p->group[peer][i]];
        n += !seen[last];
        seen[last] = 1;
    }
    free(seen);
    return n;
}

static void large_networks_5_to_3(void **state) {
    (void)state;
    int host[8];
    struct placement_request q = machine(1, 8, host);
    add_peer(&q, "convnext", 179.0e9, 0);
    add_peer(&q, "swin", 103.9e9, 0);
    struct placement p;
    assert_ok(placement_make(&q, &p));
    assert_int_equal(p.group_size[0], 5);
    assert_int_equal(p.group_size[1], 3);
    for (int i = 0; i < 5; i++) assert_int_equal(p.group[0][i], i);
    for (int i = 0; i < 3; i++) assert_int_equal(p.group[1][i], 5 + i);
    for (int r = 0; r < 8; r++) assert_int_equal(p.device[r], -1);
    assert_int_equal(placement_index(&p, 1, 6), 1);
    assert_int_equal(placement_index(&p, 0, 6), -1);
    placement_free(&p);
}

static void one_rank_serves_all(void **state) {
    (void)state;
    int host[2];
    for (int n = 1; n <= 2; n++) {
        struct placement_request q = machine(1, n, host);
        add_peer(&q, "a", 4, 0);
        add_peer(&q, "b", 3, 0);
        add_peer(&q, "c", 2, 0);
        struct placement p;
        assert_ok(placement_make(&q, &p));
        for (int i = 0; i < 3; i++) assert_int_equal(p.group_size[i], 1);
        assert_int_equal(p.group[0][0], 0); /* 4 | 3 + 2 is the even split */
        assert_int_equal(p.group[1][0], n - 1);
        assert_int_equal(p.group[2][0], n - 1);
        placement_free(&p);
    }
}

static void devices_follow_local_ranks(void **state) {
    (void)state;
    int host[8] = {0, 1, 0, 1, 0, 1, 1, 1}, n_devices[2] = {3, 5};
    struct placement_request q = {.n_ranks = 8, .n_hosts = 2, .host = host, .n_devices = n_devices};
    add_peer(&q, "a", 5, 0);
    add_peer(&q, "b", 3, 0);
    struct placement p;
    assert_ok(placement_make(&q, &p));
    const int want[8] = {0, 0, 1, 1, 2, 2, 3, 4};
    for (int r = 0; r < 8; r++) assert_int_equal(p.device[r], want[r]);
    assert_int_equal(n_hosts_of(&q, &p, 0), 1); /* 5 on the host of five, 3 on the host of three */
    assert_int_equal(n_hosts_of(&q, &p, 1), 1);
    placement_free(&p);
    n_devices[1] = 4;
    assert_fails(placement_make(&q, &p), STATUS_USAGE, "5 ranks but 4 GPUs");
    q.share_devices = true;
    assert_ok(placement_make(&q, &p));
    placement_free(&p);
}

static void impossible_requests_say_why(void **state) {
    (void)state;
    int host[8];
    struct placement p;
    struct placement_request q = machine(1, 4, host);
    add_peer(&q, "a", 1, 5);
    add_peer(&q, "b", 1, 0);
    assert_fails(placement_make(&q, &p), STATUS_USAGE, "want 5 ranks, but there are 4");
    q.peers[0].n_ranks = 4;
    assert_fails(placement_make(&q, &p), STATUS_USAGE, "leaves too few");
    q.peers[0].n_ranks = 1;
    q.peers[1].n_ranks = 2;
    assert_fails(placement_make(&q, &p), STATUS_USAGE, "1 ranks would serve no peer");
    q.peers[1].n_ranks = 3;
    assert_ok(placement_make(&q, &p));
    assert_int_equal(p.group_size[1], 3);
    placement_free(&p);
}

/* The most groups that fit hosts unsplit, by trying everything. */
static int most_whole(const int *sizes, int n_peers, int *n_free, int n_hosts) {
    if (n_peers == 0) return 0;
    int best = most_whole(sizes + 1, n_peers - 1, n_free, n_hosts);
    for (int h = 0; h < n_hosts; h++) {
        if (n_free[h] < sizes[0]) continue;
        n_free[h] -= sizes[0];
        const int n = 1 + most_whole(sizes + 1, n_peers - 1, n_free, n_hosts);
        n_free[h] += sizes[0];
        if (n > best) best = n;
    }
    return best;
}

static void check_partition(const struct placement_request *q, const struct placement *p) {
    int *served = memory_zeroed((size_t)q->n_ranks, sizeof *served);
    for (int i = 0; i < q->n_peers; i++) {
        if (q->peers[i].n_ranks > 0) assert_int_equal(p->group_size[i], q->peers[i].n_ranks);
        for (int k = 0; k < p->group_size[i]; k++) {
            served[p->group[i][k]]++;
            if (k > 0) assert_true(p->group[i][k - 1] < p->group[i][k]);
        }
    }
    for (int r = 0; r < q->n_ranks && q->n_ranks >= q->n_peers; r++) assert_int_equal(served[r], 1);
    free(served);
}

/* No rank moved from one `auto` peer to another makes the largest cost per rank smaller. */
static void check_balance(const struct placement_request *q, const struct placement *p) {
    double worst = 0;
    for (int i = 0; i < q->n_peers; i++)
        if (q->peers[i].n_ranks == 0 && q->peers[i].cost / p->group_size[i] > worst)
            worst = q->peers[i].cost / p->group_size[i];
    for (int i = 0; i < q->n_peers; i++) {
        if (q->peers[i].n_ranks > 0 || p->group_size[i] < 2) continue;
        assert_true(q->peers[i].cost / (p->group_size[i] - 1) >= worst * (1 - 1e-12));
    }
}

/* Uneven hosts, peers with random costs, some with a size of their own. */
static void random_machine(struct rng *rng, int most_ranks, int most_hosts, struct placement_request *q,
                           int *host) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    *q = (struct placement_request){.host = host};
    q->n_ranks = 1 + (int)rng_below(rng, (uint32_t)most_ranks);
    q->n_hosts = 1 + (int)rng_below(rng, (uint32_t)(q->n_ranks < most_hosts ? q->n_ranks : most_hosts));
    for (int r = 0; r < q->n_ranks; r++)
        host[r] = r < q->n_hosts ? r : (int)rng_below(rng, (uint32_t)q->n_hosts);
    const int n_peers = 1 + (int)rng_below(rng, 5);
    int n_left = q->n_ranks - n_peers;
    for (int i = 0; i < n_peers; i++) {
        const bool sized = n_left > 0 && i + 1 < n_peers && rng_below(rng, 4) == 0;
        const int n = sized ? 1 + (int)rng_below(rng, (uint32_t)(n_left < 9 ? n_left : 9)) : 0;
        n_left -= n > 0 ? n - 1 : 0;
        add_peer(q, names[i], 0.1 + 10 * rng_double(rng), n);
    }
}

static void random_machines_hold_the_properties(void **state) {
    (void)state;
    static int host[MOST_RANKS];
    struct rng rng = rng_start((struct rng_key){.seed = 11, .purpose = RNG_TEST});
    int n_split_needed = 0;
    for (int i = 0; i < 4000; i++) {
        struct placement_request q;
        struct placement p;
        random_machine(&rng, 24, 5, &q, host);
        assert_ok(placement_make(&q, &p));
        check_partition(&q, &p);
        if (q.n_ranks >= q.n_peers) {
            check_balance(&q, &p);
            int n_free[8] = {0}, n_whole = 0;
            for (int r = 0; r < q.n_ranks; r++) n_free[host[r]]++;
            for (int g = 0; g < q.n_peers; g++) n_whole += n_hosts_of(&q, &p, g) == 1;
            const int best = most_whole(p.group_size, q.n_peers, n_free, q.n_hosts);
            if (n_whole < best) fail_msg("case %d: %d groups whole, %d are possible", i, n_whole, best);
            n_split_needed += best < q.n_peers;
        }
        placement_free(&p);
    }
    assert_in_range(n_split_needed, 200, 3800); /* both kinds were tried */
}

static void thousands_of_ranks(void **state) {
    (void)state;
    static int host[MOST_RANKS];
    struct rng rng = rng_start((struct rng_key){.seed = 12, .purpose = RNG_TEST});
    for (int i = 0; i < 60; i++) {
        struct placement_request q;
        struct placement p;
        random_machine(&rng, MOST_RANKS, i % 2 ? 64 : MOST_RANKS, &q, host);
        assert_ok(placement_make(&q, &p));
        check_partition(&q, &p);
        if (q.n_ranks >= q.n_peers) check_balance(&q, &p);
        placement_free(&p);
    }
    struct placement_request q = machine(512, 8, host); /* exactly 4096: halves on whole hosts */
    add_peer(&q, "a", 1, 0);
    add_peer(&q, "b", 1, 0);
    struct placement p;
    assert_ok(placement_make(&q, &p));
    assert_int_equal(n_hosts_of(&q, &p, 0), 256);
    assert_int_equal(n_hosts_of(&q, &p, 1), 256);
    placement_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_networks_5_to_3),
        cmocka_unit_test(one_rank_serves_all),
        cmocka_unit_test(devices_follow_local_ranks),
        cmocka_unit_test(impossible_requests_say_why),
        cmocka_unit_test(random_machines_hold_the_properties),
        cmocka_unit_test(thousands_of_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
