#!/usr/bin/env bash
# One configuration on other ranks: losses by term of warm-up, co-training and distillation agree to 1e-4 for 1, 2, 3, 4
# and 8 ranks, for groups of 5:3 and 1:7, with a sharded optimiser, with tiny and huge buckets, with recomputing, and so
# do the frozen stages for 1 and 3 ranks.
# LIMIT 600
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh

compare() { # DIR RANKS key=value...
    must_train "$@" && same_losses np1 "$1"
}

must_train np1 1 || done_testing
[ "$(grep -cE '"kept_fraction":[01][.0-9]*[1-9][0-9]*,"agreement"|"kept_fraction":1.0,"agreement"' "$work/np1/metrics.jsonl")" -ge 6 ] ||
    fail "hardly any step keeps a label: the terms are not tested"
for n in 2 3 4 8; do compare np$n $n; done
compare alone 0
compare uneven53 8 peers.convnext.ranks=5 peers.swin.ranks=3
compare uneven17 8 peers.convnext.ranks=1 peers.swin.ranks=7
compare sharded3 3 comm.shard_optimizer=true
compare sharded53 8 comm.shard_optimizer=true peers.convnext.ranks=5 peers.swin.ranks=3
compare tiny 4 comm.bucket_mb=0.001
compare huge 4 comm.bucket_mb=100
compare recompute 2 recompute=blocks

must_train frozen1 1 "${frozen[@]}" && must_train frozen3 3 "${frozen[@]}" && same_losses frozen1 frozen3
done_testing
