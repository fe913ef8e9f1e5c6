#!/usr/bin/env bash
# Faults planted between GPUs are caught: a missing wait between the compute and the communication stream, two
# operations in another order on one rank, a wrong count; and a rank that stops, stalls or is late, NCCL that reports an
# error or never returns, each ends the whole run within its deadline with the right code and words.
# LIMIT 400
set -u
cd "$(dirname "$0")/../.." || exit 2
if [ -z "${MARRS_CUDA_TWIN:-}" ]; then
    echo "the GPU plugin's twin was not built"
    exit 77
fi
. tests/support/short-run.sh
. tests/support/emulated-run.sh

wrong() { # WHAT WORDS TEST VARIABLE=VALUE...: the test must fail, and say so
    local what=$1 words=$2 test=$3
    shift 3
    if timeout 100 env "$@" "$launch" -np 2 "$OBJ/tests/cuda/$test" >"$work/wrong.log" 2>&1; then
        fail "$what: not noticed"
    elif ! grep -qE "$words" "$work/wrong.log"; then
        fail "$what: noticed without '$words':"
        tail -n 10 "$work/wrong.log"
    fi
}

wrong "missing wait" 'element|label|Failure' comm_exchange COC_NOWAIT=1 COC_SEED=1
wrong "swapped order" 'the ranks differ' comm_collectives NCCL_MPI_FAULT=swap:1:9 COC_SEED=1
wrong "wrong count" 'the ranks differ' comm_collectives NCCL_MPI_FAULT=count:1:9 COC_SEED=1

# A run of two ranks with a fault of rank 1 in the first steps: ends in time, with this code, and says this.
ends() { # CODE WORDS FAULT
    local begin=$SECONDS got
    NCCL_MPI_FAULT=$3 train "fault" 2 "${small[@]}" device=cuda-emulated comm.deadline_s=4 comm.startup_deadline_s=60
    got=$?
    if [ $got != "$1" ] || ! grep -qE -- "$2" "$work/fault.log"; then
        fail "fault $3: status $got, expected $1 and '$2':"
        tail -n 10 "$work/fault.log"
    fi
    [ $((SECONDS - begin)) -le 90 ] || fail "fault $3: took $((SECONDS - begin)) s"
    rm -rf "$work/fault"
}
ends 75 'not done after 4 s: .*no answer from rank 1' stop:1:6
ends 75 'rank . on .*(all_reduce|transfer|broadcast) of group .* not done after 4 s' stall:1:6
ends 75 'not done after 4 s' delay:1:6:30000
ends 70 'NCCL: remote process exited' error:1:6
ends 75 'no answer from rank 1' hang:1:6
ends 75 'of group .*: stuck inside NCCL for [0-9]+ s, this process ends' hang:-1:6
done_testing
