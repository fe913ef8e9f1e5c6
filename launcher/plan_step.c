#include "launcher/plan_step.h"

#include "common/interval.h"
#include "common/memory.h"

#include <math.h>
#include <string.h>

enum {
    N_STEPS = 14,
    N_SKIPPED = 6,
    N_SLOTS = 4,
    MAX_WALKERS = 64,
    REPORT_BYTES = 1600,
    SMALL_SUM_BYTES = 256
};

enum op_kind { OP_WORK, OP_DATA, OP_SEND, OP_LABELS, OP_MEET, OP_ARRIVE, OP_LEAVE, OP_REPORT };
enum wait_kind { WAIT_EXCHANGE, WAIT_REDUCE, WAIT_SYNC, WAIT_DATA, WAIT_REPORT, N_WAITS };

struct op {
    enum op_kind kind;
    enum wait_kind wait;
    int meeting;
    double time_s; /* work */
};

/* Ranks that must all have come before what they begin together is done, `wire_s` later. */
struct meeting {
    int n_wanted, previous; /* previous: the bucket before it on the same links, -1: none */
    double wire_s, latency_s;
    struct {
        int64_t round;
        int n_arrived;
        double sent_s, done_s; /* when the links are free again, and when the result is there */
    } slots[N_SLOTS];
};

/* A rank on its way through the steps. */
struct walker {
    int node, step;
    int64_t round; /* micro-batches begun */
    struct op *ops;
    size_t n_ops, capacity, pc;
    bool begun; /* the present op: work has begun, or the wait has */
    double left_s, since_s, sent_s[N_SLOTS];
    int64_t sent_round[N_SLOTS];
    int *sources, n_sources; /* walkers whose labels it needs */
    int n_ready;             /* batches */
    double load_s, load_left_s;
    double end_s[N_STEPS], waits[N_STEPS][N_WAITS];
    int group; /* the first it serves */
};

struct walk {
    const struct step_machine *machine;
    const struct step_group *groups;
    int n_groups, n_walkers, n_nodes;
    struct walker *walkers;
    struct meeting *meetings;
    size_t n_meetings, meeting_capacity;
    struct group_shape shapes[SETTINGS_MAX_PEERS], world;
    double *demand; /* [n_nodes] threads that want to run */
    double cores, now_s, label_s;
    bool reduced; /* one rank stands for each group */
};

/* ranks NULL: the machine's first n_ranks. */
static status_t shape_of(const struct step_machine *m, const int *ranks, int n_ranks,
                         struct group_shape *out) {
    struct group_shape s = {.n = n_ranks};
    int *here = memory_zeroed((size_t)m->n_nodes, sizeof *here);
    CHECK(here, STATUS_NO_MEMORY, "out of memory for the plan of a step");
    for (int i = 0; i < n_ranks; i++) {
        const int n = ++here[m->node[ranks ? ranks[i] : i]];
        s.n_nodes += n == 1;
        if (n > s.most_on_node) s.most_on_node = n;
    }
    free(here);
    *out = s;
    return STATUS_OK;
}

status_t step_shape(const struct step_machine *m, const struct step_group *g, struct group_shape *out) {
    return shape_of(m, g->ranks, g->n_ranks, out);
}

/* ---- what a rank does in a step
 * ----------------------------------------------------------------------------------- */

static bool add(struct walker *w, struct op op) {
    if (op.kind == OP_WORK && op.time_s <= 0) return true;
    if (!memory_grow(&w->ops, w->n_ops, &w->capacity, sizeof *w->ops)) return false;
    w->ops[w->n_ops++] = op;
    return true;
}

static bool add_work(struct walker *w, double time_s) {
    return add(w, (struct op){.kind = OP_WORK, .time_s = time_s});
}

/* First meeting of a group; then its buckets. */
struct group_meetings {
    int sync, norms_forward, norms_backward, buckets, gather;
};

static int add_meeting(struct walk *k, int n_wanted, double wire_s, double latency_s, int previous) {
    if (!memory_grow(&k->meetings, k->n_meetings, &k->meeting_capacity, sizeof *k->meetings)) return -1;
    struct meeting *m = &k->meetings[k->n_meetings];
    *m = (struct meeting){
        .n_wanted = n_wanted, .wire_s = wire_s, .latency_s = latency_s, .previous = previous};
    for (int i = 0; i < N_SLOTS; i++) m->slots[i].round = -1;
    return (int)k->n_meetings++;
}

