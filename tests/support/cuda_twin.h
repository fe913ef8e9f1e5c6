/* The GPU plugin's twin on the CPU, where it was built. */
#ifndef TESTS_SUPPORT_CUDA_TWIN_H
#define TESTS_SUPPORT_CUDA_TWIN_H

#include "launcher/cuda_plugin.h"

/* NULL: not built here (CUDA=0, or no toolkit). */
const struct cuda_plugin *cuda_twin(void);

/* From here on the twin draws the order of streams, blocks, warps and lanes from seed COC_SEED + n (COC_SEED
 * is 1 where the environment does not say). The plugin must have been opened. */
enum { TWIN_SEEDS = 3 };
void cuda_twin_seed(int n);

#endif
