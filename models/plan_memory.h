/* Memory plan: places for tensors in one arena, so that no two that live at the same time overlap.
 *
 * Greedy by size: the largest tensor first, each into the smallest gap that it fits among the tensors already
 * placed whose lifetimes meet its own (Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net
 * Inference", 2020). Internal to models/. */
#ifndef MODELS_PLAN_MEMORY_H
#define MODELS_PLAN_MEMORY_H

#include "common/status.h"

#include <stddef.h>
#include <stdint.h>

enum { TENSOR_ALIGNMENT = 256 }; /* bytes */

struct tensor {
    size_t n_bytes;
    int32_t begin, end; /* first and last step that touches it; begin > end: nobody does, it gets no place */
    int32_t root;       /* the tensor whose place it shares (its own index: none) */
    size_t offset;      /* = */
};

/* Give every tensor its offset; *n_bytes_out: length of the arena. STATUS_NO_MEMORY for the lists. */
status_t plan_memory(struct tensor *tensors, int32_t n, size_t *n_bytes_out);

#endif
