#include "launcher/config_complete.h"

#include "launcher/config_key.h"

#include "common/file.h"
#include "common/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fault at the value of `path`, or at the peer where the value is a default. */
static void fault_at(struct config_reading *r, const char *path, int peer, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void fault_at(struct config_reading *r, const char *path, int peer, const char *fmt, ...) {
    char message[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    const int key = config_key_find(path);
    const struct config_origin *o = &r->origins[key][peer];
    const bool in_peer = config_key_is_peer(&config_keys[key]);
    if (o->given)
        config_fault(&r->faults, o->origin, o->line, o->column, "%s: %s", path, message);
    else
        config_fault(&r->faults, r->origin, in_peer ? r->peer_line[peer] : 0,
                     in_peer ? r->peer_column[peer] : 0, "%s: %s", path, message);
}

static bool is_given(const struct config_reading *r, const char *path, int peer) {
    return r->origins[config_key_find(path)][peer].given;
}

static void check_required(struct config_reading *r) {
    for (int key = 0; key < config_n_keys; key++) {
        const struct config_key *k = &config_keys[key];
        if (!k->required) continue;
        const bool in_peer = config_key_is_peer(k);
        for (int peer = 0; peer < (in_peer ? r->settings->n_peers : 1); peer++)
            if (!r->origins[key][peer].given)
                config_fault(&r->faults, r->origin, in_peer ? r->peer_line[peer] : 0,
                             in_peer ? r->peer_column[peer] : 0, "missing key %s (%s)", k->path, k->help);
    }
    if (r->settings->n_peers == 0)
        config_fault(&r->faults, r->origin, 0, 0, "missing key peers (%s)", config_section_help("peers"));
}

static void check_names(struct config_reading *r) {
    for (int i = 0; i < r->settings->n_peers; i++) {
        const char *name = r->settings->peers[i].name;
        if (!is_given(r, "peers[].name", i)) continue;
        if (strlen(name) > 31 ||
            strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != strlen(name))
            fault_at(r, "peers[].name", i, "'%.40s': letters, digits, '-' and '_', at most 31", name);
        if (strspn(name, "0123456789") == strlen(name))
            fault_at(r, "peers[].name", i, "'%.40s' would be taken for a number of a peer", name);
        if (strcasecmp(name, "student") == 0 || strcasecmp(name, "ensemble") == 0)
            fault_at(r, "peers[].name", i, "'%s' has a meaning of its own", name);
        for (int j = 0; j < i; j++)
            if (strcasecmp(name, r->settings->peers[j].name) == 0)
                fault_at(r, "peers[].name", i, "'%s' names two peers", name);
    }
}

static void check_stages(struct config_reading *r) {
    const struct settings *s = r->settings;
    const bool heads = settings_has_stage(s, STAGE_HEADS), cotrain = settings_has_stage(s, STAGE_COTRAIN);
    if (heads && !settings_has_stage(s, STAGE_FEATURES))
        fault_at(r, "stages", 0, "heads needs the features stage before it");
    if (settings_has_stage(s, STAGE_DISTIL) && !heads && !cotrain)
        fault_at(r, "stages", 0, "distil needs teachers: heads or cotrain before it");
    if (s->n_peers == 1 && heads && s->heads.exchange.labels == LABELS_FROM_PEER)
        fault_at(r, "heads.exchange.labels", 0,
                 "a single peer has no other to learn from: own, or a second peer");
    if (s->n_peers == 1 && cotrain && s->cotrain.exchange.labels == LABELS_FROM_PEER)
        fault_at(r, "cotrain.exchange.labels", 0,
                 "a single peer has no other to learn from: own, or a second peer");
}

/* ---- models
 * ------------------------------------------------------------------------------------------------ */

static void copy_integers(const struct integer_list *from, int32_t *to) {
    for (int32_t i = 0; i < from->n; i++) to[i] = (int32_t)from->items[i];
}

static void put(int64_t value, int32_t *to) {
    if (value > 0) *to = (int32_t)value;
}

/* Lists with one entry a stage must agree in length with depths. */
static bool check_length(struct config_reading *r, const char *model, int peer, const char *word, int n,
                         int n_stages) {
    if (n == n_stages) return true;
    fault_at(r, model, peer, "%s has %d entries, depths has %d: one a stage", word, n, n_stages);
    return false;
}

static bool own_shape(struct config_reading *r, const char *path, int peer, struct model_settings *model) {
    struct model_spec spec = model_spec_default(model->family);
    bool good = true;
    if (model->family != MODEL_MOBILENETV2) {
        const int n = model->depths.n;
        const bool convnext = model->family == MODEL_CONVNEXT;
        if (n == 0) {
            fault_at(r, path, peer, "a shape of its own needs depths");
            return false;
        }
        good = check_length(r, path, peer, convnext ? "dims" : "heads",
                            convnext ? model->dims.n : model->heads.n, n);
        if (!convnext && model->embed == 0) {
            fault_at(r, path, peer, "a Swin shape needs embed");
            good = false;
        }
        if (!good) return false;
        spec.n_stages = n;
        copy_integers(&model->depths, spec.depths);
        copy_integers(&model->dims, spec.dims);
        copy_integers(&model->heads, spec.heads);
    }
    put(model->stem, &spec.stem);
    put(model->kernel, &spec.kernel);
    put(model->patch, &spec.patch);
    put(model->embed, &spec.embed);
    put(model->window, &spec.window);
    put(model->stem_stride, &spec.stem_stride);
    if (model->width > 0) spec.width = (float)model->width;
    if (model->conv_mlp) spec.conv_mlp = true;
    copy_integers(&model->strides, spec.strides);
    model->spec = spec;
    return true;
}

/* Shape keys only for a shape of its own, and only its family's. */
static bool check_shape_keys(struct config_reading *r, const char *path, int peer,
                             const struct model_settings *model) {
    const size_t n = strlen(path);
    bool good = true;
    for (int key = 0; key < config_n_keys; key++) {
        const struct config_key *k = &config_keys[key];
        if (strncmp(k->path, path, n) != 0 || k->path[n] != '.' || !r->origins[key][peer].given) continue;
        if (model->preset[0])
            fault_at(r, k->path, peer, "only for a shape of its own; the model is the preset %s",
                     model->preset);
        else if (!(k->families & (1u << model->family)))
            fault_at(r, k->path, peer, "no key of this family");
        else
            continue;
        good = false;
    }
    return good;
}

/* Fill model->spec but for what lies outside `model:`; *image becomes the preset's where it is 0. */
static bool complete_model(struct config_reading *r, const char *path, int peer, struct model_settings *model,
                           int64_t *image, const char *image_path) {
    char family[CONFIG_MAX_PATH];
    snprintf(family, sizeof family, "%s.family", path);
    if (!is_given(r, path, peer) && !model->preset[0] && !is_given(r, family, peer))
        return false; /* said already */
    if (!model->preset[0] && !is_given(r, family, peer)) {
        fault_at(r, path, peer, "a shape of its own needs family");
        return false;
    }
    if (!check_shape_keys(r, path, peer, model)) return false;
    if (!model->preset[0]) {
        if (*image == 0) fault_at(r, image_path, peer, "auto needs a preset: give the side in pixels");
        return own_shape(r, path, peer, model) && *image != 0;
    }
    int32_t preset_image = 0;
    if (model_spec_preset(model->preset, &model->spec, &preset_image) != STATUS_OK) {
        fault_at(r, path, peer, "%s", status_message());
        return false;
    }
    if (*image == 0) *image = preset_image;
    return true;
}

static void check_spec(struct config_reading *r, const char *path, int peer, const struct model_spec *spec) {
    if (model_spec_check(spec) != STATUS_OK) fault_at(r, path, peer, "%s", status_message());
}

static void complete_models(struct config_reading *r) {
    struct settings *s = r->settings;
    for (int i = 0; i < s->n_peers; i++) {
        struct peer_settings *peer = &s->peers[i];
        if (!complete_model(r, "peers[].model", i, &peer->model, &peer->image, "peers[].image")) continue;
        struct model_spec *spec = &peer->model.spec;
        spec->init = peer->init;
        spec->drop_path = (float)peer->drop_path;
        spec->head_bias = peer->head_bias;
        if (!isnan(peer->layer_scale)) spec->layer_scale = (float)peer->layer_scale;
        check_spec(r, "peers[].model", i, spec);
    }
    struct student_settings *student = &s->distil.student;
    if (!complete_model(r, "distil.student.model", 0, &student->model, &student->image,
                        "distil.student.image"))
        return;
    student->model.spec.head_bias = true;
    student->model.spec.dropout = (float)student->dropout;
    if (student->resize == 0) student->resize = (student->image * 8 + 3) / 7;
    if (student->resize < student->image)
        fault_at(r, "distil.student.resize", 0, "%d is smaller than the crop, image %d", (int)student->resize,
                 (int)student->image);
    check_spec(r, "distil.student.model", 0, &student->model.spec);
}

/* ---- paths
 * ------------------------------------------------------------------------------------------------- */

/* Absolute, without "." and "..": `path` taken from `folder` (absolute). NULL when out of memory. */
static char *absolute(const char *folder, const char *path) {
    char *joined = file_join(folder, path);
    if (!joined) return NULL;
    char *to = joined;
    for (const char *from = joined; *from;) {
        while (*from == '/') from++;
        const size_t n = strcspn(from, "/");
        if (n == 0) break;
        if (n == 2 && from[0] == '.' && from[1] == '.') {
            while (to > joined && *--to != '/') {
            }
        } else if (!(n == 1 && from[0] == '.')) {
            *to++ = '/';
            memmove(to, from, n);
            to += n;
        }
        from += n;
    }
    if (to == joined) *to++ = '/';
    *to = '\0';
    return joined;
}

/* The real path of `folder` (NULL: the current directory); NULL when out of memory. */
static char *start_folder(const char *folder) {
    char *real = realpath(folder ? folder : ".", NULL);
    if (real) return real;
    char *cwd = realpath(".", NULL);
    char *out = absolute(cwd ? cwd : "/", folder ? folder : ".");
    free(cwd);
    return out;
}

static status_t make_absolute(const struct config_origin *o, const char *data_folder, char **value) {
    if ((*value)[0] == '\0') return STATUS_OK;
    char *folder = data_folder ? strdup(data_folder) : start_folder(o->folder);
    char *path = folder ? absolute(folder, *value) : NULL;
    free(folder);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    free(*value);
    *value = path;
    return STATUS_OK;
}

/* data.folder comes first in the table, so it is absolute already where the others need it. */
static status_t complete_paths(struct config_reading *r) {
    struct settings *s = r->settings;
    for (int key = 0; key < config_n_keys; key++) {
        const struct config_key *k = &config_keys[key];
        if (!k->is_input_path) continue;
        const bool in_data = strncmp(k->path, "data.", 5) == 0 && strcmp(k->path, "data.folder") != 0;
        const char *data_folder = in_data && s->data.folder[0] ? s->data.folder : NULL;
        for (int peer = 0; peer < (config_key_is_peer(k) ? s->n_peers : 1); peer++) {
            void *place = config_key_place(k, s, peer);
            const struct config_origin *o = &r->origins[key][peer];
            if (k->type == CONFIG_STRING) TRY(make_absolute(o, data_folder, place));
            struct string_list *list = place;
            for (int i = 0; k->type == CONFIG_STRINGS && i < list->n; i++)
                TRY(make_absolute(o, data_folder, &list->items[i]));
        }
    }
    return STATUS_OK;
}

status_t config_complete(struct config_reading *r) {
    check_required(r);
    check_names(r);
    check_stages(r);
    complete_models(r);
    return r->faults.n == 0 ? complete_paths(r) : STATUS_OK;
}
