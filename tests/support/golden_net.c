#include "tests/support/golden_net.h"

#include "common/memory.h"
#include "tests/support/test.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

int golden_net_list(char paths[64][512]) {
    const char *golden = getenv("GOLDEN");
    char folder[256];
    snprintf(folder, sizeof folder, "%s/nets", golden && *golden ? golden : "tests/golden");
    DIR *dir = opendir(folder);
    if (!dir && golden && *golden) exit(77); /* another set of golden files, without networks */
    if (!dir) fail_msg("no folder %s", folder);
    int n = 0;
    for (struct dirent *e; n < 64 && (e = readdir(dir));)
        if (e->d_name[0] != '.') snprintf(paths[n++], 512, "%s/%.200s", folder, e->d_name);
    closedir(dir);
    qsort(paths, (size_t)n, sizeof paths[0], by_name);
    return n;
}

void golden_net_each(struct golden_backend backend,
                     void (*check)(const char *folder, struct golden_backend backend)) {
    static char paths[64][512];
    const int n = golden_net_list(paths);
    assert_true(n > 0);
    for (int i = 0; i < n; i++) check(paths[i], backend);
}

/* ---- case.json ---- */

double golden_net_number(const struct golden_net *c, const char *key) {
    json_t *value = json_object_get(c->about, key);
    if (!json_is_number(value)) fail_msg("%s: no number %s in case.json", c->name, key);
    return json_number_value(value);
}

double golden_net_allowed(const struct golden_net *c, const char *kind) {
    json_t *value = json_object_get(json_object_get(c->about, "allowed"), kind);
    if (!json_is_number(value)) fail_msg("%s: no allowed.%s in case.json", c->name, kind);
    return json_number_value(value);
}

static int32_t read_list(json_t *config, const char *key, int32_t *out) {
    json_t *list = json_object_get(config, key), *item;
    size_t i;
    json_array_foreach(list, i, item) {
        assert_true(i < MODEL_MAX_STAGES);
        out[i] = (int32_t)json_integer_value(item);
    }
    return (int32_t)json_array_size(list);
}

static void read_int(json_t *config, const char *key, int32_t *out) {
    json_t *value = json_object_get(config, key);
    if (value) *out = (int32_t)json_integer_value(value);
}

/* The generators' names of settings are timm's and torchvision's. */
static void read_spec(struct golden_net *c) {
    const char *family = json_string_value(json_object_get(c->about, "family"));
    json_t *config = json_object_get(c->about, "config");
    assert_non_null(family);
    struct model_spec *spec = &c->spec;
    *spec = model_spec_default(strcmp(family, "convnext") == 0 ? MODEL_CONVNEXT
                               : strcmp(family, "swin") == 0   ? MODEL_SWIN
                                                               : MODEL_MOBILENETV2);
    spec->n_classes = (int32_t)golden_net_number(c, "classes");
    spec->drop_path = spec->dropout = 0;
    if (spec->family != MODEL_MOBILENETV2) spec->n_stages = read_list(config, "depths", spec->depths);
    if (spec->family == MODEL_CONVNEXT) read_list(config, "dims", spec->dims);
    if (spec->family == MODEL_SWIN) read_list(config, "num_heads", spec->heads);
    read_int(config, "stem", &spec->stem);
    read_int(config, "patch_size", &spec->patch);
    read_int(config, "window_size", &spec->window);
    read_int(config, "embed_dim", &spec->embed);
    json_t *width = json_object_get(config, "width_mult");
    if (width) spec->width = (float)json_number_value(width);
}

/* ---- opening ---- */

static void load_weights(struct golden_net *c, const char *path) {
    struct safetensors *weights;
    assert_ok(safetensors_open(path, &weights));
    for (int32_t i = 0; i < net_n_params(c->net); i++) {
        const struct net_param *p = net_param(c->net, i);
        float *host = malloc(sizeof(float) * (size_t)p->n_elem);
        assert_non_null(host);
        assert_ok(safetensors_get_f32(weights, p->name, p->n_dims, p->shape, p->n_elem, host));
        assert_ok(net_set(c->net, i, p->is_buffer ? net_buffers(c->net) : net_params(c->net), host));
        free(host);
    }
    safetensors_close(weights);
    assert_ok(net_refresh_shadow(c->net));
}

void golden_net_open(struct golden_net *c, const char *folder, struct golden_backend backend,
                     enum dtype precision) {
    char path[640];
    memset(c, 0, sizeof *c);
    snprintf(c->name, sizeof c->name, "%.60s", strrchr(folder, '/') + 1);
    snprintf(path, sizeof path, "%s/case.json", folder);
    c->about = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!c->about) fail_msg("cannot read %s", path);
    read_spec(c);
    c->batch = (int32_t)golden_net_number(c, "batch");
    c->height = (int32_t)golden_net_number(c, "height");
    c->width = (int32_t)golden_net_number(c, "width");
    c->train = json_is_true(json_object_get(c->about, "train"));
    snprintf(path, sizeof path, "%s/golden.safetensors", folder);
    assert_ok(safetensors_open(path, &c->expected));
    c->images = golden_net_expected(c, "input", (int64_t)c->batch * c->height * c->width * 3);
    c->labels = malloc(sizeof(int32_t) * (size_t)c->batch);
    const struct safetensor *labels = safetensors_find(c->expected, "labels");
    assert_true(c->images && c->labels && labels && labels->n_elem == c->batch);
    assert_ok(safetensor_read_i32(c->expected, labels, c->labels));
    assert_ok(net_new(backend.ops, backend.be, &c->spec, c->height, c->width, precision, &c->net));
    snprintf(path, sizeof path, "%s/weights.safetensors", folder);
    load_weights(c, path);
}

