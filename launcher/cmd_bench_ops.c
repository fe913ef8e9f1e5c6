/* bench ops: every operation at the sizes the presets use, against what this machine reaches. */
#include "common/memory.h"
#include "launcher/arguments.h"
#include "launcher/bench.h"
#include "launcher/commands.h"

#include <stdio.h>
#include <string.h>

enum { MAX_BUFFERS = 32 };

struct ops_bench {
    struct bench bench;
    enum dtype dtype;
    bool json;
    const char *only; /* operations whose name contains this; NULL: all */
    double peak_gflops, peak_gb_s;
    void *buffers[MAX_BUFFERS]; /* of the present case */
    int n_buffers;
    status_t status; /* first failure of buffer() */
    void *scratch;
};

/* n elements with values in +-1/2, released after the case. */
static void *buffer(struct ops_bench *b, enum dtype dtype, int64_t n) {
    const struct ops *ops = b->bench.ops;
    struct backend *be = b->bench.be;
    void *out = NULL, *wide = NULL;
    if (b->status != STATUS_OK || b->n_buffers + 2 > MAX_BUFFERS) return NULL;
    float *host = memory_aligned((size_t)n * sizeof *host);
    if (!host) b->status = FAIL(STATUS_NO_MEMORY, "no memory for %lld elements", (long long)n);
    for (int64_t i = 0; host && i < n; i++)
        host[i] = (float)((uint32_t)i * 2654435761u >> 8) / 16777216.0f - 0.5f;
    if (host) b->status = ops->alloc(be, (size_t)n * sizeof(float), &wide);
    if (b->status == STATUS_OK) b->status = ops->copy_in(be, wide, host, (size_t)n * sizeof(float));
    free(host);
    out = wide;
    if (b->status == STATUS_OK && dtype != DTYPE_F32) {
        out = NULL;
        b->status = ops->alloc(be, (size_t)n * dtype_bytes(dtype), &out);
        if (b->status == STATUS_OK) b->status = ops->cast(be, dtype, out, DTYPE_F32, wide, n);
        ops->release(be, wide);
    }
    if (out) b->buffers[b->n_buffers++] = out;
    return out;
}

static float *floats(struct ops_bench *b, int64_t n) {
    return buffer(b, DTYPE_F32, n);
}

static void scratch(struct ops_bench *b, size_t n_bytes) {
    if (b->status != STATUS_OK) return;
    b->status = b->bench.ops->alloc(b->bench.be, n_bytes + 64, &b->scratch);
}

static void release_all(struct ops_bench *b) {
    for (int i = 0; i < b->n_buffers; i++) b->bench.ops->release(b->bench.be, b->buffers[i]);
    if (b->scratch) b->bench.ops->release(b->bench.be, b->scratch);
    b->n_buffers = 0;
    b->scratch = NULL;
}

/* Time `call` and print its row. flop and n_bytes of one call; whichever bound is nearer gives the fraction.
 */
static status_t measure(struct ops_bench *b, const char *op, const char *size, status_t (*call)(void *),
                        void *context, double flop, double n_bytes) {
    double time_s;
    TRY(b->status);
    TRY(bench_time(&b->bench, call, context, &time_s));
    const double gflops = 1e-9 * flop / time_s, gb_s = 1e-9 * n_bytes / time_s;
    const double of_flop = gflops / b->peak_gflops, of_bytes = gb_s / b->peak_gb_s;
    const bool by_flop = of_flop > of_bytes;
    const char *precision = b->dtype == DTYPE_F32 ? "fp32" : "bf16";
    if (b->json)
        printf("{\"op\": \"%s\", \"size\": \"%s\", \"precision\": \"%s\", \"time_ms\": %.4f, "
               "\"gflop_per_s\": %.1f, "
               "\"gb_per_s\": %.2f, \"fraction\": %.3f, \"bound\": \"%s\"}\n",
               op, size, precision, 1e3 * time_s, gflops, gb_s, by_flop ? of_flop : of_bytes,
               by_flop ? "arithmetic" : "memory");
    else
        printf("%-22s %-24s %10.3f ms %8.1f GFLOP/s %7.1f GB/s  %3.0f %% of %s\n", op, size, 1e3 * time_s,
               gflops, gb_s, 100 * (by_flop ? of_flop : of_bytes), by_flop ? "GEMM" : "copy");
    fflush(stdout);
    return STATUS_OK;
}

