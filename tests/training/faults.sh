#!/usr/bin/env bash
# What goes wrong around a run: bad inputs, a folder that cannot be written, a full disk, training that diverges, a rank
# that dies. Each ends with its exit code and one message that names the cause, and nothing half-written.
# LIMIT 400
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh

# ---- inputs
expect 66 "no shard is named .*nothing-\*.h5" no-shard 2 "data.target.shards=[$work/nothing-*.h5]"
expect 66 "nowhere.txt" no-list 2 "data.target.labelled=$work/nowhere.txt"
{ head -n 20 data/digits/labeled_target_images_pen_3.txt; echo "pen/3/99999.png 3"; } >"$work/unknown.txt"
expect 65 "pen/3/99999.png" unknown 2 "data.target.labelled=$work/unknown.txt"
cp data/digits/pen-000.h5 "$work/damaged-000.h5"
truncate -s 300000 "$work/damaged-000.h5"
expect 65 "damaged-000.h5" damaged-shard 2 "data.target.shards=[$work/damaged-000.h5]"

must_train good 2 cotrain.warmup.steps=2 cotrain.steps=2 distil.steps=1 || done_testing
expect 65 "models/swin.safetensors.* does not fit the network" unfit 2 "peers.convnext.weights=$work/good/models/swin.safetensors"
expect 66 "none.safetensors" no-weights 2 "peers.convnext.weights=$work/none.safetensors"
cp "$work/good/models/convnext.safetensors" "$work/nan.safetensors"
size=$(stat -c %s "$work/nan.safetensors")
printf '\377\377\377\377' | dd of="$work/nan.safetensors" bs=1 seek=$((size - 400)) conv=notrunc status=none
expect 65 "nan.safetensors.* holds NaN or infinity" nan 2 "peers.convnext.weights=$work/nan.safetensors"
for dir in unfit nan unknown; do
    [ -e "$work/$dir/models" ] && [ -n "$(ls "$work/$dir/models")" ] && fail "run $dir left models"
done

# ---- training that diverges
expect 1 "(convnext|swin): [0-9]+ steps in a row had gradients with NaN or Inf" diverged 2 cotrain.warmup.lr=1e6 \
    cotrain.warmup.steps=20 cotrain.max_skipped=4 cotrain.optimizer.clip=0 log.level=error
expect 1 "student: [0-9]+ steps in a row had gradients with NaN or Inf" diverged-student 2 distil.optimizer.lr=1e6 \
    cotrain.warmup.steps=2 cotrain.steps=2 distil.steps=20 distil.max_skipped=4 distil.optimizer.clip=0 log.level=error

# ---- a rank that dies: the job ends soon, with a cause
"$launch" -np 3 "$program" "${short[@]}" "run=$work/death" comm.deadline_s=5 cotrain.steps=4000 >"$work/death.log" 2>&1 </dev/null &
job=$!
until [ "$(records death)" -ge 15 ] || ! kill -0 $job 2>/dev/null; do sleep 0.02; done
victim=$(pgrep -f "^$program .*run=$work/death" | tail -n 1) # a rank: MPICH has a process of its own in between
killed_at=$SECONDS
kill -KILL "$victim"
wait $job
status=$?
[ $((SECONDS - killed_at)) -le 9 ] || fail "a job with a dead rank took $((SECONDS - killed_at)) s to end"
[ $status = 0 ] || [ $status = 75 ] && fail "a job with a dead rank ended with status $status"
# MPICH ends all others at once and says so itself
grep -qE "rank [0-9].*(killed|signal 9|no answer|deadline|waited|silent)|EXIT STRING: Killed" "$work/death.log" ||
    { fail "no cause is given for a dead rank:"; tail -n 20 "$work/death.log"; }

# ---- folders and disks
mkdir "$work/not-writable"
touch "$work/a-file"
expect 73 "a-file" not-a-folder 2 "run=$work/a-file/run"

if ! unshare --mount true 2>/dev/null; then
    [ "$failures" = 0 ] || done_testing
    echo "no right to mount: read-only folders and full disks are not tested"
    exit 77
fi
mounted() { # OPTIONS FOLDER command...: the command with a tmpfs on FOLDER, in a mount namespace of its own
    local options=$1 folder=$2
    shift 2
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount bash -c 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && "$@"' - "$options" "$folder" "$@"
}
disk() { # STATUS TEXT COUNT DIR OPTIONS FOLDER key=value...: as expect, with COUNT lines or more
    local status=$1 text=$2 count=$3 dir=$4 options=$5 folder=$6 got
    shift 6
    mkdir -p "$work/$folder"
    # shellcheck disable=SC2016 # for the inner shell
    mounted "$options" "$work/$folder" bash -c '
        log=$1; keep=$2; shift 2; "$@" >"$log" 2>&1 </dev/null; status=$?; ls "$keep" >>"$log.left"; exit $status' - \
        "$work/$dir.log" "$work/$folder" "$launch" -np 2 "$program" "${short[@]}" "run=$work/$dir" "$@"
    got=$?
    [ "$got" = "$status" ] || { fail "run $dir: status $got, not $status:"; tail -n 15 "$work/$dir.log"; }
    got=$(grep -cE -- "$text" "$work/$dir.log")
    [ "$got" -ge "$count" ] || { fail "run $dir: $got lines say '$text':"; tail -n 15 "$work/$dir.log"; }
    grep -qE '\.(new|tmp|part)' "$work/$dir.log.left" && fail "run $dir left half a file: $(cat "$work/$dir.log.left")"
}
disk 73 "not-writable" 1 read-only size=1m,ro not-writable "run=$work/not-writable/run"
disk 74 "No space left" 1 full size=12k full/
# Checkpoints: 7 MB for convnext and swin together; the first fits, the others do not.
disk 0 "no checkpoint at step 6, the one before it stays: .*No space" 1 full-continue size=12m full-continue/checkpoints \
    checkpoint.every=3 checkpoint.keep=1 checkpoint.on_full=continue
[ "$(grep -cE "cotrain-00000003-(convnext|swin).h5" "$work/full-continue.log.left")" = 2 ] ||
    fail "the checkpoint before the disk was full is gone: $(cat "$work/full-continue.log.left")"
disk 74 "No space left" 1 full-stop size=12m full-stop/checkpoints checkpoint.every=3 checkpoint.keep=1 checkpoint.on_full=stop
done_testing
