#include "data_shards/h5.h"
#include "data_shards/h5_plain.h"
#include "data_shards/seal.h"

#include "common/file.h"
#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

struct store_reader {
    char *path;
    int fd;
    bool sealed;
    struct h5_catalogue catalogue;
};

static const struct {
    const char *name;
    size_t n_bytes;
} types[] = {
    [STORE_F32] = {"f32", 4}, [STORE_F64] = {"f64", 8}, [STORE_BF16] = {"bf16", 2}, [STORE_I32] = {"i32", 4},
    [STORE_I64] = {"i64", 8}, [STORE_U8] = {"u8", 1},   [STORE_U32] = {"u32", 4},   [STORE_U64] = {"u64", 8},
};

size_t store_type_bytes(enum store_type type) {
    return types[type].n_bytes;
}
const char *store_type_name(enum store_type type) {
    return types[type].name;
}

status_t store_reader_open(const char *path, struct store_reader **out) {
    struct store_reader *r = memory_zeroed(1, sizeof *r);
    CHECK(r, STATUS_NO_MEMORY, "out of memory while opening %s", path);
    status_t status;
    struct stat info;
    r->path = strdup(path);
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_TO(fail, r->path, STATUS_NO_MEMORY, "out of memory while opening %s", path);
    CHECK_TO(fail, r->fd >= 0, errno == ENOENT || errno == ENOTDIR ? STATUS_MISSING : STATUS_IO,
             "cannot open %s: %s", path, strerror(errno));
    CHECK_TO(fail, fstat(r->fd, &info) == 0, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    CHECK_TO(fail, S_ISREG(info.st_mode), STATUS_BAD_DATA, "%s is not a file", path);
    TRY_TO(fail, seal_check(r->fd, path, &r->sealed));
    /* Headers of the oldest format are only shown to the library where the seal vouches for them. */
    if (!r->sealed && h5_plain_recognises(r->fd))
        TRY_TO(fail, h5_plain_read(r->fd, path, (uint64_t)info.st_size, &r->catalogue));
    else
        TRY_TO(fail, h5_catalogue_read(path, (uint64_t)info.st_size, &r->catalogue));
    *out = r;
    return STATUS_OK;
fail:
    store_reader_close(r);
    return status;
}

void store_reader_close(struct store_reader *r) {
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    h5_catalogue_free(&r->catalogue);
    free(r->path);
    free(r);
}

const char *store_reader_path(const struct store_reader *r) {
    return r->path;
}
int store_reader_fd(const struct store_reader *r) {
    return r->fd;
}
bool store_reader_sealed(const struct store_reader *r) {
    return r->sealed;
}

const char *store_reader_format(const struct store_reader *r) {
    const char *format = store_reader_text(r, "format");
    return format ? format : "";
}

/* ---- attributes ---------------------------------------------------------------------------------------- */
static const struct h5_attribute *find_attribute(const struct store_reader *r, const char *name) {
    for (size_t i = 0; i < r->catalogue.n_attributes; i++)
        if (strcmp(r->catalogue.attributes[i].name, name) == 0) return &r->catalogue.attributes[i];
    return NULL;
}

const char *store_reader_text(const struct store_reader *r, const char *name) {
    const struct h5_attribute *a = find_attribute(r, name);
    return a && a->kind == H5_TEXT ? a->text : NULL;
}

bool store_reader_integer(const struct store_reader *r, const char *name, int64_t *out) {
    const struct h5_attribute *a = find_attribute(r, name);
    if (!a || a->kind != H5_INTEGER) return false;
    *out = a->integer;
    return true;
}

bool store_reader_number(const struct store_reader *r, const char *name, double *out) {
    const struct h5_attribute *a = find_attribute(r, name);
    if (!a || a->kind == H5_TEXT) return false;
    *out = a->kind == H5_INTEGER ? (double)a->integer : a->number;
    return true;
}

size_t store_reader_n_attributes(const struct store_reader *r) {
    return r->catalogue.n_attributes;
}

const char *store_reader_attribute(const struct store_reader *r, size_t i, char *value, size_t capacity) {
    const struct h5_attribute *a = &r->catalogue.attributes[i];
    if (a->kind == H5_TEXT)
        snprintf(value, capacity, "%s", a->text);
    else if (a->kind == H5_INTEGER)
        snprintf(value, capacity, "%" PRId64, a->integer);
    else
        snprintf(value, capacity, "%.9g", a->number);
    return a->name;
}

/* ---- tensors ------------------------------------------------------------------------------------------- */
size_t store_reader_n_tensors(const struct store_reader *r) {
    return r->catalogue.n_tensors;
}

const struct store_tensor *store_reader_tensor(const struct store_reader *r, size_t i) {
    return &r->catalogue.tensors[i].tensor;
}

const struct store_tensor *store_reader_find(const struct store_reader *r, const char *name) {
    size_t low = 0, high = r->catalogue.n_tensors;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, r->catalogue.tensors[middle].tensor.name);
        if (order == 0) return &r->catalogue.tensors[middle].tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static void print_shape(char text[static 192], int n_dims, const uint64_t *shape) {
    int at = snprintf(text, 192, "(");
    for (int d = 0; d < n_dims && at < 160; d++)
        at += shape[d] ? snprintf(text + at, 192 - (size_t)at, "%s%" PRIu64, d ? ", " : "", shape[d])
                       : snprintf(text + at, 192 - (size_t)at, "%s*", d ? ", " : "");
    snprintf(text + at, 192 - (size_t)at, ")");
}

status_t store_reader_require(const struct store_reader *r, const char *name, enum store_type type,
                              int n_dims, const uint64_t *shape, const struct store_tensor **out) {
    const struct store_tensor *t = store_reader_find(r, name);
    CHECK(t, STATUS_BAD_DATA, "%s: dataset %s is missing", r->path, name);
    CHECK(t->type == type, STATUS_BAD_DATA, "%s: dataset %s is %s, expected %s", r->path, name,
          store_type_name(t->type), store_type_name(type));
    bool fits = n_dims < 0 || t->n_dims == n_dims;
    for (int d = 0; fits && d < n_dims; d++) fits = shape[d] == 0 || shape[d] == t->shape[d];
    if (!fits) {
        char is[192], wanted[192];
        print_shape(is, t->n_dims, t->shape);
        print_shape(wanted, n_dims, shape);
        return FAIL(STATUS_BAD_DATA, "%s: dataset %s has shape %s, expected %s", r->path, name, is, wanted);
    }
    *out = t;
    return STATUS_OK;
}

/* The tensor is the first member of its entry. */
static const struct h5_tensor *entry_of(const struct store_tensor *t) {
    return (const struct h5_tensor *)t;
}

static status_t check_block(const struct store_reader *r, const struct h5_tensor *e, size_t block,
                            const void *bytes, size_t n_bytes) {
    if (XXH3_64bits(bytes, n_bytes) == e->hashes[block]) return STATUS_OK;
    const struct store_tensor *t = &e->tensor;
    const uint64_t n_rows = t->n_dims > 0 ? t->shape[0] : 1, row_bytes = t->n_bytes / n_rows;
    const uint64_t begin = block * e->block_bytes;
    return FAIL(STATUS_BAD_DATA,
                "%s: dataset %s is damaged: rows %" PRIu64 " to %" PRIu64 " do not match their checksum",
                r->path, t->name, begin / row_bytes, (begin + n_bytes - 1) / row_bytes);
}

/* Bytes [begin, end) of the tensor into dst (NULL: only verify), through `scratch` of one block where a block
 * is not wanted as a whole. */
static status_t read_verified(const struct store_reader *r, const struct h5_tensor *e, uint64_t begin,
                              uint64_t end, char *dst, char *scratch) {
    const struct store_tensor *t = &e->tensor;
    for (uint64_t block = begin / e->block_bytes; block * e->block_bytes < end; block++) {
        const uint64_t from = block * e->block_bytes;
        const uint64_t n = t->n_bytes - from < e->block_bytes ? t->n_bytes - from : e->block_bytes;
        const bool whole = dst && from >= begin && from + n <= end;
        char *bytes = whole ? dst + (from - begin) : scratch;
        TRY(file_pread_all(r->fd, bytes, (size_t)n, t->file_offset + from, r->path));
        TRY(check_block(r, e, (size_t)block, bytes, (size_t)n));
        if (whole || !dst) continue;
        const uint64_t first = from > begin ? from : begin, last = from + n < end ? from + n : end;
        memcpy(dst + (first - begin), scratch + (first - from), (size_t)(last - first));
    }
    return STATUS_OK;
}

static status_t read_bytes(const struct store_reader *r, const struct h5_tensor *e, uint64_t begin,
                           uint64_t end, char *dst) {
    if (begin == end) return STATUS_OK;
    if (!e->hashes)
        return file_pread_all(r->fd, dst, (size_t)(end - begin), e->tensor.file_offset + begin, r->path);
    const uint64_t n_bytes = e->tensor.n_bytes;
    char *scratch = malloc((size_t)(e->block_bytes < n_bytes ? e->block_bytes : n_bytes));
    CHECK(scratch, STATUS_NO_MEMORY, "out of memory while reading %s", r->path);
    const status_t status = read_verified(r, e, begin, end, dst, scratch);
    free(scratch);
    return status;
}

status_t store_reader_read_rows(const struct store_reader *r, const struct store_tensor *t,
                                uint64_t first_row, uint64_t n_rows, void *dst) {
    const uint64_t all = t->n_dims > 0 ? t->shape[0] : 1;
    CHECK(first_row <= all && n_rows <= all - first_row, STATUS_USAGE,
          "%s: rows %" PRIu64 " to %" PRIu64 " of dataset %s asked for, which has %" PRIu64, r->path,
          first_row, first_row + n_rows, t->name, all);
    const uint64_t row_bytes = all ? t->n_bytes / all : 0;
    return read_bytes(r, entry_of(t), first_row * row_bytes, (first_row + n_rows) * row_bytes, dst);
}

status_t store_reader_read(const struct store_reader *r, const struct store_tensor *t, void *dst) {
    return read_bytes(r, entry_of(t), 0, t->n_bytes, dst);
}

status_t store_reader_verify(const struct store_reader *r, const struct store_tensor *t, bool *verified_out) {
    const struct h5_tensor *e = entry_of(t);
    if (verified_out) *verified_out = e->hashes != NULL;
    if (!e->hashes || t->n_bytes == 0) return STATUS_OK;
    char *scratch = malloc((size_t)(e->block_bytes < t->n_bytes ? e->block_bytes : t->n_bytes));
    CHECK(scratch, STATUS_NO_MEMORY, "out of memory while reading %s", r->path);
    const status_t status = read_verified(r, e, 0, t->n_bytes, NULL, scratch);
    free(scratch);
    return status;
}
