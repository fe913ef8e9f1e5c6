#include "data_shards/h5.h"
#include "data_shards/h5_lock.h"

#include "common/memory.h"

#include <string.h>

enum { MAX_HASHES = 1 << 13, MAX_TEXT = 1 << 20 };

/* Visiting: HDF5 hands this to the callbacks. */
struct visit {
    const char *path;
    uint64_t file_bytes;
    struct h5_catalogue *catalogue;
    status_t status;
};

/* Text attribute of either kind (fixed or variable length) as a fresh string; *out NULL where it is no text.
 */
static status_t read_text(hid_t attribute, hid_t type, const char *path, char **out) {
    *out = NULL;
    const hid_t space = H5Aget_space(attribute);
    const hssize_t n = H5Sget_simple_extent_npoints(space);
    H5Sclose(space);
    if (n != 1 || H5Tget_class(type) != H5T_STRING) return STATUS_OK;
    if (H5Tis_variable_str(type) > 0) {
        char *text = NULL;
        const hid_t memory = H5Tcopy(H5T_C_S1);
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        const herr_t failed = H5Aread(attribute, memory, &text);
        H5Tclose(memory);
        if (failed < 0) return h5_fail(STATUS_BAD_DATA, path, "damaged: a text attribute cannot be read");
        *out = strdup(text ? text : "");
        if (text) H5free_memory(text);
    } else {
        const size_t length = H5Tget_size(type);
        CHECK(length <= MAX_TEXT, STATUS_BAD_DATA, "%s: damaged: a text attribute of %zu bytes", path,
              length);
        char *text = memory_zeroed(length + 1, 1);
        if (text && H5Aread(attribute, type, text) < 0) {
            free(text);
            return h5_fail(STATUS_BAD_DATA, path, "damaged: a text attribute cannot be read");
        }
        *out = text;
    }
    CHECK(*out, STATUS_NO_MEMORY, "out of memory while opening %s", path);
    return STATUS_OK;
}

