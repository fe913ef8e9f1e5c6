/* Reading safetensors files. */
#include "models/safetensors.h"
#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors lie in the file as on a little-endian machine");

enum { MAX_HEADER_BYTES = 100000000 };

struct safetensors {
    char *path;
    json_t *header;              /* owns the tensors' names */
    json_t *metadata;            /* borrowed from header; NULL: none */
    struct safetensor *tensors;  /* in the order of the data */
    struct safetensor **by_name; /* the same, sorted by name */
    int32_t n_tensors;
    void *mapping; /* NULL: the bytes are borrowed */
    size_t n_mapped_bytes;
};

static const struct {
    const char *name;
    size_t n_bytes;
} types[] = {
#define X(name, n_bytes) {#name, n_bytes},
    TENSOR_TYPES(X)
#undef X
};

const char *tensor_type_name(enum tensor_type type) {
    return types[type].name;
}
size_t tensor_type_bytes(enum tensor_type type) {
    return types[type].n_bytes;
}

static bool type_by_name(const char *name, enum tensor_type *out) {
    for (size_t i = 0; i < ARRAY_LENGTH(types); i++)
        if (!strcmp(types[i].name, name)) return *out = (enum tensor_type)i, true;
    return false;
}

/* The shape of one header entry, and from it the number of elements and bytes. */
static status_t parse_shape(const char *path, json_t *shape, struct safetensor *tensor) {
    CHECK(json_is_array(shape), STATUS_BAD_DATA, "%s: tensor \"%s\" has no shape", path, tensor->name);
    const size_t n_dims = json_array_size(shape);
    CHECK(n_dims <= TENSOR_MAX_DIMS, STATUS_BAD_DATA,
          "%s: tensor \"%s\" has %zu dimensions; at most %d are read", path, tensor->name, n_dims,
          TENSOR_MAX_DIMS);
    tensor->n_dims = (int32_t)n_dims;
    tensor->n_elem = 1;
    for (size_t i = 0; i < n_dims; i++) {
        json_t *side = json_array_get(shape, i);
        CHECK(json_is_integer(side) && json_integer_value(side) >= 0, STATUS_BAD_DATA,
              "%s: the shape of tensor \"%s\" is not made of whole numbers", path, tensor->name);
        tensor->shape[i] = json_integer_value(side);
        CHECK(!__builtin_mul_overflow(tensor->n_elem, tensor->shape[i], &tensor->n_elem), STATUS_BAD_DATA,
              "%s: the shape of tensor \"%s\" overflows", path, tensor->name);
    }
    CHECK(size_mul((size_t)tensor->n_elem, types[tensor->type].n_bytes, &tensor->n_bytes), STATUS_BAD_DATA,
          "%s: the shape of tensor \"%s\" overflows", path, tensor->name);
    return STATUS_OK;
}

static status_t parse_tensor(const char *path, const char *name, json_t *entry, const uint8_t *data,
                             size_t n_data_bytes, struct safetensor *tensor) {
    tensor->name = name;
    CHECK(json_is_object(entry), STATUS_BAD_DATA, "%s: tensor \"%s\" has no description", path, name);
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    CHECK(type, STATUS_BAD_DATA, "%s: tensor \"%s\" has no dtype", path, name);
    CHECK(type_by_name(type, &tensor->type), STATUS_BAD_DATA,
          "%s: tensor \"%s\" has dtype %.32s, which is not read here", path, name, type);
    TRY(parse_shape(path, json_object_get(entry, "shape"), tensor));
    json_t *range = json_object_get(entry, "data_offsets");
    CHECK(json_array_size(range) == 2 && json_is_integer(json_array_get(range, 0)) &&
              json_is_integer(json_array_get(range, 1)),
          STATUS_BAD_DATA, "%s: tensor \"%s\" has no data_offsets", path, name);
    const json_int_t begin = json_integer_value(json_array_get(range, 0));
    const json_int_t end = json_integer_value(json_array_get(range, 1));
    CHECK(begin >= 0 && begin <= end && (uint64_t)end <= n_data_bytes, STATUS_BAD_DATA,
          "%s: tensor \"%s\" lies at bytes %lld to %lld, but the file holds %zu bytes of data (cut short?)",
          path, name, (long long)begin, (long long)end, n_data_bytes);
    CHECK((uint64_t)(end - begin) == tensor->n_bytes, STATUS_BAD_DATA,
          "%s: tensor \"%s\" has %lld bytes where its shape wants %zu", path, name, (long long)(end - begin),
          tensor->n_bytes);
    tensor->bytes = data + begin;
    return STATUS_OK;
}

