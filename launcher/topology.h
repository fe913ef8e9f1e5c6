/* What this process may run on: cores, NUMA nodes, GPUs; threads a rank. */
#ifndef LAUNCHER_TOPOLOGY_H
#define LAUNCHER_TOPOLOGY_H

#include "common/status.h"

#include <stdio.h>

struct topology {
    int n_cores;      /* cores (not hardware threads) this process may use */
    int n_host_cores; /* cores of the whole host, as far as the container shows it */
    char cores[48];   /* "0-3,8" */
    char numa[24];    /* "0" or "0-1"; "-" where there is none */
};

/* Ask hwloc. Not collective; some tens of milliseconds. */
status_t topology_find(struct topology *out);

/* Threads for this rank: OMP_NUM_THREADS where it is set, else its cores divided by the ranks that share
 * them, at least 1. */
int topology_threads(const struct topology *topology, int n_local_ranks);

/* Make OpenMP use n threads and OpenBLAS one (its threads are a pool of their own, beside OpenMP's). */
void topology_set_threads(int n_threads);

/* GPUs this process may use, from CUDA_VISIBLE_DEVICES and /dev/nvidia*, without any CUDA library. */
int topology_n_gpus(void);

#endif
