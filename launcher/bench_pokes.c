/* bench model --train: how long a backward pass computes without a poke for communication. */
#include "common/memory.h"
#include "launcher/bench.h"

#include <stdlib.h>

enum { NONE = -1 };

/* One backward pass under observation. */
struct watch {
    const struct bench *bench;
    double last_s, sum_s, longest_s;
    int64_t n;
    int32_t final; /* parameter whose gradient became final last */
    int32_t after; /* the same, before the longest gap */
};

static void poked(void *context) {
    struct watch *w = context;
    const double now_s = bench_now_s(w->bench), gap_s = now_s - w->last_s;
    w->n++;
    w->sum_s += gap_s;
    w->last_s = now_s;
    if (gap_s <= w->longest_s) return;
    w->longest_s = gap_s;
    w->after = w->final;
}

static status_t gradient_is_final(void *context, int32_t index) {
    struct watch *w = context;
    poked(context);
    w->final = index;
    return STATUS_OK;
}

static status_t watch_pass(const struct bench *bench, struct pass *pass, struct watch *out) {
    *out = (struct watch){.bench = bench, .last_s = bench_now_s(bench), .final = NONE, .after = NONE};
    if (bench->ops->set_poke) bench->ops->set_poke(bench->be, poked, out);
    const status_t status = pass_backward(pass, gradient_is_final, out);
    if (bench->ops->set_poke) bench->ops->set_poke(bench->be, NULL, NULL);
    poked(out);
    return status;
}

static int by_longest(const void *a, const void *b) {
    const double x = ((const struct watch *)a)->longest_s, y = ((const struct watch *)b)->longest_s;
    return (x > y) - (x < y);
}

status_t bench_pokes(const struct bench *bench, struct net *net, struct pass *pass,
                     status_t (*forward)(void *context), void *context, struct bench_pokes *out) {
    struct watch *passes = memory_zeroed((size_t)bench->runs, sizeof *passes);
    CHECK(passes, STATUS_NO_MEMORY, "no memory for %d passes", bench->runs);
    double sum_s = 0;
    int64_t n = 0;
    status_t status = STATUS_OK;
    for (int32_t run = -1; run < bench->runs && status == STATUS_OK; run++) {
        struct watch watch; /* the first pass makes the products of the blocks: not counted */
        status = forward(context);
        if (status == STATUS_OK) status = watch_pass(bench, pass, &watch);
        if (status != STATUS_OK || run < 0) continue;
        passes[run] = watch;
        sum_s += watch.sum_s;
        n += watch.n;
    }
    if (status == STATUS_OK) {
        qsort(passes, (size_t)bench->runs, sizeof *passes, by_longest);
        const struct watch *median = &passes[bench->runs / 2];
        *out =
            (struct bench_pokes){.n = n / bench->runs,
                                 .mean_s = sum_s / (double)n,
                                 .longest_s = median->longest_s,
                                 .after = median->after == NONE ? NULL : net_param(net, median->after)->name};
    }
    free(passes);
    return status;
}
