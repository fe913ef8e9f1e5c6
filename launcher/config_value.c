#include "launcher/config_value.h"

#include "common/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a value is being read. */
struct context {
    const struct config_key *key;
    const char *origin;
    struct config_faults *faults;
};

static const char *const node_kinds[] = {"a single value", "a list", "a section"};

static bool wrong_kind(const struct context *c, const struct config_node *node, const char *wanted) {
    config_fault(c->faults, c->origin, node->line, node->column, "%s: expected %s, got %s", c->key->path,
                 wanted, node_kinds[node->kind]);
    return false;
}

static bool wrong_text(const struct context *c, const struct config_node *node, const char *wanted) {
    if (node->text[0] == '\0' && !node->quoted)
        config_fault(c->faults, c->origin, node->line, node->column, "%s: expected %s, got nothing",
                     c->key->path, wanted);
    else
        config_fault(c->faults, c->origin, node->line, node->column, "%s: expected %s, got '%.80s'",
                     c->key->path, wanted, node->text);
    return false;
}

static bool check_range(const struct context *c, const struct config_node *node, double value) {
    if (value >= c->key->min && value <= c->key->max) return true;
    const bool low = value < c->key->min;
    config_fault(c->faults, c->origin, node->line, node->column, "%s: %.80s is %s %.17g", c->key->path,
                 node->text, low ? "below the least value," : "above the largest value,",
                 low ? c->key->min : c->key->max);
    return false;
}

static bool is_auto(const struct config_key *key, const struct config_node *node) {
    return key->has_auto && node->kind == CONFIG_SCALAR && strcmp(node->text, "auto") == 0;
}

static bool read_integer(const struct context *c, const struct config_node *node, int64_t *out) {
    if (is_auto(c->key, node)) {
        *out = 0;
        return true;
    }
    const char *wanted = c->key->has_auto ? "an integer or auto" : "an integer";
    if (node->kind != CONFIG_SCALAR) return wrong_kind(c, node, wanted);
    const char *digits = node->text + (node->text[0] == '-' || node->text[0] == '+');
    if (digits[0] == '\0' || strspn(digits, "0123456789") != strlen(digits))
        return wrong_text(c, node, wanted);
    errno = 0;
    const long long value = strtoll(node->text, NULL, 10);
    if (errno == ERANGE) return check_range(c, node, value < 0 ? -1e300 : 1e300);
    if (!check_range(c, node, (double)value)) return false;
    *out = value;
    return true;
}

static bool read_number(const struct context *c, const struct config_node *node, double *out) {
    if (is_auto(c->key, node)) {
        *out = NAN;
        return true;
    }
    const char *wanted = c->key->has_auto ? "a number or auto" : "a number";
    if (node->kind != CONFIG_SCALAR) return wrong_kind(c, node, wanted);
    char *end;
    const double value = strtod(node->text, &end);
    if (end == node->text || *end != '\0' || strspn(node->text, "+-.0123456789eE") != strlen(node->text))
        return wrong_text(c, node, wanted);
    if (!check_range(c, node, value)) return false;
    *out = value == 0 ? 0 : value; /* no negative zero */
    return true;
}

static bool read_bool(const struct context *c, const struct config_node *node, bool *out) {
    if (node->kind != CONFIG_SCALAR) return wrong_kind(c, node, "true or false");
    if (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0) {
        *out = node->text[0] == 't';
        return true;
    }
    return wrong_text(c, node, "true or false");
}

/* Which of "a|b|c" the node is; -1 with a fault otherwise. */
static int read_word(const struct context *c, const struct config_node *node) {
    char list[256], wanted[320], nearest_text[100] = "";
    snprintf(list, sizeof list, "%s", c->key->words);
    snprintf(wanted, sizeof wanted, "one of %s", c->key->words);
    for (char *p = wanted; (p = strchr(p, '|'));) *p = ' ';
    if (node->kind != CONFIG_SCALAR) {
        wrong_kind(c, node, wanted);
        return -1;
    }
    struct nearest nearest = nearest_start(node->text);
    int index = 0;
    for (char *save, *word = strtok_r(list, "|", &save); word; word = strtok_r(NULL, "|", &save), index++) {
        if (strcmp(word, node->text) == 0) return index;
        nearest_offer(&nearest, word);
    }
    if (nearest.best) snprintf(nearest_text, sizeof nearest_text, "; nearest: %s", nearest.best);
    config_fault(c->faults, c->origin, node->line, node->column, "%s: expected %s, got '%.80s'%s",
                 c->key->path, wanted, node->text, nearest_text);
    return -1;
}

