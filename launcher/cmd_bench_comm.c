/* marrs_dist bench comm: latency and bandwidth between the ranks that were started, in nccl-tests' columns.
 *
 * Time is the slowest rank's median over the repetitions; algbw = size / time; busbw = algbw times the share
 * of the size that must cross a rank's link whatever the algorithm: 2 (n-1) / n for all_reduce, (n-1) / n for
 * reduce_scatter and all_gather, 1 for the exchange (size: 8 bytes an image, each way). Messages lie in the
 * memory of the device (--device): the host's go by MPI, GPUs' by NCCL. */
#include "launcher/commands.h"
#include "launcher/device.h"

#include "comm/comm.h"
#include "comm/exchange.h"
#include "common/clock.h"
#include "common/interval.h"
#include "common/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 500, MIN_RUNS = 7, MAX_EXCHANGE_BYTES = 1 << 20 /* of labels; a step's are below 10 KB */ };
static const double target_s = 0.15; /* for the repetitions of one row */

struct comm_bench {
    struct comm *world; /* moves the device's memory */
    struct comm *host;  /* the same ranks, for numbers of this program's own */
    struct device device;
    enum device_choice wanted;
    bool nccl; /* the world has been given the device's memory */
    int64_t n_bytes_min, n_bytes_max, factor;
    const char *only; /* name of an operation; NULL: all */
    bool json;
    int64_t n;               /* elements (exchange: images) of the present row */
    float *host_data, *data; /* of the host and of the device; one and the same on the CPU */
    int64_t *offsets;
    struct exchange_plan *plan;
    struct pseudo_label *host_labels, *labels; /* [4 * images of this rank at most]: sent by both peers,
                                                  received by both; of the host and of the device */
};

/* ---- operations
 * -------------------------------------------------------------------------------------------- */

static status_t all_reduce(struct comm_bench *b) {
    return comm_all_reduce(b->world, b->data, b->n, COMM_F32, COMM_SUM);
}

static status_t reduce_scatter(struct comm_bench *b) {
    return comm_reduce_scatter(b->world, b->data, b->offsets, COMM_F32, COMM_SUM);
}

static status_t all_gather(struct comm_bench *b) {
    return comm_all_gather(b->world, b->data, b->offsets, COMM_F32);
}

static status_t exchange_start(struct comm_bench *b, struct exchange_request **request) {
    struct pseudo_label *send[2], *receive[4] = {0};
    for (int p = 0; p < 2; p++) {
        send[p] = b->labels + p * b->n;
        receive[p * 2 + 1 - p] = b->labels + (2 + p) * b->n;
    }
    return exchange_begin(b->plan, (const struct pseudo_label *const *)send, receive, request);
}

static status_t exchange(struct comm_bench *b) {
    struct exchange_request *request;
    TRY(exchange_start(b, &request));
    return exchange_end(&request, NULL);
}

/* What this rank brings at element i, and what must be there afterwards; NAN: not defined. */
static float brought(int rank, int64_t i) {
    return (float)((i + 3 * rank) % 64);
}

static float sum_at(const struct comm_bench *b, int64_t i) {
    float sum = 0;
    for (int r = 0; r < comm_size(b->world); r++) sum += brought(r, i);
    return sum;
}

static bool owns(const struct comm_bench *b, int64_t i) {
    const int rank = comm_rank(b->world);
    return i >= b->offsets[rank] && i < b->offsets[rank + 1];
}

static float after_all_reduce(const struct comm_bench *b, int64_t i) {
    return sum_at(b, i);
}
static float after_reduce_scatter(const struct comm_bench *b, int64_t i) {
    return owns(b, i) ? sum_at(b, i) : NAN;
}
static float after_all_gather(const struct comm_bench *b, int64_t i) {
    int r = 0;
    while (i >= b->offsets[r + 1]) r++;
    return brought(r, i);
}

