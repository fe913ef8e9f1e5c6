/* Class probabilities of a network over a split, and what they are worth. */
#ifndef TRAINING_PREDICT_H
#define TRAINING_PREDICT_H

#include "common/interval.h"
#include "training/run.h"

struct predictor;

/* A network made ready to infer in batches; owned by the caller. The net is borrowed; its weights are read as
 * they are at each run. */
status_t predictor_new(struct run *run, struct net *net, int32_t image, struct predictor **out);
void predictor_free(struct predictor *predictor); /* NULL is fine */

/* The net has no classifier: answer with this head on its features. Borrowed. */
struct frozen_head;
status_t predictor_use_head(struct predictor *predictor, const struct frozen_head *head);

/* probabilities (n,K) host memory "=" of all n rows of the split, on every rank of `group`; each rank works
 * on its interval. Collective over the group. `view` is deterministic. */
status_t predictor_run(struct predictor *predictor, struct comm *group, const struct split *split,
                       const struct view_spec *view, float *probabilities);

/* Largest of p[0..k), ties: lowest index. */
int32_t argmax(const float *p, int32_t k);

/* Per cent of rows whose argmax is the label; rows labelled -1 do not count; NAN where none counts. */
double accuracy(const float *probabilities, const struct split *split, int32_t n_classes);

/* (K,K) += counts, row = truth, column = answer. */
void count_confusion(const float *probabilities, const struct split *split, int32_t n_classes,
                     int64_t *confusion);

/* The peers and their ensemble (argmax of the sum of softmax) on the target's lists: validation, unlabelled,
 * and unlabelled without validation images where those lie inside. nets[p], predictors of this rank's peers
 * (NULL elsewhere). Rank 0 puts the accuracies into results under `phase`, and the ensemble's confusion
 * matrix. Writes nothing to disk. Collective over the world. */
status_t evaluate_peers(struct run *run, struct predictor *const *predictors, const char *phase);

/* What evaluate_peers() found, a line a peer; rank 0 only. */
void log_peer_accuracies(const struct run *run, const char *phase);

/* A hopeless peer poisons a sound one: say so after phase "supervised", while it can be mended; rank 0 only.
 */
void warn_of_hopeless_peers(const struct run *run);

/* One model's probabilities (n,K) on validation or unlabelled; rank 0 only. */
status_t note_model_probabilities(struct run *run, const struct split *split, const char *phase,
                                  const char *model, const float *probabilities);

/* The same from probabilities (peers,n,K) of one of the run's lists (validation or unlabelled); rank 0 only.
 */
status_t note_probabilities(struct run *run, const struct split *split, const char *phase, const float *all);

#endif
