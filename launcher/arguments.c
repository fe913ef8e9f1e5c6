#include "launcher/arguments.h"
#include "launcher/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 32 };

static status_t unknown(const char *command, const char *word, const struct argument *table) {
    const char *known[MAX_OPTIONS + 1] = {0};
    for (int i = 0; i < MAX_OPTIONS && table[i].name; i++) known[i] = table[i].name;
    return command_unknown_option(command, word, known);
}

static status_t set_number(const char *command, const struct argument *argument, const char *value) {
    char *end;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    CHECK(*value && !*end && !errno && number >= argument->minimum && number <= argument->maximum,
          STATUS_USAGE, "%s: %s takes a whole number from %lld to %lld, not \"%s\"", command, argument->name,
          (long long)argument->minimum, (long long)argument->maximum, value);
    *argument->number = number;
    return STATUS_OK;
}

/* The option `word` with what follows it; *i moves over a value taken from the next word. */
static status_t set_option(int argc, char **argv, int *i, const struct argument *table) {
    const char *word = argv[*i], *equals = strchr(word, '=');
    const size_t n_name = equals ? (size_t)(equals - word) : strlen(word);
    for (const struct argument *argument = table; argument->name; argument++) {
        if (strncmp(argument->name, word, n_name) || argument->name[n_name]) continue;
        if (argument->flag) {
            CHECK(!equals, STATUS_USAGE, "%s: %s takes no value", argv[0], argument->name);
            *argument->flag = true;
            return STATUS_OK;
        }
        CHECK(equals || *i + 1 < argc, STATUS_USAGE, "%s: %s wants a value", argv[0], argument->name);
        const char *value = equals ? equals + 1 : argv[++*i];
        if (argument->number) return set_number(argv[0], argument, value);
        *argument->text = value;
        return STATUS_OK;
    }
    return unknown(argv[0], word, table);
}

status_t arguments_parse(int argc, char **argv, const struct argument *table, const char **positional,
                         int max_positional, int *n_positional) {
    int n = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            TRY(set_option(argc, argv, &i, table));
        } else {
            CHECK(n < max_positional, STATUS_USAGE, "%s: one word too many: \"%s\"", argv[0], argv[i]);
            positional[n++] = argv[i];
        }
    }
    if (n_positional) *n_positional = n;
    return STATUS_OK;
}
