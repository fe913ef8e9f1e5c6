#include "comm/control.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/clock.h"
#include "common/memory.h"

enum kind {
    REPORT = 1, /* to rank 0: the sender failed */
    NOTICE,     /* from rank 0: a rank failed */
    VERDICT,    /* from rank 0: what is known at the end */
    ASK,        /* what are you doing? */
    ANSWER
};

#define CONTROL_TAG 2

struct message {
    int32_t kind, rank; /* rank: the sender, of the world */
    int32_t derived;    /* REPORT: the failure is only what another rank's failure did here */
    uint64_t hash;      /* of status and message */
    int64_t step;
    char stage[32], doing[96]; /* ANSWER, and ASK of the asker */
    struct comm_verdict verdict;
};

struct outgoing {
    struct outgoing *next;
    MPI_Request request;
    struct message message;
};

struct control {
    MPI_Comm comm;
    struct outgoing *outgoing;
    /* rank 0 */
    bool *reported; /* [size of the world] */
    int n_reported;
    uint64_t hash; /* of the first failure that was not derived */
    bool same;     /* all failures so far have that hash, none was derived */
    /* all ranks */
    struct comm_verdict verdict; /* of the first failure heard; `reached` once rank 0 has given its verdict */
    bool have_verdict;
    /* while asking */
    const struct comm *asked; /* the group asked, NULL: not asking */
    struct message *answers;  /* [size of that group]; kind = 0: none yet */
};

status_t control_start(struct comm_family *family, MPI_Comm world) {
    struct control *control = memory_zeroed(1, sizeof *control);
    CHECK(control, STATUS_NO_MEMORY, "no memory for the control messages");
    family->control = control;
    control->comm = MPI_COMM_NULL;
    control->same = true;
    control->reported = memory_zeroed((size_t)family->world->size, sizeof *control->reported);
    CHECK(control->reported, STATUS_NO_MEMORY, "no memory for the control messages");
    TRY_MPI(MPI_Comm_dup(world, &control->comm));
    TRY_MPI(MPI_Comm_set_errhandler(control->comm, MPI_ERRORS_RETURN));
    return STATUS_OK;
}

/* ---- sending
 * ----------------------------------------------------------------------------------------------- */

