/* doctor: GPUs, through the driver's own two libraries where they are installed. They are opened by hand:
 * this program must start where there is neither. */
#include "launcher/doctor.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

struct nvml_memory {
    unsigned long long total, free, used; /* bytes */
};

/* Of nvml.h: names, arguments and results; 0 is success everywhere. */
struct nvml {
    int (*init)(void);
    int (*shutdown)(void);
    int (*driver)(char *text, unsigned n_bytes);
    int (*count)(unsigned *n);
    int (*handle)(unsigned index, void **device);
    int (*name)(void *device, char *text, unsigned n_bytes);
    int (*memory)(void *device, struct nvml_memory *out);
};

static bool find_function(void *library, const char *name, void *out) {
    void *symbol = dlsym(library, name);
    memcpy(out, &symbol, sizeof symbol); /* ISO C knows no cast from an object to a function */
    return symbol != NULL;
}

static bool load_nvml(void *library, struct nvml *nvml) {
    return find_function(library, "nvmlInit_v2", &nvml->init) &&
           find_function(library, "nvmlShutdown", &nvml->shutdown) &&
           find_function(library, "nvmlSystemGetDriverVersion", &nvml->driver) &&
           find_function(library, "nvmlDeviceGetCount_v2", &nvml->count) &&
           find_function(library, "nvmlDeviceGetHandleByIndex_v2", &nvml->handle) &&
           find_function(library, "nvmlDeviceGetName", &nvml->name) &&
           find_function(library, "nvmlDeviceGetMemoryInfo", &nvml->memory);
}

static void ask_nvml(struct doctor_gpu *out) {
    struct nvml nvml;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    unsigned n = 0;
    if (!library) return;
    if (!load_nvml(library, &nvml)) {
        snprintf(out->problem, sizeof out->problem, "libnvidia-ml.so.1 lacks functions of NVML");
    } else if (nvml.init() != 0) {
        snprintf(out->problem, sizeof out->problem,
                 "NVML does not start: the driver's kernel module is not loaded, or of "
                 "another version than its libraries");
    } else {
        if (nvml.driver(out->driver, sizeof out->driver) != 0) out->driver[0] = '\0';
        if (nvml.count(&n) == 0) out->n_driver = (int)n;
        for (unsigned i = 0; i < n && i < 8; i++) {
            void *device = NULL;
            struct nvml_memory memory = {0};
            if (nvml.handle(i, &device) != 0) continue;
            if (nvml.name(device, out->names[i], sizeof out->names[i]) != 0) out->names[i][0] = '\0';
            if (nvml.memory(device, &memory) == 0) out->memory_bytes[i] = (int64_t)memory.total;
        }
        nvml.shutdown();
    }
    dlclose(library);
}

/* libcuda says what this process may really use. It is never closed: it does not survive that. */
static void ask_cuda(struct doctor_gpu *out) {
    int (*init)(unsigned), (*version)(int *), (*count)(int *);
    int n = 0;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library || !find_function(library, "cuInit", &init) ||
        !find_function(library, "cuDriverGetVersion", &version) ||
        !find_function(library, "cuDeviceGetCount", &count))
        return;
    if (version(&n) == 0) snprintf(out->cuda, sizeof out->cuda, "%d.%d", n / 1000, n % 1000 / 10);
    const int code = init(0);
    enum { NO_DEVICE = 100 }; /* CUDA_ERROR_NO_DEVICE */
    if (code == 0 && count(&n) == 0)
        out->n_usable = n;
    else if (code != 0 && code != NO_DEVICE && out->problem[0] == '\0')
        snprintf(out->problem, sizeof out->problem, "cuInit returns %d", code);
}

void doctor_look_gpu(struct doctor_gpu *out) {
    ask_nvml(out);
    ask_cuda(out);
}
