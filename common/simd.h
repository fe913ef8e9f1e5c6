/* One source, several instruction sets.
 *
 * A file named NAME.simd.c is compiled once for every set in SIMD_ISAS of the Makefile, each time with
 * SIMD_ISA defined to the set's name and the compiler flags of that set. It writes plain loops (#pragma omp
 * simd where that helps) or GCC vector extensions, and names its external functions with SIMD_NAME(). A
 * header declares all of them with SIMD_DECLARE(), and the caller picks one at run time with SIMD_PICK().
 *
 *     // scale.simd.c                                  // scale.h
 *     void SIMD_NAME(scale)(float *x, int64_t n)       SIMD_DECLARE(void, scale, (float *x, int64_t n));
 *     { ... }                                          // caller: SIMD_PICK(scale)(x, n);
 *
 * On processors other than x86-64 only `base` exists. */
#ifndef COMMON_SIMD_H
#define COMMON_SIMD_H

enum simd_isa { SIMD_BASE, SIMD_AVX2, SIMD_AVX512, SIMD_AVX512BF16 };

/* The best set that this processor and operating system have; MARRS_ISA=base|avx2|avx512|avx512bf16 lowers it
 * (an unknown or higher value is ignored). Decided once; thread-safe. */
enum simd_isa simd_isa(void);
const char *simd_isa_name(enum simd_isa isa);

#define SIMD_PASTE_(a, b) a##_##b
#define SIMD_PASTE(a, b)  SIMD_PASTE_(a, b)
#define SIMD_NAME(name)   SIMD_PASTE(name, SIMD_ISA)

#if defined(__x86_64__)
#define SIMD_DECLARE(type, name, arguments)                                                                  \
    type name##_base arguments;                                                                              \
    type name##_avx2 arguments;                                                                              \
    type name##_avx512 arguments;                                                                            \
    type name##_avx512bf16 arguments
#define SIMD_PICK(name)                                                                                      \
    (simd_isa() == SIMD_AVX512BF16 ? name##_avx512bf16                                                       \
     : simd_isa() == SIMD_AVX512   ? name##_avx512                                                           \
     : simd_isa() == SIMD_AVX2     ? name##_avx2                                                             \
                                   : name##_base)
#else
#define SIMD_DECLARE(type, name, arguments) type name##_base arguments
#define SIMD_PICK(name)                     name##_base
#endif

#endif
