#include "training/checkpoint.h"

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECKPOINT_FORMAT  "marrs-checkpoint"
#define CHECKPOINT_VERSION 1

/* ---- copies of weights
 * ------------------------------------------------------------------------------------- */

static size_t params_bytes(const struct net *net) {
    return (size_t)net_n_elem(net) * sizeof(float);
}
static size_t buffers_bytes(const struct net *net) {
    return (size_t)net_n_buffer_elem(net) * sizeof(float);
}

status_t weights_copy_new(struct net *net, struct weights_copy *out) {
    void *params = NULL, *buffers = NULL;
    TRY(net_ops(net)->alloc(net_backend(net), params_bytes(net), &params));
    const status_t status =
        net_ops(net)->alloc(net_backend(net), buffers_bytes(net) + sizeof(float), &buffers);
    if (status != STATUS_OK) {
        net_ops(net)->release(net_backend(net), params);
        return status;
    }
    *out = (struct weights_copy){.params = params, .buffers = buffers};
    return STATUS_OK;
}

void weights_copy_free(struct net *net, struct weights_copy *copy) {
    if (copy->params) net_ops(net)->release(net_backend(net), copy->params);
    if (copy->buffers) net_ops(net)->release(net_backend(net), copy->buffers);
    *copy = (struct weights_copy){0};
}

status_t weights_copy_take(struct net *net, struct weights_copy *copy) {
    TRY(net_ops(net)->copy(net_backend(net), copy->params, net_params(net), params_bytes(net)));
    return net_ops(net)->copy(net_backend(net), copy->buffers, net_buffers(net), buffers_bytes(net));
}

status_t weights_copy_put(struct net *net, const struct weights_copy *copy) {
    TRY(net_ops(net)->copy(net_backend(net), net_params(net), copy->params, params_bytes(net)));
    TRY(net_ops(net)->copy(net_backend(net), net_buffers(net), copy->buffers, buffers_bytes(net)));
    return net_refresh_shadow(net);
}

/* ---- one flat buffer as tensors
 * ---------------------------------------------------------------------------- */

static void store_shape(const struct net_param *param, uint64_t *shape) {
    for (int32_t i = 0; i < param->n_dims; i++) shape[i] = (uint64_t)param->shape[i];
}

static int64_t largest_tensor(const struct net *net) {
    int64_t largest = 1;
    for (int32_t i = 0; i < net_n_params(net); i++)
        if (net_param(net, i)->n_elem > largest) largest = net_param(net, i)->n_elem;
    return largest;
}

/* Parameters (or buffers) of `flat` as "prefix/<name>". host: room for the largest tensor. */
static status_t put_flat(struct store_writer *writer, struct net *net, const char *prefix, bool buffers,
                         const float *flat, float *host) {
    char name[512];
    uint64_t shape[STORE_MAX_DIMS];
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        if (param->is_buffer != buffers) continue;
        snprintf(name, sizeof name, "%s/%s", prefix, param->name);
        store_shape(param, shape);
        TRY(net_get(net, i, flat, host));
        TRY(store_writer_put(writer, name, STORE_F32, param->n_dims, shape, host));
    }
    return STATUS_OK;
}

static status_t get_flat(const struct store_reader *reader, struct net *net, const char *prefix, bool buffers,
                         float *flat, float *host) {
    char name[512];
    uint64_t shape[STORE_MAX_DIMS];
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        if (param->is_buffer != buffers) continue;
        const struct store_tensor *tensor;
        snprintf(name, sizeof name, "%s/%s", prefix, param->name);
        store_shape(param, shape);
        TRY(store_reader_require(reader, name, STORE_F32, param->n_dims, shape, &tensor));
        TRY(store_reader_read(reader, tensor, host));
        TRY(net_set(net, i, flat, host));
    }
    return STATUS_OK;
}

/* ---- names of files
 * ---------------------------------------------------------------------------------------- */

static char *checkpoint_path(const struct run *run, enum stage stage, int64_t step, const char *name) {
    return run_path(run, "checkpoints", "%s-%08lld-%s.h5", stage_name(stage), (long long)step, name);
}

