/* The optimiser of one network: SGD (Nesterov) or AdamW over the net's flat buffers, with parameter groups,
 * clipping by the global norm, skipping of steps that are not finite, and an average of the weights.
 *
 * Parameter groups come from the parameter table (struct net_param): no decay on one-axis parameters and
 * position tables (settings.no_decay_norms; otherwise decay on all), layer-wise decay of the rate by timm's
 * layer numbers, backbone_scale for everything but the classifier.
 *
 * ZeRO-1: an optimiser made for part [begin, end) of the flat buffer keeps state for that part only and
 * updates that part only; the caller reduces gradients to it and gathers the parameters after. */
#ifndef TRAINING_OPTIMISER_H
#define TRAINING_OPTIMISER_H

#include "common/interval.h"
#include "models/net.h"
#include "training/settings.h"

struct optimiser;

/* Owned by the caller until optimiser_free(); net is borrowed. part: whole buffer or this rank's shard. ema:
 * decay of the averaged weights, 0: none. State starts at zero. */
status_t optimiser_new(struct net *net, const struct optimizer_settings *settings, struct interval part,
                       double ema, struct optimiser **out);
void optimiser_free(struct optimiser *optimiser); /* NULL is fine */

/* Bytes of state for a whole buffer of n_elem (planner): 1 or 2 fp32 a parameter, one more with ema. */
size_t optimiser_state_bytes(const struct optimizer_settings *settings, int64_t n_elem, double ema);

/* As new: state zero, step count zero. The average starts again from the present weights. */
status_t optimiser_reset(struct optimiser *optimiser);

/* One update with rate `lr` (the schedule's, before groups' factors) from net_grads(), which hold the
 * gradient of the global batch (in the part). Order: sum of squares of the part -> `reduce` over the ranks
 * that hold the other parts (NULL: this rank holds all; fp64, backend memory, 2 numbers) -> clip factor, skip
 * flag -> update, shadow, ema. A gradient with NaN or Inf changes nothing. Enqueues only: the outcome is read
 * with optimiser_outcome(). */
status_t optimiser_step(struct optimiser *optimiser, double lr, reduce_fn reduce, void *reduce_context);

struct optimiser_outcome {
    double gradient_norm; /* before clipping; NAN or INFINITY where it was not finite */
    bool skipped;         /* this step changed nothing */
    int64_t n_steps;      /* updates done since the reset, skipped ones not counted */
    int64_t n_skipped_in_a_row;
};

/* Of the last step; waits for it. Also keeps the step count right after a skip. Call once after each step. */
status_t optimiser_outcome(struct optimiser *optimiser, struct optimiser_outcome *out);

/* The averaged weights, backend memory, index 0 = element part.begin; NULL without ema. */
float *optimiser_ema(struct optimiser *optimiser);

/* State for checkpoints: buffers of the part's length in backend memory (index 0 = part.begin): SGD 1, AdamW
 * 2, plus the average as the last with ema; names "momentum" | "m", "v" | "ema". */
int32_t optimiser_n_states(const struct optimiser *optimiser);
const char *optimiser_state_name(const struct optimiser *optimiser, int32_t index);
float *optimiser_state(struct optimiser *optimiser, int32_t index);

/* Rate factor and weight decay of one parameter in a net whose classifier has layer number last_layer. */
struct optimiser_segment optimiser_group(const struct optimizer_settings *settings,
                                         const struct net_param *param, int32_t last_layer);

/* The step count, for checkpoints. */
int64_t optimiser_n_steps(const struct optimiser *optimiser);
void optimiser_set_n_steps(struct optimiser *optimiser, int64_t n_steps, int64_t n_skipped_in_a_row);

#endif
