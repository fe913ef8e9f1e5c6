#include "data_shards/h5.h"
#include "data_shards/seal.h"

#include "common/file.h"
#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { BLOCK_BYTES = 1 << 20, MAX_BLOCKS = 1 << 12, MAX_TEXT_BYTES = 60000 };

struct store_writer {
    struct file_replacement target;
    hid_t file;
    int fd; /* of the same file, for the data */
    struct seal_extent *extents;
    size_t n_extents, extent_capacity;
    /* the tensor that is being appended to; name NULL: none */
    struct store_tensor current;
    char *current_name;
    uint64_t n_written, block_bytes;
    uint64_t *hashes;
    size_t n_hashes;
    XXH3_state_t *hash;
};

status_t store_writer_open(const char *path, const char *format, int64_t version, struct store_writer **out) {
    struct store_writer *w = memory_zeroed(1, sizeof *w);
    CHECK(w, STATUS_NO_MEMORY, "out of memory while writing %s", path);
    w->file = H5I_INVALID_HID;
    w->fd = -1;
    status_t status;
    TRY_TO(fail, file_replace_begin(path, &w->target));
    w->hash = XXH3_createState();
    CHECK_TO(fail, w->hash, STATUS_NO_MEMORY, "out of memory while writing %s", path);
    TRY_TO(fail, h5_create(w->target.temporary, &w->file));
    w->fd = open(w->target.temporary, O_RDWR | O_CLOEXEC);
    CHECK_TO(fail, w->fd >= 0, STATUS_CANT_CREATE, "cannot create %s: %s", w->target.temporary,
             strerror(errno));
    TRY_TO(fail, store_writer_set_text(w, "format", format));
    TRY_TO(fail, store_writer_set_integer(w, "version", version));
    *out = w;
    return STATUS_OK;
fail:
    store_writer_abandon(w);
    return status;
}

status_t store_writer_set_text(struct store_writer *w, const char *name, const char *text) {
    CHECK(strlen(text) <= MAX_TEXT_BYTES, STATUS_USAGE,
          "%s: the text of attribute %s is longer than %d bytes", w->target.path, name, MAX_TEXT_BYTES);
    return h5_write_text(w->file, w->target.path, name, text);
}

status_t store_writer_set_integer(struct store_writer *w, const char *name, int64_t value) {
    return h5_write_integer(w->file, w->target.path, name, value);
}

status_t store_writer_set_number(struct store_writer *w, const char *name, double value) {
    return h5_write_number(w->file, w->target.path, name, value);
}

static status_t describe(const struct store_writer *w, const char *name, enum store_type type, int n_dims,
                         const uint64_t *shape, struct store_tensor *t) {
    CHECK(n_dims >= 0 && n_dims <= STORE_MAX_DIMS, STATUS_USAGE,
          "%s: tensor %s has %d dimensions, at most %d fit", w->target.path, name, n_dims, STORE_MAX_DIMS);
    size_t n_elem = 1, n_bytes = 0;
    bool fits = true;
    *t = (struct store_tensor){.name = name, .type = type, .n_dims = n_dims};
    for (int d = 0; d < n_dims; d++) {
        t->shape[d] = shape[d];
        fits = fits && size_mul(n_elem, (size_t)shape[d], &n_elem);
    }
    CHECK(fits && size_mul(n_elem, store_type_bytes(type), &n_bytes), STATUS_USAGE,
          "%s: tensor %s is too large", w->target.path, name);
    t->n_elem = n_elem;
    t->n_bytes = n_bytes;
    return STATUS_OK;
}

/* The tensor being appended to must be complete; its hashes go to the file. */
static status_t finish_current(struct store_writer *w) {
    if (!w->current_name) return STATUS_OK;
    CHECK(w->n_written == w->current.n_bytes, STATUS_INTERNAL, "%s: tensor %s got %llu of its %llu bytes",
          w->target.path, w->current_name, (unsigned long long)w->n_written,
          (unsigned long long)w->current.n_bytes);
    if (w->n_written % w->block_bytes != 0) w->hashes[w->n_hashes++] = XXH3_64bits_digest(w->hash);
    const status_t status =
        h5_write_hashes(w->file, w->target.path, w->current_name, w->hashes, w->n_hashes, w->block_bytes);
    free(w->current_name);
    free(w->hashes);
    w->current_name = NULL;
    w->hashes = NULL;
    return status;
}