static struct link_cost sync_cost(const struct walk *k, int g) {
    struct link_cost c = {0};
    for (int i = 0; i < 4; i++) {
        if (k->groups[g].sync_bytes[i] <= 0) continue;
        const struct link_cost one =
            links_all_reduce(&k->machine->links, &k->shapes[g], k->groups[g].sync_bytes[i]);
        c.own_s += one.own_s, c.wire_s += one.wire_s;
        c.intra_bytes += one.intra_bytes, c.inter_bytes += one.inter_bytes;
    }
    return c;
}

static struct link_cost bucket_cost(const struct walk *k, int g, double n_bytes) {
    return k->groups[g].sharded ? links_reduce_to_owners(&k->machine->links, &k->shapes[g], n_bytes)
                                : links_all_reduce(&k->machine->links, &k->shapes[g], n_bytes);
}

static double norms_s(const struct walk *k, int g) {
    return k->groups[g].n_norms * links_all_reduce(&k->machine->links, &k->shapes[g], SMALL_SUM_BYTES).wire_s;
}

static status_t make_meetings(struct walk *k, int g, struct group_meetings *out) {
    const struct step_group *group = &k->groups[g];
    const int n = k->reduced ? 1 : group->n_ranks;
    const struct link_cost gather = links_all_gather(&k->machine->links, &k->shapes[g], group->n_param_bytes);
    out->sync = add_meeting(k, n, sync_cost(k, g).wire_s, 0, -1);
    out->norms_forward = add_meeting(k, n, norms_s(k, g), 0, -1);
    out->norms_backward = add_meeting(k, n, norms_s(k, g), 0, -1);
    out->gather = add_meeting(k, n, gather.wire_s, 0, -1);
    out->buckets = (int)k->n_meetings;
    int previous = -1;
    for (int b = 0; b < group->n_buckets; b++) {
        const struct link_cost c = bucket_cost(k, g, group->bucket_bytes[b]);
        previous = add_meeting(k, n, c.wire_s, c.latency_s, previous);
    }
    CHECK(out->gather >= 0 && (group->n_buckets == 0 || previous >= 0), STATUS_NO_MEMORY,
          "out of memory for the plan of a step");
    return STATUS_OK;
}

static double share(double n_images, int index, int size, bool largest) {
    if (largest) return ceil(n_images / size);
    return (double)interval_length(interval_part((int64_t)n_images, index, size));
}

struct member {
    int group;
    double own, rest, forward_s, backward_s;
    struct group_meetings meetings;
};

/* Gradients of the rest's pass, in pieces between its buckets. */
static bool add_backward(struct walk *k, struct walker *w, const struct member *m, bool last) {
    const struct step_group *g = &k->groups[m->group];
    const double total = m->own + m->rest, rest_s = total > 0 ? m->backward_s * m->rest / total : 0;
    const bool alone = g->n_ranks == 1;
    bool ok = add_work(w, m->backward_s - rest_s);
    double done = 0;
    for (int b = 0; b < g->n_buckets && last && !alone && ok; b++) {
        ok = add_work(w, rest_s * (g->bucket_done[b] - done)) &&
             add(w, (struct op){.kind = OP_ARRIVE, .meeting = m->meetings.buckets + b}) &&
             add_work(w, bucket_cost(k, m->group, g->bucket_bytes[b]).own_s);
        done = g->bucket_done[b];
    }
    if (g->n_norms > 0 && !alone)
        ok = ok &&
             add(w, (struct op){.kind = OP_MEET, .wait = WAIT_SYNC, .meeting = m->meetings.norms_backward});
    return ok && add_work(w, rest_s * (1 - done));
}

