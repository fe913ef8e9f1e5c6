#include "data_shards/loader.h"

#include "common/clock.h"
#include "common/memory.h"
#include "data_shards/loader_fill.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/*     empty -> planning -> filling -> ready -> held -> empty      (ring of slots, step s in slot s % n_slots)
 */
enum slot_state { SLOT_EMPTY, SLOT_PLANNING, SLOT_FILLING, SLOT_READY, SLOT_HELD };

struct queued_slot {
    struct loader_slot slot; /* first member: a batch's address leads here */
    enum slot_state state;
    int64_t next_job, n_done;
    int64_t failed_job; /* the lowest that failed, whatever the order of the threads */
    status_t status;
    char message[1024];
};

struct loader {
    struct loader_plan plan;
    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t work, ready;
    struct queued_slot *slots;
    int n_slots, n_initialised;
    pthread_t *threads;
    int n_threads;
    int64_t next_plan, next_out; /* steps */
    bool planning, stop;
    struct loader_statistics statistics;
};

static struct queued_slot *slot_of(struct loader *l, int64_t step) {
    return &l->slots[step % l->n_slots];
}
static bool within(const struct loader *l, int64_t step) {
    return l->plan.config.end_step == -1 || step < l->plan.config.end_step;
}

static void note_failure(struct queued_slot *q, int64_t job, status_t status) {
    if (q->status != STATUS_OK && q->failed_job <= job) return;
    q->status = status;
    q->failed_job = job;
    snprintf(q->message, sizeof q->message, "%s", status_message());
}

/* The mutex is held before and after. */
static void plan_next(struct loader *l) {
    struct queued_slot *q = slot_of(l, l->next_plan);
    q->state = SLOT_PLANNING;
    l->planning = true;
    pthread_mutex_unlock(&l->mutex);
    const status_t status = loader_slot_plan(&l->plan, &q->slot, l->next_plan);
    pthread_mutex_lock(&l->mutex);
    l->planning = false;
    l->next_plan++;
    q->next_job = q->n_done = 0;
    q->status = STATUS_OK;
    if (status != STATUS_OK) {
        note_failure(q, 0, status);
        q->slot.n_jobs = 0;
    }
    q->state = q->slot.n_jobs > 0 ? SLOT_FILLING : SLOT_READY;
    pthread_cond_broadcast(&l->work);
    if (q->state == SLOT_READY) pthread_cond_signal(&l->ready);
}

/* The mutex is held before and after. */
static void run_job(struct loader *l, struct queued_slot *q, struct loader_scratch *scratch) {
    const int64_t job = q->next_job++;
    pthread_mutex_unlock(&l->mutex);
    const double start_s = clock_now_s();
    const status_t status = loader_slot_fill(&l->plan, &q->slot, job, scratch);
    const double busy_s = clock_now_s() - start_s;
    pthread_mutex_lock(&l->mutex);
    l->statistics.busy_s += busy_s;
    l->statistics.n_images++;
    if (status != STATUS_OK) note_failure(q, job, status);
    if (++q->n_done == q->slot.n_jobs) {
        q->state = SLOT_READY;
        pthread_cond_signal(&l->ready);
    }
}

/* The oldest batch that still has an image to begin. */
static struct queued_slot *open_slot(struct loader *l) {
    for (int64_t step = l->next_out; step < l->next_plan; step++) {
        struct queued_slot *q = slot_of(l, step);
        if (q->state == SLOT_FILLING && q->next_job < q->slot.n_jobs) return q;
    }
    return NULL;
}

