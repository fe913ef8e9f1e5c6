#include "training/report_svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 440, HEIGHT = 220, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 24, MAX_TICKS = 12 };
#define PLOT_W (WIDTH - LEFT - RIGHT)
#define PLOT_H (HEIGHT - TOP - BOTTOM)

/* Bytes of the valid UTF-8 sequence at p, 0 where there is none. */
static int sequence_bytes(const unsigned char *p) {
    const int n = p[0] < 0x80                   ? 1
                  : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                  : (p[0] & 0xf0) == 0xe0       ? 3
                  : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                : 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0; /* the NUL at the end too */
    if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))) return 0;
    if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))) return 0;
    return n;
}

void html_text(FILE *out, const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const int n = sequence_bytes(p);
        if (n == 0 || (*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f)
            fputs("\xef\xbf\xbd", out);
        else if (*p == '&')
            fputs("&amp;", out);
        else if (*p == '<')
            fputs("&lt;", out);
        else if (*p == '>')
            fputs("&gt;", out);
        else if (*p == '"')
            fputs("&quot;", out);
        else if (*p == '\'')
            fputs("&#39;", out);
        else
            fwrite(p, 1, (size_t)n, out);
        p += n > 0 ? n : 1;
    }
}

static size_t columns_of_all(const struct report_series *s, struct svg_column *columns) {
    for (size_t i = 0; i < s->n; i++) {
        const double v = s->value[i];
        columns[i] = (struct svg_column){.step = s->step[i], .mean = v, .low = v, .high = v};
    }
    return s->n;
}

size_t svg_columns(const struct report_series *s, double first, double last,
                   struct svg_column columns[SVG_COLUMNS]) {
    if (s->n <= SVG_COLUMNS) return columns_of_all(s, columns);
    size_t count[SVG_COLUMNS] = {0}, n = 0;
    for (int c = 0; c < SVG_COLUMNS; c++)
        columns[c] = (struct svg_column){.low = INFINITY, .high = -INFINITY};
    for (size_t i = 0; i < s->n; i++) {
        const double v = s->value[i], place = (s->step[i] - first) / fmax(last - first, 1e-9) * SVG_COLUMNS;
        if (!isfinite(v)) continue;
        const int c = place >= SVG_COLUMNS ? SVG_COLUMNS - 1 : place > 0 ? (int)place : 0;
        columns[c].step += s->step[i];
        columns[c].mean += v;
        columns[c].low = fmin(columns[c].low, v);
        columns[c].high = fmax(columns[c].high, v);
        count[c]++;
    }
    for (int c = 0; c < SVG_COLUMNS; c++) {
        if (count[c] == 0) continue;
        columns[n] = columns[c];
        columns[n].step /= (double)count[c];
        columns[n++].mean /= (double)count[c];
    }
    return n;
}

/* ---- axes ------------------------------------------------------------------------------------ */
struct axes {
    double x_min, x_max, y_min, y_max; /* y in log10 where `log` */
    bool log;
};

static double to_y(const struct axes *a, double value) {
    return a->log ? log10(fmax(value, 1e-30)) : value;
}
static double place_x(const struct axes *a, double step) {
    return (step - a->x_min) / (a->x_max - a->x_min) * PLOT_W;
}
static double place_y(const struct axes *a, double value) {
    const double y = PLOT_H - (to_y(a, value) - a->y_min) / (a->y_max - a->y_min) * PLOT_H;
    return fmin(fmax(y, -1e4), 1e4);
}

/* On a logarithmic axis a zero has no place. */
static bool is_shown(const struct axes *a, double value) {
    return isfinite(value) && (!a->log || value > 0);
}

