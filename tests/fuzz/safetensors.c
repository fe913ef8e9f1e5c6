/* Any bytes as a safetensors file (make fuzz-run TARGET=safetensors). Whatever is accepted is read in full.
 */
#include "models/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct safetensors *file = NULL;
    if (safetensors_open_memory(bytes, n_bytes, "fuzz", &file) != STATUS_OK) return 0;
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensor *tensor = safetensors_at(file, i);
        if (safetensors_find(file, tensor->name) != tensor) abort();
        float *x = malloc((size_t)tensor->n_elem * sizeof *x + 1);
        if (!x) continue;
        if (safetensor_read_f32(file, tensor, x) != STATUS_OK) abort();
        (void)safetensor_read_i32(file, tensor, (int32_t *)x);
        free(x);
    }
    const char *key, *value;
    for (int32_t i = 0; safetensors_metadata_at(file, i, &key, &value); i++)
        if (!safetensors_metadata(file, key)) abort();
    (void)safetensors_hash(file);
    safetensors_close(file);
    return 0;
}
