#!/usr/bin/env bash
# All checks of the GPU backend on this machine, from the bundle this script lies in. Nothing is installed or built.
#   bash check-gpu.sh [WORD...]      only the checks whose names contain one of the words
# One line a check, "N passed, N failed" at the end; figures as JSON in $OUT/check-gpu.json, logs of failed checks in
# $OUT/*.log (OUT: default ./out). Python 3 compares losses. Exit code 1 where a check failed, 66 where there is no GPU.
# CHECK_GPU_LIMIT_S (default 540): checks that would begin later are not begun, and are named.
# SIZE=small, DEVICE=cuda-emulated: tiny networks, to try this script itself on the twin (make check-gpu-bundle PLUGIN=twin).
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$PWD/out}
limit=${CHECK_GPU_LIMIT_S:-540}
size=${SIZE:-full}
export device=${DEVICE:-cuda}
words=("$@")
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 left_out=0
figures=$work/figures
: >"$figures"

# CUDA's libraries lie in the toolkit, in Python packages, or where the loader looks anyhow.
cuda_folders() {
    local d
    for d in "${CUDA_HOME:-/usr/local/cuda}/lib64" /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do [ -d "$d" ] && echo "$d"; done
    python3 - 2>/dev/null <<'P'
import glob
import nvidia
for folder in list(nvidia.__path__):
    for lib in glob.glob(folder + "/*/lib"):
        print(lib)
P
}
LD_LIBRARY_PATH=$here/lib:$(cuda_folders | paste -sd:)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH PATH=$here/bin:$PATH OPAL_PREFIX=$here GOLDEN=$here/golden
export MARRS_CUDA_PLUGIN=$here/lib/libmarrs_cuda.so MARRS_CUDA_TWIN=$here/lib/libmarrs_cuda.so
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_pml=ob1 \
    OMPI_MCA_btl=self,vader OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=2 \
    OMPI_MCA_plm_rsh_agent=false
# Several ranks on one GPU, for tests alone: NCCL takes ranks with different host ids for different hosts and goes
# through sockets.
export NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1 NCCL_ALGO=Ring NCCL_PROTO=Simple NCCL_MAX_CTAS=1 NCCL_RAS_ENABLE=0
cat >"$work/rank" <<'R'
#!/bin/sh
export NCCL_HOSTID=rank$OMPI_COMM_WORLD_RANK
exec "$@"
R
# shellcheck disable=SC2016 # expanded there
printf '#!/bin/sh\nn=$2\nshift 2\nexec mpirun -np "$n" "%s" "$@"\n' "$work/rank" >"$work/mpirun" # -np N PROGRAM...
chmod +x "$work/rank" "$work/mpirun"
ranks() { # number, command...
    local n=$1
    shift
    mpirun -np "$n" "$work/rank" "$@"
}

figure() { # name, value
    printf '%s\t%s\n' "$1" "$2" >>"$figures"
}

