/* doctor: variables of the environment that change how MPI, NCCL, OpenMP, HDF5 and this program behave. */
#include "launcher/doctor.h"

#include "common/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* Shown always; of Slurm's and mpirun's many, those below are enough unless --settings asks for all. */
static const char *const shown[] = {"NCCL_",  "OMPI_MCA_",      "OMP_",      "UCX_",      "FI_",
                                    "MPICH_", "I_MPI_",         "PMIX_MCA_", "PRTE_MCA_", "MARRS_",
                                    "CUDA_",  "NVIDIA_VISIBLE", "OPENBLAS_", "GOMP_",     "HDF5_",
                                    "MKL_",   "DNNL_",          "ONEDNN_",   "TMPDIR",    "MALLOC_"};
static const char *const slurm[] = {
    "SLURM_JOB_ID=",         "SLURM_JOB_NUM_NODES=", "SLURM_NTASKS=",        "SLURM_STEP_NUM_TASKS=",
    "SLURM_TASKS_PER_NODE=", "SLURM_CPUS_PER_TASK=", "SLURM_GPUS_PER_NODE=", "SLURM_JOB_GPUS=",
    "SLURM_STEP_GPUS=",      "SLURM_MPI_TYPE=",      "SLURM_RESTART_COUNT=", "SLURM_CPU_BIND="};
static const char *const all[] = {"SLURM_",           "SRUN_", "OMPI_", "PMIX_", "PMI_",
                                  "LD_LIBRARY_PATH=", "LC_",   "LANG"};

/* What mpirun tells its own ranks. */
static const char *const internal[] = {
    "OMPI_MCA_ess",    "OMPI_MCA_orte_", "OMPI_MCA_initial_wdir",     "OMPI_MCA_pmix=",
    "OMPI_MCA_shmem_", "PMIX_MCA_",      "OMPI_MCA_mpi_oversubscribe"};

static bool begins(const char *text, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strncmp(text, list[i], strlen(list[i])) == 0) return true;
    return false;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_settings(struct doctor *d) {
    size_t n = 0, n_shown = 0;
    while (environ[n]) n++;
    char **lines = memory_zeroed(n + 1, sizeof *lines);
    if (!lines) return;
    for (size_t i = 0; i < n; i++)
        if ((begins(environ[i], shown, ARRAY_LENGTH(shown)) &&
             (d->all_settings || !begins(environ[i], internal, ARRAY_LENGTH(internal)))) ||
            begins(environ[i], slurm, ARRAY_LENGTH(slurm)) ||
            (d->all_settings && begins(environ[i], all, ARRAY_LENGTH(all))))
            lines[n_shown++] = environ[i];
    qsort(lines, n_shown, sizeof *lines, compare);
    for (size_t i = 0; i < n_shown; i++) doctor_note(d, "%.200s", lines[i]);
    if (n_shown == 0) doctor_note(d, "none");
    free(lines);
}

/* Is `name` an interface of this host (or, as NCCL takes it, the beginning of one's name)? */
static bool interface_known(const char *interfaces, const char *name, size_t n, bool beginning) {
    for (const char *p = interfaces; *p;) {
        const size_t length = strcspn(p, " ");
        if (strncmp(p, name, n) == 0 && (beginning || length == n)) return true;
        p += strcspn(p, ";");
        p += strspn(p, "; ");
    }
    return false;
}

/* A list of interfaces ("eth0,ib0"; NCCL: "=eth0", "^lo" excludes; Open MPI: also "10.0.0.0/24"), on every
 * host. */
static void check_interfaces(struct doctor *d, const char *variable, bool nccl) {
    const char *text = getenv(variable);
    if (!text || text[0] == '^') return;
    for (int r = 0; r < d->n_ranks; r++) {
        if (d->ranks[r].local_rank != 0) continue;
        for (const char *p = text + (text[0] == '='); *p;) {
            const size_t n = strcspn(p, ",:");
            if (n > 0 && !memchr(p, '/', n) &&
                !interface_known(d->ranks[r].interfaces, p, n, nccl && text[0] != '=')) {
                doctor_find(d, DOCTOR_ERROR,
                            "name an interface that the list above has on every host, or unset the variable",
                            "%s=%s: host %s has no interface %.*s", variable, text, d->ranks[r].host, (int)n,
                            p);
                return;
            }
            p += n + (p[n] != '\0');
        }
    }
    doctor_find(d, DOCTOR_OK, NULL, "%s=%s is there on every host", variable, text);
}

