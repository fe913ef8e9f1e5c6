/* A thread with a clock: a call that never comes back from NCCL, or from the end of a failed run, must not
 * keep the process for ever. It calls nothing of NCCL, CUDA or MPI. */
#include "comm/cuda/nccl_impl.h"
#include "common/clock.h"
#include "common/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define TICK_US 100000

static struct {
    pthread_t thread;
    const struct comm_family *family;
    atomic_bool running, stop;
    _Atomic double end_s; /* 0: the issuing thread is not inside NCCL */
    _Atomic double since_s;
    const char *_Atomic what;
    const char *_Atomic group;
} watch;

/* The issuing thread is stuck: what it left in the family stands still. */
static _Noreturn void end_process(double now_s) {
    const struct comm_family *family = watch.family;
    char where[64];
    log_local(LOG_ERROR, "%s of group '%s'%s: stuck inside NCCL for %.0f s, this process ends", watch.what,
              watch.group, family_where_text(family, where, sizeof where), now_s - watch.since_s);
    _exit(status_exit_code(STATUS_TIMEOUT));
}

static void *look(void *unused) {
    (void)unused;
    while (!watch.stop) {
        const double end_s = watch.end_s, now_s = clock_now_s();
        if (end_s > 0 && now_s > end_s) end_process(now_s);
        usleep(TICK_US);
    }
    return NULL;
}

status_t watch_start(const struct comm_family *family) {
    watch.family = family;
    watch.stop = false;
    watch.end_s = 0;
    watch.what = watch.group = "";
    CHECK(pthread_create(&watch.thread, NULL, look, NULL) == 0, STATUS_INTERNAL,
          "no thread to watch over NCCL can be started");
    watch.running = true;
    return STATUS_OK;
}

void watch_stop(void) {
    if (!watch.running) return;
    watch.stop = true;
    pthread_join(watch.thread, NULL);
    watch.running = false;
}

void watch_enter(const char *what, const char *group, double limit_s) {
    watch.what = what;
    watch.group = group;
    watch.since_s = clock_now_s();
    watch.end_s = watch.since_s + limit_s;
}

ncclResult_t watch_leave(ncclResult_t result) {
    watch.end_s = 0;
    return result;
}
