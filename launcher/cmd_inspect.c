/* marrs_dist inspect FILE...: what a file holds, and whether it is sound. */
#include "launcher/arguments.h"
#include "launcher/cmd_data.h"

#include "common/file.h"
#include "common/memory.h"
#include "data_shards/decode.h"
#include "data_shards/shard.h"
#include "data_shards/store.h"
#include "models/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HEAD_BYTES = 16, MAX_NAMED_DAMAGES = 20, MAX_NAMED_CLASSES = 200 };

/* ---- shards -------------------------------------------------------------------------------------------- */
struct shard_summary {
    uint64_t n_bytes, smallest, largest;
    size_t n_format[4]; /* by enum image_format */
    int32_t low_height, low_width, high_height, high_width;
    size_t n_unlabelled, n_damaged, n_undecodable;
    size_t *n_of_class; /* [n_classes] */
};

static void note_sides(struct shard_summary *sum, const struct image_info *info) {
    if (sum->high_height == 0) sum->low_height = info->height, sum->low_width = info->width;
    if (info->height < sum->low_height) sum->low_height = info->height;
    if (info->width < sum->low_width) sum->low_width = info->width;
    if (info->height > sum->high_height) sum->high_height = info->height;
    if (info->width > sum->high_width) sum->high_width = info->width;
}

static void inspect_image(const struct shard *shard, size_t i, struct shard_buffer *buffer,
                          struct shard_summary *sum) {
    const uint64_t n = shard_image_bytes(shard, i);
    sum->n_bytes += n;
    if (i == 0 || n < sum->smallest) sum->smallest = n;
    if (n > sum->largest) sum->largest = n;
    if (shard_label(shard, i) < 0)
        sum->n_unlabelled++;
    else
        sum->n_of_class[shard_label(shard, i)]++;
    struct image_info info = {0};
    status_t status = shard_read(shard, i, true, buffer);
    const bool damaged = status != STATUS_OK;
    if (status == STATUS_OK && !shard_is_raw(shard)) {
        status = decode_probe(buffer->data, buffer->n_bytes, &info);
        if (status == STATUS_OK)
            note_sides(sum, &info);
        else
            status_context(status, "%s: row %zu (%s)", shard_path(shard), i, shard_id(shard, i));
        sum->n_format[info.format]++;
    }
    if (status == STATUS_OK) return;
    sum->n_damaged += damaged;
    sum->n_undecodable += !damaged;
    if (sum->n_damaged + sum->n_undecodable <= MAX_NAMED_DAMAGES)
        printf("  DAMAGED     %s\n", status_message());
}

static void print_shard(const struct shard *shard, const struct shard_summary *sum) {
    const size_t n = shard_n_images(shard), n_classes = shard_n_classes(shard);
    printf("  domain      %s\n  encoding    %s\n", shard_domain(shard),
           shard_is_raw(shard) ? "raw" : "encoded");
    printf("  images      %zu, %" PRIu64 " bytes, of %" PRIu64 " to %" PRIu64 " bytes\n", n, sum->n_bytes,
           sum->smallest, sum->largest);
    if (!shard_is_raw(shard)) {
        printf("  files      ");
        for (int f = 1; f < 4; f++)
            if (sum->n_format[f])
                printf(" %s %zu", image_format_name((enum image_format)f), sum->n_format[f]);
        printf(", sides %dx%d to %dx%d (height x width)\n", sum->low_height, sum->low_width, sum->high_height,
               sum->high_width);
    }
    printf("  classes     %zu, unlabelled images %zu\n", n_classes, sum->n_unlabelled);
    for (size_t k = 0; k < n_classes && k < MAX_NAMED_CLASSES; k++)
        printf("    %4zu %-32s %zu\n", k, shard_class_name(shard, k), sum->n_of_class[k]);
    if (n_classes > MAX_NAMED_CLASSES) printf("    ... and %zu more\n", n_classes - MAX_NAMED_CLASSES);
}

/* An id from a file becomes a path only below the folder asked for. */
static bool is_below(const char *id) {
    if (id[0] == '/' || id[0] == '\0') return false;
    for (const char *part = id; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) return false;
    return true;
}

/* Not synced: what is extracted can be extracted again. */
static status_t write_image(const char *folder, const char *id, const struct shard_buffer *bytes) {
    char *path = file_join(folder, id), *slash = path ? strrchr(path, '/') : NULL;
    status_t status = STATUS_OK;
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    if (slash) {
        *slash = '\0';
        TRY_TO(done, file_make_folders(path));
        *slash = '/';
    }
    FILE *out = fopen(path, "wb");
    CHECK_TO(done, out, STATUS_CANT_CREATE, "cannot create %s: %s", path, strerror(errno));
    const bool whole = fwrite(bytes->data, 1, bytes->n_bytes, out) == bytes->n_bytes;
    CHECK_TO(done, fclose(out) == 0 && whole, STATUS_IO, "cannot write %s: %s", path, strerror(errno));
done:
    free(path);
    return status;
}

