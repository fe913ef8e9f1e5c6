/* What ops_checked knows of one call: its operands, checked before and after the inner table's call. */
#ifndef MODELS_OPS_REF_CHECKED_CALL_H
#define MODELS_OPS_REF_CHECKED_CALL_H

#include "models/ops/ops.h"

enum operand_type { OPERAND_F32, OPERAND_BF16, OPERAND_F64, OPERAND_I32, OPERAND_U8, OPERAND_BYTES };
enum operand_role { ROLE_IN, ROLE_OUT, ROLE_ADD, ROLE_SCRATCH }; /* read · "=" · "+=" · scratch */

struct operand {
    const char *name;
    const void *p;
    size_t n_bytes;
    enum operand_type type;
    enum operand_role role;
    bool may_alias; /* operands of a call with this flag may be the same memory */
    void *before;   /* host copy of an input */
};

enum { MAX_OPERANDS = 24, RED_ZONE_BYTES = 256 };

struct call {
    const char *operation;
    struct operand operands[MAX_OPERANDS];
    int32_t n;
};

struct allocation {
    char *p;
    size_t n_bytes;
};

struct backend {
    const struct ops *inner;
    struct backend *inner_be;
    struct allocation *allocations;
    size_t n_allocations, capacity;
    status_t broken; /* a red zone behind an allocation was found written when it was released */
};

static inline enum operand_type operand_type(enum dtype dtype) {
    return dtype == DTYPE_F32 ? OPERAND_F32 : OPERAND_BF16;
}

/* Append an operand of n elements. NULL pointers of optional operands are left out with call_optional(). */
struct operand *call_operand(struct call *call, enum operand_role role, const char *name,
                             enum operand_type type, const void *p, int64_t n);
struct operand *call_optional(struct call *call, enum operand_role role, const char *name,
                              enum operand_type type, const void *p, int64_t n);

/* n_bytes as the inner table says; the red zone lies behind them. */
void call_scratch(struct call *call, void *scratch, size_t n_bytes);

/* Check and fill before the inner call; then verify after it. Release the call's memory in either case: end()
 * does, and begin() when it fails. `status` is what the inner call returned. */
status_t call_begin(struct backend *be, struct call *call);
status_t call_end(struct backend *be, struct call *call, status_t status);

/* Does [p, p + n_bytes) lie in one allocation? */
bool in_allocation(const struct backend *be, const void *p, size_t n_bytes);

/* Memory slots. */
status_t checked_alloc(struct backend *be, size_t n_bytes, void **out);
void checked_release(struct backend *be, void *p);
status_t checked_copy_in(struct backend *be, void *dst, const void *host, size_t n_bytes);
status_t checked_copy_out(struct backend *be, void *host, const void *src, size_t n_bytes);
status_t checked_copy(struct backend *be, void *dst, const void *src, size_t n_bytes);
status_t checked_fill_zero(struct backend *be, void *dst, size_t n_bytes);
status_t checked_synchronise(struct backend *be);

#endif
