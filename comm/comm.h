/* Groups of ranks and what they do together: one interface, whatever carries it.
 *
 * The MPI implementation (comm/mpi.c) moves host memory; another one behind the same table (comm/comm_impl.h)
 * moves a device's memory. Callers never ask which one they have:
 *   - buffers are plain pointers into "the memory of the communicator"; small values that live on the host
 *     (losses, flags, counts) go through comm_host_side(), which is the communicator itself where memory is
 * host memory;
 *   - a *_begin call may only put work in a queue behind what the device still has to compute;
 *   - comm_wait() returns when the result is there for the host, comm_wait_device() when later work of the
 * device will see it (for host memory both are the same).
 *
 * Deadlines. No call blocks for good: every wait tests, yields the core and gives up after the deadline with
 * STATUS_TIMEOUT and a message that names this rank and host, the operation, the group, the stage and step,
 * and the ranks that gave no answer. After a timeout, or after another rank reported a failure, the whole
 * family of communicators is unusable: each later call returns the same status at once, buffers of unfinished
 * operations stay in use, and the process can only end (comm_agree_on_failure(), comm_abort()).
 *
 * Threads. Only the thread that called comm_start() may use this header: MPI_THREAD_FUNNELED is asked for.
 *
 * Order. Collective operations of one communicator are begun in the same order by all of its ranks; several
 * may be under way at once. Operations of different communicators that share ranks are begun in one order
 * too.
 *
 * Progress. MPI moves nothing by itself: whoever computes while an operation is under way calls comm_poke()
 * at least once a millisecond.
 *
 * Determinism (host memory). In groups of up to 32 ranks each element is added in the order of the ranks: the
 * bits of a sum depend on the number of ranks only, not on counts, buckets, sharding or the MPI library.
 * Larger groups use MPI's reductions: the same bits on all ranks and in every run with the same number of
 * ranks, counts and MPI library. Memory of a device is summed by NCCL: the same bits on all ranks; which bits
 * depends on its choice of algorithm, that is on ranks, hosts, counts and NCCL's version, and bf16 may be
 * rounded more than once. */
#ifndef COMM_COMM_H
#define COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct comm;         /* a group of ranks, seen from one of them */
struct comm_request; /* an operation under way */

#define COMM_DEADLINE_S 300.0 /* of every wait, until comm_set_deadline() */

/* ---- start and end
 * ----------------------------------------------------------------------------------------- */

/* Initialise MPI and make the world. Collective over all started ranks. Sets the identity of common/log.h.
 * *world is owned by the caller; ends with comm_finish(). */
status_t comm_start(int *argc, char ***argv, struct comm **world);

/* A world of this process alone, without MPI: every operation is a no-op or a copy. Not collective.
 * Ends with comm_finish(). */
status_t comm_start_alone(struct comm **world);

/* Free the world and all its groups and finalise MPI. Collective over the world: begins with a barrier under
 * the deadline (mpirun ends all ranks as soon as one has returned non-zero, so nobody may leave early). Where
 * the barrier fails, or the family is unusable already, MPI is not finalised: returns that failure, frees
 * nothing that MPI still uses, and the caller ends with comm_abort(). *world becomes NULL only on STATUS_OK.
 * NULL is accepted. */
status_t comm_finish(struct comm **world);

/* End the whole job with this exit code, from any rank, also before comm_start(); not collective, never
 * returns. Where MPI_Abort does not end this process within 3 s (a cut link), it ends by itself. */
_Noreturn void comm_abort(int exit_code);

/* "Open MPI 4.1.4 (MPI 3.1)": the library as loaded. Static storage; needs no MPI_Init. */
const char *comm_library(void);

/* "Open MPI 4.1.4": the library whose headers this was built with; and any function of it, for dladdr(). */
const char *comm_library_built(void);
void *comm_library_symbol(void);

/* ---- who is there (not collective, valid as long as the communicator) -------------------------------------
 */

int comm_rank(const struct comm *comm);
int comm_size(const struct comm *comm);
const char *comm_name(const struct comm *comm);               /* "world" or the group's name */
int comm_world_rank(const struct comm *comm, int rank);       /* rank of this group -> rank of the world */
const char *comm_hostname(const struct comm *comm, int rank); /* host of a rank of this group */
int comm_node(const struct comm *comm,
              int rank);                      /* nodes (shared memory) numbered from 0 by their first rank */
