/* The peers and their ensemble on the target's lists. */
#include "training/predict.h"

#include "common/memory.h"

#include <string.h>

/* The probabilities of peer p to rank 0 of the world, from the group's first rank. */
static status_t send_to_writer(struct run *run, int32_t p, float *probabilities, size_t n_bytes) {
    const int from = run->members[p].ranks[0], me = comm_rank(run->world);
    if (from == 0 || (me != from && me != 0)) return STATUS_OK;
    const struct comm_transfer transfer = {
        .rank = me == 0 ? from : 0, .data = probabilities, .n_bytes = n_bytes};
    struct comm_request *request;
    TRY(comm_transfer_begin(comm_host_side(run->world), &transfer, me == from, &transfer, me == 0, &request));
    return comm_wait(&request);
}

static status_t note(struct run *run, const struct split *split, const char *phase, const char *model,
                     const char *list, const float *probabilities) {
    results_accuracy(run->results, phase, model, list, accuracy(probabilities, split, run->data.n_classes));
    if (strcmp(list, "unlabelled") != 0) return STATUS_OK;
    const size_t k = (size_t)run->data.n_classes;
    int64_t *confusion = memory_zeroed(k * k, sizeof *confusion);
    CHECK(confusion, STATUS_NO_MEMORY, "out of memory for a confusion matrix of %zu classes", k);
    count_confusion(probabilities, split, run->data.n_classes, confusion);
    results_confusion(run->results, model, run->data.n_classes, confusion);
    free(confusion);
    return STATUS_OK;
}

/* Accuracy on the rows of the unlabelled list that are no validation images. */
static status_t note_without_validation(struct run *run, const char *phase, const char *model,
                                        const float *probabilities) {
    const struct split *all = &run->data.unlabelled, *only = &run->data.unlabelled_only;
    if (!run->data.overlap || only->n == 0) return STATUS_OK;
    const size_t k = (size_t)run->data.n_classes;
    float *rows = memory_zeroed(only->n * k, sizeof *rows);
    CHECK(rows, STATUS_NO_MEMORY, "out of memory for %zu predictions", only->n);
    for (size_t i = 0, j = 0; i < all->n && j < only->n; i++)
        if (all->index[i] == only->index[j]) memcpy(rows + j++ * k, probabilities + i * k, k * sizeof *rows);
    results_accuracy(run->results, phase, model, "unlabelled_without_validation",
                     accuracy(rows, only, run->data.n_classes));
    free(rows);
    return STATUS_OK;
}

static status_t note_model(struct run *run, const struct split *split, const char *phase, const char *model,
                           const char *list, const float *probabilities) {
    TRY(note(run, split, phase, model, list, probabilities));
    return split == &run->data.unlabelled ? note_without_validation(run, phase, model, probabilities) : STATUS_OK;
}

static status_t evaluate_split(struct run *run, struct predictor *const *predictors, const char *phase,
                               const struct split *split, const char *list) {
    const size_t n = split->n * (size_t)run->data.n_classes;
    float *one = memory_zeroed(n, sizeof *one), *sum = memory_zeroed(n, sizeof *sum);
    status_t status = STATUS_OK;
    CHECK_TO(done, one && sum, STATUS_NO_MEMORY, "out of memory for %zu predictions", split->n);
    for (int32_t p = 0; p < run->n_peers; p++) {
        const struct run_peer *peer = &run->peers[p];
        if (peer->group) TRY_TO(done, predictor_run(predictors[p], peer->group, split, &peer->view, one));
        TRY_TO(done, send_to_writer(run, p, one, n * sizeof *one));
        if (!run->writes) continue;
        for (size_t i = 0; i < n; i++) sum[i] += one[i];
        TRY_TO(done, note_model(run, split, phase, peer->settings->name, list, one));
    }
    if (run->writes && run->n_peers > 1) TRY_TO(done, note_model(run, split, phase, "ensemble", list, sum));
done:
    free(one);
    free(sum);
    return status;
}

status_t evaluate_peers(struct run *run, struct predictor *const *predictors, const char *phase) {
    TRY(evaluate_split(run, predictors, phase, &run->data.validation, "validation"));
    return evaluate_split(run, predictors, phase, &run->data.unlabelled, "unlabelled");
}
