#!/usr/bin/env bash
# doctor finds nothing where nothing is wrong, and each planted fault: an interface that is not there, too many threads,
# a data folder that is missing, ranks that differ in locale, time zone and instruction set. Exit codes 0, 78, 64.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
program=$PWD/build/marrs_dist
mpirun=${MPIRUN:-mpirun}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
unset LC_ALL LANG TZ
bad=0

expect() { # status, pattern of the output, command...
    local status want=$1 pattern=$2
    shift 2
    timeout 60 "$@" >"$out" 2>&1 </dev/null
    status=$?
    if [ $status -ne "$want" ] || ! grep -qE -- "$pattern" "$out"; then
        echo "$*: status $status, wanted $want and '$pattern':"
        cat "$out"
        bad=1
    fi
}

also() { grep -qE -- "$1" "$out" || { echo "no '$1' in:"; cat "$out"; bad=1; }; }

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
expect 64 'unknown option --dat' "$program" doctor --dat x
expect 64 'srun --mpi=pmix' env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 "$program" doctor

# Ranks that differ, each by its own environment.
expect 0 'locale: rank 0 on .* has C, rank 1 on .* has de_DE.UTF-8' "$mpirun" -np 1 env LC_ALL=C "$program" doctor \
    : -np 1 env LC_ALL=de_DE.UTF-8 TZ=XST-9 MARRS_ISA=base "$program" doctor
also 'time zone: rank 0 on .*, rank 1 on .* has XST \+0900'
also 'instruction set: rank 0 on .*, rank 1 on .* uses base'
cp "$program" "$out.copy" && printf x >>"$out.copy" # another build
expect 78 'rank 1 on .* runs another build' "$mpirun" -np 1 "$program" doctor : -np 1 "$out.copy" doctor
rm -f "$out.copy"
exit $bad
