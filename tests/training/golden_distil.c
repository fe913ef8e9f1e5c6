// CASES np=1,2,3,5
// LIMIT 240
// Every distil_*.h5 of $GOLDEN (default tests/golden): teachers' selection, logits, terms, norms, updates and
// running statistics of both forms of batch norm, with the batch shared out over any number of ranks.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/golden_h5.h"
#include "tests/support/test.h"
#include "tests/support/trajectory.h"
#include "models/weights.h"
#include "training/distil_step.h"
#include "training/predict.h"
#include "training/schedule.h"

static struct comm *world;
static struct backend *be;
static const char *const inputs[] = {"source", "labelled", "unlabelled"};

struct trajectory {
    hid_t file;
    char stem[512];
    const char *variant;
    struct net *net;
    struct distil_student student;
    struct trajectory_start start;
    struct optimizer_settings optimizer;
    struct schedule_settings schedule;
    int64_t n_global[DISTIL_N_INPUTS];
    int n_steps, side, n_classes;
    float tau;
};

static struct model_spec read_spec(const struct trajectory *t) {
    struct model_spec spec = model_spec_default(MODEL_MOBILENETV2);
    double strides[7];
    spec.n_classes = t->n_classes;
    spec.dropout = 0;
    spec.width = (float)golden_attribute(t->file, "/", "width");
    spec.stem_stride = (int32_t)golden_attribute(t->file, "/", "stem_stride");
    assert_int_equal(trajectory_numbers(t->file, "/", "strides", strides, 7), 7);
    for (int i = 0; i < 7; i++) spec.strides[i] = (int32_t)strides[i];
    return spec;
}

static void read_optimiser(struct trajectory *t, bool joint) {
    struct optimizer_settings *o = &t->optimizer;
    o->lr = golden_attribute(t->file, t->variant, "lr");
    o->weight_decay = golden_attribute(t->file, t->variant, "weight_decay");
    o->layer_decay = o->backbone_scale = 1;
    if (joint) {
        o->name = OPTIMIZER_ADAMW;
        o->betas = (struct number_list){2, {0.9, 0.999}};
        o->eps = 1e-8;
        o->no_decay_norms = true;
        o->clip = golden_attribute(t->file, t->variant, "clip");
        t->schedule.name = SCHEDULE_CONSTANT;
        return;
    }
    o->name = OPTIMIZER_SGD;
    o->nesterov = true;
    o->momentum = golden_attribute(t->file, t->variant, "momentum");
    o->backbone_scale = golden_attribute(t->file, t->variant, "backbone_scale");
    t->schedule = (struct schedule_settings){.name = SCHEDULE_INVERSE,
                                             .gamma = golden_attribute(t->file, t->variant, "lr_gamma"),
                                             .power = golden_attribute(t->file, t->variant, "lr_power")};
}

static void open_student(struct trajectory *t, bool joint) {
    char path[600];
    double weight[3];
    const struct model_spec spec = read_spec(t);
    read_optimiser(t, joint);
    trajectory_numbers(t->file, "/", "weight", weight, 3);
    snprintf(path, sizeof path, "%s.safetensors", t->stem);
    assert_ok(net_new(&ops_cpu, be, &spec, t->side, t->side, DTYPE_F32, &t->net));
    assert_ok(weights_load(t->net, path, WEIGHTS_HEAD_LOAD, NULL));
    trajectory_remember(t->net, &t->start);
    const struct learner_options learner = {
        .optimizer = &t->optimizer, .bucket_bytes = 100000, .sharded = getenv("SHARD") != NULL};
    struct distil_student_options o = {
        .joint = joint, .height = t->side, .width = t->side, .learner = &learner};
    memcpy(o.n_global, t->n_global, sizeof o.n_global);
    for (int i = 0; i < 3; i++) o.weight[i] = (float)weight[i];
    assert_ok(distil_student_new(t->net, world, &o, &t->student));
}

