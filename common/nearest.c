#include "common/nearest.h"

#include <ctype.h>
#include <string.h>

enum { LONGEST = 63 };

static int least(int a, int b) {
    return a < b ? a : b;
}

int nearest_distance(const char *a, const char *b) {
    const int n = (int)strnlen(a, LONGEST), m = (int)strnlen(b, LONGEST);
    int row[3][LONGEST + 1]; /* distances of the prefixes of a of length i, i - 1 and i - 2 to those of b */
    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            const int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                tolower((unsigned char)a[i - 2]) == y)
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

int nearest_limit(const char *word) {
    const int third = (int)strnlen(word, LONGEST) / 3;
    return third < 1 ? 1 : third > 4 ? 4 : third;
}

struct nearest nearest_start(const char *word) {
    return (struct nearest){.word = word, .best = NULL, .distance = nearest_limit(word) + 1};
}

void nearest_offer_as(struct nearest *nearest, const char *known, const char *label) {
    const int distance = nearest_distance(nearest->word, known);
    if (distance >= nearest->distance) return;
    nearest->distance = distance;
    nearest->best = label;
}

void nearest_offer(struct nearest *nearest, const char *candidate) {
    nearest_offer_as(nearest, candidate, candidate);
}
