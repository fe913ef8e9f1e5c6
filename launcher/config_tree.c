#include "launcher/config_tree.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_BYTES = 1 << 20, MAX_NODES = 20000, MAX_DEPTH = 16, MAX_FAULTS = 50 };

struct reader {
    yaml_parser_t parser;
    const char *origin;
    struct config_faults *faults;
    int n_nodes;
};

void config_fault(struct config_faults *faults, const char *origin, int line, int column, const char *fmt,
                  ...) {
    faults->n++;
    if (faults->n > MAX_FAULTS) return; /* nobody reads on; the sum is told */
    char place[64] = "", message[1024];
    if (line > 0) snprintf(place, sizeof place, ":%d:%d", line, column);
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    const size_t need = strlen(origin) + strlen(place) + strlen(message) + 4;
    if (faults->length + need > faults->capacity) {
        const size_t capacity = 2 * (faults->capacity + need);
        char *grown = realloc(faults->text, capacity);
        if (!grown) return;
        faults->text = grown;
        faults->capacity = capacity;
    }
    faults->length += (size_t)sprintf(faults->text + faults->length, "%s%s%s: %s", faults->length ? "\n" : "",
                                      origin, place, message);
}

void config_faults_free(struct config_faults *faults) {
    free(faults->text);
    memset(faults, 0, sizeof *faults);
}

void config_tree_free(struct config_node *node) {
    if (!node) return;
    for (int i = 0; i < node->n_children; i++) {
        config_tree_free(&node->children[i]);
        if (node->keys) config_tree_free(&node->keys[i]);
    }
    free(node->children);
    free(node->keys);
    free(node->text);
    memset(node, 0, sizeof *node);
}

static status_t fault_at(struct reader *r, yaml_mark_t mark, const char *message) {
    config_fault(r->faults, r->origin, (int)mark.line + 1, (int)mark.column + 1, "%s", message);
    return FAIL(STATUS_BAD_CONFIG, "%s: %s", r->origin, message);
}

/* The next event, or its syntax fault. */
static status_t next_event(struct reader *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event)) return STATUS_OK;
    CHECK(r->parser.error != YAML_MEMORY_ERROR, STATUS_NO_MEMORY, "out of memory for %s", r->origin);
    const char *problem = r->parser.problem ? r->parser.problem : "cannot be read as YAML";
    char text[256];
    if (r->parser.context)
        snprintf(text, sizeof text, "not YAML: %s (%s)", problem, r->parser.context);
    else
        snprintf(text, sizeof text, "not YAML: %s", problem);
    yaml_mark_t mark = r->parser.problem_mark;
    if (r->parser.error == YAML_READER_ERROR) { /* encoding: only an offset is known */
        snprintf(text, sizeof text, "not UTF-8 text: %s at byte %zu", problem, r->parser.problem_offset);
        mark = r->parser.mark;
    }
    return fault_at(r, mark, text);
}

static const char *event_refused(const yaml_event_t *event) {
    static const char *const anchor =
        "anchors (&name) and aliases (*name) are not supported; write the value out";
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return anchor;
    case YAML_SCALAR_EVENT:
        if (event->data.scalar.anchor) return anchor;
        if (event->data.scalar.tag) return "tags (!name) are not supported";
        if (memchr(event->data.scalar.value, 0, event->data.scalar.length))
            return "a text must not contain a NUL byte";
        return NULL;
    case YAML_SEQUENCE_START_EVENT:
        if (event->data.sequence_start.anchor) return anchor;
        return event->data.sequence_start.tag ? "tags (!name) are not supported" : NULL;
    case YAML_MAPPING_START_EVENT:
        if (event->data.mapping_start.anchor) return anchor;
        return event->data.mapping_start.tag ? "tags (!name) are not supported" : NULL;
    default:
        return NULL;
    }
}

static status_t read_node(struct reader *r, const yaml_event_t *event, int depth, struct config_node *node);

static bool grow_children(struct config_node *node, int *capacity, bool with_keys) {
    if (node->n_children < *capacity) return true;
    const int grown = *capacity ? 2 * *capacity : 8;
    struct config_node *children = realloc(node->children, (size_t)grown * sizeof *children);
    if (!children) return false;
    node->children = children;
    if (with_keys) {
        struct config_node *keys = realloc(node->keys, (size_t)grown * sizeof *keys);
        if (!keys) return false;
        node->keys = keys;
    }
    *capacity = grown;
    return true;
}

