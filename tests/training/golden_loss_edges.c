// The losses of a co-training step without networks: the group `edge` of every $GOLDEN/cotrain_*.h5.
// Confidences of exactly the threshold, ties, huge logits, with the rows in one piece or shared out unevenly,
// on all tables.
#include "tests/support/tables.h"
#include "tests/support/test.h"
#include "training/cotrain_loss.h"

#include <glob.h>
#include <string.h>

enum { N_PEERS = 2, MAX_PIECES = 3 };
static const char *const peer_names[N_PEERS] = {"C", "S"};

/* The count of kept source rows over all pieces: first each piece tells its own, then all get the sum. */
struct group_sum {
    struct table *t;
    bool known;
    double sum;
};

static status_t reduce_count(void *context, double *sums, int64_t n) {
    struct group_sum *g = context;
    const struct ops *ops = g->t->ops;
    double local;
    assert_int_equal(n, 1);
    if (g->known) return ops->copy_in(g->t->be, sums, &g->sum, sizeof g->sum);
    assert_ok(ops->copy_out(g->t->be, &local, sums, sizeof local));
    g->sum += local;
    return STATUS_OK;
}

struct edge {
    hid_t group;
    struct table *t;
    float weight[LOSS_N_TERMS];
    float smoothing, tau, tau_source;
    int64_t n_classes;
    int n_pieces;
};

/* Rows [begin, end) of piece k: uneven, and the last piece of three is often empty. */
static int64_t piece_begin(int64_t n, int k, int n_pieces) {
    return k == 0 ? 0 : k == n_pieces ? n : n - n / (2 * k + 1);
}

/* Rows of a data set. */
static struct tensor rows_of(const struct edge *e, const char *path, int k) {
    struct tensor all = tensor_read(e->group, path);
    const int64_t width = all.n_dims > 1 ? all.shape[1] : 1;
    const int64_t begin = piece_begin(all.shape[0], k, e->n_pieces),
                  end = piece_begin(all.shape[0], k + 1, e->n_pieces);
    const int64_t shape[] = {end - begin, width};
    struct tensor rows = tensor_new(all.name, 2, shape);
    memcpy(rows.v, all.v + begin * width, (size_t)rows.n * sizeof *rows.v);
    tensor_free(&all);
    return rows;
}

struct piece {
    struct cotrain_loss loss;
    struct cotrain_loss_buffers b;
};

static void open_piece(const struct edge *e, struct piece *p, int peer, int k, struct group_sum *sum) {
    char path[64];
    int64_t n[N_INPUTS];
    p->loss = (struct cotrain_loss){.ops = e->t->ops,
                                    .be = e->t->be,
                                    .n_classes = (int32_t)e->n_classes,
                                    .smoothing = e->smoothing,
                                    .tau = e->tau,
                                    .tau_source = e->tau_source,
                                    .reduce = reduce_count,
                                    .reduce_context = sum};
    memcpy(p->loss.weight, e->weight, sizeof e->weight);
    for (int i = 0; i < N_INPUTS; i++) {
        snprintf(path, sizeof path, "%s/logits/%s", peer_names[peer], step_input_name((enum step_input)i));
        struct tensor all = tensor_read(e->group, path), rows = rows_of(e, path, k);
        p->loss.n_global[i] = all.shape[0];
        n[i] = rows.shape[0];
        p->loss.logits[i] = table_up(e->t, DTYPE_F32, &rows);
        p->loss.dlogits[i] = table_filled(e->t, DTYPE_F32, rows.n, 77.0); /* must be overwritten */
        tensor_free(&all);
        tensor_free(&rows);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "labels/%s", step_input_name((enum step_input)i));
        struct tensor labels = rows_of(e, path, k);
        p->loss.labels[i] = table_up_i32(e->t, &labels);
        tensor_free(&labels);
    }
    assert_ok(cotrain_loss_buffers_new(e->t->ops, e->t->be, n, N_PEERS - 1, &p->b));
}

static void compare(const struct edge *e, const char *path, const double *got, const double *want,
                    int64_t n) {
    const double allowed = golden_attributes(e->group, path, "allowed", NULL, 0)
                               ? golden_attribute(e->group, path, "allowed")
                               : 0.0;
    const double error = tensor_error(got, want, n, 0.0);
    if (!(error <= allowed))
        fail_msg("%s, %d pieces: %s: error %.3g, allowed %.3g", e->t->label, e->n_pieces, path, error,
                 allowed);
}

static void check_f32(const struct edge *e, const char *path, const float *got, int k) {
    struct tensor want = rows_of(e, path, k),
                  have = table_down(e->t, DTYPE_F32, got, want.name, 2, want.shape);
    struct tensor all = tensor_read(e->group, path);
    /* The error is relative to the whole data set, so the rest of it joins as it should be. */
    double *joined = all.v;
    const int64_t at = piece_begin(all.shape[0], k, e->n_pieces) * (all.n / all.shape[0]);
    struct tensor whole = tensor_read(e->group, path);
    memcpy(joined + at, have.v, (size_t)have.n * sizeof *have.v);
    compare(e, path, joined, whole.v, whole.n);
    tensor_free(&want);
    tensor_free(&have);
    tensor_free(&all);
    tensor_free(&whole);
}

static void check_integers(const struct edge *e, const char *path, const void *got, size_t element_bytes,
                           int k) {
    struct tensor want = rows_of(e, path, k);
    unsigned char host[4 * 256];
    assert_true((size_t)want.n * element_bytes <= sizeof host);
    assert_ok(e->t->ops->copy_out(e->t->be, host, got, (size_t)want.n * element_bytes));
    for (int64_t i = 0; i < want.n; i++) {
        const double value = element_bytes == 1 ? host[i] : ((const int32_t *)(void *)host)[i];
        if (value != want.v[i]) fail_msg("%s: %s differs in row %d", e->t->label, path, (int)i);
    }
    tensor_free(&want);
}

