// Sweeps: every one that is checked in expands to valid configurations in different directories; faults have
// places.
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "launcher/config.h"
#include "launcher/sweep.h"

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reads each configuration; the directories and the pairs (variant, lists, seed) must all differ. */
static void check_sweep(const char *path, int n_wanted) {
    struct sweep s;
    assert_ok(sweep_read(path, &s));
    if (s.n_runs != n_wanted) fail_msg("%s: %d runs, wanted %d", path, s.n_runs, n_wanted);
    char **keys = calloc((size_t)s.n_runs, sizeof *keys),
         **folders = calloc((size_t)s.n_runs, sizeof *folders);
    for (int i = 0; i < s.n_runs; i++) {
        struct settings settings;
        const struct config_overrides o = {.n_arguments = s.runs[i].n_arguments,
                                           .arguments = s.runs[i].arguments};
        assert_ok(config_read(s.base, &o, &settings));
        assert_true(settings.variant[0]);
        assert_true(asprintf(&keys[i], "%s %s %s %lld", settings.variant, settings.data.source.list,
                             settings.data.target.labelled, (long long)settings.seed) > 0);
        folders[i] = strdup(settings.run);
        settings_free(&settings);
    }
    qsort(keys, (size_t)s.n_runs, sizeof *keys, by_text);
    qsort(folders, (size_t)s.n_runs, sizeof *folders, by_text);
    for (int i = 1; i < s.n_runs; i++) {
        assert_string_not_equal(keys[i - 1], keys[i]);
        assert_string_not_equal(folders[i - 1], folders[i]);
    }
    for (int i = 0; i < s.n_runs; i++) {
        free(keys[i]);
        free(folders[i]);
    }
    free(keys);
    free(folders);
    sweep_free(&s);
}

static void checked_in_sweeps_are_valid(void **state) {
    (void)state;
    static const struct {
        const char *path;
        int n;
    } sweeps[] = {{"configs/sweeps/digits.yaml", 4 * 2 * 2 * 3},
                  {"configs/sweeps/domainnet.yaml", 7 * 2 * 3},
                  {"configs/sweeps/office31.yaml", 2 * 2 * 3},
                  {"configs/sweeps/office_home.yaml", 12 * 2 * 3},
                  {"configs/sweeps/office_home_ablations.yaml", 19 * 3 * 3}};
    glob_t found;
    assert_int_equal(glob("configs/sweeps/*.yaml", 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, sizeof sweeps / sizeof *sweeps);
    globfree(&found);
    for (size_t i = 0; i < sizeof sweeps / sizeof *sweeps; i++) check_sweep(sweeps[i].path, sweeps[i].n);
}

static status_t read_text(const char *text, struct sweep *out) {
    return sweep_read_text("f.yaml", "some/where", text, strlen(text), out);
}

static void the_last_axis_changes_fastest(void **state) {
    (void)state;
    struct sweep s;
    assert_ok(read_text(
        "base: b.yaml\nruns: 'r/{pair}_{seed}'\nset:\n  - x.list={from}-{to}.txt\n"
        "axes:\n  pair:\n    - {name: AB, from: a, to: b, set: ['w={folder}/{pair}', 'o={lr: 1}']}\n"
        "    - {name: CD, from: c, to: d}\n  seed: [1, 2]\n",
        &s));
    assert_string_equal(s.base, "some/where/b.yaml");
    assert_int_equal(s.n_runs, 4);
    assert_int_equal(s.runs[1].n_arguments, 4);
    assert_string_equal(s.runs[1].arguments[0], "run=r/AB_2");
    assert_string_equal(s.runs[1].arguments[1], "x.list=a-b.txt");
    assert_string_equal(s.runs[1].arguments[2], "w=some/where/AB");
    assert_string_equal(s.runs[1].arguments[3], "o={lr: 1}");
    assert_int_equal(s.runs[2].n_arguments, 2);
    assert_string_equal(s.runs[2].arguments[0], "run=r/CD_1");
    char *text;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    sweep_print_command(&s, 1, 1, (char *[]){"y=it's"}, out);
    fclose(out);
    assert_string_equal(
        text,
        "marrs_dist some/where/b.yaml run=r/AB_2 x.list=a-b.txt w=some/where/AB 'o={lr: 1}' 'y=it'\\''s'\n");
    free(text);
    sweep_free(&s);
}

static void faults_have_places(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"base: b\nruns: r{s}\naxes:\n  s: [1\n", "f.yaml:5:1: not YAML"},
        {"runs: r{s}\naxes: {s: [1]}\n", "f.yaml:1:1: base is missing"},
        {"base: b\nruns: r\naxes: {s: [1, 2]}\n", "f.yaml:2:7: several runs would share the directory r"},
        {"base: b\nruns: r{t}\naxes: {s: [1, 2]}\n", "f.yaml:2:7: {t} is neither an axis"},
        {"base: b\nruns: r{s}\nset: [1]\naxes: {s: [1]}\n", "f.yaml:3:7: set: '1' is not of the form"},
        {"base: b\nruns: r{s}\nset: [run=x]\naxes: {s: [1]}\n", "f.yaml:3:7: set: the directory"},
        {"base: b\nruns: r{s}\naxes: {s: [1, 1]}\n", "f.yaml:3:15: the name 1 appears twice"},
        {"base: b\nruns: r{s}\naxes: {s: []}\n", "f.yaml:3:11: axis s: expected a list"},
        {"base: b\nruns: r{s}\naxes: {s: [a/b]}\n", "f.yaml:3:12: each value needs a name"},
        {"base: b\nruns: r{s}\naxes: {s: [{set: []}]}\n", "f.yaml:3:12: each value needs a name"},
        {"base: b\nruns: r{s}\naxes: {s: [[1, 2], [3]]}\n", "f.yaml:3:12: each value needs a name"},
        {"base: b\nruns: r{s}\naxes: {folder: [1]}\n", "f.yaml:3:8: folder cannot be an axis"},
        {"base: b\nbase: c\nruns: r{s}\naxes: {s: [1]}\n", "f.yaml:2:1: base appears twice"},
        {"base: b\nruns: r{s}\nwhat: 1\naxes: {s: [1]}\n", "f.yaml:3:1: what: expected base"},
        {"- 1\n", "f.yaml:1:1: expected the keys"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sweep s;
        assert_fails(read_text(cases[i].text, &s), STATUS_BAD_CONFIG, cases[i].words);
    }
    struct sweep s;
    assert_fails(sweep_read("no/such.yaml", &s), STATUS_MISSING, "no/such.yaml");
}

static void too_many_runs_are_refused(void **state) {
    (void)state;
    struct sweep s;
    assert_fails(read_text("base: b\nruns: r{a}{b}{c}{d}{e}{f}\naxes:\n  a: [1,2,3,4,5,6,7]\n  b: "
                           "[1,2,3,4,5,6,7]\n  c: [1,2,3,4,5,6,7]\n"
                           "  d: [1,2,3,4,5,6,7]\n  e: [1,2,3,4,5,6,7]\n  f: [1,2,3,4,5,6,7]\n",
                           &s),
                 STATUS_BAD_CONFIG, "more than 100000 runs");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checked_in_sweeps_are_valid),
        cmocka_unit_test(the_last_axis_changes_fastest),
        cmocka_unit_test(faults_have_places),
        cmocka_unit_test(too_many_runs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