/* Steps for which `name` has a file of this stage, newest first (caller frees). */
static int newest_first(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static status_t list_steps(const struct run *run, enum stage stage, const char *name, int64_t **steps_out,
                           size_t *n_out) {
    int64_t *steps = NULL;
    size_t n = 0, capacity = 0;
    char *folder = run_path(run, "", "checkpoints");
    CHECK(folder, STATUS_NO_MEMORY, "out of memory for a path");
    DIR *dir = opendir(folder);
    free(folder);
    status_t status = STATUS_OK;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char stage_word[32];
        long long step;
        int used = 0;
        if (sscanf(entry->d_name, "%31[a-z]-%lld-%n", stage_word, &step, &used) != 2 || used == 0) continue;
        const char *rest = entry->d_name + used;
        const size_t length = strlen(name);
        if (strcmp(stage_word, stage_name(stage)) != 0 || strncmp(rest, name, length) != 0 ||
            strcmp(rest + length, ".h5") != 0)
            continue;
        CHECK_TO(fail, memory_grow(&steps, n, &capacity, sizeof *steps), STATUS_NO_MEMORY,
                 "out of memory for the list of checkpoints");
        steps[n++] = step;
    }
    if (n > 0) qsort(steps, n, sizeof *steps, newest_first);
    *steps_out = steps;
    *n_out = n;
    if (dir) closedir(dir);
    return STATUS_OK;
fail:
    free(steps);
    closedir(dir);
    return status;
}

static void remove_one(const struct run *run, enum stage stage, int64_t step, const char *name) {
    char *path = checkpoint_path(run, stage, step, name);
    if (path) unlink(path);
    free(path);
}

static void remove_old(const struct run *run, enum stage stage, const char *name, size_t keep) {
    int64_t *steps;
    size_t n;
    if (list_steps(run, stage, name, &steps, &n) != STATUS_OK) return;
    for (size_t i = keep; i < n; i++) remove_one(run, stage, steps[i], name);
    free(steps);
}

/* ---- writing
 * ----------------------------------------------------------------------------------------------- */

static status_t put_numbers(struct store_writer *writer, enum stage stage, int64_t step,
                            const struct checkpoint *c) {
    struct optimiser *optimiser = c->learner->optimiser;
    TRY(store_writer_set_text(writer, "stage", stage_name(stage)));
    TRY(store_writer_set_integer(writer, "step", step));
    TRY(store_writer_set_integer(writer, "n_steps", optimiser_n_steps(optimiser)));
    TRY(store_writer_set_integer(writer, "best_step", c->best_step));
    return store_writer_set_number(writer, "best_accuracy", c->best_accuracy);
}

/* All ranks of the group come here: gathering a sharded state is collective; only the group's rank 0 writes,
 * and its failure is carried to the end so that the others do not hang. */
static status_t put_everything(struct store_writer *writer, const struct checkpoint *c, float *full,
                               float *host) {
    const bool writes = comm_rank(c->group) == 0;
    status_t status = STATUS_OK;
    if (writes) status = put_flat(writer, c->net, "param", false, net_params(c->net), host);
    if (writes && status == STATUS_OK)
        status = put_flat(writer, c->net, "buffer", true, net_buffers(c->net), host);
    for (int32_t s = 0; s < optimiser_n_states(c->learner->optimiser); s++) {
        char prefix[64];
        TRY(learner_gather_state(c->learner, s, full));
        snprintf(prefix, sizeof prefix, "state/%s", optimiser_state_name(c->learner->optimiser, s));
        if (writes && status == STATUS_OK) status = put_flat(writer, c->net, prefix, false, full, host);
    }
    if (!writes || status != STATUS_OK || c->best_step < 0) return status;
    TRY(put_flat(writer, c->net, "best/param", false, c->best->params, host));
    return put_flat(writer, c->net, "best/buffer", true, c->best->buffers, host);
}

static status_t write_file(struct run *run, enum stage stage, int64_t step, const struct checkpoint *c,
                           float *full, float *host) {
    const bool writes = comm_rank(c->group) == 0;
    struct store_writer *writer = NULL;
    status_t status = STATUS_OK;
    if (writes) {
        char *path = checkpoint_path(run, stage, step, c->name);
        CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
        status = store_writer_open(path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION, &writer);
        free(path);
        if (status == STATUS_OK) status = put_numbers(writer, stage, step, c);
    }
    /* Even after a failure: the gathering is collective. */
    const status_t content = put_everything(writer, c, full, host);
    if (status == STATUS_OK) status = content;
    if (!writes) return status;
    if (status == STATUS_OK) return store_writer_commit(writer);
    store_writer_abandon(writer);
    return status;
}

