// Tables over runs: grouping, mean, standard deviation, and each format to the letter.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "training/report_table.h"
#include "training/results.h"

static char folder[] = "/tmp/report_table.XXXXXX";

/* A finished run with these accuracies of the ensemble (co-trained) and the student; NULL: no student. */
static struct settings make_run(const char *name, const char *source, const char *target, const char *variant,
                                int64_t seed, double ensemble, const double *student) {
    static char run[16][128], path[160];
    static int n;
    char *text = run[n++ % 16];
    snprintf(text, sizeof run[0], "%s/%s", folder, name);
    snprintf(path, sizeof path, "mkdir -p %s", text);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/results.json", text);
    struct results *r;
    assert_ok(results_open(path, &r));
    results_accuracy(r, "cotrained", "ensemble", "unlabelled", ensemble);
    results_accuracy(r, "cotrained", "ensemble", "validation", 1);
    if (student) results_accuracy(r, "student", "student", "unlabelled", *student);
    assert_ok(results_save(r));
    results_close(r);
    struct settings s = {.run = text, .variant = (char *)variant, .seed = seed, .n_peers = 2};
    s.peers[0].name = "c";
    s.peers[1].name = "s";
    s.data.source.list = (char *)source;
    s.data.target.labelled = (char *)target;
    return s;
}

static struct report_table *make_table(const char *split, const char *model) {
    static const char *const a = "/x/labeled_source_images_A_x.txt", *const b = "labeled_source_images_B.txt",
                             *const t3 = "labeled_target_images_T_3.txt",
                             *const t1 = "labeled_target_images_T_1.txt";
    const double students[] = {80, 82, 84};
    struct report_table *table;
    bool added;
    assert_ok(report_table_new(split, model, &table));
    const struct settings runs[] = {
        make_run("1", a, t3, "full", 1, 90, &students[0]),
        make_run("2", a, t3, "full", 2, 91, &students[1]),
        make_run("3", a, t3, "full", 3, 92, &students[2]),
        make_run("4", b, t3, "full", 1, 70, NULL),
        make_run("5", a, t3, "less, \"x\"", 1, 60.125, NULL),
        make_run("6", a, t1, "", 9, 50, NULL),
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        assert_ok(report_table_add(table, &runs[i], &added));
        assert_true(added || (model && strcmp(model, "student") == 0));
    }
    const struct settings again = make_run("7", a, t3, "full", 2, 91, &students[1]);
    assert_fails(report_table_add(table, &again, &added), STATUS_USAGE,
                 "are both seed 2 of A_x > T, 3-shot, variant 'full'");
    struct settings none = again;
    none.run = "/no/such/run";
    assert_ok(report_table_add(table, &none, &added));
    assert_false(added);
    return table;
}

static void expect(const char *split, const char *model, enum report_table_format format, const char *want) {
    struct report_table *table = make_table(split, model);
    char *text;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    assert_ok(report_table_write(table, format, out));
    fclose(out);
    assert_string_equal(text, want);
    free(text);
    report_table_free(table);
}

static void text_is_aligned(void **state) {
    (void)state;
    expect("unlabelled", NULL, REPORT_TABLE_TEXT,
           "1-shot, unlabelled accuracy, %\n"
           "variant  model                  A_x>T\n"
           "-        ensemble               50.00\n"
           "\n"
           "3-shot, unlabelled accuracy, %: mean \xc2\xb1 standard deviation over 3 seeds\n"
           "variant    model                  A_x>T                 B>T      mean\n"
           "full       ensemble        91.00 \xc2\xb1 1.00           70.00 (1)     80.50\n"
           "           student         82.00 \xc2\xb1 2.00                   -         -\n"
           "less, \"x\"  ensemble           60.12 (1)                   -         -\n");
}

static void csv_has_a_line_for_each_cell(void **state) {
    (void)state;
    expect("unlabelled", "ensemble", REPORT_TABLE_CSV,
           "shots,variant,model,source,target,seeds,mean,standard_deviation\n"
           "1,,ensemble,A_x,T,1,50.0000,\n"
           "3,full,ensemble,A_x,T,3,91.0000,1.0000\n"
           "3,full,ensemble,B,T,1,70.0000,\n"
           "3,\"less, \"\"x\"\"\",ensemble,A_x,T,1,60.1250,\n");
}

static void latex_is_escaped(void **state) {
    (void)state;
    expect(
        "unlabelled", "student", REPORT_TABLE_LATEX,
        "% needs \\usepackage{booktabs}; unlabelled accuracy, mean $\\pm$ standard deviation over 3 seeds\n"
        "\\begin{tabular}{llr}\n\\toprule\n3-shot &  & A\\_x$\\to$T \\\\\n\\midrule\n"
        "full & student & 82.00 $\\pm$ 2.00 \\\\\n\\bottomrule\n\\end{tabular}\n");
}

static void list_names_say_domain_and_shots(void **state) {
    (void)state;
    static const struct {
        const char *path, *domain;
        int n_shots;
    } cases[] = {{"/a/labeled_target_images_pen_3.txt", "pen", 3},
                 {"labeled_target_images_Art_1.txt", "Art", 1},
                 {"labeled_source_images_real.txt", "real", 0},
                 {"mine_2_all.txt", "mine_2_all", 0},
                 {"_3.txt", "_3", 0},
                 {"labeled_source_images_a_b.c.txt", "a_b.c", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char domain[32];
        int n_shots;
        report_table_parse_list(cases[i].path, domain, sizeof domain, &n_shots);
        assert_string_equal(domain, cases[i].domain);
        assert_int_equal(n_shots, cases[i].n_shots);
    }
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_aligned),
        cmocka_unit_test(csv_has_a_line_for_each_cell),
        cmocka_unit_test(latex_is_escaped),
        cmocka_unit_test(list_names_say_domain_and_shots),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
