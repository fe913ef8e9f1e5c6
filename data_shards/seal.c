#include "data_shards/seal.h"

#include "common/file.h"
#include "common/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

static const char magic[8] = {'M', 'A', 'R', 'R', 'S', 'E', 'A', 'L'};
enum { FOOTER_WORDS = 3, WORD = 8, CHUNK = 1 << 18 };

static int by_offset(const void *a, const void *b) {
    const struct seal_extent *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static status_t hash_range(XXH3_state_t *state, int fd, const char *path, uint64_t begin, uint64_t end,
                           char *buffer) {
    while (begin < end) {
        const size_t n = size_min(CHUNK, (size_t)(end - begin));
        TRY(file_pread_all(fd, buffer, n, begin, path));
        XXH3_64bits_update(state, buffer, n);
        begin += n;
    }
    return STATUS_OK;
}

/* Hash of [0, end) without the extents, which must be ascending, disjoint and inside. */
static status_t hash_rest(int fd, const char *path, const struct seal_extent *extents, size_t n_extents,
                          uint64_t end, uint64_t *hash_out) {
    status_t status = STATUS_OK;
    uint64_t at = 0;
    char *buffer = malloc(CHUNK);
    XXH3_state_t *state = XXH3_createState();
    CHECK_TO(done, buffer && state, STATUS_NO_MEMORY, "out of memory while checking %s", path);
    XXH3_64bits_reset(state);
    for (size_t i = 0; i < n_extents; i++) {
        CHECK_TO(done,
                 extents[i].offset >= at && extents[i].offset <= end &&
                     extents[i].n_bytes <= end - extents[i].offset,
                 STATUS_BAD_DATA, "%s: damaged: its seal is inconsistent", path);
        TRY_TO(done, hash_range(state, fd, path, at, extents[i].offset, buffer));
        at = extents[i].offset + extents[i].n_bytes;
    }
    TRY_TO(done, hash_range(state, fd, path, at, end, buffer));
    *hash_out = XXH3_64bits_digest(state);
done:
    XXH3_freeState(state);
    free(buffer);
    return status;
}

static status_t file_size(int fd, const char *path, uint64_t *out) {
    struct stat info;
    CHECK(fstat(fd, &info) == 0, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    *out = (uint64_t)info.st_size;
    return STATUS_OK;
}

status_t seal_append(int fd, const char *path, struct seal_extent *extents, size_t n_extents) {
    uint64_t begin = 0;
    TRY(file_size(fd, path, &begin));
    size_t n = 0;
    for (size_t i = 0; i < n_extents; i++)
        if (extents[i].n_bytes > 0) extents[n++] = extents[i];
    if (n > 1) qsort(extents, n, sizeof *extents, by_offset);
    const size_t n_words = 1 + 2 * n + 1 + FOOTER_WORDS;
    uint64_t *words = memory_zeroed(n_words, WORD);
    CHECK(words, STATUS_NO_MEMORY, "out of memory while writing %s", path);
    status_t status;
    uint64_t *tail = words + 1 + 2 * n;
    words[0] = n;
    if (n > 0) memcpy(words + 1, extents, n * sizeof *extents);
    TRY_TO(done, hash_rest(fd, path, extents, n, begin, &tail[0]));
    tail[1] = begin;
    tail[2] = XXH3_64bits(words, (size_t)(tail + 2 - words) * WORD);
    memcpy(&tail[3], magic, sizeof magic);
    status = file_pwrite_all(fd, words, n_words * WORD, begin, path);
done:
    free(words);
    return status;
}

status_t seal_check(int fd, const char *path, bool *sealed_out) {
    uint64_t size = 0, footer[FOOTER_WORDS];
    TRY(file_size(fd, path, &size));
    *sealed_out = false;
    if (size < sizeof footer) return STATUS_OK;
    TRY(file_pread_all(fd, footer, sizeof footer, size - sizeof footer, path));
    if (memcmp(&footer[2], magic, sizeof magic) != 0) return STATUS_OK;
    const uint64_t begin = footer[0], footer_begin = size - sizeof footer;
    CHECK(begin <= footer_begin && footer_begin - begin >= 2 * WORD && (footer_begin - begin) % WORD == 0,
          STATUS_BAD_DATA, "%s: damaged: its seal is inconsistent", path);
    const size_t n_words = (size_t)((footer_begin - begin) / WORD) + 1; /* with the seal's offset */
    uint64_t *words = malloc(n_words * WORD);
    CHECK(words, STATUS_NO_MEMORY, "out of memory while checking %s", path);
    status_t status;
    uint64_t hash = 0;
    TRY_TO(done, file_pread_all(fd, words, n_words * WORD, begin, path));
    CHECK_TO(done,
             XXH3_64bits(words, n_words * WORD) == footer[1] && words[0] == (n_words - 3) / 2 &&
                 n_words % 2 == 1,
             STATUS_BAD_DATA, "%s: damaged: its seal is inconsistent", path);
    TRY_TO(done,
           hash_rest(fd, path, (const struct seal_extent *)(words + 1), (size_t)words[0], begin, &hash));
    CHECK_TO(done, hash == words[n_words - 2], STATUS_BAD_DATA,
             "%s: damaged: the description of its datasets does not match its checksum; copy or make the "
             "file again",
             path);
    *sealed_out = true;
done:
    free(words);
    return status;
}
