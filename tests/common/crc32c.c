// CRC-32C against the vectors of RFC 3720 (iSCSI) appendix B.4 and the check value of the CRC catalogue.
#include "tests/support/test.h"

#include "common/crc32c.h"

#include <string.h>

static void known_vectors(void **state) {
    (void)state;
    uint8_t bytes[32];
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x62a8ab43);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x46dd794e);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x113fdb5c);
    static const uint8_t command[48] = {0x01, 0xc0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
                                        0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
                                        0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0};
    assert_int_equal(crc32c(command, sizeof command), 0xd9963a56);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(crc32c("", 0), 0);
}

static void every_byte_counts(void **state) {
    (void)state;
    uint8_t bytes[67];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(37 * i);
    const uint32_t whole = crc32c(bytes, sizeof bytes);
    for (size_t i = 0; i < 8 * sizeof bytes; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(crc32c(bytes, sizeof bytes), whole);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_vectors), cmocka_unit_test(every_byte_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
