/* What peers send each other for one unlabelled image. */
#ifndef COMMON_PSEUDO_LABEL_H
#define COMMON_PSEUDO_LABEL_H

#include <assert.h>
#include <stdint.h>

struct pseudo_label {
    int32_t label;    /* argmax of the peer's softmax, ties: lowest class; -1: none, the row takes no part */
    float confidence; /* its probability */
};

static_assert(sizeof(struct pseudo_label) == 8, "the exchange sends 8 bytes an image");

#endif
