// Rates equal torch's schedulers (tests/golden/schedule.tsv).
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
        assert_int_equal(
            sscanf(line, "%15s %d %lf %lf %d %d %lf", shape, &ramp, &gamma, &power, &steps, &step, &rate), 7);
        const struct schedule_settings schedule = {.name = !strcmp(shape, "cosine")    ? SCHEDULE_COSINE
                                                           : !strcmp(shape, "inverse") ? SCHEDULE_INVERSE
                                                                                       : SCHEDULE_CONSTANT,
                                                   .ramp = ramp,
                                                   .gamma = gamma,
                                                   .power = power};
        const double got = schedule_rate(&schedule, 0.02, step, steps);
        if (fabs(got - rate) > 1e-12) fail_msg("%s step %d: %.15g, torch %.15g", shape, step, got, rate);
        n++;
    }
    fclose(file);
    assert_true(n > 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rates_equal_torch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
