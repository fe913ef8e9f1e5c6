/* Initial weights and drop-path: distributions of each family's rule, layouts there and back, draws that
 * depend on seed, peer and image only. */
#include "models/ops/ref/ref.h"
#include "tests/support/small_net.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct backend *backend;

static struct net *fresh(struct model_spec spec, uint64_t seed, uint8_t peer) {
    struct net *net;
    assert_ok(net_new(&ops_ref, backend, &spec, 64, 64, DTYPE_F32, &net));
    assert_ok(net_init(net, seed, peer));
    return net;
}

struct moments {
    double mean, deviation, largest, n;
};

static struct moments measure(struct net *net, const char *name) {
    const int32_t index = net_find_param(net, name);
    if (index < 0) fail_msg("no %s", name);
    const struct net_param *p = net_param(net, index);
    float *host = malloc(sizeof(float) * (size_t)p->n_elem);
    assert_ok(net_get(net, index, p->is_buffer ? net_buffers(net) : net_params(net), host));
    struct moments m = {.n = (double)p->n_elem};
    for (int64_t i = 0; i < p->n_elem; i++) m.mean += host[i] / (double)p->n_elem;
    for (int64_t i = 0; i < p->n_elem; i++) {
        m.deviation += (host[i] - m.mean) * (host[i] - m.mean) / (double)p->n_elem;
        m.largest = fmax(m.largest, fabs((double)host[i]));
    }
    m.deviation = sqrt(m.deviation);
    free(host);
    return m;
}

static void expect_normal(struct net *net, const char *name, double deviation) {
    const struct moments m = measure(net, name);
    const double slack = 5 * deviation / sqrt(m.n); /* five standard errors */
    if (!(fabs(m.mean) < slack && fabs(m.deviation - deviation) < slack && m.largest > 2.5 * deviation))
        fail_msg("%s: mean %g, deviation %g, expected 0, %g", name, m.mean, m.deviation, deviation);
}

static void expect_uniform(struct net *net, const char *name, double half) {
    const struct moments m = measure(net, name);
    if (!(m.largest <= half && m.largest > 0.9 * half && fabs(m.deviation - half / sqrt(3)) < 0.15 * half))
        fail_msg("%s: largest %g, deviation %g, expected %g", name, m.largest, m.deviation, half);
}

static void expect_constant(struct net *net, const char *name, double value) {
    const struct moments m = measure(net, name);
    assert_true(m.mean == (double)(float)value || fabs(m.mean - value) < 1e-6 * fabs(value));
    assert_true(m.deviation <= 1e-6 * fabs(value));
}

static void distributions(void **state) {
    (void)state;
    struct model_spec spec = model_spec_default(MODEL_CONVNEXT);
    struct net *net = fresh(spec, 1, 0);
    expect_normal(net, "stages.0.blocks.0.conv_dw.weight", 0.02);
    expect_normal(net, "stages.2.blocks.0.mlp.fc1.weight", 0.02);
    expect_constant(net, "stages.2.blocks.0.gamma", 1e-6);
    expect_constant(net, "stages.2.blocks.0.mlp.fc1.bias", 0);
    expect_constant(net, "stages.1.downsample.0.weight", 1);
    net_free(net);

    spec = model_spec_default(MODEL_SWIN);
    spec.init = MODEL_INIT_XAVIER;
    net = fresh(spec, 1, 0);
    expect_uniform(net, "layers.1.blocks.0.attn.qkv.weight", sqrt(6.0 / (192 + 576)));
    expect_uniform(net, "patch_embed.proj.weight", sqrt(6.0 / (3 * 16 + 96 * 16)));
    expect_uniform(net, "patch_embed.proj.bias", 1 / sqrt(96));
    expect_normal(net, "layers.2.blocks.0.attn.relative_position_bias_table", 0.02);
    expect_normal(net, "head.fc.weight", 0.02);
    assert_ok(net_init_head(net, 5, 0));
    expect_uniform(net, "head.fc.weight", 1 / sqrt(768));
    expect_uniform(net, "head.fc.bias", 1 / sqrt(768));
    net_free(net);

    net = fresh(model_spec_default(MODEL_MOBILENETV2), 1, 0);
    expect_normal(net, "features.18.0.weight", sqrt(2.0 / 1280));
    expect_normal(net, "features.17.conv.1.0.weight", sqrt(2.0 / (960 * 9)));
    expect_normal(net, "classifier.1.weight", 0.01);
    expect_constant(net, "features.3.conv.1.1.weight", 1);
    expect_constant(net, "features.3.conv.1.1.running_var", 1);
    expect_constant(net, "features.3.conv.1.1.running_mean", 0);
    net_free(net);
}

