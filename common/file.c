#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static status_t errno_status(int error) {
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return STATUS_MISSING;
    case EACCES:
    case EPERM:
    case EROFS:
        return STATUS_CANT_CREATE;
    default:
        return STATUS_IO;
    }
}

/* Length of the folder part of `path`, without the last slash; 0 where there is none. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

status_t file_make_folders(const char *path) {
    char *copy = strdup(path);
    CHECK(copy, STATUS_NO_MEMORY, "out of memory for a path");
    status_t status = STATUS_OK;
    for (char *p = copy + 1; status == STATUS_OK; p++) {
        if (*p != '/' && *p != '\0') continue;
        const char end = *p;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = FAIL(STATUS_CANT_CREATE, "cannot create folder %s: %s", copy, strerror(errno));
        *p = end;
        if (end == '\0') break;
    }
    struct stat info;
    if (status == STATUS_OK && (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)))
        status = FAIL(STATUS_CANT_CREATE, "%s exists and is not a folder", path);
    free(copy);
    return status;
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

char *file_join(const char *folder, const char *name) {
    if (name[0] == '/' || !folder || folder[0] == '\0') return strdup(name);
    const size_t n = strlen(folder), gap = folder[n - 1] == '/' ? 0 : 1;
    char *out = malloc(n + gap + strlen(name) + 1);
    if (out) sprintf(out, "%s%s%s", folder, gap ? "/" : "", name);
    return out;
}

status_t file_replace_begin(const char *path, struct file_replacement *out) {
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    struct file_replacement r = {.path = strdup(path), .temporary = NULL};
    status_t status = STATUS_OK;
    CHECK_TO(fail, r.path, STATUS_NO_MEMORY, "out of memory for a path");
    if (asprintf(&r.temporary, "%s.tmp.%s.%ld", path, host, (long)getpid()) < 0) r.temporary = NULL;
    CHECK_TO(fail, r.temporary, STATUS_NO_MEMORY, "out of memory for a path");
    const size_t n = folder_length(path);
    if (n > 0) {
        char *folder = strndup(path, n);
        CHECK_TO(fail, folder, STATUS_NO_MEMORY, "out of memory for a path");
        status = file_make_folders(folder);
        free(folder);
        if (status != STATUS_OK) goto fail;
    }
    *out = r;
    return STATUS_OK;
fail:
    free(r.path);
    free(r.temporary);
    return status;
}

static status_t sync_path(const char *path, int flags) {
    const int fd = open(path, flags | O_CLOEXEC);
    CHECK(fd >= 0, errno_status(errno), "cannot open %s: %s", path, strerror(errno));
    const int failed = fsync(fd) != 0 && errno != EINVAL && errno != EROFS; /* some file systems cannot */
    const int error = errno;
    close(fd);
    CHECK(!failed, STATUS_IO, "cannot write %s to disk: %s", path, strerror(error));
    return STATUS_OK;
}

status_t file_replace_commit(struct file_replacement *r) {
    status_t status;
    TRY_TO(done, sync_path(r->temporary, O_RDONLY));
    CHECK_TO(done, rename(r->temporary, r->path) == 0, STATUS_CANT_CREATE, "cannot rename %s to %s: %s",
             r->temporary, r->path, strerror(errno));
    const size_t n = folder_length(r->path);
    char *folder = n > 0 ? strndup(r->path, n) : strdup(r->path[0] == '/' ? "/" : ".");
    CHECK_TO(done, folder, STATUS_NO_MEMORY, "out of memory for a path");
    status = sync_path(folder, O_RDONLY | O_DIRECTORY);
    free(folder);
done:
    file_replace_abandon(r);
    return status;
}

void file_replace_abandon(struct file_replacement *r) {
    if (r->temporary) unlink(r->temporary); /* already gone after a rename */
    free(r->path);
    free(r->temporary);
    r->path = r->temporary = NULL;
}

status_t file_pwrite_all(int fd, const void *bytes, size_t n_bytes, uint64_t offset, const char *path) {
    const char *p = bytes;
    while (n_bytes > 0) {
        const ssize_t n = pwrite(fd, p, n_bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        CHECK(n > 0, STATUS_IO, "cannot write %s: %s", path, strerror(errno));
        p += n;
        n_bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return STATUS_OK;
}

status_t file_pread_all(int fd, void *bytes, size_t n_bytes, uint64_t offset, const char *path) {
    char *p = bytes;
    while (n_bytes > 0) {
        const ssize_t n = pread(fd, p, n_bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        CHECK(n >= 0, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
        CHECK(n > 0, STATUS_BAD_DATA, "%s ends %zu bytes too early", path, n_bytes);
        p += n;
        n_bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return STATUS_OK;
}

status_t file_write_atomic(const char *path, const void *bytes, size_t n_bytes) {
    struct file_replacement r;
    TRY(file_replace_begin(path, &r));
    status_t status = STATUS_OK;
    const int fd = open(r.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK_TO(fail, fd >= 0, STATUS_CANT_CREATE, "cannot create %s: %s", r.temporary, strerror(errno));
    status = file_pwrite_all(fd, bytes, n_bytes, 0, r.temporary);
    if (close(fd) != 0 && status == STATUS_OK)
        status = FAIL(STATUS_IO, "cannot write %s: %s", r.temporary, strerror(errno));
    if (status == STATUS_OK) return file_replace_commit(&r);
fail:
    file_replace_abandon(&r);
    return status;
}

status_t file_read_all(const char *path, size_t max_bytes, char **bytes_out, size_t *n_bytes_out) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, errno == ENOENT ? STATUS_MISSING : STATUS_IO, "cannot open %s: %s", path, strerror(errno));
    status_t status = STATUS_OK;
    char *bytes = NULL;
    size_t n = 0, capacity = 0;
    for (;;) { /* grow while reading: pipes and /proc files have no size */
        if (n + 1 >= capacity) {
            capacity = capacity ? 2 * capacity : 65536;
            char *grown = realloc(bytes, capacity);
            CHECK_TO(fail, grown, STATUS_NO_MEMORY, "out of memory for %s", path);
            bytes = grown;
        }
        const ssize_t got = read(fd, bytes + n, capacity - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        CHECK_TO(fail, got >= 0, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
        if (got == 0) break;
        n += (size_t)got;
        CHECK_TO(fail, n <= max_bytes, STATUS_BAD_DATA, "%s is larger than %zu bytes", path, max_bytes);
    }
    close(fd);
    bytes[n] = '\0';
    *bytes_out = bytes;
    *n_bytes_out = n;
    return STATUS_OK;
fail:
    free(bytes);
    close(fd);
    return status;
}
