/* What `marrs_dist doctor` looks at: every rank fills in a record about itself and its host (doctor_look_*),
 * the records are gathered on rank 0, and rank 0 alone judges them (doctor_judge_*) and prints findings. */
#ifndef LAUNCHER_DOCTOR_H
#define LAUNCHER_DOCTOR_H

#include "launcher/commands.h"
#include "launcher/device.h"
#include "launcher/version.h"

#include "comm/comm.h"

#include <stdbool.h>
#include <stdint.h>

enum doctor_level { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_ERROR };

struct doctor_gpu {
    char driver[32]; /* "" where there is no driver library */
    char cuda[16];   /* the newest CUDA that the driver serves: "13.0" */
    int n_driver;    /* GPUs the driver knows, all of the host */
    int n_usable;    /* GPUs this process can open: CUDA_VISIBLE_DEVICES, containers */
    char names[8][64];
    int64_t memory_bytes[8];
    char problem[128]; /* what libcuda or NVML refused; "" */
};

/* What the program's own plugin for GPUs says. */
struct doctor_plugin {
    int n_devices;        /* 0: none can be had */
    char versions[160];   /* "CUDA 13.0, driver for CUDA 13.0, cuBLASLt ..., NCCL ..." */
    char devices[8][112]; /* name, compute capability, memory */
    char reason[512];     /* why not; "" */
};

struct doctor_data {
    bool asked, readable, lock_shared, lock_exclusive, writable, out_of_cache;
    char problem[160]; /* "" */
    char type[16];     /* of the file system: "ext4", "nfs", "lustre"; "?" */
    char file[96];     /* whose speed was taken */
    double read_mb_s;
    int64_t n_bytes_read;
};

/* Plain data, sent as it is: all ranks run one build. */
struct doctor_rank {
    char host[64];
    int local_rank, n_local_ranks, node;
    int n_cores, n_host_cores, n_threads;
    char cores[48], numa[24];
    char processor[64], isa[16];
    uint64_t program_hash; /* of the program's file; 0: not readable */
    int n_libraries;
    struct version_library libraries[VERSION_MAX_LIBRARIES];
    char locale[64], timezone[32];
    double clock_s;                    /* of the calendar, right after a barrier */
    double cpu_quota;                  /* cores' worth of time that the container may use; 0: no limit */
    int64_t shm_bytes, shm_free_bytes; /* /dev/shm; 0: there is none */
    int64_t memory_bytes, memory_available_bytes;
    int64_t locked_bytes;        /* memory a process may lock; INT64_MAX: unlimited */
    int n_visible_gpus;          /* by CUDA_VISIBLE_DEVICES and /dev/nvidia* */
    struct doctor_gpu gpu;       /* local rank 0 only */
    struct doctor_plugin plugin; /* local rank 0 only */
    char interfaces[512];        /* "eth0 10.0.0.1 25000 Mbit/s; ib0 ..."; local rank 0 only */
    bool has_infiniband;
    struct doctor_data data; /* local rank 0 only */
};

struct doctor {
    struct launch_context *context;
    struct comm *world;        /* host memory; one rank's own where MPI was not started */
    const char *data;          /* folder, or NULL */
    enum device_choice device; /* --device; default: auto */
    bool all_settings;         /* --settings: every variable, not only those that matter often */
    struct doctor_rank own;
    struct doctor_rank *ranks; /* [n_ranks] on rank 0; NULL elsewhere */
    int n_ranks, n_hosts;
    int n_findings[3];
    int n_without_gpu; /* hosts, where --device asks for GPUs */
};

/* Rank 0: one finding; `remedy` is NULL or what to do. Nothing on other ranks. */
void doctor_topic(const struct doctor *d, const char *topic);
void doctor_find(struct doctor *d, enum doctor_level level, const char *remedy, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void doctor_note(const struct doctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Not collective. What cannot be found out stays zero. */
status_t doctor_look_host(struct doctor *d);
void doctor_look_gpu(struct doctor_gpu *out); /* libcuda and NVML, opened where they are there */
void doctor_look_plugin(enum device_choice device, struct doctor_plugin *out);
void doctor_look_data(const char *folder, struct doctor_data *out);

/* Rank 0, from d->ranks. */
void doctor_judge_start(struct doctor *d); /* MPI, PMI, libraries, the same on all ranks */
void doctor_judge_hosts(struct doctor *d); /* cores, threads, memory, /dev/shm, clocks */
void doctor_judge_gpus(struct doctor *d);  /* the driver, and the plugin */
void doctor_judge_plugins(struct doctor *d, bool any_driver);
void doctor_judge_network(struct doctor *d);  /* interfaces */
void doctor_judge_settings(struct doctor *d); /* environment */
void doctor_judge_data(struct doctor *d);

/* Collective over d->world: all-reduce and exchange, timed; rank 0 prints. */
status_t doctor_communicate(struct doctor *d);

#endif
