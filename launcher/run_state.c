#include "launcher/run_state.h"

#include "common/file.h"
#include "common/log.h"
#include "training/metrics_value.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const kinds[] = {"running", "finished", "stopped", "failed"};

struct run_state run_state_begin(const char *host, int n_ranks) {
    struct run_state state = {
        .kind = RUN_RUNNING, .pid = (long)getpid(), .n_ranks = n_ranks, .started_s = metrics_now_s()};
    snprintf(state.host, sizeof state.host, "%s", host);
    return state;
}

void run_state_end(struct run_state *state, status_t status) {
    state->kind = status == STATUS_OK ? RUN_FINISHED : status == STATUS_STOPPED ? RUN_STOPPED : RUN_FAILED;
    state->ended_s = metrics_now_s();
    if (status != STATUS_OK) snprintf(state->message, sizeof state->message, "%s", status_message());
}

static char *text_of(const struct run_state *state) {
    json_t *root = json_pack("{s:s, s:s, s:I, s:i, s:I}", "state", kinds[state->kind], "host", state->host,
                             "pid", (json_int_t)state->pid, "ranks", state->n_ranks, "started_ms",
                             (json_int_t)(1e3 * state->started_s));
    if (state->ended_s > 0)
        json_object_set_new(root, "ended_ms", json_integer((json_int_t)(1e3 * state->ended_s)));
    if (state->message[0])
        json_object_set_new(root, "message", json_string(state->message)); /* left out where no UTF-8 */
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

void run_state_write(const char *run_folder, const struct run_state *state) {
    char *path = file_join(run_folder, "state.json"), *text = text_of(state),
         *kept = strdup(status_message());
    if (!path || !text || !kept) {
        log_global(LOG_WARNING, "out of memory for state.json");
    } else if (file_write_atomic(path, text, strlen(text)) != STATUS_OK) {
        log_global(LOG_WARNING, "%s", status_message());
        if (kept[0]) status_fail(STATUS_OK, __FILE__, __LINE__, "%s", kept);
    }
    free(path);
    free(text);
    free(kept);
}

static void take_text(const json_t *root, const char *name, char *out, size_t capacity) {
    const char *text = json_string_value(json_object_get(root, name));
    snprintf(out, capacity, "%s", text ? text : "");
}

bool run_state_read(const char *run_folder, struct run_state *out) {
    struct run_state state = {.kind = RUN_RUNNING};
    char *path = file_join(run_folder, "state.json");
    json_t *root = path ? json_load_file(path, 0, NULL) : NULL;
    free(path);
    char kind[16];
    bool known = false;
    take_text(root, "state", kind, sizeof kind);
    for (int k = 0; k < (int)(sizeof kinds / sizeof *kinds); k++) {
        if (strcmp(kind, kinds[k]) != 0) continue;
        state.kind = (enum run_state_kind)k;
        known = true;
    }
    take_text(root, "host", state.host, sizeof state.host);
    take_text(root, "message", state.message, sizeof state.message);
    state.pid = (long)json_integer_value(json_object_get(root, "pid"));
    state.n_ranks = (int)json_integer_value(json_object_get(root, "ranks"));
    state.started_s = 1e-3 * json_number_value(json_object_get(root, "started_ms"));
    state.ended_s = 1e-3 * json_number_value(json_object_get(root, "ended_ms"));
    json_decref(root);
    if (known) *out = state;
    return known;
}
