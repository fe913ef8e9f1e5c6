#include "data_shards/decode.h"
#include "data_shards/shard.h"
#include "data_shards/store.h"

#include "common/file.h"
#include "common/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <xxhash.h>

/* Strings read back, each with a NUL behind it. */
struct strings {
    size_t n;
    char *data;
    char **at; /* [n] */
};

struct shard {
    struct store_reader *store;
    const char *path, *domain;
    bool raw;
    int32_t height, width, channels; /* of raw images */
    size_t n_images;
    uint64_t data_offset; /* of image/data in the file */
    uint64_t *offset;     /* [N+1] */
    uint64_t *hash;       /* [N] */
    int32_t *label;       /* [N] */
    struct strings id, class_name;
};

/* The whole of dataset `name`, n elements (0: any number), into fresh memory. */
static status_t load(const struct store_reader *store, const char *name, enum store_type type, uint64_t n,
                     void *out, size_t *n_out) {
    const struct store_tensor *t;
    TRY(store_reader_require(store, name, type, 1, &(uint64_t){0}, &t));
    CHECK(n == UINT64_MAX || t->shape[0] == n, STATUS_BAD_DATA,
          "%s: dataset %s has %" PRIu64 " rows, expected %" PRIu64, store_reader_path(store), name,
          t->shape[0], n);
    char *data = malloc((size_t)t->n_bytes + 1);
    CHECK(data, STATUS_NO_MEMORY, "out of memory while opening %s", store_reader_path(store));
    const status_t status = store_reader_read(store, t, data);
    if (status != STATUS_OK) {
        free(data);
        return status;
    }
    memcpy(out, &data, sizeof data);
    if (n_out) *n_out = (size_t)t->n_elem;
    return STATUS_OK;
}

/* offset[0 .. n] must begin at 0, ascend and end at `total`. */
static status_t check_offsets(const char *path, const char *name, const uint64_t *offset, size_t n,
                              uint64_t total) {
    CHECK(offset[0] == 0, STATUS_BAD_DATA, "%s: dataset %s row 0: begins at %" PRIu64 ", not at 0", path,
          name, offset[0]);
    for (size_t i = 0; i < n; i++) {
        CHECK(offset[i + 1] >= offset[i], STATUS_BAD_DATA,
              "%s: dataset %s row %zu: offset %" PRIu64 " follows %" PRIu64, path, name, i + 1, offset[i + 1],
              offset[i]);
        CHECK(offset[i + 1] <= total, STATUS_BAD_DATA,
              "%s: dataset %s row %zu: offset %" PRIu64 " lies beyond the %" PRIu64 " bytes of data", path,
              name, i + 1, offset[i + 1], total);
    }
    CHECK(offset[n] == total, STATUS_BAD_DATA,
          "%s: dataset %s row %zu: ends at %" PRIu64 ", but there are %" PRIu64 " bytes of data", path, name,
          n, offset[n], total);
    return STATUS_OK;
}

/* Rows of an offset dataset: one more than there are items. */
static status_t load_offsets(const struct store_reader *store, const char *name, uint64_t **out,
                             size_t *n_out) {
    size_t n = 0;
    uint64_t *offset = NULL;
    TRY(load(store, name, STORE_U64, UINT64_MAX, &offset, &n));
    *out = offset;
    if (n == 0)
        return FAIL(STATUS_BAD_DATA, "%s: dataset %s is empty, expected at least one row",
                    store_reader_path(store), name);
    *n_out = n - 1;
    return STATUS_OK;
}

