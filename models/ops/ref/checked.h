/* A table that checks every call and forwards it to another table. Used by tests only.
 *
 * Before a call: every pointer lies in one allocation of this backend with enough bytes behind it, is aligned
 * for its type, and no output overlaps an input or another output unless ops.h allows it; "=" outputs are
 * filled with NaN (integers: an impossible value), "+=" ones are left alone; the scratch is filled with NaN
 * and followed by a red zone. After it: inputs are unchanged, the red zone is whole, and where all inputs
 * were finite no output holds a NaN. The first breach returns STATUS_INTERNAL and names the operation and the
 * operand.
 *
 * X_scratch says more bytes than the inner table does: room for the red zone. */
#ifndef MODELS_OPS_REF_CHECKED_H
#define MODELS_OPS_REF_CHECKED_H

#include "models/ops/ops.h"

extern const struct ops ops_checked;

/* `inner` and `inner_be` are borrowed and must outlive the backend. */
status_t checked_backend_open(const struct ops *inner, struct backend *inner_be, struct backend **out);

/* STATUS_INTERNAL: memory was still allocated, or something wrote behind the end of an allocation. NULL is
 * fine. */
status_t checked_backend_close(struct backend *be);

#endif
