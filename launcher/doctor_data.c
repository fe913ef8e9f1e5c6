/* doctor: the data folder as this host sees it: locks, and how fast its largest file is read. */
#include "launcher/doctor.h"

#include "common/clock.h"
#include "common/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static const char *type_name(long magic) {
    static const struct {
        long magic;
        const char *name;
    } types[] = {{0xEF53, "ext4"},      {0x58465342, "xfs"},    {0x9123683E, "btrfs"},
                 {0x01021994, "tmpfs"}, {0x6969, "nfs"},        {0x0BD00BD0, "lustre"},
                 {0x47504653, "gpfs"},  {0x19830326, "beegfs"}, {0x794c7630, "overlay"},
                 {0x65735546, "fuse"},  {0x00c36400, "ceph"},   {0x01021997, "9p"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].magic == magic) return types[i].name;
    return "?";
}

/* The largest regular file in the folder itself (caller frees); NULL where there is none. */
static char *largest_file(const char *folder) {
    DIR *dir = opendir(folder);
    char *best = NULL;
    off_t best_bytes = 0;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat info;
        char *path = file_join(folder, entry->d_name);
        if (path && stat(path, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > best_bytes) {
            free(best);
            best = path, best_bytes = info.st_size;
        } else {
            free(path);
        }
    }
    if (dir) closedir(dir);
    return best;
}

/* A shared lock is what HDF5 takes to read, an exclusive one what it takes to write. */
static void try_locks(const char *folder, int fd, struct doctor_data *out) {
    out->lock_shared = flock(fd, LOCK_SH | LOCK_NB) == 0;
    if (!out->lock_shared)
        snprintf(out->problem, sizeof out->problem, "flock: %s (errno %d)", strerror(errno), errno);
    if (out->lock_shared) flock(fd, LOCK_UN);
    char *path = file_join(folder, ".marrs_doctor.XXXXXX");
    const int own = path ? mkstemp(path) : -1;
    out->writable = own >= 0;
    if (own >= 0) {
        out->lock_exclusive = flock(own, LOCK_EX | LOCK_NB) == 0;
        close(own);
        unlink(path);
    }
    free(path);
}

/* At most 256 MiB, after asking the kernel to forget what it has of them. */
static void time_reading(int fd, struct doctor_data *out) {
    enum { PIECE = 4 << 20 };
    const int64_t most = (int64_t)256 << 20;
    char *piece = malloc(PIECE);
    if (!piece) return;
    out->out_of_cache = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
    const double begin_s = clock_now_s();
    ssize_t n;
    while (out->n_bytes_read < most && (n = pread(fd, piece, PIECE, out->n_bytes_read)) > 0)
        out->n_bytes_read += n;
    const double time_s = clock_now_s() - begin_s;
    if (time_s > 0) out->read_mb_s = 1e-6 * (double)out->n_bytes_read / time_s;
    free(piece);
}

void doctor_look_data(const char *folder, struct doctor_data *out) {
    struct statfs info;
    out->asked = true;
    if (statfs(folder, &info) != 0) {
        snprintf(out->problem, sizeof out->problem, "%s", strerror(errno));
        return;
    }
    snprintf(out->type, sizeof out->type, "%s", type_name((long)info.f_type));
    char *path = largest_file(folder);
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        snprintf(out->problem, sizeof out->problem, "%s", path ? strerror(errno) : "no file in it");
    } else {
        out->readable = true;
        snprintf(out->file, sizeof out->file, "%.95s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        try_locks(folder, fd, out);
        time_reading(fd, out);
        close(fd);
    }
    free(path);
}
