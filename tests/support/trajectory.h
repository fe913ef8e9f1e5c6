/* Comparing steps of training with golden trajectories (golden README: errors, movement of parameters). */
#ifndef TESTS_SUPPORT_TRAJECTORY_H
#define TESTS_SUPPORT_TRAJECTORY_H

#include "comm/comm.h"
#include "common/interval.h"
#include "models/net.h"
#include "tests/support/golden_h5.h"

/* A test program's main: run_file() for each file of golden_folder() that matches pattern ("cotrain_*.h5"),
 * on all ranks, with *world and *be open. Fails where there is none; skipped (exit 77) where GOLDEN is set.
 */
int trajectory_main(int argc, char **argv, struct comm **world, struct backend **be, const char *pattern,
                    void (*run_file)(const char *name));

/* The ranks of `world` shared out to two peers: the first gets the larger half; one rank alone has both. */
enum { TRAJECTORY_N_PEERS = 2 };
struct trajectory_groups {
    struct comm_membership members[TRAJECTORY_N_PEERS];
    int ranks[TRAJECTORY_N_PEERS][64];
    struct comm *groups[TRAJECTORY_N_PEERS]; /* owned by the caller; NULL: not this rank's peer */
};
/* Collective over world. names: borrowed. */
void trajectory_share_ranks(struct comm *world, const char *const names[TRAJECTORY_N_PEERS],
                            struct trajectory_groups *out);

/* A numeric array attribute: its length; up to `capacity` numbers into out (may be NULL). */
size_t trajectory_numbers(hid_t at, const char *path, const char *name, double *out, size_t capacity);

/* Rows [rows) of the data set at path, `columns` wide, against got (host memory), within its attribute
 * `allowed`: error = max |got - want| / max(max |want| of the whole data set, floor). */
void trajectory_check_rows(hid_t at, const char *path, const float *got, struct interval rows,
                           int64_t columns);

/* Equal integers: int32 or uint8 (one of the two given). */
void trajectory_check_integers(hid_t at, const char *path, const int32_t *got, const uint8_t *got_u8,
                               struct interval rows);

/* A small data set of reals against numbers. */
void trajectory_check_numbers(hid_t at, const char *path, const double *got, size_t n);

/* Parameters at the start, in the framework's layout. */
struct trajectory_start {
    float **values; /* [n_params] */
    int32_t n;
};
void trajectory_remember(struct net *net, struct trajectory_start *start);
void trajectory_forget(struct trajectory_start *start);

/* Every data set of the group at path (none where it does not exist) against the net's gradients, its
 * parameters (by movement: rms(got - want) / max(rms(want - start), floor), without the rows of
 * `ignore_rows`), its buffers. */
void trajectory_check_gradient(hid_t at, const char *path, struct net *net);
void trajectory_check_parameters(hid_t at, const char *path, struct net *net,
                                 const struct trajectory_start *start);
void trajectory_check_running(hid_t at, const char *path, struct net *net);

#endif
