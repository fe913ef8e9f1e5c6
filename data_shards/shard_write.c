#include "data_shards/shard.h"
#include "data_shards/store.h"

#include "common/memory.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

struct shard_writer {
    struct store_writer *store;
    size_t n_images;
    uint64_t data_offset; /* of image/data in the file */
    uint64_t *offset;     /* [N+1] */
    uint64_t *hash;       /* [N] */
    uint8_t *present;     /* [N] */
};

/* Strings as one run of bytes and their N+1 offsets. */
static status_t put_strings(struct store_writer *store, const char *data_name, const char *offset_name,
                            size_t n, const char *const *strings) {
    uint64_t *offset = memory_zeroed(n + 1, sizeof *offset);
    CHECK(offset, STATUS_NO_MEMORY, "out of memory while writing a shard");
    for (size_t i = 0; i < n; i++) offset[i + 1] = offset[i] + strlen(strings[i]);
    char *data = malloc((size_t)offset[n] + 1);
    status_t status;
    CHECK_TO(done, data, STATUS_NO_MEMORY, "out of memory while writing a shard");
    for (size_t i = 0; i < n; i++) memcpy(data + offset[i], strings[i], (size_t)(offset[i + 1] - offset[i]));
    TRY_TO(done, store_writer_put(store, data_name, STORE_U8, 1, &offset[n], data));
    status = store_writer_put(store, offset_name, STORE_U64, 1, &(uint64_t){n + 1}, offset);
done:
    free(data);
    free(offset);
    return status;
}

static status_t write_attributes(struct store_writer *store, const struct shard_description *d) {
    const bool raw = d->raw_height > 0;
    TRY(store_writer_set_text(store, "domain", d->domain));
    TRY(store_writer_set_text(store, "encoding", raw ? "raw" : "encoded"));
    if (!raw) return STATUS_OK;
    TRY(store_writer_set_integer(store, "height", d->raw_height));
    TRY(store_writer_set_integer(store, "width", d->raw_width));
    return store_writer_set_integer(store, "channels", 3);
}

status_t shard_writer_open(const char *path, const struct shard_description *d, struct shard_writer **out) {
    const size_t n = d->n_images;
    struct shard_writer *w = memory_zeroed(1, sizeof *w);
    CHECK(w, STATUS_NO_MEMORY, "out of memory while writing %s", path);
    status_t status;
    w->n_images = n;
    w->offset = memory_zeroed(n + 1, sizeof *w->offset);
    w->hash = memory_zeroed(n, sizeof *w->hash);
    w->present = memory_zeroed(n, 1);
    CHECK_TO(fail, w->offset && w->hash && w->present, STATUS_NO_MEMORY, "out of memory while writing %s",
             path);
    const uint64_t raw_bytes = 3 * (uint64_t)d->raw_height * (uint64_t)d->raw_width;
    for (size_t i = 0; i < n; i++) w->offset[i + 1] = w->offset[i] + (raw_bytes ? raw_bytes : d->n_bytes[i]);
    TRY_TO(fail, store_writer_open(path, SHARD_FORMAT, SHARD_VERSION, &w->store));
    TRY_TO(fail, write_attributes(w->store, d));
    TRY_TO(fail, store_writer_put(w->store, "label", STORE_I32, 1, &(uint64_t){n}, d->labels));
    TRY_TO(fail, put_strings(w->store, "id/data", "id/offset", n, d->ids));
    TRY_TO(fail, put_strings(w->store, "class/data", "class/offset", d->n_classes, d->class_names));
    TRY_TO(fail, store_writer_put(w->store, "image/offset", STORE_U64, 1, &(uint64_t){n + 1}, w->offset));
    TRY_TO(fail, store_writer_reserve(w->store, "image/data", STORE_U8, 1, &w->offset[n], &w->data_offset));
    *out = w;
    return STATUS_OK;
fail:
    shard_writer_abandon(w);
    return status;
}

status_t shard_writer_put(struct shard_writer *w, size_t i, const void *bytes) {
    CHECK(i < w->n_images, STATUS_INTERNAL, "image %zu of a shard of %zu", i, w->n_images);
    const size_t n = (size_t)(w->offset[i + 1] - w->offset[i]);
    w->hash[i] = XXH3_64bits(bytes, n);
    w->present[i] = 1;
    return store_writer_write_at(w->store, w->data_offset + w->offset[i], bytes, n);
}

status_t shard_writer_commit(struct shard_writer *w) {
    status_t status;
    for (size_t i = 0; i < w->n_images; i++)
        CHECK_TO(done, w->present[i], STATUS_INTERNAL, "image %zu of a shard was never written", i);
    TRY_TO(done, store_writer_put(w->store, "image/hash", STORE_U64, 1, &(uint64_t){w->n_images}, w->hash));
    struct store_writer *store = w->store;
    w->store = NULL;
    status = store_writer_commit(store);
done:
    shard_writer_abandon(w);
    return status;
}

void shard_writer_abandon(struct shard_writer *w) {
    if (!w) return;
    store_writer_abandon(w->store);
    free(w->offset);
    free(w->hash);
    free(w->present);
    free(w);
}
