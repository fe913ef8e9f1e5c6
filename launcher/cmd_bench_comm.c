/* marrs_dist bench comm: latency and bandwidth between the ranks that were started, in nccl-tests' columns.
 *
 * Time is the slowest rank's median over the repetitions; algbw = size / time; busbw = algbw times the share
 * of the size that must cross a rank's link whatever the algorithm: 2 (n-1) / n for all_reduce, (n-1) / n for
 * reduce_scatter and all_gather, 1 for the exchange (size: 8 bytes an image, each way). */
#include "launcher/commands.h"

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
    struct comm *world;
    int64_t n_bytes_min, n_bytes_max, factor;
    const char *only; /* name of an operation; NULL: all */
    bool json;
    int64_t n; /* elements (exchange: images) of the present row */
    float *data;
    int64_t *offsets;
    struct exchange_plan *plan;
    struct pseudo_label *labels; /* [4 * images of this rank at most]: sent by both peers, received by both */
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

static status_t count_wrong_floats(struct comm_bench *b, int op, int64_t *n_wrong) {
    const int rank = comm_rank(b->world);
    for (int64_t i = 0; i < b->n; i++) b->data[i] = brought(rank, i);
    TRY(operations[op].run(b));
    for (int64_t i = 0; i < b->n; i++) {
        const float want = operations[op].after(b, i);
        *n_wrong += !isnan(want) && b->data[i] != want;
    }
    memset(b->data, 0, (size_t)b->n * sizeof *b->data); /* repeated sums stay finite */
    return STATUS_OK;
}

static status_t count_wrong_labels(struct comm_bench *b, int64_t *n_wrong) {
    for (int p = 0; p < 2; p++) {
        const struct interval own = exchange_interval(b->plan, p);
        for (int64_t i = own.begin; i < own.end; i++)
            b->labels[p * b->n + i - own.begin] =
                (struct pseudo_label){.label = (int32_t)(2 * i + p), .confidence = 1};
    }
    TRY(exchange(b));
    for (int p = 0; p < 2; p++) {
        const struct interval own = exchange_interval(b->plan, p);
        for (int64_t i = own.begin; i < own.end; i++)
            *n_wrong += b->labels[(2 + p) * b->n + i - own.begin].label != (int32_t)(2 * i + 1 - p);
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
    TRY(comm_barrier(b->world));
    const double begin_s = clock_now_s();
    TRY(operations[op].run(b));
    *time_s = clock_now_s() - begin_s;
    return STATUS_OK;
}

/* The slowest rank's median; all ranks repeat as often. */
static status_t median_time(struct comm_bench *b, int op, double *median_s) {
    double times[MAX_RUNS], first_s;
    TRY(time_once(b, op, &first_s));
    TRY(comm_all_reduce(b->world, &first_s, 1, COMM_F64, COMM_MAX));
    const double wanted = target_s / (first_s + 1e-6);
    const int n_runs = wanted < MIN_RUNS ? MIN_RUNS : wanted > MAX_RUNS ? MAX_RUNS : (int)wanted;
    for (int i = 0; i < n_runs; i++) TRY(time_once(b, op, &times[i]));
    qsort(times, (size_t)n_runs, sizeof *times, compare_doubles);
    *median_s = times[n_runs / 2];
    return comm_all_reduce(b->world, median_s, 1, COMM_F64, COMM_MAX);
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
    TRY(comm_all_reduce(b->world, &n_wrong, 1, COMM_I64, COMM_SUM));
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
        struct exchange_stats stats;
        TRY(exchange_start(b, &request));
        const double end_s = clock_now_s() + work_s;
        for (double next_s = 0, now_s; (now_s = clock_now_s()) < end_s;)
            if (now_s >= next_s) {
                comm_poke(b->world);
                next_s = now_s + 0.2e-3;
            }
        TRY(exchange_end(&request, &stats));
        waits[s] = stats.wait_s;
    }
    qsort(waits, STEPS, sizeof *waits, compare_doubles);
    double worst[2] = {waits[STEPS / 2], waits[STEPS - 1]};
    TRY(comm_all_reduce(b->world, worst, 2, COMM_F64, COMM_MAX));
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
    static const char *const known[] = {"--min", "--max", "--factor", "--op", "--json", NULL};
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

status_t cmd_bench_comm(struct launch_context *context, int argc, char **argv) {
    status_t status = STATUS_OK;
    struct comm *alone = NULL;
    struct comm_bench b = {.n_bytes_min = 8, .n_bytes_max = 64 << 20, .factor = 8};
    TRY(parse(argc, argv, &b));
    if (!context->world) TRY(comm_start_alone(&alone));
    b.world = comm_host_side(context->world ? context->world : alone);
    b.data = memory_aligned((size_t)b.n_bytes_max);
    b.labels = memory_aligned(4 * MAX_EXCHANGE_BYTES);
    b.offsets = memory_zeroed((size_t)comm_size(b.world) + 1, sizeof *b.offsets);
    CHECK_TO(out, b.data && b.labels && b.offsets, STATUS_NO_MEMORY,
             "bench comm: no memory for messages of %" PRId64 " bytes", b.n_bytes_max);
    TRY_TO(out, run_all(&b));
out:
    exchange_plan_free(&b.plan);
    if (status == STATUS_OK) { /* else MPI may still use them */
        free(b.data);
        free(b.labels);
    }
    free(b.offsets);
    if (alone && status == STATUS_OK) status = comm_finish(&alone);
    return status;
}
