// Rates equal torch's schedulers (tests/golden/schedule.tsv); thresholds serve equal parts of the steps.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "tests/support/test.h"
#include "training/schedule.h"

static void rates_equal_torch(void **state) {
    (void)state;
    FILE *file = fopen("tests/golden/schedule.tsv", "r");
    assert_non_null(file);
    char line[256], shape[16];
    assert_non_null(fgets(line, sizeof line, file));
    int n = 0;
    while (fgets(line, sizeof line, file)) {
        double gamma, power, rate;
        int ramp, steps, step;
        assert_int_equal(sscanf(line, "%15s %d %lf %lf %d %d %lf", shape, &ramp, &gamma, &power, &steps, &step, &rate), 7);
        const struct schedule_settings schedule = {
            .name = !strcmp(shape, "cosine") ? SCHEDULE_COSINE : !strcmp(shape, "inverse") ? SCHEDULE_INVERSE : SCHEDULE_CONSTANT,
            .ramp = ramp, .gamma = gamma, .power = power};
        const double got = schedule_rate(&schedule, 0.02, step, steps);
        if (fabs(got - rate) > 1e-12) fail_msg("%s step %d: %.15g, torch %.15g", shape, step, got, rate);
        n++;
    }
    fclose(file);
    assert_true(n > 60);
}

static void thresholds(void **state) {
    (void)state;
    const struct number_list tau = {.n = 3, .items = {0.9, 0.8, 0.7}};
    static const struct {
        int64_t step, n_steps;
        double tau;
    } cases[] = {{0, 30, 0.9}, {9, 30, 0.9}, {10, 30, 0.8}, {19, 30, 0.8}, {20, 30, 0.7}, {29, 30, 0.7}, {30, 30, 0.7},
                 {3, 10, 0.9}, {4, 10, 0.8}, {6, 10, 0.8}, {7, 10, 0.7}, {0, 1, 0.9}, {1, 2, 0.8}, {0, 0, 0.9}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(schedule_threshold(&tau, cases[i].step, cases[i].n_steps) == cases[i].tau);
    const struct number_list one = {.n = 1, .items = {0.95}};
    assert_true(schedule_threshold(&one, 17, 20) == 0.95);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rates_equal_torch), cmocka_unit_test(thresholds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
