// The exchange between two and three peers of any group sizes: every label received is computed from peer,
// image and round. The layouts: one rank a peer, 5 : 3, 1 : 7, interleaved ranks, ranks that serve several
// peers or none. CASES np=1,2,3,4,8
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "comm/exchange.h"
#include "common/memory.h"

#define MAX_PEERS 3

static struct comm *world;
static int rank, size;

static struct pseudo_label label_of(int peer, int64_t image, int round) {
    return (struct pseudo_label){.label = (int32_t)(image * 3 + peer * 1000 + round * 100000),
                                 .confidence = (float)(image + 1) / (float)(peer + 2 + round)};
}

struct buffers {
    struct pseudo_label *send[MAX_PEERS], *receive[MAX_PEERS * MAX_PEERS];
};

static void allocate(const struct exchange_plan *plan, int n_peers, int round, struct buffers *b) {
    memset(b, 0, sizeof *b);
    for (int p = 0; p < n_peers; p++) {
        const struct interval own = exchange_interval(plan, p);
        const size_t n = (size_t)interval_length(own);
        if (n == 0) continue;
        b->send[p] = memory_aligned(n * sizeof *b->send[p]);
        for (size_t i = 0; i < n; i++) b->send[p][i] = label_of(p, own.begin + (int64_t)i, round);
        for (int q = 0; q < n_peers; q++) {
            if (q == p) continue;
            b->receive[p * n_peers + q] = memory_aligned(n * sizeof *b->send[p]);
            memset(b->receive[p * n_peers + q], 0xee, n * sizeof *b->send[p]);
        }
    }
}

static void compare_and_free(const struct exchange_plan *plan, int n_peers, int round, struct buffers *b) {
    for (int p = 0; p < n_peers; p++) {
        const struct interval own = exchange_interval(plan, p);
        for (int q = 0; q < n_peers; q++) {
            const struct pseudo_label *got = b->receive[p * n_peers + q];
            for (int64_t i = own.begin; got && i < own.end; i++) {
                const struct pseudo_label want = label_of(q, i, round);
                if (got[i - own.begin].label != want.label ||
                    got[i - own.begin].confidence != want.confidence)
                    fail_msg("rank %d, peer %d from %d, image %lld: label %d", rank, p, q, (long long)i,
                             got[i - own.begin].label);
            }
            free(b->receive[p * n_peers + q]);
        }
        free(b->send[p]);
    }
}

/* Two exchanges under way at once, then one more with the same plan. */
static void run(int n_peers, const struct comm_membership *peers, int64_t n_images) {
    struct exchange_plan *plan;
    struct exchange_request *requests[2];
    struct exchange_stats stats;
    struct buffers b[3];
    assert_ok(exchange_plan_new(world, n_peers, peers, n_images, &plan));
    for (int round = 0; round < 3; round++) allocate(plan, n_peers, round, &b[round]);
    for (int round = 0; round < 2; round++)
        assert_ok(exchange_begin(plan, (const struct pseudo_label *const *)b[round].send, b[round].receive,
                                 &requests[round]));
    for (int round = 0; round < 2; round++) assert_ok(exchange_end(&requests[round], NULL));
    assert_ok(
        exchange_begin(plan, (const struct pseudo_label *const *)b[2].send, b[2].receive, &requests[0]));
    assert_ok(exchange_end(&requests[0], &stats));
    assert_null(requests[0]);
    for (int round = 0; round < 3; round++) compare_and_free(plan, n_peers, round, &b[round]);
    /* all bytes sent are received, and only what has to travel does */
    int64_t bytes[3] = {stats.n_bytes_sent, stats.n_bytes_received, 0};
    for (int p = 0; p < n_peers; p++)
        bytes[2] += interval_length(exchange_interval(plan, p)) * 8 * (n_peers - 1);
    assert_true(stats.n_bytes_sent <= bytes[2]);
    assert_ok(comm_all_reduce(world, bytes, 3, COMM_I64, COMM_SUM));
    assert_true(bytes[0] == bytes[1] && bytes[2] == n_images * 8 * n_peers * (n_peers - 1));
    if (size == 1) assert_true(bytes[0] == 0);
    exchange_plan_free(&plan);
}

static struct comm_membership range(const char *name, int *ranks, int begin, int end) {
    for (int i = begin; i < end; i++) ranks[i - begin] = i;
    return (struct comm_membership){.name = name, .ranks = ranks, .n_ranks = end - begin};
}

static const int64_t image_counts[] = {0, 1, 7, 8, 64, 1001};
#define EACH_COUNT(call)                                                                                     \
    for (size_t each = 0; each < ARRAY_LENGTH(image_counts); each++) {                                       \
        const int64_t n_images = image_counts[each];                                                         \
        call;                                                                                                \
    }

static void two_peers_at_every_cut(void **state) {
    (void)state;
    int a[8], b[8];
    for (int cut = 1; cut < size; cut++) {
        const struct comm_membership peers[] = {range("a", a, 0, cut), range("b", b, cut, size)};
        EACH_COUNT(run(2, peers, n_images));
    }
}

static void both_peers_in_every_rank(void **state) {
    (void)state;
    int a[8], b[8];
    const struct comm_membership peers[] = {range("a", a, 0, size), range("b", b, 0, size)};
    EACH_COUNT(run(2, peers, n_images));
}

static void overlapping_groups(void **state) {
    (void)state;
    int a[8], b[8];
    const struct comm_membership peers[] = {range("a", a, 0, (size + 2) / 2), range("b", b, size / 2, size)};
    EACH_COUNT(run(2, peers, n_images));
}

static void three_peers(void **state) {
    (void)state;
    int a[8], b[8], c[8] = {0};
    const int n = size >= 3 ? size : 3; /* with fewer ranks than peers, rank 0 serves two */
    struct comm_membership peers[] = {range("a", a, 0, n / 3), range("b", b, n / 3, n - 1), {"c", c, 1}};
    for (int i = 0; i < peers[1].n_ranks && size < 3; i++) b[i] = size - 1;
    c[0] = size - 1;
    EACH_COUNT(run(3, peers, n_images));
}

static void even_and_odd_ranks(void **state) {
    (void)state;
    int even[4], odd[4], n_even = 0, n_odd = 0;
    for (int r = 0; r < size; r++) *(r % 2 ? &odd[n_odd++] : &even[n_even++]) = r;
    if (size == 1) return;
    const struct comm_membership peers[] = {{"even", even, n_even}, {"odd", odd, n_odd}};
    EACH_COUNT(run(2, peers, n_images));
}

/* The last rank serves no peer at all. */
static void idle_rank(void **state) {
    (void)state;
    int a[8], b[8];
    if (size < 3) return;
    const struct comm_membership peers[] = {range("a", a, 0, 1), range("b", b, 1, size - 1)};
    EACH_COUNT(run(2, peers, n_images));
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != STATUS_OK) return 1;
    rank = comm_rank(world);
    size = comm_size(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_peers_at_every_cut), cmocka_unit_test(both_peers_in_every_rank),
        cmocka_unit_test(overlapping_groups),     cmocka_unit_test(three_peers),
        cmocka_unit_test(even_and_odd_ranks),     cmocka_unit_test(idle_rank)};
    if (cmocka_run_group_tests(tests, NULL, NULL)) comm_abort(1);
    return comm_finish(&world) != STATUS_OK;
}