static bool add_micro(struct walk *k, struct walker *w, const struct member *members, int n, bool last) {
    bool ok = add(w, (struct op){.kind = OP_DATA, .wait = WAIT_DATA}), exchanges = false;
    for (int i = 0; i < n; i++) {
        const struct member *m = &members[i];
        exchanges |= k->groups[m->group].exchanges && k->groups[m->group].n_own > 0;
        ok = ok && add_work(w, m->own + m->rest > 0 ? m->forward_s * m->own / (m->own + m->rest) : 0);
    }
    exchanges = exchanges && k->n_groups > 1;
    if (exchanges) ok = ok && add(w, (struct op){.kind = OP_SEND});
    for (int i = 0; i < n; i++) {
        const struct member *m = &members[i];
        ok = ok && add_work(w, m->own + m->rest > 0 ? m->forward_s * m->rest / (m->own + m->rest) : 0);
        if (k->groups[m->group].n_norms > 0 && k->groups[m->group].n_ranks > 1)
            ok =
                ok &&
                add(w, (struct op){.kind = OP_MEET, .wait = WAIT_SYNC, .meeting = m->meetings.norms_forward});
    }
    if (exchanges) ok = ok && add(w, (struct op){.kind = OP_LABELS, .wait = WAIT_EXCHANGE});
    for (int i = 0; i < n; i++) {
        const struct member *m = &members[i];
        const struct link_cost sync = sync_cost(k, m->group);
        if (k->groups[m->group].n_ranks > 1 && sync.wire_s > 0)
            ok = ok && add(w, (struct op){.kind = OP_MEET, .wait = WAIT_SYNC, .meeting = m->meetings.sync}) &&
                 add_work(w, sync.own_s);
        ok = ok && add_backward(k, w, m, last);
    }
    return ok;
}

static status_t make_ops(struct walk *k, struct walker *w, const struct member *members, int n, int report) {
    const int n_micro = k->groups[0].n_micro;
    bool ok = true;
    for (int micro = 0; micro < n_micro; micro++)
        ok = ok && add_micro(k, w, members, n, micro == n_micro - 1);
    for (int i = 0; i < n; i++) {
        const struct member *m = &members[i];
        const struct step_group *g = &k->groups[m->group];
        if (g->n_ranks > 1 && g->n_buckets > 0)
            ok = ok && add(w, (struct op){.kind = OP_LEAVE,
                                          .wait = WAIT_REDUCE,
                                          .meeting = m->meetings.buckets + g->n_buckets - 1});
        ok = ok && add_work(w, g->update_s);
        if (g->n_ranks > 1 && g->sharded)
            ok = ok &&
                 add(w, (struct op){.kind = OP_MEET, .wait = WAIT_REDUCE, .meeting = m->meetings.gather}) &&
                 add_work(w,
                          links_all_gather(&k->machine->links, &k->shapes[m->group], g->n_param_bytes).own_s);
    }
    ok = ok && add(w, (struct op){.kind = OP_REPORT, .wait = WAIT_REPORT, .meeting = report});
    CHECK(ok, STATUS_NO_MEMORY, "out of memory for the plan of a step");
    return STATUS_OK;
}

/* ---- setting up
 * --------------------------------------------------------------------------------------------------- */

static status_t make_walker(struct walk *k, int rank, const struct group_meetings *meetings, int report) {
    struct walker *w = &k->walkers[rank];
    struct member members[SETTINGS_MAX_PEERS];
    int n = 0;
    *w = (struct walker){.node = k->reduced ? rank : k->machine->node[rank], .group = -1};
    for (int i = 0; i < N_SLOTS; i++) w->sent_round[i] = -1;
    for (int g = 0; g < k->n_groups; g++) {
        const struct step_group *group = &k->groups[g];
        int index = k->reduced ? (g == rank ? 0 : -1) : -1;
        for (int i = 0; !k->reduced && i < group->n_ranks; i++)
            if (group->ranks[i] == rank) index = i;
        if (index < 0) continue;
        struct member m = {.group = g,
                           .own = share(group->n_own, index, group->n_ranks, k->reduced),
                           .rest = share(group->n_rest, index, group->n_ranks, k->reduced),
                           .meetings = meetings[g]};
        m.forward_s = rate_forward_s(&group->rate, m.own + m.rest);
        m.backward_s = rate_backward_s(&group->rate, m.own + m.rest);
        w->load_s += group->rate.data_s * (m.own + m.rest);
        if (w->group < 0) w->group = g;
        members[n++] = m;
    }
    w->n_ready = k->machine->n_ahead > 1 ? k->machine->n_ahead - 1 : 1;
    return make_ops(k, w, members, n, report);
}

/* Whose labels: the ranks of other groups whose images meet its own. */
static status_t find_sources(struct walk *k, int rank) {
    struct walker *w = &k->walkers[rank];
    w->sources = memory_zeroed((size_t)k->n_walkers, sizeof *w->sources);
    CHECK(w->sources, STATUS_NO_MEMORY, "out of memory for the plan of a step");
    for (int other = 0; other < k->n_walkers; other++) {
        bool needs = k->reduced && other != rank;
        for (int g = 0; g < k->n_groups && !k->reduced; g++)
            for (int h = 0; h < k->n_groups; h++) {
                const struct step_group *mine = &k->groups[g], *theirs = &k->groups[h];
                int i = 0, j = 0;
                while (i < mine->n_ranks && mine->ranks[i] != rank) i++;
                while (j < theirs->n_ranks && theirs->ranks[j] != other) j++;
                if (g == h || i == mine->n_ranks || j == theirs->n_ranks) continue;
                const struct interval a = interval_part((int64_t)mine->n_own, i, mine->n_ranks),
                                      b = interval_part((int64_t)mine->n_own, j, theirs->n_ranks);
                needs |= interval_length(interval_meet(a, b)) > 0;
            }
        if (needs && other != rank) w->sources[w->n_sources++] = other;
    }
    return STATUS_OK;
}

