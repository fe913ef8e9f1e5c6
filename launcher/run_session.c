#include "launcher/run_session.h"

#include "common/file.h"
#include "common/log.h"
#include "launcher/config.h"
#include "launcher/place_world.h"
#include "launcher/run_folder.h"
#include "launcher/topology.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static enum dtype choose_precision(const struct settings *settings, const struct device *device) {
    if (settings->precision == PRECISION_AUTO) return device->plugin ? DTYPE_BF16 : DTYPE_F32;
    if (settings->precision != PRECISION_BF16) return DTYPE_F32;
    if (!device->plugin && !cpu_has_bf16())
        log_global(LOG_WARNING,
                   "precision bf16: this CPU has no bf16 arithmetic, expect it to be slower than fp32");
    return DTYPE_BF16;
}

/* Decoding threads: the cores of this rank but one. */
static status_t choose_workers(const struct launch_context *context, const struct settings *settings,
                               int32_t *out) {
    *out = (int32_t)settings->data.workers;
    if (*out > 0) return STATUS_OK;
    struct topology topology;
    TRY(topology_find(&topology));
    const int cores = topology.n_cores / (context->n_local_ranks > 0 ? context->n_local_ranks : 1);
    *out = cores > 2 ? cores - 1 : 1;
    return STATUS_OK;
}

static status_t open_run(struct run_session *s, const struct settings *settings,
                         volatile sig_atomic_t *stop) {
    for (int p = 0; p < settings->n_peers; p++)
        s->members[p] = (struct comm_membership){.name = settings->peers[p].name,
                                                 .ranks = s->placement.group[p],
                                                 .n_ranks = s->placement.group_size[p]};
    struct run_options options = {.settings = settings,
                                  .world = s->context->world,
                                  .members = s->members,
                                  .ops = s->device.ops,
                                  .be = s->device.be,
                                  .precision = choose_precision(settings, &s->device),
                                  .stop = stop};
    TRY(choose_workers(s->context, settings, &options.n_workers));
    return run_open(&options, &s->run);
}

/* Show the placement and keep it as RUN/placement.txt, for the report. Collective over context->world. */
static status_t note_placement(struct launch_context *context, const struct settings *settings,
                               const struct placement *placement) {
    char *text = NULL, *path = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    CHECK(out, STATUS_NO_MEMORY, "out of memory for the placement");
    const time_t now = time(NULL);
    char date[64] = "";
    struct tm when;
    if (gmtime_r(&now, &when)) strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &when);
    fprintf(out, "marrs_dist %s, started %s\n", MARRS_VERSION, date);
    const long n_head = ftell(out);
    status_t status = place_world_print(context, settings, placement, out);
    const bool whole = fclose(out) == 0;
    if (status != STATUS_OK || context->rank != 0) goto done;
    CHECK_TO(done, whole && n_head > 0, STATUS_NO_MEMORY, "out of memory for the placement");
    fputs(text + n_head, stdout);
    fflush(stdout);
    TRY_TO(done, run_folder_prepare(settings));
    path = file_join(settings->run, "placement.txt");
    CHECK_TO(done, path, STATUS_NO_MEMORY, "out of memory for a path");
    if (file_write_atomic(path, text, n) != STATUS_OK) log_global(LOG_WARNING, "%s", status_message());
done:
    free(path);
    free(text);
    return status;
}

status_t run_session_open(struct launch_context *context, const struct settings *settings,
                          const struct run_session_options *options, struct run_session *out) {
    struct run_session s = {.context = context};
    struct devices devices;
    status_t status;
    comm_set_deadline(context->world, settings->comm.startup_deadline_s);
    TRY_TO(fail, place_devices(context, settings, &devices));
    TRY_TO(fail, place_world(context, settings, &devices, &s.placement));
    if (options->prepare_folder) {
        TRY_TO(fail, note_placement(context, settings, &s.placement));
        TRY_TO(fail, comm_barrier(context->world));
    }
    TRY_TO(fail, device_open(devices.choice,
                             &(struct device_options){.index = s.placement.device[context->rank],
                                                      .autotune = settings->cuda.autotune},
                             &s.device));
    if (s.device.plugin) TRY_TO(fail, s.device.plugin->comm_open(context->world, s.device.be));
    TRY_TO(fail, open_run(&s, settings, options->stop));
    comm_set_deadline(context->world, settings->comm.deadline_s);
    *out = s;
    return STATUS_OK;
fail:
    return run_session_close(&s, status);
}

/* What still runs between the GPUs is aborted before its memory goes; in order, groups end before the world.
 */
status_t run_session_close(struct run_session *s, status_t status) {
    const struct cuda_plugin *plugin = s->device.plugin;
    const bool failed = status != STATUS_OK && status != STATUS_STOPPED;
    if (plugin && failed) (void)plugin->comm_close(s->context->world, s->device.be, true);
    run_close(s->run);
    if (plugin && !failed) {
        const status_t closed = plugin->comm_close(s->context->world, s->device.be, false);
        if (status == STATUS_OK) status = closed;
    }
    device_close(&s->device);
    placement_free(&s->placement);
    memset(s, 0, sizeof *s);
    return status;
}

status_t run_session_print_results(const struct run_session *s, FILE *out) {
    const struct run *run = s->run;
    const char *models[SETTINGS_MAX_PEERS + 2];
    int32_t n = 0;
    if (!run->writes) return STATUS_OK;
    for (int32_t p = 0; p < run->n_peers; p++) models[n++] = run->peers[p].settings->name;
    if (run->n_peers > 1) models[n++] = "ensemble";
    models[n++] = "student";
    char *table = results_table(run->results, models, n);
    CHECK(table, STATUS_NO_MEMORY, "out of memory for the results");
    fputs(table, out);
    free(table);
    return STATUS_OK;
}

status_t run_session_settings(const char *run_folder, struct settings *out) {
    char *path = file_join(run_folder, "config.yaml");
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    status_t status = file_exists(path) ? config_read(path, NULL, out)
                                        : FAIL(STATUS_MISSING,
                                               "%s is no run's directory: it has no config.yaml", run_folder);
    free(path);
    if (status != STATUS_OK) return status;
    char *folder = strdup(run_folder); /* the directory may have been moved since */
    CHECK(folder, STATUS_NO_MEMORY, "out of memory for a path");
    free(out->run);
    out->run = folder;
    return STATUS_OK;
}
