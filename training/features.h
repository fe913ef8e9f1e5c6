/* Pooled features of frozen backbones (METHOD.md section 2), computed once and kept in files.
 *
 * One file holds all images of one domain's shards through one backbone and one view, named
 *   FOLDER/<peer>-<domain>-<view>-<16 hex digits>.h5
 * where the digits are a hash of everything the numbers depend on: weights, network, resolution, view (the
 * strong view: its settings and seed too), precision, and the images of the shards (ids and checksums).
 * Another pair of domains or another run with the same hash takes the file as it is. features f32 (N,D), row
 * i = image i of the domain's shards; attributes peer, domain, view, key. While a file is being made,
 * finished pieces lie beside it as <file>.part-<first row>: a run that was stopped goes on behind them. */
#ifndef TRAINING_FEATURES_H
#define TRAINING_FEATURES_H

#include "common/interval.h"
#include "training/run.h"

enum feature_view { FEATURE_OWN, FEATURE_STRONG };

/* Rows of one split from the files: x (n rows of [rows), D) fp32, fresh memory the caller frees. The stage
 * `features` must be done. Not collective. */
status_t features_load(const struct run *run, const struct run_peer *peer, const struct split *split,
                       enum feature_view view, struct interval rows, int64_t d, float **out);

/* D of a peer's backbone. */
status_t features_width(const struct run_peer *peer, int64_t *d);

#endif
