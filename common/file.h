/* Files that appear whole or not at all, and small helpers around paths. */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Replacing a file: write everything to `temporary`, then file_commit() syncs it, renames it to `path` and
 * syncs the folder. A crash at any moment leaves the old file or the new one. The temporary file lies in the
 * same folder and is named "<path>.tmp.<host>.<pid>". */
struct file_replacement {
    char *path, *temporary; /* owned */
};

/* Begin replacing `path`; makes missing parent folders. Creates no file yet. Pair with commit or abandon. */
status_t file_replace_begin(const char *path, struct file_replacement *out);

/* fsync the finished (closed) temporary file, rename, fsync the folder. Frees; on failure the temporary file
 * is removed and the old one stays. */
status_t file_replace_commit(struct file_replacement *replacement);

/* Remove the temporary file where there is one, and free. Accepts an already committed or zeroed struct. */
void file_replace_abandon(struct file_replacement *replacement);

/* Replace `path` by these bytes in one go. */
status_t file_write_atomic(const char *path, const void *bytes, size_t n_bytes);

/* Read a whole file of at most `max_bytes` into a fresh buffer (caller frees), with a NUL after the last
 * byte. */
status_t file_read_all(const char *path, size_t max_bytes, char **bytes_out, size_t *n_bytes_out);

/* mkdir -p. */
status_t file_make_folders(const char *path);

bool file_exists(const char *path);

/* "folder/name" (caller frees); `name` alone where it is absolute or `folder` is empty. NULL when out of
 * memory. */
char *file_join(const char *folder, const char *name);

/* Write or read exactly n_bytes at `offset`, going on after partial transfers and EINTR. */
status_t file_pwrite_all(int fd, const void *bytes, size_t n_bytes, uint64_t offset, const char *path);
status_t file_pread_all(int fd, void *bytes, size_t n_bytes, uint64_t offset, const char *path);

#endif