static status_t extract_images(const struct shard *shard, const char *folder) {
    struct shard_buffer buffer = {0};
    status_t status = STATUS_OK;
    CHECK(!shard_is_raw(shard), STATUS_USAGE, "%s holds pixels, not image files: nothing to extract",
          shard_path(shard));
    for (size_t i = 0; i < shard_n_images(shard) && status == STATUS_OK; i++) {
        const char *id = shard_id(shard, i);
        CHECK_TO(done, is_below(id), STATUS_BAD_DATA, "%s: row %zu (%s) is no path below a folder",
                 shard_path(shard), i, id);
        TRY_TO(done, shard_read(shard, i, true, &buffer));
        status = write_image(folder, id, &buffer);
    }
done:
    free(buffer.data);
    if (status == STATUS_OK) printf("  extracted   %zu images into %s\n", shard_n_images(shard), folder);
    return status;
}

static status_t inspect_shard(const char *path, const char *folder) {
    struct shard *shard;
    struct shard_buffer buffer = {0};
    struct shard_summary sum = {0};
    TRY(shard_open(path, &shard));
    status_t status;
    const size_t n = shard_n_images(shard);
    sum.n_of_class = memory_zeroed(shard_n_classes(shard), sizeof *sum.n_of_class);
    CHECK_TO(done, sum.n_of_class, STATUS_NO_MEMORY, "out of memory while inspecting %s", path);
    for (size_t i = 0; i < n; i++) inspect_image(shard, i, &buffer, &sum);
    print_shard(shard, &sum);
    CHECK_TO(done, sum.n_damaged + sum.n_undecodable == 0, STATUS_BAD_DATA,
             "%s: %zu of %zu images do not match their checksum, %zu are no readable images", path,
             sum.n_damaged, n, sum.n_undecodable);
    printf("  verified    all %zu image checksums\n", n);
    status = folder ? extract_images(shard, folder) : STATUS_OK;
done:
    free(sum.n_of_class);
    free(buffer.data);
    shard_close(shard);
    return status;
}

/* ---- other stores -------------------------------------------------------------------------------------- */
static status_t inspect_store(const struct store_reader *store) {
    char value[160];
    size_t n_damaged = 0, n_unprotected = 0;
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < store_reader_n_attributes(store); i++) {
        const char *name = store_reader_attribute(store, i, value, sizeof value);
        value[strcspn(value, "\n")] = '\0';
        printf("  %-24s %s\n", name, value);
    }
    for (size_t i = 0; i < store_reader_n_tensors(store); i++) {
        const struct store_tensor *t = store_reader_tensor(store, i);
        bool verified;
        n_bytes += t->n_bytes;
        printf("  %-56s %-4s (", t->name, store_type_name(t->type));
        for (int d = 0; d < t->n_dims; d++) printf("%s%" PRIu64, d ? ", " : "", t->shape[d]);
        const status_t status = store_reader_verify(store, t, &verified);
        n_damaged += status != STATUS_OK;
        n_unprotected += !verified;
        printf(")%s\n", status != STATUS_OK ? "  DAMAGED" : verified ? "" : "  no checksum");
        if (status != STATUS_OK && status != STATUS_BAD_DATA) return status;
    }
    const size_t n = store_reader_n_tensors(store);
    printf("  in all      %zu tensors, %" PRIu64 " bytes\n", n, n_bytes);
    CHECK(n_damaged == 0, STATUS_BAD_DATA, "%s: %zu of %zu tensors are damaged", store_reader_path(store),
          n_damaged, n);
    printf("  verified    %zu tensors; without checksum %zu\n", n - n_unprotected, n_unprotected);
    return STATUS_OK;
}

static status_t inspect_hdf5(const char *path, const char *folder) {
    struct store_reader *store;
    TRY(store_reader_open(path, &store));
    const char *format = store_reader_format(store);
    const bool is_shard = strcmp(format, SHARD_FORMAT) == 0;
    printf("%s: %s, headers %s\n", path,
           is_shard  ? "image shard"
           : *format ? format
                     : "HDF5 file of another program",
           store_reader_sealed(store) ? "sealed and sound" : "not sealed");
    status_t status = STATUS_OK;
    if (!is_shard) status = inspect_store(store);
    store_reader_close(store);
    return is_shard ? inspect_shard(path, folder) : status;
}

