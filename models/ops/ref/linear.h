/* Linear layer, two-layer perceptron and matrix product of ops_ref. */
#include "models/ops/ref/storage.h"

static status_t ref_linear_forward(struct backend *be, const struct linear *a, void *y, void *scratch) {
    (void)be, (void)scratch;
    for (int64_t t = 0; t < a->rows; t++) {
        for (int64_t o = 0; o < a->out; o++) {
            double z = a->bias ? real_at(a->bias, o) : 0.0;
            for (int64_t i = 0; i < a->in; i++)
                z += load(a->dtype, a->x, t * a->in + i) * load(a->dtype, a->w, o * a->in + i);
            if (a->relu6) z = fmin(fmax(z, 0.0), 6.0);
            if (a->epilogue == LINEAR_RESIDUAL)
                z = load(a->dtype, a->residual, t * a->out + o) +
                    row_factor(a->row_scale, t, a->rows_per_image) * z;
            store(a->dtype, y, t * a->out + o, z);
        }
    }
    return STATUS_OK;
}

/* g = row_scale * dy */
static double linear_g(const struct linear *a, const struct linear_grad *g, int64_t t, int64_t o) {
    const double dy = load(a->dtype, g->dy, t * a->out + o);
    return a->epilogue == LINEAR_RESIDUAL ? row_factor(a->row_scale, t, a->rows_per_image) * dy : dy;
}

static status_t ref_linear_backward(struct backend *be, const struct linear *a, const struct linear_grad *g,
                                    void *scratch) {
    (void)be, (void)scratch;
    for (int64_t o = 0; o < a->out; o++) {
        double dbias = 0.0;
        for (int64_t t = 0; t < a->rows; t++) dbias += linear_g(a, g, t, o);
        if (g->dbias) add_real(g->dbias, o, dbias);
        for (int64_t i = 0; i < a->in && g->dw; i++) {
            double dw = 0.0;
            for (int64_t t = 0; t < a->rows; t++)
                dw += linear_g(a, g, t, o) * load(a->dtype, a->x, t * a->in + i);
            add_real(g->dw, o * a->in + i, dw);
        }
    }
    for (int64_t t = 0; t < a->rows && g->dx; t++) {
        for (int64_t i = 0; i < a->in; i++) {
            double dx = 0.0;
            for (int64_t o = 0; o < a->out; o++)
                dx += linear_g(a, g, t, o) * load(a->dtype, a->w, o * a->in + i);
            store_or_add(a->dtype, g->dx, t * a->in + i, dx, g->dx_accumulate);
        }
    }
    return STATUS_OK;
}

static double gelu(double x) {
    return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
}

static double gelu_slope(double x) {
    const double density = exp(-0.5 * x * x) / sqrt(2.0 * 3.14159265358979323846);
    return 0.5 * (1.0 + erf(x / sqrt(2.0))) + x * density;
}

/* Scratch in doubles: one hidden row in inference; h and dpre (T,hidden) in training. */
static size_t ref_mlp_scratch(struct backend *be, const struct mlp *a, bool train) {
    (void)be;
    return sizeof(double) * (size_t)(train ? 2 * a->rows * a->hidden : a->hidden);
}

/* h w2^T + b2 of one row and channel. */
static double mlp_z(const struct mlp *a, const double *h, int64_t c) {
    double z = a->b2 ? real_at(a->b2, c) : 0.0;
    for (int64_t j = 0; j < a->hidden; j++) z += h[j] * load(a->dtype, a->w2, c * a->hidden + j);
    return z;
}

static double mlp_gamma(const struct mlp *a, int64_t c) {
    return a->gamma ? real_at(a->gamma, c) : 1.0;
}

static status_t ref_mlp_forward(struct backend *be, const struct mlp *a, void *y, void *scratch) {
    (void)be;
    double *h = scratch;
    for (int64_t t = 0; t < a->rows; t++) {
        for (int64_t j = 0; j < a->hidden; j++) {
            double pre = a->b1 ? real_at(a->b1, j) : 0.0;
            for (int64_t c = 0; c < a->channels; c++)
                pre += load(a->dtype, a->x, t * a->channels + c) * load(a->dtype, a->w1, j * a->channels + c);
            if (a->pre) store(a->dtype, a->pre, t * a->hidden + j, pre);
            h[j] = gelu(pre);
        }
        const double factor = row_factor(a->row_scale, t, a->rows_per_image);
        for (int64_t c = 0; c < a->channels; c++) {
            const int64_t at = t * a->channels + c;
            store(a->dtype, y, at,
                  load(a->dtype, a->residual, at) + factor * mlp_gamma(a, c) * mlp_z(a, h, c));
        }
    }
    return STATUS_OK;
}

