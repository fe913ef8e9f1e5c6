#include "models/ops/cuda/conv_engine.h"

#include "common/log.h"
#include "common/memory.h"
#include "models/ops/cuda/cudnn_graph.h"
#include "models/ops/cuda/functions.h"
#include "models/ops/cuda/patches.h"
#include "models/ops/cuda/rows.h"
#include "models/ops/cuda/timing.h"

#include <stdio.h>
#include <string.h>

#ifndef CUDNN_LIBRARY
#define CUDNN_LIBRARY "libcudnn.so.9"
#endif

enum { N_CANDIDATES = 4, WORKSPACE_MAX = 256 << 20, N_PASSES = 3 };

/* What was decided for one shape and pass. */
struct decision {
    struct conv_shape shape;
    struct cudnn_plan *plan; /* NULL: ours */
    float ours_ms, best_ms;  /* of a race */
    struct decision *next;
};

struct conv_engines {
    struct cudnn *lib; /* NULL: cannot be had */
    enum { OURS, CUDNN, FASTER } mode;
    bool racing;
    struct decision *decisions;
};

/* A convolution of either kind; one of conv, depthwise is not NULL. */
struct call {
    const struct conv *conv;
    const struct depthwise *depthwise;
    const void *x, *weight;
    const float *bias;
    bool relu6;
    struct conv_shape shape;
    int64_t rows, columns, n_weights; /* of y; elements */
};

static struct call call_of(const struct conv *conv, const struct depthwise *depthwise) {
    struct call c;
    memset(&c, 0, sizeof c); /* shapes are compared as bytes */
    c.conv = conv, c.depthwise = depthwise;
    struct conv_shape *s = &c.shape;
    if (conv) {
        c.x = conv->x, c.weight = conv->weight, c.bias = conv->bias, c.relu6 = conv->relu6;
        s->dtype = conv->dtype, s->n = conv->n, s->h = conv->h, s->w = conv->w;
        s->cin = conv->cin, s->cout = conv->cout, s->k = conv->k, s->stride = conv->stride,
        s->pad = conv->pad;
    } else {
        c.x = depthwise->x, c.weight = depthwise->weight, c.bias = depthwise->bias,
        c.relu6 = depthwise->relu6;
        s->dtype = depthwise->dtype, s->n = depthwise->n, s->h = depthwise->h, s->w = depthwise->w;
        s->cin = s->cout = depthwise->c, s->k = depthwise->k, s->stride = depthwise->stride;
        s->pad = depthwise->pad, s->depthwise = true;
    }
    c.rows =
        s->n * ((s->h + 2 * s->pad - s->k) / s->stride + 1) * ((s->w + 2 * s->pad - s->k) / s->stride + 1);
    c.columns = s->cout;
    c.n_weights = s->cout * s->k * s->k * (s->depthwise ? 1 : s->cin);
    return c;
}

/* ---- ours ---- */

static size_t ours_scratch(struct backend *be, const struct call *c, bool train) {
    return c->conv ? cuda_conv_scratch(be, c->conv, train) : cuda_depthwise_scratch(be, c->depthwise, train);
}
static status_t ours_forward(struct backend *be, const struct call *c, void *y, void *scratch) {
    return c->conv ? cuda_conv_forward(be, c->conv, y, scratch)
                   : cuda_depthwise_forward(be, c->depthwise, y, scratch);
}
static status_t ours_backward(struct backend *be, const struct call *c, const struct conv_grad *g,
                              void *scratch) {
    return c->conv ? cuda_conv_backward(be, c->conv, g, scratch)
                   : cuda_depthwise_backward(be, c->depthwise, g, scratch);
}

/* ---- cuDNN's, with what surrounds them ---- */

struct room {
    void *workspace;
    void *weight; /* depthwise: as cuDNN takes them */
    void *dx;     /* where dx is added to */
    void *dw;     /* of dtype */
};

static size_t room_of(const struct call *c, size_t workspace, void *scratch, struct room *room) {
    struct pieces p = {.base = scratch};
    const struct conv_shape *s = &c->shape;
    const size_t element = dtype_bytes(s->dtype);
    room->weight = take(&p, s->depthwise ? (size_t)c->n_weights * element : 0);
    room->dw = take(&p, (size_t)c->n_weights * element);
    room->dx = take(&p, s->pass == CONV_DX ? (size_t)(s->n * s->h * s->w * s->cin) * element : 0);
    room->workspace = take(&p, workspace);
    return p.used;
}

