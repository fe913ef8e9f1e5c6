#!/usr/bin/env bash
# Two ranks, a peer each, both the same network: the wait for the other's labels that the forward passes do not hide is
# under 1 % of a step.
# LIMIT 300
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/mpi-env.sh
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -E 's/model: \{family: swin.*/model: {family: convnext, stem: 4, depths: [2, 2], dims: [48, 96], kernel: 7}\n    layer_scale: 1.0/
    s/coral: deep/coral: none/; s/view: none/view: perspective/' configs/digits.yaml >"$work/equal.yaml"
"${MPIRUN:-mpirun}" -np 2 build/marrs_dist "$work/equal.yaml" "run=$work/run" data.folder=data/digits "stages=[cotrain]" \
    cotrain.warmup.steps=20 cotrain.steps="${STEPS:-300}" log.level=warning log.report=false >"$work/log" 2>&1 </dev/null ||
    { tail -n 20 "$work/log"; exit 1; }
grep -o '"exchange_wait_ms":[^,]*,\|"images_per_s":[^}]*' "$work/run/metrics.jsonl" | tr -d '",' | awk -F: '
    $1 == "exchange_wait_ms" { wait = $2; have = 1; next }
    have && ++n > 10 { waits += wait; steps += 1000 * 106 / $2; if (wait > worst) worst = wait; have = 0 }
    END {
        if (n < 100) { print "only " n " steps"; exit 1 }
        printf "wait for labels %.3f ms of a step of %.1f ms: %.2f %% (worst %.1f ms)\n",
            waits / (n - 10), steps / (n - 10), 100 * waits / steps, worst
        exit waits >= 0.01 * steps
    }'
