// tests/comm/buckets.c over the memory of an emulated GPU: NCCL's stand-in, streams that run late.
// CASES np=1,2,5
#include "tests/support/device_comm.h"
#include "tests/comm/buckets.c"
