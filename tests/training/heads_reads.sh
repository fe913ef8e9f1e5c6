#!/usr/bin/env bash
# The stage `heads` reads its features once, before its first step: when its first report is there, the files are emptied
# (who has them open would read nothing either) and removed, and the run ends as one whose files stayed, bit for bit.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
frozen+=(heads.outer=40 heads.inner=40 "features.folder=$work/features")

must_train kept 2 "${frozen[@]}" || done_testing
ls "$work"/features/*.h5 >"$work/out" 2>&1 || fail "no features files: $(cat "$work/out")"
timeout 60 "$launch" -np 2 "$program" "${short[@]}" "run=$work/gone" "${frozen[@]}" >"$work/gone.log" 2>&1 </dev/null &
job=$!
until grep -q '"stage":"heads"' "$work/gone/metrics.jsonl" 2>/dev/null || ! kill -0 $job 2>/dev/null; do sleep 0.01; done
for file in "$work"/features/*.h5; do : >"$file"; done
rm "$work"/features/*.h5
begun=$(records gone)
wait $job || { fail "without its files:"; tail -n 15 "$work/gone.log"; done_testing; }
[ "$begun" -lt $(($(records gone) - 10)) ] || fail "the files went too late: after $begun of $(records gone) records"
same_run kept gone
done_testing
