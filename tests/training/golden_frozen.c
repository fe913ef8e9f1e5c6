// CASES np=1,2,3,5
// LIMIT 240
// Every frozen_*.h5 of $GOLDEN (default tests/golden): CORAL, initial training, and every run stored: masks
// and labels at each outer iteration exactly, losses, weights, the classifier kept, final predictions.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/golden_h5.h"
#include "tests/support/test.h"
#include "tests/support/trajectory.h"
#include "comm/exchange.h"
#include "training/coral.h"
#include "training/head.h"
#include "training/predict.h"

static struct comm *world;
static struct backend *be;

enum { N_PEERS = TRAJECTORY_N_PEERS };
static const char *const names[N_PEERS] = {"C", "S"};

struct peer {
    struct comm *group;
    struct head *head;
    int64_t d;
    float *x[HEAD_N_INPUTS]; /* this rank's rows, as they are trained on */
    float *validation;       /* all validation rows */
    struct interval rows[HEAD_N_INPUTS];
    struct pseudo_label *own, *other;
    float *w0, *w, *best;
    double best_accuracy;
    int best_outer;
};

struct frozen {
    hid_t file;
    struct peer peers[N_PEERS];
    struct trajectory_groups ranks;
    struct exchange_plan *plan;
    int32_t k, n_val;
    int64_t n_global[HEAD_N_INPUTS];
    int32_t *y[3];
    int32_t *val_index;
};

static double attribute(const struct frozen *f, const char *name) {
    return golden_attribute(f->file, "/", name);
}

/* max |got - want| of a data set of doubles, against its largest value. */
static void check_close(const struct frozen *f, const char *path, const float *got, size_t n, size_t skip,
                        double allowed) {
    struct golden_array want = golden_read(f->file, path, H5T_NATIVE_DOUBLE);
    double worst = 0, largest = 1e-30;
    assert_true(skip + n <= want.n);
    for (size_t i = 0; i < n; i++) {
        const double w = ((double *)want.data)[skip + i];
        largest = fmax(largest, fabs(w));
        worst = fmax(worst, fabs((double)got[i] - w));
    }
    golden_free(&want);
    if (getenv("VERBOSE")) fprintf(stderr, "%s: %.2e of %.0e\n", path, worst / largest, allowed);
    if (!(worst <= allowed * largest))
        fail_msg("%s: error %.3e, allowed %.0e", path, worst / largest, allowed);
}

static float *local_rows(const struct frozen *f, const char *path, struct interval rows, int64_t d) {
    struct golden_array all = golden_read(f->file, path, H5T_NATIVE_FLOAT);
    const size_t n = (size_t)(interval_length(rows) * d);
    float *out = calloc(n + 1, sizeof *out);
    memcpy(out, (float *)all.data + rows.begin * d, n * sizeof *out);
    golden_free(&all);
    return out;
}

static void open_peer(struct frozen *f, int p) {
    static const char *const inputs[] = {"x_s", "x_t", "x_u", "x_u_strong"};
    struct peer *peer = &f->peers[p];
    char path[64];
    snprintf(path, sizeof path, "input/%s/w0", names[p]);
    struct golden_array w0 = golden_read(f->file, path, H5T_NATIVE_FLOAT);
    f->k = (int32_t)w0.shape[0];
    peer->d = (int64_t)w0.shape[1];
    peer->w0 = w0.data;
    peer->w = calloc(w0.n, sizeof(float));
    peer->best = calloc(w0.n, sizeof(float));
    for (int i = 0; i < HEAD_N_INPUTS; i++) {
        snprintf(path, sizeof path, "input/%s/%s", names[p], inputs[i]);
        peer->rows[i] = interval_part(f->n_global[i], comm_rank(peer->group), comm_size(peer->group));
        peer->x[i] = local_rows(f, path, peer->rows[i], peer->d);
    }
    snprintf(path, sizeof path, "input/%s/x_u", names[p]);
    float *all = local_rows(f, path, (struct interval){0, f->n_global[HEAD_UNLABELLED]}, peer->d);
    peer->validation = calloc((size_t)(f->n_val * peer->d), sizeof(float));
    for (int32_t i = 0; i < f->n_val; i++)
        memcpy(peer->validation + i * peer->d, all + f->val_index[i] * peer->d,
               (size_t)peer->d * sizeof(float));
    free(all);
    peer->own = calloc((size_t)f->n_global[HEAD_UNLABELLED], sizeof *peer->own);
    peer->other = calloc((size_t)f->n_global[HEAD_UNLABELLED], sizeof *peer->other);
}