/* ---- one case of each operation: set up, forward, backward ---- */

struct linear_case {
    struct ops_bench *b;
    struct linear a;
    struct linear_grad g;
    void *y;
};

static status_t linear_forward(void *context) {
    const struct linear_case *c = context;
    return c->b->bench.ops->linear_forward(c->b->bench.be, &c->a, c->y, c->b->scratch);
}

static status_t linear_backward(void *context) {
    const struct linear_case *c = context;
    return c->b->bench.ops->linear_backward(c->b->bench.be, &c->a, &c->g, c->b->scratch);
}

static status_t bench_linear(struct ops_bench *b, const int64_t *n) { /* rows, in, out */
    const struct ops *ops = b->bench.ops;
    struct linear_case c = {
        .b = b, .a = {.dtype = b->dtype, .rows = n[0], .in = n[1], .out = n[2], .rows_per_image = n[0]}};
    c.a.x = buffer(b, b->dtype, n[0] * n[1]), c.a.w = buffer(b, b->dtype, n[1] * n[2]),
    c.a.bias = floats(b, n[2]);
    c.y = buffer(b, b->dtype, n[0] * n[2]);
    c.g = (struct linear_grad){.dy = buffer(b, b->dtype, n[0] * n[2]),
                               .dx = buffer(b, b->dtype, n[0] * n[1]),
                               .dw = floats(b, n[1] * n[2]),
                               .dbias = floats(b, n[2])};
    if (ops->linear_scratch) scratch(b, ops->linear_scratch(b->bench.be, &c.a, true));
    char size[48];
    snprintf(size, sizeof size, "%lldx%lldx%lld", (long long)n[0], (long long)n[1], (long long)n[2]);
    const double flop = 2.0 * (double)n[0] * (double)n[1] * (double)n[2];
    const double n_bytes = (double)dtype_bytes(b->dtype) * (double)(n[0] * n[1] + n[1] * n[2] + n[0] * n[2]);
    TRY(measure(b, "linear", size, linear_forward, &c, flop, n_bytes));
    return measure(b, "linear backward", size, linear_backward, &c, 2 * flop, 2 * n_bytes);
}

struct mlp_case {
    struct ops_bench *b;
    struct mlp a;
    struct mlp_grad g;
    void *y;
};

static status_t mlp_forward(void *context) {
    const struct mlp_case *c = context;
    return c->b->bench.ops->mlp_forward(c->b->bench.be, &c->a, c->y, c->b->scratch);
}

static status_t mlp_backward(void *context) {
    const struct mlp_case *c = context;
    return c->b->bench.ops->mlp_backward(c->b->bench.be, &c->a, &c->g, c->b->scratch);
}

static status_t bench_mlp(struct ops_bench *b, const int64_t *n) { /* rows, channels */
    const struct ops *ops = b->bench.ops;
    const int64_t rows = n[0], c_in = n[1], hidden = 4 * n[1];
    const enum dtype t = b->dtype;
    struct mlp_case c = {
        .b = b, .a = {.dtype = t, .rows = rows, .channels = c_in, .hidden = hidden, .rows_per_image = rows}};
    c.a.x = buffer(b, t, rows * c_in), c.a.w1 = buffer(b, t, c_in * hidden),
    c.a.w2 = buffer(b, t, c_in * hidden);
    c.a.b1 = floats(b, hidden), c.a.b2 = floats(b, c_in), c.a.gamma = floats(b, c_in);
    c.a.residual = buffer(b, t, rows * c_in);
    c.y = buffer(b, t, rows * c_in);
    scratch(b, ops->mlp_scratch ? ops->mlp_scratch(b->bench.be, &c.a, true) : 0);
    char size[48];
    snprintf(size, sizeof size, "%lldx%lld, 4x wide", (long long)rows, (long long)c_in);
    const double flop = 4.0 * (double)rows * (double)c_in * (double)hidden;
    const double n_bytes = (double)dtype_bytes(t) * (double)(3 * rows * c_in + 2 * c_in * hidden);
    TRY(measure(b, "mlp inference", size, mlp_forward, &c, flop, n_bytes));
    c.a.pre = buffer(b, t, rows * hidden);
    c.g = (struct mlp_grad){.dy = buffer(b, t, rows * c_in),
                            .dx = buffer(b, t, rows * c_in),
                            .dw1 = floats(b, c_in * hidden),
                            .db1 = floats(b, hidden),
                            .dw2 = floats(b, c_in * hidden),
                            .db2 = floats(b, c_in),
                            .dgamma = floats(b, c_in)};
    const double kept = (double)dtype_bytes(t) * (double)(rows * hidden);
    TRY(measure(b, "mlp training", size, mlp_forward, &c, flop, n_bytes + kept));
    return measure(b, "mlp backward", size, mlp_backward, &c, 2 * flop, 2 * n_bytes + kept);
}

