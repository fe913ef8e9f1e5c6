#include "launcher/startup.h"

#include "common/log.h"
#include "common/memory.h"

#include <stdlib.h>
#include <string.h>

static int environment_number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : -1;
}

bool startup_was_launched(void) {
    static const char *const signs[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"};
    for (size_t i = 0; i < ARRAY_LENGTH(signs); i++)
        if (getenv(signs[i])) return true;
    return environment_number("SLURM_STEP_NUM_TASKS") > 1;
}

int startup_environment_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
        if (environment_number(names[i]) >= 0) return environment_number(names[i]);
    return 0;
}

status_t startup_check_world(int n_ranks) {
    if (n_ranks > 1) return STATUS_OK;
    const int n_open_mpi = environment_number("OMPI_COMM_WORLD_SIZE"), n_pmi = environment_number("PMI_SIZE");
    const int n_slurm = environment_number("SLURM_STEP_NUM_TASKS");
    CHECK(
        n_open_mpi <= 1, STATUS_USAGE,
        "Open MPI's mpirun started %d processes, but each is alone: this program is linked with another MPI "
        "(marrs_dist --version=full). Use that MPI's mpirun, or build with the mpicc of this one.",
        n_open_mpi);
    /* Under Open MPI's mpirun within a Slurm job the step has one task a node: the size just checked decides.
     */
    if (n_open_mpi == 1) return STATUS_OK;
    CHECK(n_slurm <= 1, STATUS_USAGE,
          "srun started %d tasks, but MPI sees each as alone (\"rank 0 of 1\"): srun and this program's MPI "
          "do not speak "
          "the same PMI. Use srun --mpi=pmix with Open MPI, srun --mpi=pmi2 with MPICH; srun --mpi=list "
          "shows what there is.",
          n_slurm);
    CHECK(n_pmi <= 1, STATUS_USAGE,
          "mpirun started %d processes, but each is alone: it is not the mpirun of this program's MPI "
          "(marrs_dist --version=full). Use that MPI's mpirun (mpirun.openmpi, mpirun.mpich).",
          n_pmi);
    return STATUS_OK;
}

void startup_warn(const struct launch_context *context, const struct topology *topology, int n_threads,
                  int n_hosts) {
    const int n_bound = topology->n_cores < topology->n_host_cores ? topology->n_cores : 0;
    if (context->local_rank == 0 && context->n_local_ranks * n_threads > topology->n_host_cores)
        log_local(
            LOG_WARNING,
            "%s: %d ranks with %d thread%s each on %d cores; fewer ranks, or a smaller OMP_NUM_THREADS, run "
            "faster",
            context->host, context->n_local_ranks, n_threads, n_threads == 1 ? "" : "s",
            topology->n_host_cores);
    else if (context->local_rank == 0 && n_bound > 0 && n_threads > n_bound)
        log_local(LOG_WARNING,
                  "%s: a rank is bound to %d core%s but has %d threads; start mpirun with --bind-to none or "
                  "--map-by ppr:N:node:pe=%d",
                  context->host, n_bound, n_bound == 1 ? "" : "s", n_threads, n_threads);
    if (n_hosts > 1 && getenv("OMPI_COMM_WORLD_SIZE") && !getenv("OMPI_MCA_oob_tcp_keepalive_time"))
        log_global(LOG_WARNING,
                   "%d hosts without keep-alive: when a link is cut mpirun itself may hang for minutes. Set "
                   "OMPI_MCA_oob_tcp_"
                   "keepalive_time=3 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=3.",
                   n_hosts);
}
