#include "tests/support/op_case.h"

#include "models/ops/bf16.h"
#include "tests/support/op_run.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

/* ---- memory of a table ---- */

static size_t element_bytes(const struct table *t, enum dtype dtype) {
    return dtype == DTYPE_F32 && t->in_double ? sizeof(double) : dtype_bytes(dtype);
}

void *table_bytes(struct table *t, size_t n_bytes) {
    void *p = NULL;
    assert_true(t->n_owned < TABLE_MAX_OWNED);
    assert_ok(t->ops->alloc(t->be, n_bytes, &p));
    t->owned[t->n_owned++] = p;
    return p;
}

static void *up_bytes(struct table *t, const void *host, size_t n_bytes) {
    void *p = table_bytes(t, n_bytes);
    assert_ok(t->ops->copy_in(t->be, p, host, n_bytes));
    return p;
}

void *table_up(struct table *t, enum dtype dtype, const struct tensor *x) {
    if (!x) return NULL;
    if (dtype == DTYPE_F32 && t->in_double) return up_bytes(t, x->v, (size_t)x->n * sizeof(double));
    unsigned char *host = calloc((size_t)x->n + 1, sizeof(float));
    assert_non_null(host);
    for (int64_t i = 0; i < x->n; i++) {
        if (dtype == DTYPE_F32)
            ((float *)(void *)host)[i] = (float)x->v[i];
        else
            ((uint16_t *)(void *)host)[i] = bf16_from_f32((float)x->v[i]);
    }
    void *p = up_bytes(t, host, (size_t)x->n * dtype_bytes(dtype));
    free(host);
    return p;
}

void *table_filled(struct table *t, enum dtype dtype, int64_t n, double value) {
    struct tensor x = tensor_new("fill", 1, &n);
    for (int64_t i = 0; i < n; i++) x.v[i] = value;
    void *p = table_up(t, dtype, &x);
    tensor_free(&x);
    return p;
}

int32_t *table_up_i32(struct table *t, const struct tensor *x) {
    if (!x) return NULL;
    int32_t *host = calloc((size_t)x->n + 1, sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < x->n; i++) host[i] = (int32_t)x->v[i];
    int32_t *p = up_bytes(t, host, (size_t)x->n * sizeof *host);
    free(host);
    return p;
}

uint8_t *table_up_u8(struct table *t, const struct tensor *x) {
    if (!x) return NULL;
    uint8_t *host = calloc((size_t)x->n + 1, 1);
    assert_non_null(host);
    for (int64_t i = 0; i < x->n; i++) host[i] = (uint8_t)x->v[i];
    uint8_t *p = up_bytes(t, host, (size_t)x->n);
    free(host);
    return p;
}

struct tensor table_down(struct table *t, enum dtype dtype, const void *p, const char *name, int32_t n_dims,
                         const int64_t *shape) {
    struct tensor x = tensor_new(name, n_dims, shape);
    const size_t n_bytes = (size_t)x.n * element_bytes(t, dtype);
    void *host = malloc(n_bytes + 1);
    assert_non_null(host);
    assert_ok(t->ops->copy_out(t->be, host, p, n_bytes));
    for (int64_t i = 0; i < x.n; i++) {
        if (dtype == DTYPE_BF16)
            x.v[i] = (double)bf16_to_f32(((const uint16_t *)host)[i]);
        else
            x.v[i] = t->in_double ? ((const double *)host)[i] : (double)((const float *)host)[i];
    }
    free(host);
    return x;
}

void table_release(struct table *t) {
    while (t->n_owned > 0) t->ops->release(t->be, t->owned[--t->n_owned]);
}

double round_to_bf16(double x) {
    return (double)bf16_to_f32(bf16_from_f32((float)x));
}

/* ---- cases ---- */

struct op_case *case_new(const char *operation, const char *name) {
    struct op_case *c = calloc(1, sizeof *c);
    assert_non_null(c);
    assert_true(strlen(operation) < sizeof c->operation && strlen(name) < sizeof c->name);
    strcpy(c->operation, operation);
    strcpy(c->name, name);
    return c;
}

static void drop_outputs(struct op_case *c) {
    while (c->n_out > 0) tensor_free(&c->out[--c->n_out]);
}

void case_free(struct op_case *c) {
    drop_outputs(c);
    while (c->n_in > 0) tensor_free(&c->in[--c->n_in]);
    free(c);
}

