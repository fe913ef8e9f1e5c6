/* The peers and their ensemble on the target's lists. */
#include "training/predict.h"

#include "common/log.h"
#include "common/memory.h"

#include <math.h>
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

status_t note_model_probabilities(struct run *run, const struct split *split, const char *phase,
                                  const char *model, const float *probabilities) {
    const char *list = split == &run->data.unlabelled ? "unlabelled" : "validation";
    TRY(note(run, split, phase, model, list, probabilities));
    return split == &run->data.unlabelled ? note_without_validation(run, phase, model, probabilities)
                                          : STATUS_OK;
}

status_t note_probabilities(struct run *run, const struct split *split, const char *phase, const float *all) {
    const size_t n = split->n * (size_t)run->data.n_classes;
    for (int32_t p = 0; p < run->n_peers; p++)
        TRY(note_model_probabilities(run, split, phase, run->peers[p].settings->name, all + (size_t)p * n));
    if (run->n_peers < 2) return STATUS_OK;
    float *sum = memory_zeroed(n, sizeof *sum);
    CHECK(sum, STATUS_NO_MEMORY, "out of memory for %zu predictions", split->n);
    for (int32_t p = 0; p < run->n_peers; p++)
        for (size_t i = 0; i < n; i++) sum[i] += all[(size_t)p * n + i];
    const status_t status = note_model_probabilities(run, split, phase, "ensemble", sum);
    free(sum);
    return status;
}

/* Every peer's probabilities reach rank 0, which notes what they are worth. */
static status_t evaluate_split(struct run *run, struct predictor *const *predictors, const char *phase,
                               const struct split *split) {
    const size_t n = split->n * (size_t)run->data.n_classes;
    float *all = memory_zeroed((size_t)run->n_peers * n, sizeof *all);
    CHECK(all, STATUS_NO_MEMORY, "out of memory for %zu predictions", split->n);
    status_t status = STATUS_OK;
    for (int32_t p = 0; p < run->n_peers; p++) {
        const struct run_peer *peer = &run->peers[p];
        float *mine = all + (size_t)p * n;
        if (peer->group) TRY_TO(done, predictor_run(predictors[p], peer->group, split, &peer->view, mine));
        TRY_TO(done, send_to_writer(run, p, mine, n * sizeof *mine));
    }
    if (run->writes) status = note_probabilities(run, split, phase, all);
done:
    free(all);
    return status;
}

status_t evaluate_peers(struct run *run, struct predictor *const *predictors, const char *phase) {
    TRY(evaluate_split(run, predictors, phase, &run->data.validation));
    return evaluate_split(run, predictors, phase, &run->data.unlabelled);
}

void log_peer_accuracies(const struct run *run, const char *phase) {
    for (int32_t p = 0; p < run->n_peers; p++) {
        const char *name = run->peers[p].settings->name;
        log_global(LOG_INFO, "%s: %s has %.2f %% on validation, %.2f %% on unlabelled target images", phase,
                   name, results_get_accuracy(run->results, phase, name, "validation"),
                   results_get_accuracy(run->results, phase, name, "unlabelled"));
    }
}

void warn_of_hopeless_peers(const struct run *run) {
    const double chance = 100.0 / run->data.n_classes;
    double best = 0;
    for (int32_t p = 0; p < run->n_peers; p++)
        best = fmax(best, results_get_accuracy(run->results, "supervised", run->peers[p].settings->name,
                                               "validation"));
    for (int32_t p = 0; p < run->n_peers; p++) {
        const char *name = run->peers[p].settings->name;
        const double mine = results_get_accuracy(run->results, "supervised", name, "validation");
        if (mine < 2 * chance || mine < best - 30)
            log_global(LOG_WARNING,
                       "peer %s has %.1f %% validation accuracy after the warm-up (best peer %.1f %%, chance "
                       "%.1f %%): its "
                       "pseudo-labels may harm the others; a longer warm-up, other initial weights or "
                       "cotrain.exchange.labels=own can help",
                       name, mine, best, chance);
    }
}
