// Lists: spaces in paths, CRLF, blank lines; every fault with FILE:LINE; overlaps between lists.
#include <string.h>
#include "tests/support/test.h"
#include "common/log.h"
#include "data_shards/list.h"

static status_t parse(const char *text, struct image_list *out) {
    return list_parse("l.txt", text, strlen(text), out);
}

static void accepted(void **state) {
    (void)state;
    struct image_list list;
    assert_ok(parse("\xef\xbb\xbf"
                    "a/b c d.jpg 3\r\n\n  \t\r\nx.png\t0\ngrüße/ü 1.png   12  \ny -1\nx.png 0",
                    &list));
    assert_int_equal(list.n_entries, 4); /* x.png is kept once */
    assert_string_equal(list.entries[0].id, "a/b c d.jpg");
    assert_int_equal(list.entries[0].label, 3);
    assert_string_equal(list.entries[1].id, "x.png");
    assert_int_equal(list.entries[1].line, 4);
    assert_string_equal(list.entries[2].id, "grüße/ü 1.png");
    assert_int_equal(list.entries[2].label, 12);
    assert_int_equal(list.entries[3].label, -1);
    list_free(&list);
}

static void refused(void **state) {
    (void)state;
    struct image_list list;
    assert_fails(parse("a 1\nb.jpg\n", &list), STATUS_BAD_DATA, "l.txt:2: no label");
    assert_fails(parse("a 1\n\nb c\n", &list), STATUS_BAD_DATA,
                 "l.txt:3: the label is not an integer from -1 on: 'c'");
    assert_fails(parse("a -2", &list), STATUS_BAD_DATA, "l.txt:1: the label");
    assert_fails(parse("a 99999999999", &list), STATUS_BAD_DATA, "l.txt:1: the label");
    assert_fails(parse("a 1x", &list), STATUS_BAD_DATA, "l.txt:1: the label");
    assert_fails(parse("/a 1", &list), STATUS_BAD_DATA, "l.txt:1: the path is not relative");
    assert_fails(parse("a 1\nb 2\na 2\n", &list), STATUS_BAD_DATA,
                 "l.txt:3: label 2, but line 1 has label 1 for 'a'");
    assert_fails(parse("a\nb\nc 1\n", &list), STATUS_BAD_DATA, "2 faulty lines, the first: l.txt:1");
    assert_fails(parse("\n \n", &list), STATUS_BAD_DATA, "names no image");
    assert_fails(list_parse("l.txt", "a\0b 1\n", 6, &list), STATUS_BAD_DATA, "l.txt:1: a NUL byte");
    assert_fails(list_read("/nonexistent/l.txt", &list), STATUS_MISSING, "/nonexistent/l.txt");
}

static void kinds(void **state) {
    (void)state;
    const struct list_kind a = list_kind_of("x/labeled_target_images_pen_3.txt"),
                           b = list_kind_of("unlabelled_target_images_pen_1.txt"),
                           c = list_kind_of("labeled_source_images_pen.txt");
    assert_int_equal(a.role, LIST_LABELLED);
    assert_int_equal(a.n_shots, 3);
    assert_int_equal(b.role, LIST_UNLABELLED);
    assert_int_equal(b.n_shots, 1);
    assert_int_equal(c.role, LIST_SOURCE);
    assert_int_equal(c.n_shots, 0);
    assert_int_equal(list_kind_of("train.txt").role, LIST_OTHER);
}

static void overlaps(void **state) {
    (void)state;
    struct image_list lists[4];
    assert_ok(list_parse("labeled_target_images_D_1.txt", "a 0\nb 1\n", 8, &lists[0]));
    assert_ok(list_parse("unlabeled_target_images_D_3.txt", "a 0\nv 1\nw 0\n", 12, &lists[1]));
    assert_ok(list_parse("validation_target_images_D_3.txt", "v 1\nw 0\nb 1\n", 12, &lists[2]));
    assert_ok(list_parse("labeled_source_images_D.txt", "a 0\nb 1\nv 1\n", 12, &lists[3]));
    size_t n;
    assert_ok(list_overlap(&lists[2], &lists[1], &n));
    assert_int_equal(n, 2);
    /* validation in unlabelled, labelled in validation; 1-shot labelled and 3-shot unlabelled are never used
     * together */
    log_set_level(LOG_ERROR);
    assert_ok(list_report_overlaps(lists, 4, &n));
    assert_int_equal(n, 2);
    for (int i = 0; i < 4; i++) list_free(&lists[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(accepted), cmocka_unit_test(refused),
                                       cmocka_unit_test(kinds), cmocka_unit_test(overlaps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
