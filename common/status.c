#include "common/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[16384]; /* all faults of a configuration fit */
static _Thread_local char where[128];

const char *status_name(status_t status) {
    switch (status) {
#define X(name, value, exit_code, text)                                                                      \
    case STATUS_##name:                                                                                      \
        return "STATUS_" #name;
        STATUS_LIST(X)
#undef X
    }
    return "STATUS_?";
}

const char *status_text(status_t status) {
    switch (status) {
#define X(name, value, exit_code, text)                                                                      \
    case STATUS_##name:                                                                                      \
        return text;
        STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

int status_exit_code(status_t status) {
    switch (status) {
#define X(name, value, exit_code, text)                                                                      \
    case STATUS_##name:                                                                                      \
        return exit_code;
        STATUS_LIST(X)
#undef X
    }
    return 70;
}

status_t status_fail(status_t status, const char *file, int line, const char *fmt, ...) {
    va_list args;
    char text[sizeof message]; /* the arguments may point into `message` */
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    snprintf(where, sizeof where, "%s:%d", file, line);
    return status;
}

status_t status_context(status_t status, const char *fmt, ...) {
    va_list args;
    char text[sizeof message];
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof text) snprintf(text + n, sizeof text - (size_t)n, ": %s", message);
    memcpy(message, text, sizeof message);
    return status;
}

const char *status_message(void) {
    return message;
}

const char *status_where(void) {
    return where;
}
