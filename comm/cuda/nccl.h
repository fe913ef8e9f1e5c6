/* comm.h over NCCL: world and groups that move a GPU's memory.
 *
 * One thread issues everything, on one communication stream for the world and all groups: a total order on
 * every rank, which NCCL's rule for several communicators needs. An operation waits on that stream for what
 * the compute stream had queued when it was begun; comm_wait_device() makes the compute stream wait for it.
 * Nothing blocks inside NCCL (blocking = 0): every wait looks at the events, at ncclCommGetAsyncError(), at
 * the other ranks' failures (MPI) and at the deadline. A failure aborts all communicators. A thread watches
 * that no call stays inside NCCL beyond the deadline; then it ends the process with exit code 75. */
#ifndef COMM_CUDA_NCCL_H
#define COMM_CUDA_NCCL_H

#include <cuda_runtime_api.h>

#include "comm/comm.h"

/* Let `world`, and groups made from now on, take memory of `device`, ordered with the stream `compute`, and
 * warm their connections up under the present deadline. Collective over the world; before any group is made.
 * comm_host_side() of world and groups is what they were before: MPI on host memory. In a world of one there
 * is no NCCL, only copies on the device. */
status_t nccl_open(struct comm *world, int device, cudaStream_t compute);

/* The world takes host memory again. In order: collective over the world, after its groups are freed; waits
 * for what is under way, under the deadline. failed: not collective, waits for nobody; everything under way
 * is aborted, and the process must end within CLOSE_LIMIT_S (or is ended). */
status_t nccl_close(struct comm *world, bool failed);

/* For whoever waits on the host for the compute stream, which may wait for what never comes: call it again
 * and again, with the world. Not collective. The failure, if any, and then everything is aborted. */
status_t nccl_look(void *world);

/* "NCCL 2.28.9" */
void nccl_version_text(char *text, size_t n_bytes);

#endif
