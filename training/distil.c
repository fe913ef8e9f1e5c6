/* Stage `distil`: all ranks train one MobileNet-V2 on the teachers' labels (METHOD.md section 5). */
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "models/weights.h"
#include "training/checkpoint.h"
#include "training/distil_step.h"
#include "training/pixels.h"
#include "training/predict.h"
#include "training/rank_times.h"
#include "training/schedule.h"
#include "training/student.h"
#include "training/teachers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a step reports; doubles only: the struct is the message of one all-reduce. */
struct distil_report {
    double sums[DISTIL_N_INPUTS], kept;
    double gradient_norm, skipped;             /* of rank 0 */
    double data_wait_s, reduce_wait_s, step_s; /* summed over ranks */
    double stop;
};

struct distil {
    struct run *run;
    const struct distil_settings *settings;
    struct teachers teachers;
    struct net *net;
    struct predictor *predictor;
    struct distil_student student;
    struct weights_copy best;
    int64_t best_step;
    double best_accuracy;
    struct student_shape shape;
    struct pixels pixels;
    struct progress progress;
    uint8_t *kept;   /* (N_u local) host */
    float *soft;     /* (N_u local,K) host, with a temperature */
    int32_t *labels; /* (N_u local) host */
    struct rank_times *times;
    bool stop;
};

/* The student's net: its shape and weights, a fresh classifier. */
static status_t open_net(struct distil *d) {
    const struct student_settings *s = &d->settings->student;
    const uint64_t seed = (uint64_t)d->run->settings->seed;
    const int32_t side = d->shape.train_view.size;
    TRY(net_new(d->run->ops, d->run->be, &d->shape.spec, side, side, d->run->precision, &d->net));
    TRY(net_init(d->net, seed, 255));
    if (!s->weights[0]) return STATUS_OK;
    TRY(weights_load(d->net, s->weights, WEIGHTS_HEAD_SKIP, NULL));
    return net_init_head(d->net, seed, 255);
}

static const struct split *split_of(const struct distil *d, int input) {
    const struct run_data *data = &d->run->data;
    return input == DISTIL_SOURCE     ? &data->source
           : input == DISTIL_LABELLED ? &data->labelled
                                      : &data->unlabelled;
}

static int64_t batch_of(const struct distil *d, int input) {
    const struct batch_settings *b = &d->settings->batch;
    const int64_t wanted = input == DISTIL_SOURCE     ? b->source
                           : input == DISTIL_LABELLED ? b->labelled
                                                      : b->unlabelled;
    const int64_t n = (int64_t)split_of(d, input)->n; /* a small set gives batches of its own size */
    return wanted < n ? wanted : n;
}

static status_t open_student(struct distil *d) {
    const struct settings *s = d->run->settings;
    const struct learner_options learner = {.optimizer = &d->settings->optimizer,
                                            .bucket_bytes = (size_t)(s->comm.bucket_mb * 1048576.0),
                                            .sharded = s->comm.shard_optimizer};
    struct distil_student_options o = {.joint = d->settings->batch_norm == BATCH_NORM_JOINT,
                                       .height = d->shape.train_view.size,
                                       .width = d->shape.train_view.size,
                                       .recompute = s->recompute == RECOMPUTE_BLOCKS,
                                       .record = s->cuda.graph,
                                       .weight = {(float)d->settings->weight_source,
                                                  (float)d->settings->weight_labelled,
                                                  (float)d->settings->weight_unlabelled},
                                       .temperature = (float)d->settings->temperature,
                                       .learner = &learner};
    for (int i = 0; i < DISTIL_N_INPUTS; i++) o.n_global[i] = batch_of(d, i);
    TRY(distil_student_new(d->net, d->run->world, &o, &d->student));
    const size_t n_u = (size_t)distil_n_local(&d->student, DISTIL_UNLABELLED);
    d->kept = memory_zeroed(n_u, 1);
    d->labels = memory_zeroed(n_u, sizeof *d->labels);
    if (d->teachers.soft) d->soft = memory_zeroed(n_u * (size_t)d->run->data.n_classes, sizeof *d->soft);
    CHECK(d->kept && d->labels && (!d->teachers.soft || d->soft), STATUS_NO_MEMORY,
          "out of memory for the student's batch");
    return STATUS_OK;
}

