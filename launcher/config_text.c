/* The configuration and its keys as text: effective YAML, terminal help, markdown. */
#include "launcher/config.h"

#include "launcher/config_key.h"
#include "launcher/config_value.h"

#include "common/file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- effective configuration
 * ------------------------------------------------------------------------------- */

/* A block of lines being written: keys share `prefix` ("peers[]." or ""), sections open as they come. */
struct block {
    FILE *out;
    struct settings *settings;
    const char *prefix;
    int peer, indent;
    char last[CONFIG_MAX_PATH]; /* path of the last line, without prefix */
    bool dash;                  /* the next line begins an item of a list */
};

static void begin_line(struct block *b, int depth) {
    for (int i = 0; i < b->indent + 2 * depth; i++) fputc(b->dash && i == b->indent - 2 ? '-' : ' ', b->out);
    b->dash = false;
}

/* Open the sections of `path` that the last line was not in, then write "key: ". */
static void write_key(struct block *b, const char *path) {
    int depth = 0;
    bool same = true;
    const char *word = path, *old = b->last;
    for (size_t n; word[n = strcspn(word, ".")] == '.'; word += n + 1, depth++) {
        const size_t m = strcspn(old, ".");
        same = same && n == m && old[m] == '.' && strncmp(word, old, n) == 0;
        if (same) {
            old += m + 1;
            continue;
        }
        begin_line(b, depth);
        fprintf(b->out, "%.*s:\n", (int)n, word);
    }
    begin_line(b, depth);
    fprintf(b->out, "%s: ", word);
    snprintf(b->last, sizeof b->last, "%s", path);
}

/* The `model` key that this key is or belongs to, or -1. */
static int model_key(const struct config_key *key) {
    char path[CONFIG_MAX_PATH];
    snprintf(path, sizeof path, "%s", key->path);
    char *at = strstr(path, ".model");
    if (!at || (at[6] != '\0' && at[6] != '.')) return -1;
    at[6] = '\0';
    return config_key_find(path);
}

/* A model is written either as its preset's name or as the shape keys that were given. */
static bool is_written(struct block *b, const struct config_key *key) {
    const int model = model_key(key);
    if (model < 0) return true;
    const char *preset = *(char **)config_key_place(&config_keys[model], b->settings, b->peer);
    if (key == &config_keys[model]) return preset[0] != '\0';
    if (preset[0]) return false;
    const void *place = config_key_place(key, b->settings, b->peer);
    return strcmp(strrchr(key->path, '.'), ".family") == 0 || !config_value_is_zero(key, place);
}

static void write_block(struct block *b) {
    const size_t n = strlen(b->prefix);
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if ((n > 0 && strncmp(key->path, b->prefix, n) != 0) || (n == 0 && config_key_is_peer(key))) continue;
        if (!is_written(b, key)) continue;
        write_key(b, key->path + n);
        config_value_write(key, config_key_place(key, b->settings, b->peer), b->out);
        fputc('\n', b->out);
    }
}

status_t config_write(const struct settings *settings, FILE *out) {
    struct block top = {.out = out, .settings = (struct settings *)settings, .prefix = ""};
    write_block(&top);
    fputs("peers:\n", out);
    for (int i = 0; i < settings->n_peers; i++) {
        struct block peer = {.out = out,
                             .settings = (struct settings *)settings,
                             .prefix = "peers[].",
                             .peer = i,
                             .indent = 4,
                             .dash = true};
        write_block(&peer);
    }
    CHECK(!ferror(out), STATUS_IO, "cannot write the configuration");
    return STATUS_OK;
}

status_t config_write_file(const struct settings *settings, const char *path) {
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *memory = open_memstream(&text, &n_bytes);
    CHECK(memory, STATUS_NO_MEMORY, "out of memory for the configuration");
    fprintf(memory, "# marrs_dist %s: the configuration in force, every key with its value\n", MARRS_VERSION);
    status_t status = config_write(settings, memory);
    if (fclose(memory) != 0 && status == STATUS_OK)
        status = FAIL(STATUS_NO_MEMORY, "out of memory for the configuration");
    if (status == STATUS_OK) status = file_write_atomic(path, text, n_bytes);
    free(text);
    return status;
}

/* ---- keys
 * -------------------------------------------------------------------------------------------------- */

