#include "models/ops/cpu/onednn.h"

#include "common/memory.h"

#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#define V3 (DNNL_VERSION_MAJOR >= 3)

/* ---- memory descriptors: a struct in 2.x, an owned pointer in 3.x ---- */

#if V3
typedef dnnl_memory_desc_t md_t;
typedef const_dnnl_memory_desc_t md_const_t;
#define MD(x) (x)
static dnnl_status_t md_strided(md_t *md, int n_dims, const dnnl_dims_t dims, dnnl_data_type_t type,
                                const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(md, n_dims, dims, type, strides);
}
static void md_free(md_t *md) {
    if (*md) dnnl_memory_desc_destroy(*md);
    *md = NULL;
}
#else
typedef dnnl_memory_desc_t md_t;
typedef const dnnl_memory_desc_t *md_const_t;
#define MD(x) (&(x))
static dnnl_status_t md_strided(md_t *md, int n_dims, const dnnl_dims_t dims, dnnl_data_type_t type,
                                const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(md, n_dims, dims, type, strides);
}
static void md_free(md_t *md) {
    (void)md;
}
#endif

static dnnl_data_type_t dnnl_type(enum dtype type) {
    return type == DTYPE_F32 ? dnnl_f32 : dnnl_bf16;
}

/* ---- primitives ---- */

#define MAX_ARGUMENTS 8

/* What a primitive is known by: zeroed, then filled, compared as bytes. */
struct key {
    int64_t number[16];
};

struct primitive {
    struct primitive *next; /* in its bucket */
    struct key key;
    dnnl_primitive_t primitive;
    int n_arguments;
    dnnl_exec_arg_t arguments[MAX_ARGUMENTS]; /* the last is the scratchpad */
    char implementation[48];
};

#define N_BUCKETS 1024

struct onednn {
    int32_t n_threads;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void *scratchpad; /* shared by all primitives: they run one after another */
    size_t scratchpad_bytes;
    struct primitive *buckets[N_BUCKETS];
};

#define DNNL_TRY(call, what)                                                                                 \
    do {                                                                                                     \
        dnnl_status_t dnnl_status_ = (call);                                                                 \
        CHECK(dnnl_status_ == dnnl_success,                                                                  \
              dnnl_status_ == dnnl_out_of_memory ? STATUS_NO_MEMORY : STATUS_INTERNAL,                       \
              "oneDNN %s: %s returned %d", onednn_version_text(), what, (int)dnnl_status_);                  \
    } while (0)

#define DNNL_TRY_TO(label, call, what)                                                                       \
    do {                                                                                                     \
        dnnl_status_t dnnl_status_ = (call);                                                                 \
        CHECK_TO(label, dnnl_status_ == dnnl_success,                                                        \
                 dnnl_status_ == dnnl_out_of_memory ? STATUS_NO_MEMORY : STATUS_INTERNAL,                    \
                 "oneDNN %s: %s returned %d", onednn_version_text(), what, (int)dnnl_status_);               \
    } while (0)

const char *onednn_version_text(void) {
    static _Thread_local char text[24];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

static void primitive_free(struct primitive *p) {
    if (!p) return;
    for (int i = 0; i < p->n_arguments; i++)
        if (p->arguments[i].memory) dnnl_memory_destroy(p->arguments[i].memory);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    free(p);
}

status_t onednn_open(int32_t n_threads, struct onednn **out) {
    status_t status = STATUS_OK;
    struct onednn *o = memory_zeroed(1, sizeof *o);
    CHECK(o, STATUS_NO_MEMORY, "no memory for oneDNN's handles");
    o->n_threads = n_threads;
    DNNL_TRY_TO(failed, dnnl_engine_create(&o->engine, dnnl_cpu, 0), "engine_create");
    DNNL_TRY_TO(failed, dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags),
                "stream_create");
    *out = o;
    return STATUS_OK;
failed:
    onednn_close(o);
    return status;
}

