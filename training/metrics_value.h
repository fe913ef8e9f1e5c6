/* The numbers of one record of metrics.jsonl, one after the other, for whoever shows them elsewhere. */
#ifndef TRAINING_METRICS_VALUE_H
#define TRAINING_METRICS_VALUE_H

#include <jansson.h>
#include <stdint.h>

/* {"convnext": {"loss": 1.2}} is group "convnext", name "loss"; a number at the top has group "". Of an array
 * ({"ranks": {"data_ms": [..]}}) every item is a value, with its index. */
struct metrics_value {
    const char *group, *name; /* borrowed from the record */
    int64_t index;            /* -1: no array */
    double value;             /* NAN where the record has null */
};

/* Calls visit for each number but "step" and "time_ms", in the record's order. */
void metrics_visit(json_t *record, void (*visit)(void *context, const struct metrics_value *value),
                   void *context);

/* The record's "time_ms" in seconds since 1970, or now where it has none. */
double metrics_time_s(const json_t *record);

/* Seconds since 1970. */
double metrics_now_s(void);

#endif
