// Status codes: the documented exit codes, messages per thread, contexts in front, macros that propagate.
#include <pthread.h>
#include <string.h>
#include "tests/support/test.h"
#include "common/status.h"

static void exit_codes_are_the_documented(void **state) {
    (void)state;
    assert_int_equal(status_exit_code(STATUS_OK), 0);
    assert_int_equal(status_exit_code(STATUS_DIVERGED), 1);
    assert_int_equal(status_exit_code(STATUS_USAGE), 64);
    assert_int_equal(status_exit_code(STATUS_BAD_DATA), 65);
    assert_int_equal(status_exit_code(STATUS_MISSING), 66);
    assert_int_equal(status_exit_code(STATUS_NO_MEMORY), 70);
    assert_int_equal(status_exit_code(STATUS_CANT_CREATE), 73);
    assert_int_equal(status_exit_code(STATUS_IO), 74);
    assert_int_equal(status_exit_code(STATUS_STOPPED), 75);
    assert_int_equal(status_exit_code(STATUS_BAD_CONFIG), 78);
    assert_int_equal(status_exit_code((status_t)99), 70);
    assert_string_equal(status_name(STATUS_BAD_DATA), "STATUS_BAD_DATA");
    assert_string_equal(status_name((status_t)99), "STATUS_?");
}

static status_t leaf(int n) {
    CHECK(n < 3, STATUS_BAD_DATA, "n is %d", n);
    return STATUS_OK;
}

static status_t branch(int n, int *cleaned) {
    status_t status;
    TRY(leaf(n - 10));
    TRY_TO(done, leaf(n));
    CHECK_TO(done, n != 2, STATUS_IO, "n is two");
done:
    ++*cleaned;
    return status == STATUS_BAD_DATA ? status_context(status, "branch of %s", status_message()) : status;
}

static void macros_propagate(void **state) {
    (void)state;
    int cleaned = 0;
    assert_int_equal(branch(1, &cleaned), STATUS_OK);
    assert_fails(branch(2, &cleaned), STATUS_IO, "n is two");
    assert_fails(branch(5, &cleaned), STATUS_BAD_DATA,
                 "branch of n is 5: n is 5"); /* arguments may be the message */
    assert_fails(branch(20, &cleaned), STATUS_BAD_DATA, "n is 10");
    assert_int_equal(cleaned, 3);
    assert_non_null(strstr(status_where(), "tests/common/status.c:"));
}

static void *fail_elsewhere(void *out) {
    *(size_t *)out = strlen(status_message()); /* nothing from the other thread */
    (void)leaf(7);
    return NULL;
}

static void messages_belong_to_threads(void **state) {
    (void)state;
    size_t n_bytes = 99;
    pthread_t thread;
    (void)leaf(4);
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &n_bytes), 0);
    pthread_join(thread, NULL);
    assert_int_equal(n_bytes, 0);
    assert_string_equal(status_message(), "n is 4");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(exit_codes_are_the_documented),
                                       cmocka_unit_test(macros_propagate),
                                       cmocka_unit_test(messages_belong_to_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
