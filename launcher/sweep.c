#include "launcher/sweep.h"

#include "launcher/config_tree.h"

#include "common/file.h"
#include "common/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_CHARACTERS = 64 };

struct axis {
    const char *name;
    const struct config_node *values; /* a sequence of scalars or mappings */
};

struct reader {
    const char *origin, *folder;
    struct config_faults faults;
    const struct config_node *base, *runs, *set; /* set: NULL where there is none */
    struct axis axes[SWEEP_MAX_AXES];
    int n_axes;
    int at[SWEEP_MAX_AXES]; /* the values of the run being made */
};

static void fault(struct reader *r, const struct config_node *node, const char *message, const char *word) {
    config_fault(&r->faults, r->origin, node->line, node->column, message, word);
}

static const struct config_node *child(const struct config_node *mapping, const char *key) {
    for (int i = 0; i < mapping->n_children; i++)
        if (strcmp(mapping->keys[i].text, key) == 0) return &mapping->children[i];
    return NULL;
}

static const char *value_name(const struct config_node *value) {
    if (value->kind == CONFIG_SCALAR) return value->text;
    if (value->kind != CONFIG_MAPPING) return "";
    const struct config_node *name = child(value, "name");
    return name && name->kind == CONFIG_SCALAR ? name->text : "";
}

/* ---- checks of the form ---------------------------------------------------------------------- */
static void check_set(struct reader *r, const struct config_node *set) {
    if (set->kind != CONFIG_SEQUENCE) {
        fault(r, set, "set: expected a list of key=value%s", "");
        return;
    }
    for (int i = 0; i < set->n_children; i++) {
        const struct config_node *item = &set->children[i];
        if (item->kind != CONFIG_SCALAR)
            fault(r, item, "set: expected key=value%s (quote it where it has brackets)", "");
        else if (!strchr(item->text, '=') || item->text[0] == '=')
            fault(r, item, "set: '%s' is not of the form key=value", item->text);
        else if (strncmp(item->text, "run=", 4) == 0)
            fault(r, item, "set: the directory is what `runs` says%s", "");
    }
}

static bool is_word(const char *text) {
    const size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return n > 0 && n < NAME_CHARACTERS && text[n] == '\0';
}

/* Names become parts of directories. */
static bool is_name(const char *text) {
    return text[0] && strlen(text) < NAME_CHARACTERS && !strchr(text, '/') && strcmp(text, "..") != 0 &&
           strcmp(text, ".") != 0;
}

static void check_repeats(struct reader *r, const struct config_node *mapping) {
    for (int i = 0; i < mapping->n_children; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(mapping->keys[i].text, mapping->keys[j].text) == 0)
                fault(r, &mapping->keys[i], "%s appears twice", mapping->keys[i].text);
}

static void check_value(struct reader *r, const struct config_node *value) {
    if (!is_name(value_name(value))) {
        fault(r, value, "each value needs a name of at most 63 characters without '/'%s", "");
        return;
    }
    if (value->kind != CONFIG_MAPPING) return;
    check_repeats(r, value);
    for (int i = 0; i < value->n_children; i++) {
        const char *key = value->keys[i].text;
        if (strcmp(key, "set") == 0)
            check_set(r, &value->children[i]);
        else if (!is_word(key) || value->children[i].kind != CONFIG_SCALAR)
            fault(r, &value->keys[i], "%s: expected a word with a text, to stand for in {braces}", key);
    }
}

static void take_axis(struct reader *r, const struct config_node *key, const struct config_node *values) {
    if (values->kind != CONFIG_SEQUENCE || values->n_children == 0) {
        fault(r, values, "axis %s: expected a list of values", key->text);
        return;
    }
    if (!is_word(key->text) || strcmp(key->text, "folder") == 0 || r->n_axes >= SWEEP_MAX_AXES) {
        fault(r, key, "%s cannot be an axis: a word, not `folder`, and at most 16 of them", key->text);
        return;
    }
    for (int i = 0; i < values->n_children; i++) {
        check_value(r, &values->children[i]);
        for (int j = 0; j < i; j++)
            if (strcmp(value_name(&values->children[i]), value_name(&values->children[j])) == 0)
                fault(r, &values->children[i], "the name %s appears twice on this axis",
                      value_name(&values->children[i]));
    }
    r->axes[r->n_axes++] = (struct axis){.name = key->text, .values = values};
}

