/* Messages of object headers of the oldest HDF5 format: shapes, element types, places, attributes. */
#include "data_shards/h5_plain.h"

#include "common/memory.h"

#include <string.h>

enum {
    MSG_SPACE = 1,
    MSG_TYPE = 3,
    MSG_EXTERNAL = 7,
    MSG_LAYOUT = 8,
    MSG_FILTERS = 11,
    MSG_ATTRIBUTE = 12,
    MSG_GROUP = 17
};
enum { CLASS_INTEGER = 0, CLASS_FLOAT = 1, CLASS_STRING = 3, CLASS_VARIABLE = 9 };
enum { MAX_TEXT = 1 << 20, MAX_HASHES = 1 << 13 };

/* ---- shapes and types ---------------------------------------------------------------------------------- */
struct space {
    int n_dims;
    uint64_t shape[STORE_MAX_DIMS];
};

static bool parse_space(const uint8_t *b, size_t n, struct space *out) {
    if (n < 4 || (b[0] != 1 && b[0] != 2) || b[1] > STORE_MAX_DIMS) return false;
    const size_t head = b[0] == 1 ? 8 : 4;
    if (b[0] == 2 && b[3] > 1) return false; /* a null space */
    if (n < head + 8 * (size_t)b[1]) return false;
    out->n_dims = b[1];
    for (int d = 0; d < out->n_dims; d++) out->shape[d] = h5_plain_number(b + head + 8 * d, 8);
    return true;
}

struct type {
    int class;
    size_t n_bytes;
    bool is_signed, big_endian, is_text;
    bool plain; /* all bits of the number are used; IEEE where a float */
};

static bool parse_type(const uint8_t *b, size_t n, struct type *out) {
    if (n < 8) return false;
    *out = (struct type){.class = b[0] & 15, .n_bytes = (size_t)h5_plain_number(b + 4, 4)};
    switch (out->class) {
    case CLASS_INTEGER:
        if (n < 12) return false;
        out->big_endian = b[1] & 1;
        out->is_signed = b[1] >> 3 & 1;
        out->plain = h5_plain_number(b + 8, 2) == 0 && h5_plain_number(b + 10, 2) == 8 * out->n_bytes;
        return true;
    case CLASS_FLOAT:
        if (n < 20) return false;
        out->big_endian = b[1] & 1;
        out->plain = h5_plain_number(b + 8, 2) == 0 && h5_plain_number(b + 10, 2) == 8 * out->n_bytes &&
                     b[12] == (out->n_bytes == 4 ? 23 : 52) && b[13] == (out->n_bytes == 4 ? 8 : 11) &&
                     b[14] == 0;
        return true;
    case CLASS_STRING:
        out->is_text = true;
        return true;
    case CLASS_VARIABLE:
        out->is_text = (b[1] & 15) == 1;
        return true;
    default:
        return true; /* others' business */
    }
}

static bool store_type_of(const struct type *t, enum store_type *out) {
    if (!t->plain || (t->big_endian && t->n_bytes > 1)) return false;
    if (t->class == CLASS_FLOAT) {
        *out = t->n_bytes == 4 ? STORE_F32 : STORE_F64;
        return t->n_bytes == 4 || t->n_bytes == 8;
    }
    switch (t->n_bytes) {
    case 1:
        return *out = STORE_U8, !t->is_signed;
    case 2:
        return *out = STORE_BF16, !t->is_signed;
    case 4:
        return *out = t->is_signed ? STORE_I32 : STORE_U32, true;
    case 8:
        return *out = t->is_signed ? STORE_I64 : STORE_U64, true;
    default:
        return false;
    }
}

/* ---- attributes ---------------------------------------------------------------------------------------- */
struct attribute {
    const char *name; /* with its NUL inside the message */
    struct type type;
    size_t n_values;
    const uint8_t *data;
    size_t n_bytes;
};

/* A piece of n bytes, padded to 8 in version 1; NULL when it is not there. */
static const uint8_t *piece(const struct h5_message *m, size_t *at, size_t n, bool padded) {
    const size_t step = padded ? (n + 7) / 8 * 8 : n;
    if (n > m->n_bytes - *at || step > m->n_bytes - *at) return NULL;
    const uint8_t *p = m->body + *at;
    *at += step;
    return p;
}

