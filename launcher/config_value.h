/* Values of the configuration between text and struct settings. */
#ifndef LAUNCHER_CONFIG_VALUE_H
#define LAUNCHER_CONFIG_VALUE_H

#include "launcher/config_schema.h"
#include "launcher/config_tree.h"

#include <stdio.h>

/* Put the node's value into *place (settings or peer plus key->offset), replacing an old one. false: a fault
 * with what is wrong was added, *place is as before. */
bool config_value_set(const struct config_key *key, const struct config_node *node, const char *origin,
                      struct config_faults *faults, void *place);

/* Put the default there; a key without one gets an empty value. */
status_t config_value_default(const struct config_key *key, void *place);

/* Back to "not given", for the shape keys of a model. */
void config_value_zero(const struct config_key *key, void *place);

/* Is it as config_value_zero() leaves it? */
bool config_value_is_zero(const struct config_key *key, const void *place);

/* Write the value as YAML that reads back to the same value. */
void config_value_write(const struct config_key *key, const void *place, FILE *out);

/* "integer from 1", "number from 0 to 1 or auto", "auto | cpu | cuda", "list of files". */
void config_value_kind(const struct config_key *key, char *text, size_t n_bytes);

/* A string in the shortest quoting that YAML reads back. */
void config_write_string(const char *text, FILE *out);

#endif
