#!/usr/bin/env bash
# bench comm at 1 and 3 ranks: one JSON object a row, all results right, all four operations, also in the
# memory of the GPU's twin (where it was built); wrong usage exits 64.
# LIMIT 60
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
program=build/marrs_dist
out=$(mktemp)
trap 'rm -f "$out"' EXIT
fail() {
    echo "$*"
    cat "$out"
    exit 1
}
rows() { # ranks, options...: three sizes of each operation
    local np=$1
    shift
    ${MPIRUN:-mpirun} -np "$np" $program bench comm --min 64 --max 4096 --json "$@" >"$out" 2>&1 || fail "np=$np $*: exit $?"
    for op in all_reduce reduce_scatter all_gather exchange; do
        row="^\{\"op\": \"$op\", \"ranks\": $np, \"size\": (64|512|4096), .*\"time_us\": [0-9.]+, .*\"wrong\": 0\}"
        [ "$(grep -cE "$row" "$out")" = 3 ] || fail "np=$np $*: rows of $op"
    done
    grep -qE '"op": "exposed_exchange", "images": 64, .*"median_ms": [0-9.]+' "$out" || fail "np=$np $*: no exposed wait"
}
rows 1
rows 3
[ -n "${MARRS_CUDA_TWIN:-}" ] && rows 1 --device cuda-emulated && rows 3 --device cuda-emulated
$program bench comm --max 8 --op exchange >"$out" 2>&1 || fail "table: exit $?"
grep -qE '^ +8 +1 +label +none +[0-9.]+ +[0-9.]+ +[0-9.]+ +0$' "$out" || fail "no table"
for wrong in "--min 0" "--min x" "--max" "--min 64 --max 8" "--op nothing" "--size 8" "--device gpu"; do
    # shellcheck disable=SC2086
    $program bench comm $wrong >"$out" 2>&1
    status=$?
    if [ $status != 64 ] || ! grep -qE 'bench comm: |--device is' "$out"; then fail "$wrong: exit $status"; fi
done
