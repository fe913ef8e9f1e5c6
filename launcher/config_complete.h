/* The last part of reading: what must be there, what fits together, paths, and the shapes of the models. */
#ifndef LAUNCHER_CONFIG_COMPLETE_H
#define LAUNCHER_CONFIG_COMPLETE_H

#include "launcher/config_schema.h"
#include "launcher/config_tree.h"

/* Where the value in force was given. */
struct config_origin {
    bool given;
    int line, column;   /* 0 outside the file */
    const char *origin; /* the file, "environment" or "command line"; NULL: not given */
    const char *folder; /* where its relative paths start; NULL: the current directory */
};

/* A configuration being read. */
struct config_reading {
    struct settings *settings;
    struct config_faults faults;
    const char *origin; /* the file, for what is missing in it */
    struct config_origin origins[CONFIG_MAX_KEYS][SETTINGS_MAX_PEERS]; /* [0] for keys outside peers */
    int peer_line[SETTINGS_MAX_PEERS], peer_column[SETTINGS_MAX_PEERS];
};

/* Adds faults for missing keys and for values that do not go together; makes input paths absolute; fills the
 * models' specs and what depends on presets (image sides). Fails only for lack of memory. */
status_t config_complete(struct config_reading *reading);

#endif