/* The next character of UTF-8 text and its bytes; -1 where the bytes are not UTF-8. */
static long next_character(const unsigned char *p, int *n_bytes) {
    static const long least[] = {0, 0, 0x80, 0x800, 0x10000};
    const int n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 0;
    long value = n == 1 ? p[0] : p[0] & (0x7f >> n);
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return -1;
        value = value << 6 | (p[i] & 0x3f);
    }
    *n_bytes = n;
    return n == 0 || value < least[n] ? -1 : value;
}

/* UTF-8 that stays the same when written into YAML and read again: no control characters, no line separators.
 */
static bool is_printable(const char *text) {
    int n_bytes = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p; p += n_bytes) {
        const long c = next_character(p, &n_bytes);
        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
            (c >= 0xd800 && c < 0xe000) || c == 0xfeff || c == 0xfffe || c == 0xffff || c > 0x10ffff)
            return false;
    }
    return true;
}

static bool check_string(const struct context *c, const struct config_node *node) {
    if (node->kind != CONFIG_SCALAR) return wrong_kind(c, node, "a text");
    if (node->text[0] == '\0' && (c->key->required || !node->quoted)) return wrong_text(c, node, "a text");
    if (!is_printable(node->text)) return wrong_text(c, node, "a text of printable UTF-8 characters");
    return true;
}

/* One item of a list, or the scalar itself where one stands for a list of one. */
static const struct config_node *item_of(const struct config_node *node, int i) {
    return node->kind == CONFIG_SEQUENCE ? &node->children[i] : node;
}

/* The number of items, or -1 with a fault. */
static int list_length(const struct context *c, const struct config_node *node) {
    if (node->kind == CONFIG_MAPPING) {
        wrong_kind(c, node, "a list");
        return -1;
    }
    const int n = node->kind == CONFIG_SEQUENCE ? node->n_children : 1;
    if (n >= c->key->min_items && n <= c->key->max_items) return n;
    if (c->key->min_items == c->key->max_items)
        config_fault(c->faults, c->origin, node->line, node->column, "%s: expected %d items, got %d",
                     c->key->path, c->key->min_items, n);
    else
        config_fault(c->faults, c->origin, node->line, node->column, "%s: expected %d to %d items, got %d",
                     c->key->path, c->key->min_items, c->key->max_items, n);
    return -1;
}

static bool read_strings(const struct context *c, const struct config_node *node, struct string_list *out) {
    const int n = list_length(c, node);
    if (n < 0) return false;
    for (int i = 0; i < n; i++)
        if (!check_string(c, item_of(node, i))) return false;
    struct string_list list = {.n = 0, .items = calloc((size_t)n + 1, sizeof(char *))};
    for (; list.items && list.n < n; list.n++)
        if (!(list.items[list.n] = strdup(item_of(node, list.n)->text))) break;
    if (!list.items || list.n < n) {
        config_fault(c->faults, c->origin, node->line, node->column, "%s: out of memory", c->key->path);
        for (int i = 0; i < list.n; i++) free(list.items[i]);
        free(list.items);
        return false;
    }
    for (int i = 0; i < out->n; i++) free(out->items[i]);
    free(out->items);
    *out = list;
    return true;
}

static bool read_stages(const struct context *c, const struct config_node *node, struct stage_list *out) {
    struct stage_list list = {.n = list_length(c, node)};
    for (int i = 0; i < list.n; i++) {
        const struct config_node *item = item_of(node, i);
        const int word = read_word(c, item);
        if (word < 0) return false;
        if (i > 0 && (int)list.items[i - 1] >= word + 1) {
            config_fault(c->faults, c->origin, item->line, item->column,
                         "%s: each stage once, in the order features, heads, cotrain, distil", c->key->path);
            return false;
        }
        list.items[i] = (enum stage)(word + 1);
    }
    if (list.n > 0) *out = list;
    return list.n > 0;
}

