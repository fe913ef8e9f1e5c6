/* marrs_dist export: a trained network as ONNX. */
#include "common/file.h"
#include "launcher/arguments.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "models/onnx.h"
#include "models/safetensors.h"
#include "models/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct export {
    const char *onnx, *weights, *model;
    int64_t image;
    struct model_spec spec;
    const char *metadata[2]; /* class names, where the weights file has them */
    int32_t n_metadata;
};

/* The network of RUN's student, or of the peer `peer`: spec, side and weights file (caller frees). */
static status_t from_run(struct export *e, const char *run, const char *peer, char **weights) {
    char *config = file_join(run, "config.yaml");
    struct settings settings;
    CHECK(config, STATUS_NO_MEMORY, "no memory for a path");
    status_t status = config_read(config, NULL, &settings);
    free(config);
    if (status != STATUS_OK) return status_context(status, "export: %s", run);
    int64_t image = settings.distil.student.image;
    int32_t i = 0;
    if (peer) {
        while (i < settings.n_peers && strcmp(settings.peers[i].name, peer)) i++;
        CHECK_TO(end, i < settings.n_peers, STATUS_USAGE, "export: %s has no peer \"%s\"", run, peer);
        image = settings.peers[i].image;
    }
    e->spec = peer ? settings.peers[i].model.spec : settings.distil.student.model.spec;
    if (e->image == 0) e->image = image;
    char name[256];
    snprintf(name, sizeof name, "models/%s.safetensors", peer ? peer : "student");
    *weights = file_join(run, name);
    CHECK_TO(end, *weights, STATUS_NO_MEMORY, "no memory for a path");
    CHECK_TO(end, file_exists(*weights), STATUS_MISSING,
             "export: %s is not there yet; run the stages that train it", *weights);
end:
    settings_free(&settings);
    return status;
}

/* Take the number of classes from the classifier in the file, and the class names. */
static status_t read_classes(struct export *e, const struct safetensors *file) {
    const bool mobile = e->spec.family == MODEL_MOBILENETV2;
    static const char *const heads[] = {"head.fc", "head", "classifier.1", "classifier"};
    e->spec.n_classes = 0;
    for (int i = mobile ? 2 : 0; i < (mobile ? 4 : 2) && !e->spec.n_classes; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.weight", heads[i]);
        const struct safetensor *weight = safetensors_find(file, name);
        if (!weight || weight->n_dims != 2 || weight->shape[0] > INT32_MAX) continue;
        e->spec.n_classes = (int32_t)weight->shape[0];
        snprintf(name, sizeof name, "%s.bias", heads[i]);
        e->spec.head_bias = safetensors_find(file, name) != NULL;
    }
    return STATUS_OK;
}

static status_t write_onnx(struct export *e, const char *weights) {
    struct safetensors *file = NULL;
    struct backend *be = NULL;
    struct net *net = NULL;
    status_t status;
    TRY(safetensors_open(weights, &file));
    TRY_TO(end, read_classes(e, file));
    const char *classes = safetensors_metadata(file, "classes");
    if (classes) e->metadata[0] = "classes", e->metadata[1] = classes, e->n_metadata = 1;
    TRY_TO(end, cpu_backend_open(0, &be));
    TRY_TO(end, net_new(&ops_cpu, be, &e->spec, (int32_t)e->image, (int32_t)e->image, DTYPE_F32, &net));
    TRY_TO(end, weights_load(net, weights, WEIGHTS_HEAD_LOAD, NULL));
    TRY_TO(end, onnx_export(net, e->metadata, e->n_metadata, e->onnx));
    printf("%s: %s at %lld, %d %s\n", e->onnx, e->spec.name[0] ? e->spec.name : "own shape",
           (long long)e->image, e->spec.n_classes ? e->spec.n_classes : net_n_features(net),
           e->spec.n_classes ? "classes" : "features");
end:
    net_free(net);
    cpu_backend_close(be);
    safetensors_close(file);
    return status;
}

status_t cmd_export(struct launch_context *context, int argc, char **argv) {
    (void)context;
    const char *words[2] = {0};
    int n_words = 0;
    struct export e = {0};
    char *weights = NULL;
    const struct argument table[] = {{.name = "--onnx", .text = &e.onnx},
                                     {.name = "--weights", .text = &e.weights},
                                     {.name = "--model", .text = &e.model},
                                     {.name = "--image", .number = &e.image, .minimum = 1, .maximum = 4096},
                                     {0}};
    TRY(arguments_parse(argc, argv, table, words, 2, &n_words));
    CHECK(e.onnx, STATUS_USAGE, "export: --onnx FILE says where to write");
    CHECK((n_words > 0) != (e.weights != NULL), STATUS_USAGE,
          "export: give a run's directory, or --weights FILE with --model NAME");
    CHECK((e.model != NULL) == (e.weights != NULL), STATUS_USAGE,
          "export: --weights FILE and --model NAME go together");
    status_t status;
    if (n_words > 0) {
        TRY_TO(end, from_run(&e, words[0], words[1], &weights));
    } else {
        int32_t side = 0;
        TRY_TO(end, model_spec_preset(e.model, &e.spec, &side));
        if (e.image == 0) e.image = side;
    }
    status = write_onnx(&e, weights ? weights : e.weights);
end:
    free(weights);
    return status;
}
