/* Initial weights: see net_init() in net.h. */
#include "models/net_internal.h"

#include "common/memory.h"

#include <math.h>
#include <string.h>

enum distribution { CONSTANT, UNIFORM, NORMAL };

struct start {
    enum distribution distribution;
    double value; /* the constant, half the width, or the standard deviation */
};

static bool ends_with(const char *name, const char *tail) {
    const size_t n = strlen(name), n_tail = strlen(tail);
    return n >= n_tail && strcmp(name + n - n_tail, tail) == 0;
}

static struct start start_mobilenetv2(const struct net_param *p) {
    if (p->is_head) return (struct start){NORMAL, 0.01};
    return (struct start){NORMAL, sqrt(2.0 / (double)p->fan_out)}; /* He et al. 2015, fan out */
}

static struct start start_matrix(const struct model_spec *spec, const struct net_param *p) {
    if (spec->family == MODEL_MOBILENETV2) return start_mobilenetv2(p);
    if (spec->init == MODEL_INIT_XAVIER && !p->is_head && !p->is_table)
        return (struct start){UNIFORM,
                              sqrt(6.0 / (double)(p->fan_in + p->fan_out))}; /* Glorot & Bengio 2010 */
    return (struct start){NORMAL, 0.02};
}

static struct start start_of(const struct model_spec *spec, const struct net_param *p) {
    if (p->n_dims > 1) return start_matrix(spec, p);
    if (ends_with(p->name, ".running_var") || ends_with(p->name, ".weight"))
        return (struct start){CONSTANT, 1}; /* norms */
    if (ends_with(p->name, ".gamma")) return (struct start){CONSTANT, spec->layer_scale};
    if (spec->init == MODEL_INIT_XAVIER && strcmp(p->name, "patch_embed.proj.bias") == 0)
        return (struct start){UNIFORM, 1 / sqrt(spec->embed)};
    return (struct start){CONSTANT, 0};
}

/* Draw parameter `index` in the framework's order of elements and put it in place. */
static status_t draw(struct net *net, int32_t index, struct start start, struct rng_key key) {
    const struct net_param *p = &net->table.items[index];
    float *host = memory_aligned(sizeof(float) * (size_t)p->n_elem);
    CHECK(host, STATUS_NO_MEMORY, "out of memory for the initial %s", p->name);
    key.purpose = RNG_INIT;
    key.item = (uint32_t)index;
    struct rng rng = rng_start(key);
    for (int64_t i = 0; i < p->n_elem; i++) {
        switch (start.distribution) {
        case CONSTANT:
            host[i] = (float)start.value;
            break;
        case UNIFORM:
            host[i] = (float)(start.value * (2 * rng_double(&rng) - 1));
            break;
        case NORMAL:
            host[i] = (float)(start.value * rng_normal(&rng));
            break;
        }
    }
    status_t status = net_set(net, index, p->is_buffer ? net->buffers : net->params, host);
    free(host);
    return status;
}

status_t net_init(struct net *net, uint64_t seed, uint8_t peer) {
    const struct rng_key key = {.seed = seed, .peer = peer};
    for (int32_t i = 0; i < net->table.n; i++)
        TRY(draw(net, i, start_of(&net->spec, &net->table.items[i]), key));
    return net_refresh_shadow(net);
}

status_t net_init_head(struct net *net, uint64_t seed, uint8_t peer) {
    const struct rng_key key = {.seed = seed, .peer = peer, .sub = 1};
    const struct start start = {UNIFORM, 1 / sqrt(net->n_features)};
    for (int32_t i = 0; i < net->table.n; i++)
        if (net->table.items[i].is_head) TRY(draw(net, i, start, key));
    return net_refresh_shadow(net);
}
