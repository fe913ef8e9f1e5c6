/* See program.h. */
#include "models/program.h"

#include "common/memory.h"

#include <string.h>

/* State while a program is built. */
struct builder {
    struct program *p;
    const struct graph *g;
    const struct pass_options *options;
    const struct ops *ops;
    struct backend *be;
    status_t status;
};

static bool is_training(const struct builder *b) {
    return b->options->mode == PASS_TRAIN;
}

static int32_t add_tensor(struct builder *b, size_t n_bytes) {
    struct program *p = b->p;
    if (b->status != STATUS_OK) return NONE;
    if (!memory_grow(&p->tensors, (size_t)p->n_tensors, &p->tensor_capacity, sizeof *p->tensors)) {
        b->status = FAIL(STATUS_NO_MEMORY, "out of memory for the memory plan");
        return NONE;
    }
    p->tensors[p->n_tensors] =
        (struct tensor){.n_bytes = n_bytes, .begin = INT32_MAX, .end = -1, .root = p->n_tensors};
    return p->n_tensors++;
}

static int32_t add_step(struct builder *b, struct step step) {
    struct program *p = b->p;
    if (b->status != STATUS_OK) return NONE;
    if (!memory_grow(&p->steps, (size_t)p->n_steps, &p->step_capacity, sizeof *p->steps)) {
        b->status = FAIL(STATUS_NO_MEMORY, "out of memory for the steps");
        return NONE;
    }
    p->steps[p->n_steps] = step;
    return p->n_steps++;
}

/* The step reads or writes the tensor (NONE: nothing). */
static void touch(struct builder *b, int32_t step, int32_t tensor) {
    if (b->status != STATUS_OK || tensor == NONE) return;
    struct tensor *t = &b->p->tensors[tensor];
    if (step < t->begin) t->begin = step;
    if (step > t->end) t->end = step;
}

static bool needs_grad(const struct builder *b, int32_t value) {
    return value != NONE && is_training(b) && b->g->values[value].needs_grad;
}

/* Is the node's work done again before its backward step? */
static bool is_recomputed(const struct builder *b, const struct node *node) {
    return b->options->recompute && node->block != NONE && needs_grad(b, node->y);
}

static int32_t add_scratch(struct builder *b, int32_t step, const struct node *node) {
    const size_t n_bytes = node_scratch_bytes(b->g, node, is_training(b), b->ops, b->be);
    if (n_bytes == 0) return NONE;
    int32_t tensor = add_tensor(b, n_bytes);
    touch(b, step, tensor);
    return tensor;
}

static double bytes_of(const struct builder *b, int32_t value) {
    return value == NONE ? 0 : (double)b->g->values[value].n_bytes;
}

/* ---- forward ---- */

/* One step that computes node i into `first`, or into `again`. */
static void add_forward(struct builder *b, int32_t i, enum step_kind kind) {
    const struct node *node = &b->g->nodes[i];
    const bool second = kind != STEP_FORWARD;
    int32_t s = add_step(
        b,
        (struct step){.kind = kind, .node = i, .dy = NONE, .dx = NONE, .grad_sums = NONE, .scratch = NONE});
    if (s == NONE) return;
    int32_t values[3 + NODE_MAX_SAVED] = {node->x, NONE, NONE};
    if (kind != STEP_RECOMPUTE_PRE) values[1] = node->residual, values[2] = node->y;
    memcpy(values + 3, node->saved, sizeof node->saved);
    double n_bytes = (double)node->n_param_bytes;
    for (int k = 0; k < 3 + NODE_MAX_SAVED; k++) {
        if (values[k] == NONE) continue;
        const struct place *place = &b->p->places[values[k]];
        int32_t tensor = second ? place->again : place->first;
        touch(b, s, tensor);
        if (tensor != NONE) n_bytes += bytes_of(b, values[k]);
    }
    touch(b, s, node->drop_path == NONE ? NONE : b->p->drop_path);
    int32_t scratch = add_scratch(b, s, node);
    if (b->status != STATUS_OK) return;
    struct step *step = &b->p->steps[s];
    step->scratch = scratch;
    step->flop = (kind == STEP_RECOMPUTE_PRE ? 1.0 : 2.0) * (double)node->macs;
    step->n_bytes = n_bytes;
}

