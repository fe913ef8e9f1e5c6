#include "launcher/config.h"

#include "launcher/config_complete.h"
#include "launcher/config_key.h"
#include "launcher/config_value.h"

#include "common/file.h"
#include "common/memory.h"
#include "common/nearest.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One source of values being applied: the file, a variable, an argument. */
struct source {
    struct config_reading *reading;
    const char *origin; /* for faults found now */
    const char *kept;   /* for faults found later: outlives this source */
    const char *folder; /* where its relative input paths start; NULL: the current directory */
};

static void apply_mapping(struct source *s, const char *path, int peer, const struct config_node *node);

static void mark_given(struct source *s, int key, int peer, const struct config_node *node) {
    s->reading->origins[key][peer] = (struct config_origin){
        .given = true, .line = node->line, .column = node->column, .origin = s->kept, .folder = s->folder};
}

/* A model given as a preset's name ends an older shape of its own, and the other way round. */
static void choose_model_form(struct source *s, int key, int peer, bool own_shape) {
    struct config_reading *r = s->reading;
    const size_t n = strlen(config_keys[key].path);
    if (own_shape) {
        char *preset = *(char **)config_key_place(&config_keys[key], r->settings, peer);
        if (preset) preset[0] = '\0';
        return;
    }
    for (int i = 0; i < config_n_keys; i++)
        if (strncmp(config_keys[i].path, config_keys[key].path, n) == 0 && config_keys[i].path[n] == '.')
            r->origins[i][peer].given = false,
            config_value_zero(&config_keys[i], config_key_place(&config_keys[i], r->settings, peer));
}

/* The node stands for the key or section `path`. */
static void apply(struct source *s, const char *path, int peer, const struct config_node *node) {
    struct config_reading *r = s->reading;
    const int key = config_key_find(path);
    const bool section = config_key_is_section(path);
    if (section && node->kind == CONFIG_MAPPING) {
        if (key >= 0) {
            choose_model_form(s, key, peer, true);
            mark_given(s, key, peer, node);
        }
        apply_mapping(s, path, peer, node);
    } else if (key >= 0) {
        void *place = config_key_place(&config_keys[key], r->settings, peer);
        if (!config_value_set(&config_keys[key], node, s->origin, &r->faults, place)) return;
        if (section) choose_model_form(s, key, peer, false);
        mark_given(s, key, peer, node);
    } else if (section) {
        if (node->kind == CONFIG_SCALAR && node->text[0] == '\0' && !node->quoted)
            return; /* "heads:" and nothing */
        config_fault(&r->faults, s->origin, node->line, node->column,
                     "%s is a section: expected keys under it", path);
    } else {
        char nearest[CONFIG_MAX_PATH];
        config_key_nearest(path, nearest, sizeof nearest);
        config_fault(&r->faults, s->origin, node->line, node->column, "unknown key %s%s", path, nearest);
    }
}

static void apply_peers(struct source *s, const struct config_node *node) {
    struct config_reading *r = s->reading;
    if (node->kind != CONFIG_SEQUENCE || node->n_children < 1 || node->n_children > SETTINGS_MAX_PEERS) {
        config_fault(&r->faults, s->origin, node->line, node->column,
                     "peers: expected a list of 1 to %d networks", SETTINGS_MAX_PEERS);
        return;
    }
    r->settings->n_peers = node->n_children;
    for (int i = 0; i < node->n_children; i++) {
        const struct config_node *item = &node->children[i];
        r->peer_line[i] = item->line;
        r->peer_column[i] = item->column;
        if (item->kind == CONFIG_MAPPING)
            apply_mapping(s, "peers[]", i, item);
        else
            config_fault(&r->faults, s->origin, item->line, item->column,
                         "peers: each is a section {name: ..., model: ...}");
    }
}

/* Each key once, each known; `path` "" at the top. */
static void apply_mapping(struct source *s, const char *path, int peer, const struct config_node *node) {
    for (int i = 0; i < node->n_children; i++) {
        const struct config_node *key = &node->keys[i], *value = &node->children[i];
        char full[CONFIG_MAX_PATH];
        const int n = snprintf(full, sizeof full, "%s%s%s", path, path[0] ? "." : "", key->text);
        int first = 0;
        while (first < i && strcmp(node->keys[first].text, key->text) != 0) first++;
        if (first < i)
            config_fault(&s->reading->faults, s->origin, key->line, key->column,
                         "%s appears twice, first in line %d", full, node->keys[first].line);
        else if (n >= (int)sizeof full || key->text[0] == '\0' || strpbrk(key->text, ".[]"))
            config_fault(&s->reading->faults, s->origin, key->line, key->column, "'%.80s' cannot be a key",
                         key->text);
        else if (strcmp(full, "peers") == 0)
            apply_peers(s, value);
        else if (config_key_find(full) < 0 &&
                 !config_key_is_section(full)) { /* point at the key, not at its value */
            char nearest[CONFIG_MAX_PATH];
            config_key_nearest(full, nearest, sizeof nearest);
            config_fault(&s->reading->faults, s->origin, key->line, key->column, "unknown key %s%s", full,
                         nearest);
        } else
            apply(s, full, peer, value);
    }
}