static void take_root(struct reader *r, const struct config_node *root) {
    if (root->kind != CONFIG_MAPPING) {
        fault(r, root, "expected the keys base, runs, set, axes%s", "");
        return;
    }
    check_repeats(r, root);
    for (int i = 0; i < root->n_children; i++) {
        const struct config_node *key = &root->keys[i], *value = &root->children[i];
        const bool text = value->kind == CONFIG_SCALAR && value->text[0];
        if (strcmp(key->text, "base") == 0 && text)
            r->base = value;
        else if (strcmp(key->text, "runs") == 0 && text)
            r->runs = value;
        else if (strcmp(key->text, "set") == 0)
            check_set(r, r->set = value);
        else if (strcmp(key->text, "axes") == 0 && value->kind == CONFIG_MAPPING) {
            check_repeats(r, value);
            for (int a = 0; a < value->n_children; a++) take_axis(r, &value->keys[a], &value->children[a]);
        } else
            fault(r, key,
                  "%s: expected base: FILE, runs: DIRECTORY, set: [key=value, ...] or axes: {NAME: [...]}",
                  key->text);
    }
    if (!r->base) fault(r, root, "base is missing: the configuration that the runs start from%s", "");
    if (!r->runs) fault(r, root, "runs is missing: the directory of a run, with {axis} in it%s", "");
    if (r->n_axes == 0) fault(r, root, "axes is missing%s", "");
}

/* ---- expansion ------------------------------------------------------------------------------- */

/* What {word} stands for in the run being made; NULL: nothing. */
static const char *meaning(const struct reader *r, const char *word) {
    if (strcmp(word, "folder") == 0) return r->folder;
    for (int a = 0; a < r->n_axes; a++)
        if (strcmp(r->axes[a].name, word) == 0) return value_name(&r->axes[a].values->children[r->at[a]]);
    for (int a = 0; a < r->n_axes; a++) {
        const struct config_node *value = &r->axes[a].values->children[r->at[a]];
        const struct config_node *found =
            value->kind == CONFIG_MAPPING && strcmp(word, "set") != 0 ? child(value, word) : NULL;
        if (found) return found->text;
    }
    return NULL;
}

/* prefix + text with every {word} replaced (caller frees); NULL with a fault, or when out of memory. */
static char *expand(struct reader *r, const char *prefix, const struct config_node *node) {
    char *text = NULL, word[NAME_CHARACTERS];
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    if (!out) return NULL;
    fputs(prefix, out);
    bool known = true;
    for (const char *p = node->text; *p && known; p++) {
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        if (end && end - p - 1 < NAME_CHARACTERS) {
            snprintf(word, sizeof word, "%.*s", (int)(end - p - 1), p + 1);
            if (is_word(word)) {
                const char *value = meaning(r, word);
                if (!value)
                    fault(r, node, "{%s} is neither an axis nor a key of this run's values", word);
                else
                    fputs(value, out);
                known = value != NULL;
                p = end;
                continue;
            }
        }
        fputc(*p, out);
    }
    if (fclose(out) != 0 || !known) {
        free(text);
        return NULL;
    }
    return text;
}

static bool add_argument(struct reader *r, struct sweep_run *run, const char *prefix,
                         const struct config_node *node) {
    char **grown = realloc(run->arguments, (size_t)(run->n_arguments + 1) * sizeof *grown);
    if (!grown) return false;
    run->arguments = grown;
    char *text = expand(r, prefix, node);
    if (!text) return false;
    run->arguments[run->n_arguments++] = text;
    return true;
}

static bool add_set(struct reader *r, struct sweep_run *run, const struct config_node *set) {
    for (int i = 0; set && i < set->n_children; i++)
        if (!add_argument(r, run, "", &set->children[i])) return false;
    return true;
}

static bool make_run(struct reader *r, struct sweep_run *run) {
    if (!add_argument(r, run, "run=", r->runs) || !add_set(r, run, r->set)) return false;
    for (int a = 0; a < r->n_axes; a++) {
        const struct config_node *value = &r->axes[a].values->children[r->at[a]];
        if (value->kind == CONFIG_MAPPING && !add_set(r, run, child(value, "set"))) return false;
    }
    return true;
}