static void apply_coral(struct frozen *f, int p) {
    struct peer *peer = &f->peers[p];
    char coral_peer[8];
    golden_text(f->file, "/", "coral_peer", coral_peer, sizeof coral_peer);
    const int64_t n_s = interval_length(peer->rows[0]), n_t = interval_length(peer->rows[1]),
                  n_u = interval_length(peer->rows[2]), d = peer->d;
    if (strcmp(coral_peer, names[p]) == 0) {
        struct coral_transform t;
        float *both = calloc((size_t)((n_s + n_t) * d + 1), sizeof *both);
        memcpy(both, peer->x[0], (size_t)(n_s * d) * sizeof *both);
        memcpy(both + n_s * d, peer->x[1], (size_t)(n_t * d) * sizeof *both);
        assert_ok(
            coral_fit(peer->group, attribute(f, "coral_ridge"), d, both, n_s + n_t, peer->x[2], n_u, &t));
        assert_ok(coral_apply_source(&t, both, n_s + n_t));
        memcpy(peer->x[0], both, (size_t)(n_s * d) * sizeof *both);
        memcpy(peer->x[1], both + n_s * d, (size_t)(n_t * d) * sizeof *both);
        coral_centre_target(&t, peer->x[2], n_u);
        coral_centre_target(&t, peer->validation, f->n_val);
        static const char *const expected[] = {"x_s", "x_t", "x_u"};
        for (int i = 0; i < 3; i++) {
            char path[64];
            snprintf(path, sizeof path, "expect/coral/%s/%s", names[p], expected[i]);
            check_close(f, path, peer->x[i], (size_t)(interval_length(peer->rows[i]) * d),
                        (size_t)(peer->rows[i].begin * d), 1e-5);
        }
        coral_free(&t);
        free(both);
    }
    for (int i = 0; i < HEAD_N_INPUTS; i++) normalise_rows(peer->x[i], interval_length(peer->rows[i]), d);
    normalise_rows(peer->validation, f->n_val, d);
}

static void open_head(struct frozen *f, int p) {
    struct peer *peer = &f->peers[p];
    struct head_options o = {.ops = &ops_cpu,
                             .be = be,
                             .group = peer->group,
                             .n_classes = f->k,
                             .d = peer->d,
                             .precision = DTYPE_F32,
                             .labels = {f->y[0] + peer->rows[0].begin, f->y[1] + peer->rows[1].begin},
                             .lr = attribute(f, "lr"),
                             .momentum = attribute(f, "momentum"),
                             .nesterov = true};
    for (int i = 0; i < HEAD_N_INPUTS; i++) {
        o.rows[i] = peer->x[i];
        o.n_local[i] = interval_length(peer->rows[i]);
        o.n_global[i] = f->n_global[i];
    }
    assert_ok(head_new(&o, &peer->head));
    assert_ok(head_set_weights(peer->head, peer->w0));
}

static void check_weights(struct frozen *f, int p, const char *where, const char *name) {
    struct peer *peer = &f->peers[p];
    char path[128];
    assert_ok(head_get_weights(peer->head, peer->w));
    snprintf(path, sizeof path, "expect/%s/%s/%s", where, names[p], name);
    if (golden_has(f->file, path)) check_close(f, path, peer->w, (size_t)(f->k * peer->d), 0, 1e-4);
}

