// Ranks that stay away, fail, are stopped or killed: the job ends within its bound, with the exit code of the
// cause and a message that names the rank. Run without arguments this starts mpirun on itself, once a case.
// LIMIT 120
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "comm/exchange.h"
#include "comm/comm.h"
#include "common/clock.h"

/* ---- as a rank
 * --------------------------------------------------------------------------------------------- */

static struct comm *world;
static int rank;

static status_t sum_with_all(void) {
    double x = 1;
    return comm_all_reduce(world, &x, 1, COMM_F64, COMM_SUM);
}

static status_t stay_away(void) {
    if (rank != 2) return sum_with_all();
    sleep(30);
    return STATUS_OK;
}

static status_t wait_elsewhere(void) {
    if (rank != 2) return sum_with_all();
    char byte;
    const struct comm_transfer from_0 = {.rank = 0, .data = &byte, .n_bytes = 1};
    struct comm_request *request;
    comm_set_deadline(world, 30);
    comm_set_step(world, "cotrain", 6);
    TRY(comm_transfer_begin(world, NULL, 0, &from_0, 1, &request));
    return comm_wait(&request);
}

static status_t late_labels(void) {
    const int zero = 0, two = 2;
    const struct comm_membership peers[] = {{"a", &zero, 1}, {"b", &two, 1}};
    struct pseudo_label labels[8] = {{0}}, received[8], *receive[4] = {NULL, received, received, NULL};
    const struct pseudo_label *send[2] = {labels, labels};
    struct exchange_plan *plan;
    struct exchange_request *request;
    TRY(exchange_plan_new(world, 2, peers, 8, &plan));
    if (rank == 2) {
        for (const double end_s = clock_now_s() + 30; clock_now_s() < end_s;) comm_poke(world);
        return STATUS_OK;
    }
    if (rank == 1) {
        comm_set_deadline(world, 30); /* rank 0 is to be the first */
        return sum_with_all();
    }
    TRY(exchange_begin(plan, send, receive, &request));
    return exchange_end(&request, NULL);
}

static status_t fail_alone(int who) {
    comm_set_deadline(world, 60);
    return rank == who ? FAIL(STATUS_BAD_DATA, "shard x.h5: row %d is damaged", who) : sum_with_all();
}

static status_t rank_1_fails(void) {
    return fail_alone(1);
}
static status_t rank_0_fails(void) {
    return fail_alone(0);
}

/* Rank 2 is quicker than the others, which must not take its failure for something they know nothing of. */
static status_t all_fail_alike(void) {
    if (rank != 2) usleep(100000);
    return FAIL(STATUS_BAD_CONFIG, "c.yaml:3:1: unknown key");
}

static status_t all_fail_differently(void) {
    return FAIL(STATUS_IO, "cannot write file of rank %d", rank);
}

static status_t signal_itself(int who, int sig) {
    TRY(comm_barrier(world));
    if (rank == who) kill(getpid(), sig);
    return sum_with_all();
}

static status_t rank_1_killed(void) {
    return signal_itself(1, SIGKILL);
}
static status_t rank_1_stopped(void) {
    return signal_itself(1, SIGSTOP);
}
static status_t rank_0_stopped(void) {
    return signal_itself(0, SIGSTOP);
}
static status_t nothing_happens(void) {
    return sum_with_all();
}

static const struct {
    const char *name;
    status_t (*run)(void);
} cases[] = {{"stay_away", stay_away},
             {"wait_elsewhere", wait_elsewhere},
             {"late_labels", late_labels},
             {"rank_1_fails", rank_1_fails},
             {"rank_0_fails", rank_0_fails},
             {"all_fail_alike", all_fail_alike},
             {"all_fail_differently", all_fail_differently},
             {"rank_1_killed", rank_1_killed},
             {"rank_1_stopped", rank_1_stopped},
             {"rank_0_stopped", rank_0_stopped},
             {"nothing_happens", nothing_happens}};

