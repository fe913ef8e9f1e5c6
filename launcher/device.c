#include "launcher/device.h"

#include <stdio.h>
#include <string.h>

status_t device_named(const char *text, enum device_choice *out) {
    static const char *const names[] = {[DEVICE_AUTO] = "auto",
                                        [DEVICE_CPU] = "cpu",
                                        [DEVICE_CUDA] = "cuda",
                                        [DEVICE_CUDA_EMULATED] = "cuda-emulated"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum device_choice)i;
            return STATUS_OK;
        }
    return FAIL(STATUS_USAGE, "--device is auto, cpu or cuda, not \"%.64s\"", text);
}

static status_t find_gpus(bool emulated, int *n_devices) {
    const struct cuda_plugin *plugin;
    char text[256];
    TRY(cuda_plugin_open(emulated, &plugin));
    return plugin->probe(n_devices, text, sizeof text);
}

status_t device_settle(enum device_choice wanted, enum device_choice *out, int *n_devices, char *why,
                       size_t n_why) {
    status_t status = STATUS_OK;
    int n = 0;
    why[0] = '\0';
    if (wanted != DEVICE_CPU) status = find_gpus(wanted == DEVICE_CUDA_EMULATED, &n);
    if (wanted == DEVICE_AUTO) {
        if (status != STATUS_OK) snprintf(why, n_why, "%s", status_message());
        wanted = status == STATUS_OK ? DEVICE_CUDA : DEVICE_CPU;
        status = STATUS_OK;
    }
    TRY(status);
    *out = wanted;
    *n_devices = n;
    return STATUS_OK;
}

status_t device_open(enum device_choice choice, const struct device_options *options, struct device *out) {
    struct device d = {.choice = choice};
    if (choice == DEVICE_CPU) {
        d.ops = &ops_cpu;
        TRY(ops_check(d.ops));
        TRY(cpu_backend_open(options->n_threads, &d.be));
    } else {
        TRY(cuda_plugin_open(choice == DEVICE_CUDA_EMULATED, &d.plugin));
        d.ops = d.plugin->ops;
        TRY(d.plugin->backend_open(options->index, options->autotune, &d.be));
    }
    *out = d;
    return STATUS_OK;
}

void device_close(struct device *device) {
    if (device->plugin)
        device->plugin->backend_close(device->be);
    else
        cpu_backend_close(device->be);
    *device = (struct device){.choice = DEVICE_CPU};
}

status_t device_check_precision(const struct device *device, enum dtype dtype, const char *what) {
    CHECK(dtype == DTYPE_F32 || device->plugin || cpu_has_bf16(), STATUS_USAGE,
          "%s bf16: this processor has no bf16 arithmetic (AVX512_BF16, AMX); use fp32", what);
    return STATUS_OK;
}
