/* marrs_dist plan: where the peers of a configuration would run, what they need, how long they take. */
#include "launcher/arguments.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/device.h"
#include "launcher/place_world.h"
#include "launcher/plan.h"
#include "launcher/plan_measure.h"
#include "launcher/plan_memory.h"

#include "comm/comm.h"
#include "common/file.h"
#include "common/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum { MAX_WORDS = 128, CALIBRATION_DEADLINE_S = 36000 };

struct plan_options {
    const char *config, *rates, *device, *calibrate, *html, *hosts, *images, *intra, *inter, *seconds;
    char *default_path;
    bool only_links;
    int64_t n_nodes, n_gpus, n_ranks, n_classes, cores; /* 0: not given */
    int counts[PLAN_MAX_CURVE], n_counts;
    struct config_overrides overrides;
    char *words[MAX_WORDS];
};

/* ---- options
 * ------------------------------------------------------------------------------------------------------- */

static status_t parse_counts(const char *text, struct plan_options *o) {
    for (const char *p = text; *p;) {
        char *end;
        const long n = strtol(p, &end, 10);
        CHECK(end != p && n >= 1 && n <= 65536 && (*end == ',' || *end == '\0') &&
                  o->n_counts < PLAN_MAX_CURVE && (o->n_counts == 0 || n > o->counts[o->n_counts - 1]),
              STATUS_USAGE, "plan: --hosts takes rising numbers like 1,2,4,8 (at most %d), not \"%s\"",
              PLAN_MAX_CURVE, text);
        o->counts[o->n_counts++] = (int)n;
        p = end + (*end == ',');
    }
    return STATUS_OK;
}

/* "2.5,12": microseconds and GB/s. */
static status_t parse_link(const char *option, const char *text, struct link_rate *out) {
    char *end;
    if (!text) return STATUS_OK;
    errno = 0;
    const double latency_us = strtod(text, &end);
    const double gb_s = *end == ',' ? strtod(end + 1, &end) : -1;
    CHECK(*end == '\0' && !errno && latency_us >= 0 && latency_us < 1e8 && gb_s > 0 && gb_s < 1e6,
          STATUS_USAGE, "plan: %s takes LATENCY_US,GB_PER_S (2.5,12), not \"%s\"", option, text);
    *out = (struct link_rate){1e-6 * latency_us, 1e9 * gb_s};
    return STATUS_OK;
}

static status_t parse_seconds(const char *text, double *out) {
    char *end;
    *out = 0.7;
    if (!text) return STATUS_OK;
    *out = strtod(text, &end);
    CHECK(end != text && *end == '\0' && *out >= 0.01 && *out <= 3600, STATUS_USAGE,
          "plan: --seconds takes a number from 0.01 to 3600, not \"%s\"", text);
    return STATUS_OK;
}

static status_t parse_images(const char *text, struct plan_data *out) {
    int64_t *const n[] = {&out->source, &out->labelled, &out->unlabelled, &out->validation};
    const char *p = text;
    for (size_t i = 0; i < ARRAY_LENGTH(n); i++) {
        char *end;
        errno = 0;
        *n[i] = strtoll(p, &end, 10);
        CHECK(end != p && !errno && *n[i] >= 1 && *n[i] <= 1000000000 && *end == (i < 3 ? ',' : '\0'),
              STATUS_USAGE,
              "plan: --images takes SOURCE,LABELLED,UNLABELLED,VALIDATION (70358,378,30746,378), not \"%s\"",
              text);
        p = end + 1;
    }
    out->known = true;
    return STATUS_OK;
}

static status_t check_options(const struct plan_options *o) {
    CHECK((o->n_gpus > 0 || o->n_ranks > 0) == (o->n_nodes > 0), STATUS_USAGE,
          "plan: --nodes N goes with --gpus-per-node M or --ranks-per-node M");
    CHECK(o->n_gpus == 0 || o->n_ranks == 0, STATUS_USAGE,
          "plan: either --gpus-per-node or --ranks-per-node, one rank a GPU");
    const int64_t per_node = o->n_ranks + o->n_gpus;
    CHECK(o->n_nodes == 0 || o->n_nodes * per_node <= 65536, STATUS_USAGE, "plan: more than 65536 ranks");
    CHECK(!o->rates || !o->device, STATUS_USAGE, "plan: either --rates FILE or --device NAME");
    CHECK(!o->calibrate || (!o->rates && !o->device && !o->html && o->n_nodes == 0), STATUS_USAGE,
          "plan: --calibrate FILE only measures; plan with its rates afterwards (--rates FILE)");
    CHECK(o->calibrate || (!o->only_links && !o->seconds), STATUS_USAGE,
          "plan: --links and --seconds go with --calibrate FILE");
    CHECK(o->rates || o->device || (!o->hosts && !o->html && !o->intra && !o->inter && o->cores == 0),
          STATUS_USAGE,
          "plan: --hosts, --html, --cores, --intra and --inter need rates: --rates FILE or --device NAME");
    CHECK((o->n_classes > 0) == (o->images != NULL), STATUS_USAGE, "plan: --images goes with --classes");
    CHECK(!o->device || o->n_gpus > 0, STATUS_USAGE,
          "plan: --device %s goes with --nodes N --gpus-per-node M", o->device);
    return STATUS_OK;
}