/* Tensors of what the forward step of this node writes. What a backward step needs is kept; batch norm's
 * statistics always are. */
static void place_outputs(struct builder *b, const struct node *node) {
    struct place *places = b->p->places;
    places[node->y].first = places[node->y].again = add_tensor(b, b->g->values[node->y].n_bytes);
    for (int k = 0; k < NODE_MAX_SAVED; k++) {
        const int32_t v = node->saved[k];
        if (v == NONE) continue;
        const bool statistics =
            node->kind == NODE_BATCHNORM && (k < 2 || (is_training(b) && !b->options->frozen_statistics));
        if (statistics || (needs_grad(b, node->y) && !is_recomputed(b, node)))
            places[v].first = places[v].again = add_tensor(b, b->g->values[v].n_bytes);
    }
}

/* Is node i a layer whose only reader is the batch norm behind it, and can that be folded into it? */
static bool folds(const struct builder *b, int32_t i) {
    const struct node *layer = &b->g->nodes[i], *norm = layer + 1;
    const bool can = !b->ops || b->ops->batchnorm_fold;
    if (is_training(b) || !can || b->g->batch == 0 || i + 1 >= b->g->n_nodes) return false;
    if (norm->kind != NODE_BATCHNORM || norm->x != layer->y || layer->params[1] != NONE ||
        layer->residual != NONE)
        return false;
    return layer->kind == NODE_LINEAR ||
           (norm->residual == NONE && (layer->kind == NODE_CONV || layer->kind == NODE_DEPTHWISE));
}

static void add_folded(struct builder *b, int32_t i) {
    const struct node *layer = &b->g->nodes[i], *norm = layer + 1;
    struct place *places = b->p->places;
    int32_t s = add_step(
        b, (struct step){
               .kind = STEP_FOLDED, .node = i, .dy = NONE, .dx = NONE, .grad_sums = NONE, .scratch = NONE});
    if (s == NONE) return;
    const enum dtype dtype = layer->kind == NODE_DEPTHWISE ? DTYPE_F32 : layer->dtype;
    const size_t n_weights = (size_t)b->g->table->items[layer->params[0]].n_elem;
    places[norm->y].first = places[norm->y].again = add_tensor(b, b->g->values[norm->y].n_bytes);
    const int32_t weight = add_tensor(b, n_weights * dtype_bytes(dtype));
    const int32_t bias = add_tensor(b, sizeof(float) * (size_t)b->g->values[norm->y].c);
    touch(b, s, weight);
    touch(b, s, bias);
    touch(b, s, places[layer->x].first);
    touch(b, s, places[norm->y].first);
    if (norm->residual != NONE) touch(b, s, places[norm->residual].first);
    struct node whole = *layer; /* as it is run */
    whole.residual = norm->residual;
    int32_t scratch = add_scratch(b, s, &whole);
    if (b->status != STATUS_OK) return;
    struct step *step = &b->p->steps[s];
    step->folded[0] = weight, step->folded[1] = bias;
    step->scratch = scratch;
    step->flop = 2.0 * (double)layer->macs;
    step->n_bytes = bytes_of(b, layer->x) + bytes_of(b, norm->y) + bytes_of(b, norm->residual) +
                    (double)layer->n_param_bytes;
}