static int by_position(const void *a, const void *b) {
    const struct safetensor *x = a, *y = b;
    if (x->bytes != y->bytes) return (uintptr_t)x->bytes < (uintptr_t)y->bytes ? -1 : 1;
    if (x->n_bytes != y->n_bytes) return x->n_bytes < y->n_bytes ? -1 : 1; /* empty tensors first */
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(struct safetensor *const *)a)->name, (*(struct safetensor *const *)b)->name);
}

/* The tensors follow each other from the first to the last byte of the data. */
static status_t check_cover(const struct safetensors *file, const uint8_t *data, size_t n_data_bytes) {
    const uint8_t *at = data;
    for (int32_t i = 0; i < file->n_tensors; i++) {
        const struct safetensor *tensor = &file->tensors[i];
        CHECK((const uint8_t *)tensor->bytes >= at, STATUS_BAD_DATA,
              "%s: tensor \"%s\" overlaps the one before it", file->path, tensor->name);
        CHECK((const uint8_t *)tensor->bytes == at, STATUS_BAD_DATA,
              "%s: a hole lies in front of tensor \"%s\"", file->path, tensor->name);
        at += tensor->n_bytes;
    }
    CHECK(at == data + n_data_bytes, STATUS_BAD_DATA, "%s: %zu bytes at the end belong to no tensor",
          file->path, (size_t)(data + n_data_bytes - at));
    return STATUS_OK;
}

static status_t check_metadata(const struct safetensors *file) {
    const char *key;
    json_t *value;
    CHECK(!file->metadata || json_is_object(file->metadata), STATUS_BAD_DATA,
          "%s: __metadata__ is not an object", file->path);
    json_object_foreach(file->metadata, key, value)
        CHECK(json_is_string(value), STATUS_BAD_DATA, "%s: metadata \"%s\" is not a string", file->path, key);
    return STATUS_OK;
}

static status_t parse_header(struct safetensors *file, const uint8_t *data, size_t n_data_bytes) {
    file->metadata = json_object_get(file->header, "__metadata__");
    TRY(check_metadata(file));
    const size_t n = json_object_size(file->header) - (file->metadata ? 1 : 0);
    file->tensors = memory_zeroed(n + 1, sizeof *file->tensors);
    file->by_name = memory_zeroed(n + 1, sizeof *file->by_name);
    CHECK(file->tensors && file->by_name, STATUS_NO_MEMORY, "%s: no memory for the names of %zu tensors",
          file->path, n);
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        if (entry == file->metadata) continue;
        TRY(parse_tensor(file->path, name, entry, data, n_data_bytes, &file->tensors[file->n_tensors]));
        file->n_tensors++;
    }
    qsort(file->tensors, n, sizeof *file->tensors, by_position);
    TRY(check_cover(file, data, n_data_bytes));
    for (size_t i = 0; i < n; i++) file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, n, sizeof *file->by_name, by_name);
    return STATUS_OK;
}

/* Check everything about n_bytes of a file and fill `file`, which the caller frees also on failure. */
static status_t parse(struct safetensors *file, const uint8_t *bytes, size_t n_bytes) {
    CHECK(n_bytes >= 8, STATUS_BAD_DATA, "%s: %zu bytes are too few for a safetensors file", file->path,
          n_bytes);
    uint64_t n_header_bytes;
    memcpy(&n_header_bytes, bytes, sizeof n_header_bytes);
    CHECK(n_header_bytes <= MAX_HEADER_BYTES, STATUS_BAD_DATA,
          "%s: not a safetensors file (its header would have %llu bytes)", file->path,
          (unsigned long long)n_header_bytes);
    CHECK(n_header_bytes <= n_bytes - 8, STATUS_BAD_DATA,
          "%s: cut short: the header has %llu bytes, the file %zu", file->path,
          (unsigned long long)n_header_bytes, n_bytes);
    const char *text = (const char *)bytes + 8;
    CHECK(n_header_bytes && text[0] == '{', STATUS_BAD_DATA,
          "%s: not a safetensors file (its header does not begin with '{')", file->path);
    json_error_t error;
    file->header = json_loadb(text, n_header_bytes, JSON_REJECT_DUPLICATES, &error);
    CHECK(file->header, STATUS_BAD_DATA, "%s: header: %s", file->path, error.text);
    CHECK(json_is_object(file->header), STATUS_BAD_DATA, "%s: the header is not an object", file->path);
    CHECK(json_object_size(file->header) < INT32_MAX, STATUS_BAD_DATA, "%s: too many tensors", file->path);
    return parse_header(file, bytes + 8 + n_header_bytes, n_bytes - 8 - n_header_bytes);
}