void onednn_close(struct onednn *o) {
    if (!o) return;
    for (int i = 0; i < N_BUCKETS; i++) {
        while (o->buckets[i]) {
            struct primitive *p = o->buckets[i];
            o->buckets[i] = p->next;
            primitive_free(p);
        }
    }
    free(o->scratchpad);
    if (o->stream) dnnl_stream_destroy(o->stream);
    if (o->engine) dnnl_engine_destroy(o->engine);
    free(o);
}

int64_t onednn_n_primitives(const struct onednn *o) {
    int64_t n = 0;
    for (int i = 0; i < N_BUCKETS; i++)
        for (const struct primitive *p = o->buckets[i]; p; p = p->next) n++;
    return n;
}

const char *onednn_reference_primitive(const struct onednn *o) {
    for (int i = 0; i < N_BUCKETS; i++)
        for (const struct primitive *p = o->buckets[i]; p; p = p->next)
            if (strstr(p->implementation, "ref")) return p->implementation;
    return NULL;
}

static uint32_t key_bucket(const struct key *key) {
    uint64_t h = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(key->number); i++)
        h = (h ^ (uint64_t)key->number[i]) * UINT64_C(0x9E3779B97F4A7C15), h ^= h >> 29;
    return (uint32_t)(h % N_BUCKETS);
}

static struct primitive *primitive_find(const struct onednn *o, const struct key *key) {
    for (struct primitive *p = o->buckets[key_bucket(key)]; p; p = p->next)
        if (memcmp(&p->key, key, sizeof *key) == 0) return p;
    return NULL;
}

/* The next argument of `p`: memory without a pointer yet. */
static status_t primitive_argument(struct onednn *o, struct primitive *p, int argument, md_const_t md) {
    CHECK(p->n_arguments < MAX_ARGUMENTS, STATUS_INTERNAL, "a primitive has too many arguments");
    dnnl_memory_t memory = NULL;
    DNNL_TRY(dnnl_memory_create(&memory, md, o->engine, DNNL_MEMORY_NONE), "memory_create");
    p->arguments[p->n_arguments++] = (dnnl_exec_arg_t){.arg = argument, .memory = memory};
    return STATUS_OK;
}

/* The primitive and its scratchpad from `pd`, which is destroyed. Then it is in the table. */
static status_t primitive_finish(struct onednn *o, struct primitive *p, dnnl_primitive_desc_t pd) {
    status_t status = STATUS_OK;
    const char *name = NULL;
    DNNL_TRY_TO(done, dnnl_primitive_create(&p->primitive, pd), "primitive_create");
    DNNL_TRY_TO(done, dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name), "query of the name");
    snprintf(p->implementation, sizeof p->implementation, "%s", name);
    md_const_t md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t n_bytes = md ? dnnl_memory_desc_get_size(md) : 0;
    if (n_bytes > o->scratchpad_bytes) {
        free(o->scratchpad);
        o->scratchpad_bytes = 0;
        o->scratchpad = memory_aligned(n_bytes);
        CHECK_TO(done, o->scratchpad, STATUS_NO_MEMORY, "no memory for %zu bytes of oneDNN's scratchpad",
                 n_bytes);
        o->scratchpad_bytes = n_bytes;
    }
    if (n_bytes > 0) TRY_TO(done, primitive_argument(o, p, DNNL_ARG_SCRATCHPAD, md));
    uint32_t bucket = key_bucket(&p->key);
    p->next = o->buckets[bucket];
    o->buckets[bucket] = p;
done:
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* Run with these pointers, in the order in which the arguments were added. */
static status_t primitive_run(struct onednn *o, struct primitive *p, void *const *pointers, int n_pointers) {
    if (omp_get_max_threads() != o->n_threads) omp_set_num_threads(o->n_threads);
    for (int i = 0; i < p->n_arguments; i++) {
        void *pointer = i < n_pointers ? pointers[i] : o->scratchpad;
        DNNL_TRY(dnnl_memory_set_data_handle(p->arguments[i].memory, pointer), "set_data_handle");
    }
    DNNL_TRY(dnnl_primitive_execute(p->primitive, o->stream, p->n_arguments, p->arguments),
             p->implementation);
    return STATUS_OK;
}

