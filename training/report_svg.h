/* Pictures of a report as inline SVG. Colours come from the page's style sheet (classes c0..c7, axis, grid),
 * so that they follow light and dark. All text is escaped. Units: points of the view box; pictures scale with
 * the page. */
#ifndef TRAINING_REPORT_SVG_H
#define TRAINING_REPORT_SVG_H

#include "training/report_data.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { SVG_N_COLOURS = 8, SVG_COLUMNS = 110 };

/* Text with & < > " ' and control bytes made harmless; broken UTF-8 becomes U+FFFD. */
void html_text(FILE *out, const char *text);

/* A series reduced to what a chart can show: the mean and the extent of the values in each column of steps.
 * With at most SVG_COLUMNS values each is a column of its own, and a NAN value leaves a gap. */
struct svg_column {
    double step, mean, low, high; /* mean NAN: a gap */
};
size_t svg_columns(const struct report_series *series, double first_step, double last_step,
                   struct svg_column columns[SVG_COLUMNS]);

struct svg_line {
    const struct report_series *series; /* NULL: left out */
    const char *label;
    int colour; /* 0 .. SVG_N_COLOURS-1 */
    bool dashed;
};

struct svg_chart {
    const char *title, *unit;
    bool may_be_log;     /* logarithmic where the values span more than two decades */
    bool markers;        /* few values: show each */
    double x_min, x_max; /* NAN: from the series */
    double y_min, y_max; /* NAN: from the values */
    double mark;         /* a vertical line at this step; NAN: none */
    const char *mark_label;
};

/* A <figure> with title, legend and chart. Nothing where no line has a value; returns whether it drew. */
bool svg_line_chart(FILE *out, const struct svg_chart *chart, const struct svg_line *lines, int n_lines);

/* A <figure> with the confusion matrix (K,K), row = truth, column = answer, shaded by the share of the row.
 */
void svg_heat_map(FILE *out, const char *title, const struct report_data *names, size_t k,
                  const int64_t *confusion);

#endif
