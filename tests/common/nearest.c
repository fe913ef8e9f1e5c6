// Edit distance and the nearest name: known distances, case, swaps, limits, long words.
#include <string.h>
#include "tests/support/test.h"
#include "common/nearest.h"

static void known_distances(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        int distance;
    } cases[] = {
        {"", "", 0},           {"", "abc", 3},      {"kitten", "sitting", 3}, {"steps", "setps", 1},
        {"STEPS", "steps", 0}, {"ca", "abc", 3},    {"flaw", "lawn", 2},      {"cotrian", "cotrain", 1},
        {"a", "b", 1},         {"abcd", "badc", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(nearest_distance(cases[i].a, cases[i].b), cases[i].distance);
        assert_int_equal(nearest_distance(cases[i].b, cases[i].a), cases[i].distance);
    }
}

static void only_near_words_count(void **state) {
    (void)state;
    struct nearest n = nearest_start("setps");
    nearest_offer(&n, "seed");
    assert_null(n.best);
    nearest_offer(&n, "stepS2");
    nearest_offer(&n, "steps");
    nearest_offer(&n, "stepx");
    assert_string_equal(n.best, "steps");
    n = nearest_start("x");
    nearest_offer(&n, "ab");
    assert_null(n.best);
    nearest_offer_as(&n, "y", "label");
    assert_string_equal(n.best, "label");
}

static void long_words_are_cut(void **state) {
    (void)state;
    char a[300], b[300];
    memset(a, 'a', sizeof a - 1), memset(b, 'a', sizeof b - 1);
    a[299] = b[299] = '\0';
    b[250] = 'b';
    assert_int_equal(nearest_distance(a, b), 0);
    b[3] = 'b';
    assert_int_equal(nearest_distance(a, b), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_distances),
                                       cmocka_unit_test(only_near_words_count),
                                       cmocka_unit_test(long_words_are_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
