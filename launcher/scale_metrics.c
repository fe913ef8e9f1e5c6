/* bench scale: from a run's metrics.jsonl to one point of the curve. */
#include "launcher/scale.h"

#include "common/file.h"
#include "common/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { N_COLUMNS = 6, MAX_FILE_BYTES = 1 << 30 };

struct steps {
    double *values[N_COLUMNS]; /* images/s, step, exchange, reduce, data, imbalance */
    size_t n, capacity[N_COLUMNS];
};

static double number(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

/* Busiest group / least busy one. Groups are the objects with "busy_ms". */
static double imbalance(json_t *line) {
    double most = 0, least = 0;
    const char *key;
    json_t *value;
    json_object_foreach(line, key, value) {
        const json_t *busy = json_object_get(value, "busy_ms");
        const double ms = json_number_value(busy);
        if (!busy || ms <= 0) continue;
        if (ms > most) most = ms;
        if (least == 0 || ms < least) least = ms;
    }
    return least > 0 ? most / least : 1;
}

static status_t add_line(struct steps *steps, const char *text, size_t n_bytes) {
    json_t *line = json_loadb(text, n_bytes, 0, NULL);
    const char *phase = json_string_value(json_object_get(line, "phase"));
    status_t status = STATUS_OK;
    if (!phase || strcmp(phase, "cotrain") != 0) goto done;
    const double row[N_COLUMNS] = {number(line, "images_per_s"),     number(line, "step_ms"),
                                   number(line, "exchange_wait_ms"), number(line, "reduce_wait_ms"),
                                   number(line, "data_wait_ms"),     imbalance(line)};
    for (int c = 0; c < N_COLUMNS; c++) {
        CHECK_TO(done, memory_grow(&steps->values[c], steps->n, &steps->capacity[c], sizeof(double)),
                 STATUS_NO_MEMORY, "out of memory for %zu steps", steps->n);
        steps->values[c][steps->n] = row[c];
    }
    steps->n++;
done:
    json_decref(line);
    return status;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n) {
    qsort(values, n, sizeof *values, ascending);
    return 0.5 * (values[(n - 1) / 2] + values[n / 2]);
}

static status_t summarise(struct steps *steps, const char *path, int64_t skip, struct scale_point *out) {
    double of[N_COLUMNS];
    CHECK(steps->n > (size_t)skip, STATUS_BAD_DATA, "%s has %zu co-training steps, %lld are needed at least",
          path, steps->n, (long long)skip + 1);
    const size_t n = steps->n - (size_t)skip;
    for (int c = 0; c < N_COLUMNS; c++) of[c] = median(steps->values[c] + skip, n);
    out->n_steps = (int64_t)n;
    out->images_per_s = of[0], out->step_ms = of[1];
    out->exchange_ms = of[2], out->reduce_ms = of[3], out->data_ms = of[4];
    out->imbalance = of[5];
    CHECK(out->images_per_s > 0, STATUS_BAD_DATA, "%s tells no images_per_s", path);
    return STATUS_OK;
}

status_t scale_read(const char *run_folder, int64_t skip, struct scale_point *out) {
    char *path = file_join(run_folder, "metrics.jsonl"), *text = NULL;
    size_t n_bytes;
    struct steps steps = {.n = 0};
    status_t status = STATUS_OK;
    CHECK_TO(done, path, STATUS_NO_MEMORY, "out of memory for a path");
    TRY_TO(done, file_read_all(path, MAX_FILE_BYTES, &text, &n_bytes));
    for (const char *p = text; *p;) {
        const size_t n = strcspn(p, "\n");
        TRY_TO(done, add_line(&steps, p, n));
        p += n + (p[n] != '\0');
    }
    status = summarise(&steps, path, skip, out);
done:
    for (int c = 0; c < N_COLUMNS; c++) free(steps.values[c]);
    free(text);
    free(path);
    return status;
}

void scale_compare(struct scale_point *points, int n) {
    for (int i = 0; i < n; i++) {
        points[i].speed_up = points[i].images_per_s / points[0].images_per_s;
        points[i].efficiency = points[i].speed_up * points[0].n_ranks / points[i].n_ranks;
    }
}
