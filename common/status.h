/* Status codes and the two ways to raise them.
 *
 * One list gives the enum, the name, the exit code of the process and the general text. A function that can
 * fail returns status_t; outputs are set only on STATUS_OK. The first function that knows what went wrong
 * says so with CHECK or status_fail(), which keep the message for this thread; whoever ends the work
 * (launcher/main.c, or the consumer of a worker thread's result) prints it once. Nothing but launcher/main.c
 * ends the process. */
#ifndef COMMON_STATUS_H
#define COMMON_STATUS_H

#include <stddef.h>

/*   name          value  exit  text */
#define STATUS_LIST(X)                                                                                       \
    X(OK, 0, 0, "done")                                                                                      \
    X(IN_PROGRESS, 1, 70, "still under way")                                                                 \
    X(DIVERGED, -1, 1, "training failed")                                                                    \
    X(USAGE, -2, 64, "wrong usage")                                                                          \
    X(BAD_DATA, -3, 65, "bad data")                                                                          \
    X(MISSING, -4, 66, "missing input")                                                                      \
    X(INTERNAL, -5, 70, "internal error")                                                                    \
    X(NO_MEMORY, -6, 70, "out of memory")                                                                    \
    X(CANT_CREATE, -7, 73, "cannot create")                                                                  \
    X(IO, -8, 74, "input/output error")                                                                      \
    X(STOPPED, -9, 75, "stopped cleanly, run again to go on")                                                \
    X(TIMEOUT, -10, 75, "a wait passed its deadline")                                                        \
    X(BAD_CONFIG, -11, 78, "bad configuration")

typedef enum {
#define X(name, value, exit_code, text) STATUS_##name = (value),
    STATUS_LIST(X)
#undef X
} status_t;

/* "STATUS_BAD_DATA", or "STATUS_?" for a value outside the list. Static storage. */
const char *status_name(status_t status);

/* The general text of the list. Static storage. */
const char *status_text(status_t status);

/* The documented exit code of the process for this status; 70 for a value outside the list. */
int status_exit_code(status_t status);

/* Keep a message (printf-like) and where it arose for this thread, replacing an older one; returns `status`,
 * so that `return status_fail(...)` reads well. Prints nothing. */
status_t status_fail(status_t status, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Put "context: " in front of this thread's message, for a caller that knows what the failing callee was for
 * ("shard a.h5"). Returns `status`. */
status_t status_context(status_t status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* This thread's last message, "" where none was kept; and its "file:line". Valid until the next
 * status_fail(). */
const char *status_message(void);
const char *status_where(void);

/* Keep the message and give `status`; written out so that static analysis sees that it is no success. */
#define FAIL(status, ...)                                                                                    \
    __extension__({                                                                                          \
        const status_t fail_status_ = (status);                                                              \
        status_fail(fail_status_, __FILE__, __LINE__, __VA_ARGS__);                                          \
        fail_status_;                                                                                        \
    })

/* Propagate: return what the call returned unless it is STATUS_OK. */
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        status_t try_status_ = (call);                                                                       \
        if (try_status_ != STATUS_OK) return try_status_;                                                    \
    } while (0)

/* Propagate through a cleanup label; needs `status_t status` in scope. */
#define TRY_TO(label, call)                                                                                  \
    do {                                                                                                     \
        status = (call);                                                                                     \
        if (status != STATUS_OK) goto label;                                                                 \
    } while (0)

/* Check with a message: return `code` with the formatted message unless `cond` holds. */
#define CHECK(cond, code, ...)                                                                               \
    do {                                                                                                     \
        if (!(cond)) return FAIL((code), __VA_ARGS__);                                                       \
    } while (0)

#define CHECK_TO(label, cond, code, ...)                                                                     \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            status = FAIL((code), __VA_ARGS__);                                                              \
            goto label;                                                                                      \
        }                                                                                                    \
    } while (0)

#endif