static void feed_images(struct trajectory *t, int step) {
    char path[128];
    const size_t row = (size_t)t->side * (size_t)t->side * 3;
    for (enum distil_input i = 0; i < DISTIL_N_INPUTS; i++) {
        const size_t first = (size_t)t->student.rows[i].begin, n = (size_t)distil_n_local(&t->student, i);
        snprintf(path, sizeof path, "step%d/input/%s", step, inputs[i]);
        struct golden_array x = golden_read(t->file, path, H5T_NATIVE_FLOAT);
        assert_ok(ops_cpu.copy_in(be, distil_input(&t->student, i), (float *)x.data + first * row,
                                  n * row * sizeof(float)));
        golden_free(&x);
        if (i == DISTIL_UNLABELLED) continue;
        snprintf(path, sizeof path, "step%d/labels/%s", step, inputs[i]);
        struct golden_array y = golden_read(t->file, path, H5T_NATIVE_INT32);
        assert_ok(distil_set_labels(&t->student, i, (int32_t *)y.data + first, NULL));
        golden_free(&y);
    }
}

/* The selection by our rule, compared with the file's, then this rank's rows of it. */
static void feed_teachers(struct trajectory *t, int step) {
    char path[128];
    const int64_t n = t->n_global[DISTIL_UNLABELLED], k = t->n_classes;
    uint8_t kept[512];
    int32_t label[512];
    assert_true(n <= 512);
    snprintf(path, sizeof path, "step%d/teacher/C", step);
    struct golden_array c = golden_read(t->file, path, H5T_NATIVE_FLOAT);
    snprintf(path, sizeof path, "step%d/teacher/S", step);
    struct golden_array s = golden_read(t->file, path, H5T_NATIVE_FLOAT);
    for (int64_t i = 0; i < n; i++) {
        const float *pc = (float *)c.data + i * k, *ps = (float *)s.data + i * k;
        label[i] = argmax(pc, (int32_t)k);
        const int32_t other = argmax(ps, (int32_t)k);
        kept[i] = label[i] == other && pc[label[i]] > t->tau && ps[other] > t->tau;
    }
    snprintf(path, sizeof path, "step%d/kept", step);
    trajectory_check_integers(t->file, path, NULL, kept, (struct interval){0, n});
    snprintf(path, sizeof path, "step%d/label", step);
    trajectory_check_integers(t->file, path, label, NULL, (struct interval){0, n});
    const int64_t first = t->student.rows[DISTIL_UNLABELLED].begin;
    assert_ok(distil_set_labels(&t->student, DISTIL_UNLABELLED, label + first, NULL));
    assert_ok(distil_set_kept(&t->student, kept + first, NULL));
    golden_free(&c);
    golden_free(&s);
}

static void check_logits(struct trajectory *t, int step, bool joint) {
    char path[128];
    for (enum distil_input i = 0; i < DISTIL_N_INPUTS; i++) {
        const int64_t n = distil_n_local(&t->student, i), k = t->n_classes;
        float *host = calloc((size_t)(n * k + 1), sizeof *host);
        memcpy(host, distil_logits(&t->student, i), (size_t)(n * k) * sizeof *host);
        for (int64_t r = 0; i == DISTIL_UNLABELLED && !joint && r < n; r++)
            if (!t->student.kept[r])
                memset(host + r * k, 0, (size_t)k * sizeof *host); /* the file has 0 there */
        snprintf(path, sizeof path, "%s/step%d/logits/%s", t->variant, step, inputs[i]);
        trajectory_check_rows(t->file, path, host, t->student.rows[i], k);
        free(host);
    }
}

