/* One case of golden/nets: the network with its weights on a backend, its batch, and the expected tensors. */
#ifndef TESTS_SUPPORT_GOLDEN_NET_H
#define TESTS_SUPPORT_GOLDEN_NET_H

#include "models/net.h"
#include "models/safetensors.h"

#include <jansson.h>

struct golden_net {
    char name[128];
    json_t *about; /* case.json */
    struct safetensors *expected;
    struct model_spec spec;
    int32_t batch, height, width;
    bool train;      /* batch norm by the batch's statistics */
    float *images;   /* (N,H,W,3) */
    int32_t *labels; /* (N) */
    struct net *net;
};

/* A table of operations with an open backend. */
struct golden_backend {
    const struct ops *ops;
    struct backend *be;
};

/* Folders in $GOLDEN/nets (default tests/golden/nets) in order of their names; at most 64. Returns their
 * number. Where GOLDEN is set and has no networks, the test is skipped (exit 77). */
int golden_net_list(char paths[64][512]);

/* check() for every folder of that list; fails where there is none. */
void golden_net_each(struct golden_backend backend,
                     void (*check)(const char *folder, struct golden_backend backend));

/* Open a case; ends the test on failure. */
void golden_net_open(struct golden_net *c, const char *folder, struct golden_backend backend,
                     enum dtype precision);
void golden_net_close(struct golden_net *c);

double golden_net_number(const struct golden_net *c, const char *key);   /* of case.json */
double golden_net_allowed(const struct golden_net *c, const char *kind); /* case.json's allowed[kind] */

/* The expected tensor `name` in fp32 (malloc), n_elem checked; NULL where the case has none. */
float *golden_net_expected(const struct golden_net *c, const char *name, int64_t n_elem);

/* max |got - want| / max(max |want|, floor); infinite where got is not finite. */
double golden_net_error(const float *got, const float *want, int64_t n_elem, double floor);

/* The batch into a pass, and forward. */
void golden_net_forward(struct golden_net *c, struct pass *pass);

/* The batch into a pass, forward, loss over the batch with the case's smoothing, backward; returns the loss.
 * Gradients are zeroed first. */
double golden_net_step(struct golden_net *c, struct pass *pass, bool backward);

/* Device fp32 or bf16 to host fp32 (malloc). */
float *golden_net_fetch(const struct net *net, const void *device, enum dtype dtype, int64_t n_elem);

#endif
