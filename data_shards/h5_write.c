#include "data_shards/h5.h"
#include "data_shards/h5_lock.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static hid_t file_type(enum store_type type) {
    switch (type) {
    case STORE_F32:
        return H5T_IEEE_F32LE;
    case STORE_F64:
        return H5T_IEEE_F64LE;
    case STORE_BF16:
        return H5T_STD_U16LE;
    case STORE_I32:
        return H5T_STD_I32LE;
    case STORE_I64:
        return H5T_STD_I64LE;
    case STORE_U8:
        return H5T_STD_U8LE;
    case STORE_U32:
        return H5T_STD_U32LE;
    case STORE_U64:
        return H5T_STD_U64LE;
    }
    return H5I_INVALID_HID;
}

status_t h5_create(const char *path, hid_t *file_out) {
    h5_lock();
    status_t status = STATUS_OK;
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, 0, 1);
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (file < 0) status = h5_fail(STATUS_CANT_CREATE, path, "cannot create the file");
    H5Pclose(access);
    h5_unlock();
    if (status == STATUS_OK) *file_out = file;
    return status;
}

/* Attribute of one value or a row of values on an open object. */
static status_t write_attribute(hid_t object, const char *path, const char *name, hid_t type_in_file,
                                hid_t type_in_memory, const hsize_t *n_values, const void *values) {
    status_t status = STATUS_OK;
    const hid_t space = n_values ? H5Screate_simple(1, n_values, NULL) : H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(object, name, type_in_file, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, type_in_memory, values) < 0)
        status = h5_fail(STATUS_IO, path, "cannot write attribute %s", name);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return status;
}

static status_t write_text(hid_t object, const char *path, const char *name, const char *text) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    const status_t status = write_attribute(object, path, name, type, type, NULL, &text);
    H5Tclose(type);
    return status;
}

status_t h5_create_dataset(hid_t file, const char *path, const struct store_tensor *t, uint64_t *offset_out) {
    h5_lock();
    status_t status = STATUS_OK;
    hsize_t shape[STORE_MAX_DIMS];
    for (int d = 0; d < t->n_dims; d++) shape[d] = t->shape[d];
    const hid_t space = t->n_dims > 0 ? H5Screate_simple(t->n_dims, shape, NULL) : H5Screate(H5S_SCALAR);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_layout(creation, H5D_CONTIGUOUS);
    H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(creation, 0); /* the same data gives the same file */
    H5Pset_create_intermediate_group(links, 1);
    const hid_t dataset = H5Dcreate2(file, t->name, file_type(t->type), space, links, creation, H5P_DEFAULT);
    if (dataset < 0) status = h5_fail(STATUS_IO, path, "cannot make dataset %s", t->name);
    if (status == STATUS_OK && t->n_bytes > 0) {
        const haddr_t offset = H5Dget_offset(dataset);
        if (offset == HADDR_UNDEF)
            status = h5_fail(STATUS_INTERNAL, path, "dataset %s has no place", t->name);
        *offset_out = offset;
    } else {
        *offset_out = 0;
    }
    if (status == STATUS_OK && t->type == STORE_BF16) status = write_text(dataset, path, "dtype", "bfloat16");
    if (dataset >= 0) H5Dclose(dataset);
    H5Pclose(links);
    H5Pclose(creation);
    H5Sclose(space);
    h5_unlock();
    return status;
}

status_t h5_write_hashes(hid_t file, const char *path, const char *name, const uint64_t *hashes,
                         size_t n_hashes, uint64_t block_bytes) {
    h5_lock();
    status_t status = STATUS_OK;
    const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0) status = h5_fail(STATUS_IO, path, "cannot open dataset %s", name);
    const hsize_t n = n_hashes;
    if (status == STATUS_OK)
        status =
            write_attribute(dataset, path, H5_HASH_ATTRIBUTE, H5T_STD_U64LE, H5T_NATIVE_UINT64, &n, hashes);
    if (status == STATUS_OK)
        status = write_attribute(dataset, path, H5_BLOCK_ATTRIBUTE, H5T_STD_U64LE, H5T_NATIVE_UINT64, NULL,
                                 &block_bytes);
    if (dataset >= 0) H5Dclose(dataset);
    h5_unlock();
    return status;
}

status_t h5_write_text(hid_t file, const char *path, const char *name, const char *text) {
    h5_lock();
    const status_t status = write_text(file, path, name, text);
    h5_unlock();
    return status;
}

status_t h5_write_integer(hid_t file, const char *path, const char *name, int64_t value) {
    h5_lock();
    const status_t status = write_attribute(file, path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, NULL, &value);
    h5_unlock();
    return status;
}

status_t h5_write_number(hid_t file, const char *path, const char *name, double value) {
    h5_lock();
    const status_t status =
        write_attribute(file, path, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, NULL, &value);
    h5_unlock();
    return status;
}

/* HDF5 cannot forget a file whose last pieces cannot be written: closing fails and the library crashes at
 * exit. So what is left goes to a file in memory in the place of the real one. */
static void divert(hid_t file) {
    int *descriptor = NULL;
    const int memory = memfd_create("abandoned", MFD_CLOEXEC);
    if (memory < 0) return;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, (void **)&descriptor) >= 0 && descriptor)
        (void)dup2(memory, *descriptor);
    close(memory);
}

void h5_abandon(hid_t file) {
    h5_lock();
    divert(file);
    H5E_BEGIN_TRY {
        H5Fclose(file);
    }
    H5E_END_TRY
    h5_unlock();
}

status_t h5_close(hid_t file, const char *path) {
    h5_lock();
    status_t status = STATUS_OK;
    if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) {
        status = h5_fail(STATUS_IO, path, "cannot finish the file");
        divert(file);
    }
    if (H5Fclose(file) < 0 && status == STATUS_OK)
        status = h5_fail(STATUS_IO, path, "cannot finish the file");
    h5_unlock();
    return status;
}
