/* The run's directory: made once, resumed, never overwritten. */
#ifndef LAUNCHER_RUN_FOLDER_H
#define LAUNCHER_RUN_FOLDER_H

#include "common/status.h"
#include "training/settings.h"

/* Make settings->run and write config.yaml, or, where that exists, compare: a run goes on only with the
 * configuration that it began with. Keys that do not change what is computed may differ (ranks, workers,
 * logs, deadlines, checkpoints, device, stages added). STATUS_BAD_CONFIG names the first key that differs and
 * the remedy. Rank 0 only. */
status_t run_folder_prepare(const struct settings *settings);

#endif
