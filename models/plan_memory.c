/* See plan_memory.h. */
#include "models/plan_memory.h"

#include "common/memory.h"

struct order {
    size_t n_bytes;
    int32_t begin, index;
};

static int larger_first(const void *a, const void *b) {
    const struct order *x = a, *y = b;
    if (x->n_bytes != y->n_bytes) return x->n_bytes > y->n_bytes ? -1 : 1;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static size_t round_up(size_t n_bytes) {
    return (n_bytes + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT * TENSOR_ALIGNMENT;
}

/* The smallest gap of at least n_bytes between the tensors in placed[0..n_placed) (sorted by offset) that
 * live when `t` does; the end of the last of them where no gap fits. */
static size_t best_gap(const struct tensor *tensors, const int32_t *placed, int32_t n_placed,
                       const struct tensor *t, size_t n_bytes) {
    size_t end = 0, best = 0, best_size = SIZE_MAX;
    for (int32_t i = 0; i < n_placed; i++) {
        const struct tensor *other = &tensors[placed[i]];
        if (other->end < t->begin || t->end < other->begin) continue;
        if (other->offset >= end + n_bytes && other->offset - end < best_size) {
            best = end;
            best_size = other->offset - end;
        }
        end = size_max(end, other->offset + round_up(other->n_bytes));
    }
    return best_size == SIZE_MAX ? end : best;
}

status_t plan_memory(struct tensor *tensors, int32_t n, size_t *n_bytes_out) {
    struct order *order = memory_zeroed((size_t)n + 1, sizeof *order);
    int32_t *placed = memory_zeroed((size_t)n + 1, sizeof *placed);
    status_t status = STATUS_OK;
    CHECK_TO(done, order && placed, STATUS_NO_MEMORY, "out of memory for the memory plan");

    int32_t n_order = 0, n_placed = 0;
    size_t n_bytes = 0;
    for (int32_t i = 0; i < n; i++) {
        tensors[i].offset = 0;
        if (tensors[i].root == i && tensors[i].begin <= tensors[i].end && tensors[i].n_bytes > 0)
            order[n_order++] = (struct order){tensors[i].n_bytes, tensors[i].begin, i};
    }
    qsort(order, (size_t)n_order, sizeof *order, larger_first);
    for (int32_t i = 0; i < n_order; i++) {
        struct tensor *t = &tensors[order[i].index];
        t->offset = best_gap(tensors, placed, n_placed, t, round_up(t->n_bytes));
        n_bytes = size_max(n_bytes, t->offset + round_up(t->n_bytes));
        int32_t at = n_placed++;
        for (; at > 0 && tensors[placed[at - 1]].offset > t->offset; at--) placed[at] = placed[at - 1];
        placed[at] = order[i].index;
    }
    for (int32_t i = 0; i < n; i++) tensors[i].offset = tensors[tensors[i].root].offset;
    *n_bytes_out = n_bytes;

done:
    free(order);
    free(placed);
    return status;
}
