#!/usr/bin/env bash
# bench scale starts each number of ranks itself and prints table, CSV and picture; with --weak the batch grows; a launcher
# that fails is named with its exit code; wrong usage exits 64 before anything is started.
# LIMIT 180
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/expect.sh
. tests/support/expect.sh
small=(configs/digits.yaml cotrain.batch.source=4 cotrain.batch.labelled=3 cotrain.batch.unlabelled=4)
"$program" bench scale "${small[@]}" --ranks 1,2 --steps 5 --weak --out "$work/w" --launcher "$mpirun -np {n}" \
    --csv "$work/table.csv" >"$work/out" 2>&1 || fail "exit $?"
[ "$(grep -cE '^ +[12] +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+% +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$' "$work/out")" = 2 ] || fail "no table"
grep -qE '^ +1 .* 1\.00 +100\.0% ' "$work/out" || fail "the first row is no reference"
[ "$(wc -l <"$work/table.csv")" = 3 ] || fail "CSV"
awk -F, 'NR == 1 { n = NF } NF != n || NF != 10 || (NR > 1 && !($3 > 0 && $4 > 0 && $10 >= 1)) { exit 1 }' "$work/table.csv" || fail "CSV"
# images/s of the CSV are those of the run's own metrics (median of the last 4 of 5 steps), and efficiency follows
want=$(grep -oE '"images_per_s":[0-9.e+]+' "$work/w/ranks-2/metrics.jsonl" | tail -n 4 | cut -d: -f2 | sort -g |
    sed -n 2,3p | awk '{ s += $1 } END { printf "%.1f", s / 2 }')
awk -F, -v want="$want" 'NR == 2 { one = $3 } NR == 3 {
    d = $3 - want; e = $6 - $3 / one / 2
    exit !(d < 0.1 && d > -0.1 && e < 0.001 && e > -0.001) }' "$work/table.csv" || fail "images/s are not $want"
grep -q 'source: 8$' "$work/w/ranks-2/config.yaml" || fail "weak: batch"
grep -q 'source: 4$' "$work/w/ranks-1/config.yaml" || fail "weak: first batch"
[ "$(grep -o '<circle ' "$work/w/scale.svg" | wc -l)" = 2 ] || fail "picture"
if command -v python3 >/dev/null; then
    python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$work/w/scale.svg" 2>"$work/out" || fail "picture"
fi

scale() { expect "$1" "$2" "$program" bench scale "${@:3}"; } # status, pattern, arguments
scale 64 '--ranks takes numbers' --ranks 1,x
scale 64 'nearest: --ranks' --rank 1
scale 78 'cotrain.setps' cotrain.setps=3
mkdir "$work/again"
touch "$work/again/scale.csv"
scale 73 'holds another measurement' --out "$work/again" --ranks 1
# shellcheck disable=SC2016 # the script says it
printf '#!/bin/sh\necho "error: no $1 ranks here"\nexit 9\n' >"$work/broken" && chmod +x "$work/broken"
scale 1 "ended with 9 \($work/f/ranks-3.log\): error: no 3 ranks here" --ranks 3 --out "$work/f" --launcher "$work/broken {n}"
"$mpirun" -np 2 "$program" bench scale >"$work/out" 2>&1
[ $? = 64 ] || fail "under mpirun"
exit $bad
