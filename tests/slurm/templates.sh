#!/usr/bin/env bash
# The job scripts: shellcheck and bash -n are silent, each says what to change and holds what HPC users expect; submit fills
# them in (--dry-run against the files beside this one), checks the placement first, and refuses wrong words.
# WRITE=1 writes the expected files anew.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/expect.sh
. tests/support/expect.sh

for script in slurm/*.sbatch slurm/submit; do
    bash -n "$script" || fail "bash -n $script"
    [ -x "$script" ] || fail "$script is not executable"
done
if command -v shellcheck >/dev/null; then
    shellcheck -x slurm/*.sbatch slurm/submit || fail "shellcheck"
fi
for script in slurm/*.sbatch; do
    grep -q '^# Change: ' "$script" || fail "$script does not say what to change"
    grep -q "^#   sbatch .*$script" "$script" || fail "$script does not say how it is submitted"
    case $script in *scaling*) continue ;; esac
    grep -q '^#SBATCH --signal=USR1@300$' "$script" || fail "$script: no --signal"
    grep -q '^#SBATCH --open-mode=append$' "$script" || fail "$script: output is truncated when it starts again"
    grep -q -- '--mpi=pmix' "$script" || fail "$script: srun without --mpi=pmix"
done

golden() { # name, arguments of submit
    local name=$1 file=tests/slurm/$1.txt
    shift
    slurm/submit "$@" --dry-run >"$work/$name" 2>"$work/plan" || { fail "submit $*: exit $?"; cat "$work/plan"; return; }
    [ -z "${WRITE:-}" ] || cp "$work/$name" "$file"
    diff "$file" "$work/$name" || fail "submit $*"
    bash -n "$work/$name" || fail "submit $*: no script"
    ! command -v shellcheck >/dev/null || shellcheck "$work/$name" || fail "submit $*: shellcheck"
    grep -q 'peer .*part of its group' "$work/plan" || fail "submit $*: no placement"
}
export PROGRAM=build/marrs_dist
golden submit-two-nodes configs/office_home.yaml --nodes 2 --gpus-per-node 4
golden submit-options configs/digits.yaml "run=runs/a b" seed=2 --nodes=3 --ranks-per-node 2 --cpus-per-task 8 --time 2:00:00 \
    --partition long --account p-7 --launcher mpirun --requeue --name "night"

# What was filled in is what a shell reads back.
# shellcheck disable=SC1090,SC2154 # made above
(set -- && . <(sed -n '/^config=/p; /^settings=/p' "$work/submit-options") && [ "${settings[0]}" = "run=runs/a b" ] &&
    [ "${#settings[@]}" = 3 ]) || fail "settings are not read back"

submit() { expect "$1" "$2" slurm/submit "${@:3}" --dry-run; } # status, pattern, arguments
submit 64 'which configuration' --gpus-per-node 4
submit 64 '--gpus-per-node M, or' configs/digits.yaml
submit 64 'exclude each other' configs/digits.yaml --gpus-per-node 4 --ranks-per-node 4
submit 64 'needs a number' configs/digits.yaml --gpus-per-node 4x
submit 64 'not a name' configs/digits.yaml --gpus-per-node 4 --time $'1\n#SBATCH --wrap=x'
submit 64 'unknown option --gpu' configs/digits.yaml --gpu 4
submit 66 'no nowhere.yaml' nowhere.yaml --gpus-per-node 4
submit 78 'nearest: cotrain.steps' configs/digits.yaml cotrain.setps=1 --gpus-per-node 4
submit 64 'want 5 ranks, but there are 4' configs/digits.yaml peers.0.ranks=5 --gpus-per-node 4

# A container's own program stays when submit fills its script in; the array has as many elements as the sweep has runs.
submit 0 'program=\(apptainer exec' configs/digits.yaml --gpus-per-node 4 --template slurm/container.sbatch
grep -qx 'config=configs/digits.yaml' "$work/out" || fail "submit does not fill in container.sbatch"
n=$(build/marrs_dist sweep configs/sweeps/office_home.yaml --count)
grep -q "^#SBATCH --array=0-$((n - 1))%" slurm/sweep.sbatch || fail "sweep.sbatch: --array is not 0-$((n - 1))"
exit $bad
