#include "models/ops/ref/checked_call.h"

#include "common/memory.h"
#include "models/ops/bf16.h"
#include "models/ops/ref/checked.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RED_BYTE = 0xA5 };

static size_t type_bytes(enum operand_type type) {
    static const size_t bytes[] = {[OPERAND_F32] = 4, [OPERAND_BF16] = 2, [OPERAND_F64] = 8,
                                   [OPERAND_I32] = 4, [OPERAND_U8] = 1,   [OPERAND_BYTES] = 1};
    return bytes[type];
}

struct operand *call_operand(struct call *call, enum operand_role role, const char *name,
                             enum operand_type type, const void *p, int64_t n) {
    struct operand *o = &call->operands[call->n++]; /* MAX_OPERANDS is more than any operation has */
    *o = (struct operand){
        .name = name, .p = p, .n_bytes = (size_t)n * type_bytes(type), .type = type, .role = role};
    return o;
}

struct operand *call_optional(struct call *call, enum operand_role role, const char *name,
                              enum operand_type type, const void *p, int64_t n) {
    return call_operand(call, role, name, type, p, p ? n : 0);
}

void call_scratch(struct call *call, void *scratch, size_t n_bytes) {
    call_operand(call, ROLE_SCRATCH, "scratch", OPERAND_BYTES, scratch, (int64_t)n_bytes + RED_ZONE_BYTES);
}

bool in_allocation(const struct backend *be, const void *p, size_t n_bytes) {
    const uintptr_t at = (uintptr_t)p;
    for (size_t i = 0; i < be->n_allocations; i++) {
        const uintptr_t begin = (uintptr_t)be->allocations[i].p;
        if (at >= begin && at - begin <= be->allocations[i].n_bytes)
            if (n_bytes <= be->allocations[i].n_bytes - (at - begin)) return true;
    }
    return n_bytes == 0;
}

static bool overlap(const struct operand *a, const struct operand *b) {
    const uintptr_t pa = (uintptr_t)a->p, pb = (uintptr_t)b->p;
    return a->n_bytes > 0 && b->n_bytes > 0 && pa < pb + b->n_bytes && pb < pa + a->n_bytes;
}

/* The same memory from start to end, and both allowed to be it. */
static bool allowed_alias(const struct operand *a, const struct operand *b) {
    return a->may_alias && b->may_alias && a->p == b->p && a->n_bytes == b->n_bytes;
}

static bool is_aliased(const struct call *call, const struct operand *o) {
    for (int32_t i = 0; i < call->n; i++)
        if (&call->operands[i] != o && call->operands[i].role != ROLE_IN && overlap(o, &call->operands[i]))
            return true;
    return false;
}

static status_t check_pointers(const struct backend *be, const struct call *call) {
    for (int32_t i = 0; i < call->n; i++) {
        const struct operand *o = &call->operands[i];
        CHECK(in_allocation(be, o->p, o->n_bytes), STATUS_INTERNAL,
              "%s: %s (%zu bytes at %p) does not lie in one allocation of the backend", call->operation,
              o->name, o->n_bytes, o->p);
        const size_t alignment = o->role == ROLE_SCRATCH ? MEMORY_ALIGNMENT : type_bytes(o->type);
        CHECK(o->n_bytes == 0 || (uintptr_t)o->p % alignment == 0, STATUS_INTERNAL,
              "%s: %s is not aligned to %zu bytes", call->operation, o->name, alignment);
        for (int32_t j = 0; j < i; j++) {
            const struct operand *other = &call->operands[j];
            const bool harmless = (o->role == ROLE_IN && other->role == ROLE_IN) || allowed_alias(o, other);
            CHECK(harmless || !overlap(o, other), STATUS_INTERNAL, "%s: %s overlaps %s", call->operation,
                  o->name, other->name);
        }
    }
    return STATUS_OK;
}

/* Bytes that stand for "not written": NaN in every real type, an impossible mask, a label that no one has. */
static void fill_poison(const struct operand *o, unsigned char *bytes) {
    memset(bytes, 0xFF, o->n_bytes);
    if (o->role == ROLE_SCRATCH) memset(bytes + o->n_bytes - RED_ZONE_BYTES, RED_BYTE, RED_ZONE_BYTES);
    if (o->type == OPERAND_I32)
        for (size_t i = 0; i < o->n_bytes / 4; i++) ((int32_t *)(void *)bytes)[i] = INT_MIN;
}

/* Host copy of an operand as it is now. */
static status_t host_copy(struct backend *be, const struct operand *o, void **out) {
    void *bytes = memory_aligned(o->n_bytes);
    CHECK(bytes, STATUS_NO_MEMORY, "no memory to check %s", o->name);
    const status_t status = be->inner->copy_out(be->inner_be, bytes, o->p, o->n_bytes);
    if (status == STATUS_OK)
        *out = bytes;
    else
        free(bytes);
    return status;
}

