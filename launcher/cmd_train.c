/* marrs_dist [train]: every stage of a configuration that is not done yet. */
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/place_world.h"
#include "launcher/run_folder.h"
#include "launcher/topology.h"

#include "comm/comm.h"
#include "common/log.h"
#include "training/run.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static volatile sig_atomic_t stop_wanted;

/* The first signal asks for a clean stop at the end of the step, the second ends the process at once. */
static void on_signal(int number) {
    stop_wanted = 1;
    signal(number, SIG_DFL);
}

static void catch_signals(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigaction(numbers[i], &action, NULL);
    }
}

struct train_options {
    const char *config;
    struct config_overrides overrides;
};

/* key=value arguments are moved to the front of argv. */
static status_t parse(int argc, char **argv, struct train_options *o) {
    static const char *const known[] = {"--help", NULL};
    int n_kept = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) return command_unknown_option("train", argv[i], known);
        if (!o->config && !strchr(argv[i], '=')) {
            o->config = argv[i];
            continue;
        }
        CHECK(strchr(argv[i], '='), STATUS_USAGE, "train: %s is neither key=value nor the only configuration file",
              argv[i]);
        argv[n_kept++] = argv[i];
    }
    o->overrides = (struct config_overrides){.n_arguments = n_kept, .arguments = argv, .environment = environ};
    return STATUS_OK;
}

/* The device that the configuration asks for. */
static status_t check_device(const struct settings *settings) {
    CHECK(settings->device == DEVICE_AUTO || settings->device == DEVICE_CPU, STATUS_MISSING,
          "device: this build has no CUDA backend; use device=cpu, or device=auto to take what there is");
    if (settings->device == DEVICE_AUTO) log_global(LOG_INFO, "device auto: the CPU, this build has no CUDA backend");
    return STATUS_OK;
}

static enum dtype choose_precision(const struct settings *settings) {
    if (settings->precision != PRECISION_BF16) return DTYPE_F32;
    if (!cpu_has_bf16())
        log_global(LOG_WARNING, "precision bf16: this CPU has no bf16 arithmetic, expect it to be slower than fp32");
    return DTYPE_BF16;
}

/* Decoding threads: the cores of this rank but one. */
static status_t choose_workers(const struct launch_context *context, const struct settings *settings, int32_t *out) {
    *out = (int32_t)settings->data.workers;
    if (*out > 0) return STATUS_OK;
    struct topology topology;
    TRY(topology_find(&topology));
    const int cores = topology.n_cores / (context->n_local_ranks > 0 ? context->n_local_ranks : 1);
    *out = cores > 2 ? cores - 1 : 1;
    return STATUS_OK;
}

static status_t run_all(struct launch_context *context, const struct settings *settings,
                        const struct placement *placement, struct backend *be) {
    struct comm_membership members[SETTINGS_MAX_PEERS];
    for (int p = 0; p < settings->n_peers; p++)
        members[p] = (struct comm_membership){
            .name = settings->peers[p].name, .ranks = placement->group[p], .n_ranks = placement->group_size[p]};
    struct run_options options = {.settings = settings,
                                  .world = context->world,
                                  .members = members,
                                  .ops = &ops_cpu,
                                  .be = be,
                                  .precision = choose_precision(settings),
                                  .stop = &stop_wanted};
    TRY(choose_workers(context, settings, &options.n_workers));
    struct run *run;
    TRY(run_open(&options, &run));
    const status_t status = run_stages(run);
    run_close(run);
    return status;
}

static status_t train(struct launch_context *context, const struct settings *settings) {
    struct placement placement = {.n_peers = 0};
    struct backend *be = NULL;
    status_t status;
    comm_set_deadline(context->world, settings->comm.startup_deadline_s);
    TRY_TO(done, check_device(settings));
    TRY_TO(done, ops_check(&ops_cpu));
    TRY_TO(done, place_world(context, settings, &placement));
    TRY_TO(done, place_world_print(context, settings, &placement, stdout));
    if (context->rank == 0) TRY_TO(done, run_folder_prepare(settings));
    TRY_TO(done, comm_barrier(context->world));
    TRY_TO(done, cpu_backend_open(0, &be));
    comm_set_deadline(context->world, settings->comm.deadline_s);
    catch_signals();
    status = run_all(context, settings, &placement, be);
done:
    cpu_backend_close(be);
    placement_free(&placement);
    return status;
}

status_t cmd_train(struct launch_context *context, int argc, char **argv) {
    struct train_options options = {.config = NULL};
    struct settings settings = {.run = NULL};
    char *default_path = NULL;
    status_t status = STATUS_OK;
    TRY(parse(argc, argv, &options));
    if (!options.config) {
        TRY(config_default_path(&default_path));
        options.config = default_path;
    }
    TRY_TO(done, config_read(options.config, &options.overrides, &settings));
    log_set_level((log_level_t)settings.log.level);
    status = train(context, &settings);
done:
    settings_free(&settings);
    free(default_path);
    return status;
}
