/* A run: what all of its stages share on one rank.
 *
 * run_open() opens data, groups, files and the backend; run_stages() works through the stages that are not
 * done yet; run_close() releases everything. Collective over the world, all three. */
#ifndef TRAINING_RUN_H
#define TRAINING_RUN_H

#include "comm/comm.h"
#include "data_shards/view.h"
#include "models/net.h"
#include "training/metrics.h"
#include "training/results.h"
#include "training/run_data.h"
#include "training/settings.h"

#include <signal.h>

/* One peer as a rank sees it. */
struct run_peer {
    const struct peer_settings *settings;
    int32_t index;
    struct comm *group;     /* NULL: this rank does not serve the peer */
    int32_t image;          /* side S */
    struct model_spec spec; /* with n_classes, drop-path, head and init put in */
    struct view_spec view;  /* own view */
    struct view_spec strong;
};

struct run {
    const struct settings *settings;
    struct comm *world;
    int32_t n_peers;
    struct run_peer peers[SETTINGS_MAX_PEERS];
    struct comm_membership members[SETTINGS_MAX_PEERS]; /* ranks borrowed from the caller */
    const struct ops *ops;
    struct backend *be;
    enum dtype precision;
    int32_t n_workers; /* decoding threads */
    struct run_data data;
    struct metrics *metrics;     /* NULL but on rank 0 */
    struct results *results;     /* NULL but on rank 0 */
    volatile sig_atomic_t *stop; /* set by a signal handler: finish the step, checkpoint, STATUS_STOPPED */
    bool writes;                 /* rank 0 */
};

struct run_options {
    const struct settings *settings; /* borrowed until run_close(), as all below */
    struct comm *world;
    const struct comm_membership *members; /* [settings->n_peers] */
    const struct ops *ops;
    struct backend *be;
    enum dtype precision;        /* resolved from settings->precision */
    int32_t n_workers;           /* resolved from settings->data.workers */
    volatile sig_atomic_t *stop; /* NULL: none */
};

/* Owned by the caller until run_close(). Makes the run's folder (rank 0), opens shards and lists on every
 * rank, makes the groups. Errors of input are found here, before any training. */
status_t run_open(const struct run_options *options, struct run **out);
void run_close(struct run *run); /* NULL is fine */

/* Every stage of the configuration that is not done yet. STATUS_STOPPED after a signal. */
status_t run_stages(struct run *run);

/* A file of the run's directory: folder "" for the top (caller frees); NULL when out of memory. */
char *run_path(const struct run *run, const char *folder, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Has a signal come to any rank? Collective over the world. */
status_t run_should_stop(struct run *run, bool *stop);

/* A net of peer p: initial weights from the file or drawn. */
status_t run_new_peer_net(struct run *run, const struct run_peer *peer, struct net **out);

/* A frozen backbone: no classifier, weights from the file or drawn. */
status_t run_new_backbone(const struct run *run, const struct run_peer *peer, enum dtype precision,
                          struct net **out);

/* The lowest layer (struct net_param) that is trained, from peers.P.freeze: that many leading stages, with
 * the stem, stay as they are. */
int32_t run_first_trained_layer(const struct run_peer *peer, const struct net *net);

/* The stage a parameter belongs to by its name ("stages.2.blocks..", "layers.1..", "features.7.."), -1: none.
 */
int run_parameter_stage(const char *name);

/* The stages. Each resumes from its checkpoints, writes its models and results, and is done when it returns
 * STATUS_OK. Collective over the world. */
status_t stage_features(struct run *run);
status_t stage_heads(struct run *run);
status_t stage_cotrain(struct run *run);
status_t stage_distil(struct run *run);

#endif