static status_t load_strings(const struct store_reader *store, const char *data_name, const char *offset_name,
                             size_t n_expected, struct strings *out) {
    const char *path = store_reader_path(store);
    uint64_t *offset = NULL;
    char *data = NULL;
    size_t n = 0, n_bytes = 0, n_total;
    status_t status;
    TRY_TO(done, load_offsets(store, offset_name, &offset, &n));
    CHECK_TO(done, n_expected == SIZE_MAX || n == n_expected, STATUS_BAD_DATA,
             "%s: dataset %s has %zu rows, expected %zu", path, offset_name, n + 1, n_expected + 1);
    TRY_TO(done, load(store, data_name, STORE_U8, UINT64_MAX, &data, &n_bytes));
    TRY_TO(done, check_offsets(path, offset_name, offset, n, n_bytes));
    CHECK_TO(done, size_add(n_bytes, n + 1, &n_total), STATUS_BAD_DATA, "%s: dataset %s is impossibly large",
             path, data_name);
    out->data = malloc(n_total);
    out->at = memory_zeroed(n, sizeof *out->at);
    CHECK_TO(done, out->data && out->at, STATUS_NO_MEMORY, "out of memory while opening %s", path);
    char *p = out->data;
    for (size_t i = 0; i < n; i++) {
        const size_t length = (size_t)(offset[i + 1] - offset[i]);
        CHECK_TO(done, !memchr(data + offset[i], '\0', length), STATUS_BAD_DATA,
                 "%s: dataset %s row %zu: contains a NUL byte", path, data_name, i);
        memcpy(p, data + offset[i], length);
        p[length] = '\0';
        out->at[i] = p;
        p += length + 1;
    }
    out->n = n;
done:
    free(data);
    free(offset);
    return status;
}

static status_t read_attributes(struct shard *s) {
    int64_t version = 0, height = 0, width = 0, channels = 0;
    const char *format = store_reader_format(s->store), *encoding = store_reader_text(s->store, "encoding");
    CHECK(strcmp(format, SHARD_FORMAT) == 0, STATUS_BAD_DATA,
          "%s is not a shard: its attribute format is '%s', expected '%s'", s->path, format, SHARD_FORMAT);
    CHECK(store_reader_integer(s->store, "version", &version), STATUS_BAD_DATA,
          "%s: attribute version is missing", s->path);
    CHECK(version == SHARD_VERSION, STATUS_BAD_DATA,
          "%s: shard version %" PRId64 ", this program reads version %d", s->path, version, SHARD_VERSION);
    s->domain = store_reader_text(s->store, "domain");
    CHECK(s->domain, STATUS_BAD_DATA, "%s: attribute domain is missing", s->path);
    CHECK(encoding && (strcmp(encoding, "encoded") == 0 || strcmp(encoding, "raw") == 0), STATUS_BAD_DATA,
          "%s: attribute encoding is '%s', expected 'encoded' or 'raw'", s->path, encoding ? encoding : "");
    s->raw = encoding[0] == 'r';
    if (!s->raw) return STATUS_OK;
    const bool there = store_reader_integer(s->store, "height", &height) &&
                       store_reader_integer(s->store, "width", &width) &&
                       store_reader_integer(s->store, "channels", &channels);
    CHECK(there && height > 0 && width > 0 && height <= IMAGE_MAX_PIXELS / width &&
              (channels == 1 || channels == 3),
          STATUS_BAD_DATA,
          "%s: attributes height, width and channels (1 or 3) of raw images are missing or impossible",
          s->path);
    s->height = (int32_t)height, s->width = (int32_t)width, s->channels = (int32_t)channels;
    return STATUS_OK;
}

static status_t check_rows(const struct shard *s) {
    const uint64_t raw_bytes = (uint64_t)s->height * (uint64_t)s->width * (uint64_t)s->channels;
    for (size_t i = 0; i < s->n_images; i++) {
        CHECK(s->label[i] >= -1 && (s->label[i] == -1 || (size_t)s->label[i] < s->class_name.n),
              STATUS_BAD_DATA, "%s: dataset label row %zu: class %d, but there are %zu classes", s->path, i,
              s->label[i], s->class_name.n);
        CHECK(s->id.at[i][0] != '\0', STATUS_BAD_DATA, "%s: dataset id/offset row %zu: an empty id", s->path,
              i);
        CHECK(!s->raw || s->offset[i + 1] - s->offset[i] == raw_bytes, STATUS_BAD_DATA,
              "%s: dataset image/offset row %zu: %" PRIu64 " bytes, but a raw image has %" PRIu64, s->path, i,
              s->offset[i + 1] - s->offset[i], raw_bytes);
    }
    return STATUS_OK;
}

