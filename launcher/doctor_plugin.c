/* doctor: GPUs as a run would take them, through the program's own plugin. */
#include "launcher/doctor.h"

#include <stdio.h>
#include <string.h>

static status_t ask(bool emulated, struct doctor_plugin *out) {
    const struct cuda_plugin *plugin;
    int n = 0;
    TRY(cuda_plugin_open(emulated, &plugin));
    TRY(plugin->probe(&n, out->versions, sizeof out->versions));
    for (int i = 0; i < n && i < 8; i++) TRY(plugin->describe(i, out->devices[i], sizeof out->devices[i]));
    out->n_devices = n;
    return STATUS_OK;
}

void doctor_look_plugin(enum device_choice device, struct doctor_plugin *out) {
    if (device == DEVICE_CPU) return;
    if (ask(device == DEVICE_CUDA_EMULATED, out) != STATUS_OK)
        snprintf(out->reason, sizeof out->reason, "%s", status_message());
}

/* The plugin's messages are "reason; remedy". */
static const char *split_remedy(char *reason) {
    char *end = NULL;
    for (char *p = reason; (p = strstr(p, "; ")); p += 2) end = p;
    if (!end)
        return "install CUDA's libraries where the loader finds them (LD_LIBRARY_PATH); make info says which";
    *end = '\0';
    return end + 2;
}

static void judge_missing(struct doctor *d, struct doctor_rank *r, bool any_driver) {
    const bool asked = d->device == DEVICE_CUDA || d->device == DEVICE_CUDA_EMULATED;
    const char *remedy = split_remedy(r->plugin.reason);
    d->n_without_gpu += asked;
    if (asked || any_driver)
        doctor_find(d, DOCTOR_WARNING, remedy, "%s: no GPU can be had: %s", r->host, r->plugin.reason);
    else
        doctor_find(d, DOCTOR_OK, NULL, "%s: CPU only: %s", r->host, r->plugin.reason);
}

void doctor_judge_plugins(struct doctor *d, bool any_driver) {
    for (int r = 0; r < d->n_ranks; r++) {
        struct doctor_rank *own = &d->ranks[r];
        if (own->local_rank != 0) continue;
        if (d->device == DEVICE_CPU) {
            doctor_find(d, DOCTOR_OK, NULL, "%s: CPU only: asked for", own->host);
        } else if (own->plugin.n_devices == 0) {
            judge_missing(d, own, any_driver);
        } else {
            doctor_find(d, DOCTOR_OK, NULL, "%s: GPU support works: %s", own->host, own->plugin.versions);
            for (int i = 0; i < own->plugin.n_devices && i < 8; i++)
                doctor_note(d, "%s device %d: %s", own->host, i, own->plugin.devices[i]);
        }
    }
}