static status_t set_up(struct walk *k) {
    struct group_meetings meetings[SETTINGS_MAX_PEERS];
    const struct step_machine *m = k->machine;
    TRY(shape_of(m, NULL, m->n_ranks, &k->world));
    k->reduced = m->n_ranks > MAX_WALKERS;
    k->n_walkers = k->reduced ? k->n_groups : m->n_ranks;
    k->n_nodes = k->reduced ? k->n_groups : m->n_nodes;
    k->cores = k->reduced ? m->cores / k->world.most_on_node : m->cores;
    k->label_s = m->n_ranks == 1 ? 0 : (k->world.n_nodes > 1 ? m->links.inter : m->links.intra).latency_s;
    k->walkers = memory_zeroed((size_t)k->n_walkers, sizeof *k->walkers);
    k->demand = memory_zeroed((size_t)k->n_nodes, sizeof *k->demand);
    CHECK(k->walkers && k->demand, STATUS_NO_MEMORY, "out of memory for the plan of a step");
    for (int g = 0; g < k->n_groups; g++) {
        TRY(step_shape(m, &k->groups[g], &k->shapes[g]));
        TRY(make_meetings(k, g, &meetings[g]));
    }
    const double report_s = links_all_reduce(&m->links, &k->world, REPORT_BYTES).wire_s;
    const int report = add_meeting(k, k->n_walkers, report_s, 0, -1);
    CHECK(report >= 0, STATUS_NO_MEMORY, "out of memory for the plan of a step");
    for (int r = 0; r < k->n_walkers; r++) TRY(make_walker(k, r, meetings, report));
    for (int r = 0; r < k->n_walkers; r++) TRY(find_sources(k, r));
    return STATUS_OK;
}

/* ---- walking
 * ------------------------------------------------------------------------------------------------------ */

static void arrive(struct walk *k, int meeting, int64_t round) {
    struct meeting *m = &k->meetings[meeting];
    const size_t i = (size_t)(round % N_SLOTS);
    if (m->slots[i].round != round) {
        m->slots[i].round = round;
        m->slots[i].n_arrived = 0;
    }
    if (++m->slots[i].n_arrived < m->n_wanted) return;
    double begin_s = k->now_s;
    if (m->previous >= 0) begin_s = fmax(begin_s, k->meetings[m->previous].slots[i].sent_s);
    m->slots[i].sent_s = begin_s + m->wire_s - m->latency_s;
    m->slots[i].done_s = begin_s + m->wire_s;
}

static double meeting_done(const struct walk *k, int meeting, int64_t round) {
    const struct meeting *m = &k->meetings[meeting];
    const size_t i = (size_t)(round % N_SLOTS);
    return m->slots[i].round == round && m->slots[i].n_arrived == m->n_wanted ? m->slots[i].done_s : INFINITY;
}

static double labels_there(const struct walk *k, const struct walker *w) {
    double there_s = 0;
    for (int i = 0; i < w->n_sources; i++) {
        const struct walker *s = &k->walkers[w->sources[i]];
        const size_t slot = (size_t)(w->round % N_SLOTS);
        if (s->sent_round[slot] != w->round) return INFINITY;
        there_s = fmax(there_s, s->sent_s[slot] + k->label_s);
    }
    return there_s;
}

/* When the walker's present op lets it go on; INFINITY: not known yet. Work: never by itself. */
static double wake_s(const struct walk *k, const struct walker *w) {
    const struct op *op = &w->ops[w->pc];
    switch (op->kind) {
    case OP_DATA:
        return w->n_ready > 0 ? k->now_s : INFINITY;
    case OP_LABELS:
        return labels_there(k, w);
    case OP_MEET:
    case OP_LEAVE:
        return meeting_done(k, op->meeting, w->round);
    case OP_REPORT:
        return w->step == 0 ? k->now_s : meeting_done(k, op->meeting, w->step - 1);
    default:
        return k->now_s;
    }
}

