// Every collective on every type, with uneven parts and counts past one call's limit: each value is computed
// from the rank and the global index, and so is what must come out. CASES np=1,2,3,4,8
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "comm/comm.h"
#include "comm/comm_impl.h"
#include "common/memory.h"

static struct comm *world;
static int rank, size;

/* Small integers: exact in every type, also their sums over 8 ranks (bf16 holds integers up to 256). */
static int value_of(int r, int64_t i) {
    return (int)((i * 7 + r * 3) % 11) + r;
}

static int expected(enum comm_op op, int64_t i) {
    int result = value_of(0, i);
    for (int r = 1; r < size; r++) {
        const int v = value_of(r, i);
        result = op == COMM_SUM   ? result + v
                 : op == COMM_MAX ? (v > result ? v : result)
                 : v < result     ? v
                                  : result;
    }
    return result;
}

static void put(void *data, enum comm_type type, int64_t i, int value) {
    switch (type) {
    case COMM_U8:
        ((uint8_t *)data)[i] = (uint8_t)value;
        break;
    case COMM_I32:
        ((int32_t *)data)[i] = value;
        break;
    case COMM_I64:
        ((int64_t *)data)[i] = value;
        break;
    case COMM_U64:
        ((uint64_t *)data)[i] = (uint64_t)value;
        break;
    case COMM_F32:
        ((float *)data)[i] = (float)value;
        break;
    case COMM_F64:
        ((double *)data)[i] = value;
        break;
    case COMM_BF16: {
        const float f = (float)value;
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
    }
    }
}

/* Equal in the type's own bits, so that nothing is lost in a conversion back. */
static void check(const void *data, enum comm_type type, int64_t i, int value, const char *what) {
    uint64_t want = 0;
    put(&want, type, 0, value);
    const size_t width = comm_type_bytes(type);
    if (memcmp((const char *)data + (size_t)i * width, &want, width) != 0)
        fail_msg("rank %d, %s, type %d, element %lld is not %d", rank, what, (int)type, (long long)i, value);
}

static void fill(void *data, enum comm_type type, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) put(data, type, i, value_of(rank, i));
}

/* Parts of 0, 37, 148, ... elements and 5 more in the last. */
static int64_t uneven(int64_t *offsets) {
    offsets[0] = 0;
    for (int r = 0; r < size; r++)
        offsets[r + 1] = offsets[r] + (int64_t)r * r * 37 + (r == size - 1 ? 5 : 0);
    return offsets[size];
}

static void reductions(void **state) {
    (void)state;
    const int64_t n = 1000, counts[] = {0, 1, 999};
    char *data = memory_aligned((size_t)n * 8);
    for (int type = COMM_U8; type <= COMM_BF16; type++)
        for (int op = COMM_SUM; op <= COMM_MIN; op++)
            for (int c = 0; c < 3; c++) {
                struct comm_request *request;
                fill(data, type, 0, n);
                assert_ok(comm_all_reduce_begin(world, data, counts[c], type, op, &request));
                assert_ok(comm_wait(&request));
                assert_null(request);
                for (int64_t i = 0; i < n; i++)
                    check(data, type, i, i < counts[c] ? expected(op, i) : value_of(rank, i), "all_reduce");
                fill(data, type, 0, n);
                const int root = size - 1;
                assert_ok(comm_reduce_begin(world, root, data, counts[c], type, op, &request));
                assert_ok(comm_wait(&request));
                for (int64_t i = rank == root ? 0 : counts[c]; i < n; i++)
                    check(data, type, i, i < counts[c] ? expected(op, i) : value_of(rank, i), "reduce");
            }
    free(data);
}

static void uneven_parts(void **state) {
    (void)state;
    int64_t offsets[9];
    const int64_t n = uneven(offsets), begin = offsets[rank], end = offsets[rank + 1];
    char *data = memory_aligned((size_t)n * 8), *whole = memory_aligned((size_t)n * 8);
    for (int type = COMM_U8; type <= COMM_BF16; type++) {
        const size_t width = comm_type_bytes(type);
        fill(data, type, 0, n);
        assert_ok(comm_reduce_scatter(world, data, offsets, type, COMM_SUM));
        for (int64_t i = 0; i < n; i++)
            check(data, type, i, i >= begin && i < end ? expected(COMM_SUM, i) : value_of(rank, i),
                  "reduce_scatter");
        memset(data, 0x7f, (size_t)n * width);
        fill(data, type, begin, end);
        assert_ok(comm_all_gather(world, data, offsets, type));
        for (int r = 0; r < size; r++)
            for (int64_t i = offsets[r]; i < offsets[r + 1]; i++)
                check(data, type, i, value_of(r, i), "all_gather");
        fill(data, type, 0, n);
        for (int root = 0; root < size; root++) {
            memset(whole, 0x7f, (size_t)n * width);
            assert_ok(comm_gather(world, root, data + (size_t)begin * width, rank == root ? whole : NULL,
                                  offsets, type));
            for (int r = 0; rank == root && r < size; r++)
                for (int64_t i = offsets[r]; i < offsets[r + 1]; i++)
                    check(whole, type, i, value_of(r, i), "gather");
            assert_ok(comm_broadcast(world, root, data, n, type));
            for (int64_t i = 0; i < n; i++) check(data, type, i, value_of(root, i), "broadcast");
            fill(data, type, 0, n);
        }
    }
    free(data);
    free(whole);
}

