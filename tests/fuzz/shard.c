/* libFuzzer target: a shard whose tables hold anything, and any bytes as a shard file.
 *
 * The first byte chooses. Even: the bytes become the tables of a well-formed store, so that the checks of the
 * shard reader itself are reached. Odd: the rest is the file. Files of newer HDF5 formats go to the HDF5
 * library, which is not instrumented, and are only run with FUZZ_HDF5=1.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -DHAVE_WEBP -I. -isystem
 * /usr/include/hdf5/serial \
 *     tests/fuzz/shard.c
 * data_shards/{store_read,store_write,h5_read,h5_write,h5_lock,h5_plain,h5_plain_message,seal,shard_read,shard_write}.c
 * \
 *     data_shards/{image,decode,decode_jpeg,decode_png,decode_webp}.c common/{status,memory,file}.c \
 *     $(pkg-config --libs hdf5 libjpeg libpng libwebp libxxhash) -lm -lpthread -o build/fuzz-shard
 *   build/fuzz-shard -max_total_time=600 tests/fuzz/corpus/shard */
#include "common/file.h"
#include "data_shards/shard.h"
#include "data_shards/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static char path[96];

static void remove_file(void) {
    unlink(path);
}

/* Everything that is accepted is read. */
static void read_all(void) {
    struct shard *shard;
    if (shard_open(path, &shard) != STATUS_OK) return;
    struct shard_buffer buffer = {0};
    struct image image = {0};
    for (size_t i = 0; i < shard_n_images(shard); i++) {
        if (shard_label(shard, i) >= (int32_t)shard_n_classes(shard) || strlen(shard_id(shard, i)) == 0)
            abort();
        if (shard_read(shard, i, false, &buffer) != STATUS_OK) continue;
        if (shard_image_bytes(shard, i) < 4096) (void)shard_decode(shard, i, &buffer, &image);
    }
    for (size_t k = 0; k < shard_n_classes(shard); k++) (void)strlen(shard_class_name(shard, k));
    image_free(&image);
    free(buffer.data);
    shard_close(shard);
}

/* Rows of a table from the input: the next bytes, sign-extended so that small and wild values are both near.
 */
static size_t take(const uint8_t **bytes, size_t *n_bytes, uint64_t *rows, size_t capacity) {
    size_t n = 0;
    if (*n_bytes == 0) return 0;
    const size_t wanted = **bytes % (capacity + 1);
    for (*bytes += 1, *n_bytes -= 1; n<wanted && * n_bytes> 0; n++, *bytes += 1, *n_bytes -= 1)
        rows[n] = **bytes < 224 ? **bytes : ~(uint64_t)0 << (*(*bytes) - 224) * 2;
    return n;
}

static void write_tables(const uint8_t *bytes, size_t n_bytes) {
    uint64_t offset[8], id_offset[8], class_offset[8], hash[8], label[8];
    const uint64_t n_offset = take(&bytes, &n_bytes, offset, 8), n_id = take(&bytes, &n_bytes, id_offset, 8),
                   n_class = take(&bytes, &n_bytes, class_offset, 8),
                   n_hash = take(&bytes, &n_bytes, hash, 8), n_label = take(&bytes, &n_bytes, label, 8),
                   n_rest = n_bytes;
    int32_t labels[8];
    for (uint64_t i = 0; i < n_label; i++) labels[i] = (int32_t)label[i];
    struct store_writer *w;
    if (store_writer_open(path, SHARD_FORMAT, SHARD_VERSION, &w) != STATUS_OK) abort();
    if (store_writer_set_text(w, "domain", "d") != STATUS_OK ||
        store_writer_set_text(w, "encoding", "encoded") != STATUS_OK ||
        store_writer_put(w, "image/data", STORE_U8, 1, &n_rest, bytes) != STATUS_OK ||
        store_writer_put(w, "image/offset", STORE_U64, 1, &n_offset, offset) != STATUS_OK ||
        store_writer_put(w, "image/hash", STORE_U64, 1, &n_hash, hash) != STATUS_OK ||
        store_writer_put(w, "label", STORE_I32, 1, &n_label, labels) != STATUS_OK ||
        store_writer_put(w, "id/data", STORE_U8, 1, &n_rest, bytes) != STATUS_OK ||
        store_writer_put(w, "id/offset", STORE_U64, 1, &n_id, id_offset) != STATUS_OK ||
        store_writer_put(w, "class/data", STORE_U8, 1, &n_rest, bytes) != STATUS_OK ||
        store_writer_put(w, "class/offset", STORE_U64, 1, &n_class, class_offset) != STATUS_OK ||
        store_writer_commit(w) != STATUS_OK)
        abort();
}

static void write_file(const uint8_t *bytes, size_t n_bytes) {
    unlink(path);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n_bytes, f) != n_bytes || fclose(f) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    if (path[0] == '\0') {
        snprintf(path, sizeof path, "/dev/shm/fuzz-shard-%ld.h5", (long)getpid());
        atexit(remove_file);
    }
    if (n_bytes < 2) return 0;
    if (bytes[0] % 2 == 0) {
        write_tables(bytes + 1, n_bytes - 1);
    } else {
        const bool newer = n_bytes > 9 && memcmp(bytes + 1, "\x89HDF\r\n\x1a\n", 8) == 0 && bytes[9] > 1;
        if (newer && !getenv("FUZZ_HDF5")) return 0;
        write_file(bytes + 1, n_bytes - 1);
    }
    read_all();
    return 0;
}
