/* Memory: overflow-checked arrays and 64-byte aligned blocks. */
#ifndef COMMON_MEMORY_H
#define COMMON_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define MEMORY_ALIGNMENT 64 /* a cache line, an AVX-512 register */

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static inline size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}
static inline size_t size_max(size_t a, size_t b) {
    return a > b ? a : b;
}

/* n_bytes rounded up to MEMORY_ALIGNMENT; the caller has checked that it does not overflow. */
static inline size_t memory_round_up(size_t n_bytes) {
    return (n_bytes + (MEMORY_ALIGNMENT - 1)) & ~(size_t)(MEMORY_ALIGNMENT - 1);
}

/* *out = a * b; false when that overflows. For sizes that come from files. */
static inline bool size_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

/* 64-byte aligned, not zeroed; NULL when out of memory. n_bytes = 0 gives a valid pointer. Release with
 * free(). */
void *memory_aligned(size_t n_bytes);

/* Zeroed array of n elements; NULL when out of memory or when n * element_bytes overflows. Release with
 * free(). */
void *memory_zeroed(size_t n, size_t element_bytes);

/* Make room for one more element in a growing array: doubles *items (elements of element_bytes) when
 * *capacity is reached. false when out of memory: *items stays valid. */
bool memory_grow(void *items, size_t n, size_t *capacity, size_t element_bytes);

#endif
