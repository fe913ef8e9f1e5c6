#include "models/weights.h"
#include "common/memory.h"
#include "models/net_internal.h"
#include "models/safetensors.h"
#include "models/weights_names.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LISTED = 8, NAME_BYTES = 256 };

enum fit { FIT_SAME, FIT_TABLE, FIT_PATCH, FIT_NOT };

/* Where one parameter comes from. */
struct source {
    const struct safetensor *tensor; /* NULL: nowhere */
    enum fit fit;
    int32_t wh, ww; /* a position table's window in this net */
};

struct load {
    struct net *net;
    const struct safetensors *file;
    enum weights_dialect dialect;
    enum weights_head head;
    struct source *sources; /* by parameter */
    char **extra;           /* lines for names of no use, each owned */
    int32_t n_extra;
    bool keep_head; /* the net's classifier stays as it is */
    struct weights_report report;
};

/* Equal but for axes of length 1 at the end: (4C,C) and (4C,C,1,1) hold the same. */
static bool same_shape(const struct net_param *param, const struct safetensor *tensor) {
    const int32_t n = param->n_dims > tensor->n_dims ? param->n_dims : tensor->n_dims;
    for (int32_t i = 0; i < n; i++) {
        const int64_t ours = i < param->n_dims ? param->shape[i] : 1,
                      theirs = i < tensor->n_dims ? tensor->shape[i] : 1;
        if (ours != theirs) return false;
    }
    return param->n_elem == tensor->n_elem;
}

static bool is_square_window(int64_t rows) {
    const int64_t side = (int64_t)lround(sqrt((double)rows));
    return side % 2 == 1 && side * side == rows;
}

static enum fit fit_of(const struct net *net, const struct net_param *param,
                       const struct safetensor *tensor) {
    if (same_shape(param, tensor)) return FIT_SAME;
    if (param->is_table && tensor->n_dims == 2 && tensor->shape[1] == param->shape[1] &&
        is_square_window(tensor->shape[0]))
        return FIT_TABLE;
    if (net->spec.family == MODEL_SWIN && !strcmp(param->name, "patch_embed.proj.weight") &&
        tensor->n_dims == 4 && tensor->shape[0] == param->shape[0] && tensor->shape[1] == param->shape[1] &&
        tensor->n_elem > 0 && tensor->shape[2] <= 64 && tensor->shape[3] <= 64)
        return FIT_PATCH;
    return FIT_NOT;
}

static bool is_head_name(enum model_family family, const char *name) {
    const char *prefix = family == MODEL_MOBILENETV2 ? "classifier.1." : "head.fc.";
    return !strncmp(name, prefix, strlen(prefix));
}

static void shape_text(int32_t n_dims, const int64_t *shape, char *out, size_t capacity) {
    size_t n = (size_t)snprintf(out, capacity, "(");
    for (int32_t i = 0; i < n_dims && n < capacity; i++)
        n += (size_t)snprintf(out + n, capacity - n, "%s%lld", i ? "," : "", (long long)shape[i]);
    if (n < capacity) snprintf(out + n, capacity - n, ")");
}

static status_t add_extra(struct load *load, const char *name, const char *why) {
    char line[2 * NAME_BYTES];
    snprintf(line, sizeof line, "%.*s%s", NAME_BYTES, name, why);
    load->extra[load->n_extra] = strdup(line);
    CHECK(load->extra[load->n_extra], STATUS_NO_MEMORY, "no memory for a list of names");
    load->n_extra++;
    return STATUS_OK;
}