static const struct {
    const char *name, *type, *redop;
    status_t (*run)(struct comm_bench *b);
    float (*after)(const struct comm_bench *b, int64_t i); /* NULL: the exchange */
    int64_t element_bytes;
    double crossings; /* times (n-1)/n */
} operations[] = {
    {"all_reduce", "float", "sum", all_reduce, after_all_reduce, 4, 2},
    {"reduce_scatter", "float", "sum", reduce_scatter, after_reduce_scatter, 4, 1},
    {"all_gather", "float", "none", all_gather, after_all_gather, 4, 1},
    {"exchange", "label", "none", exchange, NULL, sizeof(struct pseudo_label), 0},
};
enum { N_OPERATIONS = sizeof operations / sizeof *operations };

/* ---- right results
 * ----------------------------------------------------------------------------------------- */

static status_t to_device(const struct comm_bench *b, void *device, const void *host, size_t n_bytes) {
    return device == host ? STATUS_OK : b->device.ops->copy_in(b->device.be, device, host, n_bytes);
}

static status_t from_device(const struct comm_bench *b, void *host, const void *device, size_t n_bytes) {
    return device == host ? STATUS_OK : b->device.ops->copy_out(b->device.be, host, device, n_bytes);
}

static status_t count_wrong_floats(struct comm_bench *b, int op, int64_t *n_wrong) {
    const int rank = comm_rank(b->world);
    const size_t n_bytes = (size_t)b->n * sizeof *b->data;
    for (int64_t i = 0; i < b->n; i++) b->host_data[i] = brought(rank, i);
    TRY(to_device(b, b->data, b->host_data, n_bytes));
    TRY(operations[op].run(b));
    TRY(from_device(b, b->host_data, b->data, n_bytes));
    for (int64_t i = 0; i < b->n; i++) {
        const float want = operations[op].after(b, i);
        *n_wrong += !isnan(want) && b->host_data[i] != want;
    }
    memset(b->host_data, 0, n_bytes); /* repeated sums stay finite */
    return to_device(b, b->data, b->host_data, n_bytes);
}

static status_t count_wrong_labels(struct comm_bench *b, int64_t *n_wrong) {
    for (int p = 0; p < 2; p++) {
        const struct interval own = exchange_interval(b->plan, p);
        for (int64_t i = own.begin; i < own.end; i++)
            b->host_labels[p * b->n + i - own.begin] =
                (struct pseudo_label){.label = (int32_t)(2 * i + p), .confidence = 1};
    }
    const size_t n_bytes = 2 * (size_t)b->n * sizeof *b->labels;
    TRY(to_device(b, b->labels, b->host_labels, n_bytes));
    TRY(exchange(b));
    TRY(from_device(b, b->host_labels + 2 * b->n, b->labels + 2 * b->n, n_bytes));
    for (int p = 0; p < 2; p++) {
        const struct interval own = exchange_interval(b->plan, p);
        for (int64_t i = own.begin; i < own.end; i++)
            *n_wrong += b->host_labels[(2 + p) * b->n + i - own.begin].label != (int32_t)(2 * i + 1 - p);
    }
    return STATUS_OK;
}

/* ---- times
 * ------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static status_t time_once(struct comm_bench *b, int op, double *time_s) {
    TRY(comm_barrier(b->host));
    const double begin_s = clock_now_s();
    TRY(operations[op].run(b));
    *time_s = clock_now_s() - begin_s;
    return STATUS_OK;
}

/* The slowest rank's median; all ranks repeat as often. */
static status_t median_time(struct comm_bench *b, int op, double *median_s) {
    double times[MAX_RUNS], first_s;
    TRY(time_once(b, op, &first_s));
    TRY(comm_all_reduce(b->host, &first_s, 1, COMM_F64, COMM_MAX));
    const double wanted = target_s / (first_s + 1e-6);
    const int n_runs = wanted < MIN_RUNS ? MIN_RUNS : wanted > MAX_RUNS ? MAX_RUNS : (int)wanted;
    for (int i = 0; i < n_runs; i++) TRY(time_once(b, op, &times[i]));
    qsort(times, (size_t)n_runs, sizeof *times, compare_doubles);
    *median_s = times[n_runs / 2];
    return comm_all_reduce(b->host, median_s, 1, COMM_F64, COMM_MAX);
}

