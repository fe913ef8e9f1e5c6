#!/usr/bin/env bash
# bench ops and bench model print one JSON object a line with finite, positive rates; wrong usage exits 64.
# LIMIT 120
set -eu
program=build/marrs_dist
export OMP_NUM_THREADS=1

"$program" bench ops --only batchnorm --precision fp32 --runs 1 --json >build/bench-ops.txt
[ "$(grep -cE '^\{"op": "batchnorm[^"]*", .*"time_ms": [0-9.]+, .*"fraction": [0-9.]+' build/bench-ops.txt)" = 4 ]

for mode in "" --train; do
    "$program" bench model --model convnext_atto --image 32 --batch 1 --runs 1 --json $mode >build/bench-model.txt
    grep -qE '"images_per_s": [0-9]*[1-9][0-9.]*, "gflop_per_s": [0-9.]+, "peak_mib": [1-9]' build/bench-model.txt
done
"$program" bench model --model convnext_atto --image 32 --batch 1 --runs 1 --train >build/bench-model.txt
grep -qE '^  mlp +backward +12 calls' build/bench-model.txt
grep -qE '^backward pokes communication [1-9][0-9]* times: each 0\.[0-9]+ ms on average, the longest gap [0-9.]+ ms, after [a-z]' \
    build/bench-model.txt

for wrong in "bench" "bench nothing" "bench model" "bench model --batch 0 --model convnext_atto" "bench ops --precision fp8"; do
    status=0
    # shellcheck disable=SC2086
    "$program" $wrong 2>build/bench-error.txt || status=$?
    [ $status = 64 ] || { echo "$wrong: exit $status"; exit 1; }
    [ -s build/bench-error.txt ]
done
status=0
"$program" bench model --model convnext_atom 2>build/bench-error.txt || status=$?
[ $status = 78 ] && grep -q convnext_atto build/bench-error.txt
rm -f build/bench-*.txt