/* Give every tensor of the file its parameter, or its place among the ignored or the extra ones. */
static status_t match_names(struct load *load) {
    const enum model_family family = load->net->spec.family;
    for (int32_t i = 0; i < safetensors_count(load->file); i++) {
        const struct safetensor *tensor = safetensors_at(load->file, i);
        char name[NAME_BYTES];
        if (!weights_translate(load->dialect, family, tensor->name, name, sizeof name)) {
            load->report.n_ignored++;
            continue;
        }
        const int32_t index = net_find_param(load->net, name);
        const bool unwanted_head =
            is_head_name(family, name) && (load->net->spec.n_classes == 0 || load->head != WEIGHTS_HEAD_LOAD);
        if (index >= 0 && load->sources[index].tensor) {
            TRY(add_extra(load, tensor->name, " (a second time)"));
        } else if (index >= 0) {
            load->sources[index].tensor = tensor;
            load->sources[index].fit = fit_of(load->net, net_param(load->net, index), tensor);
        } else if (unwanted_head) {
            load->report.n_ignored++;
        } else {
            TRY(add_extra(load, tensor->name, ""));
        }
    }
    return STATUS_OK;
}

/* Decide whether the classifier is loaded: all of it or nothing. */
static void settle_head(struct load *load) {
    bool fits = load->head != WEIGHTS_HEAD_SKIP, has_head = false;
    for (int32_t i = 0; i < net_n_params(load->net); i++) {
        if (!net_param(load->net, i)->is_head) continue;
        has_head = true;
        if (!load->sources[i].tensor || load->sources[i].fit == FIT_NOT) fits = false;
    }
    load->keep_head = load->head == WEIGHTS_HEAD_LOAD ? false : !fits;
    load->report.head_loaded = has_head && !load->keep_head;
    if (!load->keep_head) return;
    for (int32_t i = 0; i < net_n_params(load->net); i++) {
        if (!net_param(load->net, i)->is_head || !load->sources[i].tensor) continue;
        load->sources[i].tensor = NULL;
        load->report.n_ignored++;
    }
}

static bool is_wanted(const struct load *load, int32_t index) {
    return !(load->keep_head && net_param(load->net, index)->is_head);
}

/* "  missing (3): a, b, c" lines of everything that does not fit. Returns how many names that are. */
static int32_t list_faults(const struct load *load, FILE *out) {
    int32_t n_missing = 0, n_misshaped = 0;
    for (int32_t i = 0; i < net_n_params(load->net); i++) {
        if (!is_wanted(load, i)) continue;
        n_missing += load->sources[i].tensor == NULL;
        n_misshaped += load->sources[i].tensor && load->sources[i].fit == FIT_NOT;
    }
    if (n_missing) fprintf(out, "\n  missing (%d):", n_missing);
    for (int32_t i = 0, n = 0; i < net_n_params(load->net) && n_missing; i++) {
        if (!is_wanted(load, i) || load->sources[i].tensor) continue;
        if (n++ < MAX_LISTED) fprintf(out, " %s", net_param(load->net, i)->name);
    }
    if (n_missing > MAX_LISTED) fprintf(out, " ...");
    if (load->n_extra) fprintf(out, "\n  extra (%d):", load->n_extra);
    for (int32_t i = 0; i < load->n_extra && i < MAX_LISTED; i++) fprintf(out, " %s", load->extra[i]);
    if (load->n_extra > MAX_LISTED) fprintf(out, " ...");
    if (n_misshaped) fprintf(out, "\n  of another shape (%d):", n_misshaped);
    for (int32_t i = 0, n = 0; i < net_n_params(load->net) && n_misshaped; i++) {
        const struct net_param *param = net_param(load->net, i);
        const struct safetensor *tensor = load->sources[i].tensor;
        if (!is_wanted(load, i) || !tensor || load->sources[i].fit != FIT_NOT || n++ >= MAX_LISTED) continue;
        char theirs[128], ours[128];
        shape_text(tensor->n_dims, tensor->shape, theirs, sizeof theirs);
        shape_text(param->n_dims, param->shape, ours, sizeof ours);
        fprintf(out, " %s %s where the network has %s;", param->name, theirs, ours);
    }
    if (n_misshaped > MAX_LISTED) fprintf(out, " ...");
    return n_missing + load->n_extra + n_misshaped;
}