static status_t read_attribute(hid_t root, const char *name, struct visit *visit) {
    const hid_t attribute = H5Aopen(root, name, H5P_DEFAULT);
    if (attribute < 0)
        return h5_fail(STATUS_BAD_DATA, visit->path, "damaged: cannot read attribute %s", name);
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const bool single = H5Sget_simple_extent_npoints(space) == 1;
    struct h5_attribute a = {.kind = H5_TEXT};
    status_t status = STATUS_OK;
    bool known = true;
    switch (type < 0 || !single ? H5T_NO_CLASS : H5Tget_class(type)) {
    case H5T_STRING:
        status = read_text(attribute, type, visit->path, &a.text);
        break;
    case H5T_INTEGER:
        a.kind = H5_INTEGER;
        if (H5Aread(attribute, H5T_NATIVE_INT64, &a.integer) < 0)
            status = h5_fail(STATUS_BAD_DATA, visit->path, "damaged: cannot read attribute %s", name);
        break;
    case H5T_FLOAT:
        a.kind = H5_NUMBER;
        if (H5Aread(attribute, H5T_NATIVE_DOUBLE, &a.number) < 0)
            status = h5_fail(STATUS_BAD_DATA, visit->path, "damaged: cannot read attribute %s", name);
        break;
    default:
        known = false; /* others' business */
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    if (status != STATUS_OK || !known) return status;
    struct h5_catalogue *c = visit->catalogue;
    a.name = strdup(name);
    if (!a.name ||
        !memory_grow(&c->attributes, c->n_attributes, &c->attribute_capacity, sizeof *c->attributes)) {
        free(a.name);
        free(a.text);
        return FAIL(STATUS_NO_MEMORY, "out of memory while opening %s", visit->path);
    }
    c->attributes[c->n_attributes++] = a;
    return STATUS_OK;
}

static herr_t on_attribute(hid_t root, const char *name, const H5A_info_t *info, void *data) {
    (void)info;
    struct visit *visit = data;
    visit->status = read_attribute(root, name, visit);
    return visit->status == STATUS_OK ? 0 : -1;
}

static bool known_type(hid_t type, enum store_type *out) {
    const H5T_class_t class = H5Tget_class(type);
    const size_t n_bytes = H5Tget_size(type);
    if (n_bytes > 1 && H5Tget_order(type) != H5T_ORDER_LE) return false;
    if (class == H5T_FLOAT && H5Tequal(type, H5T_IEEE_F32LE) > 0) return *out = STORE_F32, true;
    if (class == H5T_FLOAT && H5Tequal(type, H5T_IEEE_F64LE) > 0) return *out = STORE_F64, true;
    if (class != H5T_INTEGER) return false;
    const bool is_signed = H5Tget_sign(type) != H5T_SGN_NONE;
    switch (n_bytes) {
    case 1:
        return *out = STORE_U8, !is_signed;
    case 2:
        return *out = STORE_BF16, !is_signed;
    case 4:
        return *out = is_signed ? STORE_I32 : STORE_U32, true;
    case 8:
        return *out = is_signed ? STORE_I64 : STORE_U64, true;
    default:
        return false;
    }
}

static status_t read_shape(hid_t dataset, const char *path, struct store_tensor *t) {
    hsize_t shape[STORE_MAX_DIMS];
    const hid_t space = H5Dget_space(dataset);
    const int n_dims = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    const bool fits = n_dims >= 0 && n_dims <= STORE_MAX_DIMS &&
                      H5Sget_simple_extent_type(space) != H5S_NULL &&
                      H5Sget_simple_extent_dims(space, shape, NULL) >= 0;
    if (space >= 0) H5Sclose(space);
    CHECK(fits, STATUS_BAD_DATA, "%s: dataset %s has no shape of up to %d dimensions", path, t->name,
          STORE_MAX_DIMS);
    size_t n_elem = 1, n_bytes;
    t->n_dims = n_dims;
    for (int d = 0; d < n_dims; d++) {
        t->shape[d] = shape[d];
        CHECK(size_mul(n_elem, (size_t)shape[d], &n_elem), STATUS_BAD_DATA,
              "%s: dataset %s is impossibly large", path, t->name);
    }
    CHECK(size_mul(n_elem, store_type_bytes(t->type), &n_bytes), STATUS_BAD_DATA,
          "%s: dataset %s is impossibly large", path, t->name);
    t->n_elem = n_elem;
    t->n_bytes = n_bytes;
    return STATUS_OK;
}

static status_t read_place(hid_t dataset, const char *path, uint64_t file_bytes, struct store_tensor *t) {
    const hid_t creation = H5Dget_create_plist(dataset);
    const bool plain =
        creation >= 0 && H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_external_count(creation) == 0;
    if (creation >= 0) H5Pclose(creation);
    CHECK(plain, STATUS_BAD_DATA, "%s: dataset %s is not stored contiguously (compressed or chunked?)", path,
          t->name);
    t->file_offset = 0;
    if (t->n_bytes == 0) return STATUS_OK;
    const haddr_t offset = H5Dget_offset(dataset);
    CHECK(offset != HADDR_UNDEF, STATUS_BAD_DATA, "%s: dataset %s was never written", path, t->name);
    CHECK(offset <= file_bytes && t->n_bytes <= file_bytes - offset, STATUS_BAD_DATA,
          "%s: dataset %s reaches beyond the end of the file: truncated?", path, t->name);
    t->file_offset = offset;
    return STATUS_OK;
}

/* Block hashes, where the dataset has both attributes in a usable form; otherwise it counts as unprotected,
 * unless they contradict its size. */
static status_t read_hashes(hid_t dataset, const char *path, struct h5_tensor *out) {
    if (H5Aexists(dataset, H5_HASH_ATTRIBUTE) <= 0 || H5Aexists(dataset, H5_BLOCK_ATTRIBUTE) <= 0)
        return STATUS_OK;
    uint64_t block_bytes = 0;
    const hid_t block = H5Aopen(dataset, H5_BLOCK_ATTRIBUTE, H5P_DEFAULT);
    const hid_t hash = H5Aopen(dataset, H5_HASH_ATTRIBUTE, H5P_DEFAULT);
    const hid_t space = H5Aget_space(hash), block_space = H5Aget_space(block);
    const hssize_t n = H5Sget_simple_extent_npoints(space);
    status_t status = STATUS_OK;
    if (H5Sget_simple_extent_npoints(block_space) != 1 || H5Aread(block, H5T_NATIVE_UINT64, &block_bytes) < 0)
        block_bytes = 0;
    const uint64_t n_bytes = out->tensor.n_bytes;
    const bool sound = block_bytes > 0 && n >= 0 && n <= MAX_HASHES &&
                       (uint64_t)n == n_bytes / block_bytes + (n_bytes % block_bytes != 0);
    CHECK_TO(done, sound, STATUS_BAD_DATA, "%s: dataset %s: its checksums do not fit its size", path,
             out->tensor.name);
    out->hashes = memory_zeroed((size_t)n, sizeof *out->hashes);
    CHECK_TO(done, out->hashes, STATUS_NO_MEMORY, "out of memory while opening %s", path);
    if (n > 0 && H5Aread(hash, H5T_NATIVE_UINT64, out->hashes) < 0)
        status = h5_fail(STATUS_BAD_DATA, path, "dataset %s: cannot read its checksums", out->tensor.name);
    out->n_hashes = (size_t)n;
    out->block_bytes = block_bytes;
done:
    H5Sclose(block_space);
    H5Sclose(space);
    H5Aclose(hash);
    H5Aclose(block);
    return status;
}

static status_t read_dataset(hid_t root, const char *name, struct visit *visit) {
    struct h5_catalogue *c = visit->catalogue;
    CHECK(memory_grow(&c->tensors, c->n_tensors, &c->tensor_capacity, sizeof *c->tensors), STATUS_NO_MEMORY,
          "out of memory while opening %s", visit->path);
    struct h5_tensor *out = &c->tensors[c->n_tensors];
    *out = (struct h5_tensor){.tensor.name = strdup(name)};
    CHECK(out->tensor.name, STATUS_NO_MEMORY, "out of memory while opening %s", visit->path);
    c->n_tensors++;
    const hid_t dataset = H5Dopen2(root, name, H5P_DEFAULT);
    if (dataset < 0) return h5_fail(STATUS_BAD_DATA, visit->path, "damaged: cannot open dataset %s", name);
    const hid_t type = H5Dget_type(dataset);
    status_t status = STATUS_OK;
    CHECK_TO(done, type >= 0 && known_type(type, &out->tensor.type), STATUS_BAD_DATA,
             "%s: dataset %s has an element type that a store does not hold", visit->path, name);
    TRY_TO(done, read_shape(dataset, visit->path, &out->tensor));
    TRY_TO(done, read_place(dataset, visit->path, visit->file_bytes, &out->tensor));
    status = read_hashes(dataset, visit->path, out);
done:
    if (type >= 0) H5Tclose(type);
    H5Dclose(dataset);
    return status;
}

static herr_t on_object(hid_t root, const char *name, const H5O_info_t *info, void *data) {
    struct visit *visit = data;
    if (info->type == H5O_TYPE_DATASET) visit->status = read_dataset(root, name, visit);
    return visit->status == STATUS_OK ? 0 : -1;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct h5_tensor *)a)->tensor.name, ((const struct h5_tensor *)b)->tensor.name);
}