static bool parse_attribute(const struct h5_message *m, struct attribute *out) {
    const uint8_t *b = m->body;
    if (m->n_bytes < 9 || b[0] < 1 || b[0] > 3 || (b[0] > 1 && b[1] != 0)) return false;
    size_t at = b[0] == 3 ? 9 : 8;
    const size_t n_name = (size_t)h5_plain_number(b + 2, 2), n_type = (size_t)h5_plain_number(b + 4, 2),
                 n_space = (size_t)h5_plain_number(b + 6, 2);
    const uint8_t *name = piece(m, &at, n_name, b[0] == 1),
                  *type = name ? piece(m, &at, n_type, b[0] == 1) : NULL,
                  *space = type ? piece(m, &at, n_space, b[0] == 1) : NULL;
    struct space shape;
    if (!space || n_name == 0 || name[n_name - 1] != '\0' || !parse_type(type, n_type, &out->type) ||
        !parse_space(space, n_space, &shape))
        return false;
    out->name = (const char *)name;
    out->n_values = 1;
    for (int d = 0; d < shape.n_dims; d++)
        if (!size_mul(out->n_values, (size_t)shape.shape[d], &out->n_values)) return false;
    out->data = b + at;
    out->n_bytes = m->n_bytes - at;
    size_t needed;
    return size_mul(out->n_values, out->type.n_bytes, &needed) && needed <= out->n_bytes;
}

