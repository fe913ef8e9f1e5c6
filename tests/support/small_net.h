/* Small networks of each family with random weights on the reference operations, for tests of the graph. */
#ifndef TESTS_SUPPORT_SMALL_NET_H
#define TESTS_SUPPORT_SMALL_NET_H

#include "models/net.h"

enum { SMALL_SIDE = 32, SMALL_CLASSES = 5 };

/* ConvNeXt of three stages, Swin of two with shifted and clipped windows, MobileNet-V2 of width 0.1; no
 * drop-path. */
struct model_spec small_spec(enum model_family family);

/* A net of this shape for SMALL_SIDE x SMALL_SIDE with generic weights (no zeros, no ones). */
struct net *small_net(const struct ops *ops, struct backend *be, const struct model_spec *spec);

/* Fill (n,h,w,3) of a pass's input, and its dlogits, with numbers that depend on first_image + n only. */
void small_batch(struct net *net, struct pass *pass, int32_t n, int32_t first_image);

/* Gradients of all parameters, flat (malloc); zeroes them for the next step. */
float *small_take_grads(struct net *net);

struct pass *small_pass(struct net *net, int32_t batch, enum pass_mode mode, bool recompute);

#endif
