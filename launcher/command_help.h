/* What a command says about itself: --help on a terminal, and text in the same shape for manual pages. */
#ifndef LAUNCHER_COMMAND_HELP_H
#define LAUNCHER_COMMAND_HELP_H

#include "launcher/commands.h"

#include <stddef.h>
#include <stdio.h>

/* `marrs_dist COMMAND --help`: usage, first words, options, notes; for config every key too. */
void command_print_help(const struct command *command, FILE *out);

/* The help of an option, with the first words that take it: "images at once (model, infer, data)". */
void command_option_text(const struct command_option *option, char *text, size_t n_bytes);

/* Is `option` taken after the first word `word` ("" and NULL: any)? */
bool command_option_is_of(const struct command_option *option, const char *word);

#endif
