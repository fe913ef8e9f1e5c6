/* The results of many runs as the paper's tables: a row for each variant of the method and each model, a
 * column for each pair of domains, mean and standard deviation over seeds.
 *
 * The shots and the target come from the name of the labelled list (labeled_target_images_D_3.txt), the
 * source from the source list's, the variant from the configuration's `variant`. */
#ifndef TRAINING_REPORT_TABLE_H
#define TRAINING_REPORT_TABLE_H

#include "training/settings.h"

#include "common/status.h"

#include <stdbool.h>
#include <stdio.h>

enum report_table_format { REPORT_TABLE_TEXT, REPORT_TABLE_CSV, REPORT_TABLE_LATEX };

struct report_table;

/* split: "validation", "unlabelled" or "unlabelled_without_validation". model: only this row of each variant
 * ("supervised": the ensemble before co-training, a peer's name, "ensemble", "student"); NULL: all. Both
 * borrowed. */
status_t report_table_new(const char *split, const char *model, struct report_table **out);
void report_table_free(struct report_table *table); /* NULL is fine */

/* Take the results of the run settings->run; *added_out false: it has none yet. STATUS_USAGE: the table has
 * that seed of that variant already. STATUS_BAD_DATA: results.json is damaged. */
status_t report_table_add(struct report_table *table, const struct settings *settings, bool *added_out);

/* Mean and, from two seeds on, standard deviation (n - 1). The last column is the mean over the pairs, where
 * every pair is there. Cells with fewer seeds than others say how many. */
status_t report_table_write(const struct report_table *table, enum report_table_format format, FILE *out);

/* "labeled_target_images_pen_3.txt" with either prefix -> "pen" and 3; other names -> the name itself and 0.
 */
void report_table_parse_list(const char *path, char *domain, size_t capacity, int *n_shots);

#endif
