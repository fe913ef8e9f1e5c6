/* The one table of configuration keys: path, type, range, words, default, help and place in struct settings.
 * Checks, defaults, overrides, `config --help`, the effective configuration and docs/configuration.md come
 * from it. */
#ifndef LAUNCHER_CONFIG_SCHEMA_H
#define LAUNCHER_CONFIG_SCHEMA_H

#include "training/settings.h"

#include <stddef.h>

enum config_type {
    CONFIG_STRING,   /* char * */
    CONFIG_STRINGS,  /* struct string_list; one scalar is a list of one */
    CONFIG_BOOL,     /* bool */
    CONFIG_INTEGER,  /* int64_t; with has_auto the word auto means 0 */
    CONFIG_NUMBER,   /* double; with has_auto the word auto means NAN */
    CONFIG_WORD,     /* an enum numbered as `words` */
    CONFIG_INTEGERS, /* struct integer_list, min_items..max_items */
    CONFIG_NUMBERS,  /* struct number_list, min_items..max_items */
    CONFIG_STAGES    /* struct stage_list: words of `words`, numbered from 1, each once, in order */
};

/* Whose `model` keys a row is: 1 << enum model_family; 0: not one of the shape keys. */
enum {
    CONFIG_CONVNEXT = 1 << MODEL_CONVNEXT,
    CONFIG_SWIN = 1 << MODEL_SWIN,
    CONFIG_MOBILENETV2 = 1 << MODEL_MOBILENETV2
};

struct config_key {
    const char *path; /* "cotrain.weight.source"; "peers[].image" for each peer */
    enum config_type type;
    size_t offset;   /* in struct settings, or in struct peer_settings for "peers[]." */
    double min, max; /* inclusive; of each item for lists */
    int min_items, max_items;
    const char *words; /* "auto|cpu|cuda" */
    bool has_auto, required, is_input_path;
    unsigned families;
    const char *fallback; /* the default, as it would be written; NULL: none (required, or a shape key) */
    const char *help;
};

extern const struct config_key config_keys[];
extern const int config_n_keys;

enum { CONFIG_MAX_KEYS = 256 };

/* Section headings for help and docs: the help of "cotrain", or NULL. */
const char *config_section_help(const char *path);

#endif
