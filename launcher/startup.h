/* What a start by mpirun or srun should look like, checked before work begins. */
#ifndef LAUNCHER_STARTUP_H
#define LAUNCHER_STARTUP_H

#include "launcher/commands.h"
#include "launcher/topology.h"

#include <stdbool.h>

/* Did mpirun or srun make this process? From the environment; no MPI needed. */
bool startup_was_launched(void);

/* Rank as the environment tells it, 0 where it does not. */
int startup_environment_rank(void);

/* The launcher started several processes, but MPI says this is the only one: STATUS_USAGE with the cause and
 * the remedy. Each such process is a world of its own, so only the one of rank 0 in the environment should
 * tell. */
status_t startup_check_world(int n_ranks);

/* Warn (one rank a host) where the ranks of this host have more threads than cores, and (rank 0) where
 * several hosts have no keep-alive set for Open MPI's daemons. Not collective. */
void startup_warn(const struct launch_context *context, const struct topology *topology, int n_threads,
                  int n_hosts);

#endif
