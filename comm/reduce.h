/* Inside comm/: sums, maxima and minima of arrays. */
#ifndef COMM_REDUCE_H
#define COMM_REDUCE_H

#include "comm/comm.h"

/* out[i] = inputs[0][i] op inputs[1][i] op ... op inputs[n_inputs - 1][i], in that order. `out` may be one of
 * the inputs. bf16 is added in fp32 and rounded once, to nearest even. */
void reduce_in_order(void *out, const void *const *inputs, int n_inputs, int64_t n_elem, enum comm_type type,
                     enum comm_op op);

#endif
