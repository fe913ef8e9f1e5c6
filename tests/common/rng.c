// Philox draws: known answers of Random123, independence of call order, bounds.
#include <string.h>
#include "tests/support/test.h"
#include "common/rng.h"

/* kat_vectors of Random123: philox4x32 10 rounds, all-zero counter and key. */
static void known_answer(void **state) {
    (void)state;
    const struct rng_key zero = {0};
    uint32_t out[4];
    rng_block(&zero, 0, out);
    const uint32_t want[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    assert_memory_equal(out, want, sizeof want);
}

static void every_field_matters(void **state) {
    (void)state;
    const struct rng_key base = {
        .seed = 7, .stage = 1, .peer = 1, .purpose = 1, .sub = 1, .step = 1, .item = 1};
    struct rng_key keys[8];
    for (int i = 0; i < 8; i++) keys[i] = base;
    keys[1].seed ^= 1ull << 40, keys[2].stage++, keys[3].peer++, keys[4].purpose++, keys[5].sub++;
    keys[6].step++, keys[7].item++;
    uint32_t words[8];
    for (int i = 0; i < 8; i++) {
        struct rng rng = rng_start(keys[i]);
        words[i] = rng_u32(&rng);
        for (int j = 0; j < i; j++) assert_int_not_equal(words[i], words[j]);
    }
}

static void below_is_uniform(void **state) {
    (void)state;
    struct rng rng = rng_start((struct rng_key){.seed = 3, .purpose = RNG_TEST});
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++) counts[rng_below(&rng, 7)]++;
    for (int i = 0; i < 7; i++) assert_in_range(counts[i], 9600, 10400); /* 4 standard deviations */
}

static void normal_has_its_moments(void **state) {
    (void)state;
    struct rng rng = rng_start((struct rng_key){.seed = 4, .purpose = RNG_TEST});
    double sum = 0, squares = 0;
    for (int i = 0; i < 100000; i++) {
        const double x = rng_normal(&rng);
        sum += x, squares += x * x;
    }
    assert_true(sum / 1e5 < 0.013 && sum / 1e5 > -0.013);
    assert_true(squares / 1e5 < 1.02 && squares / 1e5 > 0.98);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answer), cmocka_unit_test(every_field_matters),
                                       cmocka_unit_test(below_is_uniform),
                                       cmocka_unit_test(normal_has_its_moments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
