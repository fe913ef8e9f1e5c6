/* The loss of one peer in one step of the end-to-end stage (METHOD.md section 4), from logits to their
 * gradients.
 *
 * Terms, with N the sizes of the *global* batch, so that the sums over the ranks of a group are the loss of
 * the group and its gradient, however unevenly the rows are shared out: source       w / (kept source rows of
 * the group) * sum over rows with own confidence > tau_source of CE smoothed (warm-up: w / N_s * sum over all
 * rows) labelled     w / N_t * sum of CE smoothed consistency  w / N_u * sum over rows in the own mask of
 * CE(strong view, own label) cotraining   w / N_u * sum over rows in the other peer's mask of CE(own view,
 * the other peer's label); several other peers: the mean over them coral        Deep CORAL, see deep_coral.h;
 * not computed here No gradient runs through confidences, labels or masks. An empty mask makes its term 0.
 *
 * Collective over the peer's group through `reduce` (one number: the kept source rows). */
#ifndef TRAINING_COTRAIN_LOSS_H
#define TRAINING_COTRAIN_LOSS_H

#include "models/net.h"

enum loss_term { LOSS_SOURCE, LOSS_LABELLED, LOSS_CONSISTENCY, LOSS_COTRAINING, LOSS_CORAL, LOSS_N_TERMS };

/* "source", "labelled", ...: names in metrics.jsonl and in golden files. */
const char *loss_term_name(enum loss_term term);

/* The inputs of a step, in the order of the batch. */
enum step_input { INPUT_SOURCE, INPUT_LABELLED, INPUT_UNLABELLED, INPUT_STRONG, N_INPUTS };
const char *step_input_name(enum step_input input);

/* Memory of the backend that the loss works in, for up to `n` rows of each input. */
struct cotrain_loss_buffers {
    int64_t n[N_INPUTS];           /* rows of this rank */
    float *source_confidence;      /* (N_s) */
    int32_t *source_label;         /* (N_s) its own argmax, not the truth */
    uint8_t *source_mask;          /* (N_s) */
    float *confidence;             /* (N_u) own, of the own view */
    int32_t *label;                /* (N_u) */
    uint8_t *mask;                 /* (N_u) */
    struct pseudo_label *send;     /* (N_u) */
    struct pseudo_label **receive; /* [n_others] (N_u) each; host array of pointers into backend memory */
    int32_t *other_label;          /* (N_u) of the peer at hand */
    uint8_t *other_mask;           /* (N_u) */
    double *kept_source;           /* (1) of the group */
    float *source_scale;           /* (1) */
    double *sums;                  /* (LOSS_N_TERMS) raw sums of this rank: not weighted, not divided */
    int32_t n_others;
    void *block; /* all of the above */
};

/* Owned by the caller; release with cotrain_loss_buffers_free(). n_others: peers whose labels come in. */
status_t cotrain_loss_buffers_new(const struct ops *ops, struct backend *be, const int64_t n[N_INPUTS],
                                  int32_t n_others, struct cotrain_loss_buffers *out);
void cotrain_loss_buffers_free(const struct ops *ops, struct backend *be,
                               struct cotrain_loss_buffers *buffers);

struct cotrain_loss {
    const struct ops *ops;
    struct backend *be;
    int32_t n_classes;
    int64_t n_global[N_INPUTS];    /* rows of the global batch */
    const float *logits[N_INPUTS]; /* (N,K) of this rank; NULL where the step has no such input */
    float *dlogits[N_INPUTS];      /* (N,K) "=" */
    const int32_t *labels[2];      /* (N) of source and labelled, backend memory */
    float weight[LOSS_N_TERMS];
    float smoothing, tau, tau_source;
    reduce_fn reduce; /* over the group; NULL: alone */
    void *reduce_context;
};

/* Warm-up: the two supervised terms over all rows. */
status_t cotrain_loss_warmup(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b);

/* First half of a co-training step, after the forward pass of the unlabelled own view: confidence, label,
 * mask, and the message in b->send. */
status_t cotrain_loss_label(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b);

/* Second half, after all forward passes and with b->receive complete: all terms but coral, all dlogits. */
status_t cotrain_loss_terms(const struct cotrain_loss *loss, struct cotrain_loss_buffers *b);

/* Turn raw sums (of the whole group: already added up over its ranks) and the number of kept source rows into
 * the unweighted terms that golden files and logs show. Host memory; coral is passed through. */
void cotrain_loss_means(const struct cotrain_loss *loss, bool warmup, const double *sums, double kept_source,
                        int32_t n_others, double terms[LOSS_N_TERMS]);

#endif
