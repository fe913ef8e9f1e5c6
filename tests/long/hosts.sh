#!/usr/bin/env bash
# mpirun over 4 hosts (network namespaces), 2 ranks each, runs the default configuration, shortened, and ends with the same
# networks, bit for bit, as 8 ranks on one host; doctor finds the hosts, their links, and a slow one among them.
# Skipped where namespaces cannot be made.
# LIMIT 600
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
[ "$(id -u)" -eq 0 ] || { echo "needs root"; exit 77; }
work=$(mktemp -d)
export NETNS_PREFIX=mhost NETNS_SLOTS=2
hosts() { bash tests/support/netns-cluster.sh "$@"; }
# shellcheck disable=SC2317 # called by the trap
finish() {
    hosts down
    rm -rf "$work"
}
trap finish EXIT
hosts up 4 >"$work/out" 2>&1 || { echo "no network namespaces here: $(tail -n 1 "$work/out")"; exit 77; }
program=$PWD/build/marrs_dist
case $("$program" --version=full) in *MPICH*) start=mpirun-mpich ;; *) start=mpirun ;; esac
bad=0
fail() {
    echo "$*"
    tail -n 40 "$work/out"
    bad=1
}
short=(log.metrics_every=1 cotrain.warmup.steps=5 cotrain.steps=10 cotrain.evaluate_every=1000 distil.steps=5
    distil.evaluate_every=1000 checkpoint.every=1000)

timeout 250 "${MPIRUN:-mpirun}" -np 8 "$program" configs/digits.yaml "${short[@]}" run="$work/one" >"$work/out" 2>&1 || fail "one host: exit $?"
hosts "$start" -np 8 "$program" configs/digits.yaml "${short[@]}" run="$work/four" >"$work/out" 2>&1 || fail "four hosts: exit $?"
for h in 1 2 3 4; do
    [ "$(grep -cE "^ +[0-9]+ +h$h +cores" "$work/out")" = 2 ] || fail "host h$h has not 2 ranks"
done
bits() { (cd "$1/models" && find . -name '*.safetensors' -print0 | sort -z | xargs -0 sha256sum); }
[ -n "$(bits "$work/one")" ] || fail "no networks"
[ "$(bits "$work/one")" = "$(bits "$work/four")" ] || fail "four hosts: other bits than one host"
values() { sed -E 's/"(slowest_[a-z]+":[^,}]*|ranks":\{[^}]*\}),?//g;s/"[a-z_]*(_ms|_per_s|_bytes)":[^,}]*,?//g' "$1/metrics.jsonl"; } # all but times and traffic
diff <(values "$work/one") <(values "$work/four") >"$work/out" || fail "four hosts: other metrics than one host"

hosts "$start" -np 8 "$program" doctor >"$work/out" 2>&1 || fail "doctor: exit $?"
grep -q '8 ranks on 4 hosts' "$work/out" || fail "doctor: hosts"
grep -qE '^ +h3 +lo 127.0.0.1; eth0 10.77.0.3' "$work/out" || fail "doctor: interfaces of h3"
grep -qE 'links? (of )?h1 ' "$work/out" || fail "doctor: links"
hosts slow h3 delay=1 rate=100 >"$work/out" 2>&1 || fail "slow cable"
hosts "$start" -np 8 "$program" doctor >"$work/out" 2>&1 || fail "doctor with a slow cable: exit $?"
grep -qE 'warning  link h1 - h3: 0\.0[0-9]+ GB/s' "$work/out" || fail "doctor: the slow cable of h3 is not found"
exit $bad
