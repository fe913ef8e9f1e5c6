// tests/comm/failures.c over the memory of an emulated GPU: NCCL's stand-in, streams that run late.
// LIMIT 120
#include "tests/support/device_comm.h"
#include "tests/comm/failures.c"