/* ---- safetensors --------------------------------------------------------------------------------------- */
/* Values of a floating-point tensor that are no finite numbers. */
static status_t count_bad_values(const struct safetensors *file, const struct safetensor *t, size_t *n_bad) {
    *n_bad = 0;
    if (t->type != TENSOR_F32 && t->type != TENSOR_BF16 && t->type != TENSOR_F16) return STATUS_OK;
    float *values = malloc((size_t)t->n_elem * sizeof *values + 1);
    CHECK(values, STATUS_NO_MEMORY, "out of memory for tensor %s", t->name);
    const status_t status = safetensor_read_f32(file, t, values);
    for (int64_t i = 0; status == STATUS_OK && i < t->n_elem; i++) *n_bad += !isfinite(values[i]);
    free(values);
    return status;
}

static status_t print_safetensors(const struct safetensors *file) {
    const char *key, *value;
    size_t n_bytes = 0, n_bad_tensors = 0;
    int64_t n_elem = 0;
    for (int32_t i = 0; safetensors_metadata_at(file, i, &key, &value); i++)
        printf("  %-24s %.120s\n", key, value);
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensor *t = safetensors_at(file, i);
        size_t n_bad = 0;
        printf("  %-56s %-4s (", t->name, tensor_type_name(t->type));
        for (int32_t d = 0; d < t->n_dims; d++) printf("%s%" PRId64, d ? ", " : "", t->shape[d]);
        TRY(count_bad_values(file, t, &n_bad));
        if (n_bad > 0)
            printf(")  %zu values are no finite numbers\n", n_bad);
        else
            printf(")\n");
        n_bad_tensors += n_bad > 0;
        n_bytes += t->n_bytes;
        n_elem += t->n_elem;
    }
    printf("  in all      %d tensors, %" PRId64 " values, %zu bytes, XXH3 %016" PRIx64 "\n",
           safetensors_count(file), n_elem, n_bytes, safetensors_hash(file));
    CHECK(n_bad_tensors == 0, STATUS_BAD_DATA, "%s: %zu tensors hold values that are no finite numbers",
          safetensors_path(file), n_bad_tensors);
    printf("  verified    header, places and finite values; the format has no checksums\n");
    return STATUS_OK;
}

static status_t inspect_safetensors(const char *path, const char *folder) {
    (void)folder;
    struct safetensors *file;
    TRY(safetensors_open(path, &file));
    printf("%s: safetensors\n", path);
    const status_t status = print_safetensors(file);
    safetensors_close(file);
    return status;
}

/* ---- kinds of files ------------------------------------------------------------------------------------ */
static bool is_hdf5(const uint8_t head[HEAD_BYTES]) {
    return memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0;
}

/* The length of a JSON header, below 2^40, then its first brace. */
static bool is_safetensors(const uint8_t head[HEAD_BYTES]) {
    return head[8] == '{' && head[5] == 0 && head[6] == 0 && head[7] == 0;
}

/* Another kind of file is another row. */
static const struct {
    bool (*recognises)(const uint8_t head[HEAD_BYTES]);        /* by the first bytes, padded with zeros */
    status_t (*inspect)(const char *path, const char *folder); /* folder: for --extract, or NULL */
} kinds[] = {
    {is_hdf5, inspect_hdf5}, /* shards, checkpoints, features */
    {is_safetensors, inspect_safetensors},
};

static status_t inspect_file(const char *path, const char *folder) {
    uint8_t head[HEAD_BYTES] = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, errno == ENOENT ? STATUS_MISSING : STATUS_IO, "cannot open %s: %s", path, strerror(errno));
    const ssize_t n = pread(fd, head, sizeof head, 0);
    const int error = errno;
    close(fd);
    CHECK(n >= 0, STATUS_IO, "cannot read %s: %s", path, strerror(error));
    for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
        if (kinds[i].recognises(head)) return kinds[i].inspect(path, folder);
    return FAIL(STATUS_BAD_DATA, "%s: not a kind of file that inspect knows%s", path,
                n == 0 ? ": it is empty" : "");
}

status_t cmd_inspect(struct launch_context *context, int argc, char **argv) {
    const char *folder = NULL, **paths = memory_zeroed((size_t)argc, sizeof *paths);
    const struct argument table[] = {{.name = "--extract", .text = &folder}, {0}};
    int n = 0;
    status_t status, worst = STATUS_OK;
    CHECK(paths, STATUS_NO_MEMORY, "out of memory for the files' names");
    TRY_TO(done, arguments_parse(argc, argv, table, paths, argc, &n));
    CHECK_TO(done, n > 0, STATUS_USAGE, "inspect: which FILE?");
    for (int i = 0; i < n && context->rank == 0; i++) {
        status = inspect_file(paths[i], folder);
        if (status != STATUS_OK && worst == STATUS_OK && i + 1 == n) goto done;
        if (status == STATUS_OK) continue;
        printf("  ERROR       %s\n", status_message());
        worst = status;
    }
    status = worst == STATUS_OK ? STATUS_OK : FAIL(worst, "inspect: not all files are sound");
done:
    free(paths);
    return status;
}