static void *worker(void *argument) {
    struct loader *l = argument;
    struct loader_scratch scratch = {0};
    pthread_mutex_lock(&l->mutex);
    while (!l->stop) {
        struct queued_slot *q = open_slot(l);
        if (q)
            run_job(l, q, &scratch);
        else if (!l->planning && within(l, l->next_plan) && slot_of(l, l->next_plan)->state == SLOT_EMPTY)
            plan_next(l);
        else
            pthread_cond_wait(&l->work, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
    loader_scratch_free(&scratch);
    return NULL;
}

/* Signals are the main thread's business. */
static status_t start_threads(struct loader *l, int n_threads) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    status_t status = STATUS_OK;
    for (int i = 0; i < n_threads && status == STATUS_OK; i++) {
        const int error = pthread_create(&l->threads[i], NULL, worker, l);
        if (error)
            status = FAIL(STATUS_NO_MEMORY, "cannot start loader thread %d of %d: %s", i + 1, n_threads,
                          strerror(error));
        else
            l->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

status_t loader_open(const struct loader_config *config, struct loader **out) {
    struct loader *l = memory_zeroed(1, sizeof *l);
    CHECK(l, STATUS_NO_MEMORY, "out of memory for a loader");
    const status_t planned = loader_plan_init(&l->plan, config);
    if (planned != STATUS_OK) {
        free(l);
        return planned;
    }
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    l->n_slots = config->n_ahead;
    l->next_plan = l->next_out = config->first_step;
    l->slots = memory_zeroed((size_t)l->n_slots, sizeof *l->slots);
    l->threads = memory_zeroed((size_t)config->n_threads, sizeof *l->threads);
    status_t status;
    CHECK_TO(fail, l->slots && l->threads, STATUS_NO_MEMORY, "out of memory for a loader");
    while (l->n_initialised < l->n_slots)
        TRY_TO(fail, loader_slot_init(&l->plan, &l->slots[l->n_initialised++].slot));
    TRY_TO(fail, start_threads(l, config->n_threads));
    *out = l;
    return STATUS_OK;
fail:
    loader_close(l);
    return status;
}

status_t loader_next(struct loader *l, struct loader_batch **batch_out) {
    *batch_out = NULL;
    pthread_mutex_lock(&l->mutex);
    status_t status = STATUS_OK;
    if (!within(l, l->next_out)) goto done;
    struct queued_slot *q = slot_of(l, l->next_out);
    CHECK_TO(done, q->state != SLOT_HELD, STATUS_INTERNAL, "all %d batches of a loader are held", l->n_slots);
    const double start_s = clock_now_s();
    bool waited = false;
    while (!(l->next_plan > l->next_out && q->state == SLOT_READY)) {
        waited = true;
        pthread_cond_wait(&l->ready, &l->mutex);
    }
    q->slot.batch.wait_s = waited ? clock_now_s() - start_s : 0;
    l->statistics.wait_s += q->slot.batch.wait_s;
    l->next_out++;
    if (q->status != STATUS_OK) {
        status = FAIL(q->status, "%s", q->message);
        q->state = SLOT_EMPTY;
        pthread_cond_broadcast(&l->work);
    } else {
        q->state = SLOT_HELD;
        l->statistics.n_batches++;
        *batch_out = &q->slot.batch;
    }
done:
    pthread_mutex_unlock(&l->mutex);
    return status;
}

void loader_release(struct loader *l, struct loader_batch *batch) {
    if (!batch) return;
    struct queued_slot *q = (struct queued_slot *)(void *)batch; /* batch is the first member of its slot */
    pthread_mutex_lock(&l->mutex);
    q->state = SLOT_EMPTY;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
}

struct loader_statistics loader_statistics(struct loader *l) {
    pthread_mutex_lock(&l->mutex);
    const struct loader_statistics statistics = l->statistics;
    pthread_mutex_unlock(&l->mutex);
    return statistics;
}

void loader_close(struct loader *l) {
    if (!l) return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (int i = 0; i < l->n_threads; i++) pthread_join(l->threads[i], NULL);
    for (int i = 0; i < l->n_initialised; i++) loader_slot_free(&l->slots[i].slot);
    loader_plan_free(&l->plan);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->mutex);
    free(l->slots);
    free(l->threads);
    free(l);
}
