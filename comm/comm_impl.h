/* Inside comm/: what a communicator is made of, and the table an implementation fills in. */
#ifndef COMM_COMM_IMPL_H
#define COMM_COMM_IMPL_H

#include <mpi.h>

#include "comm/comm.h"

#define COMM_LOOK_S          0.01  /* a wait looks for others' failures this often */
#define COMM_POKE_S          50e-6 /* comm_poke() does something at most this often */
#define COMM_FAILURE_GRACE_S 0.5   /* a wait goes on this long after another rank reported a failure */
#define COMM_AGREE_S         2.0   /* rank 0 waits this long for the others' failures */
#define COMM_SPEAK_S         0.5   /* the first to fail has this long to print why before others abort */
#define COMM_ASK_S           1.0   /* a wait past its deadline asks the others, and listens this long */
#define COMM_MAX_DIRECT      32  /* ranks of a group whose reductions go by direct messages (comm/direct.h) */
#define COMM_MAX_ASKED       512 /* larger groups are not asked */

/* An implementation. Functions that begin something add to `request`, which is new and empty; the front layer
 * (comm/comm.c) has checked arguments, and has dealt with groups of one for everything but transfers. Where
 * memory belongs to a device, a begin orders itself behind the work the device has queued for its buffers,
 * and `order_device` makes later work of the device wait for the request; both without waiting on the host.
 * `test` also reports errors that arose asynchronously. All slots are required but those marked optional. */
struct comm_ops {
    const char *name;
    status_t (*all_reduce_begin)(struct comm_request *request, void *data, int64_t n_elem,
                                 enum comm_type type, enum comm_op op);
    status_t (*reduce_begin)(struct comm_request *request, int root, void *data, int64_t n_elem,
                             enum comm_type type, enum comm_op op);
    status_t (*reduce_scatter_begin)(struct comm_request *request, void *data, const int64_t *offsets,
                                     enum comm_type type, enum comm_op op);
    status_t (*all_gather_begin)(struct comm_request *request, void *data, const int64_t *offsets,
                                 enum comm_type type);
    status_t (*broadcast_begin)(struct comm_request *request, int root, void *data, int64_t n_elem,
                                enum comm_type type);
    status_t (*transfer_begin)(struct comm_request *request, const struct comm_transfer *sends, int n_sends,
                               const struct comm_transfer *receives, int n_receives);
    status_t (*barrier_begin)(struct comm_request *request);
    status_t (*test)(struct comm_request *request, bool *done); /* never waits; releases what is done */
    /* Optional: NULL = memory of the host. How long the device waits goes to request_waited() once it is
     * known. */
    status_t (*order_device)(struct comm_request *request, enum comm_purpose purpose);
    /* *missing = up to `capacity` ranks of the group that the request still waits for; -1: cannot tell. */
    int (*missing)(struct comm_request *request, int *missing, int capacity);
    status_t (*split)(struct comm *world, const struct comm_membership *membership, struct comm *group);
    void (*free)(struct comm *comm); /* of a group or the world; collective over it */
    /* Optional: look after what the device has under way; never waits. Failures become the family's. */
    void (*poke)(struct comm *world);
    /* Optional: after a failure, end what the device has under way for all of the family. */
    void (*abort)(struct comm *world);
};

extern const struct comm_ops comm_ops_mpi;

struct rank_info {
    char host[64];
    int node;
};

struct control; /* comm/control.h */
struct direct;  /* comm/direct.h */

