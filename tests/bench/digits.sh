#!/usr/bin/env bash
# Co-training on the digits beside PyTorch: images a second of processor time, one thread each, so that it means something
# on a busy machine too. PYTHON names an interpreter with torch and timm.
#   PYTHON=python3 tests/bench/digits.sh [STEPS]
set -eu
cd "$(dirname "$0")/../.." || exit 2
steps=${1:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
seconds() { # STEPS: processor seconds of a run with so many co-training steps
    rm -rf "$work/run"
    TIMEFORMAT='%U %S'
    { time build/marrs_dist run="$work/run" "stages=[cotrain]" cotrain.warmup.steps=1 cotrain.steps="$1" \
        cotrain.evaluate_every=100000 log.report=false log.every_s=1000 >"$work/log" 2>&1; } 2>&1 | awk '{ print $1 + $2 }'
}
few=$(seconds 5)
many=$(seconds $((steps + 5)))
awk -v few="$few" -v many="$many" -v steps="$steps" 'BEGIN {
    printf "marrs_dist, 1 thread: %.0f images a second of processor time, views and loading included\n", 106 * steps / (many - few) }'
"${PYTHON:-python3}" tests/bench/digits.py --threads 1 --steps "$steps"
