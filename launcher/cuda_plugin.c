#include "launcher/cuda_plugin.h"

#include "common/file.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folder of the running program, without the last slash; "" where it cannot be told. */
static void program_folder(char *path, size_t n_bytes) {
    const ssize_t n = readlink("/proc/self/exe", path, n_bytes - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash) *slash = '\0';
}

static status_t load(const char *path, void **handle) {
    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(*handle, STATUS_MISSING, "GPU support cannot be loaded: %.500s", dlerror());
    return STATUS_OK;
}

/* The first of the places that has the file; what it needs may still be missing. */
static status_t load_from_places(const char *name, void **handle) {
    char folder[3072], path[4096];
    program_folder(folder, sizeof folder);
    const char *const places[] = {"", "/../lib/marrs_dist", "/.."};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%s%s/%s", folder, places[i], name);
        if (file_exists(path)) return load(path, handle);
    }
    return FAIL(STATUS_MISSING,
                "there is no %s beside the program (%s) or in ../lib/marrs_dist: this installation was built "
                "without GPU support; build it where the CUDA toolkit is (make info), or use device=cpu",
                name, folder);
}

status_t cuda_plugin_open(bool emulated, const struct cuda_plugin **out) {
    static const struct cuda_plugin *opened[2];
    if (!opened[emulated]) {
        const char *given = getenv(emulated ? "MARRS_CUDA_TWIN" : "MARRS_CUDA_PLUGIN");
        void *handle;
        if (given && *given)
            TRY(load(given, &handle));
        else
            TRY(load_from_places(emulated ? "libmarrs_cuda_cpu.so" : "libmarrs_cuda.so", &handle));
        const struct cuda_plugin *(*entry)(void);
        *(void **)&entry = dlsym(handle, "marrs_cuda_plugin");
        CHECK(entry, STATUS_INTERNAL, "GPU support: not a plugin of this program: %.500s", dlerror());
        const struct cuda_plugin *plugin = entry();
        CHECK(plugin->abi == CUDA_PLUGIN_ABI && strcmp(plugin->version, MARRS_VERSION) == 0, STATUS_INTERNAL,
              "GPU support is of marrs_dist %s (interface %d), this program is %s (interface %d); install "
              "both from one build",
              plugin->version, plugin->abi, MARRS_VERSION, CUDA_PLUGIN_ABI);
        TRY(ops_check(plugin->ops));
        opened[emulated] = plugin;
    }
    *out = opened[emulated];
    return STATUS_OK;
}
