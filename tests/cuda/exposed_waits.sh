#!/usr/bin/env bash
# What the compute stream of an (emulated) GPU waits for the communication stream stands in metrics.jsonl, by the device's own
# events: with every exchange late exchange_wait_ms shows it in each step, with every sum late reduce_wait_ms, and the ranks'
# times say the same. Passes are recorded as CUDA graphs.
# LIMIT 200
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
. tests/support/emulated-run.sh

run() { # DIR FAULT
    NCCL_MPI_FAULT=$2 must_train "$1" 4 "${small[@]}" device=cuda-emulated "stages=[cotrain]" cotrain.warmup.steps=1 \
        cotrain.steps=2 cotrain.evaluate_every=2 peers.convnext.ranks=2 peers.swin.ranks=2 comm.shard_optimizer=true \
        cuda.graph=true log.ranks_every=1 log.metrics_every=1 || done_testing
}

# least DIR KEY: its smallest value over the steps of co-training, ms; of an array (a rank's times) the largest of the record.
least() {
    grep '"phase":"cotrain"' "$work/$1/metrics.jsonl" | grep -o "\"$2\":\[\?[^]}\"]*" | sed 's/.*:\[\?//' | awk -F, '
        { most = 0; for (i = 1; i <= NF; i++) if ($i + 0 > most) most = $i + 0 }
        NR == 1 || most < least { least = most }
        END { print NR ? least : "none" }'
}

late() { # DIR KEY OTHER: is its KEY more than half a second (of a late exchange some is hidden), and above OTHER?
    local ms other
    ms=$(least "$1" "$2")
    other=$(least "$1" "$3")
    [ "$(awk -v x="$ms" -v y="$other" 'BEGIN { print (x > 500 && x > y) }')" = 1 ] ||
        fail "run $1: the least $2 of a step is $ms, the least $3 $other"
}

run exchange slowtransfers:-1:0:1500
run sums slowsums:-1:0:700
late exchange exchange_wait_ms reduce_wait_ms
late sums reduce_wait_ms exchange_wait_ms
late exchange exchange_ms reduce_wait_ms
late sums reduce_ms exchange_wait_ms
same_run exchange sums
done_testing