static bool read_integers(const struct context *c, const struct config_node *node, struct integer_list *out) {
    struct integer_list list = {.n = list_length(c, node)};
    for (int i = 0; i < list.n; i++)
        if (!read_integer(c, item_of(node, i), &list.items[i])) return false;
    if (list.n >= 0) *out = list;
    return list.n >= 0;
}

static bool read_numbers(const struct context *c, const struct config_node *node, struct number_list *out) {
    struct number_list list = {.n = list_length(c, node)};
    for (int i = 0; i < list.n; i++)
        if (!read_number(c, item_of(node, i), &list.items[i])) return false;
    if (list.n >= 0) *out = list;
    return list.n >= 0;
}

bool config_value_set(const struct config_key *key, const struct config_node *node, const char *origin,
                      struct config_faults *faults, void *place) {
    const struct context c = {.key = key, .origin = origin, .faults = faults};
    switch (key->type) {
    case CONFIG_STRING: {
        if (!check_string(&c, node)) return false;
        char *copy = strdup(node->text);
        if (!copy) config_fault(faults, origin, node->line, node->column, "%s: out of memory", key->path);
        if (!copy) return false;
        free(*(char **)place);
        *(char **)place = copy;
        return true;
    }
    case CONFIG_STRINGS:
        return read_strings(&c, node, place);
    case CONFIG_BOOL:
        return read_bool(&c, node, place);
    case CONFIG_INTEGER:
        return read_integer(&c, node, place);
    case CONFIG_NUMBER:
        return read_number(&c, node, place);
    case CONFIG_WORD: {
        const int word = read_word(&c, node);
        if (word >= 0) *(unsigned *)place = (unsigned)word;
        return word >= 0;
    }
    case CONFIG_INTEGERS:
        return read_integers(&c, node, place);
    case CONFIG_NUMBERS:
        return read_numbers(&c, node, place);
    case CONFIG_STAGES:
        return read_stages(&c, node, place);
    }
    return false;
}

status_t config_value_default(const struct config_key *key, void *place) {
    if (!key->fallback) {
        if (key->type == CONFIG_STRING && !*(char **)place) *(char **)place = strdup("");
        CHECK(key->type != CONFIG_STRING || *(char **)place, STATUS_NO_MEMORY,
              "out of memory for the configuration");
        return STATUS_OK; /* everything else is zeroed already */
    }
    struct config_faults faults = {0};
    struct config_node node = {.kind = CONFIG_SCALAR, .text = (char *)key->fallback, .quoted = true};
    status_t status = STATUS_OK;
    const bool is_list = key->fallback[0] == '[';
    if (is_list) status = config_tree_read(key->path, key->fallback, strlen(key->fallback), &faults, &node);
    if (status == STATUS_OK && !config_value_set(key, &node, "default", &faults, place))
        status = FAIL(STATUS_INTERNAL, "bad default: %s", faults.text ? faults.text : key->path);
    if (is_list) config_tree_free(&node);
    config_faults_free(&faults);
    return status;
}

/* Shape keys are no strings: each is zero in its first bytes (a list in its length) exactly where it is
 * unset. */
static size_t value_bytes(const struct config_key *key) {
    switch (key->type) {
    case CONFIG_BOOL:
        return sizeof(bool);
    case CONFIG_INTEGER:
        return sizeof(int64_t);
    case CONFIG_NUMBER:
        return sizeof(double);
    case CONFIG_INTEGERS:
        return sizeof(struct integer_list);
    case CONFIG_NUMBERS:
        return sizeof(struct number_list);
    default:
        return sizeof(unsigned);
    }
}

void config_value_zero(const struct config_key *key, void *place) {
    memset(place, 0, value_bytes(key));
}

bool config_value_is_zero(const struct config_key *key, const void *place) {
    const unsigned char *p = place;
    for (size_t i = 0; i < value_bytes(key); i++)
        if (p[i] != 0) return false;
    return true;
}

