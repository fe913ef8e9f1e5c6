#include "launcher/config_key.h"

#include "common/nearest.h"

#include <stdio.h>
#include <string.h>

int config_key_find(const char *path) {
    for (int i = 0; i < config_n_keys; i++)
        if (strcmp(config_keys[i].path, path) == 0) return i;
    return -1;
}

static bool lies_in(const char *key, const char *section, size_t n) {
    return strncmp(key, section, n) == 0 &&
           (key[n] == '.' || (key[n] == '[' && strchr(section, ']') == NULL));
}

bool config_key_is_section(const char *path) {
    const size_t n = strlen(path);
    for (int i = 0; i < config_n_keys; i++)
        if (lies_in(config_keys[i].path, path, n)) return true;
    return false;
}

static const char *last_word(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

void config_key_nearest(const char *path, char *text, size_t n_bytes) {
    const char *word = last_word(path);
    const size_t n = (size_t)(word - path); /* with the dot */
    static _Thread_local char siblings[CONFIG_MAX_KEYS][64];
    struct nearest nearest = nearest_start(word);
    for (int i = 0; i < config_n_keys; i++) { /* children of the same section, whole sub-sections too */
        if (strncmp(config_keys[i].path, path, n) != 0) continue;
        const char *rest = config_keys[i].path + n;
        snprintf(siblings[i], sizeof siblings[i], "%.*s", (int)strcspn(rest, ".["), rest);
        nearest_offer(&nearest, siblings[i]);
    }
    if (nearest.best) {
        snprintf(text, n_bytes, "; nearest: %.*s%s", (int)n, path, nearest.best);
        return;
    }
    for (int i = 0; i < config_n_keys; i++)
        nearest_offer_as(&nearest, last_word(config_keys[i].path), config_keys[i].path);
    if (nearest.best)
        snprintf(text, n_bytes, "; nearest: %s", nearest.best);
    else
        text[0] = '\0';
}

bool config_key_is_peer(const struct config_key *key) {
    return strncmp(key->path, "peers[].", 8) == 0;
}

void *config_key_place(const struct config_key *key, struct settings *settings, int peer) {
    char *base = config_key_is_peer(key) ? (char *)&settings->peers[peer] : (char *)settings;
    return base + key->offset;
}
