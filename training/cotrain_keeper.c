#include "training/cotrain_keeper.h"

#include "common/memory.h"
#include "models/weights.h"

#include <stdlib.h>

status_t cotrain_keeper_new(struct run *run, const struct run_peer *peer, struct net *net, bool average,
                            struct cotrain_keeper *out) {
    *out = (struct cotrain_keeper){.run = run, .peer = peer, .net = net, .best_step = -1};
    TRY(predictor_new(run, net, peer->image, &out->predictor));
    TRY(weights_copy_new(net, &out->best));
    return average ? weights_copy_new(net, &out->spare) : STATUS_OK;
}

void cotrain_keeper_free(struct cotrain_keeper *keeper) {
    if (!keeper->net) return;
    weights_copy_free(keeper->net, &keeper->best);
    weights_copy_free(keeper->net, &keeper->spare);
    predictor_free(keeper->predictor);
}

/* Put the averaged weights in place of the net's, keeping those in keeper->spare. */
static status_t use_average(struct cotrain_keeper *keeper, struct learner *learner) {
    if (!optimiser_ema(learner->optimiser)) return STATUS_OK;
    TRY(weights_copy_take(keeper->net, &keeper->spare));
    TRY(learner_gather_state(learner, optimiser_n_states(learner->optimiser) - 1, net_params(keeper->net)));
    return net_refresh_shadow(keeper->net);
}

static status_t use_own(struct cotrain_keeper *keeper, const struct learner *learner) {
    return optimiser_ema(learner->optimiser) ? weights_copy_put(keeper->net, &keeper->spare) : STATUS_OK;
}

static status_t validate(struct cotrain_keeper *keeper, double *per_cent) {
    const struct run_data *data = &keeper->run->data;
    const size_t k = (size_t)data->n_classes;
    float *probabilities = memory_zeroed(data->validation.n * k, sizeof *probabilities);
    CHECK(probabilities, STATUS_NO_MEMORY, "out of memory for the validation predictions");
    const status_t status = predictor_run(keeper->predictor, keeper->peer->group, &data->validation,
                                          &keeper->peer->view, probabilities);
    if (status == STATUS_OK) *per_cent = accuracy(probabilities, &data->validation, data->n_classes);
    free(probabilities);
    return status;
}

status_t cotrain_keeper_judge(struct cotrain_keeper *keeper, struct learner *learner, bool last, int64_t step,
                              double *per_cent) {
    TRY(use_average(keeper, learner));
    TRY(validate(keeper, per_cent));
    if (last || keeper->best_step < 0 || !(*per_cent < keeper->best_accuracy)) { /* ties: the later */
        keeper->best_step = step;
        keeper->best_accuracy = *per_cent;
        TRY(weights_copy_take(keeper->net, &keeper->best));
    }
    return use_own(keeper, learner);
}

status_t cotrain_keeper_save(struct cotrain_keeper *keeper) {
    if (keeper->best_step >= 0)
        TRY(weights_copy_put(keeper->net, &keeper->best)); /* else: no step was made */
    if (comm_rank(keeper->peer->group) != 0) return STATUS_OK;
    char *path = run_path(keeper->run, "models", "%s.safetensors", keeper->peer->settings->name);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    const status_t status = weights_save(keeper->net, NULL, NULL, 0, path);
    free(path);
    return status;
}