/* ---- matrix product ---- */

static struct key matmul_key(const struct matmul *a) {
    struct key key = {{0}};
    int64_t flags = a->type | a->c_type << 1 | a->transpose_a << 2 | a->transpose_b << 3 |
                    (a->bias != NULL) << 4 | (a->column_scale != NULL) << 5 | (a->residual != NULL) << 6 |
                    (int64_t)a->activation << 7;
    int32_t alpha, beta;
    memcpy(&alpha, &a->alpha, sizeof alpha);
    memcpy(&beta, &a->beta, sizeof beta);
    int64_t number[] = {1, flags, a->m, a->n, a->k, a->lda, a->ldb, a->ldc, alpha, beta};
    memcpy(key.number, number, sizeof number);
    return key;
}

static dnnl_status_t append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha, float beta) {
#if V3
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, beta);
#else
    return dnnl_post_ops_append_eltwise(ops, 1.0f, kind, alpha, beta);
#endif
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops, float scale) {
#if V3
    return dnnl_post_ops_append_sum(ops, scale, 0, dnnl_data_type_undef);
#else
    return dnnl_post_ops_append_sum(ops, scale);
#endif
}

/* What follows the product, in the order of struct matmul's formula; the sum comes last. */
static status_t matmul_post_ops(const struct matmul *a, dnnl_post_ops_t ops, md_t *row, md_t *c) {
    if (a->alpha != 1) DNNL_TRY(append_eltwise(ops, dnnl_eltwise_linear, a->alpha, 0), "scaling");
    if (a->activation == MATMUL_GELU) DNNL_TRY(append_eltwise(ops, dnnl_eltwise_gelu_erf, 0, 0), "GELU");
    if (a->activation == MATMUL_RELU6) DNNL_TRY(append_eltwise(ops, dnnl_eltwise_clip, 0, 6), "ReLU6");
    if (a->column_scale)
        DNNL_TRY(dnnl_post_ops_append_binary(ops, dnnl_binary_mul, MD(*row)), "column scale");
    if (a->residual) DNNL_TRY(dnnl_post_ops_append_binary(ops, dnnl_binary_add, MD(*c)), "residual");
    if (a->beta != 0) DNNL_TRY(append_sum(ops, a->beta), "accumulation");
    return STATUS_OK;
}

struct matmul_descriptors {
    md_t a, b, bias, row, c;
};

static status_t matmul_descriptors(const struct matmul *a, struct matmul_descriptors *d) {
    dnnl_data_type_t type = dnnl_type(a->type);
    const dnnl_dims_t a_dims = {a->m, a->k}, b_dims = {a->k, a->n}, c_dims = {a->m, a->n},
                      row_dims = {1, a->n};
    const dnnl_dims_t a_strides = {a->transpose_a ? 1 : a->lda, a->transpose_a ? a->lda : 1};
    const dnnl_dims_t b_strides = {a->transpose_b ? 1 : a->ldb, a->transpose_b ? a->ldb : 1};
    const dnnl_dims_t c_strides = {a->ldc, 1}, row_strides = {a->n, 1};
    DNNL_TRY(md_strided(&d->a, 2, a_dims, type, a_strides), "descriptor of A");
    DNNL_TRY(md_strided(&d->b, 2, b_dims, type, b_strides), "descriptor of B");
    DNNL_TRY(md_strided(&d->c, 2, c_dims, dnnl_type(a->c_type), c_strides), "descriptor of C");
    DNNL_TRY(md_strided(&d->bias, 2, row_dims, dnnl_f32, row_strides), "descriptor of the bias");
    DNNL_TRY(md_strided(&d->row, 2, row_dims, dnnl_f32, row_strides), "descriptor of a row");
    return STATUS_OK;
}