static void check_piece(const struct edge *e, const struct piece *p, int peer, int k) {
    char path[64];
    for (int i = 0; i < N_INPUTS; i++) {
        snprintf(path, sizeof path, "%s/dlogits/%s", peer_names[peer], step_input_name((enum step_input)i));
        check_f32(e, path, p->loss.dlogits[i], k);
    }
#define PATH(format) (snprintf(path, sizeof path, format, peer_names[peer]), path)
    check_f32(e, PATH("%s/confidence/source"), p->b.source_confidence, k);
    check_f32(e, PATH("%s/confidence/unlabelled"), p->b.confidence, k);
    check_integers(e, PATH("%s/mask/source"), p->b.source_mask, 1, k);
    check_integers(e, PATH("%s/mask/unlabelled"), p->b.mask, 1, k);
    check_integers(e, PATH("%s/label/unlabelled"), p->b.label, 4, k);
#undef PATH
}

/* Terms and their weighted sum, from the sums of all pieces. */
static void check_terms(const struct edge *e, struct piece *pieces, int peer, double kept) {
    double sums[LOSS_N_TERMS] = {0}, terms[LOSS_N_TERMS], total = 0.0;
    char path[64];
    for (int k = 0; k < e->n_pieces; k++) {
        double local[LOSS_N_TERMS];
        assert_ok(e->t->ops->copy_out(e->t->be, local, pieces[k].b.sums, sizeof local));
        for (int i = 0; i < LOSS_N_TERMS; i++) sums[i] += local[i];
    }
    cotrain_loss_means(&pieces[0].loss, false, sums, kept, N_PEERS - 1, terms);
    for (int i = 0; i < LOSS_N_TERMS; i++) total += (double)e->weight[i] * terms[i];
    snprintf(path, sizeof path, "%s/terms", peer_names[peer]);
    struct tensor want = tensor_read(e->group, path);
    assert_int_equal(want.n, LOSS_N_TERMS);
    compare(e, path, terms, want.v, want.n);
    tensor_free(&want);
    snprintf(path, sizeof path, "%s/total", peer_names[peer]);
    want = tensor_read(e->group, path);
    compare(e, path, &total, want.v, 1);
    tensor_free(&want);
}

static void run_edge(const struct edge *e) {
    struct piece pieces[N_PEERS][MAX_PIECES];
    struct group_sum sums[N_PEERS] = {{.t = e->t}, {.t = e->t}};
    const size_t message_bytes = sizeof(struct pseudo_label);
    for (int p = 0; p < N_PEERS; p++) {
        for (int k = 0; k < e->n_pieces; k++) {
            open_piece(e, &pieces[p][k], p, k, &sums[p]);
            assert_ok(cotrain_loss_label(&pieces[p][k].loss, &pieces[p][k].b));
        }
    }
    for (int p = 0; p < N_PEERS; p++) {
        for (int k = 0; k < e->n_pieces; k++)
            assert_ok(e->t->ops->copy(e->t->be, pieces[p][k].b.receive[0], pieces[1 - p][k].b.send,
                                      (size_t)pieces[p][k].b.n[INPUT_UNLABELLED] * message_bytes));
        for (int k = 0; k < e->n_pieces; k++)
            assert_ok(cotrain_loss_terms(&pieces[p][k].loss, &pieces[p][k].b));
        sums[p].known = true;
        for (int k = 0; k < e->n_pieces; k++)
            assert_ok(cotrain_loss_terms(&pieces[p][k].loss, &pieces[p][k].b));
        for (int k = 0; k < e->n_pieces; k++) check_piece(e, &pieces[p][k], p, k);
        check_terms(e, pieces[p], p, sums[p].sum);
    }
    for (int p = 0; p < N_PEERS; p++)
        for (int k = 0; k < e->n_pieces; k++) cotrain_loss_buffers_free(e->t->ops, e->t->be, &pieces[p][k].b);
    table_release(e->t);
}

/* Returns whether the file has the group. */
static bool run_file(struct tables *tables, const char *path) {
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    const bool has_edge = golden_has(file, "edge");
    if (has_edge) {
        double weight[LOSS_N_TERMS];
        struct edge e = {.group = H5Gopen2(file, "edge", H5P_DEFAULT)};
        e.smoothing = (float)golden_attribute(file, ".", "smoothing");
        e.n_classes = (int64_t)golden_attribute(file, ".", "classes");
        e.tau = (float)golden_attribute(e.group, ".", "tau");
        e.tau_source = (float)golden_attribute(e.group, ".", "tau_source");
        assert_int_equal(golden_attributes(file, ".", "weight", weight, LOSS_N_TERMS), LOSS_N_TERMS);
        for (int i = 0; i < LOSS_N_TERMS; i++) e.weight[i] = (float)weight[i];
        for (int i = 0; i < tables->n; i++) {
            e.t = &tables->table[i];
            for (e.n_pieces = 1; e.n_pieces <= MAX_PIECES; e.n_pieces++) run_edge(&e);
        }
        H5Gclose(e.group);
    }
    H5Fclose(file);
    return has_edge;
}

static void every_file(void **state) {
    (void)state;
    struct tables tables;
    char pattern[4096];
    glob_t files;
    int n_run = 0;
    tables_open(&tables);
    snprintf(pattern, sizeof pattern, "%s/cotrain_*.h5", golden_folder());
    assert_int_equal(glob(pattern, 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) n_run += run_file(&tables, files.gl_pathv[i]);
    globfree(&files);
    tables_close(&tables);
    assert_true(n_run > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