/* g = row_scale * dy */
static double mlp_g(const struct mlp *a, const struct mlp_grad *g, int64_t t, int64_t c) {
    return row_factor(a->row_scale, t, a->rows_per_image) * load(a->dtype, g->dy, t * a->channels + c);
}

/* h = gelu(pre) and dpre = (gamma g w2) * gelu'(pre) for all rows. */
static void mlp_hidden(const struct mlp *a, const struct mlp_grad *g, double *h, double *dpre) {
    for (int64_t t = 0; t < a->rows; t++) {
        for (int64_t j = 0; j < a->hidden; j++) {
            const int64_t at = t * a->hidden + j;
            const double pre = load(a->dtype, a->pre, at);
            double dh = 0.0;
            for (int64_t c = 0; c < a->channels; c++)
                dh += mlp_gamma(a, c) * mlp_g(a, g, t, c) * load(a->dtype, a->w2, c * a->hidden + j);
            h[at] = gelu(pre);
            dpre[at] = dh * gelu_slope(pre);
        }
    }
}

static void mlp_second_layer(const struct mlp *a, const struct mlp_grad *g, const double *h) {
    for (int64_t c = 0; c < a->channels; c++) {
        double db2 = 0.0, dgamma = 0.0;
        for (int64_t t = 0; t < a->rows; t++) {
            db2 += mlp_gamma(a, c) * mlp_g(a, g, t, c);
            dgamma += mlp_g(a, g, t, c) * mlp_z(a, h + t * a->hidden, c);
        }
        if (g->db2) add_real(g->db2, c, db2);
        if (g->dgamma) add_real(g->dgamma, c, dgamma);
        for (int64_t j = 0; j < a->hidden && g->dw2; j++) {
            double dw2 = 0.0;
            for (int64_t t = 0; t < a->rows; t++)
                dw2 += mlp_gamma(a, c) * mlp_g(a, g, t, c) * h[t * a->hidden + j];
            add_real(g->dw2, c * a->hidden + j, dw2);
        }
    }
}

static void mlp_first_layer(const struct mlp *a, const struct mlp_grad *g, const double *dpre) {
    for (int64_t j = 0; j < a->hidden; j++) {
        double db1 = 0.0;
        for (int64_t t = 0; t < a->rows; t++) db1 += dpre[t * a->hidden + j];
        if (g->db1) add_real(g->db1, j, db1);
        for (int64_t c = 0; c < a->channels && g->dw1; c++) {
            double dw1 = 0.0;
            for (int64_t t = 0; t < a->rows; t++)
                dw1 += dpre[t * a->hidden + j] * load(a->dtype, a->x, t * a->channels + c);
            add_real(g->dw1, j * a->channels + c, dw1);
        }
    }
}

static status_t ref_mlp_backward(struct backend *be, const struct mlp *a, const struct mlp_grad *g,
                                 void *scratch) {
    (void)be;
    double *h = scratch, *dpre = h + a->rows * a->hidden;
    mlp_hidden(a, g, h, dpre);
    mlp_second_layer(a, g, h);
    mlp_first_layer(a, g, dpre);
    for (int64_t t = 0; t < a->rows && g->dx; t++) {
        for (int64_t c = 0; c < a->channels; c++) {
            double dx = 0.0;
            for (int64_t j = 0; j < a->hidden; j++)
                dx += dpre[t * a->hidden + j] * load(a->dtype, a->w1, j * a->channels + c);
            store_or_add(a->dtype, g->dx, t * a->channels + c, dx, g->dx_accumulate);
        }
    }
    return STATUS_OK;
}

static status_t ref_gemm(struct backend *be, const struct gemm *a) {
    (void)be;
    for (int64_t i = 0; i < a->m; i++) {
        for (int64_t j = 0; j < a->n; j++) {
            double sum = 0.0;
            for (int64_t l = 0; l < a->k; l++)
                sum += load(a->dtype, a->a, a->transpose_a ? l * a->lda + i : i * a->lda + l) *
                       load(a->dtype, a->b, a->transpose_b ? j * a->ldb + l : l * a->ldb + j);
            const int64_t at = i * a->ldc + j;
            const double old = a->beta == 0.0f ? 0.0 : (double)a->beta * real_at(a->c, at);
            set_real(a->c, at, (double)a->alpha * sum + old);
        }
    }
    return STATUS_OK;
}
