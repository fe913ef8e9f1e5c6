// Every gradient of every operation against central differences, in double precision, on odd little shapes.
#include "tests/support/op_random.h"
#include "tests/support/tables.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

enum { N_ROUNDS = 25, N_PROBES = 6 };

/* What is differentiated: sum y * dy, or a loss. */
static double objective(const struct op_case *c, const char *loss) {
    const struct tensor *y = case_output(c, loss), *dy = NULL;
    if (y) return y->v[0];
    y = case_output(c, "y");
    for (int32_t i = 0; i < c->n_in; i++)
        if (strcmp(c->in[i].name, "dy") == 0) dy = &c->in[i];
    assert_true(y && dy && y->n == dy->n);
    double sum = 0.0;
    for (int64_t i = 0; i < y->n; i++) sum += y->v[i] * dy->v[i];
    return sum;
}

static double objective_at(struct table *t, struct op_case *c, const char *loss, double *x, double value) {
    const double before = *x;
    *x = value;
    case_run(t, DTYPE_F32, c);
    *x = before;
    return objective(c, loss);
}

/* Compare d<input> (or `gradient_name`) with differences at a few elements. */
static void probe(struct table *t, struct op_case *c, struct tensor *input, const char *loss,
                  const char *gradient_name, struct rng *rng) {
    case_run(t, DTYPE_F32, c);
    const struct tensor *gradient = case_output(c, gradient_name);
    if (!gradient || gradient->n == 0) return;
    assert_int_equal(gradient->n, input->n);
    double analytic[N_PROBES];
    int64_t at[N_PROBES];
    double largest = 1e-3;
    for (int64_t i = 0; i < gradient->n; i++) largest = fmax(largest, fabs(gradient->v[i]));
    for (int32_t i = 0; i < N_PROBES; i++) {
        at[i] = rng_below(rng, (uint32_t)input->n);
        analytic[i] = gradient->v[at[i]];
    }
    const double step = 1e-5;
    for (int32_t i = 0; i < N_PROBES; i++) {
        double *x = &input->v[at[i]];
        const double up = objective_at(t, c, loss, x, *x + step),
                     down = objective_at(t, c, loss, x, *x - step);
        const double numeric = (up - down) / (2.0 * step);
        if (!(fabs(numeric - analytic[i]) <= 2e-6 * largest))
            fail_msg("%s, %s: %s of element %d: %.9g, by differences %.9g", c->operation, c->name,
                     gradient_name, (int)at[i], analytic[i], numeric);
    }
}

static uint32_t check_case(struct table *t, struct op_case *c, struct rng *rng) {
    static const struct {
        const char *loss, *gradient;
    } losses[] = {{"loss_mean_over_kept", "dlogits_mean_over_kept"},
                  {"loss_mean_over_all", "dlogits_mean_over_all"},
                  {"loss", "dlogits"}};
    uint32_t n_probed = 0;
    case_run(t, DTYPE_F32, c);
    for (int32_t i = 0; i < c->n_in; i++) {
        char name[TENSOR_MAX_NAME + 1];
        snprintf(name, sizeof name, "d%s", c->in[i].name);
        n_probed += case_output(c, name) != NULL;
        if (strcmp(c->in[i].name, "logits") != 0) {
            probe(t, c, &c->in[i], "", name, rng);
            continue;
        }
        for (size_t k = 0; k < sizeof losses / sizeof *losses; k++)
            if (case_output(c, losses[k].loss))
                probe(t, c, &c->in[i], losses[k].loss, losses[k].gradient, rng);
    }
    return n_probed;
}

static void finite_differences(void **state) {
    (void)state;
    struct tables tables;
    tables_open(&tables);
    struct rng rng = rng_start((struct rng_key){.seed = 5, .purpose = RNG_TEST});
    uint32_t n_probed = 0;
    for (uint32_t i = 0; i < N_ROUNDS * n_random_operations; i++) {
        struct op_case *c = random_case(17, i, true);
        n_probed += check_case(&tables.in_double, c, &rng);
        case_free(c);
    }
    assert_true(n_probed > 20 * N_ROUNDS);
    tables_close(&tables);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(finite_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