static void seeds(void **state) {
    (void)state;
    const struct model_spec spec = small_spec(MODEL_SWIN);
    struct net *a = fresh(spec, 1, 0), *b = fresh(spec, 1, 0), *peer = fresh(spec, 1, 1),
               *seed = fresh(spec, 2, 0);
    const size_t n_bytes = sizeof(float) * (size_t)net_n_elem(a);
    assert_memory_equal(net_params(a), net_params(b), n_bytes);
    assert_memory_not_equal(net_params(a), net_params(peer), n_bytes);
    assert_memory_not_equal(net_params(a), net_params(seed), n_bytes);
    net_free(a), net_free(b), net_free(peer), net_free(seed);
}

static void layouts(void **state) {
    (void)state;
    const struct model_spec spec = small_spec(MODEL_CONVNEXT);
    struct net *net = fresh(spec, 1, 0);
    const char *const names[] = {"stem.0.weight", "stages.0.blocks.0.conv_dw.weight",
                                 "stages.0.blocks.0.mlp.fc1.weight"};
    for (int k = 0; k < 3; k++) {
        const int32_t index = net_find_param(net, names[k]);
        const struct net_param *p = net_param(net, index);
        float *host = malloc(sizeof(float) * (size_t)p->n_elem),
              *back = malloc(sizeof(float) * (size_t)p->n_elem);
        for (int64_t i = 0; i < p->n_elem; i++) host[i] = (float)i;
        assert_ok(net_set(net, index, net_params(net), host));
        assert_ok(net_get(net, index, net_params(net), back));
        assert_memory_equal(host, back, sizeof(float) * (size_t)p->n_elem);
        /* element (o=1, i=0, y=0, x=1) of the framework, or (1, 1) of a matrix */
        const int64_t side = p->n_dims == 4 ? p->shape[3] : 0, ins = p->shape[1];
        const float *ours = net_params(net) + p->offset;
        const int64_t at = p->layout == PARAM_CONV_OHWI       ? (side * side + 1) * ins
                           : p->layout == PARAM_DEPTHWISE_HWC ? p->shape[0] + 1
                                                              : ins + 1;
        const int64_t theirs = p->n_dims == 4 ? ins * side * side + 1 : ins + 1;
        assert_true(ours[at] == (float)theirs);
        free(host), free(back);
    }
    net_free(net);
}

/* ---- drop-path ---- */

enum { N_SAME = 200 };
static const size_t IMAGE_BYTES = sizeof(float) * SMALL_SIDE * SMALL_SIDE * 3;

/* One stage of two blocks, drop-path 0 and `rate`. */
static struct net *two_blocks(float rate) {
    struct model_spec spec = small_spec(MODEL_CONVNEXT);
    spec.n_stages = 1;
    spec.depths[0] = 2;
    spec.drop_path = rate;
    return small_net(&ops_ref, backend, &spec);
}

/* A training pass over n copies of one image: they differ by their draws only. */
static struct pass *same_images(struct net *net, int32_t n) {
    struct pass *pass = small_pass(net, n, PASS_TRAIN, false);
    small_batch(net, pass, 1, 0);
    for (int32_t i = 1; i < n; i++)
        memcpy((char *)pass_input(pass) + (size_t)i * IMAGE_BYTES, pass_input(pass), IMAGE_BYTES);
    return pass;
}

/* What the second block's branch adds to the first number of image n. */
static double branch_of(struct pass *pass, int32_t n, int32_t batch) {
    enum dtype dtype;
    int64_t n_elem;
    const float *x = pass_activation(pass, "stages.0.blocks.0", &dtype, &n_elem);
    const float *y = pass_activation(pass, "stages.0.blocks.1", &dtype, &n_elem);
    const int64_t at = n * (n_elem / batch);
    return (double)y[at] - (double)x[at];
}