static const char *default_text(const struct config_key *key) {
    if (key->required) return "required";
    if (!key->fallback) return "the family's"; /* shape keys */
    return key->fallback[0] ? key->fallback : "none";
}

/* First word of a path: its section, "" for keys at the top. */
static void section_of(const struct config_key *key, char *text, size_t n_bytes) {
    const size_t n = strcspn(key->path, ".[");
    snprintf(text, n_bytes, "%.*s", key->path[n] ? (int)n : 0, key->path);
}

/* Shape keys of the student are those of the peers; said once. */
static bool is_repeated(const struct config_key *key) {
    return key->families != 0 && strncmp(key->path, "distil.", 7) == 0;
}

void config_print_help(FILE *out) {
    char section[64] = "", now[64], kind[160];
    fputs("\nKeys of a configuration. Given as key=value after CONFIG they override it, as do variables "
          "MARRS_KEY of the\n"
          "environment (MARRS_COTRAIN_STEPS=10); a peer's keys are peers.0.ranks or peers.NAME.ranks "
          "there.\n\n",
          out);
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if (is_repeated(key)) continue;
        section_of(key, now, sizeof now);
        if (strcmp(now, section) != 0)
            fprintf(out, "\n%s: %s\n", now, config_section_help(now) ? config_section_help(now) : "");
        snprintf(section, sizeof section, "%s", now);
        config_value_kind(key, kind, sizeof kind);
        fprintf(out, "  %-34s %s [%s]\n  %-34s   %s\n", key->path, kind, default_text(key), "", key->help);
    }
}

/* A cell of a table: bars would end it. */
static void write_cell(const char *text, FILE *out) {
    for (; *text; text++) fprintf(out, *text == '|' ? "\\|" : "%c", *text);
}

void config_print_markdown(FILE *out) {
    char section[64] = "?", now[64], kind[160];
    fputs("# Configuration\n\n"
          "Made by `marrs_dist config --markdown` from the table in `launcher/config_schema.c`.\n\n"
          "A configuration is a YAML file (one document; no anchors, aliases or tags). Above it stand "
          "variables\n"
          "`MARRS_KEY` of the environment (`MARRS_COTRAIN_STEPS=10`), and above them `key=value` of the "
          "command line\n"
          "(`cotrain.steps=10`, `peers.0.ranks=2`, `peers.swin.ranks=2`, `stages=[cotrain]`). Every fault is "
          "told with\n"
          "file, line and column, all of them in one run, and nothing is started (exit code 78).\n\n"
          "Paths of inputs (`data.*`, `weights`) that are relative start at the folder of the configuration "
          "file; those\n"
          "of `data` at `data.folder` where it is given; those on the command line or in the environment at "
          "the current\n"
          "directory. `run` and `features.folder` start at the current directory. `marrs_dist config --print "
          "CONFIG`\n"
          "shows the configuration in force.\n",
          out);
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if (is_repeated(key)) continue;
        section_of(key, now, sizeof now);
        if (strcmp(now, section) != 0) {
            if (now[0])
                fprintf(out, "\n## %s\n\n%s.\n\n", now,
                        config_section_help(now) ? config_section_help(now) : now);
            else
                fputs("\n## Top level\n\n", out);
            fputs("| key | value | default | meaning |\n|---|---|---|---|\n", out);
        }
        snprintf(section, sizeof section, "%s", now);
        config_value_kind(key, kind, sizeof kind);
        fprintf(out, "| `%s` | ", key->path);
        write_cell(kind, out);
        fprintf(out, " | %s | ", default_text(key));
        write_cell(key->help, out);
        fputs(" |\n", out);
    }
    fputs("\n`distil.student.model` takes the same shape keys as `peers[].model`.\n", out);
}

/* ---- the default configuration
 * ----------------------------------------------------------------------------- */

status_t config_default_path(char **path) {
    static const char *const places[] = {"../configs/digits.yaml", "../share/marrs_dist/configs/digits.yaml"};
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(n > 0, STATUS_INTERNAL, "cannot find out where this program lies");
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char *candidate = file_join(self, places[i]);
        CHECK(candidate, STATUS_NO_MEMORY, "out of memory for a path");
        *path = realpath(candidate, NULL);
        free(candidate);
        if (*path) return STATUS_OK;
    }
    return FAIL(STATUS_MISSING, "no default configuration: neither %s nor %s from %s", places[0], places[1],
                self);
}
