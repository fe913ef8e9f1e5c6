/* A poke set in the CPU's table is called between the blocks of a backward pass, by the thread that called
 * it, often enough; the gradients are those without a poke but for rounding, and the same bits twice: each
 * family, fp32 and (where the CPU has it) bf16. LIMIT 60 */
#include "common/clock.h"
#include "models/net.h"
#include "tests/support/test.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 2
#define SIDE  128

static float noise(uint32_t *state) { /* in [-1, 1) */
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

struct pokes {
    int64_t n;
    pthread_t thread;
};

static void count(void *context) {
    struct pokes *pokes = context;
    assert_true(pthread_equal(pokes->thread, pthread_self()));
    pokes->n++;
}

static void gradients(struct net *net, struct pass *pass, struct pokes *pokes, float *out) {
    const size_t n_bytes = (size_t)net_n_elem(net) * sizeof(float);
    uint32_t seed = 5;
    assert_ok(pass_forward(pass, &(struct forward_options){.update_statistics = false}));
    memset(net_grads(net), 0, n_bytes);
    for (int i = 0; i < BATCH * 10; i++) pass_dlogits(pass)[i] = noise(&seed);
    if (pokes) ops_cpu.set_poke(net_backend(net), count, pokes);
    assert_ok(pass_backward(pass, NULL, NULL));
    ops_cpu.set_poke(net_backend(net), NULL, NULL);
    memcpy(out, net_grads(net), n_bytes);
}

static double norm(const float *values, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

/* The bound is relative to a parameter's gradient, or to a thousandth of the largest one: what batch norm
 * makes all but zero is rounding only. */
static void compare(const struct net *net, const float *plain, const float *poked, double bound) {
    double largest = 0;
    for (int32_t i = 0; i < net_n_params(net); i++)
        if (!net_param(net, i)->is_buffer)
            largest = fmax(largest, norm(plain + net_param(net, i)->offset, net_param(net, i)->n_elem));
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        if (param->is_buffer) continue;
        const double size = norm(plain + param->offset, param->n_elem);
        double difference = 0;
        for (int64_t j = param->offset; j < param->offset + param->n_elem; j++) {
            const double d = (double)plain[j] - (double)poked[j];
            difference += d * d;
        }
        if (!(sqrt(difference) <= bound * fmax(size, 1e-3 * largest)))
            fail_msg("%s: gradient of norm %g moves by %g", param->name, size, sqrt(difference));
    }
}

static void check(const char *preset, enum dtype precision) {
    struct backend *be;
    struct model_spec spec;
    struct net *net;
    struct pass *pass;
    int32_t side;
    assert_ok(cpu_backend_open(2, &be));
    assert_ok(model_spec_preset(preset, &spec, &side));
    spec.n_classes = 10;
    assert_ok(net_new(&ops_cpu, be, &spec, SIDE, SIDE, precision, &net));
    const int64_t n_elem = net_n_elem(net);
    uint32_t seed = 3;
    for (int64_t i = 0; i < n_elem; i++) net_params(net)[i] = 0.1f * noise(&seed);
    for (int32_t i = 0; i < net_n_params(net); i++) /* running variances and the like */
        if (net_param(net, i)->is_buffer)
            for (int64_t j = 0; j < net_param(net, i)->n_elem; j++)
                net_buffers(net)[net_param(net, i)->offset + j] = 1;
    assert_ok(net_refresh_shadow(net));
    const struct pass_options options = {.batch = BATCH, .height = SIDE, .width = SIDE, .mode = PASS_TRAIN};
    assert_ok(pass_new(net, &options, &pass));
    for (int i = 0; i < BATCH * SIDE * SIDE * 3; i++) {
        float x = noise(&seed);
        if (precision == DTYPE_F32)
            ((float *)pass_input(pass))[i] = x;
        else
            assert_ok(ops_cpu.cast(be, DTYPE_BF16, (uint16_t *)pass_input(pass) + i, DTYPE_F32, &x, 1));
    }
    float *plain = malloc((size_t)n_elem * 4), *poked = malloc((size_t)n_elem * 4),
          *again = malloc((size_t)n_elem * 4);
    struct pokes pokes = {.thread = pthread_self()};
    gradients(net, pass, NULL, plain);
    gradients(net, pass, &pokes, poked); /* makes the products of the blocks */
    pokes.n = 0;
    const double begin_s = clock_now_s();
    gradients(net, pass, &pokes, again);
    const double pass_ms = 1e3 * (clock_now_s() - begin_s);
    if (pokes.n < 5) fail_msg("%s: %d pokes in %.1f ms", preset, (int)pokes.n, pass_ms);
    assert_memory_equal(poked, again, (size_t)n_elem * 4);
    compare(net, plain, poked, precision == DTYPE_F32 ? 1e-4 : 1e-3);
    free(plain), free(poked), free(again);
    pass_free(pass);
    net_free(net);
    cpu_backend_close(be);
}

static void backward_pokes(void **state) {
    (void)state;
    static const char *const presets[] = {"convnext_tiny", "swin_tiny", "mobilenet_v2"};
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        check(presets[i], DTYPE_F32);
        if (cpu_has_bf16()) check(presets[i], DTYPE_BF16);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(backward_pokes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