static void train_init(struct frozen *f, int p) {
    struct peer *peer = &f->peers[p];
    char path[64], name[32];
    snprintf(path, sizeof path, "expect/init/%s/loss", names[p]);
    struct golden_array loss = golden_read(f->file, path, H5T_NATIVE_DOUBLE);
    assert_ok(head_select_init(peer->head, attribute(f, "lambda_s_init"), attribute(f, "lambda_t_init")));
    for (size_t step = 0; step < loss.n; step++) {
        double terms[HEAD_N_TERMS];
        assert_ok(head_step(peer->head, terms));
        const double total = terms[0] + terms[1], want = ((double *)loss.data)[step];
        if (!(fabs(total - want) <= 1e-4 * fabs(want) + 1e-6))
            fail_msg("%s step %zu: %g, want %g", path, step, total, want);
        snprintf(name, sizeof name, "w_step%zu", step + 1);
        check_weights(f, p, "init", name);
    }
    check_weights(f, p, "init", "w");
    assert_ok(head_get_weights(peer->head, peer->w0)); /* every run starts from here */
    golden_free(&loss);
}

static void label_and_exchange(struct frozen *f, double tau_s) {
    const struct pseudo_label *send[N_PEERS] = {NULL};
    struct pseudo_label *receive[N_PEERS * N_PEERS] = {NULL};
    for (int p = 0; p < N_PEERS; p++) {
        if (!f->peers[p].group) continue;
        assert_ok(head_label(f->peers[p].head, tau_s, f->peers[p].own));
        send[p] = f->peers[p].own;
        receive[p * N_PEERS + 1 - p] = f->peers[p].other;
    }
    struct exchange_request *request;
    assert_ok(exchange_begin(f->plan, send, receive, &request));
    assert_ok(exchange_end(&request, NULL));
}

/* Masks and labels of outer iteration `outer`, exactly. */
static void check_selection(struct frozen *f, int p, const char *run, int outer, double tau) {
    const struct peer *peer = &f->peers[p];
    const struct interval u = peer->rows[HEAD_UNLABELLED], s = peer->rows[HEAD_SOURCE];
    char path[128];
#define READ(name, type)                                                                                     \
    (snprintf(path, sizeof path, "expect/%s/%s/%s", run, names[p], name), golden_read(f->file, path, type))
    struct golden_array label = READ("label_u", H5T_NATIVE_INT32), mask = READ("mask_u", H5T_NATIVE_UINT8),
                        mask_s = READ("mask_s", H5T_NATIVE_UINT8), conf = READ("conf_u", H5T_NATIVE_DOUBLE);
#undef READ
    const int64_t n_u = f->n_global[HEAD_UNLABELLED], n_s = f->n_global[HEAD_SOURCE];
    for (int64_t i = u.begin; i < u.end; i++) {
        const struct pseudo_label *got = &peer->own[i - u.begin];
        if (got->label != ((int32_t *)label.data)[outer * n_u + i] ||
            (got->confidence > (float)tau) != ((uint8_t *)mask.data)[outer * n_u + i] ||
            fabs((double)got->confidence - ((double *)conf.data)[outer * n_u + i]) > 1e-4)
            fail_msg("%s %s outer %d row %lld: label %d confidence %g, want %d %g", run, names[p], outer,
                     (long long)i, got->label, (double)got->confidence,
                     ((int32_t *)label.data)[outer * n_u + i], ((double *)conf.data)[outer * n_u + i]);
    }
    for (int64_t i = s.begin; i < s.end; i++)
        assert_int_equal(head_source_mask(peer->head)[i - s.begin],
                         ((uint8_t *)mask_s.data)[outer * n_s + i]);
    golden_free(&label);
    golden_free(&mask);
    golden_free(&mask_s);
    golden_free(&conf);
}

static double validation_accuracy(struct frozen *f, struct peer *peer) {
    float *probabilities = calloc((size_t)(f->n_val * f->k), sizeof *probabilities);
    assert_ok(head_predict(peer->head, peer->validation, f->n_val, probabilities));
    int right = 0;
    for (int32_t i = 0; i < f->n_val; i++)
        right += argmax(probabilities + i * f->k, f->k) == f->y[2][f->val_index[i]];
    free(probabilities);
    return 100.0 * right / f->n_val;
}

