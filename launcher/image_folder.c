#include "launcher/image_folder.h"

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/pack.h"
#include "data_shards/shard.h"

#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void image_paths_free(struct image_paths *f) {
    for (size_t i = 0; i < f->n; i++) free(f->paths[i]);
    free(f->paths);
    *f = (struct image_paths){0};
}

static bool is_image(const char *name) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < ARRAY_LENGTH(endings); i++)
        if (strcasecmp(dot, endings[i]) == 0) return true;
    return false;
}

static int by_name(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

status_t image_folder_find(const char *folder, struct image_paths *f) {
    char *const roots[] = {(char *)folder, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    CHECK(walk, STATUS_MISSING, "cannot read folder %s", folder);
    const size_t skip = strlen(folder) + (folder[strlen(folder) - 1] != '/');
    status_t status = STATUS_OK;
    for (FTSENT *entry; status == STATUS_OK && (entry = fts_read(walk));) {
        if (entry->fts_info != FTS_F || !is_image(entry->fts_name)) continue;
        char *copy = memory_grow(&f->paths, f->n, &f->capacity, sizeof *f->paths)
                         ? strdup(entry->fts_path + skip)
                         : NULL;
        if (copy)
            f->paths[f->n++] = copy;
        else
            status = FAIL(STATUS_NO_MEMORY, "out of memory for the list of images");
    }
    fts_close(walk);
    if (status == STATUS_OK && f->n == 0)
        status = FAIL(STATUS_MISSING, "folder %s has no image file (.jpg, .jpeg, .png, .webp)", folder);
    return status;
}

/* The files that are images, in place; the others are named. */
static status_t keep_readable(const char *folder, struct image_paths *f, uint64_t *n_bytes) {
    struct image scratch = {0};
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++) {
        char *path = file_join(folder, f->paths[i]), *bytes = NULL;
        size_t n = 0;
        status_t status = path ? file_read_all(path, (size_t)1 << 31, &bytes, &n) : STATUS_NO_MEMORY;
        if (status == STATUS_OK)
            status = pack_check_image((const uint8_t *)bytes, n, PACK_CHECK_STRUCTURE, &scratch);
        free(bytes);
        free(path);
        if (status == STATUS_OK) {
            char *keep = f->paths[i];
            f->paths[i] = f->paths[kept];
            f->paths[kept] = keep;
            n_bytes[kept++] = n;
        } else {
            log_global(LOG_WARNING, "%s is left out: %s", f->paths[i], status_message());
        }
    }
    image_free(&scratch);
    for (size_t i = kept; i < f->n; i++) free(f->paths[i]);
    f->n = kept;
    CHECK(kept > 0, STATUS_BAD_DATA, "no file under %s is an image that can be read", folder);
    return STATUS_OK;
}

static status_t write_shard(const char *folder, const struct image_paths *f, const uint64_t *n_bytes,
                            const int32_t *labels, const char *path) {
    struct shard_writer *writer;
    TRY(shard_writer_open(path,
                          &(struct shard_description){.domain = folder,
                                                      .n_images = f->n,
                                                      .ids = (const char *const *)f->paths,
                                                      .labels = labels,
                                                      .n_bytes = n_bytes},
                          &writer));
    for (size_t i = 0; i < f->n; i++) {
        char *source = file_join(folder, f->paths[i]), *bytes = NULL;
        size_t n = 0;
        status_t status = source ? file_read_all(source, (size_t)1 << 31, &bytes, &n) : STATUS_NO_MEMORY;
        if (status == STATUS_OK && n != n_bytes[i])
            status = FAIL(STATUS_BAD_DATA, "%s changed while it was being read", f->paths[i]);
        if (status == STATUS_OK) status = shard_writer_put(writer, i, bytes);
        free(bytes);
        free(source);
        if (status == STATUS_OK) continue;
        shard_writer_abandon(writer);
        return status;
    }
    return shard_writer_commit(writer);
}

status_t image_folder_pack(const char *folder, const char *path) {
    struct image_paths f = {0};
    uint64_t *n_bytes = NULL;
    int32_t *labels = NULL;
    status_t status;
    TRY_TO(done, image_folder_find(folder, &f));
    n_bytes = memory_zeroed(f.n, sizeof *n_bytes);
    labels = memory_zeroed(f.n, sizeof *labels);
    CHECK_TO(done, n_bytes && labels, STATUS_NO_MEMORY, "out of memory for %zu images", f.n);
    memset(labels, 0xff, f.n * sizeof *labels); /* -1: unknown */
    TRY_TO(done, keep_readable(folder, &f, n_bytes));
    status = write_shard(folder, &f, n_bytes, labels, path);
done:
    image_paths_free(&f);
    free(n_bytes);
    free(labels);
    return status;
}
