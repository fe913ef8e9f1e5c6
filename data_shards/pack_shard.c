#include "data_shards/pack.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/interval.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/crew.h"
#include "data_shards/decode.h"
#include "data_shards/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_S 5.0

/* Scratch memory of one thread. */
struct packer {
    struct shard_buffer bytes;
    struct image decoded, resized;
    struct resize_workspace resize;
};

/* One shard under way. */
struct packing {
    const struct pack_plan *plan;
    const struct pack_options *options;
    size_t first, n;   /* images of the plan */
    int root;          /* descriptor of the root folder */
    uint64_t *n_bytes; /* [n] */
    char **reason;     /* [n] why it cannot be packed; NULL: it can */
    bool *checked;     /* [n] */
    size_t *alive;     /* [n_alive] numbers of those that go in, ascending */
    size_t n_alive;
    struct shard_writer *writer;
    struct packer *packers;
    _Atomic size_t n_done;
    double last_progress_s; /* of thread 0 */
};

char *pack_shard_path(const struct pack_options *options, int64_t s) {
    char *path;
    return asprintf(&path, "%s-%03" PRId64 ".h5", options->prefix, s) < 0 ? NULL : path;
}

static status_t strike(struct packing *p, size_t i, const char *reason) {
    p->reason[i] = strdup(reason);
    CHECK(p->reason[i], STATUS_NO_MEMORY, "out of memory while packing");
    return STATUS_OK;
}

static status_t measure(void *context, int64_t i, int thread) {
    (void)thread;
    struct packing *p = context;
    struct stat info;
    const char *id = p->plan->ids[p->first + (size_t)i];
    if (fstatat(p->root, id, &info, 0) != 0)
        return strike(p, (size_t)i, errno == ENOENT ? "no such file" : strerror(errno));
    if (!S_ISREG(info.st_mode)) return strike(p, (size_t)i, "not a file");
    if (info.st_size == 0) return strike(p, (size_t)i, "the file is empty");
    p->n_bytes[i] = (uint64_t)info.st_size;
    return STATUS_OK;
}