static herr_t read_setting(hid_t at, const char *name, const H5A_info_t *info, void *context) {
    (void)info;
    struct op_case *c = context;
    assert_true(c->n_settings < CASE_MAX_SETTINGS && strlen(name) < sizeof c->settings[0].name);
    struct setting *s = &c->settings[c->n_settings++];
    strcpy(s->name, name);
    s->n = golden_attributes(at, ".", name, s->v, 4);
    return 0;
}

static void read_input(hid_t group, const char *name, void *context) {
    struct op_case *c = context;
    assert_true(c->n_in < CASE_MAX_TENSORS);
    c->in[c->n_in++] = tensor_read(group, name);
}

struct op_case *case_read(hid_t file, const char *operation, const char *name) {
    struct op_case *c = case_new(operation, name);
    char path[2 * TENSOR_MAX_NAME + 2];
    snprintf(path, sizeof path, "%s/%s", operation, name);
    const hid_t group = H5Gopen2(file, path, H5P_DEFAULT);
    assert_true(group >= 0);
    assert_true(H5Aiterate2(group, H5_INDEX_NAME, H5_ITER_INC, NULL, read_setting, c) >= 0);
    H5Gclose(group);
    golden_walk(file, path, read_input, c);
    return c;
}

struct tensor *case_add(struct op_case *c, const char *name, int32_t n_dims, const int64_t *shape) {
    assert_true(c->n_in < CASE_MAX_TENSORS);
    c->in[c->n_in] = tensor_new(name, n_dims, shape);
    return &c->in[c->n_in++];
}

void case_set2(struct op_case *c, const char *name, double first, double second) {
    struct setting *s = NULL;
    for (int32_t i = 0; i < c->n_settings; i++)
        if (strcmp(c->settings[i].name, name) == 0) s = &c->settings[i];
    if (!s) {
        assert_true(c->n_settings < CASE_MAX_SETTINGS && strlen(name) < sizeof s->name);
        s = &c->settings[c->n_settings++];
        strcpy(s->name, name);
    }
    s->n = 2;
    s->v[0] = first;
    s->v[1] = second;
}

void case_set(struct op_case *c, const char *name, double value) {
    case_set2(c, name, value, value);
}

double case_setting_at(const struct op_case *c, const char *name, int32_t index, double otherwise) {
    for (int32_t i = 0; i < c->n_settings; i++)
        if (strcmp(c->settings[i].name, name) == 0) return c->settings[i].v[index];
    return otherwise;
}

double case_setting(const struct op_case *c, const char *name, double otherwise) {
    return case_setting_at(c, name, 0, otherwise);
}

struct tensor *case_find(struct op_case *c, const char *name) {
    for (int32_t i = 0; i < c->n_in; i++) {
        if (strcmp(c->in[i].name, name) != 0) continue;
        c->used[i] = true;
        return &c->in[i];
    }
    return NULL;
}

struct tensor *case_need(struct op_case *c, const char *name) {
    struct tensor *x = case_find(c, name);
    if (!x) fail_msg("%s/%s lacks %s", c->operation, c->name, name);
    return x;
}

const struct tensor *case_output(const struct op_case *c, const char *name) {
    for (int32_t i = 0; i < c->n_out; i++)
        if (strcmp(c->out[i].name, name) == 0) return &c->out[i];
    return NULL;
}

static void run_once(struct table *t, enum dtype dtype, struct op_case *c) {
    drop_outputs(c);
    memset(c->used, 0, sizeof c->used);
    for (int32_t i = 0; i < n_op_runners; i++) {
        if (strcmp(op_runners[i].operation, c->operation) != 0) continue;
        op_runners[i].run(&(struct op_run){.t = t, .dtype = dtype, .c = c});
        table_release(t);
        return;
    }
    fail_msg("no way to run the operation %s", c->operation);
}

void case_run_again(struct table *t, enum dtype dtype, struct op_case *c) {
    struct tensor first[CASE_MAX_TENSORS];
    const int32_t n = c->n_out;
    memcpy(first, c->out, sizeof first);
    c->n_out = 0; /* the tensors are ours now */
    run_once(t, dtype, c);
    assert_int_equal(c->n_out, n);
    for (int32_t i = 0; i < n; i++) {
        if (memcmp(first[i].v, c->out[i].v, (size_t)first[i].n * sizeof(double)) != 0)
            fail_msg("%s: %s, %s: %s differs from run to run", t->label, c->operation, c->name,
                     first[i].name);
        tensor_free(&first[i]);
    }
}

void case_run(struct table *t, enum dtype dtype, struct op_case *c) {
    if (t->set_order) t->set_order(0);
    run_once(t, dtype, c);
    for (int n = 1; n < t->n_orders; n++) {
        t->set_order(n);
        case_run_again(t, dtype, c);
    }
}
