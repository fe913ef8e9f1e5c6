#include "tests/support/cuda_twin.h"

#include "tests/support/test.h"

#include <dlfcn.h>
#include <stdlib.h>

const struct cuda_plugin *cuda_twin(void) {
    const struct cuda_plugin *plugin;
    if (!getenv("MARRS_CUDA_TWIN")) return NULL;
    assert_ok(cuda_plugin_open(true, &plugin));
    return plugin;
}

void cuda_twin_seed(int n) {
    const char *first = getenv("COC_SEED");
    void (*seed)(uint64_t) = NULL;
    void *handle = dlopen(getenv("MARRS_CUDA_TWIN"), RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(handle);
    *(void **)&seed = dlsym(handle, "coc_seed");
    assert_non_null(seed);
    seed((first && *first ? strtoull(first, NULL, 10) : 1) + (uint64_t)n);
    dlclose(handle);
}