static void print_row(const struct comm_bench *b, int op, double time_s, int64_t n_wrong) {
    const double n = comm_size(b->world), size = (double)(b->n * operations[op].element_bytes);
    const double algbw = size / time_s / 1e9;
    const double busbw =
        operations[op].crossings > 0 ? algbw * operations[op].crossings * (n - 1) / n : algbw;
    if (comm_rank(b->world) != 0) return;
    if (b->json)
        printf("{\"op\": \"%s\", \"ranks\": %d, \"size\": %.0f, \"count\": %" PRId64
               ", \"time_us\": %.2f, \"algbw\": %.4f, "
               "\"busbw\": %.4f, \"wrong\": %" PRId64 "}\n",
               operations[op].name, comm_size(b->world), size, b->n, 1e6 * time_s, algbw, busbw, n_wrong);
    else
        printf("%12.0f %12" PRId64 " %8s %6s %10.1f %8.3f %8.3f %7" PRId64 "\n", size, b->n,
               operations[op].type, operations[op].redop, 1e6 * time_s, algbw, busbw, n_wrong);
    fflush(stdout);
}

static status_t run_row(struct comm_bench *b, int op) {
    int64_t n_wrong = 0;
    double time_s;
    const int size = comm_size(b->world);
    for (int r = 0; r <= size; r++) b->offsets[r] = r == size ? b->n : interval_part(b->n, r, size).begin;
    TRY(operations[op].after ? count_wrong_floats(b, op, &n_wrong) : count_wrong_labels(b, &n_wrong));
    TRY(comm_all_reduce(b->host, &n_wrong, 1, COMM_I64, COMM_SUM));
    TRY(median_time(b, op, &time_s));
    print_row(b, op, time_s, n_wrong);
    CHECK(n_wrong == 0, STATUS_INTERNAL,
          "bench comm: %" PRId64 " wrong values from %s of %" PRId64 " elements", n_wrong,
          operations[op].name, b->n);
    return STATUS_OK;
}

/* Two peers: the first half of the ranks (rounded up) and the rest; one rank alone serves both. */
static status_t plan_exchange(struct comm_bench *b) {
    const int size = comm_size(b->world), half = (size + 1) / 2;
    status_t status = STATUS_OK;
    int *ranks = memory_zeroed((size_t)size, sizeof *ranks);
    CHECK(ranks, STATUS_NO_MEMORY, "no memory for %d ranks", size);
    for (int r = 0; r < size; r++) ranks[r] = r;
    const struct comm_membership peers[] = {
        {"a", ranks, half}, {"b", size > 1 ? ranks + half : ranks, size > 1 ? size - half : 1}};
    exchange_plan_free(&b->plan);
    status = exchange_plan_new(b->world, 2, peers, b->n, &b->plan);
    free(ranks);
    return status;
}

static status_t run_rows(struct comm_bench *b, int op) {
    if (comm_rank(b->world) == 0 && !b->json)
        printf("# %s, %d ranks\n# %10s %12s %8s %6s %10s %8s %8s %7s\n# %10s %12s %8s %6s %10s %8s %8s\n",
               operations[op].name, comm_size(b->world), "size", "count", "type", "redop", "time", "algbw",
               "busbw", "#wrong", "(B)", "(elements)", "", "", "(us)", "(GB/s)", "(GB/s)");
    const int64_t most =
        operations[op].after || b->n_bytes_max < MAX_EXCHANGE_BYTES ? b->n_bytes_max : MAX_EXCHANGE_BYTES;
    for (int64_t bytes = b->n_bytes_min; bytes <= most; bytes *= b->factor) {
        b->n = bytes / operations[op].element_bytes;
        if (b->n == 0) continue;
        if (!operations[op].after) TRY(plan_exchange(b));
        TRY(run_row(b, op));
    }
    return STATUS_OK;
}

