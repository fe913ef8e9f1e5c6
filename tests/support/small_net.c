#include "tests/support/small_net.h"

#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

struct model_spec small_spec(enum model_family family) {
    struct model_spec spec = model_spec_default(family);
    spec.n_classes = SMALL_CLASSES;
    spec.drop_path = spec.dropout = 0;
    spec.n_stages = family == MODEL_SWIN ? 2 : 3;
    const int32_t depths[3] = {2, 2, 1}, dims[3] = {8, 12, 20};
    for (int i = 0; i < 3; i++) {
        spec.depths[i] = family == MODEL_SWIN ? 2 : depths[i];
        spec.dims[i] = dims[i];
        spec.heads[i] = 2 << i;
    }
    spec.embed = 16;
    spec.window = 5;
    spec.width = 0.1f;
    return spec;
}

struct net *small_net(const struct ops *ops, struct backend *be, const struct model_spec *spec) {
    struct net *net;
    assert_ok(net_new(ops, be, spec, SMALL_SIDE, SMALL_SIDE, DTYPE_F32, &net));
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *p = net_param(net, i);
        struct rng rng = rng_start((struct rng_key){.seed = 11, .purpose = RNG_TEST, .item = (uint32_t)i});
        float *host = malloc(sizeof(float) * (size_t)p->n_elem);
        assert_non_null(host);
        const double scale = p->n_dims > 1 ? 1.5 / (double)(p->fan_in ? p->fan_in : 1) : 0.3;
        const double centre = p->n_dims == 1 && !strstr(p->name, "bias") && !strstr(p->name, "mean") ? 1 : 0;
        for (int64_t k = 0; k < p->n_elem; k++)
            host[k] = (float)(centre + scale * (2 * rng_double(&rng) - 1));
        assert_ok(net_set(net, i, p->is_buffer ? net_buffers(net) : net_params(net), host));
        free(host);
    }
    return net;
}

static void fill(struct net *net, float *device, int64_t n_elem, uint32_t image, uint8_t sub) {
    struct rng rng = rng_start((struct rng_key){.seed = 12, .purpose = RNG_TEST, .item = image, .sub = sub});
    float *host = malloc(sizeof(float) * (size_t)n_elem);
    assert_non_null(host);
    for (int64_t k = 0; k < n_elem; k++) host[k] = (float)rng_normal(&rng);
    assert_ok(net_ops(net)->copy_in(net_backend(net), device, host, sizeof(float) * (size_t)n_elem));
    free(host);
}

void small_batch(struct net *net, struct pass *pass, int32_t n, int32_t first_image) {
    const int64_t pixels = (int64_t)SMALL_SIDE * SMALL_SIDE * 3;
    for (int32_t i = 0; i < n; i++) {
        fill(net, (float *)pass_input(pass) + i * pixels, pixels, (uint32_t)(first_image + i), 0);
        if (pass_dlogits(pass))
            fill(net, pass_dlogits(pass) + i * SMALL_CLASSES, SMALL_CLASSES, (uint32_t)(first_image + i), 1);
    }
}

float *small_take_grads(struct net *net) {
    const size_t n_bytes = sizeof(float) * (size_t)net_n_elem(net);
    float *host = malloc(n_bytes);
    assert_non_null(host);
    assert_ok(net_ops(net)->copy_out(net_backend(net), host, net_grads(net), n_bytes));
    assert_ok(net_ops(net)->fill_zero(net_backend(net), net_grads(net), n_bytes));
    return host;
}

struct pass *small_pass(struct net *net, int32_t batch, enum pass_mode mode, bool recompute) {
    struct pass *pass;
    assert_ok(pass_new(
        net,
        &(struct pass_options){
            .batch = batch, .height = SMALL_SIDE, .width = SMALL_SIDE, .mode = mode, .recompute = recompute},
        &pass));
    return pass;
}
