/* Finding keys of the schema, and naming the nearest where there is none. */
#ifndef LAUNCHER_CONFIG_KEY_H
#define LAUNCHER_CONFIG_KEY_H

#include "launcher/config_schema.h"

#include <stdbool.h>

enum { CONFIG_MAX_PATH = 256 };

/* Row of the table with this path ("peers[].image"), or -1. */
int config_key_find(const char *path);

/* Is `path` a section: is there a key "path.something"? */
bool config_key_is_section(const char *path);

/* "; nearest: cotrain.steps" or "" for an unknown key `path`: a sibling of nearly that name, else a key
 * anywhere with nearly that last word. */
void config_key_nearest(const char *path, char *text, size_t n_bytes);

/* The place of a key's value. `peer` counts for "peers[]." keys only. */
void *config_key_place(const struct config_key *key, struct settings *settings, int peer);
bool config_key_is_peer(const struct config_key *key);

#endif
