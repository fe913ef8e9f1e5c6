/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, start and end inverted): the checksum of TFRecord
 * files. For logs; data of a run is guarded by xxHash. */
#ifndef COMMON_CRC32C_H
#define COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of n_bytes; of nothing it is 0. */
uint32_t crc32c(const void *bytes, size_t n_bytes);

/* The form in which TFRecord stores it: a checksum of data that holds checksums would be weak. */
static inline uint32_t crc32c_masked(const void *bytes, size_t n_bytes) {
    const uint32_t crc = crc32c(bytes, n_bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

#endif
