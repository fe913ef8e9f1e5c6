#include "data_shards/decode.h"
#include "data_shards/pack.h"

#include <pthread.h>
#include <string.h>

/* CRC-32 of PNG (polynomial 0xedb88320), eight bytes at a time. */
static uint32_t crc_table[8][256];

static void make_crc_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            crc_table[k][i] = (crc_table[k - 1][i] >> 8) ^ crc_table[0][crc_table[k - 1][i] & 255];
}

static uint32_t crc32_of(const uint8_t *p, size_t n) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_crc_table);
    uint32_t c = ~0u;
    for (; n >= 8; n -= 8, p += 8) {
        const uint32_t low =
            c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        c = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
            crc_table[4][low >> 24] ^ crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^
            crc_table[0][p[7]];
    }
    for (; n > 0; n--, p++) c = crc_table[0][(c ^ *p) & 255] ^ (c >> 8);
    return ~c;
}

static uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Every chunk has the right CRC, and the last one is IEND at the very end. */
static bool png_is_whole(const uint8_t *bytes, size_t n) {
    size_t at = 8;
    while (n - at >= 12) {
        const size_t length = big_endian(bytes + at);
        if (length > n - at - 12) return false;
        if (crc32_of(bytes + at + 4, length + 4) != big_endian(bytes + at + 8 + length)) return false;
        const bool is_end = memcmp(bytes + at + 4, "IEND", 4) == 0;
        at += length + 12;
        if (is_end) return at == n;
    }
    return false;
}

/* Baseline, extended or progressive Huffman frame, markers in order up to the scan, and the end marker at the
 * very end. */
static bool jpeg_is_whole(const uint8_t *bytes, size_t n) {
    if (n < 4 || bytes[n - 2] != 0xff || bytes[n - 1] != 0xd9) return false;
    bool has_frame = false;
    for (size_t at = 2; n - at >= 4;) {
        if (bytes[at] != 0xff) return false;
        const uint8_t marker = bytes[at + 1];
        if (marker == 0xda) return has_frame;
        if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) {
            if (marker > 0xc2) return false;
            has_frame = true;
        }
        const size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length < 2 || length > n - at - 2) return false;
        at += 2 + length;
    }
    return false;
}

static bool webp_is_whole(const uint8_t *bytes, size_t n) {
    if (n < 12) return false;
    const uint64_t length =
        (uint64_t)bytes[4] | (uint64_t)bytes[5] << 8 | (uint64_t)bytes[6] << 16 | (uint64_t)bytes[7] << 24;
    return length + 8 == n;
}

status_t pack_check_image(const uint8_t *bytes, size_t n_bytes, enum pack_check check,
                          struct image *scratch) {
    CHECK(n_bytes > 0, STATUS_BAD_DATA, "the file is empty");
    struct image_info info;
    TRY(decode_probe(bytes, n_bytes, &info));
    if (check == PACK_CHECK_STRUCTURE) {
        if (info.format == IMAGE_PNG && png_is_whole(bytes, n_bytes)) return STATUS_OK;
        if (info.format == IMAGE_JPEG && jpeg_is_whole(bytes, n_bytes)) return STATUS_OK;
        if (info.format == IMAGE_WEBP && webp_is_whole(bytes, n_bytes)) return STATUS_OK;
    }
    return decode_image(bytes, n_bytes, scratch);
}
