#include "common/memory.h"

#include <string.h>

void *memory_aligned(size_t n_bytes) {
    if (n_bytes > SIZE_MAX - MEMORY_ALIGNMENT) return NULL;
    return aligned_alloc(MEMORY_ALIGNMENT, memory_round_up(n_bytes ? n_bytes : 1));
}

void *memory_zeroed(size_t n, size_t element_bytes) {
    return calloc(n ? n : 1, element_bytes);
}

bool memory_grow(void *items, size_t n, size_t *capacity, size_t element_bytes) {
    if (n < *capacity) return true;
    size_t grown = *capacity ? 2 * *capacity : 16, n_bytes;
    if (grown <= *capacity || !size_mul(grown, element_bytes, &n_bytes)) return false;
    void *old;
    memcpy(&old, items, sizeof old);
    void *moved = realloc(old, n_bytes);
    if (!moved) return false;
    memcpy(items, &moved, sizeof moved);
    *capacity = grown;
    return true;
}
