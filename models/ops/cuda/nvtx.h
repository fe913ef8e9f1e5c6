/* Named ranges for Nsight Systems (NVTX 3, headers only): a few nanoseconds where no profiler is attached. */
#ifndef MODELS_OPS_CUDA_NVTX_H
#define MODELS_OPS_CUDA_NVTX_H

#include "common/status.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define range_begin(name) ((void)nvtxRangePushA(name))
#define range_end()       ((void)nvtxRangePop())
#else
#define range_begin(name) ((void)0)
#define range_end()       ((void)0)
#endif

/* The call's status, with a range of this name around what it enqueues. */
#define RANGE(name, call)                                                                                    \
    do {                                                                                                     \
        range_begin(name);                                                                                   \
        const status_t range_status_ = (call);                                                               \
        range_end();                                                                                         \
        return range_status_;                                                                                \
    } while (0)

#endif