static status_t parse(int argc, char **argv, struct plan_options *o) {
    const char *words[MAX_WORDS];
    int n_words = 0;
    const struct argument table[] = {
        {.name = "--nodes", .number = &o->n_nodes, .minimum = 1, .maximum = 65536},
        {.name = "--gpus-per-node", .number = &o->n_gpus, .minimum = 1, .maximum = 1024},
        {.name = "--ranks-per-node", .number = &o->n_ranks, .minimum = 1, .maximum = 65536},
        {.name = "--rates", .text = &o->rates},
        {.name = "--device", .text = &o->device},
        {.name = "--calibrate", .text = &o->calibrate},
        {.name = "--seconds", .text = &o->seconds},
        {.name = "--links", .flag = &o->only_links},
        {.name = "--html", .text = &o->html},
        {.name = "--hosts", .text = &o->hosts},
        {.name = "--images", .text = &o->images},
        {.name = "--classes", .number = &o->n_classes, .minimum = 2, .maximum = 1000000},
        {.name = "--cores", .number = &o->cores, .minimum = 1, .maximum = 65536},
        {.name = "--intra", .text = &o->intra},
        {.name = "--inter", .text = &o->inter},
        {.name = NULL}};
    TRY(arguments_parse(argc, argv, table, words, MAX_WORDS, &n_words));
    int n_kept = 0;
    for (int i = 0; i < n_words; i++) {
        if (strchr(words[i], '=')) {
            o->words[n_kept++] = (char *)(uintptr_t)words[i];
            continue;
        }
        CHECK(!o->config, STATUS_USAGE, "plan: two configurations, %s and %s", o->config, words[i]);
        o->config = words[i];
    }
    o->overrides =
        (struct config_overrides){.n_arguments = n_kept, .arguments = o->words, .environment = environ};
    if (o->hosts) TRY(parse_counts(o->hosts, o));
    return check_options(o);
}

/* Unless told: 1, 2, 4, ... 64 hosts, and the one planned for. */
static void choose_counts(struct plan_options *o, int n_hosts) {
    if (o->hosts) return;
    for (int n = 1; n <= 64 || n <= n_hosts; n *= 2) {
        if (o->n_counts + 2 > PLAN_MAX_CURVE) return;
        if (n > n_hosts && o->n_counts > 0 && o->counts[o->n_counts - 1] < n_hosts)
            o->counts[o->n_counts++] = n_hosts;
        o->counts[o->n_counts++] = n;
    }
}

/* ---- placement and memory
 * -------------------------------------------------------------------------------------- */

static status_t print_imagined(const struct settings *settings, const struct plan_world *w, FILE *out) {
    placement_print_head(out);
    for (int r = 0; r < w->n_ranks; r++) {
        char name[24], where[24];
        snprintf(name, sizeof name, "node%d", w->host[r]);
        snprintf(where, sizeof where, w->placement.device[r] >= 0 ? "GPU %d" : "CPU", w->placement.device[r]);
        placement_print_rank(settings, &w->placement, r, name, where, "-", out);
    }
    return placement_print_peers(settings, &w->placement, out);
}

/* The ranks that were started. Collective over context->world. */
static status_t started_world(struct launch_context *context, const struct settings *settings,
                              struct plan_world *out) {
    struct plan_world w = {.n_ranks = context->n_ranks, .n_hosts = 1};
    w.host = memory_zeroed((size_t)w.n_ranks, sizeof *w.host);
    CHECK(w.host, STATUS_NO_MEMORY, "out of memory for the placement");
    for (int r = 0; r < w.n_ranks; r++) {
        w.host[r] = context->world ? comm_node(context->world, r) : 0;
        if (w.host[r] >= w.n_hosts) w.n_hosts = w.host[r] + 1;
    }
    struct devices devices;
    status_t status;
    TRY_TO(fail, place_devices(context, settings, &devices));
    TRY_TO(fail, place_world(context, settings, &devices, &w.placement));
    if (w.placement.device[0] >= 0) { /* how many is not asked again: a rank has its own */
        w.n_devices = memory_zeroed((size_t)w.n_hosts, sizeof *w.n_devices);
        CHECK_TO(fail, w.n_devices, STATUS_NO_MEMORY, "out of memory for the placement");
        for (int r = 0; r < w.n_ranks; r++) w.n_devices[w.host[r]]++;
    }
    *out = w;
    return STATUS_OK;
fail:
    plan_world_free(&w);
    return status;
}

/* The world of the plan, and its placement as text. Collective where no nodes are imagined. */
static status_t make_world(struct launch_context *context, const struct plan_options *o,
                           const struct settings *settings, struct plan_world *out) {
    if (o->n_nodes > 0) {
        TRY(plan_world_make(settings, (int)o->n_nodes, (int)(o->n_gpus > 0 ? o->n_gpus : o->n_ranks),
                            o->n_gpus > 0, NULL, out));
        return context->rank == 0 ? print_imagined(settings, out, stdout) : STATUS_OK;
    }
    TRY(started_world(context, settings, out));
    return place_world_print(context, settings, &out->placement, stdout);
}