static status_t weights(struct backend *be, const struct call *c, const struct room *room, const void **out) {
    *out = c->weight;
    if (!c->shape.depthwise) return STATUS_OK;
    *out = room->weight;
    return patches_taps_last(be, c->weight, (int64_t)c->shape.k * c->shape.k, c->shape.cin, room->weight);
}

static status_t cudnn_forward(struct backend *be, const struct call *c, const struct cudnn_plan *plan,
                              void *y, void *scratch) {
    struct room room;
    const void *w;
    room_of(c, cudnn_plan_workspace(plan), scratch, &room);
    TRY(weights(be, c, &room, &w));
    TRY(cudnn_plan_run(be->engines->lib, plan, c->x, w, y, room.workspace));
    if (!c->bias && !c->relu6) return STATUS_OK;
    const struct row_epilogue epilogue = {.dtype = c->shape.dtype,
                                          .rows = c->rows,
                                          .columns = c->columns,
                                          .rows_per_image = 1,
                                          .z = y,
                                          .bias = c->bias,
                                          .relu6 = c->relu6,
                                          .y = y};
    return rows_epilogue(be, &epilogue);
}

static status_t cudnn_dx(struct backend *be, const struct call *c, const struct cudnn_plan *plan,
                         const struct conv_grad *g, void *scratch) {
    const struct conv_shape *s = &c->shape;
    struct room room;
    const void *w;
    room_of(c, cudnn_plan_workspace(plan), scratch, &room);
    void *dx = g->dx_accumulate ? room.dx : g->dx;
    TRY(weights(be, c, &room, &w));
    TRY(cudnn_plan_run(be->engines->lib, plan, dx, w, g->dy, room.workspace));
    return g->dx_accumulate ? cuda_add(be, s->dtype, g->dx, dx, s->n * s->h * s->w * s->cin) : STATUS_OK;
}

static status_t cudnn_dw(struct backend *be, const struct call *c, const struct cudnn_plan *plan,
                         const struct conv_grad *g, void *scratch) {
    const struct conv_shape *s = &c->shape;
    struct room room;
    room_of(c, cudnn_plan_workspace(plan), scratch, &room);
    TRY(cudnn_plan_run(be->engines->lib, plan, c->x, room.dw, g->dy, room.workspace));
    if (s->depthwise) return patches_add_taps_last(be, room.dw, (int64_t)s->k * s->k, s->cin, g->dweight);
    return patches_add_rows(be, s->dtype, room.dw, 1, c->n_weights, c->n_weights, g->dweight);
}

/* ---- deciding ---- */

static void engines_open(struct backend *be) {
    const char *told = getenv("MARRS_CONV_ENGINE");
    struct conv_engines *e = be->engines = memory_zeroed(1, sizeof *e);
    if (!e) return;
    e->mode = told && strcmp(told, "cudnn") == 0  ? CUDNN
              : told && strcmp(told, "ours") == 0 ? OURS
              : be->autotune                      ? FASTER
                                                  : OURS;
    if (e->mode == OURS) return;
    if (cudnn_open(CUDNN_LIBRARY, be->stream, NULL, &e->lib) != STATUS_OK) {
        log_local(LOG_INFO, "GPU: convolutions by our own kernels: %s", status_message());
        e->lib = NULL;
    }
}

void conv_engines_close(struct conv_engines *engines) {
    if (!engines) return;
    for (struct decision *d = engines->decisions; d;) {
        struct decision *next = d->next;
        cudnn_plan_free(engines->lib, d->plan);
        free(d);
        d = next;
    }
    cudnn_close(engines->lib);
    free(engines);
}

int64_t conv_engines_raced(const struct backend *be, int64_t *n_decided) {
    int64_t n_foreign = 0;
    *n_decided = 0;
    for (const struct decision *d = be->engines ? be->engines->decisions : NULL; d; d = d->next) {
        ++*n_decided;
        n_foreign += d->plan != NULL;
    }
    return n_foreign;
}

static const struct decision *find(const struct backend *be, const struct call *c, enum conv_pass pass) {
    struct conv_shape shape = c->shape;
    shape.pass = pass;
    for (const struct decision *d = be && be->engines ? be->engines->decisions : NULL; d; d = d->next)
        if (memcmp(&d->shape, &shape, sizeof shape) == 0) return d;
    return NULL;
}

/* cuDNN's plan of this pass, NULL where it is ours. */
static const struct cudnn_plan *plan_of(const struct backend *be, const struct call *c, enum conv_pass pass) {
    const struct decision *d = find(be, c, pass);
    return d ? d->plan : NULL;
}

