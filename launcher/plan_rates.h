/* How fast a machine is, for `plan`: measured by `plan --calibrate`, written by hand, or a built-in goal. */
#ifndef LAUNCHER_PLAN_RATES_H
#define LAUNCHER_PLAN_RATES_H

#include "training/settings.h"

#include "common/status.h"

#include <stdbool.h>
#include <stdio.h>

enum { RATES_MAX_POINTS = 16, RATES_MAX_NETWORKS = SETTINGS_MAX_PEERS + 1 };

/* One step of one rank with this many images (views count one by one): forward of all of them, then losses
 * and backward. */
struct rate_point {
    double images, forward_s, backward_s;
};

struct network_rate {
    char name[64];    /* of the peer, or "student" */
    double macs;      /* multiply-accumulates of one image, forward; 0: not said, not compared */
    bool recompute;   /* backward_s has the second forward in it */
    double update_s;  /* the whole optimiser step */
    double data_s;    /* processor time to read, decode and view one image; 0: not known, taken as hidden */
    double predict_s; /* one image, forward only; 0: a third of a training step's */
    int n_points;
    struct rate_point points[RATES_MAX_POINTS]; /* ascending in images */
};

/* Time of a message = latency + bytes / rate. */
struct link_rate {
    double latency_s, bytes_per_s;
};

struct plan_rates {
    char kind[16];   /* "measured", "given", "goal", "floor" */
    char about[160]; /* of what and when, one line */
    char device[32]; /* "cpu" or the name of a GPU */
    double cores;    /* of a node; GPUs: 0, a rank has one for itself */
    double threads;  /* a rank computes with */
    double workers;  /* decoding threads a rank */
    double busy;     /* time of a step with all cores busy / alone, >= 1 */
    double head_flop_per_s;
    double memory_bytes_per_s;     /* of the optimiser's sweep; 0: update_s says it */
    double flop_per_s[3];          /* by enum model_family; 0: only `networks` count */
    struct link_rate intra, inter; /* between ranks of a node (a rank's); between nodes (a node's) */
    bool intra_known, inter_known; /* false: assumed */
    int n_networks;
    struct network_rate networks[RATES_MAX_NETWORKS];
};

/* Built-in rates by name ("h100", "h100-floor"). STATUS_USAGE lists the names. */
status_t rates_builtin(const char *name, struct plan_rates *out);

/* A rates file. Every fault with line and column; STATUS_BAD_CONFIG, STATUS_MISSING. */
status_t rates_read(const char *path, struct plan_rates *out);
status_t rates_parse(const char *origin, const char *text, size_t n_bytes, struct plan_rates *out);
void rates_write(const struct plan_rates *rates, FILE *out);

const struct network_rate *rates_find(const struct plan_rates *rates, const char *name); /* NULL: not there */

/* Times of `images` images between (and, along the outer two points, beyond) the points; one point: in
 * proportion. 0 images take no time. */
double rate_forward_s(const struct network_rate *rate, double images);
double rate_backward_s(const struct network_rate *rate, double images);

#endif