static dnnl_status_t matmul_primitive_desc(struct onednn *o, const struct matmul *a,
                                           struct matmul_descriptors *d, dnnl_primitive_attr_t attr,
                                           dnnl_primitive_desc_t *pd) {
#if V3
    return dnnl_matmul_primitive_desc_create(pd, o->engine, d->a, d->b, a->bias ? d->bias : NULL, d->c, attr);
#else
    dnnl_matmul_desc_t desc;
    dnnl_status_t s = dnnl_matmul_desc_init(&desc, &d->a, &d->b, a->bias ? &d->bias : NULL, &d->c);
    return s != dnnl_success ? s : dnnl_primitive_desc_create(pd, &desc, attr, o->engine, NULL);
#endif
}

/* Arguments in the order in which onednn_matmul() lists its pointers. */
static status_t matmul_arguments(struct onednn *o, const struct matmul *a, struct matmul_descriptors *d,
                                 struct primitive *p) {
    TRY(primitive_argument(o, p, DNNL_ARG_SRC, MD(d->a)));
    TRY(primitive_argument(o, p, DNNL_ARG_WEIGHTS, MD(d->b)));
    TRY(primitive_argument(o, p, DNNL_ARG_DST, MD(d->c)));
    if (a->bias) TRY(primitive_argument(o, p, DNNL_ARG_BIAS, MD(d->bias)));
    int index = (a->alpha != 1) + (a->activation != MATMUL_NONE);
    if (a->column_scale)
        TRY(primitive_argument(o, p, DNNL_ARG_ATTR_MULTIPLE_POST_OP(index++) | DNNL_ARG_SRC_1, MD(d->row)));
    if (a->residual)
        TRY(primitive_argument(o, p, DNNL_ARG_ATTR_MULTIPLE_POST_OP(index) | DNNL_ARG_SRC_1, MD(d->c)));
    return STATUS_OK;
}

static status_t matmul_new(struct onednn *o, const struct matmul *a, const struct key *key,
                           struct primitive **out) {
    status_t status = STATUS_OK;
    struct matmul_descriptors d;
    memset(&d, 0, sizeof d);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    struct primitive *p = memory_zeroed(1, sizeof *p);
    CHECK_TO(done, p, STATUS_NO_MEMORY, "no memory for a primitive");
    p->key = *key;
    if (omp_get_max_threads() != o->n_threads) omp_set_num_threads(o->n_threads);
    TRY_TO(done, matmul_descriptors(a, &d));
    DNNL_TRY_TO(done, dnnl_primitive_attr_create(&attr), "attr_create");
    DNNL_TRY_TO(done, dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user),
                "scratchpad mode");
    DNNL_TRY_TO(done, dnnl_post_ops_create(&ops), "post_ops_create");
    TRY_TO(done, matmul_post_ops(a, ops, &d.row, &d.c));
    DNNL_TRY_TO(done, dnnl_primitive_attr_set_post_ops(attr, ops), "set_post_ops");
    DNNL_TRY_TO(done, matmul_primitive_desc(o, a, &d, attr, &pd), "matmul");
    status = matmul_arguments(o, a, &d, p);
    if (status != STATUS_OK) {
        dnnl_primitive_desc_destroy(pd);
        goto done;
    }
    TRY_TO(done, primitive_finish(o, p, pd));
    *out = p;
done:
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    md_free(&d.a), md_free(&d.b), md_free(&d.c), md_free(&d.bias), md_free(&d.row);
    if (status != STATUS_OK) primitive_free(p);
    return status;
}

status_t onednn_matmul(struct onednn *o, const struct matmul *a) {
    struct key key = matmul_key(a);
    struct primitive *p = primitive_find(o, &key);
    if (!p) TRY(matmul_new(o, a, &key, &p));
    void *pointers[MAX_ARGUMENTS];
    int n = 0;
    pointers[n++] = (void *)(uintptr_t)a->a;
    pointers[n++] = (void *)(uintptr_t)a->b;
    pointers[n++] = a->c;
    if (a->bias) pointers[n++] = (void *)(uintptr_t)a->bias;
    if (a->column_scale) pointers[n++] = (void *)(uintptr_t)a->column_scale;
    if (a->residual) pointers[n++] = (void *)(uintptr_t)a->residual;
    return primitive_run(o, p, pointers, n);
}
