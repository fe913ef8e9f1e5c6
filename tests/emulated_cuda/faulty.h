/* Kernels with planted faults, and harmless ones to build faulty orders of streams with: for tests of the
 * emulation. */
#ifndef TESTS_EMULATED_CUDA_FAULTY_H
#define TESTS_EMULATED_CUDA_FAULTY_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From the stand-in: from now on draw orders from this seed. */
void coc_seed(uint64_t seed);

/* out[i] = in[(i + 33) % n], n <= 256, through shared memory without a barrier. */
void faulty_no_barrier(float *out, const float *in, int n, cudaStream_t stream);
/* Threads 0..39 of 64 wait at a barrier that the others never reach. */
void faulty_divergent_barrier(float *out, cudaStream_t stream);
/* A sum over a warp in which lane 5 takes no part. */
void faulty_lane_missing(float *out, cudaStream_t stream);
/* Asynchronous copies to shared memory, read before they were waited for; n = 256 floats. */
void faulty_copy_not_awaited(float *out, const float *in, cudaStream_t stream);

void launch_fill(float *out, float value, int n, cudaStream_t stream);
void launch_add_one(float *out, const float *in, int n, cudaStream_t stream); /* out = in + 1 */
void launch_nothing(int n_blocks, cudaStream_t stream);                       /* 0: a bad launch */

#ifdef __cplusplus
}
#endif
#endif