static status_t check_fit(const struct load *load) {
    char *text = NULL;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    CHECK(out, STATUS_NO_MEMORY, "no memory for a list of names");
    const int32_t n_faults = list_faults(load, out);
    fclose(out);
    status_t status = STATUS_OK;
    if (n_faults)
        status = FAIL(STATUS_BAD_DATA, "%s (names as in %s) does not fit the network%s%s:%s",
                      safetensors_path(load->file), weights_dialect_name(load->dialect),
                      load->net->spec.name[0] ? " " : "", load->net->spec.name, text);
    free(text);
    return status;
}

/* The windows of the position tables, from the net's graph. */
static status_t find_windows(struct load *load) {
    struct net *net = load->net;
    bool wanted = false;
    for (int32_t i = 0; i < net_n_params(net); i++)
        wanted |= load->sources[i].tensor && load->sources[i].fit == FIT_TABLE;
    if (!wanted) return STATUS_OK;
    struct graph graph;
    TRY(graph_build(&graph, &net->spec, &net->table, 1, net->height, net->width, net->precision, 0, false));
    for (int32_t i = 0; i < graph.n_nodes; i++) {
        const struct node *node = &graph.nodes[i];
        if (node->kind != NODE_WINDOW_ATTENTION) continue;
        for (int32_t j = 0; j < NODE_MAX_PARAMS; j++) {
            if (node->params[j] == NONE || !net_param(net, node->params[j])->is_table) continue;
            load->sources[node->params[j]].wh = node->wh;
            load->sources[node->params[j]].ww = node->ww;
        }
    }
    graph_free(&graph);
    return STATUS_OK;
}

/* Read, resize and set one parameter. work: room for max(file's, ours) elements, twice. */
static status_t load_one(struct load *load, int32_t index, float *work, int64_t n_work) {
    struct net *net = load->net;
    const struct net_param *param = net_param(net, index);
    const struct source *source = &load->sources[index];
    const struct safetensor *tensor = source->tensor;
    TRY(safetensor_read_f32(load->file, tensor, work));
    for (int64_t i = 0; i < tensor->n_elem; i++)
        CHECK(isfinite(work[i]), STATUS_BAD_DATA, "%s: tensor \"%s\" holds NaN or infinity (element %lld)",
              safetensors_path(load->file), tensor->name, (long long)i);
    if (source->fit != FIT_SAME) load->report.n_resized++;
    if (source->fit == FIT_TABLE)
        TRY(weights_resize_table(work, tensor->shape[0], tensor->shape[1], source->wh, source->ww,
                                 work + n_work));
    if (source->fit == FIT_PATCH)
        TRY(weights_resize_patch(work, tensor->shape[0] * tensor->shape[1], tensor->shape[2],
                                 tensor->shape[3], param->shape[2], param->shape[3], work + n_work));
    load->report.n_loaded++;
    return net_set(net, index, param->is_buffer ? net_buffers(net) : net_params(net),
                   source->fit == FIT_SAME ? work : work + n_work);
}

static status_t load_all(struct load *load) {
    int64_t n_work = 1;
    bool resizes = false;
    for (int32_t i = 0; i < net_n_params(load->net); i++) {
        const struct source *source = &load->sources[i];
        if (!source->tensor) continue;
        if (source->tensor->n_elem > n_work) n_work = source->tensor->n_elem;
        if (net_param(load->net, i)->n_elem > n_work) n_work = net_param(load->net, i)->n_elem;
        resizes |= source->fit != FIT_SAME;
    }
    float *work = memory_zeroed((size_t)n_work, (resizes ? 2 : 1) * sizeof *work);
    CHECK(work, STATUS_NO_MEMORY, "no memory for a tensor of %lld elements", (long long)n_work);
    status_t status = STATUS_OK;
    for (int32_t i = 0; i < net_n_params(load->net) && status == STATUS_OK; i++)
        if (load->sources[i].tensor) status = load_one(load, i, work, n_work);
    free(work);
    return status;
}