struct conv_case {
    struct ops_bench *b;
    struct conv a;
    struct depthwise d;
    struct conv_grad g;
    void *y;
};

static status_t conv_forward(void *context) {
    const struct conv_case *c = context;
    return c->b->bench.ops->conv_forward(c->b->bench.be, &c->a, c->y, c->b->scratch);
}

static status_t conv_backward(void *context) {
    const struct conv_case *c = context;
    return c->b->bench.ops->conv_backward(c->b->bench.be, &c->a, &c->g, c->b->scratch);
}

static status_t bench_conv(struct ops_bench *b,
                           const int64_t *n) { /* images, side, in, out, k, stride, pad */
    const struct ops *ops = b->bench.ops;
    struct conv_case c = {.b = b,
                          .a = {.dtype = b->dtype,
                                .n = n[0],
                                .h = n[1],
                                .w = n[1],
                                .cin = n[2],
                                .cout = n[3],
                                .k = (int32_t)n[4],
                                .stride = (int32_t)n[5],
                                .pad = (int32_t)n[6]}};
    const int64_t side = (n[1] + 2 * n[6] - n[4]) / n[5] + 1;
    const int64_t n_x = n[0] * n[1] * n[1] * n[2], n_w = n[3] * n[4] * n[4] * n[2],
                  n_y = n[0] * side * side * n[3];
    c.a.x = buffer(b, b->dtype, n_x), c.a.weight = buffer(b, b->dtype, n_w), c.a.bias = floats(b, n[3]);
    c.y = buffer(b, b->dtype, n_y);
    c.g = (struct conv_grad){.dy = buffer(b, b->dtype, n_y),
                             .dx = n[2] > 3 ? buffer(b, b->dtype, n_x) : NULL,
                             .dweight = floats(b, n_w),
                             .dbias = floats(b, n[3])};
    scratch(b, ops->conv_scratch ? ops->conv_scratch(b->bench.be, &c.a, true) : 0);
    char size[48];
    snprintf(size, sizeof size, "%lldx%lld^2x%lld>%lld %lld/%lld", (long long)n[0], (long long)n[1],
             (long long)n[2], (long long)n[3], (long long)n[4], (long long)n[5]);
    const double flop = 2.0 * (double)n_y * (double)(n[4] * n[4] * n[2]);
    const double n_bytes = (double)dtype_bytes(b->dtype) * (double)(n_x + n_w + n_y);
    TRY(measure(b, "conv", size, conv_forward, &c, flop, n_bytes));
    return measure(b, n[2] > 3 ? "conv backward" : "conv backward, weights", size, conv_backward, &c,
                   n[2] > 3 ? 2 * flop : flop, n[2] > 3 ? 2 * n_bytes : n_bytes);
}

static status_t depthwise_forward(void *context) {
    const struct conv_case *c = context;
    return c->b->bench.ops->depthwise_forward(c->b->bench.be, &c->d, c->y, c->b->scratch);
}

static status_t depthwise_backward(void *context) {
    const struct conv_case *c = context;
    return c->b->bench.ops->depthwise_backward(c->b->bench.be, &c->d, &c->g, c->b->scratch);
}