status_t h5_catalogue_read(const char *path, uint64_t file_bytes, struct h5_catalogue *out) {
    *out = (struct h5_catalogue){0};
    h5_lock();
    struct visit visit = {.path = path, .file_bytes = file_bytes, .catalogue = out, .status = STATUS_OK};
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, 0, 1);
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (file < 0) {
        visit.status = h5_fail(STATUS_BAD_DATA, path, "not a readable HDF5 file");
    } else {
        hsize_t at = 0;
        if (H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, &at, on_attribute, &visit) < 0 &&
            visit.status == STATUS_OK)
            visit.status = h5_fail(STATUS_BAD_DATA, path, "damaged: its attributes cannot be read");
        if (visit.status == STATUS_OK && H5Ovisit(file, H5_INDEX_NAME, H5_ITER_INC, on_object, &visit) < 0 &&
            visit.status == STATUS_OK)
            visit.status = h5_fail(STATUS_BAD_DATA, path, "damaged: its datasets cannot be listed");
        H5Fclose(file);
    }
    H5Pclose(access);
    h5_unlock();
    if (visit.status != STATUS_OK)
        h5_catalogue_free(out);
    else if (out->n_tensors > 1)
        qsort(out->tensors, out->n_tensors, sizeof *out->tensors, by_name);
    return visit.status;
}

void h5_catalogue_free(struct h5_catalogue *c) {
    for (size_t i = 0; i < c->n_tensors; i++) {
        free((char *)c->tensors[i].tensor.name);
        free(c->tensors[i].hashes);
    }
    for (size_t i = 0; i < c->n_attributes; i++) {
        free(c->attributes[i].name);
        free(c->attributes[i].text);
    }
    free(c->tensors);
    free(c->attributes);
    *c = (struct h5_catalogue){0};
}
