/* A few threads for one loop over independent items; the caller's thread is one of them. */
#ifndef DATA_SHARDS_CREW_H
#define DATA_SHARDS_CREW_H

#include "common/status.h"

#include <stdint.h>

/* Call work(context, i, thread) for every i in [0, n), each once, in about ascending order, on n_threads
 * threads (thread 0 .. n_threads - 1; 0 is the caller's). Returns the failure of the lowest i that failed;
 * the items behind a failure may be left out. */
status_t crew_run(int n_threads, int64_t n, status_t (*work)(void *context, int64_t i, int thread),
                  void *context);

#endif