static status_t bench_depthwise(struct ops_bench *b,
                                const int64_t *n) { /* images, side, channels, k, stride */
    const struct ops *ops = b->bench.ops;
    struct conv_case c = {.b = b,
                          .d = {.dtype = b->dtype,
                                .n = n[0],
                                .h = n[1],
                                .w = n[1],
                                .c = n[2],
                                .k = (int32_t)n[3],
                                .stride = (int32_t)n[4],
                                .pad = (int32_t)n[3] / 2}};
    const int64_t side = (n[1] + 2 * (n[3] / 2) - n[3]) / n[4] + 1;
    const int64_t n_x = n[0] * n[1] * n[1] * n[2], n_w = n[3] * n[3] * n[2], n_y = n[0] * side * side * n[2];
    c.d.x = buffer(b, b->dtype, n_x), c.d.weight = floats(b, n_w), c.d.bias = floats(b, n[2]);
    c.y = buffer(b, b->dtype, n_y);
    c.g = (struct conv_grad){.dy = buffer(b, b->dtype, n_y),
                             .dx = buffer(b, b->dtype, n_x),
                             .dweight = floats(b, n_w),
                             .dbias = floats(b, n[2])};
    scratch(b, ops->depthwise_scratch ? ops->depthwise_scratch(b->bench.be, &c.d, true) : 0);
    char size[48];
    snprintf(size, sizeof size, "%lldx%lld^2x%lld %lldx%lld/%lld", (long long)n[0], (long long)n[1],
             (long long)n[2], (long long)n[3], (long long)n[3], (long long)n[4]);
    const double flop = 2.0 * (double)n_y * (double)(n[3] * n[3]);
    const double n_bytes = (double)dtype_bytes(b->dtype) * (double)(n_x + n_y);
    TRY(measure(b, "depthwise", size, depthwise_forward, &c, flop, n_bytes));
    struct conv_grad both = c.g;
    c.g.dweight = c.g.dbias = NULL;
    TRY(measure(b, "depthwise data grad", size, depthwise_backward, &c, flop, n_bytes));
    c.g = both, c.g.dx = NULL;
    return measure(b, "depthwise weight grad", size, depthwise_backward, &c, flop, n_bytes);
}

struct norm_case {
    struct ops_bench *b;
    struct layernorm a;
    struct layernorm_grad g;
    struct batchnorm bn;
    struct batchnorm_grad bg;
    double *sums, *grad_sums;
    void *y;
};

static status_t layernorm_forward(void *context) {
    const struct norm_case *c = context;
    return c->b->bench.ops->layernorm_forward(c->b->bench.be, &c->a, c->y);
}

static status_t layernorm_backward(void *context) {
    const struct norm_case *c = context;
    return c->b->bench.ops->layernorm_backward(c->b->bench.be, &c->a, &c->g, c->b->scratch);
}

static status_t bench_layernorm(struct ops_bench *b, const int64_t *n) { /* rows, channels */
    const struct ops *ops = b->bench.ops;
    struct norm_case c = {.b = b, .a = {.dtype = b->dtype, .rows = n[0], .channels = n[1], .eps = 1e-6f}};
    c.a.x = buffer(b, b->dtype, n[0] * n[1]), c.a.weight = floats(b, n[1]), c.a.bias = floats(b, n[1]);
    c.a.mean = floats(b, n[0]), c.a.rstd = floats(b, n[0]);
    c.y = buffer(b, b->dtype, n[0] * n[1]);
    c.g = (struct layernorm_grad){.dy = buffer(b, b->dtype, n[0] * n[1]),
                                  .dx = buffer(b, b->dtype, n[0] * n[1]),
                                  .dweight = floats(b, n[1]),
                                  .dbias = floats(b, n[1])};
    scratch(b, ops->layernorm_scratch ? ops->layernorm_scratch(b->bench.be, &c.a, true) : 0);
    char size[48];
    snprintf(size, sizeof size, "%lldx%lld", (long long)n[0], (long long)n[1]);
    const double n_bytes = (double)dtype_bytes(b->dtype) * (double)(n[0] * n[1]);
    TRY(measure(b, "layernorm", size, layernorm_forward, &c, 0, 2 * n_bytes));
    return measure(b, "layernorm backward", size, layernorm_backward, &c, 0, 3 * n_bytes);
}