static void check_losses(struct frozen *f, int p, const char *run, int outer, int at, const double *terms) {
    char path[128];
    snprintf(path, sizeof path, "expect/%s/%s/loss", run, names[p]);
    struct golden_array want = golden_read(f->file, path, H5T_NATIVE_DOUBLE);
    const hsize_t r = want.shape[1];
    for (int t = 0; t < HEAD_N_TERMS; t++) {
        const double w = ((double *)want.data)[((hsize_t)outer * r + (hsize_t)at) * 5 + (hsize_t)t];
        if (!(fabs(terms[t] - w) <= 2e-4 * fabs(w) + 2e-5))
            fail_msg("%s outer %d term %d: %g, want %g", path, outer, t, terms[t], w);
    }
    golden_free(&want);
}

static void outer_iteration(struct frozen *f, const char *run, int outer, int n_inner,
                            const struct golden_array *loss_inner) {
    char path[128];
    snprintf(path, sizeof path, "expect/%s", run);
    const double tau_s = golden_attribute(f->file, path, "tau_s");
    snprintf(path, sizeof path, "expect/%s/tau", run);
    struct golden_array taus = golden_read(f->file, path, H5T_NATIVE_DOUBLE);
    const double tau = ((double *)taus.data)[outer];
    golden_free(&taus);
    label_and_exchange(f, tau_s);
    for (int p = 0; p < N_PEERS; p++) {
        struct peer *peer = &f->peers[p];
        if (!peer->group) continue;
        check_selection(f, p, run, outer, tau);
        const struct head_selection s = {.weight = {attribute(f, "lambda_s"), attribute(f, "lambda_t"),
                                                    attribute(f, "lambda_cons"), attribute(f, "lambda_co")},
                                         .smoothing = attribute(f, "epsilon"),
                                         .tau = tau,
                                         .own = peer->own,
                                         .other = peer->other};
        assert_ok(head_select(peer->head, &s));
        for (int inner = 0, at = 0; inner < n_inner; inner++) {
            double terms[HEAD_N_TERMS];
            const bool stored = at < (int)loss_inner->n && ((int32_t *)loss_inner->data)[at] == inner;
            assert_ok(head_step(peer->head, stored ? terms : NULL));
            if (stored) check_losses(f, p, run, outer, at++, terms);
            if (outer == 0 && inner < 2) check_weights(f, p, run, inner == 0 ? "w_step1" : "w_step2");
        }
    }
}

static void check_best(struct frozen *f, const char *run, int p) {
    struct peer *peer = &f->peers[p];
    char path[128];
    snprintf(path, sizeof path, "expect/%s/%s/best_outer", run, names[p]);
    struct golden_array want = golden_read(f->file, path, H5T_NATIVE_INT32);
    assert_int_equal(peer->best_outer, ((int32_t *)want.data)[0]);
    golden_free(&want);
    snprintf(path, sizeof path, "expect/%s/%s/w_best", run, names[p]);
    check_close(f, path, peer->best, (size_t)(f->k * peer->d), 0, 1e-4);
    assert_ok(head_set_weights(peer->head, peer->best));
    const struct interval u = peer->rows[HEAD_UNLABELLED];
    const int64_t n = interval_length(u);
    float *probabilities = calloc((size_t)(n * f->k + 1), sizeof *probabilities);
    assert_ok(head_predict(peer->head, peer->x[HEAD_UNLABELLED], n, probabilities));
    snprintf(path, sizeof path, "expect/%s/pred_%s", run, names[p]);
    struct golden_array prediction = golden_read(f->file, path, H5T_NATIVE_INT32);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(argmax(probabilities + i * f->k, f->k), ((int32_t *)prediction.data)[u.begin + i]);
    golden_free(&prediction);
    free(probabilities);
}

