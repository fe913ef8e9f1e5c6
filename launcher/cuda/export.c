/* The plugin's one export, and what it can say of the host. */
#include "comm/cuda/nccl.h"
#include "launcher/cuda_plugin.h"
#include "models/ops/cuda/backend.h"
#include "models/ops/cuda/plugin.h"

#include <stdio.h>

/* The toolkit's stub of libcuda.so answers cudaErrorStubLibrary: as good as no driver. */
static status_t probe(int *n_devices, char *text, size_t n_text) {
    int driver = 0, runtime = 0, n = 0;
    const char *use_cpu = "use device=cpu, or device=auto to take GPUs only where there are any";
    (void)cudaRuntimeGetVersion(&runtime);
    CHECK(cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0, STATUS_MISSING,
          "no NVIDIA driver on this host; %s", use_cpu);
    const cudaError_t error = cudaGetDeviceCount(&n);
    (void)cudaGetLastError();
    CHECK(error != cudaErrorInsufficientDriver, STATUS_MISSING,
          "the NVIDIA driver of this host supports CUDA %d.%d, %d.%d is needed (a newer driver); %s",
          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, use_cpu);
    CHECK(error != cudaErrorStubLibrary, STATUS_MISSING,
          "no NVIDIA driver on this host (the loader found the toolkit's stub libcuda.so); %s", use_cpu);
    CHECK(error == cudaSuccess || error == cudaErrorNoDevice, STATUS_MISSING, "no GPU can be used: %s; %s",
          cudaGetErrorString(error), use_cpu);
    CHECK(n > 0, STATUS_MISSING, "there is a driver but no GPU (is CUDA_VISIBLE_DEVICES empty?); %s",
          use_cpu);
    const size_t lt = cublasLtGetVersion();
    char nccl[32];
    nccl_version_text(nccl, sizeof nccl);
    snprintf(text, n_text, "CUDA %d.%d, driver for CUDA %d.%d, cuBLASLt %zu.%zu.%zu, %s", runtime / 1000,
             runtime % 1000 / 10, driver / 1000, driver % 1000 / 10, lt / 10000, lt / 100 % 100, lt % 100,
             nccl);
    *n_devices = n;
    return STATUS_OK;
}

static status_t describe(int device, char *text, size_t n_text) {
    struct cudaDeviceProp p;
    TRY_CUDA(cudaGetDeviceProperties(&p, device));
    snprintf(text, n_text, "%s, compute capability %d.%d, %.1f GiB, %d multiprocessors", p.name, p.major,
             p.minor, (double)p.totalGlobalMem / (1 << 30), p.multiProcessorCount);
    return STATUS_OK;
}

static status_t comm_open(struct comm *world, struct backend *be) {
    TRY(nccl_open(world, be->device, be->stream));
    if (comm_size(world) == 1) return STATUS_OK; /* nobody to wait for */
    be->look = nccl_look;
    be->look_context = world;
    return STATUS_OK;
}

static status_t comm_close(struct comm *world, struct backend *be, bool failed) {
    be->look = NULL;
    return nccl_close(world, failed);
}

__attribute__((visibility("default"))) const struct cuda_plugin *marrs_cuda_plugin(void);

const struct cuda_plugin *marrs_cuda_plugin(void) {
    static const struct cuda_plugin plugin = {.abi = CUDA_PLUGIN_ABI,
                                              .version = MARRS_VERSION,
                                              .ops = &ops_cuda,
                                              .probe = probe,
                                              .describe = describe,
                                              .backend_open = cuda_backend_open,
                                              .backend_close = cuda_backend_close,
                                              .comm_open = comm_open,
                                              .comm_close = comm_close};
    return &plugin;
}
