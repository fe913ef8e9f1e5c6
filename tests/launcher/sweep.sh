#!/usr/bin/env bash
# marrs_dist sweep runs what is not done, once, and report --table gathers it.
# LIMIT 300
# shellcheck disable=SC2015 # A && B || fail: a failing B is a failure too
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/expect.sh
. tests/support/expect.sh

cat >"$work/sweep.yaml" <<YAML
base: $PWD/configs/digits.yaml
runs: $work/{variant}_{seed}
set: [cotrain.warmup.steps=2, cotrain.steps=2, cotrain.evaluate_every=2, distil.steps=2, 'variant={variant}', 'seed={seed}']
axes:
  variant: [full, {name: own, set: [cotrain.exchange.labels=own]}]
  seed: [3, 4]
YAML
sweep() { timeout 250 "$program" sweep "$work/sweep.yaml" "$@" >"$work/out" 2>&1; }

sweep --count && [ "$(cat "$work/out")" = 4 ] || fail count
sweep --list && [ "$(grep -c "^marrs_dist .* run=$work/" "$work/out")" = 4 ] || fail list
sweep --print 3 && grep -qx 'seed: 4' "$work/out" && grep -qx 'variant: own' "$work/out" || fail print
sweep --run 4; [ $? -eq 64 ] || fail 'a run that is not there'
sweep --run x; [ $? -eq 64 ] || fail 'no number'
sweep --lst; [ $? -eq 64 ] && grep -q 'nearest: --list' "$work/out" || fail 'unknown option'
sweep run=x; [ $? -eq 64 ] || fail 'run= of the command line'
sweep --run 1 && [ -s "$work/full_4/report.html" ] && [ ! -e "$work/full_3" ] || fail 'one run'
[ "$(grep -c '<img alt="pen[^>]*src="data:image/png;base64,iVBOR' "$work/full_4/report.html")" = 24 ] || fail 'samples in the report'
grep -q 'convnext 1/1, swin 1/1' "$work/full_4/placement.txt" || fail 'no placement'
sweep --run 1 cotrain.select=last; [ $? -eq 78 ] || fail 'another configuration than that of the run that is there'
sweep && [ -s "$work/own_4/results.json" ] && [ "$(grep -c 'done already' "$work/out")" = 1 ] || fail 'all runs'
sweep && [ "$(grep -c 'done already' "$work/out")" = 4 ] || fail 'all runs again'
"$program" report --table "$work"/full_* "$work"/own_* >"$work/out" 2>&1 &&
    grep -q '3-shot, unlabelled accuracy, %: mean ± standard deviation over 2 seeds' "$work/out" &&
    [ "$(grep -c ' ± ' "$work/out")" = 11 ] || fail table
"$program" report --table --format cvs "$work/full_3" >"$work/out" 2>&1; [ $? -eq 64 ] || fail 'unknown format'
"$program" report --table --model nobody "$work/full_3" >"$work/out" 2>&1; [ $? -eq 66 ] || fail 'no such model'
exit $bad