static status_t batchnorm_forward(void *context) {
    const struct norm_case *c = context;
    const struct ops *ops = c->b->bench.ops;
    TRY(ops->batchnorm_sums(c->b->bench.be, &c->bn, c->sums, c->b->scratch));
    TRY(ops->batchnorm_finish(c->b->bench.be, &c->bn, c->sums));
    return ops->batchnorm_apply(c->b->bench.be, &c->bn, c->y);
}

static status_t batchnorm_backward(void *context) {
    const struct norm_case *c = context;
    const struct ops *ops = c->b->bench.ops;
    TRY(ops->batchnorm_grad_sums(c->b->bench.be, &c->bn, c->bg.dy, c->grad_sums, c->b->scratch));
    return ops->batchnorm_grad_apply(c->b->bench.be, &c->bn, &c->bg);
}

static status_t bench_batchnorm(struct ops_bench *b, const int64_t *n) { /* images, side, channels */
    const struct ops *ops = b->bench.ops;
    const int64_t n_x = n[0] * n[1] * n[1] * n[2];
    struct norm_case c = {.b = b,
                          .bn = {.dtype = b->dtype,
                                 .n = n[0],
                                 .hw = n[1] * n[1],
                                 .c = n[2],
                                 .eps = 1e-5f,
                                 .momentum = 0.1f,
                                 .relu6 = true}};
    c.bn.x = buffer(b, b->dtype, n_x), c.bn.weight = floats(b, n[2]), c.bn.bias = floats(b, n[2]);
    c.bn.running_mean = floats(b, n[2]), c.bn.running_var = floats(b, n[2]);
    c.bn.mean = floats(b, n[2]), c.bn.rstd = floats(b, n[2]);
    c.sums = (double *)(void *)floats(b, 2 * (1 + 2 * n[2])),
    c.grad_sums = (double *)(void *)floats(b, 4 * n[2]);
    c.y = buffer(b, b->dtype, n_x);
    c.bg = (struct batchnorm_grad){.dy = buffer(b, b->dtype, n_x),
                                   .dx = buffer(b, b->dtype, n_x),
                                   .sums = c.sums,
                                   .grad_sums = c.grad_sums,
                                   .local_sums = c.grad_sums,
                                   .dweight = floats(b, n[2]),
                                   .dbias = floats(b, n[2])};
    scratch(b, ops->batchnorm_scratch ? ops->batchnorm_scratch(b->bench.be, &c.bn, true) : 0);
    char size[48];
    snprintf(size, sizeof size, "%lldx%lld^2x%lld", (long long)n[0], (long long)n[1], (long long)n[2]);
    const double n_bytes = (double)dtype_bytes(b->dtype) * (double)n_x;
    TRY(measure(b, "batchnorm+relu6", size, batchnorm_forward, &c, 0, 3 * n_bytes));
    return measure(b, "batchnorm backward", size, batchnorm_backward, &c, 0, 5 * n_bytes);
}

struct attention_case {
    struct ops_bench *b;
    struct window_attention a;
    struct window_attention_grad g;
    void *y;
};

static status_t attention_forward(void *context) {
    const struct attention_case *c = context;
    return c->b->bench.ops->window_attention_forward(c->b->bench.be, &c->a, c->y, c->b->scratch);
}

static status_t attention_backward(void *context) {
    const struct attention_case *c = context;
    return c->b->bench.ops->window_attention_backward(c->b->bench.be, &c->a, &c->g, c->b->scratch);
}

