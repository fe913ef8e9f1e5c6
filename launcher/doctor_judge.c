/* doctor: what the records of all ranks say together. Rank 0 only. */
#include "launcher/doctor.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double mib = 1.0 / (1 << 20), gib = 1.0 / (1 << 30);

/* ---- how it was started
 * ------------------------------------------------------------------------------------------- */

static const char *starter(void) {
    static char text[96];
    const char *kind = getenv("SLURM_MPI_TYPE");
    if (getenv("OMPI_COMM_WORLD_SIZE")) return "mpirun of Open MPI (its own PMIx)";
    if (getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID")) {
        snprintf(text, sizeof text, "srun (%s%.40s)", kind ? "--mpi=" : "PMI: ",
                 kind                  ? kind
                 : getenv("PMIX_RANK") ? "PMIx"
                 : getenv("PMI_RANK")  ? "PMI-1 or PMI-2"
                                       : "none");
        return text;
    }
    if (getenv("PMIX_RANK")) return "a starter that speaks PMIx";
    if (getenv("PMI_RANK")) return "a starter that speaks PMI (mpirun of MPICH)";
    return NULL;
}

static int major(const char *text) {
    return atoi(text + strcspn(text, "0123456789"));
}

static void judge_libraries(struct doctor *d) {
    const struct doctor_rank *first = &d->ranks[0];
    int n_other = 0;
    for (int i = 0; i < first->n_libraries; i++) {
        const struct version_library *l = &first->libraries[i];
        const bool known = strcspn(l->built, "0123456789") < strlen(l->built) &&
                           strcspn(l->loaded, "0123456789") < strlen(l->loaded);
        if (!known || major(l->built) == major(l->loaded)) continue;
        n_other++;
        doctor_find(d, DOCTOR_ERROR,
                    "load the module that this program was built with, or build again (make)",
                    "%s: built against %s, but %s is loaded (%s)", l->name, l->built, l->loaded, l->file);
    }
    if (n_other == 0)
        doctor_find(d, DOCTOR_OK, NULL, "%d libraries are of the major versions built against (%s)",
                    first->n_libraries, version_compiler());
    for (int i = 0; i < first->n_libraries; i++)
        doctor_note(d, "%-14s %-18s %-26s %s", first->libraries[i].name, first->libraries[i].built,
                    first->libraries[i].loaded, first->libraries[i].file);
}

/* The first rank whose `member` text differs from rank 0's, or -1. */
static int first_other(const struct doctor *d, size_t offset) {
    const char *first = (const char *)&d->ranks[0] + offset;
    for (int r = 1; r < d->n_ranks; r++)
        if (strcmp(first, (const char *)&d->ranks[r] + offset) != 0) return r;
    return -1;
}

static void judge_same_libraries(struct doctor *d) {
    for (int r = 1; r < d->n_ranks; r++)
        for (int i = 0; i < d->ranks[0].n_libraries && i < d->ranks[r].n_libraries; i++) {
            const struct version_library *a = &d->ranks[0].libraries[i], *b = &d->ranks[r].libraries[i];
            if (strcmp(a->loaded, b->loaded) == 0) continue;
            doctor_find(d, DOCTOR_ERROR,
                        "the same modules and LD_LIBRARY_PATH on every host (mpirun -x LD_LIBRARY_PATH)",
                        "%s: rank 0 on %s has %s, rank %d on %s has %s", a->name, d->ranks[0].host, a->loaded,
                        r, d->ranks[r].host, b->loaded);
            return;
        }
    for (int r = 1; r < d->n_ranks; r++)
        if (d->ranks[r].program_hash != d->ranks[0].program_hash) {
            doctor_find(d, DOCTOR_ERROR,
                        "start the same file everywhere: a shared folder, or copy it to every host",
                        "rank %d on %s runs another build of this program than rank 0 on %s", r,
                        d->ranks[r].host, d->ranks[0].host);
            return;
        }
    if (d->n_ranks > 1) doctor_find(d, DOCTOR_OK, NULL, "the same program and libraries on all ranks");
}

void doctor_judge_start(struct doctor *d) {
    const char *how = starter();
    doctor_topic(d, "start");
    doctor_find(d, DOCTOR_OK, NULL, "%s", comm_library());
    if (how)
        doctor_find(d, DOCTOR_OK, NULL, "started by %s: %d rank%s see one world", how, d->n_ranks,
                    d->n_ranks == 1 ? "" : "s");
    else
        doctor_find(d, DOCTOR_OK, NULL, "started alone, without mpirun or srun");
    doctor_topic(d, "libraries: built against, loaded");
    judge_libraries(d);
    judge_same_libraries(d);
}

