#include "data_shards/list.h"

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/id_map.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LIST_BYTES = 1 << 30, MAX_PATH_BYTES = 4095 };

/* Parsing keeps the first fault and counts the others. */
struct parser {
    struct image_list *list;
    size_t capacity, n_faults;
    uint32_t line;
};

static void fault(struct parser *p, const char *what, const char *detail) {
    if (p->n_faults++ == 0)
        FAIL(STATUS_BAD_DATA, "%s:%u: %s%s%.80s%s", p->list->name, p->line, what, detail ? " '" : "",
             detail ? detail : "", detail ? "'" : "");
}

static bool parse_label(const char *text, int32_t *out) {
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < -1 || value > INT32_MAX - 1) return false;
    *out = (int32_t)value;
    return true;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* One line, NUL-terminated in place, without its end. */
static status_t parse_line(struct parser *p, char *line, size_t length) {
    if (memchr(line, '\0', length)) return fault(p, "a NUL byte: not a text list?", NULL), STATUS_OK;
    while (length > 0 && (is_blank(line[length - 1]) || line[length - 1] == '\r')) line[--length] = '\0';
    char *begin = line;
    while (is_blank(*begin)) begin++;
    if (!*begin) return STATUS_OK;
    char *label = line + length;
    while (label > begin && !is_blank(label[-1])) label--;
    if (label == begin) return fault(p, "no label after the path", begin), STATUS_OK;
    char *path_end = label;
    while (path_end > begin && is_blank(path_end[-1])) path_end--;
    *path_end = '\0';
    struct list_entry entry = {.id = begin, .line = p->line};
    if (!parse_label(label, &entry.label))
        return fault(p, "the label is not an integer from -1 on:", label), STATUS_OK;
    if (*begin == '/') return fault(p, "the path is not relative:", begin), STATUS_OK;
    if ((size_t)(path_end - begin) > MAX_PATH_BYTES)
        return fault(p, "the path is too long:", begin), STATUS_OK;
    struct image_list *list = p->list;
    CHECK(memory_grow(&list->entries, list->n_entries, &p->capacity, sizeof *list->entries), STATUS_NO_MEMORY,
          "out of memory for list %s", list->name);
    list->entries[list->n_entries++] = entry;
    return STATUS_OK;
}

/* Drop repeated lines; other labels for a known path are faults. */
static status_t drop_repeated(struct parser *p) {
    struct image_list *list = p->list;
    struct id_map map;
    TRY(id_map_init(&map, list->n_entries));
    size_t n = 0;
    for (size_t i = 0; i < list->n_entries; i++) {
        const struct list_entry entry = list->entries[i];
        uint32_t earlier;
        if (id_map_add(&map, entry.id, (uint32_t)n, &earlier)) {
            list->entries[n++] = entry;
        } else if (list->entries[earlier].label != entry.label) {
            char what[96];
            p->line = entry.line;
            snprintf(what, sizeof what, "label %d, but line %u has label %d for", entry.label,
                     list->entries[earlier].line, list->entries[earlier].label);
            fault(p, what, entry.id);
        }
    }
    list->n_entries = n;
    id_map_free(&map);
    return STATUS_OK;
}

static status_t parse_text(struct parser *p, size_t n_bytes) {
    struct image_list *list = p->list;
    char *at = list->text, *end = list->text + n_bytes;
    if (n_bytes >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0) at += 3;
    while (at < end) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        char *stop = newline ? newline : end;
        *stop = '\0';
        p->line++;
        TRY(parse_line(p, at, (size_t)(stop - at)));
        at = stop + 1;
    }
    TRY(drop_repeated(p));
    if (p->n_faults == 1) return STATUS_BAD_DATA;
    if (p->n_faults > 1) return status_context(STATUS_BAD_DATA, "%zu faulty lines, the first", p->n_faults);
    CHECK(list->n_entries > 0, STATUS_BAD_DATA, "%s: the list names no image", list->name);
    return STATUS_OK;
}