int comm_local_rank(const struct comm *comm); /* of this process among the world's ranks on its node */
int comm_local_size(const struct comm *comm); /* the world's ranks on this node */

/* The same ranks with host memory; the communicator itself where its memory is host memory. Borrowed. */
struct comm *comm_host_side(struct comm *comm);

/* ---- settings of the whole family (world and groups; not collective) --------------------------------------
 */

/* Seconds each wait may take, > 0. The same on all ranks. */
void comm_set_deadline(struct comm *comm, double deadline_s);

/* Where the work is, for messages only. `stage` is copied (truncated to 31 bytes). */
void comm_set_step(struct comm *comm, const char *stage, int64_t step);

/* ---- groups -----------------------------------------------------------------------------------------------
 */

struct comm_membership {
    const char *name; /* of the peer */
    const int *ranks; /* [n_ranks] ranks of the world, strictly ascending */
    int n_ranks;      /* >= 1 */
};

/* Make the groups' communicators: groups_out[g] is owned by the caller (comm_free()), or NULL where this rank
 * is no member of group g. A rank may be in several groups. Collective over the world. All ranks pass the
 * same list; the lists are compared first: where they differ every rank gets STATUS_INTERNAL with one message
 * that names a rank that differs from rank 0. Invalid lists (the same on all ranks): STATUS_INTERNAL.
 * Everything or nothing is created. */
status_t comm_split(struct comm *world, int n_groups, const struct comm_membership *groups,
                    struct comm **groups_out);

/* Free a group. Collective over it, does not wait for others' data. No operation may be under way. Sets *comm
 * to NULL; NULL is accepted. */
void comm_free(struct comm **comm);

/* ---- operations under way ---------------------------------------------------------------------------------
 */

/* Wait until the operation is done, within the deadline (counted from this call). Not collective in itself.
 * Consumes the request whatever happens: *request becomes NULL. A NULL request is done. */
status_t comm_wait(struct comm_request **request);
status_t comm_wait_device(struct comm_request **request);

/* What waits are for, in the sums below. */
enum comm_purpose { COMM_FOR_ANYTHING, COMM_FOR_EXCHANGE, COMM_FOR_GRADIENTS };

/* Seconds that this rank has spent in waits since the start: FOR_ANYTHING, in all of the family's; otherwise
 * in this communicator's exchanges (exchange_end()) or gradient buckets (buckets_wait(),
 * buckets_gather_parameters()). What is added from one moment to another is the part of that time in which
 * it did nothing itself. On the host the time inside the calls; on a device what its stream stood still in
 * comm_wait_device(), by the device's own clock. The latter is known once the device is past the wait: what
 * is still under way is added later. Never waits; not collective. */
double comm_waited_s(struct comm *comm, enum comm_purpose purpose);

/* Is it done? Then *done = true and *request is consumed. Never waits. */
status_t comm_test(struct comm_request **request, bool *done);

/* Let operations under way make progress. Not collective; cheap: returns at once when the last call was less
 * than 50 us ago or nothing is under way. Failures it learns of are returned by the next wait or begin. */
void comm_poke(struct comm *comm);

/* ---- collective operations --------------------------------------------------------------------------------
 */

enum comm_type { COMM_U8, COMM_I32, COMM_I64, COMM_U64, COMM_F32, COMM_F64, COMM_BF16 };
enum comm_op { COMM_SUM, COMM_MAX, COMM_MIN };

size_t comm_type_bytes(enum comm_type type);

/* Of all below: collective over the group; counts may pass 2^31; buffers are not
 * touched between begin and wait; *request is owned by the caller on STATUS_OK only and must be waited for;
 * it is NULL where nothing is left to wait for. bf16 adds in fp32 and rounds once to nearest even (in groups
 * above 32 after each addition). MAX and MIN of values that are not numbers are unspecified; a sum carries
 * them on. */

/* data[n_elem] = reduction over the ranks, on all ranks. */
status_t comm_all_reduce_begin(struct comm *comm, void *data, int64_t n_elem, enum comm_type type,
                               enum comm_op op, struct comm_request **request);