status_t weights_load(struct net *net, const char *path, enum weights_head head,
                      struct weights_report *report) {
    struct safetensors *file = NULL;
    TRY(safetensors_open(path, &file));
    struct load load = {
        .net = net, .file = file, .head = head, .dialect = weights_detect(file, net->spec.family)};
    load.report.dialect = weights_dialect_name(load.dialect);
    load.sources = memory_zeroed((size_t)net_n_params(net), sizeof *load.sources);
    load.extra = memory_zeroed((size_t)safetensors_count(file) + 1, sizeof *load.extra);
    status_t status;
    CHECK_TO(end, load.sources && load.extra, STATUS_NO_MEMORY, "no memory to load %s", path);
    TRY_TO(end, match_names(&load));
    settle_head(&load);
    TRY_TO(end, check_fit(&load));
    TRY_TO(end, find_windows(&load));
    TRY_TO(end, load_all(&load));
    TRY_TO(end, net_refresh_shadow(net));
    if (report) *report = load.report;
end:
    for (int32_t i = 0; i < load.n_extra; i++) free(load.extra[i]);
    free(load.extra);
    free(load.sources);
    safetensors_close(file);
    return status;
}

/* Write every parameter; scratch holds the largest. */
static status_t put_all(struct net *net, const float *params, struct safetensors_writer *writer,
                        float *scratch) {
    for (int32_t i = 0; i < net_n_params(net); i++) {
        const struct net_param *param = net_param(net, i);
        TRY(net_get(net, i, param->is_buffer ? net_buffers(net) : params, scratch));
        TRY(safetensors_put(writer, i, scratch, (size_t)param->n_elem * sizeof *scratch));
    }
    return STATUS_OK;
}

status_t weights_save(struct net *net, const float *params, const char *const *metadata, int32_t n_metadata,
                      const char *path) {
    const int32_t n = net_n_params(net);
    int64_t n_largest = 1;
    struct safetensors_writer *writer = NULL;
    struct safetensors_entry *entries = memory_zeroed((size_t)n, sizeof *entries);
    const char **pairs = memory_zeroed(2 * ((size_t)n_metadata + 2), sizeof *pairs);
    float *scratch = NULL;
    status_t status;
    CHECK_TO(end, entries && pairs, STATUS_NO_MEMORY, "no memory to save %s", path);
    for (int32_t i = 0; i < n; i++) {
        const struct net_param *param = net_param(net, i);
        entries[i] =
            (struct safetensors_entry){.name = param->name, .type = TENSOR_F32, .n_dims = param->n_dims};
        for (int32_t d = 0; d < param->n_dims; d++) entries[i].shape[d] = param->shape[d];
        if (param->n_elem > n_largest) n_largest = param->n_elem;
    }
    pairs[0] = "format", pairs[1] = "pt", pairs[2] = "model", pairs[3] = net->spec.name;
    for (int32_t i = 0; i < 2 * n_metadata; i++) pairs[4 + i] = metadata[i];
    scratch = memory_zeroed((size_t)n_largest, sizeof *scratch);
    CHECK_TO(end, scratch, STATUS_NO_MEMORY, "no memory to save %s", path);
    TRY_TO(end, safetensors_create(path, entries, n, pairs, n_metadata + 2, &writer));
    status = put_all(net, params ? params : net_params(net), writer, scratch);
    if (status == STATUS_OK)
        status = safetensors_commit(writer);
    else
        safetensors_abandon(writer);
end:
    free(scratch);
    free(pairs);
    free(entries);
    return status;
}

status_t weights_file_hash(const char *path, uint64_t *out) {
    struct safetensors *file;
    TRY(safetensors_open(path, &file));
    *out = safetensors_hash(file);
    safetensors_close(file);
    return STATUS_OK;
}
