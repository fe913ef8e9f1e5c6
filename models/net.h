/* A network: its parameters on one backend, and passes over it.
 *
 * A `net` owns flat buffers: fp32 master parameters, fp32 gradients, fp32 state buffers (batch norm's running
 * statistics) and, in bf16, a bf16 shadow of the parameters. A `pass` is the static graph of one (batch,
 * height, width, mode): built once, with one arena for activations, their gradients and scratch by liveness;
 * passes share the net. Several passes of one net may be forwarded before any is run backward (their
 * activations are their own).
 *
 * Not collective: nothing here knows ranks. Batch norm reduces its sums through a callback. */
#ifndef MODELS_NET_H
#define MODELS_NET_H

#include "models/model_spec.h"
#include "models/ops/ops.h"

struct net;
struct pass;

enum param_layout { PARAM_AS_IS, PARAM_CONV_OHWI, PARAM_DEPTHWISE_HWC };

/* One parameter or state buffer, named as timm (MobileNet-V2: torchvision) names it. */
struct net_param {
    const char *name; /* owned by the net */
    int32_t n_dims;
    int64_t shape[4]; /* in the framework's layout: convolution (out, in/groups, kh, kw), linear (out, in) */
    enum param_layout layout; /* how the flat buffer keeps it: as is, (out,kh,kw,in) or (kh,kw,C) */
    bool is_buffer;           /* running_mean, running_var: in net_buffers(), not in net_params() */
    bool is_table;            /* relative position bias table: one of the parameters without weight decay */
    bool is_head;             /* classifier */
    int32_t layer;            /* timm's layer number for layer-wise decay: 0 stem ... last the head */
    int64_t offset, n_elem;   /* in the flat buffer of its kind; every offset is a multiple of 16 elements */
    int64_t fan_in, fan_out;
};

/* Build a net for one input size; (height, width) fix Swin's window tables. Owned by the caller until
 * net_free(). `be` is borrowed and must outlive the net. precision: type of activations and matrices in all
 * its passes. */
status_t net_new(const struct ops *ops, struct backend *be, const struct model_spec *spec, int32_t height,
                 int32_t width, enum dtype precision, struct net **out);
void net_free(struct net *net); /* NULL is fine */

const struct model_spec *net_spec(const struct net *net);
const struct ops *net_ops(const struct net *net);
struct backend *net_backend(const struct net *net);
int32_t net_n_params(const struct net *net);                             /* parameters and buffers */
const struct net_param *net_param(const struct net *net, int32_t index); /* in forward order */
int32_t net_find_param(const struct net *net, const char *name);         /* -1: none */
int64_t net_n_elem(const struct net *net); /* length of params and grads, padding included */
int64_t net_n_buffer_elem(const struct net *net);
int32_t net_n_features(const struct net *net);          /* D: what the classifier receives */
int32_t net_first_trained_layer(const struct net *net); /* 0 unless net_freeze_below() was called */
void net_input_size(const struct net *net, int32_t *height, int32_t *width); /* as given to net_new() */
float *net_params(struct net *net);    /* (n_elem) memory of the backend; padding is 0 and stays 0 */
float *net_grads(struct net *net);     /* (n_elem); NULL until a training pass exists */
float *net_buffers(struct net *net);   /* (n_buffer_elem) */
uint16_t *net_shadow(struct net *net); /* (n_elem) bf16 copy of the parameters, NULL in fp32 */

/* Renew the shadow from the parameters (after loading; an optimiser step renews it itself). */
status_t net_refresh_shadow(struct net *net);

/* Initial weights drawn from rng_key {seed, purpose RNG_INIT, peer, item = index}, as spec->init says:
 * trunc_normal: sd 0.02 for matrices and convolutions, biases 0 (the papers'); xavier: uniform within
 * sqrt(6/(fan_in+fan_out)), classifier and position tables normal sd 0.02, biases 0, Swin's patch embedding
 * bias uniform within 1/sqrt(embed); norms 1 and 0; layer scale as the spec says; MobileNet-V2 as torchvision
 * (kaiming normal fan_out; classifier normal 0.01). */
status_t net_init(struct net *net, uint64_t seed, uint8_t peer);

/* A fresh classifier (weight and bias uniform in +-1/sqrt(D)), for fine-tuning pretrained weights. */
status_t net_init_head(struct net *net, uint64_t seed, uint8_t peer);

/* Copy one parameter (or buffer, or its gradient) between the flat buffer and fp32 host memory in the
 * framework's layout. */
status_t net_get(struct net *net, int32_t index, const float *flat_device, float *host);
status_t net_set(struct net *net, int32_t index, float *flat_device, const float *host);

/* Freeze everything below the first parameter with layer >= first_trained_layer: no gradient is computed
 * there. Call before the first pass. */
status_t net_freeze_below(struct net *net, int32_t first_trained_layer);

/* Bytes of the flat buffers. */
size_t net_n_bytes(const struct net *net, bool train);

/* MACs of one image, forward (convolution, linear, attention products), as golden/presets/sizes.tsv counts
 * them. */
int64_t net_macs(const struct net *net);