/* What launcher/main.c does at the end. */
static int end(status_t status) {
    struct comm_verdict verdict;
    if (status == STATUS_OK) status = comm_finish(&world);
    if (status == STATUS_OK) return 0;
    comm_agree_on_failure(world, status, status_message(), &verdict);
    if (verdict.shared ? rank == 0 : verdict.reached ? rank == verdict.first_rank : true)
        printf("SAYS %d of %d, %d silent: %s\n", rank, verdict.n_failed, verdict.n_silent, status_message());
    fflush(stdout);
    if (verdict.reached) status = verdict.status;
    if (verdict.shared && comm_finish(&world) == STATUS_OK) return status_exit_code(status);
    comm_abort(status_exit_code(status));
}

static int as_rank(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != STATUS_OK) return 1;
    rank = comm_rank(world);
    comm_set_deadline(world, 1);
    comm_set_step(world, "cotrain", 7);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (!strcmp(cases[i].name, argv[1])) return end(cases[i].run());
    return 2;
}

/* ---- as the test
 * ------------------------------------------------------------------------------------------- */

static const char *self;
static char output[65536];

/* Run a case at np = 3; its exit code. It must be over after limit_s (start and end of mpirun included). */
static int run(const char *name, double limit_s) {
    char command[1024];
    const char *mpirun = getenv("MPIRUN");
    snprintf(command, sizeof command, "timeout -k 1 40 %s -np 3 %s %s 2>&1", mpirun ? mpirun : "mpirun", self,
             name);
    const double begin_s = clock_now_s();
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    const size_t n = fread(output, 1, sizeof output - 1, pipe);
    output[n] = '\0';
    const int status = pclose(pipe);
    const double time_s = clock_now_s() - begin_s;
    if (time_s > limit_s) fail_msg("%s took %g s:\n%s", name, time_s, output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void says(const char *words) {
    if (!strstr(output, words)) fail_msg("'%s' is not in:\n%s", words, output);
}

static void says_times(int n) {
    int found = 0;
    for (const char *at = output; (at = strstr(at, "SAYS ")); at++) found++;
    if (found != n) fail_msg("%d messages:\n%s", found, output);
}

static void deadline_names_who_is_missing(void **state) {
    (void)state;
    assert_int_equal(run("stay_away", 10), 75);
    says(": all_reduce of group 'world', cotrain step 7 not done after 1 s: no answer from rank 2 on ");
    says("1 silent");
    says_times(1);
    assert_int_equal(run("wait_elsewhere", 10), 75);
    says(" waits in transfer of group 'world' (cotrain step 6)");
    says_times(1);
    assert_int_equal(run("late_labels", 10), 75);
    says("exchange of pseudo-labels: rank 0 on ");
    says(": transfer of group 'world', cotrain step 7 not done after 1 s: "); /* over NCCL all are asked */
    says("rank 2 on ");
    says(" computes (cotrain step 7)");
}

static void one_failure_ends_all(void **state) {
    (void)state;
    assert_int_equal(run("rank_1_fails", 8), 65);
    says("SAYS 1 of 1, 0 silent: shard x.h5: row 1 is damaged");
    says_times(1);
    assert_int_equal(run("rank_0_fails", 8), 65);
    says("SAYS 0 of 1, 0 silent: shard x.h5: row 0 is damaged");
    says_times(1);
}

static void failures_of_all(void **state) {
    (void)state;
    assert_int_equal(run("all_fail_alike", 8), 78);
    says("SAYS 0 of 3, 0 silent: c.yaml:3:1: unknown key");
    says_times(1);
    assert_null(strstr(output, "MPI_ABORT"));
    assert_int_equal(run("all_fail_differently", 8), 74);
    says_times(1);
}

static void killed_and_stopped(void **state) {
    (void)state;
    const int code = run("rank_1_killed", 8);
    if (code != 137 && code != 9) fail_msg("exit code %d:\n%s", code, output); /* Open MPI, MPICH */
    assert_int_equal(run("rank_1_stopped", 12), 75);
    says("no answer from rank 1 on ");
    assert_int_equal(run("rank_0_stopped", 12), 75);
    says("no answer from rank 0 on ");
}

static void nothing_to_say(void **state) {
    (void)state;
    assert_int_equal(run("nothing_happens", 8), 0);
    says_times(0);
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc > 1) return as_rank(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadline_names_who_is_missing), cmocka_unit_test(one_failure_ends_all),
        cmocka_unit_test(failures_of_all), cmocka_unit_test(killed_and_stopped),
        cmocka_unit_test(nothing_to_say)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
