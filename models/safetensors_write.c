/* Writing safetensors files. */
#include "common/file.h"
#include "common/memory.h"
#include "models/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct placed {
    int32_t index; /* of the caller's entry */
    const struct safetensors_entry *entry;
    size_t offset, n_bytes;
};

struct slot {
    uint64_t offset; /* in the file */
    size_t n_bytes;
    bool written;
};

struct safetensors_writer {
    struct file_replacement replacement;
    char *path;
    int fd;
    int32_t n_slots;
    struct slot *slots; /* by the caller's index */
};

/* The Python package's order: widest elements first, so that all are aligned; then by name. */
static int by_type_then_name(const void *a, const void *b) {
    const struct safetensors_entry *x = ((const struct placed *)a)->entry,
                                   *y = ((const struct placed *)b)->entry;
    if (x->type != y->type) return x->type < y->type ? -1 : 1;
    return strcmp(x->name, y->name);
}

static status_t place(const char *path, const struct safetensors_entry *entries, int32_t n,
                      struct placed *placed) {
    for (int32_t i = 0; i < n; i++) {
        placed[i] =
            (struct placed){.index = i, .entry = &entries[i], .n_bytes = tensor_type_bytes(entries[i].type)};
        for (int32_t d = 0; d < entries[i].n_dims; d++)
            CHECK(entries[i].shape[d] >= 0 &&
                      size_mul(placed[i].n_bytes, (size_t)entries[i].shape[d], &placed[i].n_bytes),
                  STATUS_INTERNAL, "%s: the shape of \"%s\" overflows", path, entries[i].name);
    }
    qsort(placed, (size_t)n, sizeof *placed, by_type_then_name);
    for (int32_t i = 1; i < n; i++)
        CHECK(size_add(placed[i - 1].offset, placed[i - 1].n_bytes, &placed[i].offset), STATUS_INTERNAL,
              "%s: too many bytes", path);
    return STATUS_OK;
}

