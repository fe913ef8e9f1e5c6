#!/usr/bin/env bash
# plan --calibrate on an (emulated) GPU: the rates name the device, count no cores, and plan reads them again for GPUs.
# LIMIT 240
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
. tests/support/emulated-run.sh
tiny=(configs/digits.yaml "${small[@]}" "stages=[cotrain]" cotrain.batch.source=4 cotrain.batch.labelled=4 cotrain.batch.unlabelled=4)

has() { # words FILE
    grep -qE -- "$1" "$2" || { fail "$2 has no '$1':"; tail -n 15 "$work/out"; }
}
timeout 200 "$program" plan "${tiny[@]}" device=cuda-emulated --calibrate "$work/rates" --seconds 0.01 >"$work/out" 2>&1 || fail "calibrate: exit $?"
has '^device: "CPU stand-in"' "$work/rates"
has '^about: "CPU stand-in, compute capability' "$work/rates"
has '^kind: "measured"' "$work/rates"
has 'name: "convnext"' "$work/rates"
has 'name: "swin"' "$work/rates"
grep -q '^cores: [1-9]' "$work/rates" && fail "a GPU has no cores to share"
timeout 60 "$program" plan "${tiny[@]}" --rates "$work/rates" --nodes 1 --gpus-per-node 2 >"$work/out" 2>&1 || fail "plan: exit $?"
has '^A step of co-training: ' "$work/out"
done_testing
