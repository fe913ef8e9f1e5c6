/* results.json: the accuracies of a run, and which stages are done.
 *
 *   {"stages_done": ["cotrain"], "classes": [...],
 *    "supervised": {"convnext": {"validation": 81.0, "unlabelled": 83.1,
 * "unlabelled_without_validation": 83.0}, ..., "ensemble": {...}}, "cotrained": {...}, "student": {"student":
 * {...}}, "detail": {"student": {"per_class": [...], "confusion": [[...], ...]}}}
 *
 * Per cent. Written by rank 0 as a whole at every change (temporary name, sync, rename). */
#ifndef TRAINING_RESULTS_H
#define TRAINING_RESULTS_H

#include "common/status.h"

#include <stdbool.h>
#include <stdint.h>

struct results;

/* Read the file at `path` where there is one, otherwise begin an empty one. */
status_t results_open(const char *path, struct results **out);
void results_close(struct results *results); /* NULL is fine */

/* All setters accept NULL (ranks that do not write) and replace what was there; results_save() writes. */
void results_accuracy(struct results *results, const char *phase, const char *model, const char *split,
                      double per_cent);
void results_classes(struct results *results, int32_t n_classes,
                     const char *(*name)(const void *context, int32_t k), const void *context);
/* confusion (K,K) row = truth, column = answer, counts. */
void results_confusion(struct results *results, const char *model, int32_t n_classes,
                       const int64_t *confusion);
void results_stage_done(struct results *results, const char *stage);

/* NAN where there is none. */
double results_get_accuracy(const struct results *results, const char *phase, const char *model,
                            const char *split);
bool results_is_stage_done(const struct results *results, const char *stage);

status_t results_save(struct results *results);

/* The final table as text (caller frees): a row a model, a column a phase; "" where nothing is known yet.
 * NULL when out of memory. */
char *results_table(const struct results *results, const char *const *models, int32_t n_models);

#endif