static int compare_folders(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static status_t check_folders(struct reader *r, const struct sweep *s) {
    char **folders = memory_zeroed((size_t)s->n_runs, sizeof *folders);
    CHECK(folders, STATUS_NO_MEMORY, "out of memory for the sweep");
    for (int i = 0; i < s->n_runs; i++) folders[i] = s->runs[i].arguments[0];
    qsort(folders, (size_t)s->n_runs, sizeof *folders, compare_folders);
    for (int i = 1; i < s->n_runs; i++)
        if (strcmp(folders[i - 1], folders[i]) == 0) {
            fault(r, r->runs, "several runs would share the directory %s: name every axis in it",
                  folders[i] + 4);
            break;
        }
    free(folders);
    return STATUS_OK;
}

static status_t expand_all(struct reader *r, struct sweep *s) {
    int64_t n = 1;
    for (int a = 0; a < r->n_axes; a++) {
        n *= r->axes[a].values->n_children;
        if (n > SWEEP_MAX_RUNS) {
            fault(r, r->axes[a].values, "more than 100000 runs%s", "");
            return STATUS_OK;
        }
    }
    s->runs = memory_zeroed((size_t)n, sizeof *s->runs);
    CHECK(s->runs, STATUS_NO_MEMORY, "out of memory for the sweep");
    for (; s->n_runs < n; s->n_runs++) {
        int64_t rest = s->n_runs;
        for (int a = r->n_axes; a-- > 0; rest /= r->axes[a].values->n_children)
            r->at[a] = (int)(rest % r->axes[a].values->n_children);
        struct sweep_run run = {0};
        const bool made = make_run(r, &run);
        s->runs[s->n_runs] = run;
        if (made) continue;
        s->n_runs++;
        CHECK(r->faults.n > 0, STATUS_NO_MEMORY, "out of memory for the sweep");
        return STATUS_OK; /* the first fault of a text is enough */
    }
    return check_folders(r, s);
}

void sweep_free(struct sweep *s) {
    for (int i = 0; i < s->n_runs; i++) {
        for (int j = 0; j < s->runs[i].n_arguments; j++) free(s->runs[i].arguments[j]);
        free(s->runs[i].arguments);
    }
    free(s->runs);
    free(s->base);
    memset(s, 0, sizeof *s);
}

status_t sweep_read_text(const char *origin, const char *folder, const char *text, size_t n_bytes,
                         struct sweep *out) {
    struct reader r = {.origin = origin, .folder = folder};
    struct config_node root = {0};
    struct sweep s = {0};
    status_t status = config_tree_read(origin, text, n_bytes, &r.faults, &root);
    if (status == STATUS_OK) {
        take_root(&r, &root);
        if (r.faults.n == 0) status = expand_all(&r, &s);
        if (status == STATUS_OK && r.faults.n == 0) {
            s.base = file_join(folder, r.base->text);
            if (!s.base) status = FAIL(STATUS_NO_MEMORY, "out of memory for a path");
        }
    }
    if ((status == STATUS_OK || status == STATUS_BAD_CONFIG) && r.faults.n > 0)
        status = FAIL(STATUS_BAD_CONFIG, "%s", r.faults.text ? r.faults.text : "out of memory");
    config_tree_free(&root);
    config_faults_free(&r.faults);
    if (status == STATUS_OK)
        *out = s;
    else
        sweep_free(&s);
    return status;
}

status_t sweep_read(const char *path, struct sweep *out) {
    char *text = NULL, *folder = NULL;
    size_t n_bytes;
    status_t status = file_read_all(path, 1 << 20, &text, &n_bytes);
    if (status != STATUS_OK) return status_context(status, "sweep");
    const char *slash = strrchr(path, '/');
    folder = slash > path ? strndup(path, (size_t)(slash - path)) : strdup(slash ? "/" : ".");
    CHECK_TO(done, folder, STATUS_NO_MEMORY, "out of memory for a path");
    status = sweep_read_text(path, folder, text, n_bytes, out);
done:
    free(folder);
    free(text);
    return status;
}

static void put_word(FILE *out, const char *word) {
    if (word[0] &&
        word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%")] ==
            '\0') {
        fputs(word, out);
        return;
    }
    fputc('\'', out);
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", out);
        else
            fputc(*word, out);
    fputc('\'', out);
}

void sweep_print_command(const struct sweep *s, int index, int n_more, char *const *more, FILE *out) {
    fputs("marrs_dist ", out);
    put_word(out, s->base);
    for (int i = 0; i < s->runs[index].n_arguments + n_more; i++) {
        fputc(' ', out);
        put_word(out, i < s->runs[index].n_arguments ? s->runs[index].arguments[i]
                                                     : more[i - s->runs[index].n_arguments]);
    }
    fputc('\n', out);
}
