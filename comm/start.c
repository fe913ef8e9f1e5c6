/* Start, end and groups: the blocking MPI calls, where all ranks are known to take part. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "comm/comm_impl.h"
#include "comm/control.h"
#include "common/log.h"
#include "common/memory.h"

#define ABORT_LIMIT_S 3

static void own_hostname(char *host, size_t n_bytes) {
    if (gethostname(host, n_bytes)) snprintf(host, n_bytes, "unknown host");
    host[n_bytes - 1] = '\0';
}

const char *comm_library(void) {
    static char text[128];
    static char raw[MPI_MAX_LIBRARY_VERSION_STRING]; /* "Open MPI v4.1.4, package: ..." or "MPICH
                                                        Version:\t4.0.2\n..." */
    int n = 0, version = 0, subversion = 0;
    MPI_Get_library_version(raw, &n);
    MPI_Get_version(&version, &subversion);
    raw[strcspn(raw, ",\n")] = '\0';
    const char *number = raw + strcspn(raw, "0123456789");
    const char *name = strncmp(raw, "MPICH", 5) == 0      ? "MPICH"
                       : strncmp(raw, "Open MPI", 8) == 0 ? "Open MPI"
                                                          : NULL;
    snprintf(text, sizeof text, "%s%s%.60s (MPI %d.%d)", name ? name : "", name ? " " : "",
             name ? number : raw, version, subversion);
    return text;
}

#if defined(OMPI_MAJOR_VERSION)
#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)
#define MPI_BUILT                                                                                            \
    "Open MPI " TEXT(OMPI_MAJOR_VERSION) "." TEXT(OMPI_MINOR_VERSION) "." TEXT(OMPI_RELEASE_VERSION)
#elif defined(MPICH_VERSION)
#define MPI_BUILT "MPICH " MPICH_VERSION
#else
#define MPI_BUILT "another MPI"
#endif

const char *comm_library_built(void) {
    return MPI_BUILT;
}

void *comm_library_symbol(void) {
    return (void *)MPI_Init;
}

/* Who sits where: host name and node of every rank. */
static status_t find_nodes(struct comm_family *family) {
    struct comm *world = family->world;
    MPI_Comm node;
    int first = world->rank;
    TRY_MPI(MPI_Comm_split_type(world->mpi, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &node));
    TRY_MPI(MPI_Comm_rank(node, &family->local_rank));
    TRY_MPI(MPI_Comm_size(node, &family->local_size));
    TRY_MPI(MPI_Bcast(&first, 1, MPI_INT, 0, node));
    TRY_MPI(MPI_Comm_free(&node));
    struct rank_info *own = &family->ranks[world->rank];
    own_hostname(own->host, sizeof own->host);
    own->node = first;
    TRY_MPI(
        MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, family->ranks, sizeof *own, MPI_BYTE, world->mpi));
    int n_nodes = 0; /* a node's first rank comes before its others: number the nodes by it */
    for (int r = 0; r < world->size; r++) {
        const int leader = family->ranks[r].node;
        family->ranks[r].node = leader == r ? n_nodes++ : family->ranks[leader].node;
    }
    return STATUS_OK;
}

status_t comm_start(int *argc, char ***argv, struct comm **world) {
    int provided = 0, rank = 0, size = 0;
    struct comm_family *family;
    TRY_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided));
    CHECK(provided >= MPI_THREAD_FUNNELED, STATUS_INTERNAL,
          "this MPI library does not allow threads beside the one that calls it (MPI_THREAD_FUNNELED)");
    TRY_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
    TRY_MPI(MPI_Comm_size(MPI_COMM_WORLD, &size));
    TRY(family_new(rank, size, &family));
    TRY(mpi_world_setup(family->world));
    TRY(find_nodes(family));
    if (size > 1) TRY(control_start(family, family->world->mpi));
    log_set_identity(rank, size, family->ranks[rank].host);
    *world = family->world;
    return STATUS_OK;
}

status_t comm_start_alone(struct comm **world) {
    struct comm_family *family;
    TRY(family_new(0, 1, &family));
    own_hostname(family->ranks[0].host, sizeof family->ranks[0].host);
    log_set_identity(0, 1, family->ranks[0].host);
    *world = family->world;
    return STATUS_OK;
}

status_t comm_finish(struct comm **handle) {
    struct comm *world = *handle;
    if (!world) return STATUS_OK;
    struct comm_family *family = world->family;
    const bool in_order =
        !family->agreed; /* else the ranks failed alike, and what they had under way is unknown */
    if (in_order) TRY(comm_barrier(world));
    while (family->groups) {
        struct comm *group = family->groups;
        comm_free(&group);
    }
    const bool mpi = world->mpi != MPI_COMM_NULL;
    if (in_order) {
        control_stop(family);
        world->ops->free(world);
    } else {
        control_drop(family);
    }
    *handle = NULL;
    family_free(family);
    if (mpi) TRY_MPI(MPI_Finalize());
    return STATUS_OK;
}

static void *end_process(void *exit_code) {
    sleep(ABORT_LIMIT_S);
    _exit((int)(intptr_t)exit_code);
}

