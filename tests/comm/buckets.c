// Gradient buckets against serial sums: 1 KB and 100 MB buckets, whole and sharded, segments reported in any
// order, at several group sizes in one world. Gradients are small integers, so that every sum is exact. CASES
// np=1,2,3,4,8
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "comm/buckets.h"
#include "common/memory.h"

static struct comm *world;
static int rank, size;

#define N_SEGMENTS 23
#define STEPS      3

static struct bucket_segment segments[N_SEGMENTS];
static int64_t n_elem;

/* Lengths from 1 to some thousand, the last layer first in the list; the starts are aligned to 16 elements.
 */
static void lay_out(void) {
    n_elem = 0;
    for (int i = N_SEGMENTS - 1; i >= 0; i--) {
        segments[i] = (struct bucket_segment){.offset = n_elem,
                                              .n_elem = 1 + (int64_t)i * i * 13 % 997 * (i % 3 ? 1 : 9)};
        n_elem += (segments[i].n_elem + 15) / 16 * 16;
    }
}

static float gradient_of(int r, int64_t i, int step) {
    return (float)((i * 31 + r * 17 + step * 5) % 1009 - 504);
}

static float sum_of(int group_size, int64_t i, int step) {
    float sum = 0;
    for (int r = 0; r < group_size; r++) sum += gradient_of(r, i, step);
    return sum;
}

static void fill(float *gradients, int group_rank, int step) {
    memset(gradients, 0, (size_t)n_elem * sizeof *gradients);
    for (int s = 0; s < N_SEGMENTS; s++)
        for (int64_t i = segments[s].offset; i < segments[s].offset + segments[s].n_elem; i++)
            gradients[i] = gradient_of(group_rank, i, step);
}

static void compare(const float *gradients, const struct comm *group, struct interval shard, int step) {
    for (int s = 0; s < N_SEGMENTS; s++)
        for (int64_t i = segments[s].offset; i < segments[s].offset + segments[s].n_elem; i++)
            if (i >= shard.begin && i < shard.end && gradients[i] != sum_of(comm_size(group), i, step))
                fail_msg("rank %d of group %d, step %d, element %lld: %g", comm_rank(group), comm_size(group),
                         step, (long long)i, (double)gradients[i]);
}

/* Parameters after an update that only the owners made. */
static void gather(struct buckets *buckets, struct interval shard, int step) {
    float *parameters = memory_aligned((size_t)n_elem * sizeof *parameters);
    memset(parameters, 0xff, (size_t)n_elem * sizeof *parameters);
    for (int64_t i = shard.begin; i < shard.end; i++) parameters[i] = (float)(i + step);
    assert_ok(buckets_gather_parameters(buckets, parameters));
    for (int64_t i = 0; i < n_elem; i++)
        if (parameters[i] != (float)(i + step))
            fail_msg("parameter %lld is %g", (long long)i, (double)parameters[i]);
    free(parameters);
}

static void steps(struct comm *group, size_t bucket_bytes, bool sharded, int least_buckets,
                  int most_buckets) {
    float *gradients = memory_aligned((size_t)n_elem * sizeof *gradients);
    struct buckets *buckets;
    struct buckets_stats stats;
    const int group_rank = comm_rank(group);
    assert_ok(buckets_new(group, gradients, n_elem, segments, N_SEGMENTS, bucket_bytes, sharded, &buckets));
    assert_in_range(buckets_count(buckets), least_buckets, most_buckets);
    const struct interval shard = buckets_shard(buckets);
    for (int step = 0; step < STEPS; step++) {
        fill(gradients, group_rank, step);
        assert_ok(buckets_begin_step(buckets));
        /* every rank in an order of its own */
        const int stride = 1 + (group_rank + step) % 5; /* prime to N_SEGMENTS */
        for (int s = 0; s < N_SEGMENTS; s++) {
            assert_ok(buckets_ready(buckets, (s * stride + group_rank) % N_SEGMENTS));
            buckets_poke(buckets);
        }
        assert_ok(buckets_wait(buckets, &stats));
        compare(gradients, group, shard, step);
        gather(buckets, shard, step);
        assert_int_equal(stats.n_buckets, buckets_count(buckets));
        assert_true(comm_size(group) == 1 ? stats.n_bytes == 0 : stats.n_bytes > 0);
    }
    buckets_free(&buckets);
    free(gradients);
}

