/* A sweep: one configuration run for every combination of values along several axes.
 *
 *   base: ../digits.yaml                     # relative to the sweep's file
 *   runs: runs/sweeps/digits/{pair}_s{seed}  # directory of a run; must differ for all runs
 *   set:                                     # overrides of every run
 *     - data.source.list=labeled_source_images_{source}.txt
 *   axes:                                    # the last one changes fastest
 *     pair:
 *       - {name: print-pen, source: print, target: pen, set: [seed=3]}
 *     seed: [1, 2, 3]                        # the same as {name: "1"}, ...
 *
 * {WORD} in a text stands for the value's name on the axis WORD, for the key WORD of a chosen value, or, as
 * {folder}, for the folder of the sweep's file. */
#ifndef LAUNCHER_SWEEP_H
#define LAUNCHER_SWEEP_H

#include "common/status.h"

#include <stdio.h>

enum { SWEEP_MAX_AXES = 16, SWEEP_MAX_RUNS = 100000 };

struct sweep_run {
    int n_arguments;
    char **arguments; /* owned: "run=DIR", then those of `set`, then of the axes, "key=value" each */
};

struct sweep {
    char *base; /* path of the configuration */
    int n_runs;
    struct sweep_run *runs;
};

/* Read a sweep and expand it. STATUS_BAD_CONFIG lists faults as "file:line:column: what"; STATUS_MISSING: no
 * such file. *out is owned by the caller (sweep_free()). The overrides are not checked against the table of
 * keys here. */
status_t sweep_read(const char *path, struct sweep *out);
status_t sweep_read_text(const char *origin, const char *folder, const char *text, size_t n_bytes,
                         struct sweep *out);
void sweep_free(struct sweep *sweep); /* accepts a zeroed struct */

/* "marrs_dist BASE key=value ..." of run `index`, quoted for a shell. */
void sweep_print_command(const struct sweep *sweep, int index, int n_more, char *const *more, FILE *out);

#endif
