/* Swin's window attention of ops_ref: one (image, window, head, query) at a time, tokens found by index. */
#include "models/ops/ref/storage.h"

/* One window of one image, for one head. */
struct window {
    int64_t image, number; /* number among the image's windows, row by row */
    int64_t top, left;     /* in the rolled, padded map */
    int32_t head;
};

/* Which of three regions a position of the rolled, padded axis belongs to. */
static int32_t axis_region(int64_t i, int64_t n, int64_t window, int64_t shift) {
    if (shift == 0) return 0;
    return i < n - window ? 0 : i < n - shift ? 1 : 2;
}

static int64_t whole_windows(int64_t side, int64_t window) {
    return (side + window - 1) / window;
}

static int32_t token_region(const struct window_attention *a, const struct window *at, int64_t token) {
    const int64_t hp = whole_windows(a->h, a->wh) * a->wh, wp = whole_windows(a->w, a->ww) * a->ww;
    return 3 * axis_region(at->top + token / a->ww, hp, a->wh, a->shift_h) +
           axis_region(at->left + token % a->ww, wp, a->ww, a->shift_w);
}

/* The token's pixel of the whole batch, before rolling; -1: a padded token. */
static int64_t token_pixel(const struct window_attention *a, const struct window *at, int64_t token) {
    const int64_t y = at->top + token / a->ww, x = at->left + token % a->ww;
    if (y >= a->h || x >= a->w) return -1;
    return (at->image * a->h + (y + a->shift_h) % a->h) * a->w + (x + a->shift_w) % a->w;
}

/* Channel of part (0 q, 1 k, 2 v), channel j of the head, in a row of 3C. */
static int64_t qkv_channel(const struct window_attention *a, const struct window *at, int32_t part,
                           int64_t j) {
    return part * a->c + at->head * (a->c / a->heads) + j;
}

static double qkv_at(const struct window_attention *a, const struct window *at, int64_t token, int32_t part,
                     int64_t j) {
    const int64_t pixel = token_pixel(a, at, token), channel = qkv_channel(a, at, part, j);
    return pixel < 0 ? real_at(a->qkv_bias, channel) : load(a->dtype, a->qkv, pixel * 3 * a->c + channel);
}

static int64_t table_at(const struct window_attention *a, const struct window *at, int64_t query,
                        int64_t key) {
    const int64_t dy = query / a->ww - key / a->ww + a->wh - 1, dx = query % a->ww - key % a->ww + a->ww - 1;
    return (dy * (2 * a->ww - 1) + dx) * a->heads + at->head;
}

static double attention_logit(const struct window_attention *a, const struct window *at, int64_t query,
                              int64_t key) {
    const int64_t d = a->c / a->heads;
    double dot = 0.0;
    for (int64_t j = 0; j < d; j++) dot += qkv_at(a, at, query, 0, j) * qkv_at(a, at, key, 1, j);
    const double mask = token_region(a, at, query) != token_region(a, at, key) ? -100.0 : 0.0;
    return dot / sqrt((double)d) + real_at(a->table, table_at(a, at, query, key)) + mask;
}

/* The window of running number i (of n * windows * heads). */
static struct window window_number(const struct window_attention *a, int64_t i) {
    const int64_t across = whole_windows(a->w, a->ww), n_windows = across * whole_windows(a->h, a->wh);
    struct window at = {.head = (int32_t)(i % a->heads)};
    at.number = i / a->heads % n_windows;
    at.image = i / a->heads / n_windows;
    at.top = at.number / across * a->wh;
    at.left = at.number % across * a->ww;
    return at;
}

static int64_t n_window_heads(const struct window_attention *a) {
    return a->n * whole_windows(a->h, a->wh) * whole_windows(a->w, a->ww) * a->heads;
}

/* doubles: the weights of one query over the keys; backward also dP, and dqkv of one window */
static size_t ref_window_attention_scratch(struct backend *be, const struct window_attention *a, bool train) {
    (void)be;
    const int64_t tokens = a->wh * a->ww, d = a->c / a->heads;
    return sizeof(double) * (size_t)(train ? 2 * tokens + tokens * 3 * d : tokens);
}

