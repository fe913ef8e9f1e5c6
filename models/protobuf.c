#include "models/protobuf.h"

#include <stdlib.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void append(struct protobuf *p, const void *bytes, size_t n_bytes) {
    if (p->failed) return;
    if (p->n + n_bytes > p->capacity) {
        size_t capacity = p->capacity ? p->capacity : 256;
        while (capacity < p->n + n_bytes) capacity *= 2;
        uint8_t *grown = realloc(p->bytes, capacity);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->bytes = grown;
        p->capacity = capacity;
    }
    if (n_bytes) memcpy(p->bytes + p->n, bytes, n_bytes);
    p->n += n_bytes;
}

static void append_varint(struct protobuf *p, uint64_t value) {
    uint8_t bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
        value >>= 7;
    } while (value);
    append(p, bytes, n);
}

void protobuf_free(struct protobuf *p) {
    free(p->bytes);
    *p = (struct protobuf){0};
}

void protobuf_varint(struct protobuf *p, uint32_t field, uint64_t value) {
    append_varint(p, (uint64_t)field << 3 | WIRE_VARINT);
    append_varint(p, value);
}

void protobuf_float(struct protobuf *p, uint32_t field, float value) {
    append_varint(p, (uint64_t)field << 3 | WIRE_32);
    append(p, &value, sizeof value); /* little-endian, as the host (models/safetensors.c asserts it) */
}

void protobuf_double(struct protobuf *p, uint32_t field, double value) {
    append_varint(p, (uint64_t)field << 3 | WIRE_64);
    append(p, &value, sizeof value);
}

void protobuf_header(struct protobuf *p, uint32_t field, size_t n_bytes) {
    append_varint(p, (uint64_t)field << 3 | WIRE_BYTES);
    append_varint(p, n_bytes);
}

void protobuf_bytes(struct protobuf *p, uint32_t field, const void *bytes, size_t n_bytes) {
    protobuf_header(p, field, n_bytes);
    append(p, bytes, n_bytes);
}

void protobuf_message(struct protobuf *p, uint32_t field, struct protobuf *message) {
    if (message->failed)
        p->failed = true;
    else
        protobuf_bytes(p, field, message->bytes, message->n);
    protobuf_free(message);
}
