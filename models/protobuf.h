/* Protocol buffers' wire format, as far as ONNX and TensorBoard files need it: a growing buffer of tagged
 * fields. Running out of memory is kept in `failed` and asked once at the end. */
#ifndef MODELS_PROTOBUF_H
#define MODELS_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct protobuf {
    uint8_t *bytes; /* owned; protobuf_free() */
    size_t n, capacity;
    bool failed;
};

void protobuf_free(struct protobuf *p);
void protobuf_varint(struct protobuf *p, uint32_t field, uint64_t value); /* int32, int64, enum */
void protobuf_float(struct protobuf *p, uint32_t field, float value);
void protobuf_double(struct protobuf *p, uint32_t field, double value);
void protobuf_bytes(struct protobuf *p, uint32_t field, const void *bytes, size_t n_bytes);

/* The tag and length of a bytes field whose n_bytes follow elsewhere. */
void protobuf_header(struct protobuf *p, uint32_t field, size_t n_bytes);

static inline void protobuf_string(struct protobuf *p, uint32_t field, const char *text) {
    protobuf_bytes(p, field, text, strlen(text));
}

/* Put a message into a field and free it. */
void protobuf_message(struct protobuf *p, uint32_t field, struct protobuf *message);

#endif