static double nice_step(double span, int n) {
    const double raw = span / n, base = pow(10, floor(log10(raw))), share = raw / base;
    return base * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

static int ticks(double low, double high, int n_wanted, double *out) {
    const double step = nice_step(high - low, n_wanted);
    int n = 0;
    for (double i = ceil(low / step - 1e-6); i * step <= high + 1e-6 * step && n < MAX_TICKS; i++)
        out[n++] = i * step;
    return n;
}

static void put_number(FILE *out, double v) {
    if (fabs(v) < 1e-12)
        fputs("0", out);
    else if (fabs(v) >= 1e6)
        fprintf(out, "%.3gM", v / 1e6);
    else if (fabs(v) >= 1e4)
        fprintf(out, "%.3gk", v / 1e3);
    else
        fprintf(out, "%.4g", v);
}

static bool find_range(const struct svg_chart *chart, const struct svg_line *lines, int n_lines,
                       struct axes *a, double *positive_min) {
    *a = (struct axes){.x_min = INFINITY, .x_max = -INFINITY, .y_min = INFINITY, .y_max = -INFINITY};
    *positive_min = INFINITY;
    for (int l = 0; l < n_lines; l++)
        for (size_t i = 0; lines[l].series && i < lines[l].series->n; i++) {
            a->x_min = fmin(a->x_min, lines[l].series->step[i]);
            a->x_max = fmax(a->x_max, lines[l].series->step[i]);
        }
    a->x_min = fmin(a->x_min, chart->x_min); /* a NAN does not count */
    a->x_max = fmax(a->x_max, chart->x_max);
    if (a->x_max - a->x_min < 1) a->x_max = a->x_min + 1;
    for (int l = 0; l < n_lines; l++) {
        struct svg_column columns[SVG_COLUMNS];
        const size_t n = lines[l].series ? svg_columns(lines[l].series, a->x_min, a->x_max, columns) : 0;
        for (size_t i = 0; i < n; i++) {
            if (!isfinite(columns[i].mean)) continue;
            a->y_min = fmin(a->y_min, columns[i].mean);
            a->y_max = fmax(a->y_max, columns[i].mean);
            if (columns[i].mean > 0) *positive_min = fmin(*positive_min, columns[i].mean);
        }
    }
    return a->y_min <= a->y_max;
}

static bool find_axes(const struct svg_chart *chart, const struct svg_line *lines, int n_lines,
                      struct axes *a) {
    double positive_min;
    if (!find_range(chart, lines, n_lines, a, &positive_min)) return false;
    if (chart->may_be_log && positive_min < INFINITY && a->y_max > 100 * positive_min) {
        a->log = true;
        a->y_min = fmax(log10(positive_min), log10(a->y_max) - 9);
        a->y_max = log10(a->y_max);
    } else if (a->y_min > 0 && a->y_min < 0.5 * a->y_max) {
        a->y_min = 0;
    }
    const double pad = 0.06 * fmax(a->y_max - a->y_min, 1e-6 * fmax(fabs(a->y_max), 1e-6));
    a->y_max += pad;
    if (a->log || a->y_min != 0) a->y_min -= pad;
    if (!isnan(chart->y_min) && !a->log) a->y_min = chart->y_min;
    if (!isnan(chart->y_max) && !a->log) a->y_max = fmax(chart->y_max, a->y_min + 1e-9);
    return true;
}

static void draw_y_tick(FILE *out, const struct axes *a, double y, double label) {
    const double place = TOP + PLOT_H - (y - a->y_min) / (a->y_max - a->y_min) * PLOT_H;
    fprintf(out, "<path class=grid d=\"M%d %.1fh%d\"/><text class=tick x=%d y=%.1f text-anchor=end>", LEFT,
            place, PLOT_W, LEFT - 5, place + 4);
    put_number(out, label);
    fputs("</text>", out);
}

static void draw_axes(FILE *out, const struct svg_chart *chart, const struct axes *a) {
    double at[MAX_TICKS];
    if (a->log) {
        const int every = a->y_max - a->y_min > 5 ? 2 : 1;
        for (int e = (int)ceil(a->y_min); e <= (int)floor(a->y_max); e += every)
            draw_y_tick(out, a, e, pow(10, e));
    } else {
        const int n = ticks(a->y_min, a->y_max, 4, at);
        for (int i = 0; i < n; i++) draw_y_tick(out, a, at[i], at[i]);
    }
    const int n = ticks(a->x_min, a->x_max, 5, at);
    for (int i = 0; i < n; i++) {
        if (fabs(at[i] - floor(at[i] + 0.5)) > 1e-6) continue; /* steps are whole */
        fprintf(out, "<text class=tick x=%.1f y=%d text-anchor=%s>", LEFT + place_x(a, at[i]), HEIGHT - 7,
                place_x(a, at[i]) > PLOT_W - 12 ? "end" : "middle");
        put_number(out, at[i]);
        fputs("</text>", out);
    }
    fprintf(out, "<path class=axis d=\"M%d %dh%d\"/>", LEFT, TOP + PLOT_H, PLOT_W);
    if (!isnan(chart->mark) && chart->mark > a->x_min && chart->mark < a->x_max) {
        const double x = LEFT + place_x(a, chart->mark);
        const bool left = x > LEFT + 0.75 * PLOT_W;
        fprintf(out, "<path class=mark d=\"M%.1f %dv%d\"/><text class=tick x=%.1f y=%d text-anchor=%s>", x,
                TOP, PLOT_H, left ? x - 4 : x + 4, TOP + 10, left ? "end" : "start");
        html_text(out, chart->mark_label);
        fputs("</text>", out);
    }
}

/* ---- lines ----------------------------------------------------------------------------------- */
static void draw_extent(FILE *out, const struct axes *a, const struct svg_line *line,
                        const struct svg_column *columns, size_t n) {
    fprintf(out, "<path class=\"band c%d\" d=\"", line->colour);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%c%.1f %.1f", i ? 'L' : 'M', place_x(a, columns[i].step), place_y(a, columns[i].high));
    for (size_t i = n; i-- > 0;)
        fprintf(out, "L%.1f %.1f", place_x(a, columns[i].step), place_y(a, columns[i].low));
    fputs("Z\"/>", out);
}

static void draw_line(FILE *out, const struct svg_chart *chart, const struct axes *a,
                      const struct svg_line *line) {
    struct svg_column columns[SVG_COLUMNS];
    const size_t n = svg_columns(line->series, a->x_min, a->x_max, columns);
    if (line->series->n > SVG_COLUMNS && n > 1 && !line->dashed) draw_extent(out, a, line, columns, n);
    fprintf(out, "<path class=\"line%s c%d\" d=\"", line->dashed ? " dashed" : "", line->colour);
    bool drawing = false;
    for (size_t i = 0; i < n; i++) {
        const bool there = is_shown(a, columns[i].mean);
        if (there)
            fprintf(out, "%c%.1f %.1f", drawing ? 'L' : 'M', place_x(a, columns[i].step),
                    place_y(a, columns[i].mean));
        drawing = there;
    }
    fputs("\"/>", out);
    for (size_t i = 0; i < n; i++) {
        const bool alone = (i == 0 || !is_shown(a, columns[i - 1].mean)) &&
                           (i + 1 == n || !is_shown(a, columns[i + 1].mean));
        if (is_shown(a, columns[i].mean) && (alone || (chart->markers && n <= 60)))
            fprintf(out, "<circle class=\"dot c%d\" cx=%.1f cy=%.1f r=2.6 />", line->colour,
                    place_x(a, columns[i].step), place_y(a, columns[i].mean));
    }
}

static double last_value(const struct report_series *s, double first, double last) {
    struct svg_column columns[SVG_COLUMNS];
    for (size_t n = svg_columns(s, first, last, columns); n-- > 0;)
        if (isfinite(columns[n].mean)) return columns[n].mean;
    return NAN;
}

static void draw_legend(FILE *out, const struct axes *a, const struct svg_line *lines, int n_lines) {
    fputs("<div class=legend>", out);
    for (int l = 0; l < n_lines; l++) {
        if (!lines[l].series) continue;
        const double last = last_value(lines[l].series, a->x_min, a->x_max);
        if (isnan(last)) continue;
        fprintf(out, "<span><i class=\"key c%d%s\"></i>", lines[l].colour, lines[l].dashed ? " dashed" : "");
        html_text(out, lines[l].label);
        fputs(" <b>", out);
        if (fabs(last) >= 100 && fabs(last) < 1e4)
            fprintf(out, "%.0f", last);
        else if (fabs(last) >= 1e4 || last == 0)
            put_number(out, last);
        else
            fprintf(out, "%.3g", last);
        fputs("</b></span>", out);
    }
    fputs("</div>\n", out);
}

bool svg_line_chart(FILE *out, const struct svg_chart *chart, const struct svg_line *lines, int n_lines) {
    struct axes a;
    if (!find_axes(chart, lines, n_lines, &a)) return false;
    fputs("<figure><figcaption>", out);
    html_text(out, chart->title);
    if (chart->unit[0]) {
        fputs(" <small>", out);
        html_text(out, chart->unit);
        fputs("</small>", out);
    }
    fputs("</figcaption>\n", out);
    draw_legend(out, &a, lines, n_lines);
    fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"", WIDTH, HEIGHT);
    html_text(out, chart->title);
    fputs("\">", out);
    draw_axes(out, chart, &a);
    fprintf(out, "<svg x=%d y=%d width=%d height=%d viewBox=\"-4 -4 %d %d\">", LEFT - 4, TOP - 4, PLOT_W + 8,
            PLOT_H + 8, PLOT_W + 8, PLOT_H + 8); /* clips */
    for (int l = 0; l < n_lines; l++)
        if (lines[l].series) draw_line(out, chart, &a, &lines[l]);
    fputs("</svg></svg></figure>\n", out);
    return true;
}

