#!/usr/bin/env bash
# What `plan` predicts is what happens: step times of 1, 2 and 4 ranks on one host, and of 2 ranks on two hosts (network
# namespaces) whose link has 100 Mbit/s and 1 ms, within 15 % of the measured ones. The rates come from one rank's own steps
# and from all-reduces alone (plan --calibrate); no step of several ranks is used. Three rounds, each measures rates and
# steps side by side; the median of predicted / measured counts. Without root the slow link is left out.
# LIMIT 1500
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
export OMP_NUM_THREADS=1
program=$PWD/build/marrs_dist
work=$(mktemp -d)
export NETNS_PREFIX=mplan NETNS_SLOTS=1
hosts() { bash tests/support/netns-cluster.sh "$@"; }
# shellcheck disable=SC2317 # called by the trap
finish() {
    [ -n "${up:-}" ] && hosts down
    [ -n "${raised:-}" ] && echo 0 >/proc/self/autogroup
    rm -rf "$work"
}
trap finish EXIT
# Where the kernel groups processes by session, other work on this machine steps back for us.
{ echo -19 >/proc/self/autogroup; } 2>/dev/null && raised=yes
export OMPI_MCA_orte_leave_session_attached=1 # daemons on other hosts stay in the group

rounds=${ROUNDS:-3}
steps=${STEPS:-40}
two=(configs/digits.yaml data.folder=data/digits)
# one peer alone: its gradients cross the link, in buckets of which the first are sent while backward runs
sed '/- name: swin/,/init: xavier/d' configs/digits.yaml >"$work/one.yaml"
one=("$work/one.yaml" data.folder=data/digits cotrain.exchange.labels=own comm.bucket_mb=0.25)

predicted() { # rates, hosts, ranks a host, configuration...: milliseconds
    local rates=$1 n_hosts=$2 n_ranks=$3
    shift 3
    "$program" plan "$@" --rates "$rates" --nodes "$n_hosts" --ranks-per-node "$n_ranks" --hosts "$n_hosts" >"$work/out" 2>&1 ||
        { cat "$work/out" >&2; exit 1; }
    sed -nE 's/^A step of co-training: ([0-9.]+) ms.*/\1/p' "$work/out"
}
measured() { # launcher, ranks, configuration...: milliseconds, median
    local launcher=$1 n=$2
    shift 2
    rm -rf "$work/scale"
    "$program" bench scale "$@" --ranks "$n" --steps "$steps" --out "$work/scale" --launcher "$launcher" >"$work/out" 2>&1 ||
        { cat "$work/out" "$work"/scale/*.log >&2; exit 1; }
    awk -F, 'NR == 2 { print $4 }' "$work/scale/scale.csv"
}
note() { # case, predicted, measured
    if [ -z "$2" ] || [ -z "$3" ]; then echo "$1: no time"; exit 1; fi
    echo "$1 $2 $3" >>"$work/pairs"
    printf '  %-34s predicted %8.2f ms  measured %8.2f ms  %+.1f %%\n' "$1" "$2" "$3" \
        "$(awk -v p="$2" -v m="$3" 'BEGIN { print 100 * (p / m - 1) }')"
}
calibrate() { # rates, configuration...
    local rates=$1
    shift
    "$program" plan "$@" --calibrate "$rates" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
}
links() { # rates, launcher's words --, configuration...
    local rates=$1 start=()
    shift
    while [ "$1" != -- ]; do start+=("$1"); shift; done
    shift
    "${start[@]}" "$program" plan "$@" --calibrate "$rates" --links >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
}

local_mpirun="${MPIRUN:-mpirun} -np {n}"
case $("$program" --version=full) in *MPICH*) netns_start=mpirun-mpich ;; *) netns_start=mpirun ;; esac
if [ "$(id -u)" -eq 0 ] && hosts up 2 >"$work/out" 2>&1; then up=yes; else echo "no slow link: needs root and namespaces"; fi
[ -n "${up:-}" ] && hosts slow h2 delay=1 rate=100 >"$work/out" 2>&1
slow_mpirun="bash tests/support/netns-cluster.sh $netns_start -np {n}"

for round in $(seq "$rounds"); do
    echo "round $round, load $(cut -d' ' -f1 /proc/loadavg)"
    calibrate "$work/two.rates" "${two[@]}"
    # shellcheck disable=SC2086 # the launcher's words
    links "$work/two.rates" ${local_mpirun/'{n}'/2} -- "${two[@]}"
    for n in 1 2 4; do
        note "np=$n" "$(predicted "$work/two.rates" 1 $n "${two[@]}")" "$(measured "$local_mpirun" $n "${two[@]}")"
    done
    [ -n "${up:-}" ] || continue
    # the two namespaces are one machine of 2 cores: a core each
    sed -E 's/^cores: [0-9]+/cores: 1/' "$work/two.rates" >"$work/slow.rates"
    links "$work/slow.rates" hosts "$netns_start" -np 2 -- "${two[@]}"
    note "slow-link-labels" "$(predicted "$work/slow.rates" 2 1 "${two[@]}")" "$(measured "$slow_mpirun" 2 "${two[@]}")"
    links "$work/slow.rates" hosts "$netns_start" -np 2 -- "${one[@]}"
    note "slow-link-gradients" "$(predicted "$work/slow.rates" 2 1 "${one[@]}")" "$(measured "$slow_mpirun" 2 "${one[@]}")"
done

# the whole default run at 2 ranks, from its first line to its last
all=$("$program" plan "${two[@]}" --rates "$work/two.rates" --nodes 1 --ranks-per-node 2 --hosts 1 | sed -nE 's/^all +([0-9.]+) s,.*/\1/p')
begin=$(date +%s%N)
${local_mpirun/'{n}'/2} "$program" "${two[@]}" run="$work/demo" log.report=false >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
note "whole-run-np=2" "$(awk -v s="$all" 'BEGIN { print 1000 * s }')" $((($(date +%s%N) - begin) / 1000000))

echo "medians:                 predicted, ms  measured, ms  predicted / measured"
awk '
    function median(v, n,    i, k, t) {
        for (i = 1; i <= n; i++) for (k = i + 1; k <= n; k++) if (v[k] < v[i]) { t = v[i]; v[i] = v[k]; v[k] = t }
        return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    { n[$1]++; p[$1, n[$1]] = $2; m[$1, n[$1]] = $3 }
    END {
        for (name in n) {
            for (i = 1; i <= n[name]; i++) { a[i] = p[name, i]; b[i] = m[name, i]; c[i] = a[i] / b[i] }
            ratio = median(c, n[name])
            far = ratio < 0.85 || ratio > 1.15
            printf "%-24s %14.1f %13.1f %21.3f%s\n", name, median(a, n[name]), median(b, n[name]), ratio, far ? "  more than 15 % off" : ""
            bad = bad || far
        }
        exit bad
    }' "$work/pairs"
