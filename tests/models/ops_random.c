// The CPU's operations against the plain loops on random shapes, fp32 and bf16, with one thread and two and
// behind the checks, and the GPU's, kernels on the CPU, in several orders; the same call twice gives the same
// bits. LIMIT 180
#include "tests/support/op_random.h"
#include "tests/support/tables.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

enum { N_ROUNDS = 40 };

/* Attention's gradients are differences of sums over outputs that were rounded to bf16. */
static double allowed_bf16(const struct op_case *c) {
    return strcmp(c->operation, "window_attention_core") == 0 ? 4e-2 : 2e-2;
}

static void compare_outputs(const struct table *t, const struct op_case *got, const struct op_case *want,
                            enum dtype dtype) {
    assert_int_equal(got->n_out, want->n_out);
    for (int32_t i = 0; i < got->n_out; i++) {
        const struct tensor *a = &got->out[i], *b = &want->out[i];
        const double allowed = dtype == DTYPE_BF16 ? allowed_bf16(got) : a->name[0] == 'd' ? 2e-5 : 1e-5;
        const double error = tensor_error(a->v, b->v, b->n, case_setting(want, "floor", 0.0));
        if (!(error <= allowed))
            fail_msg("%s, %s: %s, %s: %s: error %.3g, allowed %.3g", t->label,
                     dtype == DTYPE_F32 ? "fp32" : "bf16", got->operation, got->name, a->name, error,
                     allowed);
    }
}

/* Tensors that some operation takes in bf16, as bf16 keeps them; which is harmless where it takes them in
 * fp32. */
static void round_inputs(struct op_case *c) {
    for (int32_t i = 0; i < c->n_in; i++)
        for (int64_t j = 0; j < c->in[i].n; j++) c->in[i].v[j] = round_to_bf16(c->in[i].v[j]);
}

static void random_shapes(struct tables *tables, enum dtype dtype) {
    for (uint32_t i = 0; i < N_ROUNDS * n_random_operations; i++) {
        struct op_case *c = random_case(41, i, false), *want = random_case(41, i, false);
        const char *only = getenv("OPS"); /* OPS=layernorm: for whoever works on one */
        if (only && strcmp(only, c->operation) != 0) {
            case_free(c);
            case_free(want);
            continue;
        }
        if (dtype == DTYPE_BF16) {
            round_inputs(c);
            round_inputs(want);
        }
        case_run(&tables->table[TABLE_REF], DTYPE_F32, want);
        for (int32_t k = 0; k < tables->n; k++) {
            case_run(&tables->table[k], dtype, c);
            compare_outputs(&tables->table[k], c, want, dtype);
            if (k == TABLE_CPU_1 || k == TABLE_CPU_2) case_run_again(&tables->table[k], dtype, c);
        }
        case_free(c);
        case_free(want);
    }
}

static void random_shapes_fp32(void **state) {
    random_shapes(*state, DTYPE_F32);
}

static void random_shapes_bf16(void **state) {
    if (!cpu_has_bf16()) skip();
    random_shapes(*state, DTYPE_BF16);
}

int main(void) {
    static struct tables tables;
    tables_open(&tables);
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(random_shapes_fp32, &tables),
                                       cmocka_unit_test_prestate(random_shapes_bf16, &tables)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures == 0) tables_close(&tables);
    return failures;
}