/* ---- heat map -------------------------------------------------------------------------------- */
enum { MAP_SIDE = 440 };

static void draw_cell(FILE *out, const struct report_data *names, double x, double y, double side,
                      size_t truth, size_t answer, int64_t count, double share, bool numbers) {
    char a[24], b[24];
    fprintf(out, "<rect class=\"cell%s\" x=%.2f y=%.2f width=%.2f height=%.2f fill-opacity=%.3f><title>",
            truth == answer ? "" : " wrong", x, y, side, side, fmax(pow(share, 0.7), 0.1));
    html_text(out, report_data_class(names, truth, a));
    fputs(" \xe2\x86\x92 ", out);
    html_text(out, report_data_class(names, answer, b));
    fprintf(out, ": %lld (%.1f %%)</title></rect>", (long long)count, 100 * share);
    if (numbers)
        fprintf(out, "<text class=\"%s\" x=%.2f y=%.2f text-anchor=middle font-size=%.1f>%lld</text>",
                share > 0.45 ? "count strong" : "count", x + side / 2, y + side / 2 + side * 0.12,
                fmin(11, side * 0.36), (long long)count);
}

/* The first characters of a text, none of them halved. */
static void cut(const char *text, int n_characters, char *out, size_t capacity) {
    size_t n = 0;
    while (text[n] && n_characters-- > 0) {
        const int bytes = sequence_bytes((const unsigned char *)text + n);
        if (n + 4 >= capacity) break;
        n += bytes > 0 ? (size_t)bytes : 1;
    }
    snprintf(out, capacity, "%.*s", (int)n, text);
}