static void finish_op(struct walk *k, struct walker *w) {
    const struct op *op = &w->ops[w->pc];
    if (op->kind == OP_DATA) {
        w->round++;
        if (w->load_s > 0) w->n_ready--;
        if (w->load_left_s <= 0) w->load_left_s = w->load_s;
    }
    if (op->kind == OP_REPORT) {
        arrive(k, op->meeting, w->step);
        w->end_s[w->step++] = k->now_s;
    }
    w->begun = false;
    if (++w->pc == w->n_ops) w->pc = 0;
}

/* Take the walker as far as it gets without time passing; did anything happen? */
static bool go_on(struct walk *k, struct walker *w) {
    bool moved = false;
    while (w->step < N_STEPS) {
        const struct op *op = &w->ops[w->pc];
        if (!w->begun) {
            w->begun = moved = true;
            w->left_s = op->kind == OP_WORK ? op->time_s : 0;
            w->since_s = k->now_s;
            if (op->kind == OP_SEND) {
                const size_t slot = (size_t)(w->round % N_SLOTS);
                w->sent_round[slot] = w->round;
                w->sent_s[slot] = k->now_s;
            }
            if (op->kind == OP_MEET || op->kind == OP_ARRIVE) arrive(k, op->meeting, w->round);
        }
        if (op->kind == OP_WORK && w->left_s > 0) break;
        if (wake_s(k, w) > k->now_s) break;
        if (op->kind != OP_WORK) w->waits[w->step][op->wait] += k->now_s - w->since_s;
        finish_op(k, w);
        moved = true;
    }
    return moved;
}

static bool computes(const struct walker *w) {
    return w->step < N_STEPS && w->ops[w->pc].kind == OP_WORK && w->left_s > 0;
}

/* Progress of a thread a second of the clock. */
static double speed(const struct walk *k, int node) {
    const struct step_machine *m = k->machine;
    if (k->cores <= 0 || k->demand[node] <= 0) return 1;
    const double used = fmin(k->demand[node], k->cores), room = k->cores - m->threads;
    const double neighbours = room > 0 ? fmin(1, fmax(0, (used - m->threads) / room)) : 0;
    return fmin(1, k->cores / k->demand[node]) / (1 + (m->busy - 1) * neighbours);
}

static status_t walk(struct walk *k) {
    const struct step_machine *m = k->machine;
    for (;;) {
        bool moved = true, all_done = true;
        while (moved) {
            moved = false;
            for (int r = 0; r < k->n_walkers; r++) moved |= go_on(k, &k->walkers[r]);
        }
        memset(k->demand, 0, (size_t)k->n_nodes * sizeof *k->demand);
        for (int r = 0; r < k->n_walkers; r++) {
            const struct walker *w = &k->walkers[r];
            k->demand[w->node] += (computes(w) ? m->threads : 0) + (w->load_left_s > 0 ? m->workers : 0);
            all_done &= w->step == N_STEPS;
        }
        if (all_done) return STATUS_OK;
        double dt = INFINITY;
        for (int r = 0; r < k->n_walkers; r++) {
            const struct walker *w = &k->walkers[r];
            const double v = speed(k, w->node);
            if (computes(w))
                dt = fmin(dt, w->left_s / v);
            else if (w->step < N_STEPS)
                dt = fmin(dt, wake_s(k, w) - k->now_s);
            if (w->load_left_s > 0) dt = fmin(dt, w->load_left_s / (v * m->workers));
        }
        CHECK(isfinite(dt), STATUS_INTERNAL, "the plan of a step waits for itself");
        for (int r = 0; r < k->n_walkers; r++) {
            struct walker *w = &k->walkers[r];
            const double v = speed(k, w->node);
            if (computes(w)) w->left_s = w->left_s - dt * v > 1e-12 ? w->left_s - dt * v : 0;
            if (w->load_left_s <= 0) continue;
            w->load_left_s -= dt * v * m->workers;
            if (w->load_left_s > 1e-12) continue;
            w->load_left_s = ++w->n_ready < m->n_ahead - 1 ? w->load_s : 0;
        }
        k->now_s += dt;
    }
}

/* ---- what came out
 * ------------------------------------------------------------------------------------------------ */

