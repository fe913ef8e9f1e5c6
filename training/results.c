#include "training/results.h"

#include "common/file.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct results {
    char *path;
    json_t *root;
    bool failed; /* a value could not be kept: no memory */
};

status_t results_open(const char *path, struct results **out) {
    struct results *r = calloc(1, sizeof *r);
    CHECK(r, STATUS_NO_MEMORY, "out of memory for %s", path);
    status_t status = STATUS_OK;
    r->path = strdup(path);
    CHECK_TO(fail, r->path, STATUS_NO_MEMORY, "out of memory for %s", path);
    if (file_exists(path)) {
        json_error_t error;
        r->root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
        CHECK_TO(fail, r->root && json_is_object(r->root), STATUS_BAD_DATA,
                 "%s:%d:%d: %s; remove the file to start the run's results anew", path, error.line,
                 error.column, r->root ? "not an object" : error.text);
    } else {
        r->root = json_object();
        CHECK_TO(fail, r->root, STATUS_NO_MEMORY, "out of memory for %s", path);
    }
    *out = r;
    return STATUS_OK;
fail:
    results_close(r);
    return status;
}

void results_close(struct results *r) {
    if (!r) return;
    json_decref(r->root);
    free(r->path);
    free(r);
}

/* The object at root[a][b], made where missing; b NULL: root[a]. */
static json_t *object_at(struct results *r, const char *a, const char *b) {
    json_t *o = r->root;
    const char *const names[] = {a, b};
    for (int i = 0; i < 2 && names[i]; i++) {
        json_t *next = json_object_get(o, names[i]);
        if (!json_is_object(next)) {
            next = json_object();
            if (json_object_set_new(o, names[i], next) != 0) r->failed = true;
        }
        o = next;
    }
    return o;
}

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

void results_accuracy(struct results *r, const char *phase, const char *model, const char *split,
                      double per_cent) {
    if (r) r->failed |= json_object_set_new(object_at(r, phase, model), split, number(per_cent)) != 0;
}

void results_classes(struct results *r, int32_t n_classes, const char *(*name)(const void *, int32_t),
                     const void *context) {
    if (!r) return;
    json_t *list = json_array();
    for (int32_t k = 0; k < n_classes; k++)
        r->failed |= json_array_append_new(list, json_string(name(context, k))) != 0;
    r->failed |= json_object_set_new(r->root, "classes", list) != 0;
}

void results_confusion(struct results *r, const char *model, int32_t n_classes, const int64_t *confusion) {
    if (!r) return;
    json_t *rows = json_array(), *per_class = json_array();
    for (int32_t i = 0; i < n_classes; i++) {
        json_t *row = json_array();
        int64_t total = 0;
        for (int32_t j = 0; j < n_classes; j++) {
            total += confusion[i * n_classes + j];
            r->failed |= json_array_append_new(row, json_integer(confusion[i * n_classes + j])) != 0;
        }
        r->failed |= json_array_append_new(rows, row) != 0;
        const double right = (double)confusion[i * n_classes + i];
        r->failed |=
            json_array_append_new(per_class, number(total > 0 ? 100 * right / (double)total : NAN)) != 0;
    }
    json_t *detail = object_at(r, "detail", model);
    r->failed |= json_object_set_new(detail, "confusion", rows) != 0;
    r->failed |= json_object_set_new(detail, "per_class", per_class) != 0;
}

bool results_is_stage_done(const struct results *r, const char *stage) {
    size_t i;
    json_t *name;
    json_array_foreach(r ? json_object_get(r->root, "stages_done") : NULL, i, name) {
        if (json_is_string(name) && strcmp(json_string_value(name), stage) == 0) return true;
    }
    return false;
}

void results_stage_done(struct results *r, const char *stage) {
    if (!r || results_is_stage_done(r, stage)) return;
    json_t *list = json_object_get(r->root, "stages_done");
    if (!json_is_array(list)) {
        list = json_array();
        r->failed |= json_object_set_new(r->root, "stages_done", list) != 0;
    }
    r->failed |= json_array_append_new(list, json_string(stage)) != 0;
}

double results_get_accuracy(const struct results *r, const char *phase, const char *model,
                            const char *split) {
    if (!r) return NAN;
    const json_t *value = json_object_get(json_object_get(json_object_get(r->root, phase), model), split);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

status_t results_save(struct results *r) {
    if (!r) return STATUS_OK;
    char *text = r->failed ? NULL : json_dumps(r->root, JSON_INDENT(1) | JSON_REAL_PRECISION(8));
    CHECK(text, STATUS_NO_MEMORY, "out of memory for %s", r->path);
    const status_t status = file_write_atomic(r->path, text, strlen(text));
    free(text);
    return status;
}

static void put_cell(FILE *out, double value) {
    if (isnan(value))
        fprintf(out, "  %12s", "-");
    else
        fprintf(out, "  %12.2f", value);
}

char *results_table(const struct results *r, const char *const *models, int32_t n_models) {
    static const char *const phases[] = {"supervised", "cotrained", "student"};
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    if (!out) return NULL;
    fprintf(out, "%-16s  %12s  %12s  %12s   accuracy on the unlabelled target images, %%\n", "", "supervised",
            "co-trained", "distilled");
    for (int32_t m = 0; m < n_models; m++) {
        fprintf(out, "%-16s", models[m]);
        for (int p = 0; p < 3; p++)
            put_cell(out, results_get_accuracy(r, phases[p], models[m], "unlabelled"));
        fputc('\n', out);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