wanted() {
    local word
    [ ${#words[@]} -eq 0 ] && return 0
    for word in "${words[@]}"; do [[ $1 == *"$word"* ]] && return 0; done
    return 1
}

check() { # name, limit in seconds, command...
    local name=$1 seconds=$2 start=$SECONDS status
    shift 2
    wanted "$name" || return 0
    if [ $SECONDS -gt "$limit" ]; then
        left_out=$((left_out + 1))
        echo "not begun (time is up): $name"
        return 0
    fi
    export -f ranks
    export work
    timeout -k 5 "$seconds" bash -c '"$@"' check "$@" >"$work/log" 2>&1 </dev/null
    status=$?
    figure "seconds: $name" $((SECONDS - start))
    figure "passed: $name" "$([ $status -eq 0 ] && echo true || echo false)"
    if [ $status -eq 0 ]; then
        passed=$((passed + 1))
        printf 'ok      %s (%s s)\n' "$name" $((SECONDS - start))
    else
        failed=$((failed + 1))
        printf 'FAILED  %s (status %s)\n' "$name" $status
        tail -n 25 "$work/log" | sed 's/^/    /'
    fi
    [[ $status -eq 0 && $name != speed* ]] || cp "$work/log" "$out/$(tr -c 'a-zA-Z0-9.\n' _ <<<"$name").log"
    return $status
}

# ---- what is here --------------------------------------------------------------------------------------------
echo "built: $(paste -sd' ' "$here/build.txt")"
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
marrs_dist doctor --device "$device" >"$work/doctor" 2>&1
doctor=$?
awk '/^[A-Za-z]/ { gpus = /^GPUs/ } gpus' "$work/doctor"
cp "$work/doctor" "$out/doctor.txt"
if [ "$doctor" -eq 66 ]; then
    tail -n 3 "$work/doctor"
    exit 66
fi

# ---- operations and networks against loops, golden files and timm -----------------------------------------------
for test in models/ops_small models/golden_ops models/ops_random models/golden_optim models/golden_nets; do
    check "$test" 240 "$here/tests/$test"
done
for test in "$here"/tests/cuda/on_device_*; do
    [ -e "$test" ] && check "cuda/$(basename "$test")" 120 "$test"
done

# ---- several ranks on one GPU through NCCL ------------------------------------------------------------------------
for n in 2 3 5 8; do
    for test in "$here"/tests/cuda/comm_*; do
        [ -e "$test" ] && [[ $test != *failures ]] && check "cuda/$(basename "$test") np=$n" 120 ranks $n "$test"
    done
done

check "cuda/comm_failures" 200 env "MPIRUN=$work/mpirun" "$here/tests/cuda/comm_failures" # starts ranks itself

# ---- the whole program: 20 steps on 1, 2, 3, 8 ranks and 5 + 3 against the CPU ---------------------------------------
settings=(stages=[cotrain] cotrain.warmup.steps=10 cotrain.steps=10 cotrain.evaluate_every=10 log.metrics_every=1 precision=fp32
    log.report=false)
if [ "$size" = small ]; then
    for split in unlabeled validation; do head -n 12 "$here/data/digits/${split}_target_images_pen_3.txt" >"$work/$split.txt"; done
    settings+=(cotrain.warmup.steps=2 cotrain.steps=3 cotrain.evaluate_every=3 "data.target.unlabelled=$work/unlabeled.txt"
        "data.target.validation=$work/validation.txt" "cotrain.batch={source: 8, labelled: 8, unlabelled: 8}"
        "peers.convnext.model={family: convnext, stem: 4, depths: [1, 1], dims: [8, 16], kernel: 7}"
        "peers.swin.model={family: swin, patch: 4, embed: 16, depths: [1, 1], heads: [1, 2], window: 4}")
fi
printf '%s\n' "${settings[@]}" >"$work/settings" # arrays do not travel to the shells of check()
cd "$work" || exit 2
demo() { # run, device, ranks, further settings...
    local run=$1 device=$2 n=$3
    local settings
    shift 3
    mapfile -t settings <"$work/settings"
    ranks "$n" marrs_dist "$here/configs/digits.yaml" "${settings[@]}" "run=$work/$run" "device=$device" "$@"
}
# Losses of every step, by peer and term, of two runs: largest relative difference.
compare() { # run, run, largest allowed
    python3 - "$work/$1/metrics.jsonl" "$work/$2/metrics.jsonl" "$3" <<'P'
import json
import sys

TERMS = ("source", "labelled", "consistency", "cotraining", "coral", "loss")

def losses(path):
    out = {}
    for row in map(json.loads, open(path)):
        for peer, values in row.items():
            for term in TERMS if isinstance(values, dict) else ():
                if term in values:
                    out[(row["stage"], row["step"], peer, term)] = values[term]
    return out

a, b = losses(sys.argv[1]), losses(sys.argv[2])
assert a and a.keys() == b.keys(), "other steps or terms"
worst = max((abs(a[k] - b[k]) / max(abs(a[k]), 1e-2), k) for k in a)
print("largest relative difference of a loss: %.2e at %s" % worst)
sys.exit(worst[0] > float(sys.argv[3]))
P
}
export -f demo compare
export here
if wanted "program" && check "program on the CPU" 180 demo cpu cpu 2; then
    for n in 1 2 3 8; do
        check "program np=$n" 180 demo "gpu$n" "$device" $n && check "program np=$n: losses as on the CPU" 30 compare cpu "gpu$n" 1e-3
    done
    check "program 5 + 3" 180 demo gpu53 "$device" 8 peers.0.ranks=5 peers.1.ranks=3 &&
        check "program 5 + 3: losses as on the CPU" 30 compare cpu gpu53 1e-3
fi

# A rank killed or stopped in the middle: all others end within the deadline; without mpirun's help, where it is stopped, by
# themselves and with exit code 75. Nobody is left.
ranks_of() { # run: process numbers of its ranks, ascending
    local p
    for p in /proc/[0-9]*; do
        [[ $(readlink "$p/exe" 2>/dev/null) == */marrs_dist ]] && tr '\0' '\n' <"$p/cmdline" 2>/dev/null | grep -qx "run=$work/$1" &&
            echo "${p#/proc/}"
    done | sort -n
}
lost_rank() { # run, signal, exit code (none given: any but 0)
    demo "$1" "$device" 3 cotrain.steps=100000 cotrain.warmup.steps=0 comm.deadline_s=20 >"$work/$1.log" 2>&1 &
    local job=$! victim="" waited=0 status left
    while [ -z "$victim" ] && [ $waited -lt 60 ]; do
        sleep 1
        waited=$((waited + 1))
        grep -q . "$work/$1/metrics.jsonl" 2>/dev/null && victim=$(ranks_of "$1" | tail -n 1)
    done
    [ -n "$victim" ] || { echo "it never began"; cat "$work/$1.log"; return 1; }
    kill -"$2" "$victim"
    SECONDS=0
    wait $job
    status=$?
    cat "$work/$1.log"
    left=$(ranks_of "$1" | grep -vx "$victim")
    xargs -r kill -9 <<<"$victim $left" 2>/dev/null
    echo "ended with $status after $SECONDS s; left: ${left:-nobody}"
    [ $SECONDS -le 60 ] && [ $status -ne 0 ] && [ $status -eq "${3:-$status}" ] && [ -z "$left" ]
}
export -f ranks_of lost_rank
check "a rank killed" 150 lost_rank killed KILL
check "a rank stopped" 150 lost_rank stopped STOP 75

# ---- speed at full size -----------------------------------------------------------------------------------------------
speed() { # name, arguments of bench model...
    local name=$1 rate
    shift
    # shellcheck disable=SC2016 # the inner shell expands it
    check "speed: $name" 150 bash -c 'marrs_dist bench model --device "$device" "$@"' bench "$@" || return
    rate=$(sed -nE 's/.*[^0-9.]([0-9.]+) images\/s.*/\1/p' "$work/log" | head -n 1)
    figure "images/s: $name" "${rate:-0}"
    sed 's/^/        /' "$work/log" | head -n 40
}
if [ -n "${CHECK_GPU_NO_SPEED:-}" ]; then
    :
elif [ "$size" = small ]; then
    speed "convnext_tiny 32 train bf16 batch 1" --model convnext_tiny --image 32 --batch 1 --precision bf16 --train --graph --runs 1
    check "speed: bench comm np=2" 120 ranks 2 marrs_dist bench comm --device "$device" --max 65536
else
    for batch in 16 32 64; do
        speed "convnext_xlarge 384 train bf16 batch $batch" --model convnext_xlarge --image 384 --batch $batch --precision bf16 --train --graph
        speed "swin_large 384 train bf16 batch $batch" --model swin_large_patch4_window12_384 --image 384 --batch $batch --precision bf16 --train --graph
    done
    speed "convnext_xlarge 384 train bf16 batch 64 autotune" --model convnext_xlarge --image 384 --batch 64 --precision bf16 --train --graph --autotune
    speed "swin_large 384 train bf16 batch 64 autotune" --model swin_large_patch4_window12_384 --image 384 --batch 64 --precision bf16 --train --graph --autotune
    speed "mobilenet_v2 224 train bf16 batch 96" --model mobilenet_v2 --image 224 --batch 96 --precision bf16 --train
    check "speed: bench comm np=2" 120 ranks 2 marrs_dist bench comm --device "$device"
fi

{
    printf '{\n  "built": "%s",\n  "date": "%s",\n' "$(paste -sd' ' "$here/build.txt")" "$(date -u +%Y-%m-%d)"
    printf '  "gpu": "%s",\n  "passed": %d,\n  "failed": %d,\n  "not_begun": %d,\n  "figures": {' \
        "$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)" $passed $failed $left_out
    awk -F'\t' '{ printf "%s\n    \"%s\": %s", (NR > 1 ? "," : ""), $1, $2 }' "$figures"
    printf '\n  }\n}\n'
} >"$out/check-gpu.json"
[ $left_out -gt 0 ] && echo "$left_out not begun"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
