/* Hash map from image ids to numbers; open addressing, keys borrowed. */
#ifndef DATA_SHARDS_ID_MAP_H
#define DATA_SHARDS_ID_MAP_H

#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct id_map {
    struct id_slot {
        const char *key; /* NULL: free */
        uint32_t value;
    } * slots;
    size_t n_slots, n_keys; /* n_slots is a power of two */
};

/* An empty map with room for n_keys. */
status_t id_map_init(struct id_map *map, size_t n_keys);
void id_map_free(struct id_map *map); /* accepts a zeroed map */

/* Add key -> value, or, where the key is there already, leave it and give its value; true when it was new.
 * The caller adds at most n_keys keys. */
bool id_map_add(struct id_map *map, const char *key, uint32_t value, uint32_t *present_value);

bool id_map_find(const struct id_map *map, const char *key, uint32_t *value);

#endif
