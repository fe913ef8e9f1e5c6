/* Batch norm over a group: ranks with uneven shares of a batch, even none at all, compute together what one
 * rank computes alone: logits, running statistics, and gradients whose sum is the whole. Masked images take
 * no part. Ranks are threads here; the reduction adds up in a fixed order. */
#include "models/ops/ref/ref.h"
#include "tests/support/small_net.h"
#include "tests/support/test.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANKS = 3, MAX_SUMS = 4096 };

struct group {
    int n_ranks;
    pthread_barrier_t barrier;
    double sums[MAX_RANKS][MAX_SUMS];
};

struct rank {
    struct group *group;
    int rank;
    int32_t n, first;
    uint8_t *mask;
    struct net *net;
    float *logits, *grads;
    bool recompute;
    int n_reductions;
};

static status_t reduce(void *context, double *sums, int64_t n) {
    struct rank *r = context;
    struct group *g = r->group;
    assert_true(n <= MAX_SUMS);
    memcpy(g->sums[r->rank], sums, sizeof(double) * (size_t)n);
    pthread_barrier_wait(&g->barrier);
    for (int64_t i = 0; i < n; i++) {
        sums[i] = 0;
        for (int k = 0; k < g->n_ranks; k++) sums[i] += g->sums[k][i];
    }
    pthread_barrier_wait(&g->barrier);
    r->n_reductions++;
    return STATUS_OK;
}

static void *run_rank(void *context) {
    struct rank *r = context;
    struct pass *pass = small_pass(r->net, r->n, PASS_TRAIN, r->recompute);
    small_batch(r->net, pass, r->n, r->first);
    const struct forward_options options = {
        .update_statistics = true, .reduce = reduce, .reduce_context = r, .image_mask = r->mask};
    assert_ok(pass_forward(pass, &options));
    for (int32_t i = 0; i < r->n;
         i++) /* what a masked image contributes elsewhere is not batch norm's business */
        if (r->mask && !r->mask[i])
            memset(pass_dlogits(pass) + i * SMALL_CLASSES, 0, sizeof(float) * SMALL_CLASSES);
    assert_ok(pass_backward(pass, NULL, NULL));
    r->logits = malloc(sizeof(float) * (size_t)(r->n * SMALL_CLASSES + 1));
    memcpy(r->logits, pass_logits(pass), sizeof(float) * (size_t)(r->n * SMALL_CLASSES));
    r->grads = small_take_grads(r->net);
    pass_free(pass);
    return NULL;
}

/* Shares of the batch over ranks; mask of the whole batch or NULL. */
static void run_group(struct rank *ranks, int n_ranks, const int32_t *shares, uint8_t *mask, bool recompute) {
    static struct group group;
    pthread_t threads[MAX_RANKS];
    group.n_ranks = n_ranks;
    pthread_barrier_init(&group.barrier, NULL, (unsigned)n_ranks);
    int32_t first = 0;
    struct model_spec spec = small_spec(MODEL_MOBILENETV2);
    for (int k = 0; k < n_ranks; k++) {
        struct backend *be;
        assert_ok(ref_backend_open(&be));
        ranks[k] = (struct rank){.group = &group,
                                 .rank = k,
                                 .n = shares[k],
                                 .first = first,
                                 .mask = mask ? mask + first : NULL,
                                 .net = small_net(&ops_ref, be, &spec),
                                 .recompute = recompute};
        first += shares[k];
        assert_int_equal(pthread_create(&threads[k], NULL, run_rank, &ranks[k]), 0);
    }
    for (int k = 0; k < n_ranks; k++) pthread_join(threads[k], NULL);
    pthread_barrier_destroy(&group.barrier);
}

static void free_group(struct rank *ranks, int n_ranks) {
    for (int k = 0; k < n_ranks; k++) {
        struct backend *be = net_backend(ranks[k].net);
        net_free(ranks[k].net);
        ref_backend_close(be);
        free(ranks[k].logits);
        free(ranks[k].grads);
    }
}

