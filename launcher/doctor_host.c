/* doctor: what this rank sees of its host. */
#include "launcher/doctor.h"
#include "launcher/topology.h"

#include "common/file.h"
#include "common/simd.h"

#include <arpa/inet.h>
#include <glob.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

/* First line of a small file, without its newline; "" where it cannot be read. */
static const char *first_line(const char *path, char *text, size_t n_bytes) {
    FILE *file = fopen(path, "r");
    text[0] = '\0';
    if (file) {
        if (!fgets(text, (int)n_bytes, file)) text[0] = '\0';
        fclose(file);
    }
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* The value behind "key" and a colon in /proc's tables. */
static void proc_value(const char *path, const char *key, char *out, size_t n_bytes) {
    char line[512];
    FILE *file = fopen(path, "r");
    out[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0) continue;
        snprintf(out, n_bytes, "%s", colon + 1 + strspn(colon + 1, " \t"));
        out[strcspn(out, "\n")] = '\0';
        break;
    }
    if (file) fclose(file);
}

static int64_t memory_kib(const char *key) {
    char text[64];
    proc_value("/proc/meminfo", key, text, sizeof text);
    return strtoll(text, NULL, 10) * 1024;
}

/* cgroup v2: "max 100000" or "150000 100000". cgroup v1: two files. */
static double cpu_quota(void) {
    char text[64];
    double quota = 0, period = 0;
    if (sscanf(first_line("/sys/fs/cgroup/cpu.max", text, sizeof text), "%lf %lf", &quota, &period) == 2)
        return period > 0 ? quota / period : 0;
    quota = atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, sizeof text));
    period = atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", text, sizeof text));
    return quota > 0 && period > 0 ? quota / period : 0;
}

static uint64_t program_hash(void) {
    char *bytes;
    size_t n_bytes;
    if (file_read_all("/proc/self/exe", (size_t)1 << 30, &bytes, &n_bytes) != STATUS_OK) return 0;
    const uint64_t hash = XXH3_64bits(bytes, n_bytes);
    free(bytes);
    return hash;
}

/* What a program that asks for the user's language gets; numbers in files must not depend on it. */
static void find_locale(struct doctor_rank *own) {
    const char *all = getenv("LC_ALL"), *numeric = getenv("LC_NUMERIC"), *lang = getenv("LANG");
    snprintf(own->locale, sizeof own->locale, "%s",
             all && *all           ? all
             : numeric && *numeric ? numeric
             : lang && *lang       ? lang
                                   : "C");
    const time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local)) strftime(own->timezone, sizeof own->timezone, "%Z %z", &local);
}

static void find_interfaces(struct doctor_rank *own) {
    struct ifaddrs *all = NULL;
    size_t used = 0;
    if (getifaddrs(&all) != 0) return;
    for (const struct ifaddrs *i = all; i && used < sizeof own->interfaces; i = i->ifa_next) {
        char address[64] = "", path[128], speed[32], rate[48] = "";
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET) continue;
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)i->ifa_addr;
        inet_ntop(AF_INET, &in->sin_addr, address, sizeof address);
        snprintf(path, sizeof path, "/sys/class/net/%.60s/speed", i->ifa_name);
        if (atoi(first_line(path, speed, sizeof speed)) > 0)
            snprintf(rate, sizeof rate, " %.16s Mbit/s", speed);
        used += (size_t)snprintf(own->interfaces + used, sizeof own->interfaces - used, "%s%s %s%s%s",
                                 used ? "; " : "", i->ifa_name, address, rate,
                                 i->ifa_flags & IFF_UP ? "" : " (down)");
    }
    freeifaddrs(all);
    glob_t found;
    if (glob("/sys/class/infiniband/*", 0, NULL, &found) == 0) {
        own->has_infiniband = found.gl_pathc > 0;
        globfree(&found);
    }
}

static void find_limits(struct doctor_rank *own) {
    struct statvfs shm;
    struct rlimit locked;
    if (statvfs("/dev/shm", &shm) == 0) {
        own->shm_bytes = (int64_t)shm.f_blocks * (int64_t)shm.f_frsize;
        own->shm_free_bytes = (int64_t)shm.f_bavail * (int64_t)shm.f_frsize;
    }
    if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0)
        own->locked_bytes = locked.rlim_cur == RLIM_INFINITY ? INT64_MAX : (int64_t)locked.rlim_cur;
    own->memory_bytes = memory_kib("MemTotal");
    own->memory_available_bytes = memory_kib("MemAvailable");
    own->cpu_quota = cpu_quota();
}

status_t doctor_look_host(struct doctor *d) {
    struct doctor_rank *own = &d->own;
    struct topology topology;
    TRY(topology_find(&topology));
    snprintf(own->host, sizeof own->host, "%.63s", d->context->host);
    own->local_rank = d->context->local_rank;
    own->n_local_ranks = d->context->n_local_ranks;
    own->node = comm_node(d->world, comm_rank(d->world));
    own->n_cores = topology.n_cores;
    own->n_host_cores = topology.n_host_cores;
    own->n_threads = topology_threads(&topology, own->n_local_ranks);
    memcpy(own->cores, topology.cores, sizeof own->cores);
    memcpy(own->numa, topology.numa, sizeof own->numa);
    proc_value("/proc/cpuinfo", "model name", own->processor, sizeof own->processor);
    snprintf(own->isa, sizeof own->isa, "%s", simd_isa_name(simd_isa()));
    own->program_hash = program_hash();
    own->n_libraries =
        version_libraries(comm_library_built(), comm_library(), comm_library_symbol(), own->libraries);
    own->n_visible_gpus = topology_n_gpus();
    find_locale(own);
    find_limits(own);
    if (own->local_rank == 0) find_interfaces(own);
    return STATUS_OK;
}
