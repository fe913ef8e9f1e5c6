/* YAML text as a tree of nodes that know their line and column. A strict subset: one document; no anchors,
 * aliases, tags; keys are plain words. Bounded: at most 1 MiB of text, 20,000 nodes, 16 levels. */
#ifndef LAUNCHER_CONFIG_TREE_H
#define LAUNCHER_CONFIG_TREE_H

#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>

enum config_node_kind { CONFIG_SCALAR, CONFIG_SEQUENCE, CONFIG_MAPPING };

struct config_node {
    enum config_node_kind kind;
    int line, column;             /* from 1 */
    char *text;                   /* scalar: its value, without NUL bytes inside */
    bool quoted;                  /* scalar written in quotes or as a block */
    struct config_node *children; /* sequence: items; mapping: values */
    struct config_node *keys;     /* mapping: scalars beside the children */
    int n_children;
};

/* All that is wrong with a configuration, one fault a line. */
struct config_faults {
    char *text;
    size_t length, capacity;
    int n;
};

/* Add "origin:line:column: message" (without the numbers where line is 0). Drops what memory cannot hold, but
 * counts it. */
void config_fault(struct config_faults *faults, const char *origin, int line, int column, const char *fmt,
                  ...) __attribute__((format(printf, 5, 6)));
void config_faults_free(struct config_faults *faults);

/* Read `text` into *root, owned by the caller (config_tree_free()). An empty text gives an empty mapping. On
 * a syntax fault: adds it to `faults`, returns STATUS_BAD_CONFIG, and *root holds nothing. STATUS_NO_MEMORY.
 */
status_t config_tree_read(const char *origin, const char *text, size_t n_bytes, struct config_faults *faults,
                          struct config_node *root);
void config_tree_free(struct config_node *root);

#endif