static void one_run(hid_t group, const char *run, void *context) {
    (void)group;
    struct frozen *f = context;
    char path[128];
    snprintf(path, sizeof path, "expect/%s", run);
    if (H5Aexists_by_name(f->file, path, "n_outer", H5P_DEFAULT) <= 0) return; /* coral, init */
    const int n_outer = (int)golden_attribute(f->file, path, "n_outer"),
              n_inner = (int)golden_attribute(f->file, path, "n_inner");
    snprintf(path, sizeof path, "expect/%s/loss_inner", run);
    struct golden_array loss_inner = golden_read(f->file, path, H5T_NATIVE_INT32);
    snprintf(path, sizeof path, "expect/%s/eval_outer", run);
    struct golden_array eval_outer = golden_read(f->file, path, H5T_NATIVE_INT32);
    for (int p = 0; p < N_PEERS; p++) {
        f->peers[p].best_accuracy = -1;
        if (f->peers[p].group) assert_ok(head_set_weights(f->peers[p].head, f->peers[p].w0));
    }
    for (int outer = 0, e = 0; outer < n_outer; outer++) {
        outer_iteration(f, run, outer, n_inner, &loss_inner);
        if (e >= (int)eval_outer.n || ((int32_t *)eval_outer.data)[e] != outer) continue;
        e++;
        for (int p = 0; p < N_PEERS; p++) {
            struct peer *peer = &f->peers[p];
            if (!peer->group) continue;
            const double accuracy_now = validation_accuracy(f, peer);
            if (accuracy_now < peer->best_accuracy) continue; /* ties: the later */
            peer->best_accuracy = accuracy_now;
            peer->best_outer = outer;
            assert_ok(head_get_weights(peer->head, peer->best));
        }
    }
    for (int p = 0; p < N_PEERS; p++) {
        if (!f->peers[p].group) continue;
        check_weights(f, p, run, "w_last");
        check_best(f, run, p);
    }
    golden_free(&loss_inner);
    golden_free(&eval_outer);
}

static void run_file(const char *name) {
    struct frozen f = {.file = golden_open(name)};
    static const char *const labels[] = {"input/y_s", "input/y_t", "input/y_u"};
    for (int i = 0; i < 3; i++) {
        struct golden_array y = golden_read(f.file, labels[i], H5T_NATIVE_INT32);
        f.y[i] = y.data;
        f.n_global[i] = (int64_t)y.n;
    }
    f.n_global[HEAD_STRONG] = f.n_global[HEAD_UNLABELLED];
    struct golden_array val = golden_read(f.file, "input/val_index", H5T_NATIVE_INT32);
    f.val_index = val.data;
    f.n_val = (int32_t)val.n;
    trajectory_share_ranks(world, names, &f.ranks);
    for (int p = 0; p < N_PEERS; p++) f.peers[p].group = f.ranks.groups[p];
    for (int p = 0; p < N_PEERS; p++) {
        if (!f.peers[p].group) continue;
        open_peer(&f, p);
        apply_coral(&f, p);
        open_head(&f, p);
        train_init(&f, p);
    }
    assert_ok(exchange_plan_new(world, N_PEERS, f.ranks.members, f.n_global[HEAD_UNLABELLED], &f.plan));
    assert_true(golden_walk(f.file, "expect", one_run, &f) > 0);
    exchange_plan_free(&f.plan);
    for (int p = 0; p < N_PEERS; p++) {
        struct peer *peer = &f.peers[p];
        head_free(peer->head);
        for (int i = 0; i < HEAD_N_INPUTS; i++) free(peer->x[i]);
        free(peer->validation), free(peer->own), free(peer->other), free(peer->w0), free(peer->w),
            free(peer->best);
        comm_free(&peer->group);
    }
    for (int i = 0; i < 3; i++) free(f.y[i]);
    free(f.val_index);
    H5Fclose(f.file);
}

int main(int argc, char **argv) {
    return trajectory_main(argc, argv, &world, &be, "frozen_*.h5", run_file);
}
