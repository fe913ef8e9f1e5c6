/* bench scale: table, CSV, picture. */
#include "launcher/scale.h"

#include <math.h>

void scale_print_table(const struct scale_point *points, int n, FILE *out) {
    fputs(
        "ranks   images/s   step ms  speed-up  efficiency  exchange ms  all-reduce ms  data ms  imbalance\n",
        out);
    for (int i = 0; i < n; i++) {
        const struct scale_point *p = &points[i];
        fprintf(out, "%5d %10.1f %9.2f %9.2f %10.1f%% %12.3f %14.3f %8.3f %10.2f\n", p->n_ranks,
                p->images_per_s, p->step_ms, p->speed_up, 100 * p->efficiency, p->exchange_ms, p->reduce_ms,
                p->data_ms, p->imbalance);
    }
}

void scale_print_csv(const struct scale_point *points, int n, FILE *out) {
    fputs(
        "ranks,steps,images_per_s,step_ms,speed_up,efficiency,exchange_ms,all_reduce_ms,data_ms,imbalance\n",
        out);
    for (int i = 0; i < n; i++) {
        const struct scale_point *p = &points[i];
        fprintf(out, "%d,%lld,%.3f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f\n", p->n_ranks, (long long)p->n_steps,
                p->images_per_s, p->step_ms, p->speed_up, p->efficiency, p->exchange_ms, p->reduce_ms,
                p->data_ms, p->imbalance);
    }
}

/* ---- picture
 * ------------------------------------------------------------------------------------------------------ */

struct frame { /* both axes in powers of two */
    double x_low, x_high, y_low, y_high;
};
enum { WIDTH = 640, HEIGHT = 420, LEFT = 70, RIGHT = 20, TOP = 40, BOTTOM = 50 };

static double at_x(const struct frame *f, double ranks) {
    return LEFT + (WIDTH - LEFT - RIGHT) * (log2(ranks) - f->x_low) / (f->x_high - f->x_low);
}

static double at_y(const struct frame *f, double images_per_s) {
    return HEIGHT - BOTTOM -
           (HEIGHT - TOP - BOTTOM) * (log2(images_per_s) - f->y_low) / (f->y_high - f->y_low);
}

static struct frame find_frame(const struct scale_point *points, int n) {
    struct frame f = {INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (int i = 0; i < n; i++) {
        const double ideal = points[0].images_per_s * points[i].n_ranks / points[0].n_ranks;
        f.x_low = fmin(f.x_low, log2(points[i].n_ranks));
        f.x_high = fmax(f.x_high, log2(points[i].n_ranks));
        f.y_low = fmin(f.y_low, log2(fmin(ideal, points[i].images_per_s)));
        f.y_high = fmax(f.y_high, log2(fmax(ideal, points[i].images_per_s)));
    }
    if (f.x_high - f.x_low < 0.1) f.x_high = f.x_low + 1;
    f.y_low = floor(f.y_low), f.y_high = ceil(f.y_high + 0.01);
    return f;
}

static void print_axes(const struct frame *f, const struct scale_point *points, int n, FILE *out) {
    for (int e = (int)f->y_low; e <= (int)f->y_high; e++) {
        const double y = at_y(f, exp2(e));
        fprintf(out,
                "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%.4g</text>\n",
                LEFT, y, WIDTH - RIGHT, LEFT - 8, y + 4, exp2(e));
    }
    for (int i = 0; i < n; i++) {
        const double x = at_x(f, points[i].n_ranks);
        fprintf(out,
                "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" "
                "text-anchor=\"middle\">%d</text>\n",
                x, TOP, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18, points[i].n_ranks);
    }
    fprintf(out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">ranks</text>\n"
            "<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">images/s</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, (TOP + HEIGHT - BOTTOM) / 2);
}

static void print_title(const char *title, FILE *out) {
    fprintf(out, "<text x=\"%d\" y=\"24\" class=\"title\">", LEFT);
    for (const char *p = title; *p; p++) switch (*p) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        default:
            fputc((unsigned char)*p < 32 ? ' ' : *p, out);
        }
    fputs("</text>\n", out);
}

void scale_print_svg(const struct scale_point *points, int n, const char *title, FILE *out) {
    const struct frame f = find_frame(points, n);
    const struct scale_point *first = &points[0], *last = &points[n - 1];
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
        "font-size=\"13\">\n"
        "<style>.grid{stroke:#ccc;fill:none}.ideal{stroke:#888;fill:none;stroke-dasharray:6 4}"
        ".line{stroke:#1668b3;fill:none;stroke-width:2}.point{fill:#1668b3}.title{font-weight:bold}</style>\n"
        "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    print_title(title, out);
    print_axes(&f, points, n, out);
    fprintf(out, "<path class=\"ideal\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n<path class=\"line\" d=\"",
            at_x(&f, first->n_ranks), at_y(&f, first->images_per_s), at_x(&f, last->n_ranks),
            at_y(&f, first->images_per_s * last->n_ranks / first->n_ranks));
    for (int i = 0; i < n; i++)
        fprintf(out, "%c%.1f %.1f", i ? 'L' : 'M', at_x(&f, points[i].n_ranks),
                at_y(&f, points[i].images_per_s));
    fputs("\"/>\n", out);
    for (int i = 0; i < n; i++)
        fprintf(out,
                "<circle class=\"point\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%d ranks: %.1f images/s, "
                "%.0f%%</title></circle>\n",
                at_x(&f, points[i].n_ranks), at_y(&f, points[i].images_per_s), points[i].n_ranks,
                points[i].images_per_s, 100 * points[i].efficiency);
    fputs("</svg>\n", out);
}