static void all_sizes(struct comm *group) {
    for (int sharded = 0; sharded < 2; sharded++) {
        steps(group, 100 << 20, sharded, 1, 1);
        steps(group, 16 << 10, sharded, 4, N_SEGMENTS - 1);
        steps(group, 1 << 10, sharded, 10, N_SEGMENTS);
        steps(group, 0, sharded, N_SEGMENTS, N_SEGMENTS);
    }
}

static void whole_world(void **state) {
    (void)state;
    all_sizes(world);
}

/* 5 : 3 of 8 ranks and the like, both groups at work at once. */
static void two_groups(void **state) {
    (void)state;
    int a[8], b[8], n_a = (size * 5 + 4) / 8, n_b = size - n_a;
    struct comm *groups[2];
    if (size == 1) n_a = n_b = 1;
    for (int i = 0; i < n_a; i++) a[i] = i;
    for (int i = 0; i < n_b; i++) b[i] = size == 1 ? 0 : n_a + i;
    const struct comm_membership peers[] = {{"a", a, n_a}, {"b", b, n_b}};
    assert_ok(comm_split(world, 2, peers, groups));
    for (int g = 0; g < 2; g++) {
        if (groups[g]) all_sizes(groups[g]);
        comm_free(&groups[g]);
    }
}

/* The same gradients that do not add up exactly: the same bits on all ranks and in every run. */
static void same_bits(void **state) {
    (void)state;
    const int64_t n = 50000;
    float *x = memory_aligned((size_t)n * sizeof *x), *first = memory_aligned((size_t)n * sizeof *x);
    struct buckets *buckets;
    struct bucket_segment halves[] = {{n / 2, n - n / 2}, {0, n / 2}};
    assert_ok(buckets_new(world, x, n, halves, 2, 1, false, &buckets));
    for (int run = 0; run < 20; run++) {
        for (int64_t i = 0; i < n; i++) x[i] = 1.0f / (float)(1 + (i * 7 + rank * 13) % 1000);
        assert_ok(buckets_begin_step(buckets));
        for (int k = 0; k < run * 1000 * (rank + 1); k++) __asm__ volatile(""); /* arrive at other moments */
        assert_ok(buckets_ready(buckets, 0));
        assert_ok(buckets_ready(buckets, 1));
        assert_ok(buckets_wait(buckets, NULL));
        if (run == 0) {
            memcpy(first, x, (size_t)n * sizeof *x);
            assert_ok(comm_broadcast(world, 0, first, n, COMM_F32));
        }
        assert_memory_equal(x, first, (size_t)n * sizeof *x);
    }
    buckets_free(&buckets);
    free(x);
    free(first);
}

static void misuse(void **state) {
    (void)state;
    float x[64] = {0};
    struct buckets *b;
    const struct bucket_segment outside[] = {{60, 8}}, overlapping[] = {{32, 32}, {0, 16}, {40, 2}};
    const struct bucket_segment good[] = {{32, 32}, {0, 32}};
    assert_fails(buckets_new(world, x, 64, outside, 1, 64, false, &b), STATUS_INTERNAL, "leaves the buffer");
    assert_fails(buckets_new(world, x, 64, overlapping, 3, 64, false, &b), STATUS_INTERNAL, "neighbours");
    assert_ok(buckets_new(world, x, 64, good, 2, 64, false, &b));
    assert_fails(buckets_ready(b, 0), STATUS_INTERNAL, "outside a step");
    assert_ok(buckets_begin_step(b));
    assert_fails(buckets_begin_step(b), STATUS_INTERNAL, "inside a step");
    assert_ok(buckets_ready(b, 0));
    assert_fails(buckets_ready(b, 0), STATUS_INTERNAL, "twice");
    assert_fails(buckets_wait(b, NULL), STATUS_INTERNAL, "1 of 2");
    assert_ok(buckets_ready(b, 1));
    assert_ok(buckets_wait(b, NULL));
    buckets_free(&b);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != STATUS_OK) return 1;
    rank = comm_rank(world);
    size = comm_size(world);
    lay_out();
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_world), cmocka_unit_test(two_groups),
                                       cmocka_unit_test(same_bits), cmocka_unit_test(misuse)};
    if (cmocka_run_group_tests(tests, NULL, NULL)) comm_abort(1);
    return comm_finish(&world) != STATUS_OK;
}
