/* marrs_dist bench WHAT: measurements, one file each (cmd_bench_WHAT.c), listed here. */
#include "launcher/bench.h"
#include "launcher/commands.h"

#include "common/nearest.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    status_t (*run)(struct launch_context *context, int argc, char **argv); /* argv[0] is the name */
} benches[] = {
    {"ops", cmd_bench_ops},     {"model", cmd_bench_model}, {"heads", cmd_bench_heads},
    {"infer", cmd_bench_infer}, {"data", cmd_bench_data},   {"comm", cmd_bench_comm},
    {"scale", cmd_bench_scale},
};

enum { N_BENCHES = sizeof benches / sizeof benches[0] };

status_t cmd_bench(struct launch_context *context, int argc, char **argv) {
    char list[256] = "";
    for (size_t i = 0, n = 0; i < N_BENCHES && n < sizeof list; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", benches[i].name);
    CHECK(argc > 1, STATUS_USAGE, "bench: what? One of %s (marrs_dist bench --help)", list);
    struct nearest nearest = nearest_start(argv[1]);
    for (size_t i = 0; i < N_BENCHES; i++) {
        if (strcmp(argv[1], benches[i].name) == 0) return benches[i].run(context, argc - 1, argv + 1);
        nearest_offer(&nearest, benches[i].name);
    }
    return FAIL(STATUS_USAGE, "bench: unknown measurement %s%s%s; one of %s", argv[1],
                nearest.best ? "; nearest: " : "", nearest.best ? nearest.best : "", list);
}