/* What a step sees of the exchange: begun, 20 ms of other work with a poke each 0.2 ms, then waited for. */
static status_t exposed_exchange(struct comm_bench *b) {
    enum { STEPS = 25, IMAGES = 64 };
    const double work_s = 20e-3;
    double waits[STEPS];
    b->n = IMAGES;
    TRY(plan_exchange(b));
    for (int s = 0; s < STEPS; s++) {
        struct exchange_request *request;
        const double waited_s = comm_waited_s(b->world, COMM_FOR_EXCHANGE);
        TRY(exchange_start(b, &request));
        const double end_s = clock_now_s() + work_s;
        for (double next_s = 0, now_s; (now_s = clock_now_s()) < end_s;)
            if (now_s >= next_s) {
                comm_poke(b->world);
                next_s = now_s + 0.2e-3;
            }
        TRY(exchange_end(&request, NULL));
        if (b->device.ops->synchronise) TRY(b->device.ops->synchronise(b->device.be));
        waits[s] = comm_waited_s(b->world, COMM_FOR_EXCHANGE) - waited_s;
    }
    qsort(waits, STEPS, sizeof *waits, compare_doubles);
    double worst[2] = {waits[STEPS / 2], waits[STEPS - 1]};
    TRY(comm_all_reduce(b->host, worst, 2, COMM_F64, COMM_MAX));
    if (comm_rank(b->world) != 0) return STATUS_OK;
    printf(b->json ? "{\"op\": \"exposed_exchange\", \"images\": %d, \"work_ms\": %.0f, \"median_ms\": %.4f, "
                     "\"max_ms\": %.4f}\n"
                   : "# exchange of %d images behind %.0f ms of work: exposed wait %.4f ms (median), %.4f ms "
                     "(most)\n",
           IMAGES, 1e3 * work_s, 1e3 * worst[0], 1e3 * worst[1]);
    return STATUS_OK;
}

/* ---- options
 * ----------------------------------------------------------------------------------------------- */

static status_t parse_number(const char *option, const char *text, int64_t least, int64_t most,
                             int64_t *out) {
    char *end;
    CHECK(text, STATUS_USAGE, "bench comm: %s wants a number", option);
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    CHECK(!errno && end != text && !*end && value >= least && value <= most, STATUS_USAGE,
          "bench comm: %s takes a number from %" PRId64 " to %" PRId64 ", not '%s'", option, least, most,
          text);
    *out = value;
    return STATUS_OK;
}

static status_t parse_operation(const char *text, const char **out) {
    for (int op = 0; op < N_OPERATIONS; op++)
        if (text && !strcmp(text, operations[op].name)) return *out = operations[op].name, STATUS_OK;
    return FAIL(STATUS_USAGE, "bench comm: --op takes all_reduce, reduce_scatter, all_gather or exchange");
}

static status_t parse(int argc, char **argv, struct comm_bench *b) {
    static const char *const known[] = {"--min", "--max", "--factor", "--op", "--device", "--json", NULL};
    const int64_t most = (int64_t)1 << 36;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--json")) {
            b->json = true;
            continue;
        }
        if (!strcmp(argv[i], "--min"))
            TRY(parse_number("--min", value, 4, most, &b->n_bytes_min));
        else if (!strcmp(argv[i], "--max"))
            TRY(parse_number("--max", value, 4, most, &b->n_bytes_max));
        else if (!strcmp(argv[i], "--factor"))
            TRY(parse_number("--factor", value, 2, 1024, &b->factor));
        else if (!strcmp(argv[i], "--op"))
            TRY(parse_operation(value, &b->only));
        else if (!strcmp(argv[i], "--device"))
            TRY(device_named(value ? value : "", &b->wanted));
        else
            return command_unknown_option("bench comm", argv[i], known);
        i++;
    }
    CHECK(b->n_bytes_min <= b->n_bytes_max, STATUS_USAGE,
          "bench comm: --min %" PRId64 " is above --max %" PRId64, b->n_bytes_min, b->n_bytes_max);
    return STATUS_OK;
}

