/* The golden networks in bf16: L2 error of features, logits and all gradients as one vector, relative to the
 * float64 reference, on every table of operations. bf16 keeps 8 bits: torch's own autocast errs by 0.6 %, 0.7
 * % and 1.1 % (MobileNet-V2: 1 %, 1.5 % and 21 %, corners of ReLU6 flip). LIMIT 300 */
#include "models/ops/ref/ref.h"
#include "tests/support/golden_net.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct distance {
    double difference, size; /* sums of squares */
};

static void add_distance(struct distance *d, const float *got, const float *want, int64_t n_elem) {
    for (int64_t i = 0; i < n_elem; i++) {
        d->difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        d->size += (double)want[i] * want[i];
    }
}

static void check(const struct golden_net *c, const char *what, struct distance d, double allowed) {
    const double error = sqrt(d.difference / d.size);
    if (getenv("VERBOSE")) printf("%s %s %.2g\n", c->name, what, error);
    if (!(error <= allowed)) fail_msg("%s: %s: L2 error %.3g, allowed %.3g", c->name, what, error, allowed);
}

static struct distance of_device(const struct golden_net *c, const char *name, const float *device,
                                 int64_t n_elem) {
    struct distance d = {0};
    float *got = golden_net_fetch(c->net, device, DTYPE_F32, n_elem),
          *want = golden_net_expected(c, name, n_elem);
    assert_non_null(want);
    add_distance(&d, got, want, n_elem);
    free(got);
    free(want);
    return d;
}

static struct distance of_gradients(struct golden_net *c) {
    struct distance d = {0};
    for (int32_t i = 0; i < net_n_params(c->net); i++) {
        const struct net_param *p = net_param(c->net, i);
        if (p->is_buffer) continue;
        char name[160];
        snprintf(name, sizeof name, "grad.param.%s", p->name);
        float *got = malloc(sizeof(float) * (size_t)p->n_elem),
              *want = golden_net_expected(c, name, p->n_elem);
        assert_true(got && want);
        assert_ok(net_get(c->net, i, net_grads(c->net), got));
        add_distance(&d, got, want, p->n_elem);
        free(got);
        free(want);
    }
    return d;
}

static void check_case(const char *folder, struct golden_backend backend) {
    struct golden_net c;
    golden_net_open(&c, folder, backend, DTYPE_BF16);
    struct pass *pass;
    assert_ok(pass_new(c.net,
                       &(struct pass_options){.batch = c.batch,
                                              .height = c.height,
                                              .width = c.width,
                                              .mode = PASS_TRAIN,
                                              .frozen_statistics = !c.train},
                       &pass));
    golden_net_step(&c, pass, true);
    const bool corners = c.spec.family == MODEL_MOBILENETV2;
    check(&c, "features",
          of_device(&c, "features", pass_features(pass), (int64_t)c.batch * net_n_features(c.net)),
          corners ? 0.04 : 0.015);
    check(&c, "logits", of_device(&c, "logits", pass_logits(pass), (int64_t)c.batch * c.spec.n_classes),
          corners ? 0.06 : 0.02);
    check(&c, "gradients", of_gradients(&c), corners ? 0.45 : 0.03);
    pass_free(pass);
    if (!c.train) { /* inference, batch norm folded into bf16 weights */
        assert_ok(pass_new(
            c.net, &(struct pass_options){.batch = c.batch, .height = c.height, .width = c.width}, &pass));
        golden_net_forward(&c, pass);
        check(&c, "features",
              of_device(&c, "features", pass_features(pass), (int64_t)c.batch * net_n_features(c.net)),
              corners ? 0.04 : 0.015);
        pass_free(pass);
    }
    golden_net_close(&c);
}

static void reference(void **state) {
    (void)state;
    struct golden_backend b = {.ops = &ops_ref};
    assert_ok(ref_backend_open(&b.be));
    golden_net_each(b, check_case);
    ref_backend_close(b.be);
}

static void onednn(void **state) {
    (void)state;
    if (!cpu_has_bf16()) skip();
    struct golden_backend b = {.ops = &ops_cpu};
    assert_ok(cpu_backend_open(0, &b.be));
    golden_net_each(b, check_case);
    cpu_backend_close(b.be);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reference), cmocka_unit_test(onednn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
