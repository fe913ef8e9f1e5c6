#include "launcher/watch_canvas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct canvas canvas_begin(FILE *out, const struct watch_look *look) {
    return (struct canvas){.out = out, .look = look, .colours = look->escapes && !getenv("NO_COLOR")};
}

bool canvas_has_room(const struct canvas *c, int n) {
    return c->look->height <= 0 || c->n_lines + n <= c->look->height;
}

/* Bytes of the character at p, 0 where it is no UTF-8, or a control character. */
static size_t character(const unsigned char *p) {
    if (*p < 0x80) return *p >= 0x20 && *p != 0x7f;
    const size_t n = *p >= 0xf0 && *p <= 0xf4  ? 4
                     : *p >= 0xe0 && *p < 0xf0 ? 3
                     : *p >= 0xc2 && *p < 0xe0 ? 2
                                               : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return n == 2 && *p == 0xc2 && p[1] < 0xa0 ? 0 : n; /* U+0080 to U+009F control terminals, too */
}

static void put_text(FILE *out, const char *text, int width, bool unicode) {
    const unsigned char *p = (const unsigned char *)text;
    for (int column = 0; *p && column < width; column++) {
        const size_t n = character(p);
        if (n == 0 || (n > 1 && !unicode)) {
            fputc('?', out);
            p++;
            while ((*p & 0xc0) == 0x80) p++; /* the rest of a character that is not shown */
        } else {
            fwrite(p, 1, n, out);
            p += n;
        }
    }
}

void canvas_line(struct canvas *c, enum canvas_style style, const char *format, ...) {
    static const char *const codes[] = {"", "\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[33m"};
    if (!canvas_has_room(c, 1)) return;
    char *text = NULL;
    va_list args;
    va_start(args, format);
    const int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) return;
    for (int i = n; i > 0 && text[i - 1] == ' '; i--) text[i - 1] = '\0';
    if (c->look->escapes && c->n_lines > 0) fputs("\r\n", c->out);
    if (c->colours) fputs(codes[style], c->out);
    put_text(c->out, text, c->look->width, c->look->unicode);
    if (c->colours && style != STYLE_PLAIN) fputs("\033[0m", c->out);
    fputs(c->look->escapes ? "\033[K" : "\n", c->out);
    c->n_lines++;
    free(text);
}

void canvas_end(struct canvas *c) {
    if (c->look->escapes && canvas_has_room(c, 1)) fputs("\r\n\033[J", c->out);
}

static const char *level(const struct watch_look *look, double share) {
    static const char *const blocks[] = {"\xe2\x96\x81", "\xe2\x96\x82", "\xe2\x96\x83", "\xe2\x96\x84",
                                         "\xe2\x96\x85", "\xe2\x96\x86", "\xe2\x96\x87", "\xe2\x96\x88"};
    static const char *const signs[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    const int i = (int)fmin(fmax(share * 8, 0), 7);
    return look->unicode ? blocks[i] : signs[i];
}

void canvas_spark(const struct watch_look *look, const struct report_series *s, int width, char *out) {
    enum { MAX = 512 };
    double sum[MAX] = {0}, count[MAX] = {0}, low = INFINITY, high = -INFINITY;
    out[0] = '\0';
    if (!s || s->n < 2 || width < 2) return;
    const int n = width < MAX ? width : MAX;
    const double first = s->step[0], span = s->step[s->n - 1] - first;
    if (!(span > 0)) return;
    const int n_columns = (double)n < span + 1 ? n : (int)span + 1;
    for (size_t i = 0; i < s->n; i++) {
        const int column = (int)fmin((s->step[i] - first) / span * n_columns, n_columns - 1);
        if (isnan(s->value[i]) || column < 0) continue;
        sum[column] += s->value[i];
        count[column]++;
    }
    for (int i = 0; i < n_columns; i++) {
        if (count[i] == 0) continue;
        low = fmin(low, sum[i] / count[i]);
        high = fmax(high, sum[i] / count[i]);
    }
    char *end = out;
    for (int i = 0; i < n_columns; i++)
        end = stpcpy(end, count[i] == 0
                              ? " "
                              : level(look, high > low ? (sum[i] / count[i] - low) / (high - low) : 0.4));
}

void canvas_bar(const struct watch_look *look, double done, int width, char *out) {
    const int full = (int)(fmin(fmax(done, 0), 1) * width + 0.5);
    for (int i = 0; i < width; i++)
        out = stpcpy(out, i < full ? (look->unicode ? "\xe2\x96\x88" : "#")
                                   : (look->unicode ? "\xe2\x96\x91" : "."));
    *out = '\0';
}
