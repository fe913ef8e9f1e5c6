#include "training/settings.h"

#include "common/log.h"

#include <stdlib.h>
#include <string.h>

static void free_strings(struct string_list *list) {
    for (int32_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
}

void settings_free(struct settings *settings) {
    if (!settings) return;
    free(settings->run);
    free(settings->variant);
    free(settings->data.folder);
    free_strings(&settings->data.source.shards);
    free(settings->data.source.list);
    free_strings(&settings->data.target.shards);
    free(settings->data.target.labelled);
    free(settings->data.target.unlabelled);
    free(settings->data.target.validation);
    for (int32_t i = 0; i < SETTINGS_MAX_PEERS; i++) {
        free(settings->peers[i].name);
        free(settings->peers[i].model.preset);
        free(settings->peers[i].weights);
    }
    free(settings->features.folder);
    free(settings->distil.student.model.preset);
    free(settings->distil.student.weights);
    free(settings->log.prometheus);
    memset(settings, 0, sizeof *settings);
}

bool settings_has_stage(const struct settings *settings, enum stage stage) {
    for (int32_t i = 0; i < settings->stages.n; i++)
        if (settings->stages.items[i] == stage) return true;
    return false;
}

const char *stage_name(enum stage stage) {
    static const char *const names[] = {"none", "features", "heads", "cotrain", "distil", "evaluate"};
    return names[stage];
}

double settings_tau(const struct number_list *tau, int64_t step, int64_t n_steps) {
    if (n_steps < 1) return tau->items[tau->n - 1];
    const int64_t part = step * tau->n / n_steps;
    return tau->items[part < tau->n ? part : tau->n - 1];
}

double settings_confidence_cap(double smoothing, int32_t n_classes) {
    return 1.0 - smoothing + smoothing / n_classes;
}

static int warn_stage(const char *stage, double smoothing, const struct number_list *tau, int32_t n_classes) {
    const double cap = settings_confidence_cap(smoothing, n_classes);
    double highest = 0;
    for (int32_t i = 0; i < tau->n; i++)
        if (tau->items[i] > highest) highest = tau->items[i];
    if (smoothing <= 0 || highest < cap) return 0;
    log_global(
        LOG_WARNING,
        "%s.tau reaches %g, but %s.smoothing %g with %d classes caps the confidence of what is learnt at "
        "%.4g: such a threshold keeps only broken outputs. Lower the smoothing or tau.",
        stage, highest, stage, smoothing, n_classes, cap);
    return 1;
}

int settings_warn_thresholds(const struct settings *settings, int32_t n_classes) {
    int n = 0;
    if (settings_has_stage(settings, STAGE_HEADS))
        n += warn_stage("heads", settings->heads.smoothing, &settings->heads.tau, n_classes);
    if (settings_has_stage(settings, STAGE_COTRAIN))
        n += warn_stage("cotrain", settings->cotrain.smoothing, &settings->cotrain.tau, n_classes);
    return n;
}