/* The branch is 0 or 4/3 of what it is without drop-path; inference drops nothing. */
static void drop_path(void **state) {
    (void)state;
    struct net *net = two_blocks(0.25f), *whole = two_blocks(0);
    struct pass *pass = same_images(net, N_SAME), *all = same_images(whole, 1);
    struct pass *infer = small_pass(net, 1, PASS_INFER, false);
    memcpy(pass_input(infer), pass_input(pass), IMAGE_BYTES);
    const struct forward_options options = {.rng = {.seed = 9, .step = 4}};
    assert_ok(pass_forward(pass, &options));
    assert_ok(pass_forward(all, &options));
    assert_ok(pass_forward(infer, &options));
    int n_dropped = 0;
    for (int n = 0; n < N_SAME; n++) {
        const double ratio = branch_of(pass, n, N_SAME) / branch_of(all, 0, 1);
        n_dropped += ratio == 0;
        assert_true(ratio == 0 || fabs(ratio - 4.0 / 3) < 1e-3);
    }
    assert_true(n_dropped > N_SAME / 4 - 25 && n_dropped < N_SAME / 4 + 25);
    assert_memory_equal(pass_logits(infer), pass_logits(all), sizeof(float) * SMALL_CLASSES);
    pass_free(pass), pass_free(infer), pass_free(all);
    net_free(net), net_free(whole);
}

/* The draw belongs to the image, wherever in whatever batch it lies; another step draws anew. */
static void drop_path_of_an_image(void **state) {
    (void)state;
    struct net *net = two_blocks(0.25f);
    struct pass *pass = same_images(net, N_SAME), *part = same_images(net, 3);
    uint32_t items[N_SAME];
    for (uint32_t n = 0; n < N_SAME; n++) items[n] = 1000 + n;
    const uint32_t some[3] = {1000 + 17, 1000 + 3, 1000 + 111};
    struct forward_options options = {.rng = {.seed = 9, .step = 4}, .host_items = items};
    assert_ok(pass_forward(pass, &options));
    options.host_items = some;
    assert_ok(pass_forward(part, &options));
    for (int n = 0; n < 3; n++)
        assert_memory_equal(pass_logits(part) + n * SMALL_CLASSES,
                            pass_logits(pass) + (some[n] - 1000) * SMALL_CLASSES,
                            sizeof(float) * SMALL_CLASSES);
    bool dropped[N_SAME];
    for (int n = 0; n < N_SAME; n++) dropped[n] = branch_of(pass, n, N_SAME) == 0;
    options.host_items = items;
    options.rng.step = 5;
    assert_ok(pass_forward(pass, &options));
    int n_changed = 0;
    for (int n = 0; n < N_SAME; n++) n_changed += dropped[n] != (branch_of(pass, n, N_SAME) == 0);
    assert_true(n_changed > 20);
    pass_free(pass), pass_free(part);
    net_free(net);
}

/* Dropout before the classifier: backward passes the gradient of kept features only, scaled. */
static void dropout(void **state) {
    (void)state;
    struct model_spec spec = small_spec(MODEL_MOBILENETV2);
    spec.dropout = 0.2f;
    struct net *net = small_net(&ops_ref, backend, &spec);
    struct pass *pass = small_pass(net, 2, PASS_TRAIN, false);
    small_batch(net, pass, 2, 0);
    assert_ok(pass_forward(pass, &(struct forward_options){.rng = {.seed = 4}}));
    assert_ok(pass_backward(pass, NULL, NULL));
    int n_zero = 0;
    const int n = 2 * net_n_features(net);
    for (int i = 0; i < n; i++) n_zero += pass_dfeatures(pass)[i] == 0;
    assert_true(n_zero > n / 7 && n_zero < n / 4);
    pass_free(pass);
    net_free(net);
}

int main(void) {
    assert_ok(ref_backend_open(&backend));
    const struct CMUnitTest tests[] = {cmocka_unit_test(distributions),
                                       cmocka_unit_test(seeds),
                                       cmocka_unit_test(layouts),
                                       cmocka_unit_test(drop_path),
                                       cmocka_unit_test(drop_path_of_an_image),
                                       cmocka_unit_test(dropout)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ref_backend_close(backend);
    return failed;
}