/* One pass by one engine, as steps would run it. */
struct contest {
    struct decision *decision;
    struct call call;
    const struct cudnn_plan *plan;
    struct conv_grad grad;
    void *y, *scratch;
};

static status_t enqueue_contest(struct backend *be, void *context) {
    const struct contest *t = context;
    const struct call *c = &t->call;
    switch (c->shape.pass) {
    case CONV_FORWARD:
        return t->plan ? cudnn_forward(be, c, t->plan, t->y, t->scratch)
                       : ours_forward(be, c, t->y, t->scratch);
    case CONV_DX:
        return t->plan ? cudnn_dx(be, c, t->plan, &t->grad, t->scratch)
                       : ours_backward(be, c, &t->grad, t->scratch);
    default:
        return t->plan ? cudnn_dw(be, c, t->plan, &t->grad, t->scratch)
                       : ours_backward(be, c, &t->grad, t->scratch);
    }
}

/* The fastest of ours (-1) and the plans. Every operand is 0x3c3c...: small numbers, no zeros. */
static status_t fastest(struct backend *be, struct contest *t, struct cudnn_plan **plans, int n, int *best) {
    float ours_ms, best_ms, ms;
    t->plan = NULL;
    TRY(device_time(be, enqueue_contest, t, &ours_ms));
    *best = -1, best_ms = ours_ms;
    for (int i = 0; i < n; i++) {
        t->plan = plans[i];
        TRY(device_time(be, enqueue_contest, t, &ms));
        if (ms < best_ms) *best = i, best_ms = ms;
    }
    t->decision->ours_ms = ours_ms, t->decision->best_ms = best_ms;
    return STATUS_OK;
}

static status_t race(struct backend *be, const struct call *call, struct decision *d,
                     struct cudnn_plan **plans, int n, int *best) {
    const struct conv_shape *s = &call->shape;
    struct pieces sizes = {.base = NULL}, p;
    struct room room;
    size_t scratch = ours_scratch(be, call, true);
    for (int i = 0; i < n; i++)
        scratch = size_max(scratch, room_of(call, cudnn_plan_workspace(plans[i]), NULL, &room));
    struct conv conv = call->conv ? *call->conv : (struct conv){.n = 0};
    struct depthwise depthwise = call->depthwise ? *call->depthwise : (struct depthwise){.n = 0};
    struct contest t = {.decision = d};
    void *x = NULL, *weight = NULL, *dw = NULL;
    for (int round = 0; round < 2; round++) { /* sizes, then places */
        struct pieces *q = round == 0 ? &sizes : &p;
        if (round == 1) {
            p = (struct pieces){.base = NULL};
            TRY_CUDA(cudaMalloc((void **)&p.base, sizes.used));
        }
        x = take(q, (size_t)(s->n * s->h * s->w * s->cin) * 4);
        weight = take(q, (size_t)call->n_weights * 4);
        dw = take(q, (size_t)call->n_weights * 4);
        t.y = take(q, (size_t)(call->rows * call->columns) * 4);
        t.scratch = take(q, scratch);
    }
    status_t status = STATUS_OK;
    TRY_CUDA_TO(end, cudaMemsetAsync(p.base, 0x3c, sizes.used, be->stream));
    conv.x = depthwise.x = x, conv.weight = weight, depthwise.weight = weight;
    conv.bias = depthwise.bias = NULL;
    t.call = call_of(call->conv ? &conv : NULL, call->depthwise ? &depthwise : NULL);
    t.call.shape.pass = s->pass;
    t.grad.dy = t.y;
    if (s->pass == CONV_DX) t.grad.dx = x;
    if (s->pass == CONV_DW) t.grad.dweight = dw;
    status = fastest(be, &t, plans, n, best);
end:
    cudaFree(p.base);
    return status;
}

static status_t candidates(struct backend *be, const struct call *c, struct decision *d) {
    struct conv_engines *e = be->engines;
    struct cudnn_plan *plans[N_CANDIDATES] = {NULL};
    int n, best = 0;
    TRY(cudnn_plans(e->lib, &c->shape, WORKSPACE_MAX, N_CANDIDATES, plans, &n));
    status_t status = STATUS_OK;
    if (n == 0) best = -1;
    if (n > 0 && e->mode == FASTER) status = race(be, c, d, plans, n, &best);
    if (status != STATUS_OK) best = -1;
    if (best >= 0) d->plan = plans[best];
    for (int i = 0; i < n; i++)
        if (i != best) cudnn_plan_free(e->lib, plans[i]);
    return status;
}