static void add_forward_steps(struct builder *b) {
    const struct graph *g = b->g;
    for (int32_t i = 0; i < g->n_nodes && b->status == STATUS_OK; i++) {
        if (folds(b, i)) {
            add_folded(b, i++);
            continue;
        }
        place_outputs(b, &g->nodes[i]);
        add_forward(b, i, STEP_FORWARD);
    }
    b->p->n_forward = b->p->n_steps;
    /* Named activations can be looked at after forward. */
    for (int32_t i = 0; i < g->n_nodes && b->status == STATUS_OK; i++) {
        const int32_t y = g->nodes[i].y;
        if (needs_grad(b, y) && g->values[y].name[0] && !b->options->recompute)
            touch(b, b->p->n_forward - 1, b->p->places[y].first);
    }
}

/* ---- backward ---- */

static int32_t block_end(const struct graph *g, int32_t i) {
    while (i + 1 < g->n_nodes && g->nodes[i + 1].block == g->nodes[i].block) i++;
    return i;
}

static int32_t block_begin(const struct graph *g, int32_t i) {
    while (i > 0 && g->nodes[i - 1].block == g->nodes[i].block) i--;
    return i;
}

/* Steps that compute the block that ends with node `last` again. Its output is an input of what follows and
 * was kept; of the node that makes it only what its own backward step reads is needed. */
static void recompute_block(struct builder *b, int32_t last) {
    const struct graph *g = b->g;
    struct place *places = b->p->places;
    for (int32_t i = block_begin(g, last); i <= last && b->status == STATUS_OK; i++) {
        const struct node *node = &g->nodes[i];
        if (!needs_grad(b, node->y)) continue;
        if (i < last) places[node->y].again = add_tensor(b, g->values[node->y].n_bytes);
        for (int k = 0; k < NODE_MAX_SAVED; k++) {
            const int32_t v = node->saved[k];
            if (v != NONE && node->kind != NODE_BATCHNORM)
                places[v].again = add_tensor(b, g->values[v].n_bytes);
        }
        if (i < last)
            add_forward(b, i, STEP_RECOMPUTE);
        else if (node->kind == NODE_MLP)
            add_forward(b, i, STEP_RECOMPUTE_PRE);
    }
}

/* A backward step reads x (all kinds but those linear in x without weights) and what was saved. */
static void touch_backward_inputs(struct builder *b, int32_t s, const struct node *node) {
    const struct place *places = b->p->places;
    const bool reads_x =
        node->kind != NODE_PATCH_MERGE && node->kind != NODE_AVERAGE_POOL && node->kind != NODE_DROPOUT;
    if (reads_x) touch(b, s, places[node->x].again);
    if (node->kind == NODE_WINDOW_ATTENTION) touch(b, s, places[node->y].again);
    for (int k = 0; k < NODE_MAX_SAVED; k++)
        if (node->saved[k] != NONE) touch(b, s, places[node->saved[k]].again);
    if (node->drop_path != NONE) touch(b, s, b->p->drop_path);
}

static bool can_accumulate(enum node_kind kind) {
    return kind == NODE_CONV || kind == NODE_DEPTHWISE || kind == NODE_LAYERNORM || kind == NODE_LINEAR ||
           kind == NODE_MLP;
}

static bool trains(const struct builder *b, const struct node *node) {
    for (int k = 0; k < NODE_MAX_PARAMS; k++)
        if (node->params[k] != NONE && b->g->table->items[node->params[k]].layer >= b->g->first_trained_layer)
            return true;
    return false;
}

/* Where the gradient of x goes: *accumulate, and the temporary `*add_after` where the operation cannot add.
 */
static int32_t place_dx(struct builder *b, const struct node *node, int32_t dy, bool hands_on,
                        bool *accumulate, bool *add_after) {
    struct place *x = &b->p->places[node->x];
    *accumulate = *add_after = false;
    const size_t n_bytes = b->g->values[node->x].n_bytes;
    if (!needs_grad(b, node->x)) return node->kind == NODE_BATCHNORM ? add_tensor(b, n_bytes) : NONE;
    if (x->grad == NONE) {
        /* LayerNorm may write over dy where nobody needs it any more. */
        const bool in_place = node->kind == NODE_LAYERNORM && !hands_on && dy != b->p->dfeatures;
        return x->grad = in_place ? dy : add_tensor(b, n_bytes);
    }
    if (can_accumulate(node->kind)) {
        *accumulate = true;
        return x->grad;
    }
    *add_after = true;
    return add_tensor(b, n_bytes);
}

