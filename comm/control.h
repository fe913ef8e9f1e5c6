/* Inside comm/: the ranks' talk about failures, beside the data.
 *
 * Small messages on a communicator of their own, looked for in every wait and poke. Failures go to rank 0,
 * which tells all; a rank whose wait passes its deadline asks the others of its group what they are doing. */
#ifndef COMM_CONTROL_H
#define COMM_CONTROL_H

#include "comm/comm_impl.h"

/* Collective over the world. */
status_t control_start(struct comm_family *family, MPI_Comm world);
void control_stop(struct comm_family *family);
/* Without the collective part: after a failure. */
void control_drop(struct comm_family *family);

/* Receive and answer whatever has come; also lets MPI make progress. Never waits. */
void control_poll(struct comm_family *family);

/* Ask the ranks that `request` may be waiting for, and write who is missing to `text`; "" when that is
 * unknown. Takes up to COMM_ASK_S. */
void control_explain(struct comm_request *request, char *text, size_t n_bytes);

#endif
