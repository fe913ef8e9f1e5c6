/* The door to the GPU: libmarrs_cuda.so, opened only when a GPU is asked for, so that the program starts on
 * hosts without driver or CUDA libraries and can say what is missing.
 *
 * Looked for as $MARRS_CUDA_PLUGIN, beside the program, then in ../lib/marrs_dist. Its twin for tests,
 * libmarrs_cuda_cpu.so (device: cuda-emulated; $MARRS_CUDA_TWIN), is the same sources with kernels, CUDA
 * runtime, cuBLASLt and NCCL on the CPU. The plugin uses this program's own status, log and comm functions.
 */
#ifndef LAUNCHER_CUDA_PLUGIN_H
#define LAUNCHER_CUDA_PLUGIN_H

#include "comm/comm.h"
#include "models/ops/ops.h"

#define CUDA_PLUGIN_ABI 3

/* What the plugin exports, by the function marrs_cuda_plugin(). */
struct cuda_plugin {
    int32_t abi;         /* CUDA_PLUGIN_ABI */
    const char *version; /* of the program it was built with */
    const struct ops *ops;

    /* Can a GPU be had? STATUS_MISSING with the reason and the remedy: no driver, a driver too old, no GPU.
     * *n_devices as CUDA counts them; `text` (n_text bytes) = "CUDA 13.0, driver 13.0, cuBLASLt 13.1, ...".
     */
    status_t (*probe)(int *n_devices, char *text, size_t n_text);
    /* Name, compute capability and memory of one device, as text. */
    status_t (*describe)(int device, char *text, size_t n_text);

    status_t (*backend_open)(int device, bool autotune, struct backend **out);
    void (*backend_close)(struct backend *be);

    /* Let the world, and groups that are made from it, move memory of the device: comm.h over NCCL
     * (comm/cuda/ nccl.h). Collective over the world. */
    status_t (*comm_open)(struct comm *world, struct backend *be);
    /* Before the backend is closed, and before comm_finish(). In order: collective over the world, after its
     * groups are freed. failed: waits for nobody, aborts what is under way; before anything of the backend is
     * released. */
    status_t (*comm_close)(struct comm *world, struct backend *be, bool failed);
};

/* Opens the plugin once; later calls give the same. STATUS_MISSING with the loader's own words where it, or a
 * library that it needs, is not there; STATUS_INTERNAL for one of another version. */
status_t cuda_plugin_open(bool emulated, const struct cuda_plugin **out);

#endif
