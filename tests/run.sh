#!/usr/bin/env bash
# Run the test programs: each in its own process (or under mpirun) with a time limit; silent on success.
#   OBJ=build/obj-... tests/run.sh [--long] [WORD]        only tests whose name contains WORD
# The first lines of a test say how it is run:
#   // CASES np=1,2,8        under mpirun with these numbers of ranks (default: alone, without mpirun)
#   // LIMIT 120             seconds a case (default 60)
#   // ALONE                 nothing else at the same time (timings)
# Scripts tests/*/*.sh (but those in support/ and long/) are tests too: exit status 0 passed, 77 skipped.
# --long runs the scripts tests/long/*.sh instead (limit 3600 s unless they say otherwise).
# Test programs without mpirun run JOBS (the number of cores) at a time, everything else one after the other.
# Each case prints one line; the last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 2
[ -n "${SAN:-}" ] && export MPIEXEC_TIMEOUT=1200 TRAIN_LIMIT=1200 # seconds a run: sanitizers are slow
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
long=""
if [ "${1:-}" = --long ]; then
    long=yes
    shift
fi
word=${1:-}
jobs=${JOBS:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0 n_cases=0

[ -e "${OBJ:-}/libmarrs_cuda_cpu.so" ] && export MARRS_CUDA_TWIN=$PWD/$OBJ/libmarrs_cuda_cpu.so # the GPU plugin on the CPU

if [ -n "${SAN:-}" ]; then # leaks of the MPI libraries are theirs; slow unwinding sees through them
    here=$PWD/tests/support/sanitizer
    # gcc 12's record of threads' dynamic TLS (intercept_tls_get_addr) makes the leak check crash where a thread of a
    # plugin has ended.
    export ASAN_OPTIONS=fast_unwind_on_malloc=0:detect_stack_use_after_return=0:intercept_tls_get_addr=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}
    export LSAN_OPTIONS=suppressions=$here/lsan.supp:print_suppressions=0
    export UBSAN_OPTIONS=print_stacktrace=1
fi

# A case writes its output to $work/N.log and its status to $work/N.status.
run_case() { # number, limit, command...
    local n=$1 limit=$2 start=$SECONDS
    shift 2
    timeout -k 10 "$limit" "$@" >"$work/$n.log" 2>&1 </dev/null
    echo "$? $((SECONDS - start))" >"$work/$n.new" && mv "$work/$n.new" "$work/$n.status"
}

report() { # number
    local status seconds name log=$work/$1.log
    read -r status seconds <"$work/$1.status"
    name=$(cat "$work/$1.name")
    case $status in
    0) passed=$((passed + 1)); printf 'ok      %s (%s s)\n' "$name" "$seconds" ;;
    77) skipped=$((skipped + 1)); printf 'skipped %s: %s\n' "$name" "$(tail -n 1 "$log")" ;;
    *)
        failed=$((failed + 1))
        [ "$status" = 124 ] && echo "ran past its limit" >>"$log"
        sed 's/^/    /' "$log" | tail -n 60
        printf 'FAILED  %s (status %s)\n' "$name" "$status"
        ;;
    esac
    rm -f "$work/$1".*
}

report_finished() {
    local file n
    for file in "$work"/*.status; do
        [ -e "$file" ] || continue
        n=${file##*/}
        report "${n%.status}"
    done
}

add_case() { # name, how (together or alone), limit, command...
    local name=$1 how=$2
    shift 2
    n_cases=$((n_cases + 1))
    echo "$name" >"$work/$n_cases.name"
    if [ "$how" = together ]; then
        run_case "$n_cases" "$@" &
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    else
        wait
        run_case "$n_cases" "$@"
    fi
    report_finished
}

each_test() { # what to call with source, name, limit, ranks and whether it must be alone
    local source name head limit ranks alone pattern="tests/*/*.c tests/*/*.sh"
    [ -n "$long" ] && pattern="tests/long/*.sh"
    # shellcheck disable=SC2086 # a list of patterns
    for source in $pattern; do
        [ -e "$source" ] || continue
        case $source in
        tests/support/* | tests/gpu/* | tests/emulated_cuda/* | tests/fuzz/* | tests/golden/* | tests/bench/*) continue ;;
        tests/long/*) [ -n "$long" ] || continue ;;
        tests/cuda/*.c) [ -n "${MARRS_CUDA_TWIN:-}" ] || continue ;; # CUDA=0: not built
        esac
        name=${source#tests/}
        name=${name%.*}
        [[ $name == *"$word"* ]] || continue
        head=$(head -n 12 "$source")
        limit=$(sed -nE 's@^(//|#) LIMIT ([0-9]+).*@\2@p' <<<"$head")
        ranks=$(sed -nE 's@^(//|#) CASES np=([0-9,]+).*@\2@p' <<<"$head")
        alone=$(sed -nE 's@^(//|#) ALONE.*@yes@p' <<<"$head")
        if [ -z "$limit" ]; then [ -n "$long" ] && limit=3600 || limit=60; fi
        [ -n "${SAN:-}" ] && limit=$((limit * 4))
        "$1" "$source" "$name" "$limit" "$ranks" "$alone"
    done
}

together() {
    [[ $1 == *.c && -z $4 && -z $5 ]] && add_case "$2" together "$3" "$OBJ/tests/$2"
}

one_by_one() {
    local np
    if [[ $1 == *.sh ]]; then
        add_case "$2" alone "$3" bash "$1"
    elif [ -n "$4" ]; then
        for np in ${4//,/ }; do
            add_case "$2 np=$np" alone "$3" "${MPIRUN:-mpirun}" -np "$np" "$OBJ/tests/$2"
        done
    elif [ -n "$5" ]; then
        add_case "$2" alone "$3" "$OBJ/tests/$2"
    fi
}

[ -n "$long" ] || each_test together
wait
report_finished
each_test one_by_one
[ $skipped -gt 0 ] && echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
