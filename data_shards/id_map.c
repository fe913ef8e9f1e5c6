#include "data_shards/id_map.h"

#include "common/memory.h"

#include <string.h>
#include <xxhash.h>

status_t id_map_init(struct id_map *map, size_t n_keys) {
    size_t n_slots = 16;
    while (n_slots < 2 * n_keys && n_slots < SIZE_MAX / 2) n_slots *= 2;
    *map = (struct id_map){.slots = memory_zeroed(n_slots, sizeof *map->slots), .n_slots = n_slots};
    CHECK(map->slots, STATUS_NO_MEMORY, "out of memory for a table of %zu image ids", n_keys);
    return STATUS_OK;
}

void id_map_free(struct id_map *map) {
    free(map->slots);
    *map = (struct id_map){0};
}

/* The slot that holds the key, or the free one where it belongs. */
static struct id_slot *slot_of(const struct id_map *map, const char *key) {
    size_t at = (size_t)XXH3_64bits(key, strlen(key)) & (map->n_slots - 1);
    while (map->slots[at].key && strcmp(map->slots[at].key, key) != 0) at = (at + 1) & (map->n_slots - 1);
    return &map->slots[at];
}

bool id_map_add(struct id_map *map, const char *key, uint32_t value, uint32_t *present_value) {
    struct id_slot *slot = slot_of(map, key);
    const bool is_new = !slot->key;
    if (is_new) {
        *slot = (struct id_slot){.key = key, .value = value};
        map->n_keys++;
    } else if (present_value) {
        *present_value = slot->value;
    }
    return is_new;
}

bool id_map_find(const struct id_map *map, const char *key, uint32_t *value) {
    if (!map->slots) return false;
    const struct id_slot *slot = slot_of(map, key);
    if (!slot->key) return false;
    *value = slot->value;
    return true;
}
