#include "data_shards/h5_plain.h"

#include "common/file.h"
#include "common/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    SUPERBLOCK_BYTES = 100, /* of version 1, root entry included */
    ENTRY_BYTES = 40,       /* of a symbol table */
    MAX_DEPTH = 16,         /* of groups */
    MAX_STEPS = 1 << 20,
    MAX_HEADER_BYTES = 1 << 20,
    MAX_BLOCKS = 64, /* of one object header */
    MAX_ENTRIES = 1 << 12,
};

static const uint8_t signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

bool h5_plain_recognises(int fd) {
    uint8_t head[9];
    return pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head && memcmp(head, signature, 8) == 0 &&
           head[8] <= 1;
}

status_t h5_plain_fault(const struct h5_plain *p, const char *what, uint64_t address) {
    return FAIL(STATUS_BAD_DATA,
                "%s: damaged, or HDF5 of a kind that is not understood: %s (byte %" PRIu64 ")", p->path, what,
                address);
}

uint64_t h5_plain_number(const uint8_t *bytes, int n_bytes) {
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++) value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

status_t h5_plain_get(struct h5_plain *p, uint64_t address, size_t n_bytes, void *out) {
    if (p->n_steps_left-- <= 0) return h5_plain_fault(p, "too many structures", address);
    if (address > p->file_bytes || n_bytes > p->file_bytes - address)
        return h5_plain_fault(p, "an address beyond the end of the file: truncated?", address);
    return file_pread_all(p->fd, out, n_bytes, address, p->path);
}

/* ---- object headers ------------------------------------------------------------------------------------ */
struct block {
    uint64_t address, n_bytes;
};

/* The messages of one block; continuations are added to blocks[]. */
static status_t
visit_block(struct h5_plain *p, const uint8_t *bytes, size_t n_bytes, struct block *blocks, int *n_blocks,
            status_t (*visit)(struct h5_plain *p, const struct h5_message *message, void *context),
            void *context) {
    for (size_t at = 0; n_bytes - at >= 8;) {
        const struct h5_message m = {.type = (uint16_t)h5_plain_number(bytes + at, 2),
                                     .flags = bytes[at + 4],
                                     .body = bytes + at + 8,
                                     .n_bytes = (size_t)h5_plain_number(bytes + at + 2, 2)};
        if (m.n_bytes > n_bytes - at - 8) return h5_plain_fault(p, "a header message is cut off", at);
        at += 8 + m.n_bytes;
        if (m.type != 0x10) {
            TRY(visit(p, &m, context));
            continue;
        }
        if (m.n_bytes < 16 || *n_blocks >= MAX_BLOCKS)
            return h5_plain_fault(p, "an impossible object header", at);
        blocks[(*n_blocks)++] = (struct block){h5_plain_number(m.body, 8), h5_plain_number(m.body + 8, 8)};
    }
    return STATUS_OK;
}