/* ---- above the file
 * ---------------------------------------------------------------------------------------- */

/* The peer that "0" or "swin" means, or -1 with a fault. */
static int find_peer(struct source *s, const char *word, size_t n) {
    const struct settings *settings = s->reading->settings;
    struct config_reading *r = s->reading;
    if (n > 0 && strspn(word, "0123456789") >= n) {
        const long index = strtol(word, NULL, 10);
        if (index < settings->n_peers) return (int)index;
        config_fault(&r->faults, s->origin, 0, 0,
                     "there is no peer %ld: the configuration has %d, counted from 0", index,
                     settings->n_peers);
        return -1;
    }
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)n, word);
    struct nearest nearest = nearest_start(text);
    for (int i = 0; i < settings->n_peers; i++) {
        const char *name = settings->peers[i].name;
        if (strlen(name) == n && strncasecmp(name, word, n) == 0) return i;
        nearest_offer(&nearest, name);
    }
    config_fault(&r->faults, s->origin, 0, 0, "there is no peer named %s%s%s", text,
                 nearest.best ? "; nearest: " : "", nearest.best ? nearest.best : "");
    return -1;
}

/* "peers.swin.ranks" -> "peers[].ranks" and the peer; other paths as they are. false with a fault. */
static bool resolve_path(struct source *s, const char *given, char *path, size_t n_bytes, int *peer) {
    *peer = 0;
    if (strncmp(given, "peers.", 6) != 0) return snprintf(path, n_bytes, "%s", given) < (int)n_bytes;
    const size_t n = strcspn(given + 6, ".");
    *peer = find_peer(s, given + 6, n);
    return *peer >= 0 && snprintf(path, n_bytes, "peers[]%s", given + 6 + n) < (int)n_bytes;
}

/* A value written in an argument or a variable: YAML, but text stays text. */
static void apply_text(struct source *s, const char *path, int peer, const char *text) {
    const int key = config_key_find(path);
    if (strcmp(path, "peers") == 0 || (key < 0 && !config_key_is_section(path))) {
        char nearest[CONFIG_MAX_PATH] = "; give one of a peer's keys: peers.0.ranks=2";
        if (key < 0 && strcmp(path, "peers") != 0) config_key_nearest(path, nearest, sizeof nearest);
        config_fault(&s->reading->faults, s->origin, 0, 0, "unknown key %s%s", path, nearest);
        return;
    }
    struct config_node node;
    if (key >= 0 && config_keys[key].type == CONFIG_STRING && text[0] != '{') {
        node = (struct config_node){.kind = CONFIG_SCALAR, .text = (char *)text, .quoted = true};
        apply(s, path, peer, &node);
    } else if (config_tree_read(s->origin, text, strlen(text), &s->reading->faults, &node) == STATUS_OK) {
        if (text[0] == '\0') node = (struct config_node){.kind = CONFIG_SCALAR, .text = strdup("")};
        if (node.kind != CONFIG_SCALAR || node.text) apply(s, path, peer, &node);
        config_tree_free(&node);
    }
}

static void apply_argument(struct config_reading *r, const char *argument) {
    char path[CONFIG_MAX_PATH], given[CONFIG_MAX_PATH];
    const char *equals = strchr(argument, '=');
    struct source s = {.reading = r, .origin = "command line", .kept = "command line"};
    int peer;
    if (!equals || equals == argument || equals - argument >= (long)sizeof given) {
        config_fault(&r->faults, s.origin, 0, 0, "'%.80s' is not of the form key=value", argument);
        return;
    }
    snprintf(given, sizeof given, "%.*s", (int)(equals - argument), argument);
    if (resolve_path(&s, given, path, sizeof path, &peer)) apply_text(&s, path, peer, equals + 1);
}

/* MARRS_COTRAIN_STEPS for "cotrain.steps", MARRS_PEERS_SWIN_RANKS or MARRS_PEERS_1_RANKS for "peers[].ranks".
 */
static bool is_variable_of(const char *name, const char *path) {
    for (; *path; path++, name++) {
        const char c = *path == '.' || *path == '-' ? '_' : (char)toupper((unsigned char)*path);
        if (*name != c) return false;
    }
    return *name == '\0';
}

/* Variables of the same prefix that are no keys. */
static bool is_reserved(const char *name) {
    static const char *const reserved[] = {"ISA",         "TEST_",     "DEBUG_",
                                           "CUDA_PLUGIN", "CUDA_TWIN", "CONV_ENGINE"};
    for (size_t i = 0; i < ARRAY_LENGTH(reserved); i++)
        if (strncmp(name, reserved[i], strlen(reserved[i])) == 0) return true;
    return false;
}

