#!/usr/bin/env bash
# What a run that was killed and went on from a checkpoint shows elsewhere: TensorBoard's reader finds each number of
# metrics.jsonl once; Prometheus' own checker and parser take its text file. Skipped where none of these readers is there
# (PYTHON names an interpreter with tensorboard and prometheus_client).
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
python=${PYTHON:-python3}
n_read=0
prom=$work/node/marrs.prom
keys=(checkpoint.every=3 checkpoint.keep=3 "log.prometheus=$prom")

"$launch" -np 2 "$program" "${short[@]}" "run=$work/killed" "${keys[@]}" >"$work/killed.log" 2>&1 </dev/null &
pid=$!
until [ "$(records killed)" -ge 14 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
# The ranks first: with mpirun alone gone they would go on for a second, and a fast machine be done by then.
mapfile -t ranks < <(pgrep -P $pid)
{ kill -KILL "${ranks[@]}" $pid && wait $pid; } 2>/dev/null # the shell's own words on a killed job
sleep 2 # the ranks of another mpirun, whose children are not they, end within two seconds of it
grep -q '"state":"running"' "$work/killed/state.json" || fail "state.json: $(cat "$work/killed/state.json")"
must_train killed 2 "${keys[@]}" || done_testing
[ "$(find "$work/killed" -name 'events.out.tfevents.*' | wc -l)" = 2 ] || fail "not one event file a start"

"$python" tests/support/read-events.py "$work/killed" >"$work/out" 2>&1
case $? in
0) n_read=$((n_read + 1)) ;;
77) ;;
*) fail "TensorBoard: $(cat "$work/out")" ;;
esac

# The same after the newest file has lost the end of its last record, as a kill may leave it: the records before it are whole.
newest=$(find "$work/killed" -name 'events.out.tfevents.*' | sort | tail -n 1)
truncate -s -7 "$newest"
sed '$d' "$work/killed/metrics.jsonl" >"$work/shorter" && cp "$work/killed/metrics.jsonl" "$work/whole" &&
    cp "$work/shorter" "$work/killed/metrics.jsonl"
"$python" tests/support/read-events.py "$work/killed" >"$work/out" 2>&1
case $? in 0 | 77) ;; *) fail "TensorBoard, cut: $(cat "$work/out")" ;; esac
cp "$work/whole" "$work/killed/metrics.jsonl"

grep -q '"state":"finished"' "$work/killed/state.json" || fail "state.json: $(cat "$work/killed/state.json")"
"$program" watch --once "$work/killed" >"$work/out" 2>&1 || fail "watch: $(cat "$work/out")"
grep -q '^finished .* ago$' "$work/out" || fail "watch: $(cat "$work/out")"

[ -s "$prom" ] || fail "no $prom"
[ "$(find "$work/node" -type f | wc -l)" = 1 ] || fail "temporary files left: $(ls "$work/node")"
grep -q '^marrs_dist_running{.*} 0$' "$prom" || fail "the run has ended and its text file does not say so"
if command -v promtool >/dev/null; then
    promtool check metrics <"$prom" >"$work/out" 2>&1 || fail "promtool: $(cat "$work/out")"
    n_read=$((n_read + 1))
fi
"$python" - "$work/killed/metrics.jsonl" "$prom" "$work/killed" >"$work/out" 2>&1 <<'PY'
import json
import sys

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    sys.exit(77)
last = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
last = [record for record in last if record["stage"] == "distil" and "phase" not in record]
found = {}
for family in text_string_to_metric_families(open(sys.argv[2], encoding="utf-8").read()):
    assert family.type == "gauge" and family.documentation, family
    for s in family.samples:
        assert s.labels.pop("run") == sys.argv[3] and s.labels.pop("ranks") == "2", s
        assert s.labels.pop("stage") == "distil", s
        found[s.name.removeprefix("marrs_dist_"), s.labels.get("peer") or s.labels.get("rank")] = s.value
record = last[-1]
for name, own, value in [("step", None, record["step"]), ("images_per_second", None, record["images_per_s"]),
                         ("data_wait_seconds", None, record["data_wait_ms"] / 1e3),
                         ("loss", "student", record["student"]["loss"])]:
    assert abs(found[name, own] - value) <= 1e-8 * abs(value), (name, own, found.get((name, own)), value)
assert 0 <= found["validation_accuracy_ratio", "student"] <= 1
PY
case $? in
0) n_read=$((n_read + 1)) ;;
77) ;;
*) fail "prometheus_client: $(cat "$work/out")" ;;
esac

# Places that cannot be written: one warning each, and the run is done all the same.
must_train stays 2 stages=[cotrain] cotrain.warmup.steps=2 cotrain.steps=2 "log.prometheus=$work/killed/metrics.jsonl/x.prom"
[ "$(grep -c 'warning: log.prometheus' "$work/stays.log")" = 1 ] || fail "not one warning: $(cat "$work/stays.log")"
must_train none 2 stages=[cotrain] cotrain.warmup.steps=2 cotrain.steps=2 log.tensorboard=false
[ -z "$(find "$work/none" -name '*tfevents*')" ] || fail "event files with log.tensorboard=false"
if [ $n_read = 0 ] && [ $failures = 0 ]; then
    echo "neither tensorboard nor prometheus_client nor promtool is here"
    exit 77
fi
done_testing
