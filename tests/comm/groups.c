// Groups of any shape: ranks and sizes within them, sums that stay inside, a rank in several groups; and
// lists that differ between the ranks are found before anybody waits. CASES np=1,2,3,4,8
#include <stdio.h>
#include <string.h>
#include "tests/support/test.h"
#include "comm/comm.h"

static struct comm *world;
static int rank, size;

static void sums_stay_inside(void **state) {
    (void)state;
    int ranks[3][8], n[3] = {0, 0, 0};
    struct comm *groups[3];
    for (int r = 0; r < size; r++) {
        ranks[0][n[0]++] = r;                 /* all */
        if (r % 3 == 0) ranks[1][n[1]++] = r; /* some */
        if (r == size - 1) ranks[2][n[2]++] = r;
    }
    const struct comm_membership lists[] = {
        {"all", ranks[0], n[0]}, {"third", ranks[1], n[1]}, {"last", ranks[2], n[2]}};
    assert_ok(comm_split(world, 3, lists, groups));
    for (int g = 0; g < 3; g++) {
        int64_t sum = 0, mine = 1ll << (8 * (rank % 7));
        int place = -1;
        for (int i = 0; i < n[g]; i++) {
            sum += 1ll << (8 * (ranks[g][i] % 7));
            if (ranks[g][i] == rank) place = i;
        }
        if (place < 0) {
            assert_null(groups[g]);
            continue;
        }
        assert_int_equal(comm_rank(groups[g]), place);
        assert_int_equal(comm_size(groups[g]), n[g]);
        assert_string_equal(comm_name(groups[g]), lists[g].name);
        for (int i = 0; i < n[g]; i++) assert_int_equal(comm_world_rank(groups[g], i), ranks[g][i]);
        assert_ok(comm_all_reduce(groups[g], &mine, 1, COMM_I64, COMM_SUM));
        assert_true(mine == sum);
        assert_ok(comm_barrier(groups[g]));
    }
    for (int g = 2; g >= 0; g--) comm_free(&groups[g]);
    for (int g = 0; g < 3; g++) assert_null(groups[g]);
}

static void different_lists_are_found(void **state) {
    (void)state;
    int all[8];
    struct comm *groups[1];
    char words[32];
    if (size == 1) return;
    for (int r = 0; r < size; r++) all[r] = r;
    const int odd_one = size / 2;
    snprintf(words, sizeof words, "rank %d on ", odd_one);
    const struct comm_membership good = {"a", all, size}, shorter = {"a", all, size - 1},
                                 renamed = {"b", all, size};
    assert_fails(comm_split(world, 1, rank == odd_one ? &shorter : &good, groups), STATUS_INTERNAL, words);
    assert_fails(comm_split(world, 1, rank == odd_one ? &renamed : &good, groups), STATUS_INTERNAL, words);
    assert_fails(comm_split(world, rank == odd_one ? 0 : 1, &good, groups), STATUS_INTERNAL, words);
    assert_ok(comm_split(world, 1, &good, groups)); /* the world is as usable as before */
    comm_free(&groups[0]);
}

static void impossible_lists(void **state) {
    (void)state;
    struct comm *groups[1];
    const int outside[] = {size}, twice[] = {0, 0};
    const struct comm_membership a = {"a", outside, 1}, b = {"b", twice, 2}, c = {"c", twice, 0};
    assert_fails(comm_split(world, 1, &a, groups), STATUS_INTERNAL, "names rank");
    assert_fails(comm_split(world, 1, &b, groups), STATUS_INTERNAL, "do not ascend");
    assert_fails(comm_split(world, 1, &c, groups), STATUS_INTERNAL, "no ranks");
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != STATUS_OK) return 1;
    rank = comm_rank(world);
    size = comm_size(world);
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_stay_inside),
                                       cmocka_unit_test(different_lists_are_found),
                                       cmocka_unit_test(impossible_lists)};
    if (cmocka_run_group_tests(tests, NULL, NULL)) comm_abort(1);
    return comm_finish(&world) != STATUS_OK;
}