static void add_backward(struct builder *b, int32_t i) {
    const struct graph *g = b->g;
    const struct node *node = &g->nodes[i];
    struct place *places = b->p->places;
    const int32_t dy = places[node->y].grad;
    if (dy == NONE) return;
    const bool hands_on = needs_grad(b, node->residual);
    bool accumulate, add_after;
    const int32_t dx = place_dx(b, node, dy, hands_on, &accumulate, &add_after);
    if (dx == NONE && !trains(b, node)) return;

    int32_t s = add_step(b, (struct step){.kind = STEP_BACKWARD,
                                          .node = i,
                                          .dy = dy,
                                          .dx = dx,
                                          .dx_accumulate = accumulate,
                                          .grad_sums = NONE,
                                          .scratch = NONE});
    if (s == NONE) return;
    touch(b, s, dy);
    touch(b, s, dx);
    touch_backward_inputs(b, s, node);
    int32_t grad_sums = NONE;
    if (node->kind == NODE_BATCHNORM)
        touch(b, s, grad_sums = add_tensor(b, 2 * 2 * sizeof(double) * (size_t)g->values[node->x].c));
    int32_t scratch = add_scratch(b, s, node);
    if (b->status != STATUS_OK) return;
    struct step *step = &b->p->steps[s];
    step->grad_sums = grad_sums;
    step->scratch = scratch;
    const double products =
        node->kind == NODE_WINDOW_ATTENTION ? 5.0 : (dx != NONE ? 2.0 : 0) + (trains(b, node) ? 2.0 : 0);
    step->flop = products * (double)node->macs;
    step->n_bytes = bytes_of(b, node->y) + (dx != NONE ? bytes_of(b, node->x) : 0) + bytes_of(b, node->x) +
                    bytes_of(b, node->saved[0]) + 2.0 * (double)node->n_param_bytes;
    for (int k = 0; k < NODE_MAX_PARAMS; k++)
        if (node->params[k] != NONE) b->p->final_step[node->params[k]] = s;

    const struct step add = {.kind = STEP_ADD, .node = i, .grad_sums = NONE, .scratch = NONE};
    if (add_after) {
        int32_t a = add_step(b, add);
        if (a == NONE) return;
        b->p->steps[a].dx = places[node->x].grad, b->p->steps[a].dy = dx;
        touch(b, a, places[node->x].grad), touch(b, a, dx);
    }
    if (hands_on && places[node->residual].grad == NONE) {
        places[node->residual].grad = dy;
    } else if (hands_on) {
        int32_t a = add_step(b, add);
        if (a == NONE) return;
        b->p->steps[a].dx = places[node->residual].grad, b->p->steps[a].dy = dy;
        touch(b, a, places[node->residual].grad), touch(b, a, dy);
    }
}

static void add_backward_steps(struct builder *b) {
    const struct graph *g = b->g;
    struct place *places = b->p->places;
    if (needs_grad(b, g->features)) places[g->features].grad = b->p->dfeatures;
    if (g->logits != NONE && needs_grad(b, g->logits)) places[g->logits].grad = b->p->dlogits;
    for (int32_t i = g->n_nodes - 1; i >= 0 && b->status == STATUS_OK; i--) {
        const struct node *node = &g->nodes[i];
        if (is_recomputed(b, node) && block_end(g, i) == i) recompute_block(b, i);
        add_backward(b, i);
    }
    b->p->dinput = b->options->input_grad ? places[g->input].grad : NONE;
}