static status_t open_loader(struct distil *d, int64_t first_step) {
    struct loader_stream streams[DISTIL_N_INPUTS];
    struct loader_part parts[DISTIL_N_INPUTS];
    for (int i = 0; i < DISTIL_N_INPUTS; i++) {
        streams[i] = (struct loader_stream){.split = split_of(d, i),
                                            .mode = SAMPLER_DROP_LAST,
                                            .batch = (uint32_t)batch_of(d, i),
                                            .id = (uint8_t)i};
        parts[i] = (struct loader_part){.stream = i,
                                        .view = d->shape.train_view,
                                        .peer = 255,
                                        .part = comm_rank(d->run->world),
                                        .n_parts = comm_size(d->run->world)};
    }
    return pixels_open(&d->pixels, d->run->ops, d->run->be, d->run->precision,
                       &(struct loader_config){.streams = streams,
                                               .n_streams = DISTIL_N_INPUTS,
                                               .parts = parts,
                                               .n_parts = DISTIL_N_INPUTS,
                                               .seed = (uint64_t)d->run->settings->seed,
                                               .stage = STAGE_DISTIL,
                                               .first_step = first_step,
                                               .end_step = d->settings->steps,
                                               .fixed_view_step = -1,
                                               .n_threads = d->run->n_workers,
                                               .n_ahead = (int)d->run->settings->data.read_ahead,
                                               .verify = d->run->settings->data.verify});
}

/* What the teachers say of the unlabelled rows at hand. */
static status_t teach(struct distil *d, const struct loader_output *in) {
    const size_t k = (size_t)d->run->data.n_classes;
    for (int64_t i = 0; i < in->n; i++) {
        const uint32_t row = teachers_row(&d->teachers, in->images[i]);
        CHECK(row != UINT32_MAX, STATUS_INTERNAL, "image %u of the batch has no teacher", in->images[i]);
        d->kept[i] = d->teachers.kept[row];
        d->labels[i] = d->teachers.label[row];
        if (d->soft) memcpy(d->soft + (size_t)i * k, d->teachers.soft + row * k, k * sizeof *d->soft);
    }
    TRY(distil_set_labels(&d->student, DISTIL_UNLABELLED, d->labels, in->images));
    return distil_set_kept(&d->student, d->kept, d->soft);
}

static status_t copy_batch(struct distil *d, const struct loader_batch *batch) {
    for (int i = 0; i < DISTIL_N_INPUTS; i++) {
        const struct loader_output *in = &batch->parts[i];
        if (in->n == 0) continue;
        TRY(pixels_copy(&d->pixels, batch, i, distil_input(&d->student, (enum distil_input)i)));
        if (i != DISTIL_UNLABELLED)
            TRY(distil_set_labels(&d->student, (enum distil_input)i, in->labels, in->images));
        else
            TRY(teach(d, in));
    }
    return STATUS_OK;
}

static status_t report_step(struct distil *d, int64_t step, const struct distil_report *r) {
    struct run *run = d->run;
    const double n_ranks = comm_size(run->world), n_u = (double)batch_of(d, DISTIL_UNLABELLED);
    const double images = (double)(batch_of(d, DISTIL_SOURCE) + batch_of(d, DISTIL_LABELLED)) + n_u;
    const double weights[] = {d->settings->weight_source, d->settings->weight_labelled,
                              d->settings->weight_unlabelled};
    static const char *const names[] = {"source", "labelled", "unlabelled"};
    double terms[DISTIL_N_INPUTS], total = 0;
    distil_means(&d->student, r->sums, r->kept, terms);
    metrics_begin(run->metrics, "distil", step);
    for (int i = 0; i < DISTIL_N_INPUTS; i++) {
        total += weights[i] * terms[i];
        metrics_number_in(run->metrics, "student", names[i], terms[i]);
    }
    metrics_number_in(run->metrics, "student", "loss", total);
    metrics_number_in(run->metrics, "student", "gradient_norm", r->skipped > 0 ? NAN : r->gradient_norm);
    const double images_per_s = images * n_ranks / fmax(r->step_s, 1e-9);
    metrics_number(run->metrics, "kept_fraction", r->kept / fmax(n_u, 1));
    rank_times_put(d->times);
    metrics_number(run->metrics, "reduce_wait_ms", 1e3 * r->reduce_wait_s / n_ranks);
    metrics_number(run->metrics, "data_wait_ms", 1e3 * r->data_wait_s / n_ranks);
    metrics_number(run->metrics, "images_per_s", images_per_s);
    TRY(metrics_end(run->metrics));
    char text[320];
    snprintf(text, sizeof text, "loss %.3f  kept %.0f%%  %.0f images/s%s%s", total,
             100 * r->kept / fmax(n_u, 1), images_per_s, rank_times_text(d->times)[0] ? "  " : "",
             rank_times_text(d->times));
    const bool last = step + 1 == d->settings->steps;
    if (progress_due(&d->progress, last))
        progress_show(&d->progress, "distillation", step + 1, d->settings->steps, text);
    return STATUS_OK;
}