/* The same, on rank `root` only: on the others data[n_elem] is undefined afterwards. */
status_t comm_reduce_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                           enum comm_op op, struct comm_request **request);

/* data[offsets[size]] is cut at offsets[0] = 0 <= offsets[1] <= ... (size + 1 numbers, the same on all ranks,
 * not needed after the call). Rank r gets the reduction of part r, [offsets[r], offsets[r+1]), in place; its
 * other parts stay as they were. */
status_t comm_reduce_scatter_begin(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                                   enum comm_op op, struct comm_request **request);

/* The reverse: rank r brings part r of data[offsets[size]], and all ranks get all parts. */
status_t comm_all_gather_begin(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                               struct comm_request **request);

/* data[n_elem] of rank `root` to all. */
status_t comm_broadcast_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                              struct comm_request **request);

/* part[offsets[r+1] - offsets[r]] of every rank r into whole[offsets[size]] of rank `root` (NULL elsewhere).
 */
status_t comm_gather_begin(struct comm *comm, int root, const void *part, void *whole, const int64_t *offsets,
                           enum comm_type type, struct comm_request **request);

/* Begin and wait in one. */
status_t comm_all_reduce(struct comm *comm, void *data, int64_t n_elem, enum comm_type type, enum comm_op op);
status_t comm_reduce_scatter(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                             enum comm_op op);
status_t comm_all_gather(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type);
status_t comm_broadcast(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type);
status_t comm_gather(struct comm *comm, int root, const void *part, void *whole, const int64_t *offsets,
                     enum comm_type type);
status_t comm_barrier(struct comm *comm);

/* Bytes of lengths that only their owners know. On `root`, *whole is allocated (release with free()) and part
 * r is
 * (*whole)[offsets[r] .. offsets[r+1]), offsets[size + 1] given by the caller; elsewhere both are untouched
 * and may be NULL. Host memory. */
status_t comm_gather_bytes(struct comm *comm, int root, const void *part, int64_t n_bytes, char **whole,
                           int64_t *offsets);

/* *any = whether any rank passed true: one small all-reduce, for flags such as "a signal came" at the end of
 * a step. Host side. */
status_t comm_any(struct comm *comm, bool flag, bool *any);

/* ---- transfers between pairs of ranks ---------------------------------------------------------------------
 */

struct comm_transfer {
    int rank;       /* of the communicator; may be this rank itself */
    void *data;     /* sent from, or received into */
    size_t n_bytes; /* the same on both sides; 0 is left out on both sides */
};

/* One group of sends and receives, all under way together. Between two ranks the k-th send meets the k-th
 * receive; what a rank sends to itself is copied. Not collective, but every send needs its receive. The
 * arrays are not needed after the call, the data until the wait is over. */
status_t comm_transfer_begin(struct comm *comm, const struct comm_transfer *sends, int n_sends,
                             const struct comm_transfer *receives, int n_receives,
                             struct comm_request **request);

/* ---- failures ---------------------------------------------------------------------------------------------
 */

struct comm_verdict {
    bool reached; /* rank 0 heard the ranks and told us; false: nothing known but this rank's own failure */
    bool shared;  /* every rank reported the same status and message: one line says it all, and all ranks can
                     end in order (comm_finish() then skips its barrier) */
    int first_rank;    /* world rank whose failure rank 0 heard first */
    int n_failed;      /* ranks with a failure of their own */
    int n_silent;      /* ranks that said nothing in time */
    status_t status;   /* of first_rank */
    char message[768]; /* of first_rank */
    char host[64];     /* of first_rank */
};

/* Tell the others that this rank failed, and learn what is known: called by the one that ends the process,
 * with the status and the status_message() of what it did. Ranks that wait in an operation of this family
 * give it half a second more (perhaps they are about to fail in the same way), then return the same status
 * with "rank R on HOST: message", which this call recognises as not their own. Collective over the world
 * where all ranks fail; bounded by 3 s. What the caller prints: where shared, rank 0 the message, once; where
 * reached, rank first_rank its message with rank and host; where not reached, every rank its own. */
void comm_agree_on_failure(struct comm *world, status_t status, const char *message,
                           struct comm_verdict *verdict);

#endif
