/* Lines of text for a terminal or a file: cut to the width, harmless whatever their words came from. */
#ifndef LAUNCHER_WATCH_CANVAS_H
#define LAUNCHER_WATCH_CANVAS_H

#include "launcher/watch.h"

#include <stdarg.h>

enum canvas_style { STYLE_PLAIN, STYLE_BOLD, STYLE_SOFT, STYLE_GOOD, STYLE_BAD, STYLE_WARN };

struct canvas {
    FILE *out;
    const struct watch_look *look;
    bool colours; /* not with NO_COLOR */
    int n_lines;
};

struct canvas canvas_begin(FILE *out, const struct watch_look *look);

/* Is there room for n more lines? */
bool canvas_has_room(const struct canvas *canvas, int n);

/* One line; left out where the picture is full. Bytes that could drive a terminal, and characters it cannot
 * show, become '?'. */
void canvas_line(struct canvas *canvas, enum canvas_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* After the last line: erases what a higher picture left below. */
void canvas_end(struct canvas *canvas);

/* The series from first_step to last_step as a row of `width` bars, low to high (at most 4 * width + 1
 * bytes); "" where there is nothing to show. */
void canvas_spark(const struct watch_look *look, const struct report_series *series, int width, char *out);

/* `done` of 1 as a bar of `width` (at most 4 * width + 1 bytes). */
void canvas_bar(const struct watch_look *look, double done, int width, char *out);

#endif
