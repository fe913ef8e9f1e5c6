#!/usr/bin/env bash
# One rank of three is stopped most of the time: metrics.jsonl, the progress lines and the report name it in every
# stage, as slow in computing, and the others wait longer than it does.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
slow=2

cat >"$work/start" <<END
#!/bin/sh
[ "\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-}}" = $slow ] && echo \$\$ >"$work/pid"
exec "\$@"
END
chmod +x "$work/start"

"$launch" -np 3 "$work/start" "$program" "${short[@]}" "run=$work/run" log.level=info log.every_s=0.5 log.ranks_every=5 \
    cotrain.steps=12 cotrain.evaluate_every=100 distil.steps=15 distil.evaluate_every=100 peers.convnext.ranks=1 peers.swin.ranks=2 >"$work/log" 2>&1 </dev/null &
pid=$!
until [ "$(records run)" -ge 1 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
while kill -0 $pid 2>/dev/null; do
    kill -STOP "$(cat "$work/pid")" 2>/dev/null && sleep 0.05
    kill -CONT "$(cat "$work/pid")" 2>/dev/null && sleep 0.02
done
wait $pid || fail "the run ended with $?: $(tail -n 5 "$work/log")"

# The first window of the first stage is partly one before the stops.
for stage in cotrain distil; do
    grep "\"stage\":\"$stage\".*\"ranks\":" "$work/run/metrics.jsonl" >"$work/windows"
    [ "$stage" = cotrain ] && sed -i 1d "$work/windows"
    n=$(wc -l <"$work/windows")
    [ "$n" -ge 3 ] || fail "$stage: only $n lines with the ranks' times"
    [ "$(grep -c "\"slowest_rank\":$slow,\"slowest_host\":\"[^\"]*\",\"slowest_by\":\"compute\"" "$work/windows")" -ge $((n - 1)) ] ||
        fail "$stage: another rank than $slow is named: $(grep -o '"slowest.*' "$work/windows")"
done
head -n 1 "$work/windows" | grep -q '"peer":\["student","student","student"\]' || fail "distil: no ranks' peers"
grep '"stage":"cotrain".*"ranks":' "$work/run/metrics.jsonl" | head -n 1 |
    grep -q '"peer":\["convnext","swin","swin"\]' || fail "cotrain: no ranks' peers"
# Rank 1, which sums its gradients with the slow one, and rank 0, which exchanges labels with it, wait longer than it does.
grep '"stage":"cotrain".*"ranks":' "$work/run/metrics.jsonl" | sed 1d |
    sed -E 's/.*"exchange_ms":\[([^]]*)\],"reduce_ms":\[([^]]*)\].*/\1,\2/' |
    awk -F, -v slow=$slow '{ if (NF != 6) bad = 1; for (r = 0; r < 3; r++) wait[r] += $(r + 1) + $(r + 4) }
        END { for (r = 0; r < 3; r++) if (r != slow && wait[r] <= wait[slow]) bad = 1; exit bad }' ||
    fail "the others do not wait: $(grep '"stage":"cotrain".*"ranks":' "$work/run/metrics.jsonl")"
grep -Eq "co-training [0-9]+/[0-9]+ .*slowest rank $slow \([^)]+\) \+[0-9]+% compute" "$work/log" ||
    fail "no progress line names rank $slow: $(grep co-training "$work/log" | tail -n 3)"

"$program" report "$work/run" >/dev/null || fail "no report"
[ "$(grep -o '<h3>Ranks.*' "$work/run/report.html" | wc -l)" = 2 ] || fail "the report has no tables of the ranks"
grep -A 4 '<h3>Ranks' "$work/run/report.html" | grep '<tr><th scope=row>' | grep -qv "<tr><th scope=row>$slow<" &&
    fail "the report puts another rank first"
done_testing
