/* What a process computes on: the CPU, a GPU, or the GPU's twin on the CPU (tests). */
#ifndef LAUNCHER_DEVICE_H
#define LAUNCHER_DEVICE_H

#include "launcher/cuda_plugin.h"
#include "training/settings.h"

struct device {
    enum device_choice choice; /* never DEVICE_AUTO */
    const struct ops *ops;
    struct backend *be;
    const struct cuda_plugin *plugin; /* NULL on the CPU */
};

/* "auto", "cpu", "cuda", "cuda-emulated"; STATUS_USAGE otherwise. */
status_t device_named(const char *text, enum device_choice *out);

/* Settle `auto`: GPUs where plugin, driver and a GPU are there, else the CPU; `why` (n_why bytes) then says
 * what is missing ("" elsewhere). STATUS_MISSING with reason and remedy where a GPU is asked for that cannot
 * be had. *n_devices: GPUs of this host that the process sees (the twin counts 1), 0 on the CPU. */
status_t device_settle(enum device_choice wanted, enum device_choice *out, int *n_devices, char *why,
                       size_t n_why);

struct device_options {
    int index;         /* GPU of this host */
    bool autotune;     /* GPU: cuda.autotune */
    int32_t n_threads; /* CPU; 0: as OpenMP decides */
};

/* Open a settled choice. Owned by the caller until device_close(). */
status_t device_open(enum device_choice choice, const struct device_options *options, struct device *out);
void device_close(struct device *device); /* of one that was never opened, too */

/* bf16 worth having there? STATUS_USAGE names `what` otherwise. */
status_t device_check_precision(const struct device *device, enum dtype dtype, const char *what);

#endif