static json_t *describe(const struct placed *placed) {
    const struct safetensors_entry *entry = placed->entry;
    json_t *shape = json_array();
    for (int32_t d = 0; d < entry->n_dims; d++) json_array_append_new(shape, json_integer(entry->shape[d]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor_type_name(entry->type), "shape", shape,
                     "data_offsets", (json_int_t)placed->offset,
                     (json_int_t)(placed->offset + placed->n_bytes));
}

/* The header's text (caller frees), padded with spaces so that the data begins at a multiple of 8. */
static status_t compose_header(const char *path, const struct placed *placed, int32_t n,
                               const char *const *metadata, int32_t n_metadata, char **text_out,
                               size_t *n_bytes_out) {
    json_t *header = json_object();
    bool good = header != NULL;
    if (n_metadata > 0) {
        json_t *pairs = json_object();
        for (int32_t i = 0; i < n_metadata; i++)
            good &= !json_object_set_new(pairs, metadata[2 * i], json_string(metadata[2 * i + 1]));
        good &= !json_object_set_new(header, "__metadata__", pairs);
    }
    bool repeated = false;
    for (int32_t i = 0; i < n && good; i++) {
        repeated |= json_object_get(header, placed[i].entry->name) != NULL;
        good &= !json_object_set_new(header, placed[i].entry->name, describe(&placed[i]));
    }
    char *text = good && !repeated ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    CHECK(!repeated, STATUS_INTERNAL, "%s: two tensors of one name", path);
    CHECK(text, STATUS_INTERNAL, "%s: cannot compose the header (a name that is not UTF-8?)", path);
    const size_t n_text = strlen(text), n_padded = (n_text + 7) / 8 * 8;
    char *padded = realloc(text, n_padded + 1);
    if (!padded) free(text);
    CHECK(padded, STATUS_NO_MEMORY, "%s: no memory for the header", path);
    memset(padded + n_text, ' ', n_padded - n_text);
    padded[n_padded] = 0;
    *text_out = padded;
    *n_bytes_out = n_padded;
    return STATUS_OK;
}

/* Create the temporary file with its header; fills writer->slots. */
static status_t start_file(struct safetensors_writer *writer, const struct placed *placed, const char *header,
                           size_t n_header_bytes) {
    for (int32_t i = 0; i < writer->n_slots; i++)
        writer->slots[placed[i].index] =
            (struct slot){.offset = 8 + n_header_bytes + placed[i].offset, .n_bytes = placed[i].n_bytes};
    TRY(file_replace_begin(writer->path, &writer->replacement));
    const char *temporary = writer->replacement.temporary;
    writer->fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK(writer->fd >= 0, STATUS_CANT_CREATE, "%s: %s", temporary, strerror(errno));
    const uint64_t n = n_header_bytes;
    TRY(file_pwrite_all(writer->fd, &n, sizeof n, 0, temporary));
    return file_pwrite_all(writer->fd, header, n_header_bytes, sizeof n, temporary);
}

status_t safetensors_create(const char *path, const struct safetensors_entry *entries, int32_t n_entries,
                            const char *const *metadata, int32_t n_metadata,
                            struct safetensors_writer **out) {
    char *header = NULL;
    size_t n_header_bytes = 0;
    status_t status;
    struct safetensors_writer *writer = memory_zeroed(1, sizeof *writer);
    struct placed *placed = memory_zeroed((size_t)n_entries + 1, sizeof *placed);
    CHECK_TO(fail, writer && placed, STATUS_NO_MEMORY, "%s: no memory", path);
    writer->fd = -1;
    writer->n_slots = n_entries;
    writer->path = strdup(path);
    writer->slots = memory_zeroed((size_t)n_entries + 1, sizeof *writer->slots);
    CHECK_TO(fail, writer->path && writer->slots, STATUS_NO_MEMORY, "%s: no memory", path);
    TRY_TO(fail, place(path, entries, n_entries, placed));
    TRY_TO(fail, compose_header(path, placed, n_entries, metadata, n_metadata, &header, &n_header_bytes));
    TRY_TO(fail, start_file(writer, placed, header, n_header_bytes));
    *out = writer;
    free(header);
    free(placed);
    return STATUS_OK;
fail:
    free(header);
    free(placed);
    safetensors_abandon(writer);
    return status;
}

status_t safetensors_put(struct safetensors_writer *writer, int32_t index, const void *bytes,
                         size_t n_bytes) {
    CHECK(index >= 0 && index < writer->n_slots, STATUS_INTERNAL, "%s: no entry %d", writer->path, index);
    struct slot *slot = &writer->slots[index];
    CHECK(!slot->written && n_bytes == slot->n_bytes, STATUS_INTERNAL,
          "%s: entry %d: %zu bytes where %zu are due%s", writer->path, index, n_bytes, slot->n_bytes,
          slot->written ? ", a second time" : "");
    TRY(file_pwrite_all(writer->fd, bytes, n_bytes, slot->offset, writer->replacement.temporary));
    slot->written = true;
    return STATUS_OK;
}

status_t safetensors_commit(struct safetensors_writer *writer) {
    status_t status;
    for (int32_t i = 0; i < writer->n_slots; i++)
        CHECK_TO(fail, writer->slots[i].written, STATUS_INTERNAL, "%s: entry %d was never written",
                 writer->path, i);
    const int failed = close(writer->fd);
    writer->fd = -1;
    CHECK_TO(fail, !failed, STATUS_IO, "%s: %s", writer->path, strerror(errno));
    TRY_TO(fail, file_replace_commit(&writer->replacement));
    safetensors_abandon(writer);
    return STATUS_OK;
fail:
    safetensors_abandon(writer);
    return status;
}

void safetensors_abandon(struct safetensors_writer *writer) {
    if (!writer) return;
    if (writer->fd >= 0) close(writer->fd);
    file_replace_abandon(&writer->replacement);
    free(writer->slots);
    free(writer->path);
    free(writer);
}
