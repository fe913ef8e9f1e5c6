/* Two hosts in network namespaces for one test (tests/support/netns-cluster.sh). */
#ifndef TESTS_SUPPORT_CLUSTER_H
#define TESTS_SUPPORT_CLUSTER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "comm/comm.h"

static char cluster_output[65536]; /* of the last command */

/* Run "netns-cluster.sh WORDS" for the cluster `prefix`; its exit code, its output in cluster_output. Through
 * a file: what still runs on a host out of reach would keep a pipe open. */
static inline int cluster(const char *prefix, const char *words) {
    char command[2048], name[] = "/tmp/cluster-XXXXXX";
    const int fd = mkstemp(name);
    if (fd < 0) return -1;
    snprintf(command, sizeof command,
             "exec >%s 2>&1 </dev/null; NETNS_PREFIX=%s NETNS_SLOTS=1 bash tests/support/netns-cluster.sh %s",
             name, prefix, words);
    const int status = system(command);
    const ssize_t n = read(fd, cluster_output, sizeof cluster_output - 1);
    cluster_output[n > 0 ? n : 0] = '\0';
    close(fd);
    unlink(name);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Start the cluster with two hosts; false, with the reason printed, where that cannot be had. */
static inline int cluster_up(const char *prefix) {
    if (geteuid() == 0 && cluster(prefix, "up 2") == 0) return 1;
    printf("no network namespaces here: %s\n", geteuid() ? "not root" : cluster_output);
    if (geteuid() == 0) cluster(prefix, "down");
    return 0;
}

/* The subcommand that starts ranks with the MPI library this program is built with. */
static inline const char *cluster_mpirun(void) {
    return strstr(comm_library(), "MPICH") ? "mpirun-mpich" : "mpirun";
}

#endif
