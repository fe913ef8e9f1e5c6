// Every case of every operation in $GOLDEN/ops.h5 (default tests/golden), forward and every gradient, on all
// tables: fp32 against the file within the tolerances of its README; bf16 against the plain loops on the same
// rounded inputs.
// LIMIT 120
#include "tests/support/tables.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

/* What a float32 implementation is allowed (README.md of the golden files). */
static double allowed_f32(const struct op_case *c, const char *output) {
    if (strstr(c->name, "off_centre")) return 2e-2;
    return output[0] == 'd' ? 2e-5 : 1e-5;
}

/* bf16 keeps 8 bits: 2^-9 for each rounding. An output that is one sum, rounded once, keeps 0.4 %; where
 * rounded intermediate tensors feed sums (attention's dqkv, the perceptron's hidden rows) 2 %. */
static double allowed_bf16(const struct op_case *c, const char *output) {
    if (strncmp(c->operation, "window_attention", 16) == 0) return 2e-2;
    return output[0] == 'd' ? 1e-2 : 5e-3;
}

static void compare(const struct table *t, const struct op_case *c, const struct tensor *got,
                    const struct tensor *want, double allowed) {
    double floor = case_setting(c, "floor", 0.0);
    assert_int_equal(got->n, want->n);
    const double error = tensor_error(got->v, want->v, want->n, floor);
    if (!(error <= allowed))
        fail_msg("%s: %s/%s/%s: error %.3g, allowed %.3g", t->label, c->operation, c->name, got->name, error,
                 allowed);
}

/* Data set of the file with this name; NULL: the file does not have it. */
static const struct tensor *expected(const struct op_case *c, const char *name) {
    for (int32_t i = 0; i < c->n_in; i++)
        if (strcmp(c->in[i].name, name) == 0) return &c->in[i];
    return NULL;
}

static void check_fp32(struct table *t, struct op_case *c) {
    case_run(t, DTYPE_F32, c);
    for (int32_t i = 0; i < c->n_out; i++) {
        const struct tensor *got = &c->out[i];
        const struct tensor *want = expected(c, strcmp(got->name, "y_inference") == 0 ? "y" : got->name);
        if (want) compare(t, c, got, want, allowed_f32(c, got->name));
    }
    /* Nothing in the file may go unread: every data set was an input or an output. */
    for (int32_t i = 0; i < c->n_in; i++)
        if (!c->used[i] && !case_output(c, c->in[i].name))
            fail_msg("%s: %s/%s/%s was not computed", t->label, c->operation, c->name, c->in[i].name);
}

static void check_bf16(struct table *t, struct op_case *c, struct op_case *want) {
    case_run(t, DTYPE_BF16, c);
    assert_int_equal(c->n_out, want->n_out);
    for (int32_t i = 0; i < c->n_out; i++) {
        const struct tensor *got = &c->out[i];
        compare(t, c, got, &want->out[i], allowed_bf16(c, got->name));
    }
}

/* Inputs that an operation takes in bf16, as bf16 keeps them: both sides then compute from the same numbers.
 */
static void round_inputs(struct op_case *c) {
    static const char *const rounded[] = {"x", "weight", "dy", "qkv", "qkv_weight", "proj_weight"};
    const bool fp32_weight = strcmp(c->operation, "layernorm") == 0 ||
                             strcmp(c->operation, "batchnorm") == 0 || case_setting(c, "groups", 1.0) > 1.0;
    for (size_t i = 0; i < sizeof rounded / sizeof *rounded; i++) {
        if (fp32_weight && strcmp(rounded[i], "weight") == 0) continue;
        struct tensor *x = case_find(c, rounded[i]);
        for (int64_t j = 0; x && j < x->n; j++) x->v[j] = round_to_bf16(x->v[j]);
    }
}

struct walk {
    struct tables tables;
    const char *operation;
    hid_t file;
    int32_t n_cases;
};

static void check_case(hid_t group, const char *name, void *context) {
    (void)group;
    struct walk *walk = context;
    struct op_case *c = case_read(walk->file, walk->operation, name);
    struct op_case *want = case_read(walk->file, walk->operation, name);
    for (int32_t i = 0; i < walk->tables.n; i++) check_fp32(&walk->tables.table[i], c);
    round_inputs(c);
    round_inputs(want);
    case_run(&walk->tables.table[TABLE_REF], DTYPE_F32, want);
    for (int32_t i = 0; i < walk->tables.n; i++)
        if (i < TABLE_CPU_1 || i == TABLE_CUDA || cpu_has_bf16()) check_bf16(&walk->tables.table[i], c, want);
    case_free(c);
    case_free(want);
    walk->n_cases++;
}

static void check_operation(hid_t root, const char *operation, void *context) {
    struct walk *walk = context;
    const char *only = getenv("OPS"); /* OPS=layernorm: for whoever works on one */
    if (only && strcmp(only, operation) != 0) return;
    walk->operation = operation;
    golden_walk(root, operation, check_case, walk);
}

static void golden_operations(void **state) {
    (void)state;
    struct walk walk = {.file = golden_open("ops.h5")};
    tables_open(&walk.tables);
    golden_walk(walk.file, "/", check_operation, &walk);
    H5Fclose(walk.file);
    tables_close(&walk.tables);
    assert_true(walk.n_cases > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_operations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
