#!/usr/bin/env bash
# Killed at random moments (KILLS, default 20: one rank or mpirun with SIGKILL, now and then SIGUSR1) and started again
# each time, a run ends in the same bits as the undisturbed one. SEED makes the moments the same again.
# LIMIT 1800
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
RANDOM=${SEED:-1}
shopt -s lastpipe
args=(cotrain.warmup.steps=20 cotrain.steps=40 distil.steps=40 checkpoint.every=5 checkpoint.keep=2)
ranks=3
must_train whole $ranks "${args[@]}" || done_testing

kills=0
for ((round = 1; kills < ${KILLS:-20} && round < 200; round++)); do
    "$launch" -np $ranks "$program" "${short[@]}" "run=$work/killed" "${args[@]}" >"$work/killed.log" 2>&1 </dev/null &
    job=$!
    sleep "$(awk -v r="$RANDOM" 'BEGIN { printf "%.3f", 0.3 + 2.5 * r / 32768 }')"
    case $((RANDOM % 5)) in
    0) victim=$job signal=KILL ;;
    1) victim=$job signal=USR1 ;;
    *) victim=$(pgrep -P $job | awk -v r="$RANDOM" '{ pid[NR] = $1 } END { if (NR) print pid[1 + r % NR] }') signal=KILL ;;
    esac
    [ -n "$victim" ] && kill -$signal "$victim" && kills=$((kills + 1))
    wait $job
    status=$?
    while pgrep -f "run=$work/killed" >/dev/null; do sleep 0.05; done
    [ $status = 0 ] || continue
    same_run whole killed
    [ "$failures" = 0 ] || done_testing
    rm -rf "$work/killed"
done 2>/dev/null
must_train killed $ranks "${args[@]}" && same_run whole killed
echo "$kills kills in $((round - 1)) starts"
done_testing
