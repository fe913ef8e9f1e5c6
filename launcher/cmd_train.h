/* Training as a command does it, for commands that train more than once. */
#ifndef LAUNCHER_CMD_TRAIN_H
#define LAUNCHER_CMD_TRAIN_H

#include "launcher/commands.h"
#include "launcher/config.h"

/* Every stage of `config` with these overrides that is not done yet; the final table on rank 0.
 * STATUS_STOPPED after a signal. Collective over context->world. */
status_t train_configuration(struct launch_context *context, const char *config,
                             const struct config_overrides *overrides);

#endif
