/* Command-line options from a table: "--name value", "--name=value" and flags. */
#ifndef LAUNCHER_ARGUMENTS_H
#define LAUNCHER_ARGUMENTS_H

#include "common/status.h"

#include <stdbool.h>
#include <stdint.h>

/* One option; exactly one of text, number, flag is not NULL. The table ends with a NULL name. */
struct argument {
    const char *name;  /* "--batch" */
    const char **text; /* set to the value, which lives in argv */
    int64_t *number;   /* set to the value, within [minimum, maximum] */
    bool *flag;        /* set to true */
    int64_t minimum, maximum;
};

/* Read argv[1..]. Words that are no options go to positional (at most max_positional; their number to
 * *n_positional). STATUS_USAGE names the word that does not fit and the nearest option. */
status_t arguments_parse(int argc, char **argv, const struct argument *table, const char **positional,
                         int max_positional, int *n_positional);

#endif
