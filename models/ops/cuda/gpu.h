/* The one header that all .cu files include: the same source for nvcc and for the CPU.
 *
 * Under nvcc it is plain CUDA. Under g++ (`g++ -x c++ file.cu`, tests/emulated_cuda on the include path) the
 * kernels run on the CPU, thread by thread, for tests. A .cu file keeps to these names:
 *
 *   LAUNCH(kernel, grid, block, smem_bytes, stream, args...)   instead of kernel<<<...>>>(args)
 *   SHARED(type, name, [n][m]);                                instead of __shared__ type name[n][m];
 *   DYN_SHARED(type, name);                                    instead of extern __shared__ type name[];
 *   mma_bf16_16816, ldmatrix_x4(_trans), cp_async16/commit/wait instead of inline PTX
 *
 * Rules: warp operations name the lanes that execute them; no waiting across the blocks of one launch; a
 * template kernel with commas is put in parentheses: LAUNCH((k<4, 8>), ...). */
#ifndef MODELS_OPS_CUDA_GPU_H
#define MODELS_OPS_CUDA_GPU_H
#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, smem, stream, ...)                                                       \
    kernel<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)
#define SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define DYN_SHARED(type, name)                                                                               \
    extern __shared__ __align__(16) unsigned char gpu_dyn_smem[];                                            \
    type *name = reinterpret_cast<type *>(gpu_dyn_smem)

/* D(16x8, fp32) += A(16x16, bf16, row major) * B(16x8, bf16, column major), one warp. */
__device__ __forceinline__ void mma_bf16_16816(float (&d)[4], const unsigned (&a)[4],
                                               const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit elements from shared memory; lane i gives the address of row i%8 of matrix i/8.
 */
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void *row) {
    unsigned p = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(p)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void *row) {
    unsigned p = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(p)
                 : "memory");
}

/* 16 bytes from global to shared memory, asynchronously. */
__device__ __forceinline__ void cp_async16(void *shared, const void *global) {
    unsigned p = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(p), "l"(global) : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;");
}
template <int N> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else
#include <cuda_on_cpu.h>
#endif
#endif
