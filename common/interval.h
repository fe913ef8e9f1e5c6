/* How a range of items is shared out: part i of n owns [floor(i*total/n), floor((i+1)*total/n)). */
#ifndef COMMON_INTERVAL_H
#define COMMON_INTERVAL_H

#include <stdint.h>

struct interval {
    int64_t begin, end; /* half-open */
};

static inline int64_t interval_length(struct interval a) {
    return a.end - a.begin;
}

/* Part `i` of `n` of [0, total); 0 <= i < n; total * n must fit 63 bits. */
static inline struct interval interval_part(int64_t total, int64_t i, int64_t n) {
    return (struct interval){.begin = i * total / n, .end = (i + 1) * total / n};
}

/* Common part; empty results have end = begin. */
static inline struct interval interval_meet(struct interval a, struct interval b) {
    const int64_t begin = a.begin > b.begin ? a.begin : b.begin, end = a.end < b.end ? a.end : b.end;
    return (struct interval){.begin = begin, .end = end > begin ? end : begin};
}

#endif
