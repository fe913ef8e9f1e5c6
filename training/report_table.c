#include "training/report_table.h"

#include "common/csv.h"
#include "common/file.h"
#include "common/memory.h"
#include "training/results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 96, COLUMN = 18 };

/* One accuracy of one run. */
struct entry {
    char source[NAME_BYTES], target[NAME_BYTES], variant[NAME_BYTES], model[NAME_BYTES];
    int n_shots;
    int64_t seed;
    double per_cent;
    size_t run; /* index in `runs` */
};

struct report_table {
    const char *split, *model;
    struct entry *entries;
    size_t n, capacity;
    char **runs; /* [n_runs] directories, owned */
    size_t n_runs, run_capacity;
};

status_t report_table_new(const char *split, const char *model, struct report_table **out) {
    struct report_table *t = calloc(1, sizeof *t);
    CHECK(t, STATUS_NO_MEMORY, "out of memory for the table");
    t->split = split;
    t->model = model;
    *out = t;
    return STATUS_OK;
}

void report_table_free(struct report_table *t) {
    if (!t) return;
    for (size_t i = 0; i < t->n_runs; i++) free(t->runs[i]);
    free(t->runs);
    free(t->entries);
    free(t);
}

void report_table_parse_list(const char *path, char *domain, size_t capacity, int *n_shots) {
    static const char *const prefixes[] = {"labeled_source_images_", "labeled_target_images_"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    *n_shots = 0;
    for (size_t i = 0; i < 2; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) name += strlen(prefixes[i]);
    snprintf(domain, capacity, "%s", name);
    char *end = strrchr(domain, '.');
    if (end) *end = '\0';
    end = strrchr(domain, '_');
    if (!end || end == domain || !end[1] || strspn(end + 1, "0123456789") != strlen(end + 1) ||
        strlen(end + 1) > 4)
        return;
    *n_shots = atoi(end + 1);
    *end = '\0';
}

/* ---- taking runs ----------------------------------------------------------------------------- */
static bool same_cell(const struct entry *a, const struct entry *b) {
    return a->n_shots == b->n_shots && strcmp(a->source, b->source) == 0 &&
           strcmp(a->target, b->target) == 0 && strcmp(a->variant, b->variant) == 0 &&
           strcmp(a->model, b->model) == 0;
}

static status_t add_entry(struct report_table *t, const struct entry *e) {
    for (size_t i = 0; i < t->n; i++)
        CHECK(!same_cell(&t->entries[i], e) || t->entries[i].seed != e->seed, STATUS_USAGE,
              "%s and %s are both seed %lld of %s > %s, %d-shot, variant '%s': give one of them, or tell "
              "variants apart with "
              "the key `variant`",
              t->runs[t->entries[i].run], t->runs[e->run], (long long)e->seed, e->source, e->target,
              e->n_shots, e->variant);
    CHECK(memory_grow(&t->entries, t->n, &t->capacity, sizeof *t->entries), STATUS_NO_MEMORY,
          "out of memory for the table");
    t->entries[t->n++] = *e;
    return STATUS_OK;
}

/* One row of the run: `phase` and `model` in results.json, called `label`. */
static status_t take(struct report_table *t, const struct results *results, const char *phase,
                     const char *model, const char *label, struct entry *e, bool *added) {
    e->per_cent = results_get_accuracy(results, phase, model, t->split);
    if (isnan(e->per_cent) || (t->model && strcmp(t->model, label) != 0)) return STATUS_OK;
    snprintf(e->model, sizeof e->model, "%s", label);
    TRY(add_entry(t, e));
    *added = true;
    return STATUS_OK;
}

static status_t take_all(struct report_table *t, const struct settings *s, const struct results *results,
                         struct entry *e, bool *added) {
    const char *all = s->n_peers > 1 ? "ensemble" : s->peers[0].name;
    TRY(take(t, results, "supervised", all, "supervised", e, added));
    for (int p = 0; p < s->n_peers; p++)
        TRY(take(t, results, "cotrained", s->peers[p].name, s->peers[p].name, e, added));
    if (s->n_peers > 1) TRY(take(t, results, "cotrained", all, "ensemble", e, added));
    return take(t, results, "student", "student", "student", e, added);
}

status_t report_table_add(struct report_table *t, const struct settings *s, bool *added_out) {
    struct results *results = NULL;
    char *path = file_join(s->run, "results.json");
    status_t status = STATUS_OK;
    bool added = false;
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    if (!file_exists(path)) goto done;
    TRY_TO(done, results_open(path, &results));
    CHECK_TO(done,
             memory_grow(&t->runs, t->n_runs, &t->run_capacity, sizeof *t->runs) &&
                 (t->runs[t->n_runs] = strdup(s->run)),
             STATUS_NO_MEMORY, "out of memory for the table");
    struct entry e = {.seed = s->seed, .run = t->n_runs++};
    int n_ignored;
    report_table_parse_list(s->data.source.list, e.source, sizeof e.source, &n_ignored);
    report_table_parse_list(s->data.target.labelled, e.target, sizeof e.target, &e.n_shots);
    snprintf(e.variant, sizeof e.variant, "%s", s->variant);
    status = take_all(t, s, results, &e, &added);
done:
    results_close(results);
    free(path);
    if (status == STATUS_OK) *added_out = added;
    return status;
}

/* ---- cells ----------------------------------------------------------------------------------- */
struct cell {
    size_t n;
    double mean, deviation;
};

static struct cell cell_of(const struct report_table *t, const struct entry *row,
                           const struct entry *column) {
    struct entry wanted = *row;
    memcpy(wanted.source, column->source, sizeof wanted.source);
    memcpy(wanted.target, column->target, sizeof wanted.target);
    struct cell c = {0};
    for (size_t i = 0; i < t->n; i++)
        if (same_cell(&t->entries[i], &wanted)) c.mean += t->entries[i].per_cent, c.n++;
    if (c.n > 0) c.mean /= (double)c.n;
    for (size_t i = 0; i < t->n; i++)
        if (same_cell(&t->entries[i], &wanted))
            c.deviation += (t->entries[i].per_cent - c.mean) * (t->entries[i].per_cent - c.mean);
    c.deviation = c.n > 1 ? sqrt(c.deviation / (double)(c.n - 1)) : 0;
    return c;
}

/* The table's skeleton for one number of shots: an example of each row and of each column, in the order of
 * the runs, rows of one variant together. */
struct skeleton {
    size_t *rows, *columns;            /* indices of entries */
    size_t n_rows, n_columns, n_seeds; /* n_seeds: of the fullest cell */
};

static bool same_row(const struct entry *a, const struct entry *b) {
    return strcmp(a->variant, b->variant) == 0 && strcmp(a->model, b->model) == 0;
}

static bool same_column(const struct entry *a, const struct entry *b) {
    return strcmp(a->source, b->source) == 0 && strcmp(a->target, b->target) == 0;
}

static void add_new(const struct report_table *t, size_t i,
                    bool (*same)(const struct entry *, const struct entry *), size_t *list, size_t *n) {
    for (size_t j = 0; j < *n; j++)
        if (same(&t->entries[list[j]], &t->entries[i])) return;
    list[(*n)++] = i;
}

/* Put rows of one variant behind each other, otherwise in their order. */
static void gather_variants(const struct report_table *t, size_t *rows, size_t n) {
    for (size_t i = 1; i < n; i++) {
        size_t to = i;
        for (size_t j = 0; j < i; j++)
            if (strcmp(t->entries[rows[j]].variant, t->entries[rows[i]].variant) == 0) to = j + 1;
        const size_t row = rows[i];
        memmove(rows + to + 1, rows + to, (i - to) * sizeof *rows);
        rows[to] = row;
    }
}

static status_t skeleton_make(const struct report_table *t, int n_shots, struct skeleton *out) {
    struct skeleton s = {.rows = memory_zeroed(t->n + 1, sizeof *s.rows),
                         .columns = memory_zeroed(t->n + 1, sizeof *s.columns)};
    if (!s.rows || !s.columns) {
        free(s.rows);
        free(s.columns);
        return FAIL(STATUS_NO_MEMORY, "out of memory for the table");
    }
    for (size_t i = 0; i < t->n; i++) {
        if (t->entries[i].n_shots != n_shots) continue;
        add_new(t, i, same_row, s.rows, &s.n_rows);
        add_new(t, i, same_column, s.columns, &s.n_columns);
    }
    gather_variants(t, s.rows, s.n_rows);
    for (size_t r = 0; r < s.n_rows; r++)
        for (size_t c = 0; c < s.n_columns; c++)
            s.n_seeds = size_max(s.n_seeds, cell_of(t, &t->entries[s.rows[r]], &t->entries[s.columns[c]]).n);
    *out = s;
    return STATUS_OK;
}

static void skeleton_free(struct skeleton *s) {
    free(s->rows);
    free(s->columns);
}

/* The mean of a row's cells; NAN where one is missing. */
static double row_mean(const struct report_table *t, const struct skeleton *s, size_t row) {
    double sum = 0;
    for (size_t c = 0; c < s->n_columns; c++) {
        const struct cell cell = cell_of(t, &t->entries[s->rows[row]], &t->entries[s->columns[c]]);
        if (cell.n == 0) return NAN;
        sum += cell.mean;
    }
    return sum / (double)s->n_columns;
}

/* ---- text ------------------------------------------------------------------------------------ */
static int width_of(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void pad(FILE *out, const char *text, int width, bool right) {
    const int n = width - width_of(text);
    if (right) fprintf(out, "%*s", n > 0 ? n : 0, "");
    fputs(text, out);
    if (!right) fprintf(out, "%*s", n > 0 ? n : 0, "");
}

static void format_cell(const struct cell *c, size_t n_seeds, const char *plus_minus, char text[64]) {
    int n = 0;
    if (c->n == 0)
        snprintf(text, 64, "-");
    else if (c->n == 1)
        n = snprintf(text, 64, "%.2f", c->mean);
    else
        n = snprintf(text, 64, "%.2f%s%.2f", c->mean, plus_minus, c->deviation);
    if (c->n > 0 && c->n < n_seeds) snprintf(text + n, (size_t)(64 - n), " (%zu)", c->n);
}

static const char *shown_variant(const struct entry *e) {
    return e->variant[0] ? e->variant : "-";
}

static void write_text(const struct report_table *t, const struct skeleton *s, int n_shots, FILE *out) {
    char text[2 * NAME_BYTES + 4];
    int width[2] = {7, 5};
    for (size_t r = 0; r < s->n_rows; r++) {
        const struct entry *e = &t->entries[s->rows[r]];
        if (width_of(shown_variant(e)) > width[0]) width[0] = width_of(shown_variant(e));
        if (width_of(e->model) > width[1]) width[1] = width_of(e->model);
    }
    if (n_shots > 0) fprintf(out, "%d-shot, ", n_shots);
    fprintf(out, "%s accuracy, %%", t->split);
    if (s->n_seeds > 1) fprintf(out, ": mean \xc2\xb1 standard deviation over %zu seeds", s->n_seeds);
    fputc('\n', out);
    pad(out, "variant", width[0] + 2, false);
    pad(out, "model", width[1], false);
    for (size_t c = 0; c < s->n_columns; c++) {
        snprintf(text, sizeof text, "%s>%s", t->entries[s->columns[c]].source,
                 t->entries[s->columns[c]].target);
        fputs("  ", out);
        pad(out, text, COLUMN, true);
    }
    fputs(s->n_columns > 1 ? "      mean\n" : "\n", out);
    for (size_t r = 0; r < s->n_rows; r++) {
        const struct entry *e = &t->entries[s->rows[r]];
        const bool again = r > 0 && strcmp(t->entries[s->rows[r - 1]].variant, e->variant) == 0;
        pad(out, again ? "" : shown_variant(e), width[0] + 2, false);
        pad(out, e->model, width[1], false);
        for (size_t c = 0; c < s->n_columns; c++) {
            const struct entry *column = &t->entries[s->columns[c]];
            const struct cell cell = cell_of(t, e, column);
            char shown[64];
            format_cell(&cell, s->n_seeds, " \xc2\xb1 ", shown);
            const int head = width_of(column->source) + 1 + width_of(column->target);
            fputs("  ", out);
            pad(out, shown, head > COLUMN ? head : COLUMN, true);
        }
        const double mean = row_mean(t, s, r);
        if (s->n_columns > 1 && isnan(mean))
            fputs("         -", out);
        else if (s->n_columns > 1)
            fprintf(out, "  %8.2f", mean);
        fputc('\n', out);
    }
}

/* ---- CSV: one line a cell -------------------------------------------------------------------- */
static void write_csv(const struct report_table *t, const struct skeleton *s, int n_shots, FILE *out) {
    for (size_t r = 0; r < s->n_rows; r++)
        for (size_t c = 0; c < s->n_columns; c++) {
            const struct entry *row = &t->entries[s->rows[r]], *column = &t->entries[s->columns[c]];
            const struct cell cell = cell_of(t, row, column);
            if (cell.n == 0) continue;
            fprintf(out, "%d,", n_shots);
            csv_put_text(out, row->variant);
            fputc(',', out);
            csv_put_text(out, row->model);
            fputc(',', out);
            csv_put_text(out, column->source);
            fputc(',', out);
            csv_put_text(out, column->target);
            fprintf(out, ",%zu,%.4f,", cell.n, cell.mean);
            if (cell.n > 1) fprintf(out, "%.4f", cell.deviation);
            fputc('\n', out);
        }
}

/* ---- LaTeX ----------------------------------------------------------------------------------- */
static void put_latex(FILE *out, const char *text) {
    for (; *text; text++) {
        if (strchr("_%&#${}", *text))
            fprintf(out, "\\%c", *text);
        else if (*text == '\\')
            fputs("\\textbackslash{}", out);
        else if (*text == '~' || *text == '^')
            fprintf(out, "\\%c{}", *text);
        else
            fputc(*text, out);
    }
}

static void write_latex(const struct report_table *t, const struct skeleton *s, int n_shots, FILE *out) {
    fprintf(out,
            "%% needs \\usepackage{booktabs}; %s accuracy, mean $\\pm$ standard deviation over %zu seed%s\n",
            t->split, s->n_seeds, s->n_seeds == 1 ? "" : "s");
    fputs("\\begin{tabular}{ll", out);
    for (size_t c = 0; c < s->n_columns + (s->n_columns > 1); c++) fputc('r', out);
    fputs("}\n\\toprule\n", out);
    if (n_shots > 0) fprintf(out, "%d-shot", n_shots);
    fputs(" & ", out);
    for (size_t c = 0; c < s->n_columns; c++) {
        fputs(" & ", out);
        put_latex(out, t->entries[s->columns[c]].source);
        fputs("$\\to$", out);
        put_latex(out, t->entries[s->columns[c]].target);
    }
    fputs(s->n_columns > 1 ? " & mean \\\\\n" : " \\\\\n", out);
    for (size_t r = 0; r < s->n_rows; r++) {
        const struct entry *e = &t->entries[s->rows[r]];
        const bool again = r > 0 && strcmp(t->entries[s->rows[r - 1]].variant, e->variant) == 0;
        if (!again) fputs("\\midrule\n", out);
        if (!again) put_latex(out, shown_variant(e));
        fputs(" & ", out);
        put_latex(out, e->model);
        for (size_t c = 0; c < s->n_columns; c++) {
            const struct cell cell = cell_of(t, e, &t->entries[s->columns[c]]);
            char shown[64];
            format_cell(&cell, s->n_seeds, " $\\pm$ ", shown);
            fprintf(out, " & %s", shown);
        }
        const double mean = row_mean(t, s, r);
        if (s->n_columns > 1 && isnan(mean))
            fputs(" & -", out);
        else if (s->n_columns > 1)
            fprintf(out, " & %.2f", mean);
        fputs(" \\\\\n", out);
    }
    fputs("\\bottomrule\n\\end{tabular}\n", out);
}

status_t report_table_write(const struct report_table *t, enum report_table_format format, FILE *out) {
    static void (*const writers[])(const struct report_table *, const struct skeleton *, int,
                                   FILE *) = {write_text, write_csv, write_latex};
    bool first = true;
    if (format == REPORT_TABLE_CSV)
        fputs("shots,variant,model,source,target,seeds,mean,standard_deviation\n", out);
    for (int n_shots = 0; n_shots < 10000; n_shots++) {
        struct skeleton s;
        bool any = false;
        for (size_t i = 0; i < t->n; i++) any |= t->entries[i].n_shots == n_shots;
        if (!any) continue;
        TRY(skeleton_make(t, n_shots, &s));
        if (!first && format != REPORT_TABLE_CSV) fputc('\n', out);
        writers[format](t, &s, n_shots, out);
        skeleton_free(&s);
        first = false;
    }
    return STATUS_OK;
}