static status_t write_one(struct run *run, enum stage stage, int64_t step, const struct checkpoint *c) {
    void *full = NULL;
    float *host = memory_zeroed((size_t)largest_tensor(c->net), sizeof *host);
    CHECK(host, STATUS_NO_MEMORY, "out of memory for a checkpoint");
    status_t status = run->ops->alloc(run->be, params_bytes(c->net), &full);
    if (status == STATUS_OK) status = write_file(run, stage, step, c, full, host);
    if (full) run->ops->release(run->be, full);
    free(host);
    return status;
}

status_t checkpoint_write(struct run *run, enum stage stage, int64_t step,
                          const struct checkpoint *checkpoints, int32_t n, bool *written) {
    bool failed = false, any;
    for (int32_t i = 0; i < n; i++) {
        if (!checkpoints[i].group) continue;
        const status_t status = write_one(run, stage, step, &checkpoints[i]);
        if (status == STATUS_OK) continue;
        const bool disk = status == STATUS_IO || status == STATUS_CANT_CREATE;
        if (!disk || run->settings->checkpoint.on_full == ON_FULL_STOP) return status;
        log_local(LOG_WARNING, "no checkpoint at step %lld, the one before it stays: %s", (long long)step,
                  status_message());
        failed = true;
    }
    TRY(comm_any(run->world, failed, &any));
    for (int32_t i = 0; i < n; i++) {
        if (!checkpoints[i].group || comm_rank(checkpoints[i].group) != 0) continue;
        if (any) /* a step of some peers only is of no use */
            remove_one(run, stage, step, checkpoints[i].name);
        else
            remove_old(run, stage, checkpoints[i].name, (size_t)run->settings->checkpoint.keep);
    }
    *written = !any;
    return STATUS_OK;
}

/* ---- resuming
 * ---------------------------------------------------------------------------------------------- */

static status_t check_kind(const struct store_reader *reader, enum stage stage, int64_t step) {
    const char *text = store_reader_text(reader, "stage");
    int64_t number = -1;
    CHECK(strcmp(store_reader_format(reader), CHECKPOINT_FORMAT) == 0 && text &&
              strcmp(text, stage_name(stage)) == 0 && store_reader_integer(reader, "step", &number) &&
              number == step,
          STATUS_BAD_DATA, "%s is not the checkpoint its name says", store_reader_path(reader));
    return STATUS_OK;
}

/* Read and compare every tensor, changing nothing. */
static status_t verify_file(const struct run *run, enum stage stage, int64_t step, const char *name) {
    char *path = checkpoint_path(run, stage, step, name);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    struct store_reader *reader = NULL;
    status_t status = store_reader_open(path, &reader);
    free(path);
    if (status != STATUS_OK) return status;
    status = check_kind(reader, stage, step);
    for (size_t i = 0; status == STATUS_OK && i < store_reader_n_tensors(reader); i++)
        status = store_reader_verify(reader, store_reader_tensor(reader, i), NULL);
    store_reader_close(reader);
    return status;
}

struct numbers {
    int64_t n_steps, best_step;
    double best_accuracy;
};

static status_t read_numbers(const struct store_reader *reader, struct numbers *n) {
    CHECK(store_reader_integer(reader, "n_steps", &n->n_steps) &&
              store_reader_integer(reader, "best_step", &n->best_step) &&
              store_reader_number(reader, "best_accuracy", &n->best_accuracy),
          STATUS_BAD_DATA, "%s lacks the step counts", store_reader_path(reader));
    return STATUS_OK;
}

/* One flat buffer from the file on the group's rank 0, then to all of the group. */
static status_t spread(const struct store_reader *reader, const struct checkpoint *c, const char *prefix,
                       bool buffers, float *flat, float *host) {
    if (reader) TRY(get_flat(reader, c->net, prefix, buffers, flat, host));
    return comm_broadcast(c->group, 0, flat, buffers ? net_n_buffer_elem(c->net) : net_n_elem(c->net),
                          COMM_F32);
}

