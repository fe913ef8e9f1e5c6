// libFuzzer: any bytes as a configuration give faults or a configuration that is written and read back the
// same. Bytes after the first NUL are lines of key=value; those that begin with MARRS_ are variables of the
// environment.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "launcher/config.h"

enum { MOST_OVERRIDES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static char *written(const struct settings *settings) {
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out || config_write(settings, out) != STATUS_OK) __builtin_trap();
    fclose(out);
    return text;
}

/* The lines of `text` become overrides. */
static struct config_overrides split(char *text, char **arguments, char **environment) {
    struct config_overrides o = {.arguments = arguments, .environment = environment};
    int n_variables = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "MARRS_", 6) == 0 && n_variables < MOST_OVERRIDES)
            environment[n_variables++] = line;
        else if (o.n_arguments < MOST_OVERRIDES)
            arguments[o.n_arguments++] = line;
    }
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    char *text = malloc(n_bytes + 1);
    if (!text) return 0;
    memcpy(text, data, n_bytes);
    text[n_bytes] = '\0';
    const size_t n_file = strlen(text);
    char *arguments[MOST_OVERRIDES + 1] = {0}, *environment[MOST_OVERRIDES + 1] = {0};
    struct config_overrides o = {0};
    if (n_file < n_bytes) o = split(text + n_file + 1, arguments, environment);
    struct settings a, b;
    const status_t status = config_read_text("fuzz", "/folder", text, n_file, &o, &a);
    if (status == STATUS_OK) {
        char *first = written(&a);
        if (config_read_text("again", "/elsewhere", first, strlen(first), NULL, &b) != STATUS_OK) {
            fprintf(stderr, "%s\n%s\n", first, status_message());
            __builtin_trap();
        }
        char *second = written(&b);
        if (strcmp(first, second) != 0) {
            fprintf(stderr, "%s\n----\n%s\n", first, second);
            __builtin_trap();
        }
        free(first);
        free(second);
        settings_free(&a);
        settings_free(&b);
    } else if (status != STATUS_BAD_CONFIG || status_message()[0] == '\0') {
        __builtin_trap();
    }
    free(text);
    return 0;
}
