// An image written as PNG and decoded again has the same pixels.
#include <stdlib.h>
#include <string.h>
#include "tests/support/test.h"
#include "data_shards/decode.h"
#include "data_shards/encode_png.h"

static void pixels_come_back(void **state) {
    (void)state;
    static const int32_t sizes[][2] = {{1, 1}, {3, 7}, {96, 64}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct image in = {0}, out = {0};
        uint8_t *bytes;
        size_t n_bytes;
        assert_ok(image_reshape(&in, sizes[s][0], sizes[s][1]));
        for (size_t i = 0; i < image_n_bytes(&in); i++) in.data[i] = (uint8_t)(i * 37 + i / 5);
        assert_ok(encode_png(&in, &bytes, &n_bytes));
        assert_int_equal(decode_format(bytes, n_bytes), IMAGE_PNG);
        assert_ok(decode_image(bytes, n_bytes, &out));
        assert_int_equal(out.height, in.height);
        assert_int_equal(out.width, in.width);
        assert_memory_equal(out.data, in.data, image_n_bytes(&in));
        free(bytes);
        image_free(&in);
        image_free(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(pixels_come_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