/* ---- hosts
 * -------------------------------------------------------------------------------------------------------- */

static void judge_threads(struct doctor *d, const struct doctor_rank *r) {
    const int n_all = r->n_local_ranks * r->n_threads;
    if (n_all > r->n_host_cores)
        doctor_find(d, DOCTOR_WARNING,
                    "fewer ranks a host, or a smaller OMP_NUM_THREADS (unset: cores / ranks)",
                    "%s: %d ranks x %d threads on %d cores", r->host, r->n_local_ranks, r->n_threads,
                    r->n_host_cores);
    else if (r->n_threads > r->n_cores)
        doctor_find(d, DOCTOR_WARNING,
                    "mpirun --bind-to none, or --map-by ppr:RANKS:node:pe=THREADS; srun --cpus-per-task",
                    "%s: a rank has %d threads but may use only core%s %s", r->host, r->n_threads,
                    r->n_cores == 1 ? "" : "s", r->cores);
    else if (r->n_cores == 1 && r->n_host_cores > 2 * r->n_local_ranks)
        doctor_find(d, DOCTOR_WARNING,
                    "mpirun --bind-to none, or srun --cpus-per-task: the data loader needs cores too",
                    "%s: each rank is bound to one core of %d", r->host, r->n_host_cores);
    if (r->cpu_quota > 0 && r->cpu_quota < n_all)
        doctor_find(
            d, DOCTOR_WARNING, "ask for more cores, or set OMP_NUM_THREADS to what the container may use",
            "%s: the container may use %.1f cores' time, %d threads share it", r->host, r->cpu_quota, n_all);
}

/* Thresholds: Open MPI's shared memory takes a few MiB a rank, NCCL's up to some tens of MiB a GPU. */
static void judge_shm(struct doctor *d, const struct doctor_rank *r) {
    const double free_mib = mib * (double)r->shm_free_bytes;
    if (r->n_local_ranks > 1 && free_mib < 8.0 * r->n_local_ranks)
        doctor_find(d, DOCTOR_ERROR,
                    "docker --shm-size=1g; apptainer uses the host's; remove old files in /dev/shm",
                    "%s: /dev/shm has %.0f MiB free of %.0f for %d ranks", r->host, free_mib,
                    mib * (double)r->shm_bytes, r->n_local_ranks);
    else if (free_mib < 64.0 * r->n_local_ranks)
        doctor_find(d, DOCTOR_WARNING,
                    "docker --shm-size=1g; apptainer uses the host's; remove old files in /dev/shm",
                    "%s: /dev/shm has %.0f MiB free of %.0f; 64 MiB a rank are safe", r->host, free_mib,
                    mib * (double)r->shm_bytes);
}

static void judge_host(struct doctor *d, const struct doctor_rank *r) {
    doctor_note(
        d, "%-16s %d rank%s x %d thread%s, %d cores, NUMA %s, %.1f of %.1f GiB free, /dev/shm %.1f GiB free",
        r->host, r->n_local_ranks, r->n_local_ranks == 1 ? "" : "s", r->n_threads,
        r->n_threads == 1 ? "" : "s", r->n_host_cores, r->numa, gib * (double)r->memory_available_bytes,
        gib * (double)r->memory_bytes, gib * (double)r->shm_free_bytes);
    judge_threads(d, r);
    judge_shm(d, r);
    if (r->has_infiniband && r->locked_bytes < INT64_MAX)
        doctor_find(d, DOCTOR_WARNING,
                    "ulimit -l unlimited (PropagateResourceLimitsExcept=MEMLOCK in slurm.conf)",
                    "%s: InfiniBand is there, but a process may lock only %.0f MiB", r->host,
                    mib * (double)r->locked_bytes);
}

