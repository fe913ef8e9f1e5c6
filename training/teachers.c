#include "training/teachers.h"

#include "common/log.h"
#include "common/memory.h"
#include "data_shards/store.h"
#include "models/weights.h"
#include "training/predict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define TEACHERS_FORMAT "marrs-teachers"

static char *teachers_path(const struct run *run) {
    return run_path(run, "features", "teachers.h5");
}

static int64_t list_hash(const struct run *run) {
    const struct split *u = &run->data.unlabelled;
    XXH64_hash_t hash = XXH3_64bits(&u->n, sizeof u->n);
    for (size_t i = 0; i < u->n; i++) {
        const char *id = shard_set_id(u->set, u->index[i]);
        hash = XXH3_64bits_withSeed(id, strlen(id), hash);
    }
    return (int64_t)hash;
}

static size_t n_probabilities(const struct run *run) {
    return run->data.unlabelled.n * (size_t)run->data.n_classes;
}

status_t teachers_save(struct run *run, const float *probabilities) {
    char *path = teachers_path(run);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    struct store_writer *writer = NULL;
    status_t status;
    TRY_TO(fail, store_writer_open(path, TEACHERS_FORMAT, 1, &writer));
    TRY_TO(fail, store_writer_set_integer(writer, "list_hash", list_hash(run)));
    const uint64_t shape[] = {run->data.unlabelled.n, (uint64_t)run->data.n_classes};
    for (int32_t p = 0; p < run->n_peers; p++) {
        char name[128];
        snprintf(name, sizeof name, "%s/probabilities", run->peers[p].settings->name);
        TRY_TO(fail, store_writer_put(writer, name, STORE_F32, 2, shape,
                                      probabilities + (size_t)p * n_probabilities(run)));
    }
    status = store_writer_commit(writer);
    free(path);
    return status;
fail:
    store_writer_abandon(writer);
    free(path);
    return status;
}

void teachers_forget(const struct run *run) {
    char *path = teachers_path(run);
    if (path) unlink(path);
    free(path);
}

static status_t read_file(const struct run *run, const char *path, float *probabilities) {
    struct store_reader *reader;
    TRY(store_reader_open(path, &reader));
    status_t status = STATUS_OK;
    int64_t hash;
    CHECK_TO(done, store_reader_integer(reader, "list_hash", &hash) && hash == list_hash(run),
             STATUS_BAD_DATA, "%s was made for another unlabelled list", path);
    const uint64_t shape[] = {run->data.unlabelled.n, (uint64_t)run->data.n_classes};
    for (int32_t p = 0; p < run->n_peers; p++) {
        char name[128];
        const struct store_tensor *tensor;
        snprintf(name, sizeof name, "%s/probabilities", run->peers[p].settings->name);
        TRY_TO(done, store_reader_require(reader, name, STORE_F32, 2, shape, &tensor));
        TRY_TO(done, store_reader_read(reader, tensor, probabilities + (size_t)p * n_probabilities(run)));
    }
done:
    store_reader_close(reader);
    return status;
}

/* Rank 0 looks for a file that fits; *found is the same on all ranks. */
static status_t find_file(struct run *run, float *probabilities, bool *found) {
    bool here = false;
    if (run->writes) {
        char *path = teachers_path(run);
        CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
        const status_t status = read_file(run, path, probabilities);
        if (status != STATUS_OK && status != STATUS_MISSING)
            log_global(LOG_WARNING, "the teachers' probabilities are computed again: %s", status_message());
        here = status == STATUS_OK;
        free(path);
    }
    return comm_any(run->world, here, found);
}

/* The probabilities of one peer, on the ranks of its group. */
static status_t compute_peer(struct run *run, const struct run_peer *peer, float *probabilities) {
    struct net *net = NULL;
    struct predictor *predictor = NULL;
    char *path = run_path(run, "models", "%s.safetensors", peer->settings->name);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    status_t status;
    TRY_TO(done, net_new(run->ops, run->be, &peer->spec, peer->image, peer->image, run->precision, &net));
    status = weights_load(net, path, WEIGHTS_HEAD_LOAD, NULL);
    if (status != STATUS_OK) {
        status_context(status, "teacher %s", peer->settings->name);
        goto done;
    }
    TRY_TO(done, predictor_new(run, net, peer->image, &predictor));
    status = predictor_run(predictor, peer->group, &run->data.unlabelled, &peer->view, probabilities);
done:
    predictor_free(predictor);
    net_free(net);
    free(path);
    return status;
}