/* Plain where YAML reads it back as this text and no eye takes it for something else. */
static bool is_plain(const char *text) {
    if (text[0] == '\0' ||
        !(isalnum((unsigned char)text[0]) || text[0] == '/' || text[0] == '.' || text[0] == '_'))
        return false;
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=@*") ==
           strlen(text);
}

void config_write_string(const char *text, FILE *out) {
    if (is_plain(text)) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\') fputc('\\', out);
        fputc(*p, out);
    }
    fputc('"', out);
}

static void write_number(double value, FILE *out) {
    if (isnan(value)) {
        fputs("auto", out);
        return;
    }
    char text[40];
    for (int digits = 1; digits <= 17; digits++) { /* the shortest that reads back */
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strchr(text, 'e') && fabs(value) >= 1e-4 && fabs(value) < 1e15) continue; /* 30, not 3e+01 */
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, out);
}

static void write_word(const char *words, int index, FILE *out) {
    while (index-- > 0) words = strchr(words, '|') + 1;
    fwrite(words, 1, strcspn(words, "|"), out);
}

static void write_item(const struct config_key *key, const void *place, int i, FILE *out) {
    switch (key->type) {
    case CONFIG_STRINGS:
        config_write_string(((const struct string_list *)place)->items[i], out);
        break;
    case CONFIG_INTEGERS:
        fprintf(out, "%" PRId64, ((const struct integer_list *)place)->items[i]);
        break;
    case CONFIG_NUMBERS:
        write_number(((const struct number_list *)place)->items[i], out);
        break;
    default:
        write_word(key->words, (int)((const struct stage_list *)place)->items[i] - 1, out);
        break;
    }
}

void config_value_write(const struct config_key *key, const void *place, FILE *out) {
    switch (key->type) {
    case CONFIG_STRING:
        config_write_string(*(char *const *)place, out);
        return;
    case CONFIG_BOOL:
        fputs(*(const bool *)place ? "true" : "false", out);
        return;
    case CONFIG_INTEGER:
        if (key->has_auto && *(const int64_t *)place == 0)
            fputs("auto", out);
        else
            fprintf(out, "%" PRId64, *(const int64_t *)place);
        return;
    case CONFIG_NUMBER:
        write_number(*(const double *)place, out);
        return;
    case CONFIG_WORD:
        write_word(key->words, (int)*(const unsigned *)place, out);
        return;
    default:
        break;
    }
    const int n = *(const int32_t *)place; /* every list begins with its length */
    fputc('[', out);
    for (int i = 0; i < n; i++) {
        if (i > 0) fputs(", ", out);
        write_item(key, place, i, out);
    }
    fputc(']', out);
}

void config_value_kind(const struct config_key *key, char *text, size_t n_bytes) {
    static const char *const nouns[] = {[CONFIG_STRING] = "text",
                                        [CONFIG_STRINGS] = "list of files",
                                        [CONFIG_BOOL] = "true | false",
                                        [CONFIG_INTEGER] = "integer",
                                        [CONFIG_NUMBER] = "number",
                                        [CONFIG_WORD] = "word",
                                        [CONFIG_INTEGERS] = "list of integers",
                                        [CONFIG_NUMBERS] = "list of numbers",
                                        [CONFIG_STAGES] = "list of"};
    const char *also = key->has_auto ? " or auto" : "";
    if (key->type == CONFIG_WORD || key->type == CONFIG_STAGES) {
        size_t n = 0;
        if (key->type == CONFIG_STAGES) n = (size_t)snprintf(text, n_bytes, "list of ");
        for (const char *p = key->words; *p && n + 4 < n_bytes; p++)
            n += (size_t)snprintf(text + n, n_bytes - n, *p == '|' ? " | " : "%c", *p);
    } else if (key->type == CONFIG_STRING || key->type == CONFIG_STRINGS || key->type == CONFIG_BOOL) {
        snprintf(text, n_bytes, "%s",
                 key->is_input_path && key->type == CONFIG_STRING ? "path" : nouns[key->type]);
    } else if (key->max >= 1e6) {
        snprintf(text, n_bytes, "%s from %g%s", nouns[key->type], key->min, also);
    } else {
        snprintf(text, n_bytes, "%s from %g to %g%s", nouns[key->type], key->min, key->max, also);
    }
}