/* ---- rates
 * -------------------------------------------------------------------------------------------------------- */

static status_t find_rates(const struct plan_options *o, struct plan_rates *out) {
    if (o->rates)
        TRY(rates_read(o->rates, out));
    else
        TRY(rates_builtin(o->device, out));
    TRY(parse_link("--intra", o->intra, &out->intra));
    TRY(parse_link("--inter", o->inter, &out->inter));
    out->intra_known |= o->intra != NULL;
    out->inter_known |= o->inter != NULL;
    if (o->cores > 0) out->cores = (double)o->cores;
    return STATUS_OK;
}

/* The page of `plan`, or `rates` where plan is NULL. */
static status_t write_text(const char *path, const char *config, const struct plan *plan,
                           const struct plan_rates *rates) {
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    CHECK(out, STATUS_NO_MEMORY, "out of memory for %s", path);
    status_t status = STATUS_OK;
    if (plan)
        status = plan_print_html(plan, config, MARRS_VERSION, out);
    else
        rates_write(rates, out);
    const bool whole = fclose(out) == 0;
    if (status == STATUS_OK)
        status = whole ? file_write_atomic(path, text, n_bytes)
                       : FAIL(STATUS_NO_MEMORY, "out of memory for %s", path);
    free(text);
    return status;
}

/* Collective over context->world. */
static status_t calibrate(struct launch_context *context, const struct plan_options *o,
                          enum device_choice device, const struct plan *plan) {
    struct plan_rates rates;
    const char *path = o->calibrate;
    CHECK(!o->only_links || context->n_ranks > 1, STATUS_USAGE,
          "plan: --links needs two ranks at least, on one host or on two (mpirun, srun)");
    if (context->world) comm_set_deadline(context->world, CALIBRATION_DEADLINE_S);
    if (o->only_links) {
        TRY(rates_read(path, &rates));
        TRY(plan_measure_links(plan, context->world, &rates));
    } else {
        TRY(plan_calibrate(plan, device, context->world, &rates));
    }
    if (context->rank != 0) return STATUS_OK;
    TRY(write_text(path, NULL, NULL, &rates));
    rates_write(&rates, stdout);
    printf("\nwritten to %s: marrs_dist plan CONFIG --rates %s --nodes N --ranks-per-node M\n", path, path);
    return STATUS_OK;
}

static status_t predict(struct plan_options *o, struct plan *plan) {
    choose_counts(o, plan->world.n_hosts);
    TRY(plan_predict(plan, o->counts, o->n_counts));
    plan_print(plan, stdout);
    if (!o->html) return STATUS_OK;
    TRY(write_text(o->html, o->config, plan, NULL));
    printf("\npage: %s\n", o->html);
    return STATUS_OK;
}

static status_t run(struct launch_context *context, struct plan_options *o, const struct settings *settings) {
    struct plan_data data = {.known = false};
    struct plan_rates rates;
    struct plan plan = {.n_stages = 0};
    const bool timed = o->rates || o->device;
    enum device_choice device = settings->device;
    int n_devices;
    char why[512];
    status_t status = STATUS_OK;
    if (timed) TRY(find_rates(o, &rates));
    if (o->images)
        TRY(parse_images(o->images, &data));
    else
        TRY(plan_data_read(settings, &data));
    if (o->n_classes > 0) data.n_classes = (int32_t)o->n_classes;
    if (o->calibrate) status = device_settle(settings->device, &device, &n_devices, why, sizeof why);
    if (status != STATUS_OK) return status_context(status, "plan --calibrate measures this machine");
    const bool gpus = o->n_gpus > 0 || device == DEVICE_CUDA || device == DEVICE_CUDA_EMULATED;
    TRY(plan_new(settings, &data, timed ? &rates : NULL, gpus, &plan));
    TRY_TO(done, parse_seconds(o->seconds, &plan.measure_s));
    if (o->calibrate) {
        status = calibrate(context, o, device, &plan);
        goto done;
    }
    TRY_TO(done, make_world(context, o, settings, &plan.world));
    if (context->rank != 0) goto done;
    TRY_TO(done, plan_memory_print(&plan, stdout));
    if (timed)
        status = predict(o, &plan);
    else
        puts("\nNo times without rates: --rates FILE (plan --calibrate FILE measures this machine) or "
             "--device h100");
done:
    plan_free(&plan);
    return status;
}

status_t cmd_plan(struct launch_context *context, int argc, char **argv) {
    struct plan_options options = {.config = NULL};
    struct settings settings = {.run = NULL};
    status_t status = STATUS_OK;
    TRY(parse(argc, argv, &options));
    if (!options.config) {
        TRY(config_default_path(&options.default_path));
        options.config = options.default_path;
    }
    TRY_TO(done, config_read(options.config, &options.overrides, &settings));
    status = run(context, &options, &settings);
done:
    settings_free(&settings);
    free(options.default_path);
    return status;
}