/* Each group computes its peer's; then the first rank of each group gives them to all. */
static status_t compute(struct run *run, float *probabilities) {
    const size_t n = n_probabilities(run);
    for (int32_t p = 0; p < run->n_peers; p++)
        if (run->peers[p].group) TRY(compute_peer(run, &run->peers[p], probabilities + (size_t)p * n));
    for (int32_t p = 0; p < run->n_peers; p++)
        TRY(comm_broadcast(comm_host_side(run->world), run->members[p].ranks[0],
                           probabilities + (size_t)p * n, (int64_t)n, COMM_F32));
    return run->writes ? teachers_save(run, probabilities) : STATUS_OK;
}

static void select_rows(struct teachers *t, double tau) {
    const int32_t k = t->n_classes;
    for (size_t i = 0; i < t->n; i++) {
        t->label[i] = argmax(t->probabilities + i * (size_t)k, k);
        t->kept[i] = 1;
        for (int32_t p = 0; p < t->n_peers; p++) {
            const float *row = t->probabilities + ((size_t)p * t->n + i) * (size_t)k;
            const int32_t label = argmax(row, k);
            t->kept[i] = t->kept[i] && label == t->label[i] && row[label] > (float)tau;
        }
    }
}

/* softmax(z/T) from p = softmax(z): p^(1/T), normalised; then the mean over the teachers. */
static void soften(struct teachers *t, double temperature) {
    const size_t k = (size_t)t->n_classes;
    for (size_t i = 0; i < t->n; i++) {
        for (int32_t p = 0; p < t->n_peers; p++) {
            const float *row = t->probabilities + ((size_t)p * t->n + i) * k;
            double sum = 0;
            for (size_t j = 0; j < k; j++) sum += pow(row[j], 1 / temperature);
            for (size_t j = 0; j < k; j++)
                t->soft[i * k + j] += (float)(pow(row[j], 1 / temperature) / sum / t->n_peers);
        }
    }
}

static status_t index_rows(const struct run *run, struct teachers *t) {
    const struct split *u = &run->data.unlabelled;
    t->first_index = shard_set_first_index(u->set);
    t->n_images = shard_set_n_images(u->set);
    t->row_of = memory_zeroed(t->n_images, sizeof *t->row_of);
    CHECK(t->row_of, STATUS_NO_MEMORY, "out of memory for the teachers' index");
    memset(t->row_of, 0xff, t->n_images * sizeof *t->row_of);
    for (size_t i = 0; i < u->n; i++) t->row_of[u->index[i] - t->first_index] = (uint32_t)i;
    return STATUS_OK;
}

status_t teachers_open(struct run *run, double tau, double temperature, struct teachers *out) {
    struct teachers t = {
        .n_peers = run->n_peers, .n_classes = run->data.n_classes, .n = run->data.unlabelled.n};
    const size_t n = n_probabilities(run);
    status_t status = STATUS_OK;
    bool found;
    t.probabilities = memory_zeroed((size_t)t.n_peers * n, sizeof *t.probabilities);
    t.label = memory_zeroed(t.n, sizeof *t.label);
    t.kept = memory_zeroed(t.n, 1);
    if (temperature > 0) t.soft = memory_zeroed(n, sizeof *t.soft);
    CHECK_TO(fail, t.probabilities && t.label && t.kept && (temperature <= 0 || t.soft), STATUS_NO_MEMORY,
             "out of memory for the teachers' probabilities");
    TRY_TO(fail, find_file(run, t.probabilities, &found));
    if (found)
        TRY_TO(fail, comm_broadcast(comm_host_side(run->world), 0, t.probabilities,
                                    (int64_t)((size_t)t.n_peers * n), COMM_F32));
    else
        TRY_TO(fail, compute(run, t.probabilities));
    select_rows(&t, tau);
    if (t.soft) soften(&t, temperature);
    TRY_TO(fail, index_rows(run, &t));
    *out = t;
    return STATUS_OK;
fail:
    teachers_close(&t);
    return status;
}

void teachers_close(struct teachers *t) {
    free(t->probabilities);
    free(t->label);
    free(t->kept);
    free(t->soft);
    free(t->row_of);
    memset(t, 0, sizeof *t);
}