/* Decide for one pass, once; a failure on the way means ours. */
static void decide(struct backend *be, struct call *c, enum conv_pass pass) {
    static const char *const names[] = {"forward", "gradient of x", "gradient of the weights"};
    const struct conv_shape *s = &c->shape;
    if (be && !be->engines) engines_open(be);
    if (!be || !be->engines || !be->engines->lib || s->dtype != DTYPE_BF16 || c->rows == 0 ||
        find(be, c, pass))
        return;
    struct decision *d = memory_zeroed(1, sizeof *d);
    if (!d) return;
    c->shape.pass = pass;
    d->shape = c->shape;
    if (candidates(be, c, d) != STATUS_OK)
        log_local(LOG_WARNING, "GPU: a convolution by our own kernels: %s", status_message());
    char engine[48] = "ours", times[64] = "";
    if (d->plan)
        snprintf(engine, sizeof engine, "cuDNN's engine %lld", (long long)cudnn_plan_engine(d->plan));
    if (d->best_ms > 0)
        snprintf(times, sizeof times, ", %.3f ms (ours %.3f ms)", (double)d->best_ms, (double)d->ours_ms);
    log_local(LOG_DEBUG, "GPU: %s convolution %dx%d/%d of (%lld,%lld,%lld,%lld), %s: %s%s",
              s->depthwise ? "depthwise" : "dense", s->k, s->k, s->stride, (long long)s->n, (long long)s->h,
              (long long)s->w, (long long)s->cin, names[pass], engine, times);
    d->next = be->engines->decisions;
    be->engines->decisions = d;
}

/* ---- slots ---- */

static size_t raced_scratch(struct backend *be, struct call *c, bool train) {
    size_t n_bytes = ours_scratch(be, c, train);
    for (int pass = CONV_FORWARD; pass < (train ? N_PASSES : CONV_DX); pass++) {
        struct room room;
        decide(be, c, (enum conv_pass)pass);
        const struct cudnn_plan *plan = plan_of(be, c, (enum conv_pass)pass);
        c->shape.pass = (enum conv_pass)pass;
        if (plan) n_bytes = size_max(n_bytes, room_of(c, cudnn_plan_workspace(plan), NULL, &room));
    }
    return n_bytes;
}

static status_t raced_forward(struct backend *be, const struct call *c, void *y, void *scratch) {
    const struct cudnn_plan *plan = plan_of(be, c, CONV_FORWARD);
    return plan ? cudnn_forward(be, c, plan, y, scratch) : ours_forward(be, c, y, scratch);
}

static status_t raced_backward(struct backend *be, struct call *c, const struct conv_grad *g, void *scratch) {
    const struct cudnn_plan *for_dx = g->dx ? plan_of(be, c, CONV_DX) : NULL,
                            *for_dw = g->dweight ? plan_of(be, c, CONV_DW) : NULL;
    struct conv_grad ours = *g;
    if (for_dw) ours.dweight = NULL;
    if (for_dx) ours.dx = NULL;
    if (ours.dx || ours.dweight || ours.dbias) TRY(ours_backward(be, c, &ours, scratch));
    c->shape.pass = CONV_DW;
    if (for_dw) TRY(cudnn_dw(be, c, for_dw, g, scratch));
    c->shape.pass = CONV_DX;
    return for_dx ? cudnn_dx(be, c, for_dx, g, scratch) : STATUS_OK;
}

size_t raced_conv_scratch(struct backend *be, const struct conv *a, bool train) {
    struct call c = call_of(a, NULL);
    return raced_scratch(be, &c, train);
}
status_t raced_conv_forward(struct backend *be, const struct conv *a, void *y, void *scratch) {
    const struct call c = call_of(a, NULL);
    return raced_forward(be, &c, y, scratch);
}
status_t raced_conv_backward(struct backend *be, const struct conv *a, const struct conv_grad *g,
                             void *scratch) {
    struct call c = call_of(a, NULL);
    return raced_backward(be, &c, g, scratch);
}
size_t raced_depthwise_scratch(struct backend *be, const struct depthwise *a, bool train) {
    struct call c = call_of(NULL, a);
    return raced_scratch(be, &c, train);
}
status_t raced_depthwise_forward(struct backend *be, const struct depthwise *a, void *y, void *scratch) {
    const struct call c = call_of(NULL, a);
    return raced_forward(be, &c, y, scratch);
}
status_t raced_depthwise_backward(struct backend *be, const struct depthwise *a, const struct conv_grad *g,
                                  void *scratch) {
    struct call c = call_of(NULL, a);
    return raced_backward(be, &c, g, scratch);
}