static status_t bench_attention(struct ops_bench *b,
                                const int64_t *n) { /* images, side, channels, heads, window, shift */
    const struct ops *ops = b->bench.ops;
    const int64_t tokens = n[0] * n[1] * n[1], window = n[4] * n[4],
                  table = (2 * n[4] - 1) * (2 * n[4] - 1) * n[3];
    struct attention_case c = {.b = b,
                               .a = {.dtype = b->dtype,
                                     .n = n[0],
                                     .h = n[1],
                                     .w = n[1],
                                     .c = n[2],
                                     .heads = (int32_t)n[3],
                                     .wh = (int32_t)n[4],
                                     .ww = (int32_t)n[4],
                                     .shift_h = (int32_t)n[5],
                                     .shift_w = (int32_t)n[5]}};
    c.a.qkv = buffer(b, b->dtype, tokens * 3 * n[2]), c.a.qkv_bias = floats(b, 3 * n[2]),
    c.a.table = floats(b, table);
    c.a.lse = floats(b, tokens * n[3]);
    c.y = buffer(b, b->dtype, tokens * n[2]);
    c.g = (struct window_attention_grad){.y = c.y,
                                         .dy = buffer(b, b->dtype, tokens * n[2]),
                                         .dqkv = buffer(b, b->dtype, tokens * 3 * n[2]),
                                         .dtable = floats(b, table)};
    scratch(b, ops->window_attention_scratch ? ops->window_attention_scratch(b->bench.be, &c.a, true) : 0);
    char size[48];
    snprintf(size, sizeof size, "%lldx%lld^2x%lld h%lld w%lld s%lld", (long long)n[0], (long long)n[1],
             (long long)n[2], (long long)n[3], (long long)n[4], (long long)n[5]);
    const double flop = 4.0 * (double)tokens * (double)window * (double)n[2];
    const double n_bytes = (double)dtype_bytes(b->dtype) * 4.0 * (double)(tokens * n[2]);
    TRY(measure(b, "window attention", size, attention_forward, &c, flop, n_bytes));
    return measure(b, "attention backward", size, attention_backward, &c, 2.5 * flop, 2 * n_bytes);
}

struct step_case {
    struct ops_bench *b;
    struct optimiser_segment segment;
    struct optimiser_step a;
};

static status_t adamw(void *context) {
    const struct step_case *c = context;
    return c->b->bench.ops->adamw(c->b->bench.be, &c->a);
}

static status_t sgd(void *context) {
    const struct step_case *c = context;
    return c->b->bench.ops->sgd(c->b->bench.be, &c->a);
}

static status_t bench_optimisers(struct ops_bench *b, const int64_t *n) { /* parameters */
    struct step_case c = {.b = b, .segment = {.n_elem = n[0], .lr_scale = 1, .weight_decay = 0.05f}};
    c.a = (struct optimiser_step){.n_segments = 1,
                                  .end = n[0],
                                  .lr = 1e-6f,
                                  .momentum = 0.9f,
                                  .nesterov = true,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.999f,
                                  .eps = 1e-8f,
                                  .t = 1,
                                  .params = floats(b, n[0]),
                                  .grads = floats(b, n[0]),
                                  .state1 = floats(b, n[0]),
                                  .state2 = floats(b, n[0])};
    c.a.segments = &c.segment;
    if (b->status == STATUS_OK)
        b->status = b->bench.ops->fill_zero(b->bench.be, c.a.state2, (size_t)n[0] * sizeof(float));
    if (b->dtype == DTYPE_BF16) c.a.shadow = buffer(b, DTYPE_BF16, n[0]);
    char size[48];
    snprintf(size, sizeof size, "%lld", (long long)n[0]);
    const double shadow = b->dtype == DTYPE_BF16 ? 2 : 0;
    TRY(measure(b, "adamw", size, adamw, &c, 0, (28 + shadow) * (double)n[0]));
    return measure(b, "sgd nesterov", size, sgd, &c, 0, (20 + shadow) * (double)n[0]);
}

/* ---- the table ---- */