_Noreturn void comm_abort(int exit_code) {
    int started = 0, finished = 0;
    pthread_t thread;
    fflush(NULL);
    MPI_Initialized(&started);
    MPI_Finalized(&finished);
    if (started && !finished && !pthread_create(&thread, NULL, end_process, (void *)(intptr_t)exit_code))
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    _exit(exit_code);
}

/* ---- groups
 * ------------------------------------------------------------------------------------------------ */

static uint64_t hash_groups(int n_groups, const struct comm_membership *groups) {
    uint64_t hash = XXH3_64bits(&n_groups, sizeof n_groups);
    for (int g = 0; g < n_groups; g++) {
        hash = XXH3_64bits_withSeed(groups[g].name, strlen(groups[g].name), hash);
        hash = XXH3_64bits_withSeed(&groups[g].n_ranks, sizeof groups[g].n_ranks, hash);
        if (groups[g].n_ranks > 0)
            hash = XXH3_64bits_withSeed(groups[g].ranks, (size_t)groups[g].n_ranks * sizeof *groups[g].ranks,
                                        hash);
    }
    return hash;
}

/* All ranks must have come to the same groups, or they would wait for each other for ever. */
static status_t compare_groups(struct comm *world, int n_groups, const struct comm_membership *groups) {
    const size_t size = (size_t)world->size;
    char who[128];
    int64_t *hashes = memory_zeroed(2 * size + 1, sizeof *hashes), *offsets = hashes + size;
    CHECK(hashes, STATUS_NO_MEMORY, "no memory to compare the groups");
    for (size_t r = 0; r <= size; r++) offsets[r] = (int64_t)r;
    hashes[world->rank] = (int64_t)hash_groups(n_groups, groups);
    TRY(comm_all_gather(world->host, hashes, offsets, COMM_I64)); /* on failure MPI keeps the buffer */
    int differs = -1;
    for (int r = world->size - 1; r > 0; r--)
        if (hashes[r] != hashes[0]) differs = r;
    free(hashes);
    CHECK(differs < 0, STATUS_INTERNAL,
          "%s came to other groups of ranks than rank 0 on %s: all ranks must read the same configuration",
          family_rank_text(world->family, differs, who, sizeof who), world->family->ranks[0].host);
    return STATUS_OK;
}

static status_t check_membership(const struct comm *world, const struct comm_membership *m) {
    CHECK(m->n_ranks >= 1, STATUS_INTERNAL, "group '%s' has no ranks", m->name);
    for (int i = 0; i < m->n_ranks; i++) {
        CHECK(m->ranks[i] >= 0 && m->ranks[i] < world->size, STATUS_INTERNAL,
              "group '%s' names rank %d of %d", m->name, m->ranks[i], world->size);
        CHECK(i == 0 || m->ranks[i - 1] < m->ranks[i], STATUS_INTERNAL,
              "the ranks of group '%s' do not ascend", m->name);
    }
    return STATUS_OK;
}

static status_t group_new(struct comm *world, const struct comm_membership *m, int rank, struct comm **out) {
    struct comm *group = memory_zeroed(1, sizeof *group);
    int *ranks = memory_zeroed((size_t)m->n_ranks, sizeof *ranks);
    if (!group || !ranks) {
        free(group);
        free(ranks);
        return FAIL(STATUS_NO_MEMORY, "no memory for group '%s'", m->name);
    }
    memcpy(ranks, m->ranks, (size_t)m->n_ranks * sizeof *ranks);
    *group = (struct comm){.ops = world->ops,
                           .family = world->family,
                           .next = world->family->groups,
                           .rank = rank,
                           .size = m->n_ranks,
                           .world_ranks = ranks,
                           .mpi = MPI_COMM_NULL,
                           .host = group};
    snprintf(group->name, sizeof group->name, "%s", m->name);
    world->family->groups = group;
    *out = group;
    return STATUS_OK;
}

status_t comm_split(struct comm *world, int n_groups, const struct comm_membership *groups,
                    struct comm **out) {
    status_t status = STATUS_OK;
    if (world->size > 1) TRY(compare_groups(world, n_groups, groups));
    for (int g = 0; g < n_groups; g++) TRY(check_membership(world, &groups[g]));
    for (int g = 0; g < n_groups; g++) out[g] = NULL;
    for (int g = 0; g < n_groups; g++) {
        for (int i = 0; i < groups[g].n_ranks; i++)
            if (groups[g].ranks[i] == world->rank) TRY_TO(undo, group_new(world, &groups[g], i, &out[g]));
        TRY_TO(undo, world->ops->split(world, &groups[g], out[g]));
    }
    return STATUS_OK;
undo:
    for (int g = 0; g < n_groups; g++) comm_free(&out[g]);
    return status;
}

void comm_free(struct comm **handle) {
    struct comm *comm = *handle;
    if (!comm) return;
    struct comm_family *family = comm->family;
    for (struct comm **link = &family->groups; *link; link = &(*link)->next)
        if (*link == comm) {
            *link = comm->next;
            break;
        }
    if (family->failure == STATUS_OK && !family->agreed) comm->ops->free(comm);
    free(comm->world_ranks);
    free(comm);
    *handle = NULL;
}