static struct safetensors *file_new(const char *path) {
    struct safetensors *file = memory_zeroed(1, sizeof *file);
    if (file) file->path = strdup(path);
    if (file && !file->path) free(file), file = NULL;
    return file;
}

status_t safetensors_open_memory(const void *bytes, size_t n_bytes, const char *name,
                                 struct safetensors **out) {
    struct safetensors *file = file_new(name);
    CHECK(file, STATUS_NO_MEMORY, "%s: no memory", name);
    const status_t status = parse(file, bytes, n_bytes);
    if (status == STATUS_OK)
        *out = file;
    else
        safetensors_close(file);
    return status;
}

status_t safetensors_open(const char *path, struct safetensors **out) {
    struct safetensors *file = file_new(path);
    CHECK(file, STATUS_NO_MEMORY, "%s: no memory", path);
    status_t status;
    struct stat stat;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_TO(fail, fd >= 0, errno == ENOENT || errno == ENOTDIR ? STATUS_MISSING : STATUS_IO, "%s: %s", path,
             strerror(errno));
    CHECK_TO(fail, !fstat(fd, &stat), STATUS_IO, "%s: %s", path, strerror(errno));
    CHECK_TO(fail, S_ISREG(stat.st_mode), STATUS_BAD_DATA, "%s: not a file", path);
    CHECK_TO(fail, stat.st_size >= 8, STATUS_BAD_DATA, "%s: %lld bytes are too few for a safetensors file",
             path, (long long)stat.st_size);
    void *mapping = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK_TO(fail, mapping != MAP_FAILED, STATUS_IO, "%s: %s", path, strerror(errno));
    file->mapping = mapping;
    file->n_mapped_bytes = (size_t)stat.st_size;
    TRY_TO(fail, parse(file, mapping, file->n_mapped_bytes));
    close(fd);
    *out = file;
    return STATUS_OK;
fail:
    if (fd >= 0) close(fd);
    safetensors_close(file);
    return status;
}

void safetensors_close(struct safetensors *file) {
    if (!file) return;
    if (file->mapping) munmap(file->mapping, file->n_mapped_bytes);
    json_decref(file->header);
    free(file->by_name);
    free(file->tensors);
    free(file->path);
    free(file);
}

const char *safetensors_path(const struct safetensors *file) {
    return file->path;
}
int32_t safetensors_count(const struct safetensors *file) {
    return file->n_tensors;
}

const struct safetensor *safetensors_at(const struct safetensors *file, int32_t index) {
    return &file->tensors[index];
}

const struct safetensor *safetensors_find(const struct safetensors *file, const char *name) {
    struct safetensor wanted = {.name = name};
    struct safetensor *key = &wanted, **found;
    found = bsearch(&key, file->by_name, (size_t)file->n_tensors, sizeof key, by_name);
    return found ? *found : NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key) {
    return json_string_value(json_object_get(file->metadata, key));
}

bool safetensors_metadata_at(const struct safetensors *file, int32_t index, const char **key,
                             const char **value) {
    void *at = json_object_iter(file->metadata);
    while (at && index-- > 0) at = json_object_iter_next(file->metadata, at);
    if (!at) return false;
    *key = json_object_iter_key(at);
    *value = json_string_value(json_object_iter_value(at));
    return true;
}

