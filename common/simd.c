#include "common/simd.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"base", "avx2", "avx512", "avx512bf16"};

static enum simd_isa detect(void) {
    enum simd_isa best = SIMD_BASE;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        best = SIMD_AVX2;
    if (best == SIMD_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd"))
        best = SIMD_AVX512;
    if (best == SIMD_AVX512 && __builtin_cpu_supports("avx512bf16")) best = SIMD_AVX512BF16;
#endif
    const char *wanted = getenv("MARRS_ISA");
    for (enum simd_isa isa = SIMD_BASE; wanted && isa < best; isa++)
        if (strcmp(wanted, names[isa]) == 0) best = isa;
    return best;
}

enum simd_isa simd_isa(void) {
    static atomic_int known = -1;
    int isa = atomic_load_explicit(&known, memory_order_relaxed);
    if (isa < 0) {
        isa = (int)detect(); /* two threads may both come here and store the same value */
        atomic_store_explicit(&known, isa, memory_order_relaxed);
    }
    return (enum simd_isa)isa;
}

const char *simd_isa_name(enum simd_isa isa) {
    return names[isa];
}