/* One more child (and its key) after `event`, which is the item itself or the key. */
static status_t read_child(struct reader *r, const yaml_event_t *event, int depth, struct config_node *node) {
    const bool with_key = node->kind == CONFIG_MAPPING;
    struct config_node *child = &node->children[node->n_children];
    memset(child, 0, sizeof *child);
    if (with_key) memset(&node->keys[node->n_children], 0, sizeof *node->keys);
    node->n_children++;
    if (!with_key) return read_node(r, event, depth + 1, child);
    if (event->type != YAML_SCALAR_EVENT && event->type != YAML_ALIAS_EVENT)
        return fault_at(r, event->start_mark, "a key must be a word");
    TRY(read_node(r, event, depth + 1, &node->keys[node->n_children - 1]));
    yaml_event_t value;
    TRY(next_event(r, &value));
    const status_t status = read_node(r, &value, depth + 1, child);
    yaml_event_delete(&value);
    return status;
}

static status_t read_children(struct reader *r, int depth, struct config_node *node) {
    const yaml_event_type_t end =
        node->kind == CONFIG_MAPPING ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    int capacity = 0;
    for (;;) {
        yaml_event_t event;
        TRY(next_event(r, &event));
        const bool done = event.type == end;
        status_t status = STATUS_OK;
        if (!done && !grow_children(node, &capacity, node->kind == CONFIG_MAPPING))
            status = FAIL(STATUS_NO_MEMORY, "out of memory for %s", r->origin);
        else if (!done)
            status = read_child(r, &event, depth, node);
        yaml_event_delete(&event);
        if (done || status != STATUS_OK) return status;
    }
}

static status_t read_node(struct reader *r, const yaml_event_t *event, int depth, struct config_node *node) {
    const char *refused = event_refused(event);
    if (refused) return fault_at(r, event->start_mark, refused);
    if (depth > MAX_DEPTH) return fault_at(r, event->start_mark, "nested too deeply");
    if (++r->n_nodes > MAX_NODES) return fault_at(r, event->start_mark, "too many values");
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        node->kind = CONFIG_SCALAR;
        node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        node->text = strdup((const char *)event->data.scalar.value);
        CHECK(node->text, STATUS_NO_MEMORY, "out of memory for %s", r->origin);
        return STATUS_OK;
    case YAML_SEQUENCE_START_EVENT:
        node->kind = CONFIG_SEQUENCE;
        return read_children(r, depth, node);
    case YAML_MAPPING_START_EVENT:
        node->kind = CONFIG_MAPPING;
        return read_children(r, depth, node);
    default:
        return FAIL(STATUS_INTERNAL, "%s: unexpected event %d", r->origin, (int)event->type);
    }
}

/* The events around the one document. */
static status_t read_document(struct reader *r, struct config_node *root) {
    root->kind = CONFIG_MAPPING;
    root->line = root->column = 1;
    bool seen = false;
    for (;;) {
        yaml_event_t event;
        TRY(next_event(r, &event));
        const yaml_event_type_t type = event.type;
        status_t status = STATUS_OK;
        if (type == YAML_DOCUMENT_START_EVENT && seen)
            status = fault_at(r, event.start_mark, "a second document (---): one file is one configuration");
        else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                 type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
            seen = true;
            status = read_node(r, &event, 0, root);
        }
        yaml_event_delete(&event);
        if (status != STATUS_OK || type == YAML_STREAM_END_EVENT) return status;
    }
}

status_t config_tree_read(const char *origin, const char *text, size_t n_bytes, struct config_faults *faults,
                          struct config_node *root) {
    memset(root, 0, sizeof *root);
    if (n_bytes > MAX_BYTES) {
        config_fault(faults, origin, 0, 0, "larger than 1 MiB: not a configuration");
        return FAIL(STATUS_BAD_CONFIG, "%s: larger than 1 MiB: not a configuration", origin);
    }
    struct reader r = {.origin = origin, .faults = faults};
    CHECK(yaml_parser_initialize(&r.parser), STATUS_NO_MEMORY, "out of memory for %s", origin);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n_bytes);
    const status_t status = read_document(&r, root);
    yaml_parser_delete(&r.parser);
    if (status != STATUS_OK) config_tree_free(root);
    return status;
}