static void judge_differences(struct doctor *d) {
    const struct doctor_rank *ranks = d->ranks;
    int r = first_other(d, offsetof(struct doctor_rank, locale));
    if (r > 0)
        doctor_find(d, DOCTOR_WARNING, "the same LC_ALL on every host: mpirun -x LC_ALL, sbatch --export=ALL",
                    "locale: rank 0 on %s has %s, rank %d on %s has %s", ranks[0].host, ranks[0].locale, r,
                    ranks[r].host, ranks[r].locale);
    r = first_other(d, offsetof(struct doctor_rank, timezone));
    if (r > 0)
        doctor_find(d, DOCTOR_WARNING,
                    "the same TZ on every host: records of different hosts are compared by eye",
                    "time zone: rank 0 on %s has %s, rank %d on %s has %s", ranks[0].host, ranks[0].timezone,
                    r, ranks[r].host, ranks[r].timezone);
    r = first_other(d, offsetof(struct doctor_rank, isa));
    if (r > 0)
        doctor_find(
            d, DOCTOR_WARNING,
            "one kind of node (sbatch --constraint), or MARRS_ISA set to the lower one on all",
            "instruction set: rank 0 on %s uses %s, rank %d on %s uses %s: speeds and last bits differ",
            ranks[0].host, ranks[0].isa, r, ranks[r].host, ranks[r].isa);
    int latest = 0, earliest = 0;
    for (int i = 1; i < d->n_ranks; i++) {
        if (ranks[i].clock_s > ranks[latest].clock_s) latest = i;
        if (ranks[i].clock_s < ranks[earliest].clock_s) earliest = i;
    }
    const double apart_s = ranks[latest].clock_s - ranks[earliest].clock_s;
    if (apart_s > 1)
        doctor_find(d, DOCTOR_WARNING,
                    "synchronise the clocks (chrony, ntpd): time stamps of logs and files mislead",
                    "clocks: %s is %.1f s ahead of %s", ranks[latest].host, apart_s, ranks[earliest].host);
    else if (d->n_ranks > 1)
        doctor_find(d, DOCTOR_OK, NULL, "clocks agree within %.2f s", apart_s);
}

void doctor_judge_hosts(struct doctor *d) {
    const int before = d->n_findings[DOCTOR_WARNING] + d->n_findings[DOCTOR_ERROR];
    doctor_topic(d, "hosts");
    doctor_note(d, "%s, instruction set in use: %s", d->ranks[0].processor, d->ranks[0].isa);
    for (int r = 0; r < d->n_ranks; r++)
        if (d->ranks[r].local_rank == 0) judge_host(d, &d->ranks[r]);
    if (before == d->n_findings[DOCTOR_WARNING] + d->n_findings[DOCTOR_ERROR])
        doctor_find(d, DOCTOR_OK, NULL, "cores, memory and /dev/shm suffice for the ranks of every host");
    for (int r = 0; r < d->n_ranks && d->n_ranks > 1 && r < 64; r++)
        doctor_note(d, "rank %d on %s: cores %s, NUMA %s", r, d->ranks[r].host, d->ranks[r].cores,
                    d->ranks[r].numa);
    judge_differences(d);
}

/* ---- GPUs
 * ---------------------------------------------------------------------------------------------------------
 */

static void judge_gpu_host(struct doctor *d, const struct doctor_rank *r) {
    const struct doctor_gpu *g = &r->gpu;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (g->problem[0])
        doctor_find(
            d, DOCTOR_ERROR,
            "nvidia-smi on this host shows more; a new driver wants a reboot or its module loaded again",
            "%s: %s", r->host, g->problem);
    if (!g->driver[0] && !g->cuda[0]) {
        if (r->n_visible_gpus > 0)
            doctor_find(d, DOCTOR_ERROR,
                        "apptainer exec --nv, docker --gpus all; or install the driver's libraries",
                        "%s: %d GPU%s by CUDA_VISIBLE_DEVICES or /dev/nvidia*, but no driver library",
                        r->host, r->n_visible_gpus, r->n_visible_gpus == 1 ? "" : "s");
        return;
    }
    for (int i = 0; i < g->n_driver && i < 8; i++)
        doctor_note(d, "%s GPU %d: %s, %.0f GiB", r->host, i, g->names[i], gib * (double)g->memory_bytes[i]);
    if (g->n_usable == 0)
        doctor_find(d, DOCTOR_WARNING,
                    "--gpus-per-node in the job, --nv or --gpus for the container, CUDA_VISIBLE_DEVICES",
                    "%s: driver %s is there, but this process may use no GPU", r->host, g->driver);
    else if (g->n_usable < r->n_local_ranks && g->n_usable > 1)
        doctor_find(d, DOCTOR_WARNING, "as many ranks a host as GPUs (--ntasks-per-node)",
                    "%s: %d ranks for %d GPUs", r->host, r->n_local_ranks, g->n_usable);
    else if (g->n_usable == 1 && r->n_local_ranks > 1 && visible)
        doctor_find(d, DOCTOR_WARNING,
                    "--gpus-per-node instead of --gpus-per-task: ranks pick their GPU by local rank",
                    "%s: each rank sees one GPU only: direct transfers between GPUs are switched off",
                    r->host);
    else
        doctor_find(d, DOCTOR_OK, NULL, "%s: %d GPU%s usable, driver %s, CUDA up to %s", r->host, g->n_usable,
                    g->n_usable == 1 ? "" : "s", g->driver, g->cuda);
}

