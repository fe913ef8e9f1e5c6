// Does the emulation of CUDA bite? Faulty kernels and faulty orders of streams are noticed, right ones give
// the right answer under every seed; what CUDA refuses is refused.
// LIMIT 60
#include "tests/emulated_cuda/faulty.h"
#include "tests/support/cuda_twin.h"
#include "tests/support/test.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 256, SEEDS = 50 };

#define assert_cuda(call) assert_int_equal((call), cudaSuccess)
/* The call fails with this error, which is then forgotten. */
#define assert_refused(call, error)                                                                          \
    do {                                                                                                     \
        assert_int_equal((call), (error));                                                                   \
        (void)cudaGetLastError();                                                                            \
    } while (0)

static float *on_device(size_t n) {
    void *p;
    assert_cuda(cudaMalloc(&p, n * sizeof(float)));
    return p;
}

static cudaStream_t new_stream(void) {
    cudaStream_t s;
    assert_cuda(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static cudaEvent_t new_event(void) {
    cudaEvent_t e;
    assert_cuda(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    return e;
}

/* How many of n values differ from `want`; NaN differs. */
static int n_wrong(const float *device, int n, float want) {
    float h[N];
    int wrong = 0;
    assert_cuda(cudaMemcpy(h, device, (size_t)n * sizeof *h, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++) wrong += !(h[i] == want);
    return wrong;
}

/* Of so many seeds, how many make `wrong` nonzero? */
static int seeds_that_see(int (*wrong)(bool right), bool right, uint64_t n_seeds) {
    int seen = 0;
    for (uint64_t seed = 1; seed <= n_seeds; seed++) {
        coc_seed(seed);
        seen += wrong(right) != 0;
    }
    return seen;
}

/* The faulty order is seen under many seeds, the right one under none. */
static void check_order(int (*wrong)(bool right), int at_least) {
    assert_int_equal(seeds_that_see(wrong, true, SEEDS), 0);
    assert_true(seeds_that_see(wrong, false, SEEDS) >= at_least);
}

/* ---- kernels ---- */

static int barrier_wrong(bool right) {
    float h[N];
    int wrong = 0;
    float *in = on_device(N), *out = on_device(N);
    for (int i = 0; i < N; i++) h[i] = (float)i;
    assert_cuda(cudaMemcpy(in, h, sizeof h, cudaMemcpyHostToDevice));
    faulty_no_barrier(out, in, N, NULL);
    assert_cuda(cudaMemcpy(h, out, sizeof h, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++) wrong += !(h[i] == (float)((i + 33) % N));
    assert_cuda(cudaFree(in));
    assert_cuda(cudaFree(out));
    return right ? 0 : wrong;
}

static void missing_barrier(void **state) {
    (void)state;
    assert_true(seeds_that_see(barrier_wrong, false, SEEDS) > SEEDS / 2);
}

static void copy_not_awaited(void **state) {
    (void)state;
    float h[N] = {0};
    float *in = on_device(N), *out = on_device(N);
    assert_cuda(cudaMemcpy(in, h, sizeof h, cudaMemcpyHostToDevice));
    faulty_copy_not_awaited(out, in, NULL);
    assert_true(n_wrong(out, 64, 0.0f) > 0); /* threads before the first that waits */
    assert_cuda(cudaFree(in));
    assert_cuda(cudaFree(out));
}

/* A child runs f; it must die of `signal` having said `words`. */
static void check_dies(void (*f)(void), int signal, const char *words) {
    int ends[2], status;
    char said[4096] = "";
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        struct sigaction usual = {.sa_handler = SIG_DFL};
        sigaction(signal, &usual, NULL); /* cmocka catches it */
        f();
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t r; n < sizeof said - 1 && (r = read(ends[0], said + n, sizeof said - 1 - n)) > 0;)
        n += (size_t)r;
    close(ends[0]);
    waitpid(child, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != signal || !strstr(said, words))
        fail_msg("status %x, lacks '%s': %s", (unsigned)status, words, said);
}

static void divergent(void) {
    faulty_divergent_barrier(on_device(64), NULL);
    cudaDeviceSynchronize();
}

static void lane_missing(void) {
    faulty_lane_missing(on_device(32), NULL);
    cudaDeviceSynchronize();
}

static void divergent_barrier(void **state) {
    (void)state;
    check_dies(divergent, SIGABRT, "wait at different barriers");
}

static void missing_lane(void **state) {
    (void)state;
    check_dies(lane_missing, SIGABRT, "lanes that never come");
}

/* ---- streams ---- */

static int streams_wrong(bool right) {
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t filled = new_event();
    float *x = on_device(N), *y = on_device(N);
    launch_fill(x, 1, N, a);
    assert_cuda(cudaEventRecord(filled, a));
    if (right) assert_cuda(cudaStreamWaitEvent(b, filled, 0));
    launch_add_one(y, x, N, b);
    assert_cuda(cudaStreamSynchronize(b));
    const int wrong = n_wrong(y, N, 2);
    assert_cuda(cudaStreamDestroy(a));
    assert_cuda(cudaStreamDestroy(b));
    assert_cuda(cudaEventDestroy(filled));
    assert_cuda(cudaFree(x));
    assert_cuda(cudaFree(y));
    return wrong;
}

static void missing_event_wait(void **state) {
    (void)state;
    check_order(streams_wrong, SEEDS / 5);
    assert_true(seeds_that_see(streams_wrong, false, TWIN_SEEDS) >
                0); /* also by those that all other tests use */
}

static int reuse_wrong(bool right) {
    cudaStream_t s = new_stream();
    cudaEvent_t copied = new_event();
    float *host, *device = on_device(1);
    assert_cuda(cudaMallocHost((void **)&host, sizeof *host));
    *host = 1;
    assert_cuda(cudaMemcpyAsync(device, host, sizeof *host, cudaMemcpyHostToDevice, s));
    assert_cuda(cudaEventRecord(copied, s));
    if (right) assert_cuda(cudaEventSynchronize(copied));
    *host = 2;
    assert_cuda(cudaStreamSynchronize(s));
    const int wrong = n_wrong(device, 1, 1);
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaEventDestroy(copied));
    assert_cuda(cudaFree(device));
    assert_cuda(cudaFreeHost(host));
    return wrong;
}

static void pinned_buffer_reused_too_early(void **state) {
    (void)state;
    check_order(reuse_wrong, SEEDS / 2);
}

static void event_never_recorded(void **state) {
    (void)state;
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    assert_cuda(cudaStreamWaitEvent(s, e, 0)); /* no wait, as in CUDA */
    assert_cuda(cudaStreamSynchronize(s));
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaEventDestroy(e));
}

static void refusals(void **state) {
    (void)state;
    float host = 0, *p = on_device(4);
    assert_refused(cudaMemcpy(p, p, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_refused(cudaMemcpy(p, &host, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    launch_nothing(0, NULL);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_cuda(cudaGetLastError());
    assert_cuda(cudaFree(p));
    assert_refused(cudaFree(&host), cudaErrorInvalidValue);
    void *huge;
    assert_refused(cudaMalloc(&huge, (size_t)1 << 50), cudaErrorMemoryAllocation);
}

/* With COC_GUARD, in a process of its own (the variable is read at start-up). */
static void host_touches_device_memory(void **state) {
    (void)state;
    int status;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        setenv("COC_GUARD", "1", 1);
        setenv("ASAN_OPTIONS", "handle_segv=0", 1);
        execl("/proc/self/exe", "stand_in", "touch", (char *)NULL);
        _exit(9);
    }
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static int touch_device_memory(void) {
    void *p;
    if (cudaMalloc(&p, 16) != cudaSuccess) return 1;
    *(volatile float *)p = 1;
    return 0;
}

/* ---- graphs ---- */

struct pair_of_streams {
    cudaStream_t a, b;
    cudaEvent_t fork, half, join;
    float *x, *y, *z;
};

static struct pair_of_streams open_pair(void) {
    return (struct pair_of_streams){new_stream(), new_stream(), new_event(),  new_event(),
                                    new_event(),  on_device(N), on_device(N), on_device(N)};
}

static void close_pair(struct pair_of_streams *p) {
    cudaStream_t streams[] = {p->a, p->b};
    cudaEvent_t events[] = {p->fork, p->half, p->join};
    float *memory[] = {p->x, p->y, p->z};
    for (int i = 0; i < 2; i++) assert_cuda(cudaStreamDestroy(streams[i]));
    for (int i = 0; i < 3; i++) assert_cuda(cudaEventDestroy(events[i]));
    for (int i = 0; i < 3; i++) assert_cuda(cudaFree(memory[i]));
}

/* a: x += 1, then the other stream's y = x + 1, then z = y + 1; captured, with or without the wait in the
 * middle. */
static cudaGraph_t capture_pair(struct pair_of_streams *p, bool right) {
    cudaGraph_t graph;
    assert_cuda(cudaStreamBeginCapture(p->a, cudaStreamCaptureModeGlobal));
    assert_cuda(cudaEventRecord(p->fork, p->a));
    assert_cuda(cudaStreamWaitEvent(p->b, p->fork, 0));
    launch_add_one(p->x, p->x, N, p->a);
    assert_cuda(cudaEventRecord(p->half, p->a));
    if (right) assert_cuda(cudaStreamWaitEvent(p->b, p->half, 0));
    launch_add_one(p->y, p->x, N, p->b);
    assert_cuda(cudaEventRecord(p->join, p->b));
    assert_cuda(cudaStreamWaitEvent(p->a, p->join, 0));
    launch_add_one(p->z, p->y, N, p->a);
    assert_cuda(cudaStreamEndCapture(p->a, &graph));
    return graph;
}

static int graph_wrong(bool right) {
    struct pair_of_streams p = open_pair();
    cudaGraphExec_t exec;
    launch_fill(p.x, 0, N, p.a);
    cudaGraph_t graph = capture_pair(&p, right); /* nothing runs while it is captured */
    assert_cuda(cudaGraphInstantiate(&exec, graph, 0));
    assert_cuda(cudaGraphDestroy(graph));
    int wrong = 0;
    for (int launch = 1; launch <= 3; launch++) {
        assert_cuda(cudaGraphLaunch(exec, p.a));
        assert_cuda(cudaStreamSynchronize(p.a));
        wrong += n_wrong(p.x, N, (float)launch) + n_wrong(p.z, N, (float)launch + 2);
    }
    assert_cuda(cudaGraphExecDestroy(exec));
    close_pair(&p);
    return wrong;
}

static void graph_of_two_streams(void **state) {
    (void)state;
    check_order(graph_wrong, SEEDS / 5);
}

static void check_invalidated(cudaStream_t s) {
    enum cudaStreamCaptureStatus status;
    cudaGraph_t graph;
    assert_cuda(cudaStreamIsCapturing(s, &status));
    assert_int_equal(status, cudaStreamCaptureStatusInvalidated);
    assert_refused(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    assert_null(graph);
    assert_cuda(cudaStreamIsCapturing(s, &status));
    assert_int_equal(status, cudaStreamCaptureStatusNone);
}

static void waiting_while_capturing(void **state) {
    (void)state;
    struct pair_of_streams p = open_pair();
    const enum cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    float host;
    void *more;
    assert_cuda(cudaStreamBeginCapture(p.a, mode));
    assert_refused(cudaStreamSynchronize(p.a), cudaErrorStreamCaptureUnsupported);
    check_invalidated(p.a);
    assert_cuda(cudaStreamBeginCapture(p.a, mode));
    assert_refused(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
    check_invalidated(p.a);
    assert_cuda(cudaStreamBeginCapture(p.a, mode));
    assert_refused(cudaMalloc(&more, 16), cudaErrorStreamCaptureUnsupported);
    check_invalidated(p.a);
    assert_cuda(cudaStreamBeginCapture(p.a, mode));
    assert_refused(cudaMemcpy(&host, p.x, 4, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureUnsupported);
    check_invalidated(p.a);
    assert_cuda(cudaStreamBeginCapture(p.a, mode));
    assert_cuda(cudaEventRecord(p.half, p.a));
    assert_refused(cudaEventSynchronize(p.half), cudaErrorCapturedEvent);
    check_invalidated(p.a);
    close_pair(&p);
}

static void what_capture_refuses(void **state) {
    (void)state;
    struct pair_of_streams p = open_pair();
    cudaGraph_t graph;
    assert_refused(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeGlobal),
                   cudaErrorStreamCaptureUnsupported);
    assert_refused(cudaStreamEndCapture(p.a, &graph), cudaErrorIllegalState);
    /* an event from outside */
    assert_cuda(cudaEventRecord(p.half, p.b));
    assert_cuda(cudaStreamBeginCapture(p.a, cudaStreamCaptureModeRelaxed));
    assert_refused(cudaStreamBeginCapture(p.a, cudaStreamCaptureModeRelaxed), cudaErrorIllegalState);
    assert_refused(cudaStreamWaitEvent(p.a, p.half, 0), cudaErrorStreamCaptureIsolation);
    check_invalidated(p.a);
    /* a second stream whose work nobody waits for */
    assert_cuda(cudaStreamBeginCapture(p.a, cudaStreamCaptureModeRelaxed));
    assert_cuda(cudaEventRecord(p.fork, p.a));
    assert_cuda(cudaStreamWaitEvent(p.b, p.fork, 0));
    launch_fill(p.x, 1, N, p.b);
    assert_refused(cudaStreamEndCapture(p.b, &graph), cudaErrorStreamCaptureUnmatched);
    check_invalidated(p.a);
    assert_cuda(cudaStreamBeginCapture(p.a, cudaStreamCaptureModeRelaxed));
    assert_cuda(cudaEventRecord(p.fork, p.a));
    assert_cuda(cudaStreamWaitEvent(p.b, p.fork, 0));
    launch_fill(p.x, 1, N, p.b);
    assert_refused(cudaStreamEndCapture(p.a, &graph), cudaErrorStreamCaptureUnjoined);
    /* its event, after the end */
    assert_refused(cudaStreamWaitEvent(p.b, p.fork, 0), cudaErrorCapturedEvent);
    /* relaxed: memory may be had */
    assert_cuda(cudaStreamBeginCapture(p.a, cudaStreamCaptureModeRelaxed));
    assert_cuda(cudaFree(on_device(1)));
    assert_cuda(cudaStreamEndCapture(p.a, &graph));
    assert_cuda(cudaGraphDestroy(graph));
    close_pair(&p);
}

static void times_between_events(void **state) {
    (void)state;
    struct pair_of_streams p = open_pair();
    cudaEvent_t begin, end;
    cudaGraph_t graph;
    float ms = -1;
    assert_cuda(cudaEventCreateWithFlags(&begin, cudaEventDefault));
    assert_cuda(cudaEventCreateWithFlags(&end, cudaEventDefault));
    assert_refused(cudaEventElapsedTime(&ms, begin, end), cudaErrorInvalidResourceHandle);
    assert_cuda(cudaEventRecord(begin, p.a));
    launch_fill(p.x, 1, N, p.a);
    assert_cuda(cudaEventRecord(end, p.a));
    assert_refused(cudaEventElapsedTime(&ms, begin, end), cudaErrorNotReady);
    assert_cuda(cudaEventSynchronize(end));
    assert_cuda(cudaEventElapsedTime(&ms, begin, end));
    assert_true(ms > 0 && ms < 60e3);
    assert_cuda(cudaEventRecord(p.half, p.a)); /* made without a clock */
    assert_cuda(cudaEventSynchronize(p.half));
    assert_refused(cudaEventElapsedTime(&ms, begin, p.half), cudaErrorInvalidResourceHandle);
    assert_cuda(cudaStreamBeginCapture(p.a, cudaStreamCaptureModeRelaxed));
    assert_cuda(cudaEventRecord(end, p.a));
    assert_refused(cudaEventElapsedTime(&ms, begin, end), cudaErrorInvalidResourceHandle);
    assert_cuda(cudaStreamEndCapture(p.a, &graph));
    assert_cuda(cudaGraphDestroy(graph));
    assert_cuda(cudaEventDestroy(begin));
    assert_cuda(cudaEventDestroy(end));
    close_pair(&p);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "touch") == 0) return touch_device_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_barrier),
        cmocka_unit_test(copy_not_awaited),
        cmocka_unit_test(divergent_barrier),
        cmocka_unit_test(missing_lane),
        cmocka_unit_test(missing_event_wait),
        cmocka_unit_test(pinned_buffer_reused_too_early),
        cmocka_unit_test(event_never_recorded),
        cmocka_unit_test(refusals),
        cmocka_unit_test(host_touches_device_memory),
        cmocka_unit_test(graph_of_two_streams),
        cmocka_unit_test(waiting_while_capturing),
        cmocka_unit_test(what_capture_refuses),
        cmocka_unit_test(times_between_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