static void assert_close(const char *what, const float *got, const float *want, int64_t n, double allowed) {
    double largest = 1e-6, error = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        error = fmax(error, fabs((double)got[i] - (double)want[i]));
    }
    if (!(error <= allowed * largest)) fail_msg("%s: error %g of %g", what, error, largest);
}

static void compare(int n_ranks, const int32_t *shares, uint8_t *mask, bool recompute) {
    struct rank alone[1], many[MAX_RANKS];
    const int32_t whole = 4;
    run_group(alone, 1, &whole, mask, false);
    run_group(many, n_ranks, shares, mask, recompute);
    const int64_t n = net_n_elem(alone->net);
    float *sum = calloc((size_t)n, sizeof(float));
    for (int k = 0; k < n_ranks; k++) {
        for (int64_t i = 0; i < n; i++) sum[i] += many[k].grads[i];
        assert_int_equal(many[k].n_reductions, alone->n_reductions);
        assert_close("buffers", net_buffers(many[k].net), net_buffers(alone->net),
                     net_n_buffer_elem(alone->net), 1e-5);
        for (int32_t i = 0; i < many[k].n; i++)
            if (!mask || many[k].mask[i])
                assert_close("logits", many[k].logits + i * SMALL_CLASSES,
                             alone->logits + (many[k].first + i) * SMALL_CLASSES, SMALL_CLASSES, 1e-4);
    }
    assert_close("gradients", sum, alone->grads, n, 1e-3);
    free(sum);
    free_group(alone, 1);
    free_group(many, n_ranks);
}

static void uneven(void **state) {
    (void)state, compare(2, (int32_t[]){1, 3}, NULL, false);
}
static void three_ranks(void **state) {
    (void)state, compare(3, (int32_t[]){2, 1, 1}, NULL, false);
}
static void empty_rank(void **state) {
    (void)state, compare(3, (int32_t[]){3, 0, 1}, NULL, false);
}
static void recomputed(void **state) {
    (void)state, compare(2, (int32_t[]){1, 3}, NULL, true);
}
static void masked(void **state) {
    (void)state, compare(2, (int32_t[]){1, 3}, (uint8_t[]){1, 0, 1, 1}, false);
}

/* Images that are masked change nothing: the same as if they were not in the batch. */
static void mask_is_absence(void **state) {
    (void)state;
    struct rank with[1], without[1];
    const int32_t four = 4, three = 3;
    run_group(with, 1, &four, (uint8_t[]){1, 1, 1, 0}, false);
    run_group(without, 1, &three, NULL, false);
    assert_close("buffers", net_buffers(with->net), net_buffers(without->net), net_n_buffer_elem(with->net),
                 1e-6);
    assert_close("gradients", with->grads, without->grads, net_n_elem(with->net), 1e-4);
    free_group(with, 1);
    free_group(without, 1);
}

/* Nobody has an image: running statistics stay, no gradient appears, nothing divides by zero. */
static void nobody(void **state) {
    (void)state;
    struct rank ranks[2];
    run_group(ranks, 2, (int32_t[]){0, 0}, NULL, false);
    struct model_spec spec = small_spec(MODEL_MOBILENETV2);
    struct net *fresh = small_net(&ops_ref, net_backend(ranks[0].net), &spec);
    const size_t n_bytes = sizeof(float) * (size_t)net_n_buffer_elem(fresh);
    assert_memory_equal(net_buffers(fresh), net_buffers(ranks[0].net), n_bytes);
    for (int64_t i = 0; i < net_n_elem(fresh); i++) assert_true(ranks[1].grads[i] == 0);
    net_free(fresh);
    free_group(ranks, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(uneven),     cmocka_unit_test(three_ranks),
                                       cmocka_unit_test(empty_rank), cmocka_unit_test(recomputed),
                                       cmocka_unit_test(masked),     cmocka_unit_test(mask_is_absence),
                                       cmocka_unit_test(nobody)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
