/* The commands around data, and what they share. */
#ifndef LAUNCHER_CMD_DATA_H
#define LAUNCHER_CMD_DATA_H

#include "launcher/commands.h"

#include <stdint.h>

/* The word behind option argv[i]; STATUS_USAGE where there is none or another option follows. */
status_t option_value(int argc, char **argv, int i, const char **out);

/* The same as an integer within [low, high]. */
status_t option_integer(int argc, char **argv, int i, int64_t low, int64_t high, int64_t *out);

/* Cores that this rank may use: its share where the ranks of the host are not bound to cores of their own. */
int data_default_threads(const struct launch_context *context);

#endif
