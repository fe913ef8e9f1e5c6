/* The GPU plugin's twin on the CPU, where it was built. */
#ifndef TESTS_SUPPORT_CUDA_TWIN_H
#define TESTS_SUPPORT_CUDA_TWIN_H

#include "launcher/cuda_plugin.h"

/* NULL: not built here (CUDA=0, or no toolkit). */
const struct cuda_plugin *cuda_twin(void);

#endif