static void warn_if(struct doctor *d, const char *variable, const char *value, const char *remedy,
                    const char *effect) {
    const char *text = getenv(variable);
    if (text && strcmp(text, value) == 0)
        doctor_find(d, DOCTOR_WARNING, remedy, "%s=%s: %s", variable, value, effect);
}

/* NCCL's variables whose whole use is in tests and in finding faults. */
static void check_nccl(struct doctor *d) {
    static const struct {
        const char *name, *effect;
    } tests_only[] = {
        {"NCCL_HOSTID", "ranks of one host take each other for other hosts and talk through the network"},
        {"NCCL_ALGO", "NCCL may not choose its algorithm"},
        {"NCCL_PROTO", "NCCL may not choose its protocol"},
        {"NCCL_MAX_CTAS", "NCCL may use few blocks only: less bandwidth"},
        {"NCCL_MAX_NCHANNELS", "NCCL may use few channels only: less bandwidth"}};
    for (size_t i = 0; i < ARRAY_LENGTH(tests_only); i++)
        if (getenv(tests_only[i].name))
            doctor_find(d, DOCTOR_WARNING, "unset it: it is for tests", "%s=%s: %s", tests_only[i].name,
                        getenv(tests_only[i].name), tests_only[i].effect);
    const char *interface = getenv("NCCL_SOCKET_IFNAME");
    if (interface && d->n_hosts > 1 && strcmp(interface + (interface[0] == '='), "lo") == 0)
        doctor_find(d, DOCTOR_WARNING, "name the interface between the hosts",
                    "NCCL_SOCKET_IFNAME=%s: no other host can be reached", interface);
    const char *debug = getenv("NCCL_DEBUG");
    if (debug && (strcmp(debug, "TRACE") == 0 || strcmp(debug, "INFO") == 0))
        doctor_find(d, DOCTOR_WARNING, "NCCL_DEBUG=WARN", "NCCL_DEBUG=%s: NCCL writes much", debug);
}

static void check_values(struct doctor *d) {
    const struct doctor_rank *own = &d->ranks[0];
    warn_if(d, "NCCL_P2P_DISABLE", "1", "unset it, unless a driver's fault was worked around",
            "GPUs of a host talk through memory");
    warn_if(d, "NCCL_IB_DISABLE", "1", "unset it where there is InfiniBand", "NCCL uses TCP only");
    warn_if(d, "NCCL_SHM_DISABLE", "1", "unset it; make /dev/shm larger instead",
            "GPUs of a host talk through the network");
    check_nccl(d);
    warn_if(d, "CUDA_LAUNCH_BLOCKING", "1", "unset it after debugging", "every kernel is waited for");
    const char *threads = getenv("OMP_NUM_THREADS");
    if (threads && atoi(threads) < 1)
        doctor_find(d, DOCTOR_WARNING, "a number from 1", "OMP_NUM_THREADS=%s is no number of threads",
                    threads);
    const bool crowded = own->n_local_ranks * own->n_threads > own->n_host_cores;
    if (crowded && getenv("OMPI_COMM_WORLD_SIZE") && !getenv("OMPI_MCA_mpi_yield_when_idle"))
        doctor_find(d, DOCTOR_WARNING, "OMPI_MCA_mpi_yield_when_idle=1",
                    "more ranks than cores: a waiting rank should give its core away");
    const char *wait = getenv("OMP_WAIT_POLICY");
    if (crowded && !(wait && (strcmp(wait, "passive") == 0 || strcmp(wait, "PASSIVE") == 0)))
        doctor_find(d, DOCTOR_WARNING, "OMP_WAIT_POLICY=passive",
                    "more threads than cores: waiting threads spin");
}

void doctor_judge_settings(struct doctor *d) {
    const int before = d->n_findings[DOCTOR_WARNING] + d->n_findings[DOCTOR_ERROR];
    doctor_topic(d, "settings in force (rank 0)");
    list_settings(d);
    check_interfaces(d, "NCCL_SOCKET_IFNAME", true);
    check_interfaces(d, "OMPI_MCA_btl_tcp_if_include", false);
    check_interfaces(d, "OMPI_MCA_oob_tcp_if_include", false);
    check_values(d);
    if (before == d->n_findings[DOCTOR_WARNING] + d->n_findings[DOCTOR_ERROR])
        doctor_find(d, DOCTOR_OK, NULL, "none of them is known to harm");
}