status_t store_writer_reserve(struct store_writer *w, const char *name, enum store_type type, int n_dims,
                              const uint64_t *shape, uint64_t *file_offset_out) {
    struct store_tensor t;
    TRY(finish_current(w));
    TRY(describe(w, name, type, n_dims, shape, &t));
    CHECK(memory_grow(&w->extents, w->n_extents, &w->extent_capacity, sizeof *w->extents), STATUS_NO_MEMORY,
          "out of memory while writing %s", w->target.path);
    TRY(h5_create_dataset(w->file, w->target.path, &t, file_offset_out));
    w->extents[w->n_extents++] = (struct seal_extent){.offset = *file_offset_out, .n_bytes = t.n_bytes};
    return STATUS_OK;
}

status_t store_writer_begin(struct store_writer *w, const char *name, enum store_type type, int n_dims,
                            const uint64_t *shape) {
    uint64_t offset, block_bytes = BLOCK_BYTES;
    TRY(store_writer_reserve(w, name, type, n_dims, shape, &offset));
    TRY(describe(w, name, type, n_dims, shape, &w->current));
    while (w->current.n_bytes / block_bytes >= MAX_BLOCKS) block_bytes *= 2;
    w->hashes = memory_zeroed((size_t)(w->current.n_bytes / block_bytes) + 1, sizeof *w->hashes);
    w->current_name = w->hashes ? strdup(name) : NULL;
    CHECK(w->current_name, STATUS_NO_MEMORY, "out of memory while writing %s", w->target.path);
    w->current.file_offset = offset;
    w->block_bytes = block_bytes;
    w->n_written = 0;
    w->n_hashes = 0;
    XXH3_64bits_reset(w->hash);
    return STATUS_OK;
}

status_t store_writer_append(struct store_writer *w, const void *data, size_t n_bytes) {
    CHECK(w->current_name && n_bytes <= w->current.n_bytes - w->n_written, STATUS_INTERNAL,
          "%s: more bytes than tensor %s has", w->target.path, w->current_name ? w->current_name : "(none)");
    if (n_bytes == 0) return STATUS_OK;
    TRY(store_writer_write_at(w, w->current.file_offset + w->n_written, data, n_bytes));
    const char *p = data;
    while (n_bytes > 0) {
        const size_t n = size_min(n_bytes, (size_t)(w->block_bytes - w->n_written % w->block_bytes));
        XXH3_64bits_update(w->hash, p, n);
        w->n_written += n;
        if (w->n_written % w->block_bytes == 0) {
            w->hashes[w->n_hashes++] = XXH3_64bits_digest(w->hash);
            XXH3_64bits_reset(w->hash);
        }
        p += n;
        n_bytes -= n;
    }
    return STATUS_OK;
}

status_t store_writer_put(struct store_writer *w, const char *name, enum store_type type, int n_dims,
                          const uint64_t *shape, const void *data) {
    TRY(store_writer_begin(w, name, type, n_dims, shape));
    return store_writer_append(w, data, (size_t)w->current.n_bytes);
}

status_t store_writer_write_at(struct store_writer *w, uint64_t file_offset, const void *data,
                               size_t n_bytes) {
    return file_pwrite_all(w->fd, data, n_bytes, file_offset, w->target.temporary);
}

status_t store_writer_commit(struct store_writer *w) {
    status_t status;
    TRY_TO(done, finish_current(w));
    const hid_t file = w->file;
    w->file = H5I_INVALID_HID;
    TRY_TO(done, h5_close(file, w->target.path));
    TRY_TO(done, seal_append(w->fd, w->target.temporary, w->extents, w->n_extents));
    const int fd = w->fd;
    w->fd = -1;
    CHECK_TO(done, close(fd) == 0, STATUS_IO, "cannot write %s: %s", w->target.path, strerror(errno));
    status = file_replace_commit(&w->target);
done:
    store_writer_abandon(w);
    return status;
}

void store_writer_abandon(struct store_writer *w) {
    if (!w) return;
    if (w->file >= 0) h5_abandon(w->file);
    if (w->fd >= 0) close(w->fd);
    file_replace_abandon(&w->target);
    XXH3_freeState(w->hash);
    free(w->extents);
    free(w->hashes);
    free(w->current_name);
    free(w);
}
