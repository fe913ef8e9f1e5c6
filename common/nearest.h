/* The nearest of some names to a misspelt word, for error messages. */
#ifndef COMMON_NEAREST_H
#define COMMON_NEAREST_H

#include <stddef.h>

/* Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours cost 1
 * each; case does not count. Words longer than 63 characters are cut there. */
int nearest_distance(const char *a, const char *b);

/* Largest distance at which a word of this length still counts as a misspelling: 1 to 3 characters 1, then a
 * third, at most 4. */
int nearest_limit(const char *word);

/* Keeps the best candidate offered so far. Start with nearest_start(word); `best` is borrowed, NULL while
 * none is near. Of two as near the one offered first stays. */
struct nearest {
    const char *word, *best;
    int distance;
};

struct nearest nearest_start(const char *word);
void nearest_offer(struct nearest *nearest, const char *candidate);

/* As offered: `known` compared, `label` kept (for a candidate whose full name is longer than what is
 * compared). */
void nearest_offer_as(struct nearest *nearest, const char *known, const char *label);

#endif
