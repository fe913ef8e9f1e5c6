#include "launcher/topology.h"

#include <hwloc.h>
#include <glob.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* OpenBLAS exports this; its header drags in a cblas.h that may be another library's. */
void openblas_set_num_threads(int n_threads);

static void list_cores(hwloc_topology_t topology, hwloc_const_cpuset_t allowed, struct topology *out) {
    hwloc_bitmap_t cores = hwloc_bitmap_alloc(), nodes = hwloc_bitmap_alloc();
    for (hwloc_obj_t core = NULL;
         cores && (core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core));) {
        out->n_host_cores++;
        if (!hwloc_bitmap_intersects(core->cpuset, allowed)) continue;
        out->n_cores++;
        hwloc_bitmap_set(cores, core->logical_index);
    }
    if (nodes) hwloc_cpuset_to_nodeset(topology, allowed, nodes);
    if (cores) hwloc_bitmap_list_snprintf(out->cores, sizeof out->cores, cores);
    if (nodes) hwloc_bitmap_list_snprintf(out->numa, sizeof out->numa, nodes);
    hwloc_bitmap_free(cores);
    hwloc_bitmap_free(nodes);
}

status_t topology_find(struct topology *out) {
    *out = (struct topology){.n_cores = 0};
    hwloc_topology_t topology;
    CHECK(hwloc_topology_init(&topology) == 0, STATUS_NO_MEMORY, "out of memory for the topology");
    status_t status = STATUS_OK;
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
    CHECK_TO(done, allowed, STATUS_NO_MEMORY, "out of memory for the topology");
    CHECK_TO(done, hwloc_topology_load(topology) == 0, STATUS_INTERNAL,
             "hwloc cannot read this host's topology");
    if (hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS) != 0 || hwloc_bitmap_iszero(allowed))
        hwloc_bitmap_copy(allowed, hwloc_topology_get_topology_cpuset(topology));
    list_cores(topology, allowed, out);
    if (out->n_cores == 0) out->n_cores = out->n_host_cores = 1; /* a host that shows no cores */
done:
    hwloc_bitmap_free(allowed);
    hwloc_topology_destroy(topology);
    return status;
}

int topology_threads(const struct topology *topology, int n_local_ranks) {
    const char *told = getenv("OMP_NUM_THREADS");
    if (told && atoi(told) > 0) return atoi(told);
    const int fair = topology->n_host_cores / (n_local_ranks > 0 ? n_local_ranks : 1);
    const int n =
        fair < topology->n_cores ? fair : topology->n_cores; /* bound ranks have their own few cores */
    return n > 0 ? n : 1;
}

void topology_set_threads(int n_threads) {
    omp_set_num_threads(n_threads);
    openblas_set_num_threads(1);
}

int topology_n_gpus(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible) {
        if (visible[0] == '\0' || strcmp(visible, "-1") == 0 || strcmp(visible, "NoDevFiles") == 0) return 0;
        int n = 1;
        for (const char *p = visible; *p; p++) n += *p == ',';
        return n;
    }
    glob_t found;
    const int n = glob("/dev/nvidia[0-9]*", 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
    if (n > 0) globfree(&found);
    return n;
}
