#include "tests/support/trajectory.h"

#include "tests/support/test.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct file_runs {
    const char *pattern;
    void (*run_file)(const char *name);
};

static void every_file(void **state) {
    const struct file_runs *runs = *state;
    char pattern[600];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/%s", golden_folder(), runs->pattern);
    if (glob(pattern, 0, NULL, &found) != 0) {
        if (getenv("GOLDEN")) exit(77);
        fail_msg("no %s", pattern);
    }
    for (size_t i = 0; i < found.gl_pathc; i++) runs->run_file(strrchr(found.gl_pathv[i], '/') + 1);
    globfree(&found);
}

int trajectory_main(int argc, char **argv, struct comm **world, struct backend **be, const char *pattern,
                    void (*run_file)(const char *name)) {
    struct file_runs runs = {pattern, run_file};
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(every_file, &runs)};
    if (comm_start(&argc, &argv, world) != STATUS_OK || cpu_backend_open(1, be) != STATUS_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed) comm_abort(1); /* the others may wait in a collective */
    cpu_backend_close(*be);
    return comm_finish(world) == STATUS_OK ? 0 : 1;
}

void trajectory_share_ranks(struct comm *world, const char *const names[TRAJECTORY_N_PEERS],
                            struct trajectory_groups *out) {
    const int n = comm_size(world);
    const int first = n == 1 ? 1 : (n + 1) / 2, sizes[TRAJECTORY_N_PEERS] = {first, n == 1 ? 1 : n - first};
    for (int p = 0; p < TRAJECTORY_N_PEERS; p++) {
        for (int i = 0; i < sizes[p]; i++) out->ranks[p][i] = n == 1 ? 0 : p * first + i;
        out->members[p] = (struct comm_membership){names[p], out->ranks[p], sizes[p]};
    }
    assert_ok(comm_split(world, TRAJECTORY_N_PEERS, out->members, out->groups));
}

size_t trajectory_numbers(hid_t at, const char *path, const char *name, double *out, size_t capacity) {
    const hid_t attribute = H5Aopen_by_name(at, path, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0) fail_msg("no attribute %s at %s", name, path);
    const hid_t space = H5Aget_space(attribute);
    const size_t n = (size_t)H5Sget_simple_extent_npoints(space);
    double *values = calloc(n, sizeof *values);
    assert_true(H5Aread(attribute, H5T_NATIVE_DOUBLE, values) >= 0);
    for (size_t i = 0; out && i < n && i < capacity; i++) out[i] = values[i];
    free(values);
    H5Sclose(space);
    H5Aclose(attribute);
    return n;
}

static bool has_attribute(hid_t at, const char *path, const char *name) {
    return H5Aexists_by_name(at, path, name, H5P_DEFAULT) > 0;
}

static double attribute_or(hid_t at, const char *path, const char *name, double otherwise) {
    return has_attribute(at, path, name) ? golden_attribute(at, path, name) : otherwise;
}

static void require(double error, hid_t at, const char *path) {
    const double allowed = golden_attribute(at, path, "allowed");
    if (getenv("VERBOSE")) fprintf(stderr, "%s: %.2e of %.2e\n", path, error, allowed);
    if (!(error <= allowed)) fail_msg("%s: error %.3e, allowed %.3e", path, error, allowed);
}

/* max |got - want| over [first, first + n) against the largest value of all. */
static void check_reals(hid_t at, const char *path, const double *got, size_t first, size_t n) {
    struct golden_array want = golden_read(at, path, H5T_NATIVE_DOUBLE);
    double largest = attribute_or(at, path, "floor", 1e-30), worst = 0;
    assert_true(first + n <= want.n);
    for (size_t i = 0; i < want.n; i++) largest = fmax(largest, fabs(((double *)want.data)[i]));
    for (size_t i = 0; i < n; i++) {
        const double difference = fabs(got[i] - ((double *)want.data)[first + i]);
        worst = isfinite(difference) ? fmax(worst, difference) : INFINITY;
    }
    golden_free(&want);
    require(worst / largest, at, path);
}

static double *as_doubles(const float *values, size_t n) {
    double *out = calloc(n + 1, sizeof *out);
    for (size_t i = 0; i < n; i++) out[i] = values[i];
    return out;
}

void trajectory_check_rows(hid_t at, const char *path, const float *got, struct interval rows,
                           int64_t columns) {
    const size_t n = (size_t)(interval_length(rows) * columns);
    double *values = as_doubles(got, n);
    check_reals(at, path, values, (size_t)(rows.begin * columns), n);
    free(values);
}