static status_t one_step(struct distil *d, int64_t step, struct distil_report *report) {
    const double start_s = clock_now_s(), waited_s = comm_waited_s(d->run->world, COMM_FOR_ANYTHING),
                 reduce_s = comm_waited_s(d->run->world, COMM_FOR_GRADIENTS);
    struct loader_batch *batch;
    struct optimiser_outcome outcome;
    comm_set_step(d->run->world, "distil", step);
    TRY(pixels_next(&d->pixels, &batch));
    CHECK(batch, STATUS_INTERNAL, "the loader ended at step %lld", (long long)step);
    *report = (struct distil_report){.data_wait_s = batch->wait_s, .stop = d->run->stop && *d->run->stop};
    status_t status = copy_batch(d, batch);
    loader_release(d->pixels.loader, batch);
    if (status != STATUS_OK) return status;
    const struct rng_key rng = {
        .seed = (uint64_t)d->run->settings->seed, .stage = STAGE_DISTIL, .peer = 255, .step = (uint32_t)step};
    TRY(distil_forward_backward(&d->student, rng));
    TRY(pixels_ahead(&d->pixels));
    TRY(distil_update(
        &d->student,
        schedule_rate(&d->settings->schedule, d->settings->optimizer.lr, step, d->settings->steps),
        &outcome));
    TRY(distil_figures(&d->student, report->sums, &report->kept));
    if (d->run->writes) {
        report->gradient_norm = outcome.gradient_norm;
        report->skipped = outcome.skipped;
        if (outcome.skipped)
            log_global(LOG_WARNING, "step %lld: the student's gradient is not finite, the step is skipped",
                       (long long)step);
    }
    CHECK(outcome.n_skipped_in_a_row <= d->settings->max_skipped, STATUS_DIVERGED,
          "student: %lld steps in a row had gradients with NaN or Inf (up to step %lld); a lower "
          "distil.optimizer.lr may help",
          (long long)outcome.n_skipped_in_a_row, (long long)step);
    report->reduce_wait_s = comm_waited_s(d->run->world, COMM_FOR_GRADIENTS) - reduce_s;
    report->step_s = clock_now_s() - start_s;
    rank_times_add(d->times, &(struct rank_step){.n_steps = 1,
                                                 .step_s = report->step_s,
                                                 .data_s = report->data_wait_s,
                                                 .waited_s = comm_waited_s(d->run->world, COMM_FOR_ANYTHING) -
                                                             waited_s});
    return STATUS_OK;
}

/* ---- validation, checkpoints
 * --------------------------------------------------------------------------------- */

static status_t predict(struct distil *d, const struct split *split, float **probabilities) {
    *probabilities = memory_zeroed(split->n * (size_t)d->run->data.n_classes, sizeof **probabilities);
    CHECK(*probabilities, STATUS_NO_MEMORY, "out of memory for the student's predictions");
    return predictor_run(d->predictor, d->run->world, split, &d->shape.eval_view, *probabilities);
}

static status_t validate(struct distil *d, int64_t step) {
    float *probabilities;
    const status_t status = predict(d, &d->run->data.validation, &probabilities);
    const double per_cent =
        status == STATUS_OK ? accuracy(probabilities, &d->run->data.validation, d->run->data.n_classes) : NAN;
    free(probabilities);
    TRY(status);
    if (d->settings->select == SELECT_LAST || d->best_step < 0 ||
        per_cent > d->best_accuracy) { /* ties: the earlier */
        d->best_step = step;
        d->best_accuracy = per_cent;
        TRY(weights_copy_take(d->net, &d->best));
    }
    metrics_begin(d->run->metrics, "distil", step);
    metrics_text(d->run->metrics, "phase", "validation");
    metrics_number_in(d->run->metrics, "validation", "student", per_cent);
    return metrics_end(d->run->metrics);
}

static struct checkpoint describe_checkpoint(struct distil *d) {
    return (struct checkpoint){.name = "student",
                               .group = d->run->world,
                               .net = d->net,
                               .learner = &d->student.learner,
                               .best = &d->best,
                               .best_step = d->best_step,
                               .best_accuracy = d->best_accuracy};
}

static status_t resume(struct distil *d, int64_t *n_done) {
    struct checkpoint c = describe_checkpoint(d);
    TRY(checkpoint_find(d->run, STAGE_DISTIL, &c, 1, n_done));
    TRY(metrics_cut(d->run->metrics, "distil", *n_done));
    if (*n_done == 0) return STATUS_OK;
    TRY(checkpoint_load(d->run, STAGE_DISTIL, *n_done, &c, 1));
    d->best_step = c.best_step;
    d->best_accuracy = c.best_accuracy;
    log_global(LOG_INFO, "going on from the checkpoint of step %lld", (long long)*n_done);
    return STATUS_OK;
}

/* After the steps numbered every, 2*every, ... (from 0), as the paper; selecting the last: after the last. */
static bool validation_due(const struct distil *d, int64_t step) {
    const int64_t every = d->settings->evaluate_every;
    if (d->settings->select == SELECT_LAST) return step + 1 == d->settings->steps;
    return every > 0 && step > 0 && step % every == 0;
}