static status_t poison(struct backend *be, const struct operand *o) {
    unsigned char *bytes = memory_aligned(o->n_bytes);
    CHECK(bytes, STATUS_NO_MEMORY, "no memory to check %s", o->name);
    fill_poison(o, bytes);
    const status_t status = be->inner->copy_in(be->inner_be, (void *)(uintptr_t)o->p, bytes, o->n_bytes);
    free(bytes);
    return status;
}

static void call_free(struct call *call) {
    for (int32_t i = 0; i < call->n; i++) {
        free(call->operands[i].before);
        call->operands[i].before = NULL;
    }
}

status_t call_begin(struct backend *be, struct call *call) {
    TRY(be->broken);
    TRY(check_pointers(be, call));
    status_t status = STATUS_OK;
    for (int32_t i = 0; i < call->n; i++) {
        struct operand *o = &call->operands[i];
        if (o->n_bytes > 0 && (o->role == ROLE_IN || o->role == ROLE_ADD))
            TRY_TO(failed, host_copy(be, o, &o->before));
    }
    for (int32_t i = 0; i < call->n; i++) {
        const struct operand *o = &call->operands[i];
        /* An output that is an input too cannot be filled. */
        bool also_input = false;
        for (int32_t j = 0; j < call->n; j++)
            also_input |= call->operands[j].role == ROLE_IN && overlap(o, &call->operands[j]);
        if (o->n_bytes > 0 && (o->role == ROLE_SCRATCH || (o->role == ROLE_OUT && !also_input)))
            TRY_TO(failed, poison(be, o));
    }
    return STATUS_OK;
failed:
    call_free(call);
    return status;
}

/* Index of the first element that is not finite (or, with only_nan, NaN, or an impossible integer); -1: none.
 */
static int64_t first_bad(const struct operand *o, const void *bytes, bool only_nan) {
    const int64_t n = (int64_t)(o->n_bytes / type_bytes(o->type));
    for (int64_t i = 0; i < n; i++) {
        double value = 0.0;
        switch (o->type) {
        case OPERAND_F32:
            value = (double)((const float *)bytes)[i];
            break;
        case OPERAND_BF16:
            value = (double)bf16_to_f32(((const uint16_t *)bytes)[i]);
            break;
        case OPERAND_F64:
            value = ((const double *)bytes)[i];
            break;
        case OPERAND_I32:
            value = only_nan && ((const int32_t *)bytes)[i] == INT_MIN ? (double)NAN : 0.0;
            break;
        case OPERAND_U8:
            value = only_nan && ((const uint8_t *)bytes)[i] > 1 ? (double)NAN : 0.0;
            break;
        case OPERAND_BYTES:
            break;
        }
        if (isnan(value) || (!only_nan && isinf(value))) return i;
    }
    return -1;
}

static status_t check_red_zone(const struct call *call, const struct operand *o, const unsigned char *bytes) {
    for (size_t i = o->n_bytes - RED_ZONE_BYTES; i < o->n_bytes; i++)
        CHECK(bytes[i] == RED_BYTE, STATUS_INTERNAL,
              "%s: wrote %zu bytes behind the end of its scratch of %zu bytes", call->operation,
              i - (o->n_bytes - RED_ZONE_BYTES), o->n_bytes - RED_ZONE_BYTES);
    return STATUS_OK;
}

static status_t check_after(const struct call *call, const struct operand *o, const void *now,
                            bool finite_inputs) {
    if (o->role == ROLE_SCRATCH) return check_red_zone(call, o, now);
    if (o->role == ROLE_IN) {
        CHECK(is_aliased(call, o) || memcmp(o->before, now, o->n_bytes) == 0, STATUS_INTERNAL,
              "%s: changed its input %s", call->operation, o->name);
        return STATUS_OK;
    }
    const int64_t at = finite_inputs ? first_bad(o, now, true) : -1;
    CHECK(at < 0, STATUS_INTERNAL, "%s: element %lld of output %s was not written or is NaN", call->operation,
          (long long)at, o->name);
    return STATUS_OK;
}

status_t call_end(struct backend *be, struct call *call, status_t status) {
    if (status != STATUS_OK) goto done;
    bool finite_inputs = true;
    for (int32_t i = 0; i < call->n; i++)
        if (call->operands[i].before)
            finite_inputs &= first_bad(&call->operands[i], call->operands[i].before, false) < 0;
    for (int32_t i = 0; i < call->n; i++) {
        const struct operand *o = &call->operands[i];
        if (o->n_bytes == 0) continue;
        void *now = NULL;
        TRY_TO(done, host_copy(be, o, &now));
        status = check_after(call, o, now, finite_inputs);
        free(now);
        if (status != STATUS_OK) goto done;
    }
done:
    call_free(call);
    return status;
}