/* The bytes of file `id`; a reason where they cannot be had as measured. */
static const char *read_file(const struct packing *p, const char *id, uint64_t n_bytes,
                             struct shard_buffer *out) {
    if (n_bytes > SIZE_MAX / 2) return "the file is too large";
    if (n_bytes + 1 > out->capacity) {
        uint8_t *grown = realloc(out->data, (size_t)(n_bytes + n_bytes / 4 + 1));
        if (!grown) return "too large for the memory";
        out->data = grown;
        out->capacity = (size_t)(n_bytes + n_bytes / 4 + 1);
    }
    const int fd = openat(p->root, id, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? "no such file" : strerror(errno);
    size_t n = 0;
    ssize_t got;
    do { /* asks for one byte more, to see a file that has grown */
        got = read(fd, out->data + n, (size_t)n_bytes + 1 - n);
        if (got > 0) n += (size_t)got;
    } while ((got > 0 && n <= n_bytes) || (got < 0 && errno == EINTR));
    const char *reason = got < 0 ? strerror(errno) : NULL;
    close(fd);
    out->n_bytes = n;
    return reason || n == n_bytes ? reason : "its length changed while packing";
}

/* raw: the image resized straight to the side; a reason where it cannot be decoded. */
static const char *make_raw(const struct packing *p, struct packer *packer) {
    const int32_t side = p->options->raw_side;
    if (decode_image(packer->bytes.data, packer->bytes.n_bytes, &packer->decoded) != STATUS_OK ||
        resize_bicubic(&packer->resize, &packer->decoded, side, side, &packer->resized) != STATUS_OK)
        return status_message();
    return NULL;
}

static void show_progress(struct packing *p, int thread) {
    const size_t n_done = atomic_fetch_add_explicit(&p->n_done, 1, memory_order_relaxed) + 1;
    if (thread != 0 || clock_now_s() - p->last_progress_s < PROGRESS_S) return;
    p->last_progress_s = clock_now_s();
    log_global(LOG_INFO, "packing %s: %zu of %zu images of this shard", p->options->prefix, n_done,
               p->n_alive);
}

static status_t pack_one(void *context, int64_t k, int thread) {
    struct packing *p = context;
    struct packer *packer = &p->packers[thread];
    const size_t i = p->alive[k];
    const char *reason = read_file(p, p->plan->ids[p->first + i], p->n_bytes[i], &packer->bytes);
    const bool raw = p->options->raw_side > 0;
    if (!reason && raw)
        reason = make_raw(p, packer);
    else if (!reason && !p->checked[i] &&
             pack_check_image(packer->bytes.data, packer->bytes.n_bytes, p->options->check,
                              &packer->decoded) != STATUS_OK)
        reason = status_message();
    show_progress(p, thread);
    if (reason) return strike(p, i, reason);
    p->checked[i] = true;
    return shard_writer_put(p->writer, (size_t)k, raw ? packer->resized.data : packer->bytes.data);
}

/* Begin the shard with what is still alive, and fill it. *n_struck_out: images found unreadable meanwhile;
 * the shard then has gaps and is made again without them. */
static status_t attempt(struct packing *p, const char *path, size_t *n_struck_out) {
    p->n_alive = 0;
    for (size_t i = 0; i < p->n; i++)
        if (!p->reason[i]) p->alive[p->n_alive++] = i;
    *n_struck_out = 0;
    if (p->n_alive == 0) return STATUS_OK;
    const char **ids = memory_zeroed(p->n_alive, sizeof *ids);
    int32_t *labels = memory_zeroed(p->n_alive, sizeof *labels);
    uint64_t *n_bytes = memory_zeroed(p->n_alive, sizeof *n_bytes);
    status_t status;
    CHECK_TO(done, ids && labels && n_bytes, STATUS_NO_MEMORY, "out of memory while packing %s", path);
    for (size_t k = 0; k < p->n_alive; k++) {
        ids[k] = p->plan->ids[p->first + p->alive[k]];
        labels[k] = p->plan->labels[p->first + p->alive[k]];
        n_bytes[k] = p->n_bytes[p->alive[k]];
    }
    const struct shard_description description = {.domain = p->options->domain,
                                                  .n_images = p->n_alive,
                                                  .n_classes = p->plan->n_classes,
                                                  .ids = ids,
                                                  .labels = labels,
                                                  .n_bytes = n_bytes,
                                                  .class_names = (const char *const *)p->plan->class_names,
                                                  .raw_height = p->options->raw_side,
                                                  .raw_width = p->options->raw_side};
    TRY_TO(done, shard_writer_open(path, &description, &p->writer));
    atomic_store(&p->n_done, 0);
    status = crew_run(p->options->n_threads, (int64_t)p->n_alive, pack_one, p);
    for (size_t k = 0; k < p->n_alive; k++) *n_struck_out += p->reason[p->alive[k]] != NULL;
    struct shard_writer *writer = p->writer;
    p->writer = NULL;
    if (status == STATUS_OK && *n_struck_out == 0)
        status = shard_writer_commit(writer);
    else
        shard_writer_abandon(writer);
done:
    free(ids);
    free(labels);
    free(n_bytes);
    return status;
}

static status_t add_failure(struct pack_report *report, const char *id, const char *reason) {
    char *line;
    const int length = asprintf(&line, "%s: %s\n", id, reason);
    CHECK(length >= 0, STATUS_NO_MEMORY, "out of memory for the report");
    const size_t needed = report->failures_length + (size_t)length + 1;
    if (needed > report->failures_capacity) {
        char *grown = realloc(report->failures, 2 * needed);
        if (!grown) {
            free(line);
            return FAIL(STATUS_NO_MEMORY, "out of memory for the report");
        }
        report->failures = grown;
        report->failures_capacity = 2 * needed;
    }
    memcpy(report->failures + report->failures_length, line, (size_t)length + 1);
    report->failures_length += (size_t)length;
    report->n_failed++;
    free(line);
    return STATUS_OK;
}

static status_t add_to_report(const struct packing *p, struct pack_report *report) {
    const uint64_t raw_bytes = 3 * (uint64_t)p->options->raw_side * (uint64_t)p->options->raw_side;
    for (size_t i = 0; i < p->n; i++) {
        if (p->reason[i]) {
            TRY(add_failure(report, p->plan->ids[p->first + i], p->reason[i]));
        } else {
            report->n_packed++;
            report->n_bytes += raw_bytes ? raw_bytes : p->n_bytes[i];
        }
    }
    return STATUS_OK;
}

static status_t packing_init(struct packing *p) {
    p->root = open(p->options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(p->root >= 0, errno == ENOENT ? STATUS_MISSING : STATUS_IO, "cannot open the root folder %s: %s",
          p->options->root, strerror(errno));
    p->n_bytes = memory_zeroed(p->n, sizeof *p->n_bytes);
    p->reason = memory_zeroed(p->n, sizeof *p->reason);
    p->checked = memory_zeroed(p->n, sizeof *p->checked);
    p->alive = memory_zeroed(p->n, sizeof *p->alive);
    p->packers = memory_zeroed((size_t)p->options->n_threads, sizeof *p->packers);
    CHECK(p->n_bytes && p->reason && p->checked && p->alive && p->packers, STATUS_NO_MEMORY,
          "out of memory for %zu images", p->n);
    p->last_progress_s = clock_now_s();
    return STATUS_OK;
}

static void packing_free(struct packing *p) {
    if (p->root >= 0) close(p->root);
    for (int t = 0; p->packers && t < p->options->n_threads; t++) {
        free(p->packers[t].bytes.data);
        image_free(&p->packers[t].decoded);
        image_free(&p->packers[t].resized);
        resize_workspace_free(&p->packers[t].resize);
    }
    for (size_t i = 0; p->reason && i < p->n; i++) free(p->reason[i]);
    free(p->n_bytes);
    free(p->reason);
    free(p->checked);
    free(p->alive);
    free(p->packers);
}

status_t pack_shard(const struct pack_plan *plan, const struct pack_options *options, int64_t s,
                    struct pack_report *report) {
    const struct interval mine = interval_part((int64_t)plan->n_images, s, options->n_shards);
    struct packing p = {.plan = plan,
                        .options = options,
                        .first = (size_t)mine.begin,
                        .n = (size_t)interval_length(mine),
                        .root = -1};
    char *path = pack_shard_path(options, s);
    status_t status;
    CHECK_TO(done, path, STATUS_NO_MEMORY, "out of memory for a path");
    TRY_TO(done, packing_init(&p));
    TRY_TO(done, crew_run(options->n_threads, (int64_t)p.n, measure, &p));
    size_t n_struck;
    do {
        TRY_TO(done, attempt(&p, path, &n_struck));
    } while (n_struck > 0);
    status = add_to_report(&p, report);
done:
    packing_free(&p);
    free(path);
    return status;
}

void pack_report_free(struct pack_report *report) {
    free(report->failures);
    *report = (struct pack_report){0};
}