static void draw_class_names(FILE *out, const struct report_data *names, size_t k, double origin,
                             double side) {
    char buffer[24], shown[64];
    const double size = fmin(11, side * 0.9);
    for (size_t i = 0; i < k; i++) {
        const double middle = origin + side * ((double)i + 0.5);
        cut(report_data_class(names, i, buffer), 14, shown, sizeof shown);
        fprintf(out, "<text class=label font-size=%.1f x=%.1f y=%.1f text-anchor=end>", size, origin - 4,
                middle + 0.35 * size);
        html_text(out, shown);
        fprintf(out,
                "</text><text class=label font-size=%.1f text-anchor=start transform=\"translate(%.1f "
                "%.1f)rotate(-%d)\">",
                size, middle + 0.35 * size, origin - 4, 90);
        html_text(out, shown);
        fputs("</text>", out);
    }
}

void svg_heat_map(FILE *out, const char *title, const struct report_data *names, size_t k,
                  const int64_t *confusion) {
    size_t longest = 1;
    char buffer[24];
    for (size_t i = 0; i < k; i++) {
        const size_t n = strlen(report_data_class(names, i, buffer));
        longest = n > longest ? n : longest;
    }
    const bool with_names = k <= 70;
    const double size = fmin(11, 380.0 / (double)k * 0.9);
    const double origin = with_names ? 12 + 0.6 * size * (double)(longest < 14 ? longest : 14) : 2;
    const double side = (MAP_SIDE - origin - 2) / (double)k;
    fputs("<figure><figcaption>", out);
    html_text(out, title);
    fprintf(out,
            " <small>rows: truth, columns: answer</small></figcaption>\n<svg viewBox=\"0 0 %d %d\" role=img>",
            MAP_SIDE, MAP_SIDE);
    if (with_names) draw_class_names(out, names, k, origin, side);
    fprintf(out, "<rect class=board x=%.2f y=%.2f width=%.2f height=%.2f />", origin, origin,
            side * (double)k, side * (double)k);
    for (size_t i = 0; i < k; i++) {
        int64_t total = 0;
        for (size_t j = 0; j < k; j++) total += confusion[i * k + j];
        for (size_t j = 0; j < k; j++)
            if (confusion[i * k + j] > 0)
                draw_cell(out, names, origin + side * (double)j, origin + side * (double)i, side, i, j,
                          confusion[i * k + j], (double)confusion[i * k + j] / (double)total, k <= 20);
    }
    fputs("</svg></figure>\n", out);
}
