#include "data_shards/crew.h"

#include "common/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct crew {
    status_t (*work)(void *context, int64_t i, int thread);
    void *context;
    int64_t n;
    _Atomic int64_t next;
    pthread_mutex_t mutex; /* guards the failure */
    int64_t failed_item;
    status_t status;
    char message[1024];
};

struct member {
    struct crew *crew;
    int thread;
    pthread_t id;
};

static void *run_member(void *argument) {
    const struct member *m = argument;
    struct crew *c = m->crew;
    for (;;) {
        const int64_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->n) return NULL;
        const status_t status = c->work(c->context, i, m->thread);
        if (status == STATUS_OK) continue;
        pthread_mutex_lock(&c->mutex);
        if (c->status == STATUS_OK || i < c->failed_item) {
            c->status = status;
            c->failed_item = i;
            snprintf(c->message, sizeof c->message, "%s", status_message());
        }
        pthread_mutex_unlock(&c->mutex);
        atomic_store(&c->next, c->n);
    }
}

status_t crew_run(int n_threads, int64_t n, status_t (*work)(void *context, int64_t i, int thread),
                  void *context) {
    struct crew crew = {.work = work, .context = context, .n = n, .mutex = PTHREAD_MUTEX_INITIALIZER};
    if (n_threads > n) n_threads = n > 1 ? (int)n : 1;
    struct member *members = memory_zeroed((size_t)n_threads, sizeof *members);
    CHECK(members, STATUS_NO_MEMORY, "out of memory for %d threads", n_threads);
    sigset_t all, before; /* signals are the main thread's business */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int n_started = 1;
    for (int i = 0; i < n_threads; i++) members[i] = (struct member){.crew = &crew, .thread = i};
    while (n_started < n_threads &&
           pthread_create(&members[n_started].id, NULL, run_member, &members[n_started]) == 0)
        n_started++; /* fewer threads than wished do the same work */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    run_member(&members[0]);
    for (int i = 1; i < n_started; i++) pthread_join(members[i].id, NULL);
    pthread_mutex_destroy(&crew.mutex);
    free(members);
    return crew.status == STATUS_OK ? STATUS_OK : FAIL(crew.status, "%s", crew.message);
}
