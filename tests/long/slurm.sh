#!/usr/bin/env bash
# The job scripts in a real Slurm of 16 small nodes on this machine: all of them are accepted; one node, several nodes,
# uneven groups, array, scaling and requeue really run the default configuration, shortened; a run that was stopped and
# put back into the queue ends with the bits of one that nobody disturbed. Skipped where Slurm cannot be started.
# LIMIT 900
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
[ "$(id -u)" -eq 0 ] || { echo "needs root"; exit 77; }
for tool in sbatch slurmctld slurmd munged unshare; do
    command -v $tool >/dev/null || { echo "no $tool: apt-get install slurmctld slurmd slurm-client munge libpmix2"; exit 77; }
done
mpirun --version 2>/dev/null | grep -q 'Open MPI' || { echo "srun --mpi=pmix is tried with Open MPI"; exit 77; }

work=$(mktemp -d)
export SLURM_SANDBOX=$work/slurm SLURM_SANDBOX_PORT=${SLURM_SANDBOX_PORT:-7900}
sandbox() { bash tests/support/slurm-sandbox.sh "$@"; }
# shellcheck disable=SC2317 # called by the trap
finish() {
    sandbox stop
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT
sandbox start 16 >"$work/start.log" 2>&1 || { cat "$work/start.log"; echo "Slurm does not start here"; exit 77; }
eval "$(sandbox env)"
export PROGRAM=$PWD/build/marrs_dist
bad=0
fail() {
    echo "$*"
    bad=1
}

# ---- every script is accepted as it stands, and refused where the cluster cannot serve it
for script in slurm/*.sbatch; do
    sbatch --test-only "$script" >"$work/out" 2>&1 || { fail "sbatch --test-only $script:"; cat "$work/out"; }
done
! sbatch --test-only --nodes=17 slurm/multi-node.sbatch >"$work/out" 2>&1 || fail "17 nodes of 16 were accepted"

state() { scontrol show job "$1" 2>/dev/null | grep -oE 'JobState=[A-Z_]+' | sort -u | paste -sd' '; }
wait_for() { # job, seconds: until every element has ended; prints the state
    local i
    for i in $(seq $(($2 * 5))); do
        case $(state "$1") in JobState=COMPLETED | *FAILED* | *CANCELLED* | *TIMEOUT* | *NODE_FAIL*) break ;; esac
        sleep 0.2
    done
    [ "$(state "$1")" = JobState=COMPLETED ] || { fail "job $1: $(state "$1") after $i/5 s"; tail -n 30 "$work"/*-"$1"*.log; }
}
short=(log.metrics_every=1 cotrain.warmup.steps=6 cotrain.steps=40 cotrain.evaluate_every=1000 distil.steps=6
    distil.evaluate_every=1000 checkpoint.every=1000)
small=(--cpus-per-task=1 --output="$work/%x-%j.log")
submit() { # script and sbatch's options -- arguments of the script; the job's number
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    # A folder for temporary files each: the nodes share /tmp here, and Open MPI's clean-up of one job on a node would
    # take the files of the next.
    TMPDIR=$(mktemp -d "$work/tmp-XXXX") sbatch --parsable "${small[@]}" "${options[@]}" "$@"
}
bits() { # run: of every network it ends with
    (cd "$1/models" && find . -name '*.safetensors' -print0 | sort -z | xargs -0 sha256sum)
}
same() { # what, run, run
    if [ -z "$(bits "$2")" ] || [ "$(bits "$2")" != "$(bits "$3")" ]; then fail "$1: other bits than the undisturbed run"; fi
}

# ---- one node; two nodes, started by srun and by mpirun: one world of 2 ranks each, so the same bits
job=$(submit --ntasks-per-node=2 --gpus-per-node=2 -- slurm/one-node.sbatch configs/digits.yaml "${short[@]}" run="$work/one")
wait_for "$job" 180
two=(--nodes=2 --ntasks-per-node=1 --gpus-per-node=1)
job=$(submit "${two[@]}" -- slurm/multi-node.sbatch configs/digits.yaml "${short[@]}" run="$work/two")
wait_for "$job" 180
same "srun on two nodes" "$work/one" "$work/two"
grep -qE '1 +n[0-9]+ .* swin 1/1' "$work/marrs_dist-$job.log" || fail "two nodes: no table of ranks"
job=$(LAUNCHER=mpirun submit "${two[@]}" --signal=B:USR1@300 -- slurm/multi-node.sbatch configs/digits.yaml "${short[@]}" run="$work/mpirun")
wait_for "$job" 180
same "mpirun on two nodes" "$work/one" "$work/mpirun"

# ---- stopped in the middle by what --signal sends, requeued, ended: the same bits
requeued() { # name, job, how to signal
    local i
    for i in $(seq 600); do
        [ "$(grep -c '"phase":"cotrain"' "$work/$1/metrics.jsonl" 2>/dev/null || true)" -ge 5 ] 2>/dev/null && break
        sleep 0.1
    done
    scancel "${@:3}" "$2"
    wait_for "$2" 180
    same "requeue ($1)" "$work/one" "$work/$1"
    scontrol show job "$2" | grep -q 'Restarts=1' || fail "requeue ($1): $(scontrol show job "$2" | grep -o 'Restarts=[0-9]*')"
}
job=$(submit "${two[@]}" -- slurm/requeue.sbatch configs/digits.yaml "${short[@]}" run="$work/again")
requeued again "$job" -s USR1
grep -q 'stopped cleanly; back into the queue (start 2)' "$work/marrs_dist-$job.log" || fail "requeue: was not stopped"
job=$(LAUNCHER=mpirun submit "${two[@]}" --signal=B:USR1@300 -- slurm/requeue.sbatch configs/digits.yaml "${short[@]}" run="$work/mpirun-again")
requeued mpirun-again "$job" --batch -s USR1

# ---- uneven groups: one step of two parts, 2 + 1 nodes
job=$(FIRST=2 submit --nodes=3 --ntasks-per-node=2 --gpus-per-node=2 -- slurm/uneven-groups.sbatch configs/digits.yaml \
    "${short[@]}" cotrain.steps=4 run="$work/uneven")
wait_for "$job" 180
grep -qE 'convnext 4/4' "$work/marrs_dist-$job.log" || fail "uneven groups: no group of 4"
grep -qE 'swin 2/2' "$work/marrs_dist-$job.log" || fail "uneven groups: no group of 2"

# ---- an array over a sweep file: two runs, two jobs
sweep_file() { # folder, steps, seeds
    cat <<SWEEP
base: $PWD/configs/digits.yaml
runs: $work/$1/seed{seed}
set: [$(printf '"%s", ' "${short[@]}")"seed={seed}", "cotrain.steps=$2"]
axes: {seed: [$3]}
SWEEP
}
sweep_file swept 6 "1, 2" >"$work/sweep.yaml"
[ "$("$PROGRAM" sweep "$work/sweep.yaml" --count)" = 2 ] || fail "sweep: not two runs"
job=$(submit --array=0-1 --ntasks-per-node=2 --gpus-per-node=2 -- slurm/sweep.sbatch "$work/sweep.yaml")
wait_for "$job" 240
for seed in 1 2; do
    [ -n "$(find "$work/swept" -path "*/seed$seed/*" -name student.safetensors)" ] || fail "array: no student of seed $seed"
done

# started by mpirun and stopped on the way: the element goes back into the queue
sweep_file swept-mpirun 40 1 >"$work/sweep-mpirun.yaml"
job=$(LAUNCHER=mpirun submit --array=0 --ntasks-per-node=2 --gpus-per-node=2 --signal=B:USR1@300 -- slurm/sweep.sbatch \
    "$work/sweep-mpirun.yaml")
requeued swept-mpirun/seed1 "$job" --batch -s USR1

# ---- a curve over 1, 2 and 4 nodes, and its report
curve() { # folder
    local job
    job=$(submit --nodes=4 --ntasks-per-node=1 --gpus-per-node=1 -- slurm/scaling.sbatch configs/digits.yaml --steps 6 --out "$work/$1")
    wait_for "$job" 180
    [ "$(cut -d, -f1 "$work/$1/scale.csv" | paste -sd' ')" = "ranks 1 2 4" ] || fail "scaling ($1): no table of 1, 2, 4 nodes"
    grep -qE '^ +4 .*%' "$work/marrs_scale-$job.log" 2>/dev/null || fail "scaling ($1): no report in the log"
    [ -s "$work/$1/scale.svg" ] || fail "scaling ($1): no picture"
}
curve curve
LAUNCHER=mpirun curve curve-mpirun

# ---- srun with the wrong PMI is refused with the remedy, not run as many worlds of one
srun --mpi=none -n2 "$PROGRAM" doctor >"$work/out" 2>&1 && fail "srun --mpi=none was accepted"
srun --mpi=pmix -N2 -n2 "$PROGRAM" doctor >"$work/out" 2>&1 || { fail "doctor under srun:"; cat "$work/out"; }
grep -q 'started by srun (--mpi=pmix): 2 ranks see one world' "$work/out" || { fail "doctor under srun"; cat "$work/out"; }
grep -qE 'links? (of )?n[0-9]+ ' "$work/out" || { fail "doctor under srun: links"; cat "$work/out"; }

exit $bad
