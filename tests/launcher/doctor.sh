#!/usr/bin/env bash
# doctor finds nothing where nothing is wrong, and each planted fault: an interface that is not there, too many threads,
# a data folder that is missing, ranks that differ in locale, time zone and instruction set. Exit codes 0, 78, 66, 64.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/expect.sh
. tests/support/expect.sh
unset LC_ALL LANG TZ

expect 0 ' 0 errors$' "$program" doctor --data data/digits
also '^  ok       .*data/digits .*: .*\.h5 read at [1-9][0-9]* MB/s'
also '^           HDF5 +[0-9.]+ +[0-9.]+ +/.*hdf5'
also 'started alone'
expect 0 'all-reduce of 2 ranks: 8 B in [0-9.]+ us, 16 MiB in [0-9.]+ ms \(busbw [0-9.]+ GB/s\)' "$mpirun" -np 2 "$program" doctor
also 'exchange of 64 pseudo-labels between two groups'
also 'the same program and libraries on all ranks'
also 'rank 1 on .*: cores [0-9]'
also ' 0 errors$'

expect 78 'NCCL_SOCKET_IFNAME=nosuch0: host .* has no interface nosuch0' env NCCL_SOCKET_IFNAME=nosuch0 "$program" doctor
also 'remedy: name an interface'
also ' 1 error$'
also 'doctor: 1 error found'
expect 0 'NCCL_SOCKET_IFNAME==lo is there' env NCCL_SOCKET_IFNAME==lo "$program" doctor
expect 78 'nowhere: No such file' "$program" doctor --data nowhere
expect 0 'warning  .*ranks? x 999 threads on' env OMP_NUM_THREADS=999 "$program" doctor
expect 0 'warning  NCCL_P2P_DISABLE=1' env NCCL_P2P_DISABLE=1 "$program" doctor
expect 0 'warning  NCCL_HOSTID=a: ' env NCCL_HOSTID=a "$program" doctor
expect 64 '--device is auto, cpu or cuda' "$program" doctor --device gpu
expect 64 'unknown option --dat' "$program" doctor --dat x
expect 64 'srun --mpi=pmix' env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 "$program" doctor

# Ranks that differ, each by its own environment.
expect 0 'locale: rank 0 on .* has C, rank 1 on .* has de_DE.UTF-8' "$mpirun" -np 1 env LC_ALL=C "$program" doctor \
    : -np 1 env LC_ALL=de_DE.UTF-8 TZ=XST-9 MARRS_ISA=base "$program" doctor
also 'time zone: rank 0 on .*, rank 1 on .* has XST \+0900'
also 'instruction set: rank 0 on .*, rank 1 on .* uses base'
cp "$program" "$work/copy" && printf x >>"$work/copy" # another build
expect 78 'rank 1 on .* runs another build' "$mpirun" -np 1 "$program" doctor : -np 1 "$work/copy" doctor

# GPUs, by stand-ins for the driver's two libraries: what they return comes from FAKE_NVML and FAKE_CUDA.
if command -v cc >/dev/null; then
    fake=$work/fake
    mkdir "$fake"
    cat >"$fake/nvml.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return atoi(getenv("FAKE_NVML")); }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *t, unsigned n) { return snprintf(t, n, "999.10") < 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { return *n = 2, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { return *d = (char *)0 + i + 1, 0; }
int nvmlDeviceGetName(void *d, char *t, unsigned n) { return snprintf(t, n, "Card %d", (int)(unsigned long)d) < 0; }
int nvmlDeviceGetMemoryInfo(void *d, struct memory *m) { return (void)d, m->total = 80ull << 30, 0; }
C
    cat >"$fake/cuda.c" <<'C'
#include <stdlib.h>
int cuInit(unsigned f) { return (void)f, atoi(getenv("FAKE_CUDA")); }
int cuDriverGetVersion(int *v) { return *v = 13010, 0; }
int cuDeviceGetCount(int *n) { return *n = 2, 0; }
C
    cc -shared -fPIC -o "$fake/libnvidia-ml.so.1" "$fake/nvml.c" && cc -shared -fPIC -o "$fake/libcuda.so.1" "$fake/cuda.c" || bad=1
    # shellcheck disable=SC2317 # called by bash -c
    with() { env LD_LIBRARY_PATH="$fake${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" FAKE_NVML="$1" FAKE_CUDA="$2" "$program" doctor; }
    unset CUDA_VISIBLE_DEVICES
    export -f with 2>/dev/null
    export fake program
    expect 0 'ok       .*: 2 GPUs usable, driver 999.10, CUDA up to 13.1' bash -c 'with 0 0'
    also 'GPU 1: Card 2, 80 GiB'
    expect 78 'error    .*: NVML does not start' bash -c 'with 9 0'
    expect 0 'warning  .*: driver 999.10 is there, but this process may use no GPU' bash -c 'with 0 100'
    expect 78 'error    .*: cuInit returns 999' bash -c 'with 0 999'
fi
if [ ! -e /dev/nvidia0 ] && ! /sbin/ldconfig -p | grep -q 'libcuda\.so\.1'; then
    expect 78 'error    .*: 2 GPUs by CUDA_VISIBLE_DEVICES .* but no driver library' env CUDA_VISIBLE_DEVICES=0,1 "$program" doctor
    unset CUDA_VISIBLE_DEVICES
    # The plugin says why: no driver where it is there, else how to get it.
    expect 0 'ok       .*: CPU only: (no NVIDIA driver|there is no libmarrs_cuda|GPU support cannot)' "$program" doctor
    expect 66 'warning  .*: no GPU can be had: ' "$program" doctor --device cuda
    also 'remedy: '
    also 'GPUs were asked for and 1 host can have none'
    expect 66 'no GPU can be had: there is no libmarrs_cuda|cannot be loaded: .*nowhere' env MARRS_CUDA_PLUGIN=/nowhere.so "$program" doctor --device cuda
fi
expect 0 'CPU only: asked for' "$program" doctor --device cpu
if [ -n "${MARRS_CUDA_TWIN:-}" ]; then
    expect 0 'ok       .*: GPU support works: CUDA [0-9.]+, driver for CUDA [0-9.]+, cuBLASLt [0-9.]+, NCCL [0-9.]+' \
        "$mpirun" -np 2 "$program" doctor --device cuda-emulated
    also 'device 0: .*, compute capability [0-9.]+, [0-9.]+ GiB'
fi
exit $bad
