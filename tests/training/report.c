// The parts of a report: lines of metrics, reduction to columns, escaping, and the choice of samples.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "training/report_data.h"
#include "training/report_samples.h"
#include "training/report_svg.h"

static bool add(struct report_data *d, const char *line) {
    return report_data_add_line(d, line, strlen(line));
}

static void lines_become_series(void **state) {
    (void)state;
    struct report_data d = {.cotrain_begins = NAN};
    assert_true(add(
        &d,
        "{\"stage\":\"cotrain\",\"step\":0,\"phase\":\"warmup\",\"a\":{\"loss\":2},\"images_per_s\":10}"));
    assert_true(add(&d, "{\"stage\":\"cotrain\",\"step\":1,\"phase\":\"cotrain\",\"a\":{\"loss\":null},"
                        "\"images_per_s\":30}"));
    assert_true(add(&d, "{\"stage\":\"cotrain\",\"step\":2,\"phase\":\"cotrain\",\"a\":{\"loss\":1e300},"
                        "\"images_per_s\":20}"));
    assert_false(add(&d, "{\"stage\":\"cotrain\",\"step\":3,\"a\""));
    assert_false(add(&d, "{\"stage\":\"cotrain\"}"));
    assert_false(add(&d, "{\"stage\":{},\"step\":3}"));
    assert_false(add(&d, "7"));
    assert_int_equal(d.n_records, 3);
    assert_true(d.cotrain_begins == 1);
    const struct report_series *loss = report_data_find(&d, "cotrain", "a", "loss");
    assert_non_null(loss);
    assert_int_equal(loss->n, 3);
    assert_true(loss->value[0] == 2 && isnan(loss->value[1]) && isnan(loss->value[2]) && loss->step[2] == 2);
    assert_true(report_series_median(report_data_find(&d, "cotrain", "", "images_per_s")) == 20);
    assert_null(report_data_find(&d, "distil", "a", "loss"));
    assert_true(report_data_has_stage(&d, "cotrain") && !report_data_has_stage(&d, "distil"));
    report_data_free(&d);
}

#define RANKS(step, extra, a, b, c)                                                                          \
    "{\"stage\":\"distil\",\"step\":" step "," extra "\"ranks\":{\"compute_ms\":" a ",\"data_ms\":" b        \
    ",\"exchange_ms\":[0,0,0],\"reduce_ms\":" c "}}"

static void ranks_are_ordered(void **state) {
    (void)state;
    struct report_data d = {.cotrain_begins = NAN};
    size_t order[2];
    assert_true(
        add(&d, RANKS("0", "\"slowest_rank\":1,\"slowest_by\":\"data\",", "[1,1,2]", "[0,8,0]", "[8,0,7]")));
    const struct report_ranks *r = report_data_ranks(&d, "distil");
    assert_non_null(r);
    assert_int_equal(r->n_ranks, 3);
    assert_int_equal(r->slowest, 1);
    assert_string_equal(r->slowest_by, "data");
    assert_true(add(&d, RANKS("1", "\"slowest_rank\":2,", "[1,1,4]", "[0,0,0]", "[8,0,7]")));
    assert_int_equal(report_ranks_order(r, false, order, 2), 2);
    assert_true(order[0] == 1 && order[1] == 2);
    assert_int_equal(report_ranks_order(r, true, order, 2), 2);
    assert_true(order[0] == 2 && order[1] == 0);
    assert_true(r->ranks[1].sum[1] == 8 && r->ranks[1].n_slowest == 1 && r->n_records == 2);
    /* damaged: left out as a whole */
    assert_true(add(&d, RANKS("2", "", "[1,1,4]", "[0,0]", "[8,0,7]")));
    assert_true(add(&d, RANKS("3", "", "[1,1,-4]", "[0,0,0]", "[8,0,7]")));
    assert_true(add(&d, RANKS("4", "", "[1,1,\"x\"]", "[0,0,0]", "[8,0,7]")));
    assert_int_equal(r->n_records, 2);
    /* out of range: no rank is named */
    assert_true(add(&d, RANKS("5", "\"slowest_rank\":3,", "[1,1,4]", "[0,0,0]", "[8,0,7]")));
    assert_int_equal(r->slowest, -1);
    assert_int_equal(r->n_records, 3);
    report_data_free(&d);
}

/* 1000 values that equal their step: the mean of a column is its mean step, its extent the steps at its ends.
 */
static void long_series_keep_mean_and_extent(void **state) {
    (void)state;
    enum { N = 1000 };
    static double step[N], value[N];
    for (int i = 0; i < N; i++) step[i] = value[i] = i;
    value[500] = NAN;
    const struct report_series s = {.n = N, .step = step, .value = value};
    struct svg_column columns[SVG_COLUMNS];
    const size_t n = svg_columns(&s, 0, N - 1, columns);
    assert_int_equal(n, SVG_COLUMNS);
    double next = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(fabs(columns[i].mean - columns[i].step) < 1e-9);
        assert_true(columns[i].low == next);
        assert_true(columns[i].low <= columns[i].mean && columns[i].mean <= columns[i].high);
        next = columns[i].high + 1;
        if (next == 500) next = 501;
    }
    assert_true(next == N);
    const struct report_series few = {.n = 3, .step = step, .value = (double[]){5, NAN, 7}};
    assert_int_equal(svg_columns(&few, 0, 2, columns), 3);
    assert_true(columns[0].mean == 5 && isnan(columns[1].mean) && columns[2].high == 7);
}

static void expect_text(const char *in, const char *want) {
    char *text;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    html_text(out, in);
    fclose(out);
    assert_string_equal(text, want);
    free(text);
}

static void text_is_escaped(void **state) {
    (void)state;
    expect_text("a<b>&\"c'", "a&lt;b&gt;&amp;&quot;c&#39;");
    expect_text("\xc3\xa9t\xc3\xa9 \xf0\x9f\x98\x80", "\xc3\xa9t\xc3\xa9 \xf0\x9f\x98\x80");
    expect_text("\xc3", "\xef\xbf\xbd");
    expect_text("a\xff\x01z", "a\xef\xbf\xbd\xef\xbf\xbdz");
    expect_text("\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd");
}

static void samples_are_spread(void **state) {
    (void)state;
    uint8_t flag[100];
    size_t rows[12];
    for (size_t i = 0; i < 100; i++) flag[i] = i % 10 == 3;
    assert_int_equal(report_samples_choose(flag, 100, 1, 12, rows), 10);
    for (size_t i = 0; i < 10; i++) assert_int_equal(rows[i], 10 * i + 3);
    assert_int_equal(report_samples_choose(flag, 100, 1, 5, rows), 5);
    for (size_t i = 0; i < 5; i++) assert_int_equal(rows[i], 20 * i + 13);
    assert_int_equal(report_samples_choose(flag, 100, 0, 12, rows), 12);
    for (size_t i = 0; i < 12; i++)
        assert_true(rows[i] < 100 && flag[rows[i]] == 0 && (i == 0 || rows[i] > rows[i - 1]));
    assert_int_equal(report_samples_choose(flag, 100, 2, 12, rows), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_series),
        cmocka_unit_test(ranks_are_ordered),
        cmocka_unit_test(long_series_keep_mean_and_extent),
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(samples_are_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
