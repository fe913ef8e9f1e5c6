/* The memory plan: tensors that live at the same time never overlap, nothing depends on what the arena held
 * before, the predicted bytes are the bytes asked for, steps ask for no memory, and recomputation saves some
 * without changing a result. */
#include "models/net_internal.h"
#include "models/ops/ref/ref.h"
#include "tests/support/small_net.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

static struct backend *backend;
static size_t allocated, n_allocations;

static status_t counting_alloc(struct backend *be, size_t n_bytes, void **out) {
    allocated += n_bytes;
    n_allocations++;
    return ops_ref.alloc(be, n_bytes, out);
}

static bool alive_together(const struct tensor *a, const struct tensor *b) {
    return a->begin <= b->end && b->begin <= a->end;
}

static void check_overlap(const struct program *p) {
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const struct tensor *a = &p->tensors[i];
        if (a->begin > a->end || a->n_bytes == 0) continue;
        assert_true(a->offset % TENSOR_ALIGNMENT == 0 && a->offset + a->n_bytes <= p->n_bytes);
        for (int32_t j = 0; j < i; j++) {
            const struct tensor *b = &p->tensors[j];
            if (b->begin > b->end || b->n_bytes == 0 || !alive_together(a, b)) continue;
            if (a->root == b->root) { /* in place: the one ends where the other begins */
                const bool follows = a->begin == b->end || b->begin == a->end || a->root == i || b->root == j;
                assert_true(follows);
                continue;
            }
            if (a->offset < b->offset + b->n_bytes && b->offset < a->offset + a->n_bytes)
                fail_msg("tensors %d and %d overlap", i, j);
        }
    }
}

static float *run(enum model_family family, enum pass_mode mode, bool recompute, int filling,
                  size_t *arena_bytes) {
    struct ops ops = ops_ref;
    ops.alloc = counting_alloc;
    struct model_spec spec = small_spec(family);
    spec.drop_path = family == MODEL_MOBILENETV2 ? 0 : 0.3f;
    struct net *net = small_net(&ops, backend, &spec);
    struct pass *first = small_pass(net, 2, mode, recompute); /* brings the gradients */
    allocated = 0;
    struct pass *pass = small_pass(net, 2, mode, recompute);
    assert_int_equal(allocated, pass_arena_bytes(pass));
    size_t predicted;
    const struct pass_options options = {
        .batch = 2, .height = SMALL_SIDE, .width = SMALL_SIDE, .mode = mode, .recompute = recompute};
    assert_ok(model_arena_bytes(&ops, backend, &spec, &options, DTYPE_F32, &predicted));
    assert_int_equal(allocated, predicted);
    *arena_bytes = allocated;
    check_overlap(&pass->program);
    memset(pass->arena, filling, allocated);
    small_batch(net, pass, 2, 0);
    n_allocations = 0;
    assert_ok(pass_forward(pass, &(struct forward_options){.update_statistics = true, .rng = {.seed = 3}}));
    float *out;
    if (mode == PASS_TRAIN) {
        assert_ok(pass_backward(pass, NULL, NULL));
        out = small_take_grads(net);
    } else {
        out = malloc(sizeof(float) * 2 * SMALL_CLASSES);
        memcpy(out, pass_logits(pass), sizeof(float) * 2 * SMALL_CLASSES);
    }
    assert_int_equal(n_allocations, 0);
    pass_free(pass);
    pass_free(first);
    net_free(net);
    return out;
}

static int64_t n_grads(enum model_family family) {
    struct model_spec spec = small_spec(family);
    struct net *net = small_net(&ops_ref, backend, &spec);
    const int64_t n = net_n_elem(net);
    net_free(net);
    return n;
}