void trajectory_check_numbers(hid_t at, const char *path, const double *got, size_t n) {
    check_reals(at, path, got, 0, n);
}

void trajectory_check_integers(hid_t at, const char *path, const int32_t *got, const uint8_t *got_u8,
                               struct interval rows) {
    struct golden_array want = golden_read(at, path, H5T_NATIVE_INT32);
    for (int64_t i = rows.begin; i < rows.end; i++) {
        const int32_t have = got ? got[i - rows.begin] : got_u8[i - rows.begin],
                      expected = ((int32_t *)want.data)[i];
        if (have != expected) fail_msg("%s[%lld]: %d, want %d", path, (long long)i, have, expected);
    }
    golden_free(&want);
}

void trajectory_remember(struct net *net, struct trajectory_start *start) {
    start->n = net_n_params(net);
    start->values = calloc((size_t)start->n, sizeof *start->values);
    for (int32_t i = 0; i < start->n; i++) {
        const struct net_param *param = net_param(net, i);
        start->values[i] = calloc((size_t)param->n_elem, sizeof(float));
        assert_ok(net_get(net, i, param->is_buffer ? net_buffers(net) : net_params(net), start->values[i]));
    }
}

void trajectory_forget(struct trajectory_start *start) {
    for (int32_t i = 0; i < start->n; i++) free(start->values[i]);
    free(start->values);
    *start = (struct trajectory_start){0};
}

struct walk {
    hid_t at;
    const char *path;
    struct net *net;
    const struct trajectory_start *start;
};

static float *fetch(struct net *net, const char *name, const float *flat, int32_t *index) {
    *index = net_find_param(net, name);
    if (*index < 0) fail_msg("the net has no %s", name);
    float *host = calloc((size_t)net_param(net, *index)->n_elem, sizeof *host);
    assert_ok(net_get(net, *index, flat, host));
    return host;
}

static void check_flat(const struct walk *w, const char *name, const float *flat) {
    char path[512];
    int32_t index;
    float *host = fetch(w->net, name, flat, &index);
    double *values = as_doubles(host, (size_t)net_param(w->net, index)->n_elem);
    snprintf(path, sizeof path, "%s/%s", w->path, name);
    check_reals(w->at, path, values, 0, (size_t)net_param(w->net, index)->n_elem);
    free(values);
    free(host);
}

static void check_gradient(hid_t group, const char *name, void *context) {
    (void)group;
    const struct walk *w = context;
    check_flat(w, name, net_grads(w->net));
}

static void check_running(hid_t group, const char *name, void *context) {
    (void)group;
    const struct walk *w = context;
    check_flat(w, name, net_buffers(w->net));
}

static void check_parameter(hid_t group, const char *name, void *context) {
    (void)group;
    const struct walk *w = context;
    char path[512];
    int32_t index;
    float *got = fetch(w->net, name, net_params(w->net), &index);
    const struct net_param *param = net_param(w->net, index);
    snprintf(path, sizeof path, "%s/%s", w->path, name);
    struct golden_array want = golden_read(w->at, path, H5T_NATIVE_DOUBLE);
    assert_int_equal(want.n, param->n_elem);
    double ignore[2] = {0, 0}, off = 0, moved = 0, counted = 0;
    if (has_attribute(w->at, path, "ignore_rows")) trajectory_numbers(w->at, path, "ignore_rows", ignore, 2);
    const int64_t row = param->n_elem / param->shape[0];
    for (int64_t i = 0; i < param->n_elem; i++) {
        if ((double)(i / row) >= ignore[0] && (double)(i / row) < ignore[1]) continue;
        const double a = got[i], b = ((double *)want.data)[i], c = w->start->values[index][i];
        off += (a - b) * (a - b), moved += (b - c) * (b - c), counted++;
    }
    if (counted > 0)
        require(sqrt(off / counted) / fmax(sqrt(moved / counted), golden_attribute(w->at, path, "floor")),
                w->at, path);
    golden_free(&want);
    free(got);
}

static void walk(hid_t at, const char *path, struct net *net, const struct trajectory_start *start,
                 void (*visit)(hid_t, const char *, void *)) {
    struct walk w = {at, path, net, start};
    if (golden_has(at, path)) golden_walk(at, path, visit, &w);
}

void trajectory_check_gradient(hid_t at, const char *path, struct net *net) {
    walk(at, path, net, NULL, check_gradient);
}

void trajectory_check_parameters(hid_t at, const char *path, struct net *net,
                                 const struct trajectory_start *start) {
    walk(at, path, net, start, check_parameter);
}

void trajectory_check_running(hid_t at, const char *path, struct net *net) {
    walk(at, path, net, NULL, check_running);
}