static status_t fill(const struct store_reader *reader, struct checkpoint *c, float *full, float *host) {
    struct numbers n = {0};
    if (reader) TRY(read_numbers(reader, &n));
    TRY(comm_broadcast(comm_host_side(c->group), 0, &n, (int64_t)sizeof n, COMM_U8));
    TRY(spread(reader, c, "param", false, net_params(c->net), host));
    TRY(spread(reader, c, "buffer", true, net_buffers(c->net), host));
    TRY(net_refresh_shadow(c->net));
    for (int32_t s = 0; s < optimiser_n_states(c->learner->optimiser); s++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "state/%s", optimiser_state_name(c->learner->optimiser, s));
        TRY(spread(reader, c, prefix, false, full, host));
        TRY(learner_scatter_state(c->learner, s, full));
    }
    if (n.best_step >= 0) {
        TRY(spread(reader, c, "best/param", false, c->best->params, host));
        TRY(spread(reader, c, "best/buffer", true, c->best->buffers, host));
    }
    optimiser_set_n_steps(c->learner->optimiser, n.n_steps, 0);
    c->best_step = n.best_step;
    c->best_accuracy = n.best_accuracy;
    return STATUS_OK;
}

static status_t read_file(struct run *run, enum stage stage, int64_t step, struct checkpoint *c) {
    struct store_reader *reader = NULL;
    void *full = NULL;
    float *host = memory_zeroed((size_t)largest_tensor(c->net), sizeof *host);
    status_t status = STATUS_OK;
    CHECK_TO(done, host, STATUS_NO_MEMORY, "out of memory for a checkpoint");
    TRY_TO(done, run->ops->alloc(run->be, params_bytes(c->net), &full));
    TRY_TO(done, run->ops->fill_zero(run->be, full, params_bytes(c->net)));
    if (comm_rank(c->group) == 0) {
        char *path = checkpoint_path(run, stage, step, c->name);
        CHECK_TO(done, path, STATUS_NO_MEMORY, "out of memory for a path");
        status = store_reader_open(path, &reader);
        free(path);
        if (status != STATUS_OK) goto done;
    }
    status = fill(reader, c, full, host);
done:
    store_reader_close(reader);
    if (full) run->ops->release(run->be, full);
    free(host);
    return status;
}

/* Is every name's file of this step whole? Each group's rank 0 looks at its own. */
static status_t all_whole(struct run *run, enum stage stage, int64_t step, const struct checkpoint *c,
                          int32_t n, bool *whole) {
    bool damaged = false, any;
    for (int32_t i = 0; i < n; i++) {
        if (!c[i].group || comm_rank(c[i].group) != 0) continue;
        if (verify_file(run, stage, step, c[i].name) == STATUS_OK) continue;
        log_local(LOG_WARNING, "checkpoint of step %lld cannot be used, going back to the one before it: %s",
                  (long long)step, status_message());
        damaged = true;
    }
    TRY(comm_any(run->world, damaged, &any));
    *whole = !any;
    return STATUS_OK;
}

/* The i-th newest step of the first name, as rank 0 of the world lists it; -1 past the last. */
static status_t candidate(struct run *run, enum stage stage, const char *name, size_t i, int64_t *step) {
    *step = -1;
    if (run->writes) {
        int64_t *steps;
        size_t n;
        TRY(list_steps(run, stage, name, &steps, &n));
        if (i < n) *step = steps[i];
        free(steps);
    }
    return comm_broadcast(comm_host_side(run->world), 0, step, 1, COMM_I64);
}

status_t checkpoint_find(struct run *run, enum stage stage, const struct checkpoint *checkpoints, int32_t n,
                         int64_t *step) {
    for (size_t i = 0;; i++) {
        bool whole = false;
        TRY(candidate(run, stage, checkpoints[0].name, i, step));
        if (*step < 0) break;
        TRY(all_whole(run, stage, *step, checkpoints, n, &whole));
        if (whole) return STATUS_OK;
    }
    *step = 0;
    return STATUS_OK;
}

status_t checkpoint_load(struct run *run, enum stage stage, int64_t step, struct checkpoint *checkpoints,
                         int32_t n) {
    for (int32_t c = 0; c < n; c++)
        if (checkpoints[c].group) TRY(read_file(run, stage, step, &checkpoints[c]));
    return STATUS_OK;
}
