#include "tests/support/tables.h"

#include "common/log.h"
#include "models/ops/ref/checked.h"
#include "models/ops/ref/ref.h"
#include "tests/support/cuda_twin.h"
#include "tests/support/test.h"

#include <stdlib.h>

static struct table table_of(const char *label, const struct ops *ops, struct backend *be) {
    assert_ok(ops_check(ops));
    return (struct table){.label = label, .ops = ops, .be = be};
}

void tables_open(struct tables *out) {
    struct backend *ref, *cpu_1, *cpu_2, *checked_ref, *checked_cpu;
    assert_ok(ref_backend_open(&ref));
    assert_ok(cpu_backend_open(1, &cpu_1));
    assert_ok(cpu_backend_open(2, &cpu_2));
    assert_ok(checked_backend_open(&ops_ref, ref, &checked_ref));
    assert_ok(checked_backend_open(&ops_cpu, cpu_2, &checked_cpu));
    *out = (struct tables){.in_double = table_of("ref in double", &ops_ref_double, ref)};
    out->in_double.in_double = true;
    out->table[TABLE_REF] = table_of("ref", &ops_ref, ref);
    out->table[TABLE_CHECKED_REF] = table_of("checked ref", &ops_checked, checked_ref);
    out->table[TABLE_CPU_1] = table_of("cpu with 1 thread", &ops_cpu, cpu_1);
    out->table[TABLE_CPU_2] = table_of("cpu with 2 threads", &ops_cpu, cpu_2);
    out->table[TABLE_CHECKED_CPU] = table_of("checked cpu", &ops_checked, checked_cpu);
    out->n = TABLE_CUDA;
    const struct cuda_plugin *twin = cuda_twin();
    if (!twin) return;
    struct backend *cuda;
    if (getenv("DEBUG_LOG")) log_set_level(LOG_DEBUG);
    assert_ok(twin->backend_open(0, getenv("AUTOTUNE") != NULL, &cuda));
    struct table *t = &out->table[out->n++];
    *t = table_of("cuda on the CPU", twin->ops, cuda);
    t->set_order = cuda_twin_seed;
    t->n_orders = TWIN_SEEDS;
}

bool tables_order(struct tables *tables, int n) {
    if (tables->n <= TABLE_CUDA) return n == 0;
    const struct table *t = &tables->table[TABLE_CUDA];
    if (n < t->n_orders) t->set_order(n);
    return n < t->n_orders;
}

void tables_close(struct tables *tables) {
    assert_ok(checked_backend_close(tables->table[TABLE_CHECKED_REF].be));
    assert_ok(checked_backend_close(tables->table[TABLE_CHECKED_CPU].be));
    cpu_backend_close(tables->table[TABLE_CPU_1].be);
    cpu_backend_close(tables->table[TABLE_CPU_2].be);
    ref_backend_close(tables->table[TABLE_REF].be);
    if (tables->n > TABLE_CUDA) cuda_twin()->backend_close(tables->table[TABLE_CUDA].be);
}
