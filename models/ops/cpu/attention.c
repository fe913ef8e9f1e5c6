#include "models/ops/cpu/attention.h"

#include "models/ops/cpu/backend.h"
#include "models/ops/cpu/functions.h"
#include "models/ops/cpu/kernels.h"

struct scratch {
    float *bias;      /* (heads, L keys, padded L queries) */
    float *buffer;    /* one a thread */
    float *dtable;    /* (heads, 2wh-1, padded 2ww-1) a thread */
    float *dqkv_bias; /* (3C) a thread, where there is padding */
    int64_t lp, buffer_elem, table_elem;
};

static bool has_padding(const struct window_attention *a) {
    return a->h % a->wh != 0 || a->w % a->ww != 0;
}

static struct scratch scratch_of(const struct backend *be, const struct window_attention *a, bool backward,
                                 struct carve *c) {
    int64_t vector = SIMD_PICK(kernel_vector)(), l = (int64_t)a->wh * a->ww;
    struct scratch s = {.lp = round_to(l, vector)};
    s.buffer_elem = attention_buffer_elem(a, vector, backward);
    s.table_elem = a->heads * (int64_t)(2 * a->wh - 1) * attention_table_row(a, vector);
    s.bias = carve(c, (size_t)(a->heads * l * s.lp) * 4);
    s.buffer = carve(c, (size_t)(be->n_threads * s.buffer_elem) * 4);
    if (!backward) return s;
    s.dtable = carve(c, (size_t)(be->n_threads * s.table_elem) * 4);
    if (has_padding(a)) s.dqkv_bias = carve(c, (size_t)(be->n_threads * 3 * a->c) * 4);
    return s;
}

size_t cpu_window_attention_scratch(struct backend *be, const struct window_attention *a, bool train) {
    struct carve forward = {0}, backward = {0};
    scratch_of(be, a, false, &forward);
    if (train) scratch_of(be, a, true, &backward);
    return forward.used > backward.used ? forward.used : backward.used;
}

/* The table's rows where key j and query i meet, head by head; 0 behind L. */
struct bias_arguments {
    const struct window_attention *a;
    float *bias;
    int64_t lp;
};

static void expand_bias(const void *arguments, int64_t begin, int64_t end, int32_t part) {
    (void)part;
    const struct bias_arguments *b = arguments;
    const struct window_attention *a = b->a;
    int64_t wh = a->wh, ww = a->ww, l = wh * ww;
    for (int64_t item = begin; item < end; item++) { /* (head, key) */
        int64_t head = item / l, j = item % l;
        float *row = b->bias + item * b->lp;
        for (int64_t i = 0; i < l; i++) {
            int64_t entry = (i / ww - j / ww + wh - 1) * (2 * ww - 1) + i % ww - j % ww + ww - 1;
            row[i] = a->table[entry * a->heads + head];
        }
        for (int64_t i = l; i < b->lp; i++) row[i] = 0;
    }
}

/* dtable (rows, heads) += the parts' sums. */
static void add_tables(const struct window_attention *a, const struct scratch *s, int32_t n_parts,
                       float *dtable) {
    const int64_t rows = 2 * a->wh - 1, columns = 2 * a->ww - 1, padded = s->table_elem / a->heads / rows;
    for (int64_t i = 0; i < rows * columns * a->heads; i++) {
        const int64_t head = i % a->heads, entry = i / a->heads;
        const float *sums = s->dtable + (head * rows + entry / columns) * padded + entry % columns;
        float sum = 0;
        for (int32_t p = 0; p < n_parts; p++)
            sum += sums[p * s->table_elem]; // NOLINT(clang-analyzer-core.NullDereference): scratch is given
        dtable[i] += sum;
    }
}

static void prepare(struct backend *be, const struct window_attention *a, const struct scratch *s,
                    struct attention_arguments *k, int64_t *n_items, double *cost) {
    int64_t l = (int64_t)a->wh * a->ww;
    struct bias_arguments b = {a, s->bias, s->lp};
    parallel_for(be, a->heads * l, 2 * (double)l, expand_bias, &b);
    k->a = a;
    k->bias = s->bias;
    k->buffer = s->buffer;
    k->buffer_elem = s->buffer_elem;
    *n_items = a->heads * a->n * ((a->h + a->wh - 1) / a->wh) * ((a->w + a->ww - 1) / a->ww);
    *cost = (double)(l * l) * (double)(a->c / a->heads) / 10;
}

status_t cpu_window_attention_forward(struct backend *be, const struct window_attention *a, void *y,
                                      void *scratch) {
    if (a->n == 0) return STATUS_OK;
    struct carve c = {.base = scratch};
    struct scratch s = scratch_of(be, a, false, &c);
    struct attention_arguments k = {.y = y};
    int64_t n_items;
    double cost;
    prepare(be, a, &s, &k, &n_items, &cost);
    parallel_for(be, n_items, cost, SIMD_PICK(kernel_attention), &k);
    return STATUS_OK;
}

status_t cpu_window_attention_backward(struct backend *be, const struct window_attention *a,
                                       const struct window_attention_grad *g, void *scratch) {
    if (a->n == 0) return STATUS_OK;
    struct carve c = {.base = scratch};
    struct scratch s = scratch_of(be, a, true, &c);
    struct attention_arguments k = {
        .g = g, .dtable = s.dtable, .dqkv_bias = g->dqkv_bias ? s.dqkv_bias : NULL};
    int64_t n_items;
    double cost;
    prepare(be, a, &s, &k, &n_items, &cost);
    cost *= 3;
    parallel_for(be, n_items, cost, SIMD_PICK(kernel_attention_grad), &k);
    int32_t n_parts = parallel_parts(be, n_items, cost);
    if (g->dtable) add_tables(a, &s, n_parts, g->dtable);
    if (k.dqkv_bias) add_partials(g->dqkv_bias, s.dqkv_bias, n_parts, 3 * a->c, 3 * a->c, NULL);
    return STATUS_OK;
}