static status_t run_all(struct comm_bench *b) {
    bool any_exchange = false;
    for (int op = 0; op < N_OPERATIONS; op++) {
        if (b->only && strcmp(b->only, operations[op].name) != 0) continue;
        any_exchange |= !operations[op].after;
        TRY(run_rows(b, op));
    }
    return any_exchange ? exposed_exchange(b) : STATUS_OK;
}

/* ---- memory
 * ------------------------------------------------------------------------------------------------ */

/* Ranks take the GPUs of their host in turn. */
static status_t open_device(struct comm_bench *b) {
    enum device_choice choice;
    int n_devices = 0;
    char why[512];
    TRY(device_settle(b->wanted, &choice, &n_devices, why, sizeof why));
    const int index = n_devices > 0 ? comm_local_rank(b->world) % n_devices : 0;
    TRY(device_open(choice, &(struct device_options){.index = index}, &b->device));
    if (!b->device.plugin) b->world = b->host;
    if (!b->device.plugin) return STATUS_OK;
    TRY(b->device.plugin->comm_open(b->world, b->device.be));
    b->nccl = true;
    return STATUS_OK;
}

static status_t make_memory(struct comm_bench *b) {
    const size_t n_data = (size_t)b->n_bytes_max, n_labels = (size_t)4 * MAX_EXCHANGE_BYTES;
    void *data, *labels;
    b->host_data = memory_aligned(n_data);
    b->host_labels = memory_aligned(n_labels);
    b->offsets = memory_zeroed((size_t)comm_size(b->world) + 1, sizeof *b->offsets);
    CHECK(b->host_data && b->host_labels && b->offsets, STATUS_NO_MEMORY,
          "bench comm: no memory for messages of %" PRId64 " bytes", b->n_bytes_max);
    b->data = b->host_data;
    b->labels = b->host_labels;
    if (!b->device.plugin) return STATUS_OK;
    b->data = NULL;
    b->labels = NULL;
    TRY(b->device.ops->alloc(b->device.be, n_data, &data));
    b->data = data;
    TRY(b->device.ops->alloc(b->device.be, n_labels, &labels));
    b->labels = labels;
    return b->device.ops->fill_zero(b->device.be, labels, n_labels);
}

/* Where something failed, MPI may still use the host's memory; NCCL is aborted before its memory goes. */
static status_t close_all(struct comm_bench *b, status_t status) {
    const struct cuda_plugin *plugin = b->device.plugin;
    if (b->nccl) {
        const status_t closed = plugin->comm_close(b->world, b->device.be, status != STATUS_OK);
        if (status == STATUS_OK) status = closed;
    }
    exchange_plan_free(&b->plan);
    if (plugin) {
        if (b->data) b->device.ops->release(b->device.be, b->data);
        if (b->labels) b->device.ops->release(b->device.be, b->labels);
    }
    if (b->device.be) device_close(&b->device);
    if (status == STATUS_OK) {
        free(b->host_data);
        free(b->host_labels);
    }
    free(b->offsets);
    return status;
}

status_t cmd_bench_comm(struct launch_context *context, int argc, char **argv) {
    status_t status = STATUS_OK;
    struct comm *alone = NULL;
    struct comm_bench b = {.n_bytes_min = 8, .n_bytes_max = 64 << 20, .factor = 8, .wanted = DEVICE_CPU};
    TRY(parse(argc, argv, &b));
    if (!context->world) TRY(comm_start_alone(&alone));
    b.world = context->world ? context->world : alone;
    b.host = comm_host_side(b.world);
    TRY_TO(out, open_device(&b));
    TRY_TO(out, make_memory(&b));
    TRY_TO(out, run_all(&b));
out:
    status = close_all(&b, status);
    if (alone && status == STATUS_OK) status = comm_finish(&alone);
    return status;
}