status_t shard_open(const char *path, struct shard **out) {
    struct shard *s = memory_zeroed(1, sizeof *s);
    CHECK(s, STATUS_NO_MEMORY, "out of memory while opening %s", path);
    status_t status;
    const struct store_tensor *data;
    TRY_TO(fail, store_reader_open(path, &s->store));
    s->path = store_reader_path(s->store);
    TRY_TO(fail, read_attributes(s));
    TRY_TO(fail, store_reader_require(s->store, "image/data", STORE_U8, 1, &(uint64_t){0}, &data));
    s->data_offset = data->file_offset;
    TRY_TO(fail, load_offsets(s->store, "image/offset", &s->offset, &s->n_images));
    CHECK_TO(fail, s->n_images <= INT32_MAX, STATUS_BAD_DATA,
             "%s: dataset image/offset: %zu images are too many", path, s->n_images);
    TRY_TO(fail, check_offsets(s->path, "image/offset", s->offset, s->n_images, data->n_bytes));
    TRY_TO(fail, load(s->store, "image/hash", STORE_U64, s->n_images, &s->hash, NULL));
    TRY_TO(fail, load(s->store, "label", STORE_I32, s->n_images, &s->label, NULL));
    TRY_TO(fail, load_strings(s->store, "id/data", "id/offset", s->n_images, &s->id));
    TRY_TO(fail, load_strings(s->store, "class/data", "class/offset", SIZE_MAX, &s->class_name));
    TRY_TO(fail, check_rows(s));
    *out = s;
    return STATUS_OK;
fail:
    shard_close(s);
    return status;
}

void shard_close(struct shard *s) {
    if (!s) return;
    store_reader_close(s->store);
    free(s->offset);
    free(s->hash);
    free(s->label);
    free(s->id.data);
    free(s->id.at);
    free(s->class_name.data);
    free(s->class_name.at);
    free(s);
}

const char *shard_path(const struct shard *s) {
    return s->path;
}
const char *shard_domain(const struct shard *s) {
    return s->domain;
}
bool shard_is_raw(const struct shard *s) {
    return s->raw;
}
size_t shard_n_images(const struct shard *s) {
    return s->n_images;
}
size_t shard_n_classes(const struct shard *s) {
    return s->class_name.n;
}
const char *shard_class_name(const struct shard *s, size_t k) {
    return s->class_name.at[k];
}
const char *shard_id(const struct shard *s, size_t i) {
    return s->id.at[i];
}
int32_t shard_label(const struct shard *s, size_t i) {
    return s->label[i];
}
uint64_t shard_image_hash(const struct shard *s, size_t i) {
    return s->hash[i];
}

uint64_t shard_image_bytes(const struct shard *s, size_t i) {
    return s->offset[i + 1] - s->offset[i];
}

status_t shard_read(const struct shard *s, size_t i, bool verify, struct shard_buffer *out) {
    const size_t n = (size_t)shard_image_bytes(s, i);
    if (n > out->capacity) {
        uint8_t *grown = realloc(out->data, n + n / 4);
        CHECK(grown, STATUS_NO_MEMORY, "%s: out of memory for row %zu (%s), %zu bytes", s->path, i,
              s->id.at[i], n);
        out->data = grown;
        out->capacity = n + n / 4;
    }
    out->n_bytes = n;
    if (n > 0)
        TRY(file_pread_all(store_reader_fd(s->store), out->data, n, s->data_offset + s->offset[i], s->path));
    CHECK(!verify || XXH3_64bits(n ? out->data : (const uint8_t *)"", n) == s->hash[i], STATUS_BAD_DATA,
          "%s: dataset image/data row %zu (%s) is damaged: its bytes do not match their checksum", s->path, i,
          s->id.at[i]);
    return STATUS_OK;
}

status_t shard_decode(const struct shard *s, size_t i, const struct shard_buffer *bytes, struct image *out) {
    if (!s->raw) {
        const status_t status = decode_image(bytes->data, bytes->n_bytes, out);
        return status == STATUS_OK ? status
                                   : status_context(status, "%s: row %zu (%s)", s->path, i, s->id.at[i]);
    }
    TRY(image_reshape(out, s->height, s->width));
    if (s->channels == 3) {
        memcpy(out->data, bytes->data, bytes->n_bytes);
    } else {
        for (size_t p = 0; p < bytes->n_bytes; p++)
            out->data[3 * p] = out->data[3 * p + 1] = out->data[3 * p + 2] = bytes->data[p];
    }
    return STATUS_OK;
}
