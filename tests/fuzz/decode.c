/* libFuzzer target: any bytes as an image file. What is accepted has the sides that probing says, and
 * readable pixels. make fuzz-run TARGET=decode SECONDS=600 */
#include "data_shards/decode.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct image_info info;
    struct image image = {0};
    const status_t probed = decode_probe(bytes, n_bytes, &info);
    if (decode_image(bytes, n_bytes, &image) == STATUS_OK) {
        if (probed != STATUS_OK || info.height != image.height || info.width != image.width) abort();
        volatile uint32_t sum = 0;
        for (size_t i = 0; i < image_n_bytes(&image); i++) sum += image.data[i];
    } else if (!status_message()[0]) {
        abort();
    }
    image_free(&image);
    return 0;
}
