#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    int rank, n_ranks;
    log_level_t level;
    char host[64];
} self = {.rank = 0, .n_ranks = 1, .level = LOG_INFO, .host = ""};

static const struct {
    const char *word, *colour;
} looks[] = {
    [LOG_ERROR] = {"error", "\033[31m"},
    [LOG_WARNING] = {"warning", "\033[33m"},
    [LOG_INFO] = {"info", ""},
    [LOG_DEBUG] = {"debug", "\033[2m"},
};

void log_set_identity(int rank, int n_ranks, const char *host) {
    self.rank = rank;
    self.n_ranks = n_ranks;
    snprintf(self.host, sizeof self.host, "%s", host ? host : "");
}

void log_set_level(log_level_t level) {
    self.level = level;
}

log_level_t log_get_level(void) {
    return self.level;
}

/* The whole record goes out in one write, so that records of several ranks do not mix within a line. */
static void emit(log_level_t level, const char *origin, const char *fmt, va_list args) {
    char line[8192];
    const int to_terminal = isatty(STDERR_FILENO);
    const int colour = to_terminal && !getenv("NO_COLOR") && looks[level].colour[0];
    size_t n = 0;
    if (!to_terminal) {
        time_t now = time(NULL);
        struct tm utc;
        gmtime_r(&now, &utc);
        n += strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%SZ ", &utc);
    }
    int wrote = level == LOG_INFO
                    ? snprintf(line + n, sizeof line - n, "%s", origin)
                    : snprintf(line + n, sizeof line - n, "%s%s%s: %s", colour ? looks[level].colour : "",
                               looks[level].word, colour ? "\033[0m" : "", origin);
    if (wrote > 0) n += (size_t)wrote;
    wrote = vsnprintf(line + n, sizeof line - n, fmt, args);
    if (wrote > 0) n += (size_t)wrote;
    if (n > sizeof line - 2) n = sizeof line - 2;
    line[n++] = '\n';
    fwrite(line, 1, n, stderr);
    fflush(stderr);
}

void log_global(log_level_t level, const char *fmt, ...) {
    if (level > self.level || self.rank != 0) return;
    va_list args;
    va_start(args, fmt);
    emit(level, "", fmt, args);
    va_end(args);
}

void log_local(log_level_t level, const char *fmt, ...) {
    if (level > self.level) return;
    char origin[96] = "";
    if (self.n_ranks > 1) snprintf(origin, sizeof origin, "[rank %d on %s] ", self.rank, self.host);
    va_list args;
    va_start(args, fmt);
    emit(level, origin, fmt, args);
    va_end(args);
}
