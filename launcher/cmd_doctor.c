/* marrs_dist doctor: is this place fit to train in? Findings with remedies, on one rank or under mpirun and
 * srun. */
#include "launcher/arguments.h"
#include "launcher/doctor.h"

#include "common/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void doctor_topic(const struct doctor *d, const char *topic) {
    if (d->context->rank == 0) printf("\n%s\n", topic);
}

void doctor_find(struct doctor *d, enum doctor_level level, const char *remedy, const char *fmt, ...) {
    static const char *const names[] = {"ok", "warning", "error"};
    va_list arguments;
    if (d->context->rank != 0) return;
    d->n_findings[level]++;
    printf("  %-8s ", names[level]);
    va_start(arguments, fmt);
    vprintf(fmt, arguments);
    va_end(arguments);
    putchar('\n');
    if (remedy) printf("           remedy: %s\n", remedy);
}

void doctor_note(const struct doctor *d, const char *fmt, ...) {
    va_list arguments;
    if (d->context->rank != 0) return;
    fputs("           ", stdout);
    va_start(arguments, fmt);
    vprintf(fmt, arguments);
    va_end(arguments);
    putchar('\n');
}

/* Every rank's record to rank 0. Collective. */
static status_t gather(struct doctor *d) {
    const int n = comm_size(d->world);
    char *whole = NULL;
    int64_t *offsets = memory_zeroed((size_t)n + 1, sizeof *offsets);
    CHECK(offsets, STATUS_NO_MEMORY, "out of memory for %d records", n);
    const status_t status = comm_gather_bytes(d->world, 0, &d->own, sizeof d->own, &whole, offsets);
    free(offsets);
    d->ranks = (struct doctor_rank *)(void *)whole;
    d->n_ranks = n;
    for (int r = 0; r < n; r++)
        if (comm_node(d->world, r) >= d->n_hosts) d->n_hosts = comm_node(d->world, r) + 1;
    return status;
}

static status_t look(struct doctor *d) {
    TRY(doctor_look_host(d));
    if (d->own.local_rank == 0) {
        doctor_look_gpu(&d->own.gpu);
        doctor_look_plugin(d->device, &d->own.plugin);
        TRY(comm_barrier(d->world)); /* all hosts read at once */
        if (d->data) doctor_look_data(d->data, &d->own.data);
    } else {
        TRY(comm_barrier(d->world));
    }
    TRY(comm_barrier(d->world)); /* clocks are read together */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    d->own.clock_s = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return gather(d);
}

static status_t examine(struct doctor *d) {
    TRY(look(d));
    if (d->ranks) {
        printf("marrs_dist %s, %d rank%s on %d host%s\n", MARRS_VERSION, d->n_ranks,
               d->n_ranks == 1 ? "" : "s", d->n_hosts, d->n_hosts == 1 ? "" : "s");
        doctor_judge_start(d);
        doctor_judge_hosts(d);
        doctor_judge_gpus(d);
        doctor_judge_network(d);
        doctor_judge_settings(d);
        doctor_judge_data(d);
        fflush(stdout);
    }
    TRY(doctor_communicate(d));
    int64_t numbers[2] = {d->n_findings[DOCTOR_ERROR], d->n_without_gpu};
    TRY(comm_broadcast(d->world, 0, numbers, 2, COMM_I64));
    const int64_t n_errors = numbers[0];
    if (d->ranks)
        printf("\n%d ok, %d warning%s, %d error%s\n", d->n_findings[DOCTOR_OK], d->n_findings[DOCTOR_WARNING],
               d->n_findings[DOCTOR_WARNING] == 1 ? "" : "s", (int)n_errors, n_errors == 1 ? "" : "s");
    fflush(stdout);
    CHECK(numbers[1] == 0, STATUS_MISSING, "doctor: GPUs were asked for and %d host%s can have none",
          (int)numbers[1], numbers[1] == 1 ? "" : "s");
    CHECK(n_errors == 0, STATUS_BAD_CONFIG, "doctor: %d error%s found; the remedies stand with them",
          (int)n_errors, n_errors == 1 ? "" : "s");
    return STATUS_OK;
}

status_t cmd_doctor(struct launch_context *context, int argc, char **argv) {
    struct doctor d = {.context = context, .device = DEVICE_AUTO};
    const char *device = "auto";
    struct comm *alone = NULL;
    const struct argument table[] = {{.name = "--data", .text = &d.data},
                                     {.name = "--device", .text = &device},
                                     {.name = "--settings", .flag = &d.all_settings},
                                     {.name = NULL}};
    int n_positional = 0;
    TRY(arguments_parse(argc, argv, table, NULL, 0, &n_positional));
    TRY(device_named(device, &d.device));
    if (!context->world) TRY(comm_start_alone(&alone));
    d.world = comm_host_side(context->world ? context->world : alone);
    comm_set_deadline(d.world, 60);
    status_t status = examine(&d);
    free(d.ranks);
    if (alone) {
        const status_t ended = comm_finish(&alone);
        if (status == STATUS_OK) status = ended;
    }
    return status;
}