/* ---- the whole ---- */

/* Tensors the caller sees live as long as the pass. */
static void pin(struct builder *b, int32_t tensor) {
    touch(b, 0, tensor);
    touch(b, b->p->n_steps > 0 ? b->p->n_steps - 1 : 0, tensor);
}

static void add_outside_tensors(struct builder *b) {
    const struct graph *g = b->g;
    struct place *places = b->p->places;
    places[g->input].first = places[g->input].again = add_tensor(b, g->values[g->input].n_bytes);
    if (g->n_drop_paths > 0 && is_training(b))
        b->p->drop_path = add_tensor(b, sizeof(float) * (size_t)g->n_drop_paths * (size_t)g->batch);
    if (!is_training(b)) return;
    b->p->dfeatures = add_tensor(b, g->values[g->features].n_bytes);
    if (g->logits != NONE) b->p->dlogits = add_tensor(b, g->values[g->logits].n_bytes);
}

/* A sum with a residual that nobody reads afterwards may lie in its place. */
static void share_residuals(struct builder *b) {
    struct program *p = b->p;
    for (int32_t s = 0; s < p->n_forward; s++) {
        const bool folded = p->steps[s].kind == STEP_FOLDED;
        const struct node *node =
            &b->g->nodes[p->steps[s].node + folded]; /* the one that adds the residual */
        if (node->residual == NONE || (node->kind != NODE_LINEAR && node->kind != NODE_MLP && !folded))
            continue;
        const int32_t from = p->places[node->residual].first, to = p->places[node->y].first;
        struct tensor *root = &p->tensors[p->tensors[from].root], *y = &p->tensors[to];
        if (from == p->places[b->g->input].first || root->end != s || y->begin != s ||
            y->n_bytes != root->n_bytes)
            continue;
        y->root = p->tensors[from].root;
        root->end = y->end;
    }
}

static void pin_outside_tensors(struct builder *b) {
    const struct graph *g = b->g;
    pin(b, b->p->places[g->input].first);
    pin(b, b->p->places[g->features].first);
    if (g->logits != NONE) pin(b, b->p->places[g->logits].first);
    pin(b, b->p->dfeatures);
    pin(b, b->p->dlogits);
    pin(b, b->p->dinput);
    pin(b, b->p->drop_path);
}

status_t program_build(struct program *p, const struct graph *g, const struct pass_options *options,
                       const struct ops *ops, struct backend *be) {
    *p = (struct program){.dlogits = NONE, .dfeatures = NONE, .dinput = NONE, .drop_path = NONE};
    struct builder b = {.p = p, .g = g, .options = options, .ops = ops, .be = be};
    p->places = memory_zeroed((size_t)g->n_values, sizeof *p->places);
    p->final_step = memory_zeroed((size_t)g->table->n + 1, sizeof *p->final_step);
    if (!p->places || !p->final_step) b.status = FAIL(STATUS_NO_MEMORY, "out of memory for the memory plan");
    for (int32_t i = 0; p->places && i < g->n_values; i++) p->places[i] = (struct place){NONE, NONE, NONE};
    for (int32_t i = 0; p->final_step && i < g->table->n; i++) p->final_step[i] = NONE;
    if (b.status == STATUS_OK) add_outside_tensors(&b);
    if (b.status == STATUS_OK) add_forward_steps(&b);
    if (b.status == STATUS_OK && is_training(&b)) add_backward_steps(&b);
    if (b.status == STATUS_OK) {
        pin_outside_tensors(&b);
        share_residuals(&b);
        b.status = plan_memory(p->tensors, p->n_tensors, &p->n_bytes);
    }
    if (b.status != STATUS_OK) program_free(p);
    return b.status;
}

void program_free(struct program *p) {
    free(p->steps);
    free(p->tensors);
    free(p->places);
    free(p->final_step);
    *p = (struct program){0};
}
