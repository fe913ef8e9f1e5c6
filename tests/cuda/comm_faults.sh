#!/usr/bin/env bash
# Faults planted between GPUs are caught: a missing wait between the compute and the communication stream, two
# operations in another order on one rank, a wrong count; and a rank that stops, stalls or is late, NCCL that reports an
# error or never returns, each ends the whole run within its deadline with the right code and words.
# LIMIT 400
# shellcheck disable=SC2317 # functions that "beside" calls
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
. tests/support/emulated-run.sh

# Cases wait for deadlines more than they compute: three run side by side, and what one has to complain about goes to a
# file of its own.
n_cases=0
deadline_s=6 patience_s=30
[ -n "${SAN:-}" ] && deadline_s=25 patience_s=100 # everything is slower
beside() { # what to run...
    while [ "$(jobs -rp | wc -l)" -ge 3 ]; do wait -n; done
    n_cases=$((n_cases + 1))
    case=$n_cases
    "$@" >"$work/case$case.txt" 2>&1 &
}

# A rank that has failed may leave the others waiting for it: the run is then ended.
wrong() { # WHAT WORDS TEST VARIABLE=VALUE...: the test must fail, and say so
    local what=$1 words=$2 test=$3 log=$work/wrong$case.log
    shift 3
    if timeout "$patience_s" env "$@" "$launch" -np 2 "$OBJ/tests/cuda/$test" >"$log" 2>&1; then
        fail "$what: not noticed"
    elif ! grep -qE "$words" "$log"; then
        fail "$what: noticed without '$words':"
        tail -n 10 "$log"
    fi
}

# A run of two ranks with a fault of rank 1 in the first steps: ends in time, with this code, and says this.
ends() { # CODE WORDS FAULT
    local begin=$SECONDS got dir=fault$case
    NCCL_MPI_FAULT=$3 train "$dir" 2 "${small[@]}" device=cuda-emulated comm.deadline_s="$deadline_s" comm.startup_deadline_s=60 \
        cotrain.warmup.steps=1 cotrain.evaluate_every=1000 distil.steps=0
    got=$?
    if [ "$got" != "$1" ] || ! grep -qE -- "$2" "$work/$dir.log"; then
        fail "fault $3: status $got, expected $1 and '$2':"
        tail -n 10 "$work/$dir.log"
    fi
    [ $((SECONDS - begin)) -le $((60 + 6 * deadline_s)) ] || fail "fault $3: took $((SECONDS - begin)) s"
}

beside ends 75 'of group .*: stuck inside NCCL for [0-9]+ s, this process ends' hang:-1:2
beside ends 75 'no answer from rank 1' hang:1:2
beside ends 75 "not done after $deadline_s s: .*no answer from rank 1" stop:1:2
beside ends 75 "rank . on .*(all_reduce|transfer|broadcast) of group .* not done after $deadline_s s" stall:1:2
beside ends 75 "not done after $deadline_s s" delay:1:2:60000
beside ends 70 'NCCL: remote process exited' error:1:2
beside wrong "missing wait" 'element|label|Failure' comm_exchange COC_NOWAIT=1 COC_SEED=1
beside wrong "swapped order" 'the ranks differ' comm_collectives NCCL_MPI_FAULT=swap:1:9 COC_SEED=1
beside wrong "wrong count" 'the ranks differ' comm_collectives NCCL_MPI_FAULT=count:1:9 COC_SEED=1
wait
for i in $(seq $n_cases); do
    [ ! -s "$work/case$i.txt" ] || fail "$(cat "$work/case$i.txt")"
done
done_testing