/* What the world and all its groups share. */
struct comm_family {
    struct comm *world;
    struct comm *groups;     /* list by `next` */
    struct rank_info *ranks; /* [size of the world] */
    int local_rank, local_size;
    double deadline_s;
    char stage[32];
    int64_t step;
    int64_t max_count; /* elements one MPI call may take; tests make it small */
    int max_direct;    /* COMM_MAX_DIRECT; tests make it 0 */
    int n_under_way;
    struct comm_request *active; /* under way and with phases to come: list by `next` */
    double last_poke_s;
    const struct comm_request *waiting; /* what this rank waits for just now, or NULL */
    double waited_s;                    /* in all waits so far, a device's among them */
    struct comm_request *spare;         /* finished requests, to be used again */
    struct comm_request *abandoned;     /* of failed waits: MPI may still write through them */
    MPI_Op bf16_ops[3];                 /* by enum comm_op */
    char small[1024];                   /* of blocking reductions of few values (comm/comm.c) */
    bool agreed;                        /* all ranks failed alike: comm_finish() needs no barrier */
    struct control *control;            /* NULL in a world of one */
    /* The first failure seen; STATUS_OK: none. */
    status_t failure;
    bool failure_is_ours;
    double failure_time_s;
    char failure_text[1024];
};

struct comm {
    const struct comm_ops *ops;
    struct comm_family *family;
    struct comm *next;
    char name[64];
    int rank, size;
    int *world_ranks;                        /* [size] */
    uint64_t n_reductions;                   /* begun so far: the same on all ranks, makes their tags */
    double waited_s[COMM_FOR_GRADIENTS + 1]; /* by purpose */
    MPI_Comm mpi;                            /* MPI_COMM_NULL in a group of one */
    struct comm *host;                       /* host-side twin: itself for MPI */
    void *device;                            /* of an implementation with a device */
};

struct comm_request {
    struct comm *comm;
    const char *what; /* "all_reduce": static */
    struct comm_request *next;
    MPI_Request *parts; /* [n_parts] */
    int *partners;      /* [n_parts] rank of the group a part waits for, -1: a collective */
    int n_parts, capacity;
    int *counts; /* room for arguments that MPI reads until the end */
    int n_counts;
    struct direct *direct; /* comm/direct.h; kept for the next use */
    bool has_phases;       /* whoever waits or pokes must test it, for its next phase to start */
    void *device;
};

/* An empty request, of the spare ones where there is one. */
status_t request_new(struct comm *comm, const char *what, struct comm_request **request);
/* Add to `request` a message of n_elem elements, in pieces that MPI can count; nothing for n_elem = 0. */
status_t mpi_post(struct comm_request *request, int rank, void *data, int64_t n_elem, enum comm_type type,
                  int tag, bool send);
/* Room for n more parts. */
status_t request_reserve(struct comm_request *request, int n);
/* comm_wait_device(), and what it waits for. */
status_t request_wait_device(struct comm_request **request, enum comm_purpose purpose);
/* A wait took so long: for comm_waited_s(). */
void request_waited(struct comm *comm, enum comm_purpose purpose, double time_s);
/* Back to the spare ones. */
void request_release(struct comm_request *request);

/* STATUS_OK, or the family's failure as this thread's message; `now` decides whether the grace is over. */
status_t family_check(struct comm_family *family, bool grace);
/* Record a failure unless one is known. */
void family_fail(struct comm_family *family, status_t status, bool ours, const char *message);

status_t family_new(int world_rank, int world_size, struct comm_family **family);
void family_free(struct comm_family *family);

/* "rank 3 on h2", of a rank of the world. */
const char *family_rank_text(const struct comm_family *family, int world_rank, char *text, size_t n_bytes);

/* ", cotrain step 7": where the work is, or "". */
const char *family_where_text(const struct comm_family *family, char *text, size_t n_bytes);

/* What the device has under way is looked after, or ended (comm_ops). */
void family_poke_device(struct comm_family *family);
void family_abort_device(struct comm_family *family);

/* The failure of a wait past its deadline, with what the others say they do; recorded as the family's.
 * Takes up to COMM_ASK_S. */
status_t request_timed_out(struct comm_request *request);

/* status_fail() with MPI's text unless `error` is MPI_SUCCESS. */
status_t mpi_check(int error, const char *call);
#define TRY_MPI(call) TRY(mpi_check((call), #call))

/* ops->split and ops->free of MPI need these for the world, too (comm/mpi.c). */
status_t mpi_world_setup(struct comm *world);

#endif
