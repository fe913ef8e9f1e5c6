#include "launcher/run_folder.h"

#include "common/file.h"
#include "launcher/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lines "  key: value" of these keys, and everything below these top-level blocks, may change between two
 * starts. */
static const char *const free_blocks[] = {"log",  "comm", "checkpoint", "device",    "stages",
                                          "cuda", "run",  "variant",    "recompute", "evaluate"};
static const char *const free_keys[] = {"workers", "read_ahead", "cache_mb",  "verify",
                                        "ranks",   "folder",     "batch_size"};

struct line {
    int indent;
    char key[64];
};

static struct line parse_line(const char *text, size_t n) {
    struct line line = {0};
    while ((size_t)line.indent < n && (text[line.indent] == ' ' || text[line.indent] == '-')) line.indent++;
    for (size_t i = (size_t)line.indent, j = 0; i < n && text[i] != ':' && j + 1 < sizeof line.key; i++, j++)
        line.key[j] = text[i];
    return line;
}

static bool among(const char *key, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(key, list[i]) == 0) return true;
    return false;
}

/* The lines that fix what is computed, one after the other (caller frees); NULL when out of memory. */
static char *essence(const char *text) {
    char *out = calloc(strlen(text) + 1, 1), *end = out;
    bool skipping = false;
    for (const char *p = text; out && *p;) {
        const char *newline = strchr(p, '\n');
        const size_t n = newline ? (size_t)(newline - p) : strlen(p);
        const struct line line = parse_line(p, n);
        if (n > 0 && line.indent == 0 && p[0] != '#')
            skipping = among(line.key, free_blocks, sizeof free_blocks / sizeof *free_blocks);
        if (n > 0 && p[0] != '#' && !skipping &&
            !among(line.key, free_keys, sizeof free_keys / sizeof *free_keys)) {
            memcpy(end, p, n);
            end += n;
            *end++ = '\n';
        }
        p += n + (newline != NULL);
    }
    return out;
}

static status_t compare(const char *path, const char *before, const char *now) {
    char *a = essence(before), *b = essence(now);
    status_t status = STATUS_OK;
    CHECK_TO(done, a && b, STATUS_NO_MEMORY, "out of memory for the configuration");
    const char *p = a, *q = b;
    while (*p && *p == *q) p++, q++;
    if (*p == *q) goto done;
    while (p > a && p[-1] != '\n') p--, q--;
    CHECK_TO(done, false, STATUS_BAD_CONFIG,
             "%s is of a run with another configuration: it has '%.*s' where this start has '%.*s'; give "
             "this run another "
             "directory (run=DIR) or go on with the old configuration",
             path, (int)strcspn(p, "\n"), p, (int)strcspn(q, "\n"), q);
done:
    free(a);
    free(b);
    return status;
}

status_t run_folder_prepare(const struct settings *settings) {
    char *path = file_join(settings->run, "config.yaml"), *before = NULL, *now = NULL;
    size_t n_before, n_now;
    status_t status = STATUS_OK;
    CHECK_TO(done, path, STATUS_NO_MEMORY, "out of memory for a path");
    if (!file_exists(path)) {
        TRY_TO(done, file_make_folders(settings->run));
        status = config_write_file(settings, path);
        goto done;
    }
    FILE *out = open_memstream(&now, &n_now);
    CHECK_TO(done, out, STATUS_NO_MEMORY, "out of memory for the configuration");
    status = config_write(settings, out);
    fclose(out);
    if (status != STATUS_OK) goto done;
    TRY_TO(done, file_read_all(path, 1 << 24, &before, &n_before));
    status = compare(path, before, now);
done:
    free(path);
    free(before);
    free(now);
    return status;
}
