#include "launcher/command_help.h"

#include "launcher/config.h"

#include <string.h>

enum { LINE_WIDTH = 110 };

bool command_option_is_of(const struct command_option *option, const char *word) {
    if (!option->of || !word || !word[0]) return true;
    const size_t n = strlen(word);
    for (const char *at = option->of; (at = strstr(at, word)); at += n)
        if ((at == option->of || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')) return true;
    return false;
}

void command_option_text(const struct command_option *option, char *text, size_t n_bytes) {
    size_t n = (size_t)snprintf(text, n_bytes, "%s%s", option->help, option->of ? " (" : "");
    for (const char *c = option->of; c && *c && n + 3 < n_bytes; c++)
        n += (size_t)snprintf(text + n, n_bytes - n, *c == ' ' ? ", " : "%c", *c);
    if (option->of && n + 1 < n_bytes) snprintf(text + n, n_bytes - n, ")");
}

/* `text` from column `column` on, further lines indented as much. Stops at a newline; returns what follows
 * it. */
static const char *print_wrapped(const char *text, size_t column, FILE *out) {
    size_t at = column;
    while (*text && *text != '\n') {
        const size_t n = strcspn(text, " \n");
        if (at > column && at + 1 + n > LINE_WIDTH) {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
        }
        at += (size_t)fprintf(out, "%s%.*s", at > column ? " " : "", (int)n, text);
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
    return *text ? text + 1 : text;
}

static void print_row(const char *name, const char *value, size_t width, const char *help, FILE *out) {
    const int n = fprintf(out, "  %s%s%s", name, value ? " " : "", value ? value : "");
    if ((size_t)n > width + 2)
        fprintf(out, "\n%*s", (int)width + 4, ""); /* too long for the column: help below */
    else
        fprintf(out, "%*s", (int)width + 4 - n, "");
    print_wrapped(help, width + 4, out);
}

/* Width of the column of names: the widest, but no more than 24. */
static size_t column_width(const struct command *command) {
    size_t width = 8;
    for (const struct command_option *o = command->options; o && o->name; o++) {
        const size_t n = strlen(o->name) + (o->value ? strlen(o->value) + 1 : 0);
        if (n > width && n <= 24) width = n;
    }
    return width;
}

void command_print_help(const struct command *command, FILE *out) {
    char text[512];
    fprintf(out, "marrs_dist %s\n\n%s\n", command->usage, command->help);
    if (command->first) fputc('\n', out);
    for (const struct command_word *w = command->first; w && w->name; w++)
        print_row(w->name, NULL, 8, w->help, out);
    const size_t width = column_width(command);
    if (command->options) fputc('\n', out);
    for (const struct command_option *o = command->options; o && o->name; o++) {
        command_option_text(o, text, sizeof text);
        print_row(o->name, o->value, width, text, out);
    }
    if (command->notes) fputc('\n', out);
    for (const char *note = command->notes; note && *note;) note = print_wrapped(note, 0, out);
    if (command->run == cmd_config) config_print_help(out);
}