static bool apply_peer_variable(struct source *s, const char *name, const char *value) {
    for (int peer = 0; peer < s->reading->settings->n_peers; peer++)
        for (int key = 0; key < config_n_keys; key++) {
            if (!config_key_is_peer(&config_keys[key])) continue;
            char by_index[CONFIG_MAX_PATH], by_name[CONFIG_MAX_PATH];
            const char *rest = config_keys[key].path + strlen("peers[].");
            snprintf(by_index, sizeof by_index, "peers.%d.%s", peer, rest);
            snprintf(by_name, sizeof by_name, "peers.%s.%s", s->reading->settings->peers[peer].name, rest);
            if (!is_variable_of(name, by_index) && !is_variable_of(name, by_name)) continue;
            apply_text(s, config_keys[key].path, peer, value);
            return true;
        }
    return false;
}

static void apply_variable(struct config_reading *r, const char *entry) {
    const char *equals = strchr(entry, '=');
    if (strncmp(entry, "MARRS_", 6) != 0 || !equals) return;
    char name[CONFIG_MAX_PATH];
    if (snprintf(name, sizeof name, "%.*s", (int)(equals - entry), entry) >= (int)sizeof name) return;
    struct source s = {.reading = r, .origin = name, .kept = "environment"};
    if (is_reserved(name + 6) || apply_peer_variable(&s, name + 6, equals + 1)) return;
    struct nearest nearest = nearest_start(name);
    static _Thread_local char variables[CONFIG_MAX_KEYS][80];
    for (int key = 0; key < config_n_keys; key++) {
        if (config_key_is_peer(&config_keys[key])) continue;
        if (is_variable_of(name + 6, config_keys[key].path)) {
            apply_text(&s, config_keys[key].path, 0, equals + 1);
            return;
        }
        int n = snprintf(variables[key], sizeof variables[key], "MARRS_%s", config_keys[key].path);
        for (char *p = variables[key]; n-- > 0; p++) *p = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
        nearest_offer(&nearest, variables[key]);
    }
    config_fault(&r->faults, name, 0, 0, "no configuration key has this name%s%s",
                 nearest.best ? "; nearest: " : "", nearest.best ? nearest.best : "");
}

/* ---- all together
 * ------------------------------------------------------------------------------------------ */

static status_t set_defaults(struct settings *settings) {
    for (int key = 0; key < config_n_keys; key++) {
        const int n = config_key_is_peer(&config_keys[key]) ? SETTINGS_MAX_PEERS : 1;
        for (int peer = 0; peer < n; peer++)
            TRY(config_value_default(&config_keys[key], config_key_place(&config_keys[key], settings, peer)));
    }
    return STATUS_OK;
}

/* The faults as this thread's message. */
static status_t report(const struct config_faults *faults) {
    if (faults->n == 1) return FAIL(STATUS_BAD_CONFIG, "%s", faults->text ? faults->text : "out of memory");
    return FAIL(STATUS_BAD_CONFIG, "%s\n%d faults", faults->text ? faults->text : "out of memory", faults->n);
}

status_t config_read_text(const char *origin, const char *folder, const char *text, size_t n_bytes,
                          const struct config_overrides *overrides, struct settings *out) {
    static const struct config_overrides nothing = {0};
    if (!overrides) overrides = &nothing;
    struct settings *settings = calloc(1, sizeof *settings);
    struct config_reading *r = calloc(1, sizeof *r);
    struct config_node root = {0};
    status_t status = STATUS_OK;
    CHECK_TO(done, settings && r, STATUS_NO_MEMORY, "out of memory for the configuration");
    r->settings = settings;
    r->origin = origin;
    TRY_TO(done, set_defaults(settings));
    status = config_tree_read(origin, text, n_bytes, &r->faults, &root);
    if (status == STATUS_BAD_CONFIG) status = report(&r->faults);
    if (status != STATUS_OK) goto done;
    struct source file = {.reading = r, .origin = origin, .kept = origin, .folder = folder};
    if (root.kind == CONFIG_MAPPING)
        apply_mapping(&file, "", 0, &root);
    else
        config_fault(&r->faults, origin, root.line, root.column, "expected keys and values (run: runs/mine)");
    for (char *const *entry = overrides->environment; entry && *entry; entry++) apply_variable(r, *entry);
    for (int i = 0; i < overrides->n_arguments; i++) apply_argument(r, overrides->arguments[i]);
    TRY_TO(done, config_complete(r));
    if (r->faults.n > 0) status = report(&r->faults);
    if (status == STATUS_OK) {
        *out = *settings;
        memset(settings, 0, sizeof *settings);
    }
done:
    config_tree_free(&root);
    if (r) config_faults_free(&r->faults);
    free(r);
    settings_free(settings);
    free(settings);
    return status;
}

status_t config_read(const char *path, const struct config_overrides *overrides, struct settings *out) {
    char *text = NULL, *folder = NULL;
    size_t n_bytes = 0;
    status_t status = file_read_all(path, 1 << 20, &text, &n_bytes);
    if (status != STATUS_OK) return status_context(status, "configuration");
    const char *slash = strrchr(path, '/');
    folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    CHECK_TO(done, folder, STATUS_NO_MEMORY, "out of memory for a path");
    status = config_read_text(path, folder, text, n_bytes, overrides, out);
done:
    free(folder);
    free(text);
    return status;
}