static void reap(struct control *control) {
    for (struct outgoing **link = &control->outgoing; *link;) {
        struct outgoing *o = *link;
        int done = 0;
        if (MPI_Test(&o->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done) {
            *link = o->next;
            free(o);
        } else {
            link = &o->next;
        }
    }
}

/* A message that cannot be sent is dropped: the receivers have their own deadlines. */
static void post(struct comm_family *family, int rank, const struct message *message) {
    struct control *control = family->control;
    struct outgoing *o = malloc(sizeof *o);
    if (!o) return;
    o->message = *message;
    o->message.rank = family->world->rank;
    if (MPI_Isend(&o->message, sizeof o->message, MPI_BYTE, rank, CONTROL_TAG, control->comm, &o->request) !=
        MPI_SUCCESS) {
        free(o);
        return;
    }
    o->next = control->outgoing;
    control->outgoing = o;
}

static void post_all(struct comm_family *family, const struct message *message) {
    for (int r = 0; r < family->world->size; r++)
        if (r != family->world->rank) post(family, r, message);
}

/* Free what the sends still hold only when MPI is done with it: an eager message is, at once. */
static void drain(struct control *control, double limit_s) {
    const double end_s = clock_now_s() + limit_s;
    for (reap(control); control->outgoing && clock_now_s() < end_s; reap(control)) sched_yield();
}

void control_drop(struct comm_family *family) {
    struct control *control = family->control;
    if (!control) return;
    drain(control, 0.2);
    if (control->outgoing) return; /* MPI may still read them: they stay */
    free(control->reported);
    free(control);
    family->control = NULL;
}

void control_stop(struct comm_family *family) {
    struct control *control = family->control;
    if (!control) return;
    drain(control, 0.2);
    if (control->comm != MPI_COMM_NULL) MPI_Comm_free(&control->comm);
    control_drop(family);
}

/* ---- receiving
 * --------------------------------------------------------------------------------------------- */

/* Learn of another rank's failure: kept as the family's, to be returned by waits. */
static void heard_failure(struct comm_family *family, const struct comm_verdict *v) {
    char text[1024];
    snprintf(text, sizeof text, "rank %d on %s: %s", v->first_rank, v->host, v->message);
    if (family->control->verdict.status == STATUS_OK) family->control->verdict = *v;
    family_fail(family, v->status, false, text);
}

/* Rank 0 counts a failure of any rank, its own too. */
static void count_report(struct comm_family *family, const struct message *m) {
    struct control *control = family->control;
    if (control->reported[m->rank]) return;
    const bool first = control->n_reported == 0;
    control->reported[m->rank] = true;
    control->n_reported++;
    if (m->derived) {
        control->same = false;
        return;
    }
    if (control->verdict.n_failed++ == 0) {
        const int n_failed = control->verdict.n_failed;
        control->hash = m->hash;
        control->verdict = m->verdict;
        control->verdict.n_failed = n_failed;
    } else if (m->hash != control->hash) {
        control->same = false;
    }
    if (first) { /* those who wait for that rank need not wait for their deadline */
        struct message notice = *m;
        notice.kind = NOTICE;
        if (m->rank != family->world->rank) heard_failure(family, &m->verdict);
        post_all(family, &notice);
    }
}

static void describe_self(const struct comm_family *family, struct message *m) {
    m->step = family->step;
    snprintf(m->stage, sizeof m->stage, "%s", family->stage);
    if (family->waiting)
        snprintf(m->doing, sizeof m->doing, "%s of group '%s'", family->waiting->what,
                 family->waiting->comm->name);
}

static void take_answer(struct control *control, const struct message *m) {
    if (!control->asked) return;
    for (int r = 0; r < control->asked->size; r++)
        if (control->asked->world_ranks[r] == m->rank) control->answers[r] = *m;
}

static void handle(struct comm_family *family, const struct message *m) {
    struct control *control = family->control;
    struct message answer = {.kind = ANSWER};
    switch ((enum kind)m->kind) {
    case REPORT:
        count_report(family, m);
        break;
    case NOTICE:
        heard_failure(family, &m->verdict);
        break;
    case VERDICT:
        if (m->verdict.n_failed > 0) heard_failure(family, &m->verdict);
        control->verdict = m->verdict;
        control->have_verdict = true;
        break;
    case ASK:
        describe_self(family, &answer);
        post(family, m->rank, &answer);
        break;
    case ANSWER:
        take_answer(control, m);
        break;
    }
}

void control_poll(struct comm_family *family) {
    struct control *control = family->control;
    if (!control || control->comm == MPI_COMM_NULL) return;
    if (control->outgoing) reap(control);
    for (;;) {
        int there = 0;
        MPI_Status from;
        struct message m;
        if (MPI_Iprobe(MPI_ANY_SOURCE, CONTROL_TAG, control->comm, &there, &from) != MPI_SUCCESS || !there)
            return;
        if (MPI_Recv(&m, sizeof m, MPI_BYTE, from.MPI_SOURCE, CONTROL_TAG, control->comm,
                     MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return;
        handle(family, &m);
    }
}

/* ---- who is missing
 * ---------------------------------------------------------------------------------------- */

static void append(char *text, size_t n_bytes, const char *words) {
    const size_t used = strlen(text);
    snprintf(text + used, n_bytes - used, "%s", words);
}

/* One clause for a rank of the group, or nothing: it waits for the same thing as we do. */
static void describe(const struct comm *comm, int rank, const struct message *answer,
                     const struct message *self, char *text, size_t n_bytes) {
    const struct comm_family *family = comm->family;
    char who[96], clause[320];
    family_rank_text(family, comm->world_ranks[rank], who, sizeof who);
    if (!answer->kind)
        snprintf(clause, sizeof clause, "no answer from %s", who);
    else if (strcmp(answer->doing, self->doing) == 0 && answer->step == self->step)
        return;
    else
        snprintf(clause, sizeof clause, "%s %s%s (%s step %lld)", who,
                 answer->doing[0] ? "waits in " : "computes", answer->doing, answer->stage,
                 (long long)answer->step);
    if (text[0]) append(text, n_bytes, ", ");
    append(text, n_bytes, clause);
}

static bool all_answered(const struct control *control, const int *ranks, int n) {
    for (int i = 0; i < n; i++)
        if (!control->answers[ranks[i]].kind) return false;
    return true;
}

void control_explain(struct comm_request *request, char *text, size_t n_bytes) {
    const struct comm *comm = request->comm;
    struct comm_family *family = comm->family;
    struct control *control = family->control;
    text[0] = '\0';
    if (!control || comm->size > COMM_MAX_ASKED) return;
    int ranks[COMM_MAX_ASKED];
    int n = comm->ops->missing(request, ranks, COMM_MAX_ASKED);
    if (n < 0) {
        n = 0;
        for (int r = 0; r < comm->size; r++)
            if (r != comm->rank) ranks[n++] = r;
    }
    struct message *answers = memory_zeroed((size_t)comm->size, sizeof *answers);
    if (!answers) return;
    struct message ask = {.kind = ASK};
    describe_self(family, &ask);
    control->asked = comm;
    control->answers = answers;
    for (int i = 0; i < n; i++) post(family, comm->world_ranks[ranks[i]], &ask);
    const double end_s = clock_now_s() + COMM_ASK_S;
    while (!all_answered(control, ranks, n) && clock_now_s() < end_s) {
        control_poll(family);
        sched_yield();
    }
    control->asked = NULL;
    for (int i = 0; i < n; i++) describe(comm, ranks[i], &answers[ranks[i]], &ask, text, n_bytes);
    free(answers);
}

/* ---- the end
 * ----------------------------------------------------------------------------------------------- */

static void poll_until(struct comm_family *family, double end_s, bool (*done)(const struct comm_family *)) {
    while (!done(family) && clock_now_s() < end_s) {
        control_poll(family);
        sched_yield();
    }
}

static bool all_reported(const struct comm_family *family) {
    return family->control->n_reported == family->world->size;
}

static bool have_verdict(const struct comm_family *family) {
    return family->control->have_verdict;
}

/* Rank 0: collect, judge, tell. */
static void judge(struct comm_family *family, const struct message *own) {
    struct control *control = family->control;
    const int size = family->world->size;
    count_report(family, own);
    poll_until(family, clock_now_s() + COMM_AGREE_S, all_reported);
    struct message m = {.kind = VERDICT, .verdict = control->verdict};
    m.verdict.reached = true;
    m.verdict.n_silent = size - control->n_reported;
    m.verdict.shared = control->same && m.verdict.n_silent == 0 && m.verdict.n_failed == size;
    control->verdict = m.verdict;
    control->have_verdict = true;
    post_all(family, &m);
    drain(control, 0.2);
}

void comm_agree_on_failure(struct comm *world, status_t status, const char *message,
                           struct comm_verdict *verdict) {
    struct comm_family *family = world->family;
    struct control *control = family->control;
    struct message m = {.kind = REPORT, .rank = world->rank};
    family_abort_device(family);
    m.verdict = (struct comm_verdict){.first_rank = world->rank, .n_failed = 1, .status = status};
    snprintf(m.verdict.message, sizeof m.verdict.message, "%s", message);
    snprintf(m.verdict.host, sizeof m.verdict.host, "%s", family->ranks[world->rank].host);
    if (!control) {
        *verdict = m.verdict;
        verdict->reached = verdict->shared = true;
        family->agreed = true;
        return;
    }
    m.hash = XXH3_64bits_withSeed(m.verdict.message, strlen(m.verdict.message), (uint64_t)(int64_t)status);
    m.derived =
        family->failure != STATUS_OK && !family->failure_is_ours && strstr(message, family->failure_text);
    if (world->rank == 0) {
        judge(family, &m);
    } else {
        post(family, 0, &m);
        poll_until(family, clock_now_s() + COMM_AGREE_S + 0.5, have_verdict);
    }
    *verdict = control->have_verdict ? control->verdict : m.verdict;
    family->agreed = verdict->reached && verdict->shared;
    if (verdict->reached && !verdict->shared &&
        world->rank != verdict->first_rank) { /* that one speaks first */
        const double end_s = clock_now_s() + COMM_SPEAK_S;
        while (clock_now_s() < end_s) sched_yield();
    }
}