/* Object `index` of the global heap collection at `address`, as a fresh string of `length` bytes. */
static status_t read_heap_text(struct h5_plain *p, uint64_t address, uint32_t index, size_t length,
                               char **out) {
    uint8_t head[16], object[16];
    TRY(h5_plain_get(p, address, sizeof head, head));
    const uint64_t n_bytes = h5_plain_number(head + 8, 8);
    if (memcmp(head, "GCOL", 4) != 0 || head[4] != 1)
        return h5_plain_fault(p, "a damaged text attribute", address);
    for (uint64_t at = 16; at + 16 <= n_bytes;) {
        TRY(h5_plain_get(p, address + at, sizeof object, object));
        const uint64_t n = h5_plain_number(object + 8, 8);
        const uint32_t number = (uint32_t)h5_plain_number(object, 2);
        if (number == 0 || n > n_bytes - at - 16) break;
        if (number != index) {
            at += 16 + (n + 7) / 8 * 8;
            continue;
        }
        if (n < length) break;
        *out = memory_zeroed(length + 1, 1);
        CHECK(*out, STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
        return h5_plain_get(p, address + at + 16, length, *out);
    }
    return h5_plain_fault(p, "a text attribute without its text", address);
}

static status_t read_text(struct h5_plain *p, const struct attribute *a, char **out) {
    *out = NULL;
    if (a->type.class == CLASS_STRING) {
        if (a->type.n_bytes > MAX_TEXT) return h5_plain_fault(p, "an impossible text attribute", 0);
        *out = strndup((const char *)a->data, a->type.n_bytes);
        CHECK(*out, STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
        return STATUS_OK;
    }
    const size_t length = a->n_bytes >= 16 ? (size_t)h5_plain_number(a->data, 4) : SIZE_MAX;
    if (length > MAX_TEXT) return h5_plain_fault(p, "an impossible text attribute", 0);
    const uint64_t address = h5_plain_number(a->data + 4, 8);
    if (length == 0 && (address == 0 || address == UINT64_MAX)) { /* an empty text is nowhere */
        *out = strdup("");
        CHECK(*out, STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
        return STATUS_OK;
    }
    const status_t status =
        read_heap_text(p, address, (uint32_t)h5_plain_number(a->data + 12, 4), length, out);
    if (status == STATUS_OK) return STATUS_OK;
    free(*out);
    *out = NULL;
    return status;
}

/* One number; false where the attribute is something else. */
static bool parse_value(const struct attribute *a, struct h5_attribute *out) {
    const size_t n = a->type.n_bytes;
    if (!a->type.plain || a->type.big_endian || (n != 1 && n != 2 && n != 4 && n != 8)) return false;
    const uint64_t bits = h5_plain_number(a->data, (int)n);
    if (a->type.class == CLASS_INTEGER) {
        const int unused = 64 - 8 * (int)n;
        out->kind = H5_INTEGER;
        out->integer = a->type.is_signed ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
        return true;
    }
    if (a->type.class != CLASS_FLOAT || n < 4) return false;
    out->kind = H5_NUMBER;
    const uint32_t bits32 = (uint32_t)bits;
    float single;
    memcpy(&single, &bits32, sizeof single);
    memcpy(&out->number, &bits, sizeof bits);
    if (n == 4) out->number = (double)single;
    return true;
}

static status_t take_root_attribute(struct h5_plain *p, const struct attribute *a) {
    struct h5_attribute out = {.kind = H5_TEXT};
    if (a->n_values != 1) return STATUS_OK;
    if (a->type.is_text)
        TRY(read_text(p, a, &out.text));
    else if (!parse_value(a, &out))
        return STATUS_OK;
    struct h5_catalogue *c = p->catalogue;
    out.name = strdup(a->name);
    if (out.name &&
        memory_grow(&c->attributes, c->n_attributes, &c->attribute_capacity, sizeof *c->attributes)) {
        c->attributes[c->n_attributes++] = out;
        return STATUS_OK;
    }
    free(out.name);
    free(out.text);
    return FAIL(STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
}

/* Attributes of datasets that matter: checksums. */
static status_t take_dataset_attribute(struct h5_plain *p, const struct attribute *a,
                                       struct h5_plain_object *o) {
    struct h5_tensor *t = &o->tensor;
    const bool is_u64 =
        a->type.class == CLASS_INTEGER && a->type.plain && a->type.n_bytes == 8 && !a->type.big_endian;
    if (strcmp(a->name, H5_BLOCK_ATTRIBUTE) == 0 && is_u64 && a->n_values == 1) {
        t->block_bytes = h5_plain_number(a->data, 8);
    } else if (strcmp(a->name, H5_HASH_ATTRIBUTE) == 0 && is_u64 && a->n_values <= MAX_HASHES && !t->hashes) {
        t->hashes = memory_zeroed(a->n_values, sizeof *t->hashes);
        CHECK(t->hashes, STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
        for (size_t i = 0; i < a->n_values; i++) t->hashes[i] = h5_plain_number(a->data + 8 * i, 8);
        t->n_hashes = a->n_values;
    }
    return STATUS_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------ */
static status_t take_layout(struct h5_plain *p, const struct h5_message *m, struct h5_plain_object *o) {
    const uint8_t *b = m->body;
    o->has_layout = true;
    if (m->n_bytes < 2) return h5_plain_fault(p, "a damaged dataset", 0);
    if (b[0] != 3 || b[1] != 1) return STATUS_OK; /* not contiguous, or of a newer version */
    if (m->n_bytes < 18) return h5_plain_fault(p, "a damaged dataset", 0);
    o->contiguous = true;
    o->address = h5_plain_number(b + 2, 8);
    return STATUS_OK;
}

status_t h5_plain_take(struct h5_plain *p, const struct h5_message *m, void *object) {
    struct h5_plain_object *o = object;
    struct attribute attribute;
    struct space space;
    struct type type;
    const bool matters = m->type == MSG_SPACE || m->type == MSG_TYPE || m->type == MSG_LAYOUT ||
                         m->type == MSG_ATTRIBUTE || m->type == MSG_GROUP;
    if (matters && (m->flags & 2)) return h5_plain_fault(p, "a shared header message", 0);
    switch (m->type) {
    case MSG_SPACE:
        if (!parse_space(m->body, m->n_bytes, &space)) return h5_plain_fault(p, "a damaged shape", 0);
        o->has_space = true;
        o->tensor.tensor.n_dims = space.n_dims;
        for (int d = 0; d < space.n_dims; d++) o->tensor.tensor.shape[d] = space.shape[d];
        return STATUS_OK;
    case MSG_TYPE:
        if (!parse_type(m->body, m->n_bytes, &type)) return h5_plain_fault(p, "a damaged element type", 0);
        o->has_type = true;
        o->known_type = store_type_of(&type, &o->tensor.tensor.type);
        return STATUS_OK;
    case MSG_EXTERNAL:
        return h5_plain_fault(p, "data in another file", 0);
    case MSG_FILTERS:
        return h5_plain_fault(p, "a compressed dataset", 0);
    case MSG_LAYOUT:
        return take_layout(p, m, o);
    case MSG_GROUP:
        if (m->n_bytes < 16) return h5_plain_fault(p, "a damaged group", 0);
        o->is_group = true;
        o->tree = h5_plain_number(m->body, 8);
        o->heap = h5_plain_number(m->body + 8, 8);
        return STATUS_OK;
    case MSG_ATTRIBUTE:
        if (!parse_attribute(m, &attribute)) return h5_plain_fault(p, "a damaged attribute", 0);
        return o->is_root ? take_root_attribute(p, &attribute) : take_dataset_attribute(p, &attribute, o);
    default:
        return STATUS_OK;
    }
}