static float f16_to_f32(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31,
                   mantissa = half & 1023;
    uint32_t bits;
    if (exponent == 31)
        bits = sign | 0x7f800000u | mantissa << 13;
    else if (exponent)
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    else
        return copysignf(ldexpf((float)mantissa, -24), sign ? -1.0f : 1.0f);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float bf16_to_f32(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* One case of a switch over types: element by element through memcpy, since the bytes need not be aligned. */
#define CONVERT(tag, type, expression)                                                                       \
    case TENSOR_##tag:                                                                                       \
        for (int64_t i = 0; i < tensor->n_elem; i++) {                                                       \
            type x;                                                                                          \
            memcpy(&x, bytes + i * (int64_t)sizeof x, sizeof x);                                             \
            out[i] = (expression);                                                                           \
        }                                                                                                    \
        break

status_t safetensor_read_f32(const struct safetensors *file, const struct safetensor *tensor, float *out) {
    const uint8_t *bytes = tensor->bytes;
    switch (tensor->type) {
    case TENSOR_F32:
        memcpy(out, bytes, tensor->n_bytes);
        break;
        CONVERT(F64, double, (float)x);
        CONVERT(F16, uint16_t, f16_to_f32(x));
        CONVERT(BF16, uint16_t, bf16_to_f32(x));
        CONVERT(I64, int64_t, (float)x);
        CONVERT(I32, int32_t, (float)x);
        CONVERT(I16, int16_t, (float)x);
        CONVERT(I8, int8_t, (float)x);
        CONVERT(U64, uint64_t, (float)x);
        CONVERT(U32, uint32_t, (float)x);
        CONVERT(U16, uint16_t, (float)x);
        CONVERT(U8, uint8_t, (float)x);
        CONVERT(BOOL, uint8_t, x ? 1.0f : 0.0f);
    default:
        return FAIL(STATUS_INTERNAL, "%s: tensor \"%s\" has an unknown type", file->path, tensor->name);
    }
    return STATUS_OK;
}

status_t safetensor_read_i32(const struct safetensors *file, const struct safetensor *tensor, int32_t *out) {
    const uint8_t *bytes = tensor->bytes;
    bool fits = true;
    switch (tensor->type) {
    case TENSOR_I32:
        memcpy(out, bytes, tensor->n_bytes);
        break;
        CONVERT(I64, int64_t, (fits &= x >= INT32_MIN && x <= INT32_MAX, fits ? (int32_t)x : 0));
        CONVERT(U64, uint64_t, (fits &= x <= INT32_MAX, fits ? (int32_t)x : 0));
        CONVERT(U32, uint32_t, (fits &= x <= INT32_MAX, fits ? (int32_t)x : 0));
        CONVERT(I16, int16_t, x);
        CONVERT(U16, uint16_t, x);
        CONVERT(I8, int8_t, x);
        CONVERT(U8, uint8_t, x);
        CONVERT(BOOL, uint8_t, x != 0);
    default:
        return FAIL(STATUS_BAD_DATA, "%s: tensor \"%s\" holds %s where whole numbers are wanted", file->path,
                    tensor->name, types[tensor->type].name);
    }
    CHECK(fits, STATUS_BAD_DATA, "%s: tensor \"%s\" holds numbers beyond 32 bits", file->path, tensor->name);
    return STATUS_OK;
}

status_t safetensors_get_f32(const struct safetensors *file, const char *name, int32_t n_dims,
                             const int64_t *shape, int64_t n_elem, float *out) {
    const struct safetensor *tensor = safetensors_find(file, name);
    CHECK(tensor, STATUS_BAD_DATA, "%s: no tensor \"%s\"", file->path, name);
    CHECK(tensor->n_elem == n_elem, STATUS_BAD_DATA,
          "%s: tensor \"%s\" has %lld elements where %lld are wanted", file->path, name,
          (long long)tensor->n_elem, (long long)n_elem);
    bool same = n_dims < 0 || tensor->n_dims == n_dims;
    for (int32_t i = 0; same && i < n_dims; i++) same = tensor->shape[i] == shape[i];
    CHECK(same, STATUS_BAD_DATA, "%s: tensor \"%s\" has another shape than wanted", file->path, name);
    return safetensor_read_f32(file, tensor, out);
}

uint64_t safetensors_hash(const struct safetensors *file) {
    uint64_t hash = 0; /* each piece is hashed with the hash of those before it as seed */
    for (int32_t i = 0; i < file->n_tensors; i++) {
        const struct safetensor *tensor = file->by_name[i];
        const char *type = types[tensor->type].name;
        hash = XXH3_64bits_withSeed(tensor->name, strlen(tensor->name), hash);
        hash = XXH3_64bits_withSeed(type, strlen(type), hash);
        hash = XXH3_64bits_withSeed(tensor->shape, sizeof tensor->shape[0] * (size_t)tensor->n_dims, hash);
        hash = XXH3_64bits_withSeed(tensor->bytes, tensor->n_bytes, hash);
    }
    return hash;
}
