#!/usr/bin/env bash
# The digits demo, cut down to some steps of small networks, on emulated GPUs, each run with its own order of streams and
# blocks: every loss of 1, 2, 3 and 8 ranks, of groups of 5 + 3 and with a sharded optimiser equals that of the CPU to
# 1e-4.
# LIMIT 400
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/short-run.sh
. tests/support/emulated-run.sh
LEAST_NUMBERS=30

must_train cpu 1 "${small[@]}" device=cpu || done_testing
export COC_SEED=0
compare() { # DIR RANKS key=value...
    COC_SEED=$((COC_SEED + 1))
    must_train "$@" "${small[@]}" device=cuda-emulated && same_losses cpu "$1"
}
for n in 1 2 3 8; do compare np$n $n; done
compare sharded53 8 comm.shard_optimizer=true peers.convnext.ranks=5 peers.swin.ranks=3
done_testing
