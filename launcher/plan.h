/* What `plan` knows of a configuration on a machine, and what it predicts. */
#ifndef LAUNCHER_PLAN_H
#define LAUNCHER_PLAN_H

#include "launcher/placement.h"
#include "launcher/plan_step.h"

#include "models/net.h"

enum { PLAN_MAX_CURVE = 16, PLAN_MAX_SPLITS = 32, PLAN_STUDENT = SETTINGS_MAX_PEERS };

/* Numbers of images and classes, from the lists where they can be read or from the command line. */
struct plan_data {
    bool known;
    int64_t source, labelled, unlabelled, validation;
    int32_t n_classes;
};

/* A peer, or the student. */
struct plan_network {
    const char *name; /* of the peer, or "student"; borrowed */
    struct model_spec spec;
    int32_t image;
    double macs, n_params; /* of an image forward; parameters */
    double trained_share;  /* of backward's multiplications, 1 where nothing is frozen */
    int32_t n_features;
    int n_norms; /* batch norms */
    double n_param_bytes;
    int n_buckets;
    double *bucket_bytes, *bucket_done; /* [n_buckets], owned */
};

/* Where ranks run: the started ones, or imagined hosts. */
struct plan_world {
    int n_ranks, n_hosts;
    int *host;      /* [n_ranks], owned */
    int *n_devices; /* [n_hosts], owned; NULL: CPUs */
    struct placement placement;
};

struct plan_stage {
    const char *name; /* "features", "heads", "warm-up", "co-training", "evaluation", "distillation" */
    double n_steps, step_s, time_s;
};

struct plan_point {
    int n_hosts, n_ranks;
    int group_size[SETTINGS_MAX_PEERS];
    struct step_result step;
    double speed_up, efficiency; /* against the first */
};

struct plan_split {
    int first; /* ranks of the first of two peers */
    double step_s;
};

struct plan {
    const struct settings *settings; /* borrowed */
    const struct plan_rates *rates;  /* borrowed; NULL: no times */
    struct plan_data data;
    enum dtype precision;
    double measure_s; /* plan_calibrate(): seconds of each of its measurements */
    struct plan_network networks[SETTINGS_MAX_PEERS + 1]; /* [n_peers], and PLAN_STUDENT */
    struct plan_world world;
    /* filled by plan_predict(), with rates */
    struct step_result step, warmup, distil;
    struct plan_stage stages[8];
    int n_stages;
    double total_s;
    struct plan_point curve[PLAN_MAX_CURVE];
    int n_curve, bend; /* bend: index of the last point worth its ranks; n_curve - 1: no bend seen */
    struct plan_split splits[PLAN_MAX_SPLITS];
    int n_splits, best_split;
};

/* Read the lists of settings; files that are not there leave *out unknown. STATUS_BAD_DATA where a list is
 * damaged. */
status_t plan_data_read(const struct settings *settings, struct plan_data *out);

/* Networks, their parameters and buckets; nothing is allocated on a backend. precision auto is bf16 on GPUs.
 * Owned until plan_free(). */
status_t plan_new(const struct settings *settings, const struct plan_data *data,
                  const struct plan_rates *rates, bool gpus, struct plan *out);
void plan_free(struct plan *plan); /* accepts a zeroed struct; frees the world too */

/* n_hosts equal hosts of per_host ranks, each with a GPU or none. *out is owned by the caller. ranks: of each
 * peer, 0 by its settings; NULL: all by their settings. */
status_t plan_world_make(const struct settings *settings, int n_hosts, int per_host, bool gpus,
                         const int *ranks, struct plan_world *out);
void plan_world_free(struct plan_world *world);

/* Rates of a network in this plan: measured ones by name, or from the device's FLOP/s. STATUS_BAD_CONFIG
 * where the rates are of another network or have none of that name. */
status_t plan_network_rate(const struct plan *plan, int network, struct network_rate *out);

/* Times of a step in plan->world, of the stages, of other numbers of hosts (counts[n_counts], ascending) and
 * of other splits between two peers. Needs rates. */
status_t plan_predict(struct plan *plan, const int *counts, int n_counts);

enum plan_phase { PLAN_WARMUP, PLAN_COTRAIN, PLAN_DISTIL };
status_t plan_predict_step(const struct plan *plan, const struct plan_world *world, enum plan_phase phase,
                           struct step_result *out);

/* FLOPs of one step of co-training, all ranks together. */
double plan_step_flop(const struct plan *plan);

/* Why the step is as long as it is, in one or more sentences; the page and the text say the same. */
void plan_say(const struct plan *plan, FILE *out, const char *line_begin, const char *line_end);

void plan_put_bytes(FILE *out, double n_bytes); /* "12.5 MiB" */
void plan_put_time(FILE *out, double time_s);   /* "3.2 ms" ... "4.1 h" */

/* Hours of what is paid for: GPUs, or all cores of the hosts. */
double plan_unit_hours(const struct plan *plan);

void plan_print(const struct plan *plan, FILE *out); /* text */

/* One page that stands alone: nothing is fetched, light and dark. `config` and `version` are only shown. */
status_t plan_print_html(const struct plan *plan, const char *config, const char *version, FILE *out);

/* Measure this machine: `networks` of the plan on rank 0, on all cores or on the first GPU (device: settled),
 * and on the CPU the links between the ranks of `world` (NULL: none). Collective over world. plan->rates is
 * not needed. */
struct comm;
status_t plan_calibrate(const struct plan *plan, enum device_choice device, struct comm *world,
                        struct plan_rates *out);

#endif
