/* marrs_dist predict RUN (--shard FILE... | --images DIR) [--model NAME] --out CSV: an answer for every
 * image. */
#include "launcher/commands.h"
#include "launcher/image_folder.h"
#include "launcher/run_session.h"

#include "common/csv.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "training/trained.h"

#include <stdlib.h>
#include <string.h>

struct predict_options {
    const char *run, *images, *model, *out;
    const char **shards;
    size_t n_shards, capacity;
};

static status_t value_of(int argc, char **argv, int i, const char **out) {
    CHECK(i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0, STATUS_USAGE, "predict: %s needs a value",
          argv[i]);
    *out = argv[i + 1];
    return STATUS_OK;
}

static status_t parse(int argc, char **argv, struct predict_options *o) {
    static const char *const known[] = {"--shard", "--images", "--model", "--out", "--help", NULL};
    const char *first;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--shard") == 0) {
            TRY(value_of(argc, argv, i, &first));
            while (i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0) {
                CHECK(memory_grow(&o->shards, o->n_shards, &o->capacity, sizeof *o->shards), STATUS_NO_MEMORY,
                      "out of memory for the shards' names");
                o->shards[o->n_shards++] = argv[++i];
            }
        } else if (strcmp(argv[i], "--images") == 0) {
            TRY(value_of(argc, argv, i++, &o->images));
        } else if (strcmp(argv[i], "--model") == 0) {
            TRY(value_of(argc, argv, i++, &o->model));
        } else if (strcmp(argv[i], "--out") == 0) {
            TRY(value_of(argc, argv, i++, &o->out));
        } else if (strncmp(argv[i], "--", 2) == 0) {
            return command_unknown_option("predict", argv[i], known);
        } else {
            CHECK(!o->run, STATUS_USAGE, "predict: one run only, not %s and %s", o->run, argv[i]);
            o->run = argv[i];
        }
    }
    CHECK(o->run, STATUS_USAGE, "predict: which run? (marrs_dist predict RUN ...)");
    CHECK((o->n_shards > 0) != (o->images != NULL), STATUS_USAGE,
          "predict: give either --shard FILE... or --images DIR");
    CHECK(o->out, STATUS_USAGE, "predict: --out CSV says where the answers go");
    return STATUS_OK;
}

/* The sum of the probabilities of the models that `name` stands for; (n,K). */
static status_t add_model(struct run *run, int32_t peer, const struct split *split, float *sum) {
    const size_t n = split->n * (size_t)run->data.n_classes;
    struct trained *model = NULL;
    float *one = memory_zeroed(n, sizeof *one);
    status_t status = STATUS_OK;
    CHECK_TO(done, one, STATUS_NO_MEMORY, "out of memory for predictions");
    TRY_TO(done, trained_open(run, peer, &model));
    TRY_TO(done, trained_predict(model, run->world, split, one));
    for (size_t i = 0; i < n; i++) sum[i] += one[i];
done:
    trained_close(model);
    free(one);
    return status;
}

static status_t predict(struct run *run, const char *name, const struct split *split, float *sum,
                        double *n_models) {
    *n_models = 1;
    if (!name || strcmp(name, "student") == 0) return add_model(run, TRAINED_STUDENT, split, sum);
    if (strcmp(name, "ensemble") == 0) {
        *n_models = run->n_peers;
        for (int32_t p = 0; p < run->n_peers; p++) TRY(add_model(run, p, split, sum));
        return STATUS_OK;
    }
    for (int32_t p = 0; p < run->n_peers; p++)
        if (strcmp(name, run->peers[p].settings->name) == 0) return add_model(run, p, split, sum);
    char names[512] = "student, ensemble";
    for (int32_t p = 0; p < run->n_peers; p++) {
        strncat(names, ", ", sizeof names - strlen(names) - 1);
        strncat(names, run->peers[p].settings->name, sizeof names - strlen(names) - 1);
    }
    return FAIL(STATUS_USAGE, "predict: no model '%s'; this run has %s", name, names);
}

static status_t write_csv(const struct run *run, const char *path, const struct split *split,
                          const float *sum, double n_models) {
    char *text = NULL;
    size_t n_bytes;
    const int32_t k = run->data.n_classes;
    FILE *out = open_memstream(&text, &n_bytes);
    CHECK(out, STATUS_NO_MEMORY, "out of memory for %s", path);
    fputs("id,label,name,confidence\n", out);
    for (size_t i = 0; i < split->n; i++) {
        const int32_t label = argmax(sum + i * (size_t)k, k);
        csv_put_text(out, shard_set_id(split->set, split->index[i]));
        fprintf(out, ",%d,", label);
        csv_put_text(out, run_data_class_name(&run->data, label));
        fprintf(out, ",%.6f\n", (double)sum[i * (size_t)k + (size_t)label] / n_models);
    }
    CHECK(fclose(out) == 0, STATUS_NO_MEMORY, "out of memory for %s", path);
    const status_t status = file_write_atomic(path, text, n_bytes);
    free(text);
    return status;
}

static status_t answer(struct run_session *session, const struct predict_options *o,
                       const char *const *shards, size_t n_shards) {
    struct run *run = session->run;
    struct shard_set *set = NULL;
    struct split split = {0};
    float *sum = NULL;
    double n_models;
    status_t status;
    TRY_TO(done, shard_set_open(NULL, shards, n_shards, 0, &set));
    TRY_TO(done, split_all(set, &split));
    sum = memory_zeroed(split.n * (size_t)run->data.n_classes, sizeof *sum);
    CHECK_TO(done, sum, STATUS_NO_MEMORY, "out of memory for %zu predictions", split.n);
    TRY_TO(done, predict(run, o->model, &split, sum, &n_models));
    if (run->writes) status = write_csv(run, o->out, &split, sum, n_models);
    if (status == STATUS_OK) log_global(LOG_INFO, "%zu images answered in %s", split.n, o->out);
done:
    free(sum);
    split_free(&split);
    shard_set_close(set);
    return status;
}

/* A folder of images is packed into a shard beside the answers, which goes away at the end. */
static status_t answer_folder(struct run_session *session, const struct predict_options *o) {
    char *shard = NULL;
    status_t status = STATUS_OK;
    if (asprintf(&shard, "%s.images.h5", o->out) < 0) shard = NULL;
    CHECK(shard, STATUS_NO_MEMORY, "out of memory for a path");
    if (session->run->writes) status = image_folder_pack(o->images, shard);
    if (status == STATUS_OK) status = comm_barrier(session->run->world);
    if (status == STATUS_OK) status = answer(session, o, (const char *const[]){shard}, 1);
    if (session->run->writes) remove(shard);
    free(shard);
    return status;
}

status_t cmd_predict(struct launch_context *context, int argc, char **argv) {
    struct predict_options o = {.run = NULL};
    struct settings settings = {.run = NULL};
    struct run_session session = {.run = NULL};
    status_t status;
    TRY_TO(done, parse(argc, argv, &o));
    TRY_TO(done, run_session_settings(o.run, &settings));
    TRY_TO(done, run_session_open(context, &settings, &(struct run_session_options){0}, &session));
    status = o.images ? answer_folder(&session, &o) : answer(&session, &o, o.shards, o.n_shards);
    status = run_session_close(&session, status);
done:
    settings_free(&settings);
    free(o.shards);
    return status;
}
