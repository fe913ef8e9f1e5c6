#include "training/metrics_value.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

double metrics_now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double metrics_time_s(const json_t *record) {
    const json_t *time_ms = json_object_get(record, "time_ms");
    return json_is_number(time_ms) ? 1e-3 * json_number_value(time_ms) : metrics_now_s();
}

static bool is_number(const json_t *value) {
    return json_is_number(value) || json_is_null(value);
}

static double number(const json_t *value) {
    return json_is_number(value) ? json_number_value(value) : NAN;
}

void metrics_visit(json_t *record, void (*visit)(void *context, const struct metrics_value *value),
                   void *context) {
    const char *group, *name;
    json_t *value, *inner, *item;
    size_t i;
    json_object_foreach(record, group, value) {
        if (strcmp(group, "step") == 0 || strcmp(group, "time_ms") == 0) continue;
        if (is_number(value)) visit(context, &(struct metrics_value){"", group, -1, number(value)});
        json_object_foreach(value, name, inner) {
            if (is_number(inner)) visit(context, &(struct metrics_value){group, name, -1, number(inner)});
            json_array_foreach(inner, i, item) {
                if (is_number(item))
                    visit(context, &(struct metrics_value){group, name, (int64_t)i, number(item)});
            }
        }
    }
}
