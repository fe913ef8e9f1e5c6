/* Logging: one record a line, on standard error, flushed at once.
 *
 * Global records (log_global) concern all ranks alike and are written by rank 0 alone; local ones (log_local)
 * concern this rank and carry rank and host. Colour only on a terminal and without NO_COLOR. Off a terminal a
 * record begins with the time (ISO 8601, UTC). Thread-safe. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

typedef enum { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG } log_level_t;

/* Who this process is; before the call: rank 0 of 1. `host` is copied (truncated to 63 bytes). Not
 * thread-safe. */
void log_set_identity(int rank, int n_ranks, const char *host);

/* Records less urgent than `level` are dropped; LOG_INFO at start. */
void log_set_level(log_level_t level);
log_level_t log_get_level(void);

void log_global(log_level_t level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_local(log_level_t level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