static void check_family(enum model_family family) {
    size_t plain_bytes, recompute_bytes, infer_bytes, same;
    const size_t n_bytes = sizeof(float) * (size_t)n_grads(family);
    float *plain = run(family, PASS_TRAIN, false, 0, &plain_bytes),
          *nan = run(family, PASS_TRAIN, false, 0xff, &same);
    assert_int_equal(plain_bytes, same);
    assert_memory_equal(plain, nan, n_bytes);
    float *again = run(family, PASS_TRAIN, true, 0xff, &recompute_bytes);
    assert_memory_equal(plain, again, n_bytes);
    assert_true(recompute_bytes < plain_bytes);
    float *logits = run(family, PASS_INFER, false, 0, &infer_bytes),
          *logits_nan = run(family, PASS_INFER, false, 0xff, &same);
    assert_memory_equal(logits, logits_nan, sizeof(float) * 2 * SMALL_CLASSES);
    assert_true(infer_bytes < recompute_bytes);
    for (int i = 0; i < 2 * SMALL_CLASSES; i++) assert_true(logits[i] == logits[i] && logits[i] != 0);
    free(plain), free(nan), free(again), free(logits), free(logits_nan);
}

static void convnext(void **state) {
    (void)state, check_family(MODEL_CONVNEXT);
}
static void swin(void **state) {
    (void)state, check_family(MODEL_SWIN);
}
static void mobilenetv2(void **state) {
    (void)state, check_family(MODEL_MOBILENETV2);
}

/* Most bytes that live at one time: no plan can do with less. */
static size_t most_alive(const struct program *p, int32_t n_steps) {
    size_t bound = 0;
    for (int32_t s = 0; s < n_steps; s++) {
        size_t live = 0;
        for (int32_t i = 0; i < p->n_tensors; i++)
            if (p->tensors[i].root == i && p->tensors[i].begin <= s && s <= p->tensors[i].end)
                live += p->tensors[i].n_bytes;
        bound = live > bound ? live : bound;
    }
    return bound;
}

/* On real networks the plan needs no more than what lives at the worst moment (and rounding). */
static void real_plans(void **state) {
    (void)state;
    const char *const names[] = {"convnext_tiny", "swin_tiny", "mobilenet_v2"};
    for (int k = 0; k < 6; k++) {
        struct model_spec spec;
        int32_t side;
        assert_ok(model_spec_preset(names[k / 2], &spec, &side));
        const struct pass_options o = {
            .batch = 8, .height = side, .width = side, .mode = PASS_TRAIN, .recompute = k % 2 == 1};
        struct param_table table = {0};
        struct graph g;
        struct program p;
        assert_ok(graph_build(&g, &spec, &table, o.batch, side, side, DTYPE_F32, 0, false));
        assert_ok(program_build(&p, &g, &o, NULL, NULL));
        check_overlap(&p);
        assert_true((double)p.n_bytes <= 1.02 * (double)most_alive(&p, p.n_steps));
        program_free(&p);
        graph_free(&g);
        param_table_free(&table);
    }
}

/* The plan itself on random lifetimes: valid, and not far from the bound no plan can beat. */
static void random_plans(void **state) {
    (void)state;
    for (uint32_t trial = 0; trial < 50; trial++) {
        enum { N = 60 };
        struct program p = {.n_tensors = N, .tensors = calloc(N, sizeof(struct tensor))};
        struct rng rng = rng_start((struct rng_key){.purpose = RNG_TEST, .item = trial});
        for (int32_t i = 0; i < N; i++) {
            const int32_t begin = (int32_t)rng_below(&rng, 40);
            p.tensors[i] = (struct tensor){.n_bytes = rng_below(&rng, 5000),
                                           .begin = begin,
                                           .end = begin + (int32_t)rng_below(&rng, 12),
                                           .root = i};
        }
        assert_ok(plan_memory(p.tensors, N, &p.n_bytes));
        check_overlap(&p);
        const size_t bound = most_alive(&p, 60);
        assert_true(p.n_bytes >= bound && p.n_bytes <= 2 * bound);
        free(p.tensors);
    }
}

int main(void) {
    assert_ok(ref_backend_open(&backend));
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_plans), cmocka_unit_test(real_plans),
                                       cmocka_unit_test(convnext), cmocka_unit_test(swin),
                                       cmocka_unit_test(mobilenetv2)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ref_backend_close(backend);
    return failed;
}
