#include "tests/support/cuda_twin.h"

#include "tests/support/test.h"

#include <stdlib.h>

const struct cuda_plugin *cuda_twin(void) {
    const struct cuda_plugin *plugin;
    if (!getenv("MARRS_CUDA_TWIN")) return NULL;
    assert_ok(cuda_plugin_open(true, &plugin));
    return plugin;
}