static void run_step(struct trajectory *t, int step, bool joint) {
    char path[128];
    double sums[4], terms[DISTIL_N_INPUTS], total = 0;
    struct optimiser_outcome outcome;
    feed_images(t, step);
    feed_teachers(t, step);
    assert_ok(distil_forward_backward(&t->student, (struct rng_key){0}));
    check_logits(t, step, joint);
    snprintf(path, sizeof path, "%s/step%d", t->variant, step);
    const double lr = schedule_rate(&t->schedule, t->optimizer.lr, step, t->n_steps);
    assert_true(fabs(lr - golden_attribute(t->file, path, "lr")) <= 1e-7 * lr);
    assert_ok(distil_update(&t->student, lr, &outcome));
    assert_ok(distil_figures(&t->student, sums, &sums[3]));
    assert_ok(comm_all_reduce(world, sums, 4, COMM_F64, COMM_SUM));
    distil_means(&t->student, sums, sums[3], terms);
    for (int i = 0; i < DISTIL_N_INPUTS; i++) total += (double)t->student.options.weight[i] * terms[i];
    snprintf(path, sizeof path, "%s/step%d/terms", t->variant, step);
    trajectory_check_numbers(t->file, path, terms, DISTIL_N_INPUTS);
    snprintf(path, sizeof path, "%s/step%d/total", t->variant, step);
    trajectory_check_numbers(t->file, path, &total, 1);
    snprintf(path, sizeof path, "%s/step%d/gradient_norm", t->variant, step);
    trajectory_check_numbers(t->file, path, &outcome.gradient_norm, 1);
    snprintf(path, sizeof path, "%s/step%d/parameters_after", t->variant, step);
    trajectory_check_parameters(t->file, path, t->net, &t->start);
    snprintf(path, sizeof path, "%s/step%d/running", t->variant, step);
    trajectory_check_running(t->file, path, t->net);
}

/* Evaluation mode on the last step's source rows. */
static void check_evaluation(struct trajectory *t) {
    char path[128];
    const int64_t n = t->n_global[DISTIL_SOURCE];
    struct pass *pass;
    const struct pass_options o = {
        .batch = (int32_t)n, .height = t->side, .width = t->side, .mode = PASS_INFER};
    assert_ok(pass_new(t->net, &o, &pass));
    snprintf(path, sizeof path, "step%d/input/source", t->n_steps - 1);
    struct golden_array x = golden_read(t->file, path, H5T_NATIVE_FLOAT);
    assert_ok(ops_cpu.copy_in(be, pass_input(pass), x.data, x.n * sizeof(float)));
    assert_ok(pass_forward(pass, &(struct forward_options){0}));
    snprintf(path, sizeof path, "%s/step%d/eval_logits", t->variant, t->n_steps - 1);
    trajectory_check_rows(t->file, path, pass_logits(pass), (struct interval){0, n}, t->n_classes);
    golden_free(&x);
    pass_free(pass);
}

static void run_variant(const char *name, const char *variant) {
    struct trajectory t = {.file = golden_open(name), .variant = variant};
    const bool joint = strcmp(variant, "joint") == 0;
    double batch[3];
    char path[128];
    snprintf(t.stem, sizeof t.stem, "%s/%.*s", golden_folder(), (int)(strlen(name) - 3), name);
    trajectory_numbers(t.file, "/", "batch", batch, 3);
    for (int i = 0; i < 3; i++) t.n_global[i] = (int64_t)batch[i];
    t.n_steps = (int)golden_attribute(t.file, "/", "steps");
    t.side = (int)golden_attribute(t.file, "/", "side");
    t.n_classes = (int)golden_attribute(t.file, "/", "classes");
    t.tau = (float)golden_attribute(t.file, "/", "tau");
    open_student(&t, joint);
    for (int step = 0; step < t.n_steps; step++) run_step(&t, step, joint);
    snprintf(path, sizeof path, "%s/parameters_after", variant);
    trajectory_check_parameters(t.file, path, t.net, &t.start);
    snprintf(path, sizeof path, "%s/running", variant);
    trajectory_check_running(t.file, path, t.net);
    check_evaluation(&t);
    distil_student_free(&t.student);
    net_free(t.net);
    trajectory_forget(&t.start);
    H5Fclose(t.file);
}

static void run_file(const char *name) {
    run_variant(name, "paper");
    run_variant(name, "joint");
}

int main(int argc, char **argv) {
    return trajectory_main(argc, argv, &world, &be, "distil_*.h5", run_file);
}