/* With few elements a call the same must come out as with 2^31-1. */
static void large_counts(void **state) {
    world->family->max_count = 100;
    reductions(state);
    uneven_parts(state);
    world->family->max_count = INT32_MAX;
}

/* The way of large groups, through MPI's own reductions. */
static void large_groups(void **state) {
    world->family->max_direct = 0;
    reductions(state);
    uneven_parts(state);
    large_counts(state);
    world->family->max_direct = COMM_MAX_DIRECT;
}

/* Several under way at once, ended in another order. */
static void several_at_once(void **state) {
    (void)state;
    enum { N = 20000, K = 6 };
    struct comm_request *requests[K];
    float *data = memory_aligned(K * N * sizeof *data);
    for (int k = 0; k < K; k++) {
        fill(data + k * N, COMM_F32, 0, N);
        assert_ok(comm_all_reduce_begin(world, data + k * N, N, COMM_F32, k % 2 ? COMM_MAX : COMM_SUM,
                                        &requests[k]));
    }
    bool done = false;
    while (!done) {
        comm_poke(world);
        assert_ok(comm_test(&requests[K - 1], &done));
    }
    for (int k = 0; k < K; k++) assert_ok(comm_wait(&requests[k]));
    for (int k = 0; k < K; k++)
        for (int64_t i = 0; i < N; i++)
            check(data + k * N, COMM_F32, i, expected(k % 2 ? COMM_MAX : COMM_SUM, i), "several");
    free(data);
}

static void small_ones(void **state) {
    (void)state;
    bool any = true;
    assert_ok(comm_any(world, false, &any));
    assert_false(any);
    assert_ok(comm_any(world, rank == size - 1, &any));
    assert_true(any);
    assert_ok(comm_barrier(world));
    char text[32], *whole = NULL;
    int64_t offsets[9] = {0};
    const int n = snprintf(text, sizeof text, "%.*s%d", rank, "aaaaaaaaa", rank);
    assert_ok(comm_gather_bytes(world, 0, text, n, rank ? NULL : &whole, rank ? NULL : offsets));
    for (int r = 0; rank == 0 && r < size; r++) {
        const int length = snprintf(text, sizeof text, "%.*s%d", r, "aaaaaaaaa", r);
        assert_int_equal(offsets[r + 1] - offsets[r], length);
        assert_memory_equal(whole + offsets[r], text, (size_t)length);
    }
    free(whole);
}

/* Wrong arguments are refused before anything is begun. */
static void wrong_arguments(void **state) {
    (void)state;
    float x = 0;
    struct comm_request *request;
    const int64_t falling[9] = {0, 2, 1, 1, 1, 1, 1, 1, 1};
    assert_fails(comm_broadcast_begin(world, size, &x, 1, COMM_F32, &request), STATUS_INTERNAL, "root");
    assert_fails(comm_all_reduce_begin(world, &x, -1, COMM_F32, COMM_SUM, &request), STATUS_INTERNAL,
                 "negative");
    if (size > 1)
        assert_fails(comm_all_gather_begin(world, &x, falling, COMM_F32, &request), STATUS_INTERNAL,
                     "fall at part 1");
}

static void who_is_there(void **state) {
    (void)state;
    assert_string_equal(comm_name(world), "world");
    assert_int_equal(comm_local_size(world), size); /* tests run on one host */
    assert_int_equal(comm_local_rank(world), rank);
    for (int r = 0; r < size; r++) {
        assert_int_equal(comm_node(world, r), 0);
        assert_string_equal(comm_hostname(world, r), comm_hostname(world, 0));
        assert_int_equal(comm_world_rank(world, r), r);
    }
    assert_non_null(strstr(comm_library(), "(MPI "));
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != STATUS_OK) return 1;
    rank = comm_rank(world);
    size = comm_size(world);
    const struct CMUnitTest tests[] = {cmocka_unit_test(reductions),      cmocka_unit_test(uneven_parts),
                                       cmocka_unit_test(large_counts),    cmocka_unit_test(several_at_once),
                                       cmocka_unit_test(large_groups),    cmocka_unit_test(small_ones),
                                       cmocka_unit_test(wrong_arguments), cmocka_unit_test(who_is_there)};
    if (cmocka_run_group_tests(tests, NULL, NULL))
        comm_abort(1); /* the others wait for what this rank does no more */
    return comm_finish(&world) != STATUS_OK;
}