/* ---- memory ---- */

status_t checked_backend_open(const struct ops *inner, struct backend *inner_be, struct backend **out) {
    TRY(ops_check(inner));
    struct backend *be = calloc(1, sizeof *be);
    CHECK(be, STATUS_NO_MEMORY, "no memory for a backend");
    be->inner = inner;
    be->inner_be = inner_be;
    *out = be;
    return STATUS_OK;
}

status_t checked_backend_close(struct backend *be) {
    if (!be) return STATUS_OK;
    const status_t broken = be->broken;
    const size_t n_left = be->n_allocations;
    free(be->allocations);
    free(be);
    CHECK(broken == STATUS_OK, broken, "something wrote behind the end of an allocation");
    CHECK(n_left == 0, STATUS_INTERNAL, "%zu allocations were not released", n_left);
    return STATUS_OK;
}

status_t checked_alloc(struct backend *be, size_t n_bytes, void **out) {
    unsigned char red[RED_ZONE_BYTES];
    void *p;
    memset(red, RED_BYTE, sizeof red);
    CHECK(memory_grow(&be->allocations, be->n_allocations, &be->capacity, sizeof *be->allocations),
          STATUS_NO_MEMORY, "no memory for the list of allocations");
    TRY(be->inner->alloc(be->inner_be, n_bytes + RED_ZONE_BYTES, &p));
    be->allocations[be->n_allocations++] = (struct allocation){p, n_bytes};
    const struct operand whole = {.name = "new memory", .p = p, .n_bytes = n_bytes, .role = ROLE_OUT};
    if (n_bytes > 0) TRY(poison(be, &whole));
    TRY(be->inner->copy_in(be->inner_be, (char *)p + n_bytes, red, sizeof red));
    CHECK((uintptr_t)p % 256 == 0, STATUS_INTERNAL, "alloc: not aligned to 256 bytes");
    *out = p;
    return STATUS_OK;
}

void checked_release(struct backend *be, void *p) {
    unsigned char red[RED_ZONE_BYTES];
    for (size_t i = 0; i < be->n_allocations && p; i++) {
        if (be->allocations[i].p != p) continue;
        const size_t n_bytes = be->allocations[i].n_bytes;
        if (be->inner->copy_out(be->inner_be, red, (char *)p + n_bytes, sizeof red) == STATUS_OK)
            for (size_t j = 0; j < sizeof red; j++)
                if (red[j] != RED_BYTE)
                    be->broken =
                        FAIL(STATUS_INTERNAL, "byte %zu behind an allocation of %zu was written", j, n_bytes);
        be->allocations[i] = be->allocations[--be->n_allocations];
        be->inner->release(be->inner_be, p);
        return;
    }
    if (p) be->broken = FAIL(STATUS_INTERNAL, "release of %p, which is no allocation", p);
}

static status_t check_range(const struct backend *be, const char *operation, const void *p, size_t n_bytes) {
    TRY(be->broken);
    CHECK(in_allocation(be, p, n_bytes), STATUS_INTERNAL, "%s: %zu bytes at %p do not lie in one allocation",
          operation, n_bytes, p);
    return STATUS_OK;
}

status_t checked_copy_in(struct backend *be, void *dst, const void *host, size_t n_bytes) {
    TRY(check_range(be, "copy_in", dst, n_bytes));
    return be->inner->copy_in(be->inner_be, dst, host, n_bytes);
}

status_t checked_copy_out(struct backend *be, void *host, const void *src, size_t n_bytes) {
    TRY(check_range(be, "copy_out", src, n_bytes));
    return be->inner->copy_out(be->inner_be, host, src, n_bytes);
}

status_t checked_copy(struct backend *be, void *dst, const void *src, size_t n_bytes) {
    struct call call = {.operation = "copy"};
    call_operand(&call, ROLE_OUT, "dst", OPERAND_BYTES, dst, (int64_t)n_bytes);
    call_operand(&call, ROLE_IN, "src", OPERAND_BYTES, src, (int64_t)n_bytes);
    TRY(call_begin(be, &call));
    return call_end(be, &call, be->inner->copy(be->inner_be, dst, src, n_bytes));
}

status_t checked_fill_zero(struct backend *be, void *dst, size_t n_bytes) {
    TRY(check_range(be, "fill_zero", dst, n_bytes));
    return be->inner->fill_zero(be->inner_be, dst, n_bytes);
}

status_t checked_synchronise(struct backend *be) {
    TRY(be->broken);
    return be->inner->synchronise(be->inner_be);
}