static void sum_up(const struct walk *k, struct step_result *out) {
    const int n = N_STEPS - N_SKIPPED;
    int n_of[SETTINGS_MAX_PEERS] = {0};
    *out = (struct step_result){.n_groups = k->n_groups, .exchange_latency_s = k->label_s};
    for (int r = 0; r < k->n_walkers; r++) {
        const struct walker *w = &k->walkers[r];
        const double step_s = (w->end_s[N_STEPS - 1] - w->end_s[N_SKIPPED - 1]) / n;
        double waits[N_WAITS] = {0}, all = 0;
        out->step_s = fmax(out->step_s, step_s);
        for (int s = N_SKIPPED; s < N_STEPS; s++)
            for (int i = 0; i < N_WAITS; i++) waits[i] += w->waits[s][i] / n, all += w->waits[s][i] / n;
        for (int g = 0; g < k->n_groups; g++) {
            bool serves = g == w->group;
            for (int i = 0; i < k->groups[g].n_ranks && !k->reduced; i++)
                serves |= k->groups[g].ranks[i] == r;
            if (!serves) continue;
            struct step_waits *o = &out->groups[g];
            n_of[g]++;
            o->compute_s += step_s - all;
            o->exchange_s += waits[WAIT_EXCHANGE], o->reduce_s += waits[WAIT_REDUCE];
            o->sync_s += waits[WAIT_SYNC], o->data_s += waits[WAIT_DATA], o->report_s += waits[WAIT_REPORT];
        }
    }
    for (int g = 0; g < k->n_groups; g++) {
        struct step_waits *o = &out->groups[g];
        double *const all[] = {&o->compute_s, &o->exchange_s, &o->reduce_s,
                               &o->sync_s,    &o->data_s,     &o->report_s};
        for (size_t i = 0; i < ARRAY_LENGTH(all) && n_of[g] > 0; i++) *all[i] /= n_of[g];
        out->images += (k->groups[g].n_own + k->groups[g].n_rest) * k->groups[g].n_micro;
    }
}

static void count_bytes(const struct walk *k, struct step_result *out) {
    for (int g = 0; g < k->n_groups; g++) {
        const struct step_group *group = &k->groups[g];
        struct link_cost c = sync_cost(k, g), one;
        for (int b = 0; b < group->n_buckets; b++) {
            one = bucket_cost(k, g, group->bucket_bytes[b]);
            c.intra_bytes += one.intra_bytes, c.inter_bytes += one.inter_bytes;
        }
        one = links_all_gather(&k->machine->links, &k->shapes[g], group->n_param_bytes);
        if (group->sharded) c.intra_bytes += one.intra_bytes, c.inter_bytes += one.inter_bytes;
        one = links_all_reduce(&k->machine->links, &k->shapes[g], SMALL_SUM_BYTES);
        c.intra_bytes += 2 * group->n_norms * one.intra_bytes;
        c.inter_bytes += 2 * group->n_norms * one.inter_bytes;
        out->intra_bytes[g] = c.intra_bytes, out->inter_bytes[g] = c.inter_bytes;
        if (k->machine->n_ranks > 1 && group->exchanges) /* 8 bytes an image to every other group */
            out->exchange_bytes += 8 * group->n_own * (k->n_groups - 1) * group->n_micro;
    }
}

static status_t predict(const struct step_machine *machine, const struct step_group *groups, int n_groups,
                        struct step_result *out) {
    struct walk k = {.machine = machine, .groups = groups, .n_groups = n_groups};
    status_t status = set_up(&k);
    if (status == STATUS_OK) status = walk(&k);
    if (status == STATUS_OK) {
        sum_up(&k, out);
        count_bytes(&k, out);
    }
    for (int r = 0; k.walkers && r < k.n_walkers; r++) {
        free(k.walkers[r].ops);
        free(k.walkers[r].sources);
    }
    free(k.walkers);
    free(k.meetings);
    free(k.demand);
    return status;
}

status_t step_predict(const struct step_machine *machine, const struct step_group *groups, int n_groups,
                      struct step_result *out) {
    CHECK(n_groups >= 1 && n_groups <= SETTINGS_MAX_PEERS && machine->n_ranks >= 1 && groups[0].n_micro >= 1,
          STATUS_INTERNAL, "a plan for %d groups on %d ranks", n_groups, machine->n_ranks);
    TRY(predict(machine, groups, n_groups, out));
    for (int g = 0; g < n_groups; g++) {
        struct step_result alone;
        if (n_groups > 1) TRY(predict(machine, &groups[g], 1, &alone));
        out->groups[g].alone_s = n_groups > 1 ? alone.step_s : out->step_s;
    }
    return STATUS_OK;
}
