// The cable between two hosts is pulled in the middle of a run: the job ends soon after the deadline, and the
// message names the rank that is out of reach. Hosts in network namespaces; skipped where these cannot be
// made.
// LIMIT 90
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/cluster.h"
#include "tests/support/test.h"
#include "common/clock.h"

static int as_rank(int argc, char **argv) {
    struct comm *world;
    struct comm_verdict verdict;
    status_t status = STATUS_OK;
    if (comm_start(&argc, &argv, &world) != STATUS_OK) return 1;
    comm_set_deadline(world, atof(argv[1]));
    for (int step = 0; step < 400 && status == STATUS_OK; step++) {
        double x[1000] = {1};
        comm_set_step(world, "cotrain", step);
        status = comm_all_reduce(world, x, 1000, COMM_F64, COMM_SUM);
        if (step == 3 && comm_rank(world) == 0) printf("UNDER WAY\n"), fflush(stdout);
        usleep(50000);
    }
    if (status == STATUS_OK) return comm_finish(&world) != STATUS_OK;
    comm_agree_on_failure(world, status, status_message(), &verdict);
    printf("SAYS %s\n", status_message());
    comm_abort(status_exit_code(status));
}

/* Two ranks with this deadline, one a host; the cable is cut after 3 s, mpirun is given limit_s. */
static int run(const char *self, const char *deadline_s, int limit_s, double *time_s) {
    char words[1024];
    snprintf(words, sizeof words,
             "mpirun -np 2 %s %s & job=$!; (sleep %d; kill -KILL $job) >/dev/null 2>&1 & guard=$!; sleep 3; "
             "NETNS_PREFIX=mcut bash tests/support/netns-cluster.sh cut h2; wait $job; code=$?; kill $guard; "
             "exit $code",
             self, deadline_s, limit_s);
    const double begin_s = clock_now_s();
    const int code = cluster("mcut", words);
    *time_s = clock_now_s() - begin_s;
    if (getenv("SHOW")) printf("exit code %d after %.1f s:\n%s", code, *time_s, cluster_output);
    return code;
}

/* With a deadline of its own as short as this, a rank says who is missing before mpirun's daemons notice
 * anything. */
static int message_names_the_rank(const char *self) {
    double time_s;
    run(self, "1", 10, &time_s);
    return strstr(cluster_output, "SAYS rank 0 on h1: ") &&
           strstr(cluster_output, "no answer from rank 1 on h2");
}

/* With keep-alive, mpirun ends the job long before the ranks' deadline, and names the host. */
static int job_ends(const char *self) {
    double time_s;
    setenv("OMPI_MCA_oob_tcp_keepalive_time", "3", 1);
    setenv("OMPI_MCA_oob_tcp_keepalive_intvl", "1", 1);
    setenv("OMPI_MCA_oob_tcp_keepalive_probes", "3", 1);
    const int code = run(self, "60", 20, &time_s);
    return code == 205 && time_s < 20 && strstr(cluster_output, "h2");
}

int main(int argc, char **argv) {
    if (argc > 1) return as_rank(argc, argv);
    if (strstr(comm_library(), "MPICH")) { /* knows no keep-alive */
        printf("MPICH's mpirun does not notice a dead cable\n");
        return 77;
    }
    if (!cluster_up("mcut")) return 77;
    int good = job_ends(argv[0]);
    cluster("mcut", "down");
    if (good && cluster_up("mcut")) {
        setenv("OMPI_MCA_oob_tcp_keepalive_time", "0", 1);
        good = message_names_the_rank(argv[0]);
    }
    if (!good) puts(cluster_output);
    cluster("mcut", "down");
    return !good;
}
