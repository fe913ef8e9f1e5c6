#!/usr/bin/env bash
# A run that is stopped, killed or damaged in any stage and started again ends in the same bits as the undisturbed one at
# the same number of ranks, and at another number in the same losses within rounding.
# LIMIT 600
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh

often=(checkpoint.every=3 checkpoint.keep=3)
np=2

# The moment of a stop is given by the metrics: the signal comes once they hold N records.
reached() { # DIR, RECORDS or "features"
    if [ "$2" = features ]; then [ -n "$(ls "$work/$1/features" 2>/dev/null)" ]; else [ "$(records "$1")" -ge "$2" ]; fi
}

# interrupt DIR RECORDS SIGNAL key=value...: start, send SIGNAL to mpirun at that moment (RECORDS features: once the first
# features are being written); the status is in $status.
interrupt() {
    local dir=$1 wanted=$2 signal=$3 pid
    shift 3
    "$launch" -np $np "$program" "${short[@]}" "run=$work/$dir" "$@" >"$work/$dir.log" 2>&1 </dev/null &
    pid=$!
    until reached "$dir" "$wanted" || ! kill -0 $pid; do sleep 0.01; done
    kill -"$signal" $pid
    wait $pid
    status=$?
} 2>/dev/null # the shell's own words on a killed job

# stop_and_go DIR RECORDS REFERENCE STAGE key=value...
stop_and_go() {
    local dir=$1 at=$2 reference=$3 stage=$4
    shift 4
    interrupt "$dir" "$at" USR1 "$@"
    # MPICH 4.0's mpirun returns 0 now and then where it was signalled, though every rank ended with 75.
    if [ $status = 0 ] && [ "${MPIRUN:-mpirun}" = mpirun.mpich ] && grep -q "; run again to go on" "$work/$dir.log"; then
        status=75
    fi
    [ $status = 75 ] || { fail "run $dir: status $status after SIGUSR1, not 75:"; tail -n 5 "$work/$dir.log"; }
    grep -q "stopped .*$stage" "$work/$dir.log" || fail "run $dir was not stopped in $stage: $(tail -n 1 "$work/$dir.log")"
    must_train "$dir" $np "$@" && same_run "$reference" "$dir"
}

must_train whole $np "${often[@]}" || done_testing
stop_and_go warmup 3 whole cotrain log.level=info
stop_and_go cotrain 12 whole cotrain log.level=info
stop_and_go distil 25 whole distil log.level=info

# Without a chance to write anything: back to the last checkpoint.
interrupt killed 14 KILL "${often[@]}"
sleep 2 # mpirun's ranks end within two seconds of it
must_train killed $np "${often[@]}" && same_run whole killed

# The newest checkpoint of one peer is damaged.
interrupt damaged 16 USR1 "${often[@]}"
newest=$(find "$work/damaged/checkpoints" -name "cotrain-*-swin.h5" | sort | tail -n 1)
size=$(stat -c %s "$newest")
printf 'damage' | dd of="$newest" bs=1 seek=$((size / 2)) conv=notrunc status=none
cp -r "$work/damaged" "$work/truncated"
expect 0 "checkpoint of step .* cannot be used.*swin" damaged $np "${often[@]}"
same_run whole damaged
truncate -s $((size / 3)) "$work/truncated/checkpoints/${newest##*/}"
expect 0 "checkpoint of step .* cannot be used.*swin" truncated $np "${often[@]}"
same_run whole truncated

# Another number of ranks from the middle on: the same losses.
interrupt other 13 USR1
must_train other 3 && same_losses whole other

# Another configuration is refused, and nothing is touched.
interrupt changed 5 USR1
before=$(cat "$work"/changed/config.yaml "$work"/changed/metrics.jsonl | cksum)
expect 78 "another configuration" changed $np cotrain.tau_source=0.3
[ "$(cat "$work"/changed/config.yaml "$work"/changed/metrics.jsonl | cksum)" = "$before" ] || fail "a refused start changed the run"

# The frozen stages.
frozen+=(heads.outer=60 heads.inner=20)
must_train frozen $np "${frozen[@]}"
stop_and_go features features frozen features "${frozen[@]}" log.level=info features.batch=24
stop_and_go heads 3 frozen heads "${frozen[@]}" log.level=info
done_testing