/* The same without memory or a backend: for placement and plan. */
struct model_cost {
    int64_t n_params, n_buffers, macs;
    size_t activation_bytes_train, activation_bytes_train_recompute,
        activation_bytes_infer; /* arena for `batch`,
             without the operations' scratch */
};
status_t model_cost(const struct model_spec *spec, int32_t batch, int32_t height, int32_t width,
                    enum dtype precision, struct model_cost *out);

/* A parameter as a planner of gradient traffic wants it. */
struct model_parameter {
    char name[96];
    int64_t offset, n_elem; /* of the flat buffer of its kind */
    int32_t layer;
    bool is_buffer, is_head;
    double backward_done; /* share of backward's multiplications that are done when its gradient is final */
};

/* The parameters and buffers of a network in forward order, without memory or a backend. *out [*n_out] is
 * owned by the caller (free()). */
status_t model_parameters(const struct model_spec *spec, int32_t height, int32_t width,
                          struct model_parameter **out, int32_t *n_out);

/* ---- passes ---- */

enum pass_mode { PASS_INFER, PASS_TRAIN };

struct pass_options {
    int32_t batch, height,
        width; /* N >= 0 rows of this rank; 0 is a pass that does nothing but takes part in reductions */
    enum pass_mode mode;
    bool recompute;         /* keep only the inputs of blocks and compute a block again in backward */
    bool input_grad;        /* compute pass_input_grad() (tests) */
    bool record;            /* replay runs of steps from a recording where the backend can (cuda.graph) */
    bool frozen_statistics; /* batch norm normalises by its running statistics in a training pass too */
};

/* Bytes of the arena such a pass has on this backend: exactly pass_arena_bytes(), nothing allocated. ops
 * NULL: without the operations' scratch. */
status_t model_arena_bytes(const struct ops *ops, struct backend *be, const struct model_spec *spec,
                           const struct pass_options *options, enum dtype precision, size_t *n_bytes_out);

/* Owned by the caller until pass_free(); the net must outlive it. */
status_t pass_new(struct net *net, const struct pass_options *options, struct pass **out);
void pass_free(struct pass *pass);

size_t pass_arena_bytes(const struct pass *pass); /* predicted = allocated */

void *pass_input(struct pass *pass);     /* (N,H,W,3) of the net's precision: the caller fills it */
float *pass_features(struct pass *pass); /* (N,D) fp32 after forward */
float *pass_logits(struct pass *pass);   /* (N,K) fp32 after forward; NULL without classifier */
float *pass_dlogits(struct pass *pass);  /* (N,K) fp32: the caller fills it before backward */
float *pass_dfeatures(
    struct pass *pass); /* (N,D) fp32: gradient *added* to what comes from the logits; zeroed by forward */
void *pass_input_grad(struct pass *pass); /* (N,H,W,3), options.input_grad only */

/* A named activation for tests ("stages.0.blocks.1", as golden/nets' act.<module>): backend memory of dtype
 * and n_elem, valid after forward of a pass made with mode TRAIN without recompute; NULL: no such node. */
const void *pass_activation(struct pass *pass, const char *name, enum dtype *dtype, int64_t *n_elem);

/* Sum `sums` (n doubles, backend memory) over the group, in place. NULL callback: this rank is alone. */
typedef status_t (*reduce_fn)(void *context, double *sums, int64_t n);

struct forward_options {
    bool update_statistics;    /* batch norm in training: update the running statistics (true in training) */
    const uint8_t *image_mask; /* (N) backend memory; batch norm ignores images with 0; NULL: all */
    reduce_fn reduce;          /* batch norm sums over the group */
    void *reduce_context;
    struct rng_key
        rng; /* seed, stage, step, peer for drop-path and dropout (purpose, sub, item are set here) */
    const uint32_t *host_items; /* (N) global image numbers for drop-path and dropout; NULL: 0..N-1 */
};

status_t pass_forward(struct pass *pass, const struct forward_options *options);

/* Called when a parameter's gradient of this step is final: no later work of this backward adds to it. Runs
 * in reverse order of the parameters. `index` as in net_param(). Also a good moment to poke communication. */
typedef status_t (*grad_ready_fn)(void *context, int32_t index);

/* Gradients of all trained parameters are added to net_grads() (zero them first: ops->fill_zero). Only the
 * last backward of a step passes `ready`. Image mask and reduction are those of the pass's last forward and
 * must still be there; pass_dfeatures() then holds the whole gradient of the features. */
status_t pass_backward(struct pass *pass, grad_ready_fn ready, void *context);

/* ---- where the time goes (bench model) ---- */

struct profile_row {
    const char *kind; /* "conv", "mlp", ...; static */
    bool backward;    /* recomputation counts as backward */
    int64_t n_calls;
    double time_s, flop, n_bytes; /* totals over the calls; bytes: each input and output once */
};

enum { PROFILE_MAX_ROWS = 32 };

/* From now on wait for every step and take its time (slower); clears the totals. */
void pass_enable_profile(struct pass *pass, bool on);

/* Rows with at least one call, forward first. Returns their number. */
int32_t pass_profile(const struct pass *pass, struct profile_row rows[PROFILE_MAX_ROWS]);

#endif