void doctor_judge_gpus(struct doctor *d) {
    bool any = false;
    doctor_topic(d, "GPUs");
    for (int r = 0; r < d->n_ranks; r++) {
        const struct doctor_rank *own = &d->ranks[r];
        if (own->local_rank != 0) continue;
        any = any || own->gpu.driver[0] || own->gpu.cuda[0] || own->n_visible_gpus > 0;
        judge_gpu_host(d, own);
    }
    doctor_judge_plugins(d, any);
}

/* ---- network and data
 * --------------------------------------------------------------------------------------------- */

void doctor_judge_network(struct doctor *d) {
    doctor_topic(d, "network");
    for (int r = 0; r < d->n_ranks; r++)
        if (d->ranks[r].local_rank == 0)
            doctor_note(d, "%-16s %s%s", d->ranks[r].host, d->ranks[r].interfaces,
                        d->ranks[r].has_infiniband ? "; InfiniBand" : "");
    if (d->n_hosts > 1 && getenv("OMPI_COMM_WORLD_SIZE") && !getenv("OMPI_MCA_oob_tcp_keepalive_time"))
        doctor_find(d, DOCTOR_WARNING,
                    "OMPI_MCA_oob_tcp_keepalive_time=3 OMPI_MCA_oob_tcp_keepalive_intvl=1 "
                    "OMPI_MCA_oob_tcp_keepalive_probes=3",
                    "%d hosts without keep-alive: when a link is cut, mpirun hangs for minutes", d->n_hosts);
    else
        doctor_find(d, DOCTOR_OK, NULL, "%d host%s", d->n_hosts, d->n_hosts == 1 ? "" : "s");
}

static void judge_data_host(struct doctor *d, const struct doctor_rank *r) {
    const struct doctor_data *s = &r->data;
    if (!s->readable) {
        doctor_find(d, DOCTOR_ERROR,
                    "name the folder of the shards; on every host it must be mounted under the same path",
                    "%s: %s: %s", r->host, d->data, s->problem);
        return;
    }
    if (!s->lock_shared)
        doctor_find(d, DOCTOR_WARNING,
                    "mount with locks (Lustre: -o flock; NFS: lockd), or HDF5_USE_FILE_LOCKING=FALSE; shards "
                    "are read "
                    "without locks anyway",
                    "%s: %s cannot be locked: %s", r->host, d->data, s->problem);
    if (s->writable && !s->lock_exclusive)
        doctor_find(d, DOCTOR_WARNING,
                    "pack into another folder, or HDF5_USE_FILE_LOCKING=FALSE while packing",
                    "%s: a new file in %s cannot be locked for writing", r->host, d->data);
    const bool slow =
        s->read_mb_s < 100 && s->n_bytes_read >= 8 << 20; /* a small file's time is that of opening it */
    doctor_find(d, slow ? DOCTOR_WARNING : DOCTOR_OK,
                slow ? "copy the shards to the node's own disk first, or raise data.cache_mb" : NULL,
                "%s: %s (%s): %s read at %.0f MB/s (%.0f MB%s)", r->host, d->data, s->type, s->file,
                s->read_mb_s, 1e-6 * (double)s->n_bytes_read,
                s->out_of_cache ? "" : ", perhaps from the cache");
}

void doctor_judge_data(struct doctor *d) {
    if (!d->data) return;
    doctor_topic(d, "data folder, read by all hosts at once");
    for (int r = 0; r < d->n_ranks; r++)
        if (d->ranks[r].local_rank == 0) judge_data_host(d, &d->ranks[r]);
}