/* Takes `text` (n_bytes and one more byte). */
static status_t parse_owned(const char *name, char *text, size_t n_bytes, struct image_list *out) {
    struct image_list list = {.name = strdup(name), .text = text};
    struct parser parser = {.list = &list};
    status_t status =
        list.name ? parse_text(&parser, n_bytes) : FAIL(STATUS_NO_MEMORY, "out of memory for list %s", name);
    if (status == STATUS_OK)
        *out = list;
    else
        list_free(&list);
    return status;
}

status_t list_read(const char *path, struct image_list *out) {
    char *text;
    size_t n_bytes;
    TRY(file_read_all(path, MAX_LIST_BYTES, &text, &n_bytes));
    return parse_owned(path, text, n_bytes, out);
}

status_t list_parse(const char *name, const char *bytes, size_t n_bytes, struct image_list *out) {
    char *text = malloc(n_bytes + 1);
    CHECK(text, STATUS_NO_MEMORY, "out of memory for list %s", name);
    if (n_bytes > 0) memcpy(text, bytes, n_bytes);
    text[n_bytes] = '\0';
    return parse_owned(name, text, n_bytes, out);
}

void list_free(struct image_list *list) {
    free(list->name);
    free(list->entries);
    free(list->text);
    *list = (struct image_list){0};
}

status_t list_overlap(const struct image_list *a, const struct image_list *b, size_t *n_out) {
    struct id_map map;
    TRY(id_map_init(&map, b->n_entries));
    for (size_t i = 0; i < b->n_entries; i++) id_map_add(&map, b->entries[i].id, (uint32_t)i, NULL);
    size_t n = 0;
    uint32_t where;
    for (size_t i = 0; i < a->n_entries; i++) n += id_map_find(&map, a->entries[i].id, &where);
    id_map_free(&map);
    *n_out = n;
    return STATUS_OK;
}

static bool begins_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

struct list_kind list_kind_of(const char *path) {
    static const struct {
        const char *prefix;
        enum list_role role;
    } names[] = {
        {"labeled_source", LIST_SOURCE},        {"labelled_source", LIST_SOURCE},
        {"labeled_target", LIST_LABELLED},      {"labelled_target", LIST_LABELLED},
        {"unlabeled_target", LIST_UNLABELLED},  {"unlabelled_target", LIST_UNLABELLED},
        {"validation_target", LIST_VALIDATION},
    };
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct list_kind kind = {.role = LIST_OTHER};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
        if (begins_with(name, names[i].prefix)) kind.role = names[i].role;
    const char *underscore = strrchr(name, '_');
    if (underscore && underscore[1] >= '1' && underscore[1] <= '9')
        kind.n_shots = (int32_t)strtol(underscore + 1, NULL, 10);
    return kind;
}

/* Whether the first list must not overlap the second one in an experiment that uses both. */
static bool must_be_apart(struct list_kind a, struct list_kind b) {
    const bool same_shots = a.n_shots == b.n_shots || a.n_shots == 0 || b.n_shots == 0;
    if (a.role == LIST_VALIDATION)
        return b.role == LIST_UNLABELLED; /* 3-shot validation lists serve 1 shot too */
    if (a.role != LIST_LABELLED) return false;
    return b.role == LIST_VALIDATION || (b.role == LIST_UNLABELLED && same_shots);
}

status_t list_report_overlaps(const struct image_list *lists, size_t n_lists, size_t *n_pairs_out) {
    size_t n_pairs = 0;
    for (size_t i = 0; i < n_lists; i++) {
        for (size_t j = 0; j < n_lists; j++) {
            if (i == j || !must_be_apart(list_kind_of(lists[i].name), list_kind_of(lists[j].name))) continue;
            size_t n = 0;
            TRY(list_overlap(&lists[i], &lists[j], &n));
            if (n == 0) continue;
            n_pairs++;
            log_global(LOG_WARNING, "%zu of the %zu images of %s are also in %s; left as published", n,
                       lists[i].n_entries, lists[i].name, lists[j].name);
        }
    }
    if (n_pairs_out) *n_pairs_out = n_pairs;
    return STATUS_OK;
}