static status_t ref_window_attention_forward(struct backend *be, const struct window_attention *a, void *y,
                                             void *scratch) {
    (void)be;
    const int64_t tokens = a->wh * a->ww, d = a->c / a->heads;
    double *p = scratch;
    for (int64_t i = 0; i < n_window_heads(a); i++) {
        const struct window at = window_number(a, i);
        for (int64_t query = 0; query < tokens; query++) {
            double max = -INFINITY, sum = 0.0;
            for (int64_t key = 0; key < tokens; key++) {
                p[key] = attention_logit(a, &at, query, key);
                max = fmax(max, p[key]);
            }
            for (int64_t key = 0; key < tokens; key++) sum += exp(p[key] - max);
            if (a->lse) set_real(a->lse, i * tokens + query, max + log(sum));
            const int64_t pixel = token_pixel(a, &at, query);
            for (int64_t j = 0; j < d && pixel >= 0; j++) {
                double mixed = 0.0;
                for (int64_t key = 0; key < tokens; key++)
                    mixed += exp(p[key] - max) / sum * qkv_at(a, &at, key, 2, j);
                store(a->dtype, y, pixel * a->c + at.head * d + j, mixed);
            }
        }
    }
    return STATUS_OK;
}

static double attention_dy(const struct window_attention *a, const struct window_attention_grad *g,
                           const struct window *at, int64_t pixel, int64_t j) {
    return load(a->dtype, g->dy, pixel * a->c + at->head * (a->c / a->heads) + j);
}

/* Add the gradients that one query (of a pixel, not padded) causes to dqkv (tokens,3,d) of its window and to
 * dtable. */
static void attention_query_grad(const struct window_attention *a, const struct window_attention_grad *g,
                                 const struct window *at, double lse, int64_t query, double *p, double *dp,
                                 double *dqkv) {
    const int64_t tokens = a->wh * a->ww, d = a->c / a->heads, pixel = token_pixel(a, at, query);
    double mean_dp = 0.0; /* sum over keys of p dp: what softmax's gradient subtracts */
    for (int64_t key = 0; key < tokens; key++) {
        p[key] = exp(attention_logit(a, at, query, key) - lse);
        dp[key] = 0.0;
        for (int64_t j = 0; j < d; j++)
            dp[key] += attention_dy(a, g, at, pixel, j) * qkv_at(a, at, key, 2, j);
        mean_dp += p[key] * dp[key];
    }
    for (int64_t key = 0; key < tokens; key++) {
        const double dlogit = p[key] * (dp[key] - mean_dp);
        if (g->dtable) add_real(g->dtable, table_at(a, at, query, key), dlogit);
        for (int64_t j = 0; j < d; j++) {
            dqkv[(query * 3 + 0) * d + j] += dlogit * qkv_at(a, at, key, 1, j) / sqrt((double)d);
            dqkv[(key * 3 + 1) * d + j] += dlogit * qkv_at(a, at, query, 0, j) / sqrt((double)d);
            dqkv[(key * 3 + 2) * d + j] += p[key] * attention_dy(a, g, at, pixel, j);
        }
    }
}

static status_t ref_window_attention_backward(struct backend *be, const struct window_attention *a,
                                              const struct window_attention_grad *g, void *scratch) {
    (void)be;
    const int64_t tokens = a->wh * a->ww, d = a->c / a->heads;
    double *p = scratch, *dp = p + tokens, *dqkv = dp + tokens;
    for (int64_t i = 0; i < n_window_heads(a); i++) {
        const struct window at = window_number(a, i);
        for (int64_t j = 0; j < tokens * 3 * d; j++) dqkv[j] = 0.0;
        for (int64_t query = 0; query < tokens; query++) /* a padded query's output goes nowhere */
            if (token_pixel(a, &at, query) >= 0)
                attention_query_grad(a, g, &at, real_at(a->lse, i * tokens + query), query, p, dp, dqkv);
        for (int64_t j = 0; j < tokens * 3 * d; j++) {
            const int64_t pixel = token_pixel(a, &at, j / (3 * d));
            const int64_t channel = qkv_channel(a, &at, (int32_t)(j / d % 3), j % d);
            if (pixel >= 0)
                store(a->dtype, g->dqkv, pixel * 3 * a->c + channel, dqkv[j]);
            else if (g->dqkv_bias)
                add_real(g->dqkv_bias, channel, dqkv[j]);
        }
    }
    return STATUS_OK;
}