void golden_net_close(struct golden_net *c) {
    net_free(c->net);
    safetensors_close(c->expected);
    json_decref(c->about);
    free(c->images);
    free(c->labels);
}

/* ---- comparing ---- */

float *golden_net_expected(const struct golden_net *c, const char *name, int64_t n_elem) {
    const struct safetensor *t = safetensors_find(c->expected, name);
    if (!t) return NULL;
    if (t->n_elem != n_elem)
        fail_msg("%s: %s has %lld elements, %lld computed", c->name, name, (long long)t->n_elem,
                 (long long)n_elem);
    float *out = malloc(sizeof(float) * (size_t)n_elem);
    assert_non_null(out);
    assert_ok(safetensor_read_f32(c->expected, t, out));
    return out;
}

double golden_net_error(const float *got, const float *want, int64_t n_elem, double floor) {
    double largest = floor, error = 0;
    for (int64_t i = 0; i < n_elem; i++) {
        if (!isfinite(got[i])) return INFINITY;
        largest = fmax(largest, fabs((double)want[i]));
        error = fmax(error, fabs((double)got[i] - (double)want[i]));
    }
    return largest > 0 ? error / largest : error;
}

float *golden_net_fetch(const struct net *net, const void *device, enum dtype dtype, int64_t n_elem) {
    const struct ops *ops = net_ops(net);
    struct backend *be = net_backend(net);
    float *host = malloc(sizeof(float) * (size_t)n_elem);
    assert_non_null(host);
    void *wide = NULL;
    if (dtype == DTYPE_BF16) {
        assert_ok(ops->alloc(be, sizeof(float) * (size_t)n_elem, &wide));
        assert_ok(ops->cast(be, DTYPE_F32, wide, DTYPE_BF16, device, n_elem));
    }
    assert_ok(ops->copy_out(be, host, wide ? wide : device, sizeof(float) * (size_t)n_elem));
    if (wide) ops->release(be, wide);
    return host;
}

/* ---- a step ---- */

static void fill_input(struct golden_net *c, struct pass *pass) {
    const struct ops *ops = net_ops(c->net);
    struct backend *be = net_backend(c->net);
    const int64_t n_elem = (int64_t)c->batch * c->height * c->width * 3;
    if (!net_shadow(c->net)) {
        assert_ok(ops->copy_in(be, pass_input(pass), c->images, sizeof(float) * (size_t)n_elem));
        return;
    }
    void *wide;
    assert_ok(ops->alloc(be, sizeof(float) * (size_t)n_elem, &wide));
    assert_ok(ops->copy_in(be, wide, c->images, sizeof(float) * (size_t)n_elem));
    assert_ok(ops->cast(be, DTYPE_BF16, pass_input(pass), DTYPE_F32, wide, n_elem));
    ops->release(be, wide);
}

void golden_net_forward(struct golden_net *c, struct pass *pass) {
    fill_input(c, pass);
    assert_ok(pass_forward(pass, &(struct forward_options){.update_statistics = c->train}));
}

double golden_net_step(struct golden_net *c, struct pass *pass, bool backward) {
    const struct ops *ops = net_ops(c->net);
    struct backend *be = net_backend(c->net);
    void *labels, *loss;
    golden_net_forward(c, pass);
    assert_ok(ops->alloc(be, sizeof(int32_t) * (size_t)c->batch, &labels));
    assert_ok(ops->alloc(be, sizeof(double), &loss));
    assert_ok(ops->copy_in(be, labels, c->labels, sizeof(int32_t) * (size_t)c->batch));
    assert_ok(ops->fill_zero(be, loss, sizeof(double)));
    assert_ok(
        ops->cross_entropy(be, &(struct cross_entropy){.n = c->batch,
                                                       .k = c->spec.n_classes,
                                                       .smoothing = (float)golden_net_number(c, "smoothing"),
                                                       .logits = pass_logits(pass),
                                                       .labels = labels,
                                                       .scale = 1.0f / (float)c->batch,
                                                       .dlogits = pass_dlogits(pass),
                                                       .loss_sum = loss}));
    double sum;
    assert_ok(ops->copy_out(be, &sum, loss, sizeof sum));
    ops->release(be, labels);
    ops->release(be, loss);
    if (backward) {
        assert_ok(ops->fill_zero(be, net_grads(c->net), sizeof(float) * (size_t)net_n_elem(c->net)));
        assert_ok(pass_backward(pass, NULL, NULL));
    }
    return sum / c->batch;
}