static status_t run_steps(struct distil *d, int64_t first_step) {
    const int64_t every = d->run->settings->checkpoint.every, n_steps = d->settings->steps;
    for (int64_t step = first_step; step < n_steps; step++) {
        struct distil_report report;
        TRY(one_step(d, step, &report));
        if (rank_times_due(d->times, step + 1, step + 1 == n_steps)) TRY(rank_times_begin(d->times));
        TRY(comm_all_reduce(comm_host_side(d->run->world), &report, (int64_t)(sizeof report / sizeof(double)),
                            COMM_F64, COMM_SUM));
        TRY(rank_times_end(d->times));
        if (d->run->writes) TRY(report_step(d, step, &report));
        if (validation_due(d, step)) TRY(validate(d, step));
        const bool stop = report.stop > 0;
        bool written = true;
        if (stop || (every > 0 && (step + 1) % every == 0 && step + 1 < n_steps)) {
            const struct checkpoint c = describe_checkpoint(d);
            TRY(checkpoint_write(d->run, STAGE_DISTIL, step + 1, &c, 1, &written));
        }
        if (stop) {
            progress_clear(&d->progress);
            CHECK(written, STATUS_IO, "stopped after step %lld of distil, without a checkpoint of it",
                  (long long)step + 1);
            return FAIL(STATUS_STOPPED,
                        "stopped after step %lld of distil, with a checkpoint; run again to go on",
                        (long long)step + 1);
        }
    }
    return STATUS_OK;
}

static status_t note_split(struct distil *d, const struct split *split) {
    float *probabilities;
    struct run *run = d->run;
    status_t status = predict(d, split, &probabilities);
    if (status == STATUS_OK && run->writes)
        status = note_model_probabilities(run, split, "student", "student", probabilities);
    free(probabilities);
    return status;
}

static status_t finish(struct distil *d) {
    progress_clear(&d->progress);
    if (d->best_step >= 0) TRY(weights_copy_put(d->net, &d->best));
    TRY(note_split(d, &d->run->data.validation));
    TRY(note_split(d, &d->run->data.unlabelled));
    if (!d->run->writes) return STATUS_OK;
    log_global(LOG_INFO, "student: %.2f %% on validation, %.2f %% on unlabelled target images",
               results_get_accuracy(d->run->results, "student", "student", "validation"),
               results_get_accuracy(d->run->results, "student", "student", "unlabelled"));
    char *path = run_path(d->run, "models", "student.safetensors");
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    const status_t status = weights_save(d->net, NULL, NULL, 0, path);
    free(path);
    return status;
}

static status_t open_all(struct distil *d) {
    TRY(student_describe(d->run, &d->shape));
    TRY(teachers_open(d->run, d->settings->tau, d->settings->temperature, &d->teachers));
    size_t kept = 0;
    for (size_t i = 0; i < d->teachers.n; i++) kept += d->teachers.kept[i];
    log_global(LOG_INFO, "the teachers agree and are sure on %zu of %zu unlabelled images", kept,
               d->teachers.n);
    TRY(open_net(d));
    TRY(open_student(d));
    TRY(predictor_new(d->run, d->net, d->shape.eval_view.size, &d->predictor));
    return weights_copy_new(d->net, &d->best);
}

status_t stage_distil(struct run *run) {
    struct distil *d = memory_zeroed(1, sizeof *d);
    CHECK(d, STATUS_NO_MEMORY, "out of memory for the distillation");
    d->run = run;
    d->settings = &run->settings->distil;
    d->best_step = -1;
    int64_t n_done = 0;
    status_t status;
    TRY_TO(done, rank_times_new(run, false, &d->times));
    TRY_TO(done, open_all(d));
    TRY_TO(done, resume(d, &n_done));
    d->progress = progress_start(run->settings->log.every_s, n_done, run->writes);
    TRY_TO(done, open_loader(d, n_done));
    TRY_TO(done, run_steps(d, n_done));
    status = finish(d);
done:
    progress_clear(&d->progress);
    loader_close(d->pixels.loader);
    d->pixels.loader = NULL;
    /* After a failure transfers may be under way, into these buffers: they live until the process ends. */
    if (status != STATUS_OK && status != STATUS_STOPPED && comm_size(run->world) > 1) return status;
    pixels_close(&d->pixels);
    predictor_free(d->predictor);
    if (d->net) weights_copy_free(d->net, &d->best);
    distil_student_free(&d->student);
    net_free(d->net);
    teachers_close(&d->teachers);
    rank_times_free(d->times);
    free(d->kept);
    free(d->soft);
    free(d->labels);
    free(d);
    return status;
}
