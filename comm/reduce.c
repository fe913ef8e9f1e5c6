#include "comm/reduce.h"

#include <string.h>

#define BLOCK 2048 /* elements added at a time: the accumulator stays in the first cache */

static float bf16_to_f32(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t bf16_from_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40); /* stays not a number */
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#define SAME(x) (x)

/* sum[i] = expression of a = sum[i] and b = x[i] */
#define ACCUMULATE(LOAD, expression)                                                                         \
    for (int64_t i = 0; i < n; i++) {                                                                        \
        const wide_t a = sum[i], b = LOAD(x[i]);                                                             \
        sum[i] = (wide_t)(expression);                                                                       \
    }

/* One function a type, for a block: T in memory, WIDE while it is reduced. */
#define DEFINE(name, T, WIDE, LOAD, STORE)                                                                   \
    static void name(void *out, const void *const *inputs, int n_inputs, int64_t begin, int64_t n,           \
                     enum comm_op op) {                                                                      \
        typedef WIDE wide_t;                                                                                 \
        wide_t sum[BLOCK];                                                                                   \
        const T *first = inputs[0];                                                                          \
        for (int64_t i = 0; i < n; i++) sum[i] = LOAD(first[begin + i]);                                     \
        for (int k = 1; k < n_inputs; k++) {                                                                 \
            const T *x = inputs[k];                                                                          \
            x += begin;                                                                                      \
            if (op == COMM_SUM) ACCUMULATE(LOAD, a + b)                                                      \
            if (op == COMM_MAX) ACCUMULATE(LOAD, a < b ? b : a)                                              \
            if (op == COMM_MIN) ACCUMULATE(LOAD, b < a ? b : a)                                              \
        }                                                                                                    \
        T *to = out;                                                                                         \
        for (int64_t i = 0; i < n; i++) to[begin + i] = STORE(sum[i]);                                       \
    }

DEFINE(reduce_u8, uint8_t, uint8_t, SAME, SAME)
DEFINE(reduce_i32, int32_t, int64_t, SAME, (int32_t))
DEFINE(reduce_i64, int64_t, int64_t, SAME, SAME)
DEFINE(reduce_u64, uint64_t, uint64_t, SAME, SAME)
DEFINE(reduce_f32, float, float, SAME, SAME)
DEFINE(reduce_f64, double, double, SAME, SAME)
DEFINE(reduce_bf16, uint16_t, float, bf16_to_f32, bf16_from_f32)

void reduce_in_order(void *out, const void *const *inputs, int n_inputs, int64_t n_elem, enum comm_type type,
                     enum comm_op op) {
    static void (*const by_type[])(void *, const void *const *, int, int64_t, int64_t, enum comm_op) = {
        [COMM_U8] = reduce_u8,   [COMM_I32] = reduce_i32, [COMM_I64] = reduce_i64,  [COMM_U64] = reduce_u64,
        [COMM_F32] = reduce_f32, [COMM_F64] = reduce_f64, [COMM_BF16] = reduce_bf16};
    for (int64_t begin = 0; begin < n_elem; begin += BLOCK)
        by_type[type](out, inputs, n_inputs, begin, n_elem - begin < BLOCK ? n_elem - begin : BLOCK, op);
}