static const struct {
    const char *name;
    status_t (*run)(struct ops_bench *b, const int64_t *n);
    int64_t n[7];
} cases[] = {
    {"linear", bench_linear, {2048, 2048, 2048}},
    {"linear", bench_linear, {25088, 96, 288}},  /* Swin-T, batch 8: qkv of stage 0 */
    {"linear", bench_linear, {18432, 192, 576}}, /* Swin-L at 384, batch 2 */
    {"linear", bench_linear, {288, 1536, 4608}},
    {"linear", bench_linear, {50176, 24, 144}}, /* MobileNet-V2, batch 16: expansion */
    {"mlp", bench_mlp, {25088, 96}},            /* ConvNeXt-T, batch 8 */
    {"mlp", bench_mlp, {1568, 384}},
    {"mlp", bench_mlp, {18432, 256}}, /* ConvNeXt-XL at 384, batch 2 */
    {"mlp", bench_mlp, {1152, 1024}},
    {"layernorm", bench_layernorm, {25088, 96}},
    {"layernorm", bench_layernorm, {1152, 1024}},
    {"conv", bench_conv, {8, 224, 3, 96, 4, 4, 0}},   /* stem of ConvNeXt-T and Swin-T */
    {"conv", bench_conv, {16, 224, 3, 32, 3, 2, 1}},  /* stem of MobileNet-V2 */
    {"conv", bench_conv, {8, 28, 192, 384, 2, 2, 0}}, /* downsampling of ConvNeXt-T */
    {"depthwise", bench_depthwise, {8, 56, 96, 7, 1}},
    {"depthwise", bench_depthwise, {8, 14, 384, 7, 1}},
    {"depthwise", bench_depthwise, {2, 24, 1024, 7, 1}},
    {"depthwise", bench_depthwise, {16, 112, 96, 3, 2}}, /* MobileNet-V2, batch 16 */
    {"depthwise", bench_depthwise, {16, 56, 144, 3, 1}},
    {"batchnorm", bench_batchnorm, {16, 56, 144}},
    {"batchnorm", bench_batchnorm, {16, 14, 384}},
    {"window attention", bench_attention, {8, 56, 96, 3, 7, 3}},
    {"window attention", bench_attention, {8, 14, 384, 12, 7, 0}},
    {"window attention", bench_attention, {2, 96, 192, 6, 12, 6}},
    {"optimisers", bench_optimisers, {28000000}},
};

static status_t run_cases(struct ops_bench *b) {
    TRY(bench_peak_gflops(&b->bench, b->dtype, &b->peak_gflops));
    TRY(bench_peak_gb_s(&b->bench, &b->peak_gb_s));
    if (!b->json)
        printf("%s, %s: GEMM 2048^3 reaches %.0f GFLOP/s, a copy of 128 MiB %.1f GB/s; medians of %d\n",
               b->bench.ops->name, b->dtype == DTYPE_F32 ? "fp32" : "bf16", b->peak_gflops, b->peak_gb_s,
               b->bench.runs);
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        if (b->only && !strstr(cases[i].name, b->only)) continue;
        const status_t status = cases[i].run(b, cases[i].n);
        release_all(b);
        if (status != STATUS_OK) return status_context(status, "bench ops: %s", cases[i].name);
    }
    return STATUS_OK;
}

status_t cmd_bench_ops(struct launch_context *context, int argc, char **argv) {
    (void)context;
    argv[0] = (char[]){"bench ops"}; /* what messages call the command */
    const char *precision = NULL, *device = NULL, *only = NULL;
    int64_t threads = 0, runs = 5;
    struct ops_bench b = {0};
    const struct argument table[] = {{.name = "--precision", .text = &precision},
                                     {.name = "--device", .text = &device},
                                     {.name = "--threads", .number = &threads, .minimum = 1, .maximum = 4096},
                                     {.name = "--runs", .number = &runs, .minimum = 1, .maximum = 1000},
                                     {.name = "--only", .text = &only},
                                     {.name = "--autotune", .flag = &b.bench.autotune},
                                     {.name = "--cpu-time", .flag = &b.bench.cpu_time},
                                     {.name = "--json", .flag = &b.json},
                                     {0}};
    TRY(arguments_parse(argc, argv, table, NULL, 0, NULL));
    b.only = only;
    status_t status;
    TRY_TO(done, bench_open(&b.bench, device, threads, runs));
    if (precision) TRY_TO(done, bench_precision(&b.bench, precision, &b.dtype));
    status = run_cases(&b);
    if (status == STATUS_OK && !precision && (b.bench.device.plugin || cpu_has_bf16())) {
        b.dtype = DTYPE_BF16;
        status = run_cases(&b);
    }
done:
    bench_close(&b.bench);
    return status;
}
