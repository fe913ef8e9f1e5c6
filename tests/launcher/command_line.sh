#!/usr/bin/env bash
# The command line as a user types it: help, versions, misspelt words, exit codes, one message for all ranks.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/expect.sh
. tests/support/expect.sh

expect 0 'commands:' "$program" --help
expect 0 'marrs_dist 0.' "$program" --version
expect 0 'HDF5' "$program" --version=full
expect 0 'cotrain.optimizer.lr' "$program" config --help
expect 64 'unknown command pln; nearest: plan' "$program" pln
expect 64 'nearest: --help' "$program" --hlep
expect 64 'nearest: --nodes' "$program" plan --node 3
expect 64 '--nodes takes a whole number' "$program" plan --nodes x
expect 64 'goes with' "$program" plan --nodes 3
expect 66 'nowhere.yaml' "$program" plan nowhere.yaml
expect 66 'use device=cpu' env CUDA_VISIBLE_DEVICES= "$program" plan device=cuda
expect 78 'unknown key cotrain.setps; nearest: cotrain.steps' "$program" plan cotrain.setps=1
expect 78 'MARRS_SEED' env MARRS_SEED=x "$program" config

printf 'run: x\ncotrian: {}\ncotrain:\n  steps: ten\n' >"$work/bad.yaml"
expect 78 "bad.yaml:2:1: unknown key cotrian; nearest: cotrain" "$program" config "$work/bad.yaml"
once 'bad.yaml:4:10: cotrain.steps: expected an integer'

(cd "$work" && expect 0 'convnext 1/1, swin 1/1' "$program" plan)
mkdir "$work/report" && (cd "$work" && expect 64 "give a run's directory" "$program" report)
expect 0 'node7' "$program" plan configs/office_home.yaml --nodes 8 --gpus-per-node 4
expect 0 'convnext 1/5' "$mpirun" -np 8 "$program" plan configs/office_home.yaml
once 'swin 3/3'
expect 0 'commands:' "$mpirun" -np 3 "$program" --help
once 'commands:'
expect 64 'want 5 ranks, but there are 3' "$mpirun" -np 3 "$program" plan peers.0.ranks=5
once 'want 5 ranks'
expect 64 'srun --mpi=pmix' env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 "$program" plan
expect 64 'each is alone' env PMI_SIZE=3 PMI_RANK=0 "$program" plan

"$program" config --markdown >"$work/configuration.md"
if ! cmp -s "$work/configuration.md" docs/configuration.md; then
    echo "docs/configuration.md is not what the table says: build/marrs_dist config --markdown >docs/configuration.md"
    bad=1
fi
exit $bad
