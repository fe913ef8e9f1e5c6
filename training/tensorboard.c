#include "training/tensorboard.h"

#include "common/crc32c.h"
#include "common/file.h"
#include "models/protobuf.h"
#include "training/metrics_value.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Field numbers of tensorflow's event.proto and summary.proto. */
enum { EVENT_TIME = 1, EVENT_STEP = 2, EVENT_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION = 7 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_NUMBER = 2, SESSION_STATUS = 1, SESSION_START = 1 };

struct tensorboard {
    int fd;
    uint64_t position;
    char *path;
};

/* TFRecord: length, its checksum, the bytes, their checksum; all little-endian, as the host. */
static status_t append(struct tensorboard *t, struct protobuf *event) {
    enum { HEAD = 12, TAIL = 4 };
    const uint64_t n = event->n;
    status_t status;
    uint8_t *frame = event->failed ? NULL : malloc(event->n + HEAD + TAIL);
    CHECK_TO(done, frame, STATUS_NO_MEMORY, "out of memory for a record of %s", t->path);
    memcpy(frame, &n, sizeof n);
    const uint32_t head = crc32c_masked(frame, sizeof n), tail = crc32c_masked(event->bytes, event->n);
    memcpy(frame + sizeof n, &head, sizeof head);
    memcpy(frame + HEAD, event->bytes, event->n);
    memcpy(frame + HEAD + event->n, &tail, sizeof tail);
    TRY_TO(done, file_pwrite_all(t->fd, frame, event->n + HEAD + TAIL, t->position, t->path));
    t->position += event->n + HEAD + TAIL;
done:
    free(frame);
    protobuf_free(event);
    return status;
}

/* The name must sort behind those of earlier starts, and two starts may fall into one second. */
static status_t create(const char *folder, struct tensorboard *t) {
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    const long long now_s = (long long)metrics_now_s();
    for (int again = 0; again < 100; again++) {
        char suffix[16] = "", *name = NULL;
        if (again > 0) snprintf(suffix, sizeof suffix, ".%02d", again);
        if (asprintf(&name, "events.out.tfevents.%010lld.%s%s", now_s, host, suffix) < 0) name = NULL;
        free(t->path);
        t->path = name ? file_join(folder, name) : NULL;
        free(name);
        CHECK(t->path, STATUS_NO_MEMORY, "out of memory for a path");
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (t->fd >= 0) return STATUS_OK;
        CHECK(errno == EEXIST, STATUS_CANT_CREATE, "cannot create %s: %s", t->path, strerror(errno));
    }
    return FAIL(STATUS_CANT_CREATE, "%s and 99 more of that second exist", t->path);
}

status_t tensorboard_open(const char *folder, struct tensorboard **out) {
    struct tensorboard *t = calloc(1, sizeof *t);
    CHECK(t, STATUS_NO_MEMORY, "out of memory for TensorBoard's file");
    t->fd = -1;
    status_t status;
    TRY_TO(fail, create(folder, t));
    struct protobuf version = {0}, start = {0}, session = {0};
    protobuf_double(&version, EVENT_TIME, metrics_now_s());
    protobuf_string(&version, EVENT_VERSION, "brain.Event:2");
    TRY_TO(fail, append(t, &version));
    protobuf_double(&start, EVENT_TIME, metrics_now_s());
    protobuf_varint(&session, SESSION_STATUS, SESSION_START);
    protobuf_message(&start, EVENT_SESSION, &session);
    TRY_TO(fail, append(t, &start));
    *out = t;
    return STATUS_OK;
fail:
    tensorboard_close(t);
    return status;
}

void tensorboard_close(struct tensorboard *t) {
    if (!t) return;
    if (t->fd >= 0) close(t->fd);
    free(t->path);
    free(t);
}

struct summary {
    struct protobuf values;
    const char *stage;
};

static void add_value(void *context, const struct metrics_value *v) {
    struct summary *s = context;
    char tag[768], index[24] = "";
    if (v->index >= 0) snprintf(index, sizeof index, "/%lld", (long long)v->index);
    snprintf(tag, sizeof tag, "%.60s/%.300s%s%.300s%s", s->stage, v->group, v->group[0] ? "/" : "", v->name,
             index);
    struct protobuf value = {0};
    protobuf_string(&value, VALUE_TAG, tag);
    protobuf_float(&value, VALUE_NUMBER, (float)v->value);
    protobuf_message(&s->values, SUMMARY_VALUE, &value);
}

status_t tensorboard_add(struct tensorboard *t, json_t *record) {
    const char *stage = json_string_value(json_object_get(record, "stage"));
    struct summary s = {.stage = stage ? stage : "run"};
    struct protobuf event = {0};
    metrics_visit(record, add_value, &s);
    protobuf_double(&event, EVENT_TIME, metrics_time_s(record));
    protobuf_varint(&event, EVENT_STEP, (uint64_t)json_integer_value(json_object_get(record, "step")));
    protobuf_message(&event, EVENT_SUMMARY, &s.values);
    return append(t, &event);
}
