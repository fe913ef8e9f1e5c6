/* Random cases of every operation: odd channels, 1x1 maps, no images at all, strides and padding, masks,
 * outputs that accumulate, gradients not asked for, outputs in place of inputs. */
#ifndef TESTS_SUPPORT_OP_RANDOM_H
#define TESTS_SUPPORT_OP_RANDOM_H

#include "tests/support/op_case.h"

/* The case of this number; 0 .. n_random_operations-1 run through all operations once, and so on. Small cases
 * are for finite differences: a few elements, nothing accumulates, every gradient is asked for. Release with
 * case_free(). */
struct op_case *random_case(uint64_t seed, uint32_t number, bool small);
extern const uint32_t n_random_operations;

#endif
