// Any bytes as a sweep's file: refused with a fault that has a place, or expanded.
#include "launcher/sweep.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    struct sweep sweep;
    if (n_bytes > 4096) return 0;
    const status_t status = sweep_read_text("f.yaml", "folder", (const char *)data, n_bytes, &sweep);
    if (status == STATUS_BAD_CONFIG && strncmp(status_message(), "f.yaml", 6) != 0) abort();
    if (status != STATUS_OK) return 0;
    for (int i = 0; i < sweep.n_runs; i++)
        if (strncmp(sweep.runs[i].arguments[0], "run=", 4) != 0) abort();
    sweep_free(&sweep);
    return 0;
}
