/* Reading and writing the configuration: defaults, then the file, then MARRS_* of the environment, then
 * key=value of the command line; the later wins. All faults of all of them are found in one run. */
#ifndef LAUNCHER_CONFIG_H
#define LAUNCHER_CONFIG_H

#include "common/status.h"
#include "training/settings.h"

#include <stddef.h>
#include <stdio.h>

/* What stands above the file. Borrowed. */
struct config_overrides {
    int n_arguments;
    char *const *arguments;   /* "cotrain.steps=10", "peers.0.ranks=2", "peers.swin.ranks=2" */
    char *const *environment; /* NULL-terminated "NAME=value"; those named MARRS_* count; NULL: none */
};

/* Read a configuration file. Input paths become absolute (relative ones start at the file's folder and
 * data.folder; those given above the file start at the current directory). *out is owned by the caller
 * (settings_free()).
 *   STATUS_BAD_CONFIG  the message lists every fault, one a line: "file:line:column: what, nearest known key"
 *   STATUS_MISSING     no such file. */
status_t config_read(const char *path, const struct config_overrides *overrides, struct settings *out);

/* The same from memory. `origin` stands for the file in messages; relative input paths start at `folder`. */
status_t config_read_text(const char *origin, const char *folder, const char *text, size_t n_bytes,
                          const struct config_overrides *overrides, struct settings *out);

/* The effective configuration: every key with its value, as YAML that reads back to the same struct. */
status_t config_write(const struct settings *settings, FILE *out);

/* The same as a file, replaced atomically. */
status_t config_write_file(const struct settings *settings, const char *path);

/* Every key with type, range, default and help: for a terminal; as docs/configuration.md. */
void config_print_help(FILE *out);
void config_print_markdown(FILE *out);

/* The configuration of a start without arguments: configs/digits.yaml beside the source tree's build/ or in
 * the installed share/marrs_dist/. Owned by the caller; STATUS_MISSING names the places looked at. */
status_t config_default_path(char **path);

#endif
