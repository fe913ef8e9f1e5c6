/* cmocka with the headers it wants in front. */
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/status.h"

/* The call must return STATUS_OK; otherwise its message is shown. */
#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        status_t assert_status_ = (call);                                                                    \
        if (assert_status_ != STATUS_OK)                                                                     \
            fail_msg("%s: %s: %s", #call, status_name(assert_status_), status_message());                    \
    } while (0)

/* The call must fail with this status and say something that contains `words`. */
#define assert_fails(call, expected, words)                                                                  \
    do {                                                                                                     \
        status_t assert_status_ = (call);                                                                    \
        if (assert_status_ != (expected)) fail_msg("%s: %s", #call, status_name(assert_status_));            \
        if (!strstr(status_message(), (words)))                                                              \
            fail_msg("message lacks '%s': %s", (words), status_message());                                   \
    } while (0)

#endif
