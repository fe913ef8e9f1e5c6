/* The tables under test, opened: the plain loops, the CPU's, both behind the checks, and the GPU's with its
 * kernels on the CPU, whose cases run in TWIN_SEEDS orders. */
#ifndef TESTS_SUPPORT_TABLES_H
#define TESTS_SUPPORT_TABLES_H

#include "tests/support/op_case.h"

enum tables_index {
    TABLE_REF,
    TABLE_CHECKED_REF,
    TABLE_CPU_1,
    TABLE_CPU_2,
    TABLE_CHECKED_CPU,
    TABLE_CUDA,
    N_TABLES
};

struct tables {
    struct table table[N_TABLES]; /* CPU_1 and CPU_2 with that many threads */
    int32_t n;                    /* without the last, the GPU's on the CPU, where that was not built */
    struct table in_double;       /* ops_ref_double: for finite differences */
};

void tables_open(struct tables *out);
/* From here on the table that has orders works in its n-th, from 0; false: it has no such order. Without one
 * there is order 0 only. case_run() goes through all of them by itself. */
bool tables_order(struct tables *tables, int n);
/* Fails the test where a checking table found memory that was not released or was overrun. */
void tables_close(struct tables *tables);

#endif
