/* marrs_dist plan: where the peers of a configuration would run. */
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/place_world.h"
#include "launcher/plan_memory.h"

#include "common/memory.h"

#include <stdlib.h>
#include <string.h>

extern char **environ;

struct plan_options {
    const char *config;
    int n_nodes, n_gpus, n_ranks; /* of a machine that is only imagined; 0: not given */
    struct config_overrides overrides;
};

static status_t read_count(const char *option, const char *text, int *out) {
    char *end = NULL;
    const long n = text ? strtol(text, &end, 10) : 0;
    CHECK(text && end != text && *end == '\0' && n >= 1 && n <= 65536, STATUS_USAGE,
          "plan: %s needs a number from 1 to 65536, got %s", option, text ? text : "nothing");
    *out = (int)n;
    return STATUS_OK;
}

/* key=value arguments are moved to the front of argv. */
static status_t parse(int argc, char **argv, struct plan_options *o) {
    static const char *const known[] = {"--nodes", "--gpus-per-node", "--ranks-per-node", "--help", NULL};
    int n_kept = 0;
    for (int i = 1; i < argc; i++) {
        int *count = strcmp(argv[i], known[0]) == 0   ? &o->n_nodes
                     : strcmp(argv[i], known[1]) == 0 ? &o->n_gpus
                     : strcmp(argv[i], known[2]) == 0 ? &o->n_ranks
                                                      : NULL;
        if (count) {
            TRY(read_count(argv[i], i + 1 < argc ? argv[i + 1] : NULL, count));
            i++;
        } else if (strncmp(argv[i], "--", 2) == 0) {
            return command_unknown_option("plan", argv[i], known);
        } else if (!o->config && !strchr(argv[i], '=')) {
            o->config = argv[i];
        } else {
            argv[n_kept++] = argv[i];
        }
    }
    o->overrides =
        (struct config_overrides){.n_arguments = n_kept, .arguments = argv, .environment = environ};
    CHECK((o->n_gpus > 0 || o->n_ranks > 0) == (o->n_nodes > 0), STATUS_USAGE,
          "plan: --nodes N goes with --gpus-per-node M or --ranks-per-node M");
    return STATUS_OK;
}

/* n_nodes equal hosts with one rank a GPU, or n_ranks ranks each. */
static status_t plan_imagined(const struct plan_options *o, const struct settings *settings) {
    const int per_node = o->n_ranks > 0 ? o->n_ranks : o->n_gpus, n = o->n_nodes * per_node;
    struct placement_request request = {.n_ranks = n, .n_hosts = o->n_nodes};
    struct placement placement = {.n_peers = 0};
    int *host = memory_zeroed((size_t)n, sizeof *host),
        *n_devices = memory_zeroed((size_t)o->n_nodes, sizeof *n_devices);
    status_t status = STATUS_OK;
    CHECK_TO(done, host && n_devices, STATUS_NO_MEMORY, "out of memory for the placement");
    for (int r = 0; r < n; r++) host[r] = r / per_node;
    for (int h = 0; h < o->n_nodes; h++) n_devices[h] = o->n_gpus;
    request.host = host;
    request.n_devices = o->n_gpus > 0 ? n_devices : NULL;
    TRY_TO(done, placement_peers(settings, &request));
    TRY_TO(done, placement_make(&request, &placement));
    placement_print_head(stdout);
    for (int r = 0; r < n; r++) {
        char name[24], where[24];
        snprintf(name, sizeof name, "node%d", host[r]);
        snprintf(where, sizeof where, placement.device[r] >= 0 ? "GPU %d" : "CPU", placement.device[r]);
        placement_print_rank(settings, &placement, r, name, where, "-", stdout);
    }
    TRY_TO(done, placement_print_peers(settings, &placement, stdout));
    status = plan_memory_print(settings, &placement, stdout);
done:
    placement_free(&placement);
    free(host);
    free(n_devices);
    return status;
}

status_t cmd_plan(struct launch_context *context, int argc, char **argv) {
    struct plan_options options = {.config = NULL};
    struct settings settings = {.run = NULL};
    struct placement placement = {.n_peers = 0};
    char *default_path = NULL;
    status_t status = STATUS_OK;
    TRY(parse(argc, argv, &options));
    if (!options.config) {
        TRY(config_default_path(&default_path));
        options.config = default_path;
    }
    TRY_TO(done, config_read(options.config, &options.overrides, &settings));
    if (options.n_nodes > 0) {
        if (context->rank == 0) status = plan_imagined(&options, &settings);
        goto done;
    }
    TRY_TO(done, place_world(context, &settings, &placement));
    TRY_TO(done, place_world_print(context, &settings, &placement, stdout));
    if (context->rank == 0) status = plan_memory_print(&settings, &placement, stdout);
done:
    placement_free(&placement);
    settings_free(&settings);
    free(default_path);
    return status;
}