status_t h5_plain_messages(struct h5_plain *p, uint64_t address,
                           status_t (*visit)(struct h5_plain *p, const struct h5_message *message,
                                             void *context),
                           void *context) {
    uint8_t prefix[16];
    TRY(h5_plain_get(p, address, sizeof prefix, prefix));
    if (prefix[0] != 1) return h5_plain_fault(p, "an object header of another version", address);
    struct block blocks[MAX_BLOCKS] = {{address + 16, h5_plain_number(prefix + 8, 4)}};
    int n_blocks = 1;
    for (int i = 0; i < n_blocks; i++) {
        const uint64_t n = blocks[i].n_bytes;
        if (n > MAX_HEADER_BYTES) return h5_plain_fault(p, "an impossible object header", blocks[i].address);
        uint8_t *bytes = malloc((size_t)n + 1);
        CHECK(bytes, STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
        status_t status = h5_plain_get(p, blocks[i].address, (size_t)n, bytes);
        if (status == STATUS_OK) status = visit_block(p, bytes, (size_t)n, blocks, &n_blocks, visit, context);
        free(bytes);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* ---- groups -------------------------------------------------------------------------------------------- */
static status_t read_object(struct h5_plain *p, uint64_t address, const char *name, int depth);

/* The names of a group. */
struct names {
    char *text; /* n_bytes and a NUL */
    uint64_t n_bytes;
};

static status_t read_names(struct h5_plain *p, uint64_t heap, struct names *out) {
    uint8_t head[32];
    TRY(h5_plain_get(p, heap, sizeof head, head));
    const uint64_t n = h5_plain_number(head + 8, 8), address = h5_plain_number(head + 24, 8);
    if (memcmp(head, "HEAP", 4) != 0 || head[4] != 0 || n > p->file_bytes)
        return h5_plain_fault(p, "a damaged list of names", heap);
    out->text = malloc((size_t)n + 1);
    CHECK(out->text, STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
    out->n_bytes = n;
    out->text[n] = '\0';
    return h5_plain_get(p, address, (size_t)n, out->text);
}

/* Entries of one leaf: objects of the group `prefix` ("" or "name/"). */
static status_t read_leaf(struct h5_plain *p, uint64_t address, const struct names *names, const char *prefix,
                          int depth) {
    uint8_t head[8], entry[ENTRY_BYTES];
    TRY(h5_plain_get(p, address, sizeof head, head));
    const int n = (int)h5_plain_number(head + 6, 2);
    if (memcmp(head, "SNOD", 4) != 0 || head[4] != 1) return h5_plain_fault(p, "a damaged group", address);
    for (int i = 0; i < n; i++) {
        TRY(h5_plain_get(p, address + 8 + (uint64_t)i * ENTRY_BYTES, sizeof entry, entry));
        const uint64_t name = h5_plain_number(entry, 8);
        if (name >= names->n_bytes || names->text[name] == '\0')
            return h5_plain_fault(p, "a name outside the list of names", address);
        if (h5_plain_number(entry + 16, 4) == 2) continue; /* a symbolic link */
        char *full;
        if (asprintf(&full, "%s%s", prefix, names->text + name) < 0)
            return FAIL(STATUS_NO_MEMORY, "out of memory");
        const status_t status = read_object(p, h5_plain_number(entry + 8, 8), full, depth);
        free(full);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* `level` counts down to the leaves: -1 for the root of the tree, whose level is not known before. */
static status_t read_tree(struct h5_plain *p, uint64_t address, int level, const struct names *names,
                          const char *prefix, int depth) {
    uint8_t head[24], child[16];
    TRY(h5_plain_get(p, address, sizeof head, head));
    const int n = (int)h5_plain_number(head + 6, 2), here = head[5];
    if (memcmp(head, "TREE", 4) != 0 || head[4] != 0 || (level >= 0 && here != level) || here > 8 ||
        n > MAX_ENTRIES)
        return h5_plain_fault(p, "a damaged group", address);
    for (int i = 0; i < n; i++) { /* key, child, key, child, ..., key */
        TRY(h5_plain_get(p, address + sizeof head + (uint64_t)i * 16, sizeof child, child));
        const uint64_t next = h5_plain_number(child + 8, 8);
        TRY(here == 0 ? read_leaf(p, next, names, prefix, depth)
                      : read_tree(p, next, here - 1, names, prefix, depth));
    }
    return STATUS_OK;
}

static status_t read_group(struct h5_plain *p, const struct h5_plain_object *group, const char *name,
                           int depth) {
    if (depth >= MAX_DEPTH) return h5_plain_fault(p, "groups within groups without end", group->tree);
    struct names names = {0};
    char *prefix = NULL;
    status_t status = read_names(p, group->heap, &names);
    if (status == STATUS_OK && asprintf(&prefix, "%s%s", name, *name ? "/" : "") < 0)
        status = FAIL(STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
    if (status == STATUS_OK) status = read_tree(p, group->tree, -1, &names, prefix, depth + 1);
    free(prefix);
    free(names.text);
    return status;
}

/* ---- datasets ------------------------------------------------------------------------------------------ */
/* Everything that the messages said of a dataset must fit together and lie inside the file. */
static status_t finish_dataset(struct h5_plain *p, struct h5_plain_object *o, const char *name) {
    struct h5_tensor *e = &o->tensor;
    struct store_tensor *t = &e->tensor;
    size_t n_elem = 1, n_bytes = 0;
    bool fits = true;
    CHECK(o->known_type, STATUS_BAD_DATA, "%s: dataset %s has an element type that a store does not hold",
          p->path, name);
    CHECK(o->contiguous, STATUS_BAD_DATA,
          "%s: dataset %s is not stored contiguously (compressed or chunked?)", p->path, name);
    for (int d = 0; d < t->n_dims; d++) fits = fits && size_mul(n_elem, (size_t)t->shape[d], &n_elem);
    CHECK(fits && size_mul(n_elem, store_type_bytes(t->type), &n_bytes), STATUS_BAD_DATA,
          "%s: dataset %s is impossibly large", p->path, name);
    t->n_elem = n_elem;
    t->n_bytes = n_bytes;
    t->file_offset = n_bytes > 0 ? o->address : 0;
    CHECK(n_bytes == 0 || o->address != UINT64_MAX, STATUS_BAD_DATA, "%s: dataset %s was never written",
          p->path, name);
    CHECK(t->file_offset <= p->file_bytes && n_bytes <= p->file_bytes - t->file_offset, STATUS_BAD_DATA,
          "%s: dataset %s reaches beyond the end of the file: truncated?", p->path, name);
    if (e->hashes && e->block_bytes) {
        CHECK(e->n_hashes == n_bytes / e->block_bytes + (n_bytes % e->block_bytes != 0), STATUS_BAD_DATA,
              "%s: dataset %s: its checksums do not fit its size", p->path, name);
    } else {
        free(e->hashes);
        e->hashes = NULL;
    }
    struct h5_catalogue *c = p->catalogue;
    t->name = strdup(name);
    if (t->name && memory_grow(&c->tensors, c->n_tensors, &c->tensor_capacity, sizeof *c->tensors)) {
        c->tensors[c->n_tensors++] = *e;
        e->hashes = NULL; /* the catalogue's now */
        return STATUS_OK;
    }
    free((char *)t->name);
    return FAIL(STATUS_NO_MEMORY, "out of memory while opening %s", p->path);
}

static status_t read_object(struct h5_plain *p, uint64_t address, const char *name, int depth) {
    struct h5_plain_object object = {.is_root = depth == 0};
    status_t status = h5_plain_messages(p, address, h5_plain_take, &object);
    if (status == STATUS_OK && object.is_group)
        status = read_group(p, &object, name, depth);
    else if (status == STATUS_OK && object.has_layout && object.has_space && object.has_type)
        status = finish_dataset(p, &object, name);
    free(object.tensor.hashes);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct h5_tensor *)a)->tensor.name, ((const struct h5_tensor *)b)->tensor.name);
}

status_t h5_plain_read(int fd, const char *path, uint64_t file_bytes, struct h5_catalogue *out) {
    *out = (struct h5_catalogue){0};
    struct h5_plain p = {
        .fd = fd, .path = path, .file_bytes = file_bytes, .n_steps_left = MAX_STEPS, .catalogue = out};
    uint8_t head[SUPERBLOCK_BYTES] = {0};
    status_t status;
    TRY_TO(fail, h5_plain_get(&p, 0, sizeof head, head));
    const uint8_t *addresses =
        head + (head[8] == 1 ? 28 : 24); /* base, free space, end of file, driver; root entry */
    if (head[13] != 8 || head[14] != 8 || h5_plain_number(addresses, 8) != 0) {
        status = h5_plain_fault(&p, "its superblock", 0);
        goto fail;
    }
    CHECK_TO(fail, h5_plain_number(addresses + 16, 8) <= file_bytes, STATUS_BAD_DATA,
             "%s: truncated: it should have at least %" PRIu64 " bytes, but has %" PRIu64, path,
             h5_plain_number(addresses + 16, 8), file_bytes);
    TRY_TO(fail, read_object(&p, h5_plain_number(addresses + 40, 8), "", 0));
    if (out->n_tensors > 1) qsort(out->tensors, out->n_tensors, sizeof *out->tensors, by_name);
    return STATUS_OK;
fail:
    h5_catalogue_free(out);
    return status;
}
