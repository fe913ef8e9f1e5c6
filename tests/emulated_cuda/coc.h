/* What the stand-ins for other libraries call of cudart_cpu.cpp. C and C++. */
#ifndef TESTS_EMULATED_CUDA_COC_H
#define TESTS_EMULATED_CUDA_COC_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

uint64_t coc_random(void); /* drawn from COC_SEED */

/* Put work on a stream that is done when `poll` returns 1. It is called again and again, never inside itself;
 * it must not block and calls nothing of cudart_cpu.cpp but coc_random() and, before it touches device
 * memory, coc_open_memory(). `job` belongs to the caller. */
cudaError_t coc_submit_poll(cudaStream_t stream, void *job, int (*poll)(void *job));
void coc_open_memory(void);

void coc_progress(void); /* a little of what lies on the streams runs, as in a query */

#ifdef __cplusplus
}
#endif
#endif
